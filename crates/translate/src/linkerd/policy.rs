//! Who may use the ports of a workload, as Linkerd's policy says: a system of its own for each port with a Server, and
//! one for all others (API.md 7.2 to 7.7).
//!
//! Within a port everything that lets someone in adds up: the Server's access policy, ServerAuthorizations, and
//! AuthorizationPolicies on the Server, its namespace or the route that took the request.

use std::sync::Arc;

use heddle_api::linkerd::{AccessPolicy, AuthorizationPolicy, ServerAuthorization};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ir::authorization::{
    Attribute, Clause, Condition, Enforcement, Fallback, Policy, PolicyAction, Ports, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;

use crate::engine::{Kind, Reader, Topic};
use crate::linkerd::authentication::{self, GROUP};
use crate::linkerd::inbound_route::{self, InboundRoute};
use crate::linkerd::server::{self, ServerObject};
use crate::report::Report;
use crate::workload::Facts;

/// Every system of Linkerd that has a say about a workload. None: everybody gets in, as by Linkerd's default.
pub(crate) fn systems(reader: &Reader<'_>, facts: &Facts) -> Vec<SystemPolicies> {
    let servers = server::of_workload(reader, facts);
    let mut systems = requirements(facts);
    for (port, server) in &servers {
        systems.push(of_server(reader, *port, server));
    }
    let ports: Vec<u16> = servers.iter().map(|(port, _)| *port).collect();
    systems.extend(of_default(reader, facts, ports));
    systems
}

/// Ports that must be reached by mutual TLS, before any other policy.
fn requirements(facts: &Facts) -> Vec<SystemPolicies> {
    let settings = &facts.linkerd;
    let both = [
        (&settings.require_identity, authentication::authenticated()),
        (&settings.require_tls, authentication::mutual_tls()),
    ];
    both.into_iter()
        .filter_map(|(list, clause)| {
            let (ports, origin) = list.as_ref()?;
            let policies = vec![allow(origin.clone(), vec![clause])];
            Some(SystemPolicies {
                ports: Ports::Only(ports.clone()),
                enforcement: Enforcement::Enforce,
                without_allow: Fallback::Deny(origin.clone()),
                policies,
            })
        })
        .collect()
}

/// The default inbound policy, on ports without a Server.
fn of_default(reader: &Reader<'_>, facts: &Facts, servers: Vec<u16>) -> Option<SystemPolicies> {
    let (policy, origin) = facts.linkerd.default_policy.clone()?;
    let ports = if servers.is_empty() { Ports::All } else { Ports::Except(servers) };
    // Everybody gets in: there is nothing to decide.
    if policy == AccessPolicy::AllUnauthenticated {
        return None;
    }
    Some(system(reader, ports, policy, origin, Vec::new()))
}

/// The policies of the port of a Server. A Server without any lets nobody in (API.md hazard 17).
fn of_server(reader: &Reader<'_>, port: u16, server: &ServerObject) -> SystemPolicies {
    let spec = &server.spec;
    let access = spec.access_policy.unwrap_or(AccessPolicy::Deny);
    let origin = match spec.access_policy {
        Some(_) => server.origin_of(spec.at, "accessPolicy"),
        None => server.origin().clone(),
    };
    let mut policies = Vec::new();
    for object in authorizations(reader, &server.meta.namespace) {
        if object.spec.server.selects(&server.meta.name, &server.meta.labels) {
            policies.push(server_authorization(reader, &object, &mut Report::default()));
        }
    }
    let routes = inbound_route::of_server(reader, server);
    for object in policies_in(reader, &server.meta.namespace) {
        policies.extend(authorization_policy(reader, &object, server, &routes));
    }
    system(reader, Ports::Only(vec![port]), access, origin, policies)
}

/// The system of some ports: an access policy, and what lets others in besides.
fn system(
    reader: &Reader<'_>,
    ports: Ports,
    access: AccessPolicy,
    origin: Origin,
    mut policies: Vec<Arc<Policy>>,
) -> SystemPolicies {
    if let Some(clauses) = authentication::access(reader, access) {
        policies.push(allow(origin.clone(), clauses));
    }
    let enforcement = if access == AccessPolicy::Audit {
        Enforcement::Audit(origin.clone())
    } else {
        Enforcement::Enforce
    };
    SystemPolicies { ports, enforcement, without_allow: Fallback::Deny(origin), policies }
}

/// A policy that lets in whom all clauses hold for.
fn allow(origin: Origin, clauses: Vec<Clause>) -> Arc<Policy> {
    Arc::new(Policy {
        origin: origin.clone(),
        action: PolicyAction::Allow,
        dry_run: false,
        authorizer: None,
        rules: vec![Rule { origin, clauses }],
    })
}

/// The ServerAuthorizations of a namespace.
pub(crate) fn authorizations(
    reader: &Reader<'_>,
    namespace: &str,
) -> Vec<Arc<Object<ServerAuthorization>>> {
    let objects = reader.objects(Topic::KindIn(Kind::ServerAuthorization, namespace.into()));
    let of = |object| match object {
        AnyObject::ServerAuthorization(object) => Some(object),
        _ => None,
    };
    objects.into_iter().filter_map(of).collect()
}

/// The AuthorizationPolicies of a namespace.
pub(crate) fn policies_in(
    reader: &Reader<'_>,
    namespace: &str,
) -> Vec<Arc<Object<AuthorizationPolicy>>> {
    let topic = Topic::KindIn(Kind::LinkerdAuthorizationPolicy, namespace.into());
    let of = |object| match object {
        AnyObject::LinkerdAuthorizationPolicy(object) => Some(object),
        _ => None,
    };
    reader.objects(topic).into_iter().filter_map(of).collect()
}

/// What a ServerAuthorization lets in.
pub(crate) fn server_authorization(
    reader: &Reader<'_>,
    object: &Object<ServerAuthorization>,
    report: &mut Report,
) -> Arc<Policy> {
    let client = &object.spec.client;
    let clauses = if object.is_field_broken(object.spec.at, "server") {
        vec![authentication::never()]
    } else {
        authentication::client(reader, object, client, report)
    };
    allow(object.origin().clone(), clauses)
}

/// What an AuthorizationPolicy is attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A route, by its key's group and kind.
    Route { group: &'static str, kind: &'static str },
    /// Every Server of the namespace.
    Namespace,
    /// A Server.
    Server,
}

/// What the target of a policy means; the error says why it can be nothing's.
pub(crate) fn target(policy: &AuthorizationPolicy) -> Result<Target, String> {
    const GATEWAY: &str = heddle_api::gateway_api::GROUP;
    let reference = &policy.target_ref;
    let group = reference.group.as_deref().unwrap_or_default();
    match (group, &*reference.kind) {
        // Without group the core group is meant, which has neither; the author means Linkerd's.
        (GROUP | "", "Server") => Ok(Target::Server),
        (GROUP | "", "HTTPRoute") => Ok(Target::Route { group: GROUP, kind: "HTTPRoute" }),
        (GATEWAY, "HTTPRoute") => Ok(Target::Route { group: GATEWAY, kind: "HTTPRoute" }),
        (GATEWAY | "", "GRPCRoute") => Ok(Target::Route { group: GATEWAY, kind: "GRPCRoute" }),
        ("" | "core", "Namespace") => Ok(Target::Namespace),
        (group, kind) => Err(format!("`{kind}` of the group `{group}` cannot have a policy")),
    }
}

/// What a policy lets in at a Server: at its routes only, where it is attached to one of them.
fn authorization_policy(
    reader: &Reader<'_>,
    object: &Object<AuthorizationPolicy>,
    server: &ServerObject,
    routes: &[InboundRoute],
) -> Option<Arc<Policy>> {
    let (spec, meta) = (&object.spec, &object.meta);
    if object.is_field_broken(spec.at, "targetRef") {
        return None;
    }
    let name = &spec.target_ref.name;
    let mut clauses = match target(spec).ok()? {
        Target::Server if *name == server.meta.name => Vec::new(),
        Target::Namespace if *name == meta.namespace => Vec::new(),
        Target::Route { group, kind } => {
            let values: Vec<ValueMatch> = routes
                .iter()
                .filter(|route| route.is(group, kind, name))
                .map(|route| ValueMatch::Text(TextMatch::Exact(route.name.clone())))
                .collect();
            if values.is_empty() {
                return None;
            }
            let condition = Condition { attribute: Attribute::Route, values, negate: false };
            vec![Clause { alternatives: vec![vec![condition]] }]
        }
        Target::Server | Target::Namespace => return None,
    };
    clauses.extend(requirements_of(reader, object));
    Some(allow(object.origin().clone(), clauses))
}

/// What a client must prove, all of it. A reference that leads nowhere never holds, as Linkerd ignores such a policy.
fn requirements_of(reader: &Reader<'_>, object: &Object<AuthorizationPolicy>) -> Vec<Clause> {
    let spec = &object.spec;
    if object.is_field_broken(spec.at, "requiredAuthenticationRefs") {
        return vec![authentication::never()];
    }
    spec.required_authentication_refs
        .iter()
        .map(|reference| {
            authentication::required(reader, reference, &object.meta.namespace)
                .unwrap_or_else(|_| authentication::never())
        })
        .collect()
}
