//! Rules on requests that keep nobody out, since another entry allows the same peers the port as it is (API.md hazard 30,
//! 11.2 row 9). Found in what is written, so that it is told of files without workloads too.

use heddle_api::cilium::{EndpointSelector, Entity, PolicyRule, PortProtocol, PortRule, Transport};
use heddle_api::{At, Resource as AnyObject, Written};
use heddle_diag::{Diagnostic, Origin};

use super::Scope;
use super::peer::requirements;
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::report::Report;

/// Whom an entry is about, and which ports.
struct Entry<'a> {
    at: At,
    endpoints: Option<&'a [EndpointSelector]>,
    cidrs: Option<&'a [String]>,
    entities: Option<&'a [Option<Entity>]>,
    /// Has peers of other kinds, or needs more than an address.
    is_special: bool,
    ports: &'a [PortRule],
}

impl Entry<'_> {
    fn is_anybody(&self) -> bool {
        self.endpoints.is_none()
            && self.cidrs.is_none()
            && self.entities.is_none()
            && !self.is_special
    }

    /// Whether everybody that the other entry is about is among those of this one.
    fn covers(&self, other: &Self, same_scope: bool) -> bool {
        if self.is_anybody() {
            // An entry that says nothing at all allows nothing.
            return !self.ports.is_empty();
        }
        let has_entity =
            |entity: &Option<Entity>| self.entities.into_iter().flatten().any(|own| own == entity);
        if self.is_special {
            return false;
        }
        if has_entity(&Some(Entity::All)) {
            return true;
        }
        if other.is_anybody() || other.is_special {
            return false;
        }
        let has_endpoint = |selector: &EndpointSelector| {
            let wanted = requirements(selector);
            let endpoints = self.endpoints.into_iter().flatten();
            same_scope && endpoints.into_iter().any(|own| requirements(own) == wanted)
        };
        let has_range = |range: &String| self.cidrs.into_iter().flatten().any(|own| own == range);
        other.endpoints.into_iter().flatten().all(has_endpoint)
            && other.cidrs.into_iter().flatten().all(has_range)
            && other.entities.into_iter().flatten().all(has_entity)
    }

    /// Whether it allows a port of this rule without looking at what is said.
    fn allows_plainly(&self, rule: &PortRule) -> bool {
        let is_plain = |own: &&PortRule| {
            own.rules.is_none() && own.listener.is_none() && own.server_names.is_empty()
        };
        let mut plain = self.ports.iter().filter(is_plain);
        self.ports.is_empty()
            || plain.any(|own| own.ports.is_empty() || own.ports.iter().any(|own| takes(own, rule)))
    }
}

/// Whether a port is one of those of a rule; requests come over TCP.
fn takes(own: &PortProtocol, rule: &PortRule) -> bool {
    let over_tcp = matches!(own.protocol, None | Some(Transport::Any | Transport::Tcp));
    let is_same = |other: &PortProtocol| own.port == other.port;
    over_tcp && (own.port.as_deref() == Some("0") || rule.ports.iter().any(is_same))
}

fn ingress(rule: &PolicyRule) -> Vec<Entry<'_>> {
    let filled = rule.ingress.iter().map(|own| Entry {
        at: own.at,
        endpoints: own.from_endpoints.as_deref(),
        cidrs: own.from_cidr.as_deref(),
        entities: own.from_entities.as_deref(),
        is_special: own.from_cidr_set.is_some()
            || own.from_groups.is_some()
            || own.from_nodes.is_some()
            || own.authentication.is_some()
            || !own.icmps.is_empty(),
        ports: &own.to_ports,
    });
    filled.collect()
}

fn egress(rule: &PolicyRule) -> Vec<Entry<'_>> {
    let filled = rule.egress.iter().map(|own| Entry {
        at: own.at,
        endpoints: own.to_endpoints.as_deref(),
        cidrs: own.to_cidr.as_deref(),
        entities: own.to_entities.as_deref(),
        is_special: own.to_cidr_set.is_some()
            || own.to_services.is_some()
            || own.to_fqdns.is_some()
            || own.to_groups.is_some()
            || own.to_nodes.is_some()
            || own.authentication.is_some()
            || !own.icmps.is_empty(),
        ports: &own.to_ports,
    });
    filled.collect()
}

/// Whether every workload that the one selector takes is taken by the other.
fn takes_all_of(own: Option<&EndpointSelector>, other: Option<&EndpointSelector>) -> bool {
    let (Some(own), Some(other)) = (own, other) else { return false };
    let (own, other) = (requirements(own), requirements(other));
    own.iter().all(|wanted| other.contains(wanted))
}

/// Tells of rules on requests without effect.
pub(super) fn report(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    rule: &PolicyRule,
    report: &mut Report,
) {
    for of in [ingress, egress] {
        for entry in of(rule) {
            for port in entry
                .ports
                .iter()
                .filter(|port| port.rules.as_ref().is_some_and(|own| own.http.is_some()))
            {
                let Some(by) = voided_by(reader, scope, rule, of, &entry, port) else { continue };
                let message = "another entry allows the same peers this port as it is, so these rules keep nobody out";
                let origin = scope.written.origin_of(port.at, "rules");
                let told = Diagnostic::warning(codes::RULES_VOID, origin, message);
                report.push(told.related("allowed here", by));
            }
        }
    }
}

/// The entry that allows what these rules are to limit.
fn voided_by(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    rule: &PolicyRule,
    of: fn(&PolicyRule) -> Vec<Entry<'_>>,
    entry: &Entry<'_>,
    port: &PortRule,
) -> Option<Origin> {
    let in_rules = |rules: &mut dyn Iterator<Item = &PolicyRule>, written: &Written, same: bool| {
        rules
            .filter(|other| {
                takes_all_of(other.endpoint_selector.as_ref(), rule.endpoint_selector.as_ref())
            })
            .find_map(|other| {
                let mut entries = of(other).into_iter();
                let found =
                    entries.find(|own| own.covers(entry, same) && own.allows_plainly(port))?;
                Some(written.origin_at(found.at))
            })
    };
    let clusterwide = reader.objects(Topic::Kind(Kind::CiliumClusterwidePolicy));
    let namespaced = scope
        .namespace
        .map(|namespace| reader.objects(Topic::KindIn(Kind::CiliumPolicy, namespace.into())));
    clusterwide.into_iter().chain(namespaced.into_iter().flatten()).find_map(
        |object| match object {
            AnyObject::CiliumNetworkPolicy(policy) => {
                let mut rules = policy.spec.spec.iter().chain(&policy.spec.specs);
                in_rules(&mut rules, &policy.written, true)
            }
            AnyObject::CiliumClusterwideNetworkPolicy(policy) => {
                let mut rules = policy.spec.spec.iter().chain(&policy.spec.specs);
                in_rules(&mut rules, &policy.written, scope.namespace.is_none())
            }
            _ => None,
        },
    )
}
