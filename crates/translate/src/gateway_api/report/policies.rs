//! BackendTLSPolicies and ReferenceGrants.

use std::collections::BTreeSet;

use heddle_api::gateway_api::{GROUP, ReferenceGrant};
use heddle_api::{Object, Resource as AnyObject};

use super::{condition, resolved};
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::gateway_api::attach::AttachedKey;
use crate::gateway_api::certificates::Unresolved;
use crate::gateway_api::route::Route;
use crate::gateway_api::status::{Ancestor, GatewayApiStatus, Reference};
use crate::gateway_api::tls_policy::{self, Policy};
use crate::gateway_api::{gateway_key, view::ViewKey};
use crate::object::ObjectKey;
use crate::report::Report;

/// A BackendTLSPolicy.
pub(crate) fn backend_tls_policy(reader: &Reader<'_>, object: &Policy, report: &mut Report) {
    let spec = &object.spec;
    let checked = tls_policy::check(reader, object);
    let namespace = &*object.meta.namespace;
    let services: BTreeSet<&str> = spec
        .target_refs
        .iter()
        .filter(|target| target.group.is_empty() && target.kind == "Service")
        .map(|target| target.name.as_str())
        .collect();
    for target in &spec.target_refs {
        if !target.group.is_empty() || target.kind != "Service" {
            let message = format!("TLS is made to Services, not to `{}`", target.kind);
            report.unsupported(object.origin_at(target.at), message);
        } else if reader.object(&ObjectKey::new("", "Service", namespace, &target.name)).is_none() {
            let message = format!("there is no Service `{namespace}/{}`", target.name);
            report.warning(codes::BACKEND, object.origin_at(target.at), message);
        }
    }
    let older = shadowing(reader, object);
    let accepted = match (&checked.tls, &older) {
        (Err(Unresolved { reason, message }), _) => {
            report.error(codes::BACKEND, object.origin_at(spec.validation.at), message.clone());
            condition("Accepted", false, reason, message)
        }
        (Ok(_), Some(other)) => {
            let name = format!("{}/{}", other.meta.namespace, other.meta.name);
            let message = format!("the older policy `{name}` has the same targets");
            report.conflict(object.origin_of(spec.at, "targetRefs"), message.clone());
            condition("Accepted", false, "Conflicted", &message)
        }
        (Ok(_), None) => condition("Accepted", true, "Accepted", ""),
    };
    if let (Some(Unresolved { message, .. }), true) = (&checked.unresolved, checked.tls.is_ok()) {
        report.error(codes::BACKEND, object.origin_at(spec.validation.at), message.clone());
    }
    let conditions = vec![accepted, resolved(checked.unresolved.as_ref())];
    let ancestors = ancestors(reader, namespace, &services);
    let ancestors =
        ancestors.into_iter().map(|ancestor| Ancestor { ancestor, conditions: conditions.clone() });
    report.gateway_api =
        Some(GatewayApiStatus::BackendTlsPolicy { ancestors: ancestors.collect() });
}

/// An older policy that has every target of this one.
fn shadowing(reader: &Reader<'_>, object: &Policy) -> Option<Policy> {
    let mut shadow = None;
    for target in &object.spec.target_refs {
        let policies = tls_policy::policies(reader, &object.meta.namespace, &target.name);
        let first = policies.into_iter().find(|policy| {
            let mut targets = tls_policy::targets(policy, &target.name);
            targets.any(|other| other.section_name == target.section_name)
        });
        match first {
            Some(first) if first.meta.name != object.meta.name => shadow = Some(first),
            _ => return None,
        }
    }
    shadow
}

/// The Gateways whose routes lead to one of the services; the services themselves where there is none.
fn ancestors(reader: &Reader<'_>, namespace: &str, services: &BTreeSet<&str>) -> Vec<Reference> {
    let mut found = Vec::new();
    for gateway in reader.objects(Topic::Kind(Kind::GatewayApiGateway)) {
        let AnyObject::GatewayApiGateway(gateway) = gateway else { continue };
        let meta = &gateway.meta;
        let key = gateway_key(&meta.namespace, &meta.name);
        if reader.read(&ViewKey(key.clone())).is_none() {
            continue;
        }
        let attached = reader.read(&AttachedKey(key));
        let leads = attached.listeners.iter().flatten().any(|attached| {
            let route = reader.object(&attached.route).and_then(|object| Route::of(&object));
            route.is_some_and(|route| leads_to(&route, namespace, services))
        });
        if leads {
            found.push(reference(GROUP, "Gateway", &meta.namespace, &meta.name));
        }
    }
    if found.is_empty() {
        found.extend(services.iter().map(|name| reference("", "Service", namespace, name)));
    }
    found
}

fn reference(group: &str, kind: &str, namespace: &str, name: &str) -> Reference {
    Reference {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        section_name: None,
        port: None,
    }
}

fn leads_to(route: &Route, namespace: &str, services: &BTreeSet<&str>) -> bool {
    let own = &*route.meta().namespace;
    let is = |group: &Option<String>, kind: &Option<String>, of: &Option<String>, name: &str| {
        group.as_deref().unwrap_or_default().is_empty()
            && kind.as_deref().is_none_or(|kind| kind == "Service")
            && of.as_deref().unwrap_or(own) == namespace
            && services.contains(name)
    };
    match route {
        Route::Http(object) => object
            .spec
            .rules
            .iter()
            .flat_map(|rule| &rule.backend_refs)
            .any(|one| is(&one.group, &one.kind, &one.namespace, &one.name)),
        Route::Grpc(object) => object
            .spec
            .rules
            .iter()
            .flat_map(|rule| &rule.backend_refs)
            .any(|one| is(&one.group, &one.kind, &one.namespace, &one.name)),
        Route::Tls(_) | Route::Tcp(_) | Route::Udp(_) => {
            let rules = match route {
                Route::Tls(object) => &object.spec.rules,
                Route::Tcp(object) => &object.spec.rules,
                Route::Udp(object) => &object.spec.rules,
                Route::Http(_) | Route::Grpc(_) => return false,
            };
            let mut backends = rules.iter().flat_map(|rule| &rule.backend_refs);
            backends.any(|one| is(&one.group, &one.kind, &one.namespace, &one.name))
        }
    }
}

/// A ReferenceGrant has no status; entries with an error allow nothing.
pub(crate) fn reference_grant(object: &Object<ReferenceGrant>, report: &mut Report) {
    let places = object.spec.from.iter().map(|one| one.at);
    for at in places.chain(object.spec.to.iter().map(|one| one.at)) {
        if object.is_broken(at) {
            let why = "the entry has an error and allows nothing";
            report.ignored(object.origin_at(at), why);
        }
    }
}
