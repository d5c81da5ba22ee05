//! CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and CiliumCIDRGroup.

use super::check as own;
use super::peer::{
    CidrRule, EndpointSelector, Entity, FqdnSelector, IcmpRule, PeerGroup, ServiceReference,
};
use super::port::{DenyPort, PortRule};
use crate::codes;
use crate::decode::Decoder;
use crate::tree::At;

object! {
    /// Rules for endpoints of one namespace.
    NetworkPolicy {
        /// One rule.
        "spec" => spec: Option<PolicyRule>,
        /// Further rules.
        "specs" => specs: Vec<PolicyRule>,
    }
    at_least_one ["spec", "specs"]
}

object! {
    /// Rules for endpoints of all namespaces, and for nodes.
    ClusterwideNetworkPolicy {
        /// One rule.
        "spec" => spec: Option<PolicyRule>,
        /// Further rules.
        "specs" => specs: Vec<PolicyRule>,
    }
    at_least_one ["spec", "specs"]
}

object! {
    /// One rule: whom it is for, and who may talk to them and whom they may talk to.
    PolicyRule {
        /// Endpoints that it is for.
        "endpointSelector" => endpoint_selector: Option<EndpointSelector>,
        /// Nodes that it is for.
        "nodeSelector" => node_selector: Option<EndpointSelector>,
        /// Who may connect to them. With an entry, nobody else may.
        "ingress" => ingress: Vec<IngressRule>,
        /// Who may not, whatever else says.
        "ingressDeny" => ingress_deny: Vec<IngressDenyRule>,
        /// Whom they may connect to. With an entry, nobody else.
        "egress" => egress: Vec<EgressRule>,
        /// Whom they may not, whatever else says.
        "egressDeny" => egress_deny: Vec<EgressDenyRule>,
        /// Whether rules of a direction close it.
        "enableDefaultDeny" => enable_default_deny: Option<DefaultDeny>,
        /// Labels of the rule.
        "labels" => labels: Vec<PolicyLabel>,
        /// For people.
        "description" => description: Option<String>,
        /// What flows that it decides are marked with.
        "log" => log: Option<LogTag>,
    }
    exactly_one ["endpointSelector", "nodeSelector"]
    at_least_one ["ingress", "ingressDeny", "egress", "egressDeny"]
}

object! {
    /// Whether rules of a direction close it; absent means that they do.
    DefaultDeny {
        /// For connections that come in.
        "ingress" => ingress: Option<bool>,
        /// For connections that go out.
        "egress" => egress: Option<bool>,
    }
}

object! {
    /// A label of a rule.
    PolicyLabel {
        /// Key.
        "key" => key: String [required],
        /// Source.
        "source" => source: Option<String>,
        /// Value.
        "value" => value: Option<String>,
    }
}

object! {
    /// What flows are marked with.
    LogTag {
        /// The mark.
        "value" => value: Option<String> [len(0, 32), check(own::log_value)],
    }
}

object! {
    /// How peers prove who they are.
    Authentication {
        /// Whether they must.
        "mode" => mode: Option<AuthenticationMode> [required],
    }
}

choice! {
    /// Whether peers must prove who they are.
    AuthenticationMode {
        /// They need not.
        "disabled" => Disabled,
        /// They must.
        "required" => Required,
        /// They cannot: for tests.
        "test-always-fail" => TestAlwaysFail,
    }
}

object! {
    /// Who may connect: peers and ports must both match. Of lists that are there and empty nobody is meant.
    IngressRule {
        /// Endpoints.
        "fromEndpoints" => from_endpoints: Option<Vec<EndpointSelector>>,
        /// Removed from Cilium.
        "fromRequires" => from_requires: Option<Vec<EndpointSelector>>,
        /// Addresses outside the cluster.
        "fromCIDR" => from_cidr: Option<Vec<String>> [item_check(crate::check::cidr)],
        /// Addresses outside the cluster, with exceptions.
        "fromCIDRSet" => from_cidr_set: Option<Vec<CidrRule>>,
        /// Sets of peers.
        "fromEntities" => from_entities: Option<Vec<Option<Entity>>>,
        /// Groups that a cloud knows.
        "fromGroups" => from_groups: Option<Vec<PeerGroup>>,
        /// Nodes.
        "fromNodes" => from_nodes: Option<Vec<EndpointSelector>>,
        /// Ports; any may match.
        "toPorts" => to_ports: Vec<PortRule>,
        /// Messages of ICMP.
        "icmps" => icmps: Vec<IcmpRule>,
        /// How peers prove who they are.
        "authentication" => authentication: Option<Authentication>,
    }
    check ingress_fits
}

object! {
    /// Who may not connect.
    IngressDenyRule {
        /// Endpoints.
        "fromEndpoints" => from_endpoints: Option<Vec<EndpointSelector>>,
        /// Removed from Cilium.
        "fromRequires" => from_requires: Option<Vec<EndpointSelector>>,
        /// Addresses outside the cluster.
        "fromCIDR" => from_cidr: Option<Vec<String>> [item_check(crate::check::cidr)],
        /// Addresses outside the cluster, with exceptions.
        "fromCIDRSet" => from_cidr_set: Option<Vec<CidrRule>>,
        /// Sets of peers.
        "fromEntities" => from_entities: Option<Vec<Option<Entity>>>,
        /// Groups that a cloud knows.
        "fromGroups" => from_groups: Option<Vec<PeerGroup>>,
        /// Nodes.
        "fromNodes" => from_nodes: Option<Vec<EndpointSelector>>,
        /// Ports; any may match.
        "toPorts" => to_ports: Vec<DenyPort>,
        /// Messages of ICMP.
        "icmps" => icmps: Vec<IcmpRule>,
    }
    check ingress_deny_fits
}

object! {
    /// Whom endpoints may connect to: peers and ports must both match.
    EgressRule {
        /// Endpoints.
        "toEndpoints" => to_endpoints: Option<Vec<EndpointSelector>>,
        /// Removed from Cilium.
        "toRequires" => to_requires: Option<Vec<EndpointSelector>>,
        /// Addresses outside the cluster.
        "toCIDR" => to_cidr: Option<Vec<String>> [item_check(crate::check::cidr)],
        /// Addresses outside the cluster, with exceptions.
        "toCIDRSet" => to_cidr_set: Option<Vec<CidrRule>>,
        /// Sets of peers.
        "toEntities" => to_entities: Option<Vec<Option<Entity>>>,
        /// Services.
        "toServices" => to_services: Option<Vec<ServiceReference>>,
        /// Names in DNS.
        "toFQDNs" => to_fqdns: Option<Vec<FqdnSelector>>,
        /// Groups that a cloud knows.
        "toGroups" => to_groups: Option<Vec<PeerGroup>>,
        /// Nodes.
        "toNodes" => to_nodes: Option<Vec<EndpointSelector>>,
        /// Ports; any may match.
        "toPorts" => to_ports: Vec<PortRule>,
        /// Messages of ICMP.
        "icmps" => icmps: Vec<IcmpRule>,
        /// How peers prove who they are.
        "authentication" => authentication: Option<Authentication>,
    }
    check egress_fits
}

object! {
    /// Whom endpoints may not connect to.
    EgressDenyRule {
        /// Endpoints.
        "toEndpoints" => to_endpoints: Option<Vec<EndpointSelector>>,
        /// Removed from Cilium.
        "toRequires" => to_requires: Option<Vec<EndpointSelector>>,
        /// Addresses outside the cluster.
        "toCIDR" => to_cidr: Option<Vec<String>> [item_check(crate::check::cidr)],
        /// Addresses outside the cluster, with exceptions.
        "toCIDRSet" => to_cidr_set: Option<Vec<CidrRule>>,
        /// Sets of peers.
        "toEntities" => to_entities: Option<Vec<Option<Entity>>>,
        /// Services.
        "toServices" => to_services: Option<Vec<ServiceReference>>,
        /// Groups that a cloud knows.
        "toGroups" => to_groups: Option<Vec<PeerGroup>>,
        /// Nodes.
        "toNodes" => to_nodes: Option<Vec<EndpointSelector>>,
        /// Ports; any may match.
        "toPorts" => to_ports: Vec<DenyPort>,
        /// Messages of ICMP.
        "icmps" => icmps: Vec<IcmpRule>,
    }
    check egress_deny_fits
}

object! {
    /// Ranges of addresses outside the cluster, under a name.
    CidrGroup {
        /// The ranges.
        "externalCIDRs" => external_cidrs: Vec<String> [required, item_check(crate::check::cidr)],
    }
}

/// How many peers of each kind an entry has, by the field's name.
type Peers = [(&'static str, usize)];

fn count<T>(list: Option<&Vec<T>>) -> usize {
    list.map_or(0, Vec::len)
}

/// Cilium knows one kind of peer an entry, and either ports or messages of ICMP.
fn entry_fits(
    decoder: &mut Decoder<'_>,
    at: At,
    peers: &Peers,
    requires: (&str, usize),
    ports_and_icmps: (usize, usize),
) {
    let mut used = peers.iter().filter(|(_, count)| *count > 0);
    if let (Some((first, _)), Some((second, _))) = (used.next(), used.next()) {
        let message = format!("`{first}` and `{second}` cannot stand in one entry");
        let hint = "write an entry of its own for each".to_owned();
        decoder.error(codes::RULE, at, message, Some(hint));
    }
    if requires.1 > 0 {
        let message = format!("`{}` was removed from Cilium", requires.0);
        decoder.error(codes::RULE, at, message, None);
    }
    if ports_and_icmps.0 > 0 && ports_and_icmps.1 > 0 {
        let message = "`toPorts` and `icmps` cannot stand in one entry";
        decoder.error(codes::RULE, at, message, None);
    }
}

fn ingress_fits(decoder: &mut Decoder<'_>, rule: &IngressRule) {
    let peers = [
        ("fromEndpoints", count(rule.from_endpoints.as_ref())),
        ("fromCIDR", count(rule.from_cidr.as_ref())),
        ("fromCIDRSet", count(rule.from_cidr_set.as_ref())),
        ("fromEntities", count(rule.from_entities.as_ref())),
        ("fromGroups", count(rule.from_groups.as_ref())),
        ("fromNodes", count(rule.from_nodes.as_ref())),
    ];
    let requires = ("fromRequires", count(rule.from_requires.as_ref()));
    entry_fits(decoder, rule.at, &peers, requires, (rule.to_ports.len(), rule.icmps.len()));
    for port in &rule.to_ports {
        if port.rules.as_ref().is_some_and(|rules| rules.dns.is_some()) {
            decoder.error(codes::RULE, port.at, "rules of DNS are for egress only", None);
        }
        if port.listener.is_some() {
            decoder.error(codes::RULE, port.at, "`listener` is for egress only", None);
        }
    }
}

fn ingress_deny_fits(decoder: &mut Decoder<'_>, rule: &IngressDenyRule) {
    let peers = [
        ("fromEndpoints", count(rule.from_endpoints.as_ref())),
        ("fromCIDR", count(rule.from_cidr.as_ref())),
        ("fromCIDRSet", count(rule.from_cidr_set.as_ref())),
        ("fromEntities", count(rule.from_entities.as_ref())),
        ("fromGroups", count(rule.from_groups.as_ref())),
        ("fromNodes", count(rule.from_nodes.as_ref())),
    ];
    let requires = ("fromRequires", count(rule.from_requires.as_ref()));
    entry_fits(decoder, rule.at, &peers, requires, (rule.to_ports.len(), rule.icmps.len()));
}

fn egress_fits(decoder: &mut Decoder<'_>, rule: &EgressRule) {
    let peers = [
        ("toEndpoints", count(rule.to_endpoints.as_ref())),
        ("toCIDR", count(rule.to_cidr.as_ref())),
        ("toCIDRSet", count(rule.to_cidr_set.as_ref())),
        ("toEntities", count(rule.to_entities.as_ref())),
        ("toServices", count(rule.to_services.as_ref())),
        ("toFQDNs", count(rule.to_fqdns.as_ref())),
        ("toGroups", count(rule.to_groups.as_ref())),
        ("toNodes", count(rule.to_nodes.as_ref())),
    ];
    let requires = ("toRequires", count(rule.to_requires.as_ref()));
    entry_fits(decoder, rule.at, &peers, requires, (rule.to_ports.len(), rule.icmps.len()));
}

fn egress_deny_fits(decoder: &mut Decoder<'_>, rule: &EgressDenyRule) {
    let peers = [
        ("toEndpoints", count(rule.to_endpoints.as_ref())),
        ("toCIDR", count(rule.to_cidr.as_ref())),
        ("toCIDRSet", count(rule.to_cidr_set.as_ref())),
        ("toEntities", count(rule.to_entities.as_ref())),
        ("toServices", count(rule.to_services.as_ref())),
        ("toGroups", count(rule.to_groups.as_ref())),
        ("toNodes", count(rule.to_nodes.as_ref())),
    ];
    let requires = ("toRequires", count(rule.to_requires.as_ref()));
    entry_fits(decoder, rule.at, &peers, requires, (rule.to_ports.len(), rule.icmps.len()));
}
