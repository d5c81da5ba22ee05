//! AuthorizationPolicy (`security.istio.io`).

use super::common::{PolicyTargetReference, WorkloadSelector};
use crate::codes;
use crate::decode::Decoder;

object! {
    /// Who may do what at a workload. Without rules `ALLOW` permits nothing.
    AuthorizationPolicy {
        /// What happens when a rule matches; absent means `ALLOW`.
        "action" => action: Option<Action>,
        /// Who is asked, for `CUSTOM`.
        "provider" => provider: Option<PolicyProvider>,
        /// Any may match. An empty rule matches everything.
        "rules" => rules: Vec<Rule> [count(0, 512)],
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
        /// The former form of `targetRefs`.
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// An external authorisation service.
    PolicyProvider {
        /// Its name in the mesh configuration.
        "name" => name: Option<String>,
    }
}

object! {
    /// A rule: all of its parts must match.
    Rule {
        /// Who; any may match. Absent means anyone.
        "from" => from: Vec<RuleFrom> [count(0, 512)],
        /// What; any may match. Absent means anything.
        "to" => to: Vec<RuleTo>,
        /// Further conditions; all must hold.
        "when" => when: Vec<Condition>,
    }
}

object! {
    /// Who.
    RuleFrom {
        /// The source.
        "source" => source: Option<PeerSource>,
    }
}

object! {
    /// Properties of the caller; all that are given must match, each by any of its values.
    PeerSource {
        /// Address of the peer.
        "ipBlocks" => ip_blocks: Vec<String>,
        /// Namespace of the peer's identity.
        "namespaces" => namespaces: Vec<String>,
        /// None of these, otherwise as `ipBlocks`.
        "notIpBlocks" => not_ip_blocks: Vec<String>,
        /// None of these, otherwise as `namespaces`.
        "notNamespaces" => not_namespaces: Vec<String>,
        /// None of these, otherwise as `principals`.
        "notPrincipals" => not_principals: Vec<String>,
        /// None of these, otherwise as `remoteIpBlocks`.
        "notRemoteIpBlocks" => not_remote_ip_blocks: Vec<String>,
        /// None of these, otherwise as `requestPrincipals`.
        "notRequestPrincipals" => not_request_principals: Vec<String>,
        /// None of these, otherwise as `serviceAccounts`.
        "notServiceAccounts" => not_service_accounts: Vec<String> [count(0, 16), item_len(0, 320)],
        /// None of these, otherwise as `trustDomains`.
        "notTrustDomains" => not_trust_domains: Vec<String>,
        /// Identity as `trust-domain/ns/namespace/sa/name`.
        "principals" => principals: Vec<String>,
        /// Address of the original client.
        "remoteIpBlocks" => remote_ip_blocks: Vec<String>,
        /// Issuer and subject of a token, as `issuer/subject`.
        "requestPrincipals" => request_principals: Vec<String>,
        /// Service account, as `namespace/name` or `name`.
        "serviceAccounts" => service_accounts: Vec<String> [count(0, 16), item_len(0, 320)],
        /// Trust domain of the peer's identity.
        "trustDomains" => trust_domains: Vec<String>,
    }
    check accounts_stand_alone
}

object! {
    /// What.
    RuleTo {
        /// The operation.
        "operation" => operation: Option<Operation>,
    }
}

object! {
    /// Properties of the request; all that are given must match, each by any of its values.
    Operation {
        /// Authority, compared without case.
        "hosts" => hosts: Vec<String>,
        /// Method.
        "methods" => methods: Vec<String>,
        /// None of these, otherwise as `hosts`.
        "notHosts" => not_hosts: Vec<String>,
        /// None of these, otherwise as `methods`.
        "notMethods" => not_methods: Vec<String>,
        /// None of these, otherwise as `paths`.
        "notPaths" => not_paths: Vec<String>,
        /// None of these, otherwise as `ports`.
        "notPorts" => not_ports: Vec<String>,
        /// Path without query.
        "paths" => paths: Vec<String>,
        /// Port of the workload.
        "ports" => ports: Vec<String>,
    }
}

object! {
    /// A further condition.
    Condition {
        /// The attribute, for example `request.headers[version]`.
        "key" => key: String [required],
        /// None of these.
        "notValues" => not_values: Vec<String>,
        /// Any of these.
        "values" => values: Vec<String>,
    }
}

choice! {
    /// What a policy does with what it matches.
    Action {
        /// Permit it; whatever no such policy permits is refused.
        "ALLOW" => Allow,
        /// Refuse it, before any `ALLOW`.
        "DENY" => Deny,
        /// Mark it for a log, without deciding.
        "AUDIT" => Audit,
        /// Ask an external service.
        "CUSTOM" => Custom,
    }
}

/// Service accounts are another notation for what principals and namespaces say.
fn accounts_stand_alone(decoder: &mut Decoder<'_>, source: &PeerSource) {
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    let other = others.iter().find_map(|name| decoder.tree().field(source.at, name));
    if let (true, Some(other)) = (accounts, other) {
        let message = "`serviceAccounts` cannot stand with principals or namespaces";
        decoder.error(codes::RULE, other, message, None);
    }
}
