//! EgressNetworks: whether a workload may connect to what is outside of the cluster (API.md 7.12).
//!
//! Of the networks that a client has, the one with the narrowest range that holds the address decides. Those of the
//! client's namespace take the place of the global ones as soon as there is one (hazard 28).

use std::sync::Arc;

use heddle_api::linkerd::{EgressNetwork, TrafficPolicy};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::Cidr;
use heddle_ir::authorization::{
    Attribute, Clause, Condition, Fallback, Policy, PolicyAction, Rule, SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;

use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::linkerd::egress_routes;
use crate::object::by_age;
use crate::report::Report;
use crate::workload::Facts;

pub(crate) type Network = Arc<Object<EgressNetwork>>;

/// A range of a network, with the ranges within it that are not meant.
pub(crate) struct Range {
    /// None: everything outside of the cluster's networks.
    pub(crate) cidr: Option<Cidr>,
    pub(crate) except: Vec<Cidr>,
}

/// What EgressNetworks say about the connections of a workload; none where they refuse nothing.
pub(crate) fn system(reader: &Reader<'_>, facts: &Facts) -> Option<SystemPolicies> {
    let networks = of_client(reader, &facts.namespace);
    let ranges = by_precedence(&networks);
    let mut policies = Vec::new();
    let mut before: Vec<Clause> = Vec::new();
    for (network, range) in ranges {
        if denies(network) {
            let mut clauses = vec![inside(reader, &range)];
            clauses.extend(before.clone());
            // What a route of the network has taken goes on.
            if !egress_routes::of_network(reader, network, &facts.namespace).is_empty() {
                clauses.push(not_routed(network));
            }
            let origin = network.origin_of(network.spec.at, "trafficPolicy");
            policies.push(Arc::new(Policy {
                origin: origin.clone(),
                action: PolicyAction::Deny,
                dry_run: false,
                authorizer: None,
                rules: vec![Rule { origin, clauses }],
            }));
        } else {
            before.push(outside(reader, &range));
        }
    }
    (!policies.is_empty()).then(|| SystemPolicies::new(Fallback::Allow, policies))
}

/// The ranges of networks, from the one that decides to those that it decides before.
pub(crate) fn by_precedence(networks: &[Network]) -> Vec<(&Network, Range)> {
    let of_network = |network| ranges(network).map(move |range| (network, range));
    let mut ranges: Vec<(&Network, Range)> = networks.iter().flat_map(of_network).collect();
    ranges.sort_by_key(|(_, range)| {
        std::cmp::Reverse(range.cidr.map_or(0, |cidr| cidr.prefix_bits()))
    });
    ranges
}

/// Not what a route of the network sends on.
fn not_routed(network: &Network) -> Clause {
    let name = format!("/{}", egress_routes::host(&network.meta.namespace, &network.meta.name));
    let values = vec![ValueMatch::Text(TextMatch::Exact(name.into()))];
    let condition = Condition { attribute: Attribute::DestinationName, values, negate: true };
    Clause { alternatives: vec![vec![condition]] }
}

/// The networks that count for clients of a namespace, the oldest first.
pub(crate) fn of_client(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<Network> {
    let own = all(reader, namespace);
    if own.is_empty() { all(reader, &reader.options().linkerd.egress_namespace) } else { own }
}

fn all(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<Network> {
    let objects = reader.objects(Topic::KindIn(Kind::EgressNetwork, namespace.clone()));
    let mut networks: Vec<Network> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::EgressNetwork(network) => Some(network),
            _ => None,
        })
        .collect();
    networks.sort_by(|left, right| by_age(&left.meta, &right.meta));
    networks
}

/// Whether what no route describes is refused; so where it cannot be read.
fn denies(network: &Network) -> bool {
    network.spec.traffic_policy != Some(TrafficPolicy::Allow)
}

fn ranges(network: &Network) -> impl Iterator<Item = Range> + '_ {
    let listed = network.spec.networks.as_deref();
    // A list that cannot be read may mean everything.
    let whole = listed.is_none_or(<[_]>::is_empty);
    let everything = whole.then(|| Range { cidr: None, except: Vec::new() });
    let written = listed.unwrap_or_default().iter().filter_map(|range| {
        let cidr = Cidr::parse(&range.cidr).ok()?;
        let except = range.except.iter().filter_map(|text| Cidr::parse(text).ok()).collect();
        Some(Range { cidr: Some(cidr), except })
    });
    everything.into_iter().chain(written)
}

fn address(ranges: &[Cidr], negate: bool) -> Condition {
    let values = ranges.iter().map(|range| ValueMatch::Range(*range)).collect();
    Condition { attribute: Attribute::DestinationAddress, values, negate }
}

/// The address is in the range and in none of its exceptions. Addresses of the mesh's own are in no such range: services
/// are found before networks are.
fn inside(reader: &Reader<'_>, range: &Range) -> Clause {
    let own = match range.cidr {
        Some(cidr) => address(&[cidr], false),
        None => address(&reader.options().linkerd.cluster_networks, true),
    };
    let except = (!range.except.is_empty()).then(|| address(&range.except, true));
    let mesh = address(&reader.options().mesh_ranges, true);
    Clause { alternatives: vec![[own, mesh].into_iter().chain(except).collect()] }
}

/// The opposite of [`inside`].
fn outside(reader: &Reader<'_>, range: &Range) -> Clause {
    let own = match range.cidr {
        Some(cidr) => address(&[cidr], true),
        None => address(&reader.options().linkerd.cluster_networks, false),
    };
    let except = (!range.except.is_empty()).then(|| vec![address(&range.except, false)]);
    Clause { alternatives: std::iter::once(vec![own]).chain(except).collect() }
}

/// What there is to say about a network.
pub(crate) fn report(reader: &Reader<'_>, network: &Network, report: &mut Report) {
    let namespace = &network.meta.namespace;
    let global = &reader.options().linkerd.egress_namespace;
    if **global != **namespace && !all(reader, global).is_empty() {
        let message = format!(
            "clients of `{namespace}` are asked for these networks only: those of `{global}` count for them no more"
        );
        report.info(codes::HIDES_GLOBAL, network.origin().clone(), message);
    }
}
