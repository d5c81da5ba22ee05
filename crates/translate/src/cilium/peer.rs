//! Who is at the other end: endpoints by labels, entities, addresses outside, services and names in DNS (API.md 8.2).

use heddle_api::cilium::{CidrRule, EndpointSelector, Entity, FqdnSelector, ServiceReference};
use heddle_api::{At, LabelSelectorOperator, Resource as AnyObject};
use heddle_ident::Cidr;
use heddle_ir::authorization::{Attribute, Clause, ValueMatch};
use heddle_ir::matching::TextMatch;

use super::{Conditions, Context, Scope};
use crate::engine::{Kind, Reader, Topic};
use crate::network::peers::{CLUSTER, Namespaces, PeersKey, Requirement, namespace_labels, values};
use crate::network::{Direction, condition, never, none_of};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::Facts;

/// The fields of an entry that say who is at the other end.
pub(super) const FIELDS: &[&str] = &[
    "fromEndpoints",
    "fromRequires",
    "fromCIDR",
    "fromCIDRSet",
    "fromEntities",
    "fromGroups",
    "fromNodes",
    "toEndpoints",
    "toRequires",
    "toCIDR",
    "toCIDRSet",
    "toEntities",
    "toServices",
    "toFQDNs",
    "toGroups",
    "toNodes",
];

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
const ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";

/// The peers of an entry. Of lists that are there and empty nobody is meant.
pub(super) struct Peers<'a> {
    pub(super) endpoints: Option<&'a [EndpointSelector]>,
    pub(super) cidrs: Option<&'a [String]>,
    pub(super) cidr_sets: Option<&'a [CidrRule]>,
    pub(super) entities: Option<&'a [Option<Entity>]>,
    /// How many.
    pub(super) groups: Option<usize>,
    /// How many.
    pub(super) nodes: Option<usize>,
    pub(super) services: Option<&'a [ServiceReference]>,
    pub(super) names: Option<&'a [FqdnSelector]>,
}

impl Peers<'_> {
    /// Whether an entry says nothing about peers: everybody is meant.
    pub(super) fn is_absent(&self) -> bool {
        self.endpoints.is_none()
            && self.cidrs.is_none()
            && self.cidr_sets.is_none()
            && self.entities.is_none()
            && self.groups.is_none()
            && self.nodes.is_none()
            && self.services.is_none()
            && self.names.is_none()
    }

    /// Whether some of the peers cannot be found here, so that nobody knows who is meant.
    pub(super) fn is_lost(&self) -> bool {
        self.groups.is_some_and(|count| count > 0) || self.nodes.is_some_and(|count| count > 0)
    }
}

/// One of the peers; none where everybody is meant.
pub(super) fn clause(
    context: &Context<'_>,
    at: At,
    peers: &Peers<'_>,
    report: &mut Report,
) -> Option<Clause> {
    if peers.is_absent() {
        return None;
    }
    let reader = context.reader;
    let mut clause = never();
    for selector in peers.endpoints.into_iter().flatten() {
        clause.alternatives.extend(endpoints(context, selector));
    }
    for text in peers.cidrs.into_iter().flatten() {
        clause
            .alternatives
            .extend(Cidr::parse(text).ok().map(|range| outside(context, &[range], &[])));
    }
    for rule in peers.cidr_sets.into_iter().flatten() {
        clause.alternatives.push(cidr_set(context, rule));
    }
    for entity in peers.entities.into_iter().flatten().flatten() {
        clause.alternatives.extend(entity_conditions(reader, context.direction, *entity));
    }
    for reference in peers.services.into_iter().flatten() {
        clause.alternatives.push(service(context, reference));
    }
    for name in peers.names.into_iter().flatten() {
        clause.alternatives.push(named(context, name));
    }
    let of = |field: &str| context.scope.written.origin_of(at, field);
    let (groups, nodes) = match context.direction {
        Direction::Egress => ("toGroups", "toNodes"),
        Direction::Ingress => ("fromGroups", "fromNodes"),
    };
    if peers.groups.is_some_and(|count| count > 0) {
        report.unsupported(of(groups), "nobody asks a cloud for the addresses of its groups");
    }
    if peers.nodes.is_some_and(|count| count > 0) {
        report.unsupported(of(nodes), "nodes are not told apart by their labels");
    }
    Some(clause)
}

/// A label's key without its source; `reserved:` labels stand for entities.
fn split(key: &str) -> (&str, &str) {
    match key.split_once(':') {
        Some((source, key)) => (source, key),
        None => ("k8s", key),
    }
}

pub(super) fn requirements(selector: &EndpointSelector) -> Vec<(String, Requirement)> {
    let of = |key: &str, operator, values: Vec<std::sync::Arc<str>>| {
        let (source, key) = split(key);
        (source.to_owned(), Requirement { key: key.into(), operator, values })
    };
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| of(key, LabelSelectorOperator::In, vec![value.as_str().into()]));
    let expressions = selector.match_expressions.iter().map(|expression| {
        let values = expression.values.iter().map(|value| value.as_str().into()).collect();
        // A condition that cannot be read is met by nothing.
        match expression.operator {
            Some(operator) => of(&expression.key, operator, values),
            None => of(&expression.key, LabelSelectorOperator::In, Vec::new()),
        }
    });
    labels.chain(expressions).collect()
}

/// The conditions of a selector; several where it stands for an entity that has several; nothing for nobody.
fn endpoints(context: &Context<'_>, selector: &EndpointSelector) -> Vec<Conditions> {
    let wanted = requirements(selector);
    if let [(source, only)] = wanted.as_slice()
        && source == "reserved"
        && matches!(only.operator, LabelSelectorOperator::In | LabelSelectorOperator::Exists)
    {
        let entity = reserved(&only.key);
        return entity
            .map(|entity| entity_conditions(context.reader, context.direction, entity))
            .unwrap_or_default();
    }
    let cluster = &context.reader.options().cluster;
    match peers_key(&context.scope, cluster.as_str(), wanted) {
        Some(key) => {
            let addresses = context.reader.read(&key);
            vec![vec![condition(context.direction.peer(), values(&addresses))]]
        }
        None => Vec::new(),
    }
}

fn reserved(name: &str) -> Option<Entity> {
    Some(match name {
        "health" => Entity::Health,
        "host" => Entity::Host,
        "ingress" => Entity::Ingress,
        "init" => Entity::Init,
        "kube-apiserver" => Entity::KubeApiserver,
        "remote-node" => Entity::RemoteNode,
        "unmanaged" => Entity::Unmanaged,
        "world" => Entity::World,
        "world-ipv4" => Entity::WorldV4,
        "world-ipv6" => Entity::WorldV6,
        _ => return None,
    })
}

/// Whether a condition on the cluster takes the own one, by its name or by the one that Cilium gives a cluster that has none.
fn is_own_cluster(requirement: &Requirement, cluster: &str) -> bool {
    const UNNAMED: &str = "default";
    match requirement.operator {
        LabelSelectorOperator::In => {
            [cluster, UNNAMED].iter().any(|name| requirement.is_met(Some(name)))
        }
        _ => [cluster, UNNAMED].iter().all(|name| requirement.is_met(Some(name))),
    }
}

/// Whom a selector takes; none where it asks for something that no workload has.
fn peers_key(
    scope: &Scope<'_>,
    cluster: &str,
    wanted: Vec<(String, Requirement)>,
) -> Option<PeersKey> {
    let mut key = PeersKey::new(Namespaces::All, Vec::new());
    let mut of_namespace = Vec::new();
    let mut names_a_namespace = false;
    for (source, requirement) in wanted {
        if !matches!(source.as_str(), "k8s" | "any") {
            return None;
        }
        let name = requirement.key.clone();
        if *name == *NAMESPACE {
            names_a_namespace = true;
            of_namespace
                .push(Requirement { key: "kubernetes.io/metadata.name".into(), ..requirement });
        } else if let Some(label) = name.strip_prefix(NAMESPACE_LABELS) {
            names_a_namespace = true;
            of_namespace.push(Requirement { key: label.into(), ..requirement });
        } else if *name == *ACCOUNT {
            key.accounts.push(requirement);
        } else if *name == *CLUSTER {
            // Everything that is known here is of the own cluster.
            if !is_own_cluster(&requirement, cluster) {
                return None;
            }
            names_a_namespace = true;
        } else {
            key.labels.push(requirement);
        }
    }
    // A selector of a namespaced policy is limited to its namespace, unless it says another.
    key.namespaces = match (of_namespace.as_slice(), scope.namespace) {
        ([only], _)
            if only.operator == LabelSelectorOperator::In
                && &*only.key == "kubernetes.io/metadata.name"
                && only.values.len() == 1 =>
        {
            Namespaces::One(only.values[0].clone())
        }
        ([], Some(own)) if !names_a_namespace && key.accounts.is_empty() => {
            Namespaces::One(own.into())
        }
        ([], _) => Namespaces::All,
        _ => Namespaces::Labelled(of_namespace),
    };
    Some(key)
}

/// Whether an `endpointSelector` takes a workload.
pub(super) fn selects(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    selector: &EndpointSelector,
    facts: &Facts,
) -> bool {
    if scope.namespace.is_some_and(|namespace| namespace != &*facts.namespace) {
        return false;
    }
    let account = facts.identity.path().rsplit('/').next();
    requirements(selector).iter().all(|(source, requirement)| {
        if !matches!(source.as_str(), "k8s" | "any") {
            return false;
        }
        let key = &*requirement.key;
        if key == NAMESPACE {
            requirement.is_met(Some(&facts.namespace))
        } else if let Some(label) = key.strip_prefix(NAMESPACE_LABELS) {
            let labels = namespace_labels(reader, &facts.namespace);
            requirement.is_met(labels.get(label).map(String::as_str))
        } else if key == ACCOUNT {
            requirement.is_met(account)
        } else if key == CLUSTER {
            is_own_cluster(requirement, reader.options().cluster.as_str())
        } else {
            requirement.is_met(facts.labels.get(key).map(|value| &**value))
        }
    })
}

fn inside(reader: &Reader<'_>) -> Vec<ValueMatch> {
    let options = reader.options();
    let ranges = options.mesh_ranges.iter().chain(&options.probe_sources);
    ranges.copied().map(ValueMatch::Range).collect()
}

/// Addresses in one of the ranges and in none of the others, outside of the mesh: ranges never mean its own workloads.
fn outside(context: &Context<'_>, ranges: &[Cidr], except: &[Cidr]) -> Conditions {
    let peer = || context.direction.peer();
    let mut excluded = inside(context.reader);
    excluded.extend(except.iter().copied().map(ValueMatch::Range));
    vec![
        condition(peer(), ranges.iter().copied().map(ValueMatch::Range).collect()),
        none_of(peer(), excluded),
    ]
}

fn cidr_set(context: &Context<'_>, rule: &CidrRule) -> Conditions {
    let parse = |text: &String| Cidr::parse(text).ok();
    let mut ranges: Vec<Cidr> = rule.cidr.iter().filter_map(parse).collect();
    for object in context.reader.objects(Topic::Kind(Kind::CiliumCidrGroup)) {
        let AnyObject::CiliumCidrGroup(group) = object else { continue };
        let by_name = rule.cidr_group_ref.as_ref() == Some(&group.meta.name);
        let by_labels = rule.cidr_group_selector.as_ref().is_some_and(|selector| {
            requirements(selector).iter().all(|(_, requirement)| {
                requirement.is_met(group.meta.labels.get(&*requirement.key).map(String::as_str))
            })
        });
        if by_name || by_labels {
            ranges.extend(group.spec.external_cidrs.iter().filter_map(parse));
        }
    }
    let except: Vec<Cidr> = rule.except.iter().filter_map(parse).collect();
    outside(context, &ranges, &except)
}

/// The conditions of an entity, each an alternative; nothing for one that nobody is here.
fn entity_conditions(reader: &Reader<'_>, direction: Direction, entity: Entity) -> Vec<Conditions> {
    let peer = || direction.peer();
    let world = |range: Option<&str>| {
        let mut conditions = vec![none_of(peer(), inside(reader))];
        if let Some(range) = range.and_then(|range| Cidr::parse(range).ok()) {
            conditions.insert(0, condition(peer(), vec![ValueMatch::Range(range)]));
        }
        vec![conditions]
    };
    match entity {
        Entity::All => vec![Vec::new()],
        Entity::Cluster => vec![vec![condition(peer(), inside(reader))]],
        Entity::Host => {
            let node = reader.options().probe_sources.iter().copied().map(ValueMatch::Range);
            vec![vec![condition(peer(), node.collect())]]
        }
        Entity::Ingress => {
            let key = PeersKey { gateways: true, ..PeersKey::new(Namespaces::All, Vec::new()) };
            vec![vec![condition(peer(), values(&reader.read(&key)))]]
        }
        Entity::World => world(None),
        Entity::WorldV4 => world(Some("0.0.0.0/0")),
        Entity::WorldV6 => world(Some("::/0")),
        // There are no such peers in a mesh of one machine, and in a cluster they are found by address only.
        Entity::Health
        | Entity::Init
        | Entity::KubeApiserver
        | Entity::None
        | Entity::RemoteNode
        | Entity::Unmanaged => Vec::new(),
    }
}

/// The workloads behind Services.
fn service(context: &Context<'_>, reference: &ServiceReference) -> Conditions {
    let reader = context.reader;
    let own = context.scope.namespace.unwrap_or("default");
    let mut selectors: Vec<(String, Vec<Requirement>)> = Vec::new();
    let mut add = |object: AnyObject| {
        let AnyObject::Service(service) = object else { return };
        if service.spec.selector.is_empty() {
            return;
        }
        let labels = service.spec.selector.iter();
        let labels = labels.map(|(key, value)| Requirement::equals(key, value)).collect();
        selectors.push((service.meta.namespace.clone(), labels));
    };
    if let Some(one) = &reference.service {
        let namespace = one.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
        let name = one.service_name.as_deref().unwrap_or_default();
        reader
            .object(&ObjectKey::new("", "Service", namespace, name))
            .into_iter()
            .for_each(&mut add);
    }
    if let Some(many) = &reference.selector {
        let wanted = requirements(&many.selector);
        let topic = match many.namespace.as_deref().filter(|name| !name.is_empty()) {
            Some(namespace) => Topic::KindIn(Kind::Service, namespace.into()),
            None => match context.scope.namespace {
                Some(own) => Topic::KindIn(Kind::Service, own.into()),
                None => Topic::Kind(Kind::Service),
            },
        };
        for object in reader.objects(topic) {
            let labels = &object.meta().labels;
            let met = wanted.iter().all(|(_, requirement)| {
                requirement.is_met(labels.get(&*requirement.key).map(String::as_str))
            });
            if met {
                add(object);
            }
        }
    }
    let mut found = Vec::new();
    for (namespace, labels) in selectors {
        let key = PeersKey::new(Namespaces::One(namespace.into()), labels);
        found.extend(values(&reader.read(&key)));
    }
    vec![condition(context.direction.peer(), found)]
}

/// Addresses that a DNS answer gave for a name, outside of the mesh.
fn named(context: &Context<'_>, selector: &FqdnSelector) -> Conditions {
    vec![
        condition(Attribute::DestinationName, name_values(selector)),
        none_of(context.direction.peer(), inside(context.reader)),
    ]
}

/// The names that a selector takes, in lower case without trailing dot.
pub(super) fn name_values(selector: &FqdnSelector) -> Vec<ValueMatch> {
    let mut values = Vec::new();
    if let Some(name) = &selector.match_name {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        values.push(ValueMatch::Text(TextMatch::Exact(name.into())));
    }
    if let Some(pattern) = &selector.match_pattern {
        values.push(ValueMatch::Text(TextMatch::Regex(name_pattern(pattern).into())));
    }
    values
}

/// A pattern of names as a regular expression: `*` alone takes every name, `**.` in front any number of labels, any other
/// `*` characters of one label.
fn name_pattern(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    if pattern == "*" {
        return ".*".to_owned();
    }
    let (mut expression, rest) = match pattern.strip_prefix("**.") {
        Some(rest) => ("([-a-z0-9_]+\\.)+".to_owned(), rest),
        None => (String::new(), pattern.as_str()),
    };
    for character in rest.chars() {
        match character {
            '*' => expression.push_str("[-a-z0-9_]*"),
            '.' => expression.push_str("\\."),
            other => expression.push(other),
        }
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::name_pattern;

    /// The cases of API.md 8.2.
    #[test]
    fn a_star_stays_within_a_label_and_two_go_beyond() {
        let takes = |pattern: &str, name: &str| {
            regex::Regex::new(&format!("^(?:{})$", name_pattern(pattern))).unwrap().is_match(name)
        };
        for (pattern, name, wanted) in [
            ("*", "a.b.c", true),
            ("*.cilium.io", "www.cilium.io", true),
            ("*.cilium.io", "cilium.io", false),
            ("*.cilium.io", "a.b.cilium.io", false),
            ("*cilium.io", "subcilium.io", true),
            ("*cilium.io", "cilium.io", true),
            ("*cilium.io", "www.cilium.io", false),
            ("**.cilium.io", "a.b.cilium.io", true),
            ("**.cilium.io", "cilium.io", false),
            ("sub*.Cilium.io.", "sub1.cilium.io", true),
            ("a.b", "aXb", false),
        ] {
            assert_eq!(takes(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
