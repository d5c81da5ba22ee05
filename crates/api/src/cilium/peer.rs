//! Who is at the other end, as Cilium's rules say it.

use std::collections::BTreeMap;

use super::check as own;
use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::value::{IntOrText, LabelSelectorOperator};

object! {
    /// Endpoints by their labels, of which each has a source (`k8s:` unless it says another; `any:` takes all). All
    /// conditions must hold; without conditions every endpoint in scope is meant.
    EndpointSelector {
        /// Labels that must have exactly this value.
        "matchLabels" => match_labels: BTreeMap<String, String> [item_len(0, 63), key_check(own::label_key), item_check(check::label_value)],
        /// Further conditions.
        "matchExpressions" => match_expressions: Vec<EndpointRequirement>,
    }
}

object! {
    /// One condition on a label.
    EndpointRequirement {
        /// The label.
        "key" => key: String [required, check(own::label_key)],
        /// How its value is compared.
        "operator" => operator: Option<LabelSelectorOperator> [required],
        /// The values; at least one for `In` and `NotIn`, none for the others.
        "values" => values: Vec<String> [item_check(check::label_value)],
    }
    check values_fit
}

fn values_fit(decoder: &mut Decoder<'_>, requirement: &EndpointRequirement) {
    let Some(operator) = requirement.operator else { return };
    let wants = matches!(operator, LabelSelectorOperator::In | LabelSelectorOperator::NotIn);
    if wants == requirement.values.is_empty() {
        let must = if wants { "needs values" } else { "takes no values" };
        let message = format!("`{}` {must}", operator.as_str());
        decoder.error(codes::RULE, requirement.at, message, None);
    }
}

object! {
    /// Addresses outside the cluster.
    CidrRule {
        /// A range.
        "cidr" => cidr: Option<String> [check(check::cidr)],
        /// A CiliumCIDRGroup by name.
        "cidrGroupRef" => cidr_group_ref: Option<String> [len(0, 253), check(check::dns_name)],
        /// CiliumCIDRGroups by their labels.
        "cidrGroupSelector" => cidr_group_selector: Option<EndpointSelector>,
        /// Ranges within that are not meant.
        "except" => except: Vec<String> [item_check(check::cidr)],
    }
    exactly_one ["cidr", "cidrGroupRef", "cidrGroupSelector"]
    check exceptions_lie_within
}

fn exceptions_lie_within(decoder: &mut Decoder<'_>, rule: &CidrRule) {
    use heddle_ident::Cidr;
    let Some(cidr) = rule.cidr.as_deref().and_then(|text| Cidr::parse(text).ok()) else { return };
    for except in &rule.except {
        let Ok(inner) = Cidr::parse(except) else { continue };
        if !cidr.contains(inner.network()) || inner.prefix_bits() < cidr.prefix_bits() {
            let message = format!("`{except}` is not within `{cidr}`");
            decoder.error(codes::RULE, rule.at, message, None);
        }
    }
}

object! {
    /// A name whose addresses are meant, as learned from DNS answers.
    FqdnSelector {
        /// The name.
        "matchName" => match_name: Option<String> [len(0, 255), check(own::dns_match_name)],
        /// Names by a pattern.
        "matchPattern" => match_pattern: Option<String> [len(0, 255), check(own::dns_match_pattern)],
    }
    at_least_one ["matchName", "matchPattern"]
}

object! {
    /// Services whose endpoints are meant.
    ServiceReference {
        /// One service by name.
        "k8sService" => service: Option<KubernetesService>,
        /// Services by their labels.
        "k8sServiceSelector" => selector: Option<KubernetesServiceSelector>,
    }
}

object! {
    /// A service by name.
    KubernetesService {
        /// Its namespace; absent means the policy's.
        "namespace" => namespace: Option<String>,
        /// Its name.
        "serviceName" => service_name: Option<String>,
    }
}

object! {
    /// Services by their labels.
    KubernetesServiceSelector {
        /// Their namespace; absent means the policy's.
        "namespace" => namespace: Option<String>,
        /// Their labels.
        "selector" => selector: EndpointSelector [required],
    }
}

object! {
    /// A group that a cloud knows.
    PeerGroup {
        /// A group of AWS.
        "aws" => aws: Option<AwsGroup>,
    }
}

object! {
    /// Instances of AWS.
    AwsGroup {
        /// Labels of instances.
        "labels" => labels: BTreeMap<String, String>,
        /// Region.
        "region" => region: Option<String>,
        /// Security groups by id.
        "securityGroupsIds" => security_group_ids: Vec<String>,
        /// Security groups by name.
        "securityGroupsNames" => security_group_names: Vec<String>,
    }
}

object! {
    /// Messages of ICMP.
    IcmpRule {
        /// Any may match.
        "fields" => fields: Vec<IcmpField> [count(0, 40)],
    }
}

object! {
    /// A kind of message of ICMP.
    IcmpField {
        /// Version of IP; absent means IPv4.
        "family" => family: Option<IcmpFamily>,
        /// The type by number or name.
        "type" => kind: Option<IntOrText> [required],
    }
}

choice! {
    /// A version of IP.
    IcmpFamily {
        /// ICMP.
        "IPv4" => V4,
        /// ICMPv6.
        "IPv6" => V6,
    }
}

choice! {
    /// A set of peers without labels of its own.
    Entity {
        /// Everybody.
        "all" => All,
        /// Whatever is in the cluster: endpoints of all namespaces, nodes, the API server.
        "cluster" => Cluster,
        /// The checks of Cilium's own health.
        "health" => Health,
        /// The node that the endpoint runs on.
        "host" => Host,
        /// Cilium's ingress.
        "ingress" => Ingress,
        /// Endpoints that have no labels yet.
        "init" => Init,
        /// The API server of Kubernetes.
        "kube-apiserver" => KubeApiserver,
        /// Nobody.
        "none" => None,
        /// Other nodes of the cluster.
        "remote-node" => RemoteNode,
        /// Endpoints in the cluster that Cilium does not manage.
        "unmanaged" => Unmanaged,
        /// Everybody outside the cluster.
        "world" => World,
        /// Everybody outside the cluster, by IPv4.
        "world-ipv4" => WorldV4,
        /// Everybody outside the cluster, by IPv6.
        "world-ipv6" => WorldV6,
    }
}
