//! What there is to say about a Gateway of Istio.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::istio::{Gateway, Server};
use heddle_api::{At, Object, Resource as AnyObject, Written};
use heddle_diag::Diagnostic;
use heddle_ident::HostPattern;

use crate::client::selects;
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::gateway::{self, ServedHost, Spoken};
use crate::istio::{gateway_tls_report, selector};
use crate::object::{ObjectKey, by_age};
use crate::report::Report;
use crate::workload::{Facts, WorkloadKey};

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Arc<Object<Gateway>>, report: &mut Report) {
    let spec = &object.spec;
    if spec.servers.is_empty() && object.written.is_sound() {
        report.rejected(object.origin_of(spec.at, "servers"), "a Gateway needs servers");
    }
    let mut names: Vec<&str> = Vec::new();
    for server in &spec.servers {
        if object.is_broken(server.at) {
            continue;
        }
        check_server(object, server, report);
        gateway_tls_report::check(reader, object, server, report);
        let name = server.port.name.as_str();
        if names.contains(&name) {
            let origin = object.origin_of(server.port.at, "name");
            report.rejected(origin, format!("the port name `{name}` stands twice"));
        }
        names.push(name);
    }
    selector::check_pairs(&object.written, spec.at, "selector", &spec.selector, report);
    let workloads = workloads(reader, object);
    check_ports(reader, object, &workloads, report);
    check_conflicts(reader, object, &workloads, report);
}

fn check_server(object: &Object<Gateway>, server: &Server, report: &mut Report) {
    let of = |field: &str| object.origin_of(server.at, field);
    if server.hosts.is_empty() && !object.is_field_broken(server.at, "hosts") {
        report.rejected(of("hosts"), "a server needs hosts");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        let origin = || object.origin_of_item(server.at, "hosts", index);
        if let Err(problem) = check_host(host) {
            report.rejected(origin(), problem);
        }
    }
    let bind = server.bind.as_deref().unwrap_or_default();
    let is_socket = check_bind(&object.written, server.at, bind, report);
    let port = &server.port;
    if port.number == 0 && !is_socket {
        report.rejected(object.origin_of(port.at, "number"), "0 is not a port");
    }
    if port.name.is_empty() {
        report.rejected(object.origin_of(port.at, "name"), "the port needs a name");
    }
    let spoken = gateway::spoken(server);
    if spoken.is_none() {
        let message = format!("`{}` is not a protocol", port.protocol);
        report.rejected(object.origin_of(port.at, "protocol"), message);
    }
    if port.target_port.is_some() {
        let why = "deprecated; the Service in front of the gateway says which port it leads to";
        report.ignored(object.origin_of(port.at, "targetPort"), why);
    }
    let protocol = port.protocol.to_ascii_uppercase();
    let takes_tls = matches!(protocol.as_str(), "HTTPS" | "TLS");
    match &server.tls {
        None if takes_tls => {
            report.rejected(of("tls"), format!("{protocol} needs `tls` settings"));
        }
        Some(tls) if !takes_tls && spoken.is_some() => {
            let redirects = tls.https_redirect == Some(true);
            if spoken != Some(Spoken::Http) || !redirects {
                let message = format!("a port of protocol {protocol} has no TLS");
                report.rejected(of("tls"), message);
            }
        }
        Some(tls) if tls.https_redirect == Some(true) => {
            let message = "a redirection to HTTPS is for plaintext HTTP; it does nothing here";
            report.warning(
                codes::UPSTREAM_WARNING,
                object.origin_of(tls.at, "httpsRedirect"),
                message,
            );
            report.ignored(object.origin_of(tls.at, "httpsRedirect"), message);
        }
        _ => {}
    }
}

/// Istio's form of a host of a Gateway: `[namespace/]name`, where the namespace is `*`, `.` or a name.
fn check_host(text: &str) -> Result<(), String> {
    let (namespace, dns) = text.split_once('/').unwrap_or(("*", text));
    let label = !namespace.is_empty()
        && namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !matches!(namespace, "*" | ".") && !label {
        return Err(format!("`{namespace}` is not a namespace, `.` or `*`"));
    }
    HostPattern::parse(dns).map_err(|_| format!("`{dns}` is not a host"))?;
    Ok(())
}

/// Where a listener is bound: an address, or a socket in the file system. Returns whether it is a socket.
pub(super) fn check_bind(written: &Written, at: At, bind: &str, report: &mut Report) -> bool {
    let of = || written.origin_of(at, "bind");
    if let Some(path) = bind.strip_prefix("unix://") {
        if !path.starts_with('/') && !path.starts_with('@') || path.starts_with("/@") {
            report.rejected(of(), "a socket in the file system has an absolute path");
        }
        report.unsupported(of(), "nothing listens on sockets in the file system");
        return true;
    }
    if !bind.is_empty() && bind.parse::<IpAddr>().is_err() {
        report.rejected(of(), format!("`{bind}` is not an address"));
    }
    false
}

/// The pods that a Gateway selects, in every namespace.
fn workloads(reader: &Reader<'_>, object: &Object<Gateway>) -> Vec<Arc<Facts>> {
    if object.spec.selector.is_empty() {
        return Vec::new();
    }
    let pods = reader.objects(Topic::Kind(Kind::Pod));
    pods.iter()
        .filter(|pod| {
            let labels = &pod.meta().labels;
            object.spec.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
        .filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod))))
        .collect()
}

/// Clients reach a gateway by its Service; a port that no Service leads to is only found by the address of the pod.
fn check_ports(
    reader: &Reader<'_>,
    object: &Object<Gateway>,
    workloads: &[Arc<Facts>],
    report: &mut Report,
) {
    let mut ports: Vec<u16> = Vec::new();
    let mut some = false;
    for facts in workloads {
        for service in reader.objects(Topic::KindIn(Kind::Service, facts.namespace.clone())) {
            let AnyObject::Service(service) = service else { continue };
            if !service.spec.selector.is_empty() && selects(&service.spec.selector, &facts.labels) {
                some = true;
                ports.extend(service.spec.ports.iter().map(|port| port.port));
            }
        }
    }
    for server in object.spec.servers.iter().filter(|_| some) {
        if !ports.contains(&server.port.number) && !object.is_broken(server.at) {
            let message = format!(
                "no Service in front of the selected workloads has the port {}",
                server.port.number
            );
            let origin = object.origin_of(server.port.at, "number");
            report.warning(codes::GATEWAY_PORT, origin, message);
        }
    }
}

/// Gateways for the same workloads whose servers have a port and a host in common.
fn check_conflicts(
    reader: &Reader<'_>,
    object: &Arc<Object<Gateway>>,
    workloads: &[Arc<Facts>],
    report: &mut Report,
) {
    let mut others: Vec<Arc<Object<Gateway>>> = Vec::new();
    for other in reader.objects(Topic::Kind(Kind::Gateway)) {
        let AnyObject::Gateway(other) = other else { continue };
        if !Arc::ptr_eq(&other, object) && is_shared(object, &other, workloads) {
            others.push(other);
        }
    }
    others.sort_by(|left, right| by_age(&left.meta, &right.meta));
    for server in &object.spec.servers {
        let Some(own) = gateway::spoken(server) else { continue };
        let mut names: Vec<String> = Vec::new();
        let mut loses = None;
        for other in &others {
            let older = by_age(&other.meta, &object.meta).is_lt();
            for known in &other.spec.servers {
                if known.port.number != server.port.number || known.bind != server.bind {
                    continue;
                }
                let Some(theirs) = gateway::spoken(known) else { continue };
                let host = common_host(object, server, other, known);
                let full = format!("{}/{}", other.meta.namespace, other.meta.name);
                if host.is_some() && !names.contains(&full) {
                    names.push(full.clone());
                }
                let excluded = !own.shares_port(theirs) || (own != Spoken::Http && host.is_some());
                if excluded && older {
                    loses.get_or_insert((full, other.origin_at(known.at), own != theirs));
                }
            }
        }
        let origin = || object.origin_at(server.at);
        if !names.is_empty() || loses.is_some() {
            let effect = match &loses {
                Some((name, _, true)) => format!("another protocol of `{name}` has the port"),
                Some((name, _, false)) => format!("`{name}` has the host already"),
                None => "the routes of all are put together, or this one decides".to_owned(),
            };
            let list = if names.is_empty() { "others".to_owned() } else { names.join("`, `") };
            let message =
                format!("shares port {} and hosts with `{list}`: {effect}", server.port.number);
            let mut finding = Diagnostic::warning(codes::GATEWAY_CONFLICT, origin(), message);
            if let Some((_, place, _)) = &loses {
                finding = finding.related("this one decides", place.clone());
            }
            report.push(finding);
        }
        if let Some((name, ..)) = loses {
            report.conflict(origin(), format!("Gateway {name} has the port or the host"));
        }
    }
}

/// Whether two Gateways select a workload in common, as far as is known.
fn is_shared(left: &Object<Gateway>, right: &Object<Gateway>, of_left: &[Arc<Facts>]) -> bool {
    let within = |inner: &Object<Gateway>, outer: &Object<Gateway>| {
        let pairs = &inner.spec.selector;
        pairs.iter().all(|(key, value)| outer.spec.selector.get(key) == Some(value))
    };
    within(left, right)
        || within(right, left)
        || of_left.iter().any(|facts| selects(&right.spec.selector, &facts.labels))
}

fn common_host(
    left: &Object<Gateway>,
    own: &Server,
    right: &Object<Gateway>,
    other: &Server,
) -> Option<HostPattern> {
    let theirs = gateway::hosts(right, other);
    let same = |one: &ServedHost<'_>| {
        theirs.iter().any(|known| {
            known.pattern == one.pattern
                && (known.namespace == one.namespace
                    || known.namespace == "*"
                    || one.namespace == "*")
        })
    };
    gateway::hosts(left, own).into_iter().find(same).map(|host| host.pattern)
}
