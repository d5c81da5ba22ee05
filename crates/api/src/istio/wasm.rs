//! WasmPlugin and TrafficExtension (`extensions.istio.io`).

use super::common::{PolicyTargetReference, WorkloadSelector};
use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::value::Free;

object! {
    /// WebAssembly or Lua in the proxy. Not supported: heddle reports it.
    TrafficExtension {
        "lua" => lua: Option<LuaFilter>,
        /// What it applies to.
        "match" => matches: Vec<TrafficSelector>,
        /// Where in the chain it runs.
        "phase" => phase: Option<ExtensionPhase>,
        /// Order within its place.
        "priority" => priority: Option<i32> [nullable],
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        "wasm" => wasm: Option<WasmFilter>,
    }
    at_most_one ["selector", "targetRefs"]
    exactly_one ["wasm", "lua"]
}

object! {
    /// A Lua script.
    LuaFilter {
        /// The script.
        "inlineCode" => inline_code: String [required, len(1, 65536)],
    }
}

object! {
    /// Which traffic.
    TrafficSelector {
        "mode" => mode: Option<TrafficMode>,
        /// Ports by name of the service's port.
        "ports" => ports: Vec<TrafficPort> [unique("number")],
    }
}

object! {
    /// A port.
    TrafficPort {
        "number" => number: u16 [required, port],
    }
}

object! {
    /// A WebAssembly module.
    WasmFilter {
        /// What happens when it fails.
        "failStrategy" => fail_strategy: Option<FailStrategy>,
        /// When it is fetched.
        "imagePullPolicy" => image_pull_policy: Option<ImagePullPolicy>,
        /// Secret for fetching it.
        "imagePullSecret" => image_pull_secret: Option<String> [len(1, 253)],
        /// Its configuration.
        "pluginConfig" => plugin_config: Option<Free>,
        /// Its name.
        "pluginName" => plugin_name: Option<String> [len(1, 256)],
        /// Its digest.
        "sha256" => sha256: Option<String> [check(check::sha256_or_empty)],
        /// Its kind.
        "type" => kind: Option<PluginType>,
        /// Where the module is.
        "url" => url: String [required, len(1, usize::MAX), check(check::module_url)],
        /// Never used upstream.
        "verificationKey" => verification_key: Option<String>,
        /// The machine that runs it.
        "vmConfig" => vm_config: Option<VmConfig>,
    }
}

object! {
    /// The machine that runs a module.
    VmConfig {
        "env" => env: Vec<VmEnvironment> [count(0, 256), unique("name")],
    }
}

object! {
    /// An environment variable of a module.
    VmEnvironment {
        "name" => name: String [required, len(1, 256)],
        "value" => value: Option<String> [len(0, 2048)],
        "valueFrom" => value_from: Option<ValueFrom>,
    }
    check host_takes_no_value
}

object! {
    /// WebAssembly in the proxy. Not supported: heddle reports it.
    WasmPlugin {
        /// What happens when it fails.
        "failStrategy" => fail_strategy: Option<FailStrategy>,
        /// When it is fetched.
        "imagePullPolicy" => image_pull_policy: Option<ImagePullPolicy>,
        /// Secret for fetching it.
        "imagePullSecret" => image_pull_secret: Option<String> [len(1, 253)],
        /// What it applies to.
        "match" => matches: Vec<TrafficSelector>,
        /// Where in the chain it runs.
        "phase" => phase: Option<PluginPhase>,
        /// Its configuration.
        "pluginConfig" => plugin_config: Option<Free>,
        /// Its name.
        "pluginName" => plugin_name: Option<String> [len(1, 256)],
        /// Order within its place.
        "priority" => priority: Option<i32> [nullable],
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
        /// Its digest.
        "sha256" => sha256: Option<String> [check(check::sha256_or_empty)],
        /// The former form of `targetRefs`.
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        /// Its kind.
        "type" => kind: Option<PluginType>,
        /// Where the module is.
        "url" => url: String [required, len(1, usize::MAX), check(check::module_url)],
        /// Never used upstream.
        "verificationKey" => verification_key: Option<String>,
        /// The machine that runs it.
        "vmConfig" => vm_config: Option<VmConfig>,
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

choice! {
    /// Where in the chain an extension runs.
    ExtensionPhase {
        "UNSPECIFIED" => Unspecified,
        "AUTHN" => Authn,
        "AUTHZ" => Authz,
        "STATS" => Stats,
    }
}

choice! {
    /// Which side of traffic.
    TrafficMode {
        "UNDEFINED" => Undefined,
        "CLIENT" => Client,
        "SERVER" => Server,
        "CLIENT_AND_SERVER" => ClientAndServer,
    }
}

choice! {
    /// What happens when a module fails.
    FailStrategy {
        "FAIL_CLOSE" => FailClose,
        "FAIL_OPEN" => FailOpen,
        "FAIL_RELOAD" => FailReload,
    }
}

choice! {
    /// When a module is fetched.
    ImagePullPolicy {
        "UNSPECIFIED_POLICY" => UnspecifiedPolicy,
        "IfNotPresent" => IfNotPresent,
        "Always" => Always,
    }
}

choice! {
    /// Kinds of module.
    PluginType {
        "UNSPECIFIED_PLUGIN_TYPE" => UnspecifiedPluginType,
        "HTTP" => Http,
        "NETWORK" => Network,
    }
}

choice! {
    /// Where a value comes from.
    ValueFrom {
        "INLINE" => Inline,
        "HOST" => Host,
    }
}

choice! {
    /// Where in the chain a module runs.
    PluginPhase {
        "UNSPECIFIED_PHASE" => UnspecifiedPhase,
        "AUTHN" => Authn,
        "AUTHZ" => Authz,
        "STATS" => Stats,
    }
}

/// A value out of the host's environment is not written here.
fn host_takes_no_value(decoder: &mut Decoder<'_>, environment: &VmEnvironment) {
    if environment.value_from == Some(ValueFrom::Host) && environment.value.is_some() {
        decoder.error(codes::RULE, environment.at, "`HOST` takes no `value`", None);
    }
}
