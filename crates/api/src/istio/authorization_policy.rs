//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    AuthorizationPolicy {
        "action" => action: Option<Action>,
        "provider" => provider: Option<NameMatch>,
        "rules" => rules: Vec<Rule> [count(0, 512)],
        "selector" => selector: Option<WorkloadSelector>,
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// TODO.
    Rule {
        "from" => from: Vec<From> [count(0, 512)],
        "to" => to: Vec<To>,
        "when" => when: Vec<Condition>,
    }
}

object! {
    /// TODO.
    From {
        "source" => source: Option<PeerSource>,
    }
}

object! {
    /// TODO.
    PeerSource {
        "ipBlocks" => ip_blocks: Vec<String>,
        "namespaces" => namespaces: Vec<String>,
        "notIpBlocks" => not_ip_blocks: Vec<String>,
        "notNamespaces" => not_namespaces: Vec<String>,
        "notPrincipals" => not_principals: Vec<String>,
        "notRemoteIpBlocks" => not_remote_ip_blocks: Vec<String>,
        "notRequestPrincipals" => not_request_principals: Vec<String>,
        "notServiceAccounts" => not_service_accounts: Vec<String> [count(0, 16), item_len(0, 320)],
        "notTrustDomains" => not_trust_domains: Vec<String>,
        "principals" => principals: Vec<String>,
        "remoteIpBlocks" => remote_ip_blocks: Vec<String>,
        "requestPrincipals" => request_principals: Vec<String>,
        "serviceAccounts" => service_accounts: Vec<String> [count(0, 16), item_len(0, 320)],
        "trustDomains" => trust_domains: Vec<String>,
    }
    // CEL (has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) && !has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true
}

object! {
    /// TODO.
    To {
        "operation" => operation: Option<Operation>,
    }
}

object! {
    /// TODO.
    Operation {
        "hosts" => hosts: Vec<String>,
        "methods" => methods: Vec<String>,
        "notHosts" => not_hosts: Vec<String>,
        "notMethods" => not_methods: Vec<String>,
        "notPaths" => not_paths: Vec<String>,
        "notPorts" => not_ports: Vec<String>,
        "paths" => paths: Vec<String>,
        "ports" => ports: Vec<String>,
    }
}

object! {
    /// TODO.
    Condition {
        "key" => key: String [required],
        "notValues" => not_values: Vec<String>,
        "values" => values: Vec<String>,
    }
}

choice! {
    /// TODO.
    Action {
        "ALLOW" => Allow,
        "DENY" => Deny,
        "AUDIT" => Audit,
        "CUSTOM" => Custom,
    }
}
