//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    TrafficExtension {
        "lua" => lua: Option<LuaFilter>,
        "match" => matches: Vec<TrafficSelector>,
        "phase" => phase: Option<ExtensionPhase>,
        "priority" => priority: Option<i32> [nullable],
        "selector" => selector: Option<WorkloadSelector>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        "wasm" => wasm: Option<WasmFilter>,
    }
    at_most_one ["wasm", "lua"]
    at_most_one ["selector", "targetRefs"]
    // CEL has(self.wasm) != has(self.lua)
}

object! {
    /// TODO.
    LuaFilter {
        "inlineCode" => inline_code: String [required, len(1, 65536)],
    }
}

object! {
    /// TODO.
    TrafficSelector {
        "mode" => mode: Option<TrafficMode>,
        "ports" => ports: Vec<TrafficPort>,
    }
}

object! {
    /// TODO.
    TrafficPort {
        "number" => number: u16 [required],
    }
}

object! {
    /// TODO.
    WasmFilter {
        "failStrategy" => fail_strategy: Option<FailStrategy>,
        "imagePullPolicy" => image_pull_policy: Option<ImagePullPolicy>,
        "imagePullSecret" => image_pull_secret: Option<String> [len(1, 253)],
        "pluginConfig" => plugin_config: Option<Free>,
        "pluginName" => plugin_name: Option<String> [len(1, 256)],
        "sha256" => sha256: Option<String> [check(check::sha256_or_empty)],
        "type" => kind: Option<PluginType>,
        "url" => url: String [required, len(1, usize::MAX)],
        "verificationKey" => verification_key: Option<String>,
        "vmConfig" => vm_config: Option<VmConfig>,
    }
}

object! {
    /// TODO.
    VmConfig {
        "env" => env: Vec<VmEnvironment> [count(0, 256)],
    }
}

object! {
    /// TODO.
    VmEnvironment {
        "name" => name: String [required, len(1, 256)],
        "value" => value: Option<String> [len(0, 2048)],
        "valueFrom" => value_from: Option<ValueFrom>,
    }
    // CEL (has(self.valueFrom) ? self.valueFrom : "") != "HOST" || !has(self.value)
}

object! {
    /// TODO.
    WasmPlugin {
        "failStrategy" => fail_strategy: Option<FailStrategy>,
        "imagePullPolicy" => image_pull_policy: Option<ImagePullPolicy>,
        "imagePullSecret" => image_pull_secret: Option<String> [len(1, 253)],
        "match" => matches: Vec<TrafficSelector>,
        "phase" => phase: Option<PluginPhase>,
        "pluginConfig" => plugin_config: Option<Free>,
        "pluginName" => plugin_name: Option<String> [len(1, 256)],
        "priority" => priority: Option<i32> [nullable],
        "selector" => selector: Option<WorkloadSelector>,
        "sha256" => sha256: Option<String> [check(check::sha256_or_empty)],
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        "type" => kind: Option<PluginType>,
        "url" => url: String [required, len(1, usize::MAX)],
        "verificationKey" => verification_key: Option<String>,
        "vmConfig" => vm_config: Option<VmConfig>,
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

choice! {
    /// TODO.
    ExtensionPhase {
        "UNSPECIFIED" => Unspecified,
        "AUTHN" => Authn,
        "AUTHZ" => Authz,
        "STATS" => Stats,
    }
}

choice! {
    /// TODO.
    TrafficMode {
        "UNDEFINED" => Undefined,
        "CLIENT" => Client,
        "SERVER" => Server,
        "CLIENT_AND_SERVER" => ClientAndServer,
    }
}

choice! {
    /// TODO.
    FailStrategy {
        "FAIL_CLOSE" => FailClose,
        "FAIL_OPEN" => FailOpen,
        "FAIL_RELOAD" => FailReload,
    }
}

choice! {
    /// TODO.
    ImagePullPolicy {
        "UNSPECIFIED_POLICY" => UnspecifiedPolicy,
        "IfNotPresent" => IfNotPresent,
        "Always" => Always,
    }
}

choice! {
    /// TODO.
    PluginType {
        "UNSPECIFIED_PLUGIN_TYPE" => UnspecifiedPluginType,
        "HTTP" => Http,
        "NETWORK" => Network,
    }
}

choice! {
    /// TODO.
    ValueFrom {
        "INLINE" => Inline,
        "HOST" => Host,
    }
}

choice! {
    /// TODO.
    PluginPhase {
        "UNSPECIFIED_PHASE" => UnspecifiedPhase,
        "AUTHN" => Authn,
        "AUTHZ" => Authz,
        "STATS" => Stats,
    }
}
