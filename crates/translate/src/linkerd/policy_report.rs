//! What there is to say about Linkerd's policy.

use std::sync::Arc;

use heddle_api::linkerd::{
    AccessPolicy, AuthorizationPolicy, MeshTlsAuthentication, ServerAuthorization,
};
use heddle_api::{IntOrText, Object, Resource as AnyObject};

use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::linkerd::policy::{self, Target};
use crate::linkerd::server::{self, ServerObject};
use crate::linkerd::{authentication, inbound_route};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::{Facts, WorkloadKey};

/// Reports on a Server.
pub(crate) fn server(reader: &Reader<'_>, server: &ServerObject, report: &mut Report) {
    let spec = &server.spec;
    if let Some(selector) = &spec.pod_selector {
        let selected: Vec<Arc<Facts>> = pods(reader, &server.meta.namespace)
            .into_iter()
            .filter(|facts| server::takes(selector, &facts.labels))
            .collect();
        if selected.is_empty() {
            let message = "no workload of the namespace has these labels";
            report.warning(
                codes::SELECTS_NOTHING,
                server.origin_of(spec.at, "podSelector"),
                message,
            );
        }
        if let Some(IntOrText::Text(name)) = &spec.port
            && !selected.is_empty()
            && selected.iter().all(|facts| server::port_of(server, facts).is_none())
        {
            let message = format!("no container of these workloads has a port `{name}`");
            report.error(codes::UNKNOWN_PORT, server.origin_of(spec.at, "port"), message);
        }
        second(reader, server, &selected, report);
        let probed = selected.iter().find_map(|facts| {
            let port = server::port_of(server, facts)?;
            facts.probes.iter().find(|(number, _)| *number == port).map(|(_, path)| path.clone())
        });
        if let Some(path) = probed
            && !inbound_route::of_server(reader, server).is_empty()
        {
            let message =
                format!("a probe asks for `{path}`, which passes only as a route allows it");
            report.warning(codes::PROBES_NEED_A_ROUTE, server.origin().clone(), message);
        }
    }
    if matches!(spec.access_policy, None | Some(AccessPolicy::Deny))
        && !is_authorized(reader, server)
    {
        let message = "nothing lets anybody in: every request to the port is refused";
        report.warning(codes::SERVER_DENIES, server.origin().clone(), message);
    }
}

fn pods(reader: &Reader<'_>, namespace: &str) -> Vec<Arc<Facts>> {
    let objects = reader.objects(Topic::KindIn(Kind::Pod, namespace.into()));
    objects.iter().filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod)))).collect()
}

/// Says so where an older Server has the port of a workload.
fn second(
    reader: &Reader<'_>,
    server: &ServerObject,
    selected: &[Arc<Facts>],
    report: &mut Report,
) {
    let other = selected.iter().find_map(|facts| {
        let port = server::port_of(server, facts)?;
        let servers = server::of_workload(reader, facts);
        let (_, first) = servers.into_iter().find(|(number, _)| *number == port)?;
        (!Arc::ptr_eq(&first, server)).then_some((port, first))
    });
    if let Some((port, first)) = other {
        let message = format!("the older Server `{}` has port {port}", first.meta.name);
        let origin = server.origin_of(server.spec.at, "port");
        report.error(codes::SECOND_SERVER, origin.clone(), message.clone());
        report.conflict(origin, message);
    }
}

/// Whether any authorisation is about a Server.
fn is_authorized(reader: &Reader<'_>, server: &ServerObject) -> bool {
    let (namespace, name) = (&server.meta.namespace, &server.meta.name);
    let older = policy::authorizations(reader, namespace);
    if older.iter().any(|object| object.spec.server.selects(name, &server.meta.labels)) {
        return true;
    }
    let routes = inbound_route::of_server(reader, server);
    policy::policies_in(reader, namespace).iter().any(|object| {
        let target = &object.spec.target_ref.name;
        match policy::target(&object.spec) {
            Ok(Target::Server) => target == name,
            Ok(Target::Namespace) => target == namespace,
            Ok(Target::Route { group, kind }) => {
                routes.iter().any(|route| route.is(group, kind, target))
            }
            Err(_) => false,
        }
    })
}

/// Reports on a ServerAuthorization.
pub(crate) fn server_authorization(
    reader: &Reader<'_>,
    object: &Object<ServerAuthorization>,
    report: &mut Report,
) {
    policy::server_authorization(reader, object, report);
    let spec = &object.spec;
    let servers = server::all(reader, &object.meta.namespace.as_str().into());
    let found =
        servers.iter().any(|server| spec.server.selects(&server.meta.name, &server.meta.labels));
    if !found && !object.is_broken(spec.server.at) {
        let message = "no Server of the namespace is meant: it lets nobody in";
        report.warning(codes::UNKNOWN_REFERENCE, object.origin_at(spec.server.at), message);
    }
    if spec.client.networks.is_empty() && !object.is_broken(spec.client.at) {
        let message = "without `networks` only clients in the cluster's networks are let in";
        report.info(codes::CLUSTER_NETWORKS_ONLY, object.origin_at(spec.client.at), message);
    }
}

/// Reports on an AuthorizationPolicy.
pub(crate) fn authorization_policy(
    reader: &Reader<'_>,
    object: &Object<AuthorizationPolicy>,
    report: &mut Report,
) {
    let spec = &object.spec;
    let reference = &spec.target_ref;
    if !object.is_broken(reference.at) {
        match policy::target(spec) {
            Ok(target) => check_target(reader, object, &target, report),
            Err(why) => report.rejected(object.origin_at(reference.at), why),
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for reference in
        spec.required_authentication_refs.iter().filter(|one| !object.is_broken(one.at))
    {
        let origin = || object.origin_at(reference.at);
        let group = reference.group.as_deref().unwrap_or_default();
        let linkerds =
            matches!(&*reference.kind, "MeshTLSAuthentication" | "NetworkAuthentication");
        if linkerds && group.is_empty() {
            inferred(object, reference.at, &reference.kind, report);
        }
        if let Err(why) = authentication::required(reader, reference, &object.meta.namespace) {
            let message = format!("{why}: the policy lets nobody in");
            report.error(codes::UNKNOWN_REFERENCE, origin(), message);
        }
        let identity =
            if &*reference.kind == "NetworkAuthentication" { "network" } else { "identity" };
        if seen.contains(&identity) {
            let message = "Linkerd takes one reference to a network and one to an identity";
            report.rejected(origin(), message);
        }
        seen.push(identity);
    }
}

pub(super) fn inferred<T>(object: &Object<T>, at: heddle_api::At, kind: &str, report: &mut Report) {
    let origin = object.origin_of(at, "kind");
    let how = format!("`{kind}` is read as of the group `{}`", authentication::GROUP);
    report.warning(codes::GROUP_INFERRED, origin.clone(), how.clone());
    report.translated(origin, how);
}

fn check_target(
    reader: &Reader<'_>,
    object: &Object<AuthorizationPolicy>,
    target: &Target,
    report: &mut Report,
) {
    let (reference, namespace) = (&object.spec.target_ref, &object.meta.namespace);
    let (group, kind) = match target {
        Target::Namespace => {
            if reference.name != *namespace {
                let message = "a policy may be attached to its own namespace only";
                report.rejected(object.origin_of(reference.at, "name"), message);
            }
            return;
        }
        Target::Server => (authentication::GROUP, "Server"),
        Target::Route { group, kind } => (*group, *kind),
    };
    if reference.group.as_deref().unwrap_or_default().is_empty() {
        inferred(object, reference.at, kind, report);
    }
    if reader.object(&ObjectKey::new(group, kind, namespace, &reference.name)).is_none() {
        let message =
            format!("no {kind} `{}` is in the namespace: the policy does nothing", reference.name);
        report.warning(codes::UNKNOWN_REFERENCE, object.origin_of(reference.at, "name"), message);
    }
}

/// Reports on a MeshTLSAuthentication.
pub(crate) fn mesh_tls(
    reader: &Reader<'_>,
    object: &Object<MeshTlsAuthentication>,
    report: &mut Report,
) {
    authentication::mesh_tls(reader, object, report);
    for reference in &object.spec.identity_refs {
        let namespace = reference.namespace.as_deref().unwrap_or(&object.meta.namespace);
        let key = ObjectKey::new(
            "",
            "ServiceAccount",
            namespace,
            reference.name.as_deref().unwrap_or_default(),
        );
        let accounts = reader.objects(Topic::KindIn(Kind::Other, namespace.into()));
        let declared = accounts.iter().any(|other| matches!(other, AnyObject::ServiceAccount(_)));
        if reference.kind == "ServiceAccount"
            && reference.name.is_some()
            && declared
            && reader.object(&key).is_none()
        {
            let message = format!("no ServiceAccount `{}` is in `{namespace}`", key.name.name);
            report.info(codes::UNKNOWN_REFERENCE, object.origin_at(reference.at), message);
        }
    }
}
