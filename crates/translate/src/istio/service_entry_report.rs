//! What there is to say about a ServiceEntry or WorkloadEntry.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::istio::{Location, Resolution, ServiceEntry, WorkloadEntry};
use heddle_api::{At, Object, Resource as AnyObject, Written};
use heddle_diag::Diagnostic;
use heddle_ident::{Cidr, Host, HostPattern};
use heddle_ir::protocol::Protocol;

use crate::codes;
use crate::engine::{Reader, Topic};
use crate::export::Export;
use crate::istio::{export_to, selector};
use crate::mesh::MeshKey;
use crate::object::{ObjectKey, by_age};
use crate::protocol;
use crate::report::Report;
use crate::service::{Endpoints, entry_endpoints};

type Entry = Arc<Object<ServiceEntry>>;

/// What there is to say about a ServiceEntry.
pub(crate) fn report(reader: &Reader<'_>, object: &Entry, report: &mut Report) {
    let spec = &object.spec;
    let of = |field: &str| object.origin_of(spec.at, field);
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    check_hosts(object, resolution, report);
    check_addresses(object, resolution, report);
    check_ports(object, resolution, report);
    check_endpoints(object, resolution, report);
    export_to::check(&object.written, spec.at, &spec.export_to, true, report);
    if resolution == Resolution::DynamicDns {
        let why = "no proxy looks up the name that a request asks for yet: requests get 503";
        report.unsupported(of("resolution"), why);
    }
    if let Some(selector) = &spec.workload_selector {
        if !spec.endpoints.is_empty() {
            report
                .rejected(of("endpoints"), "`endpoints` and `workloadSelector` exclude each other");
        }
        if selector.labels.is_empty() {
            report.warning(
                codes::UPSTREAM_WARNING,
                of("workloadSelector"),
                "the selector has no labels",
            );
        } else {
            let namespace: Arc<str> = object.meta.namespace.as_str().into();
            let pods = selector::selected(reader, &namespace, &selector.labels);
            let entries = entries(reader, &namespace, &selector.labels);
            if pods.is_empty() && !entries {
                let message = "no workload of the namespace has these labels";
                report.warning(codes::SELECTS_NOTHING, of("workloadSelector"), message);
            }
        }
        if spec.location != Some(Location::MeshInternal) {
            let message =
                "workloads of the mesh are selected, but the location is outside of the mesh";
            report.warning(codes::UPSTREAM_WARNING, of("workloadSelector"), message);
        }
        if matches!(resolution, Resolution::None) {
            let message = "the selected workloads are used, although the resolution is NONE";
            report.warning(codes::UPSTREAM_WARNING, of("resolution"), message);
        }
    }
    check_conflicts(reader, object, report);
}

fn entries(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    let Some((key, value)) = labels.iter().next() else { return false };
    let topic =
        Topic::WorkloadsByLabel(namespace.clone(), key.as_str().into(), value.as_str().into());
    reader.objects(topic).iter().any(|object| matches!(object, AnyObject::WorkloadEntry(_)))
}

fn check_hosts(object: &Entry, resolution: Resolution, report: &mut Report) {
    let spec = &object.spec;
    if spec.hosts.is_empty() && object.written.is_sound() {
        report.rejected(object.origin_of(spec.at, "hosts"), "a ServiceEntry needs hosts");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let origin = || object.origin_of_item(spec.at, "hosts", index);
        match HostPattern::parse(host) {
            Ok(HostPattern::Any) => report.rejected(origin(), "the host `*` alone is not allowed"),
            Ok(HostPattern::Suffix(_)) => match resolution {
                Resolution::Dns | Resolution::DnsRoundRobin if spec.endpoints.is_empty() => {
                    let message =
                        format!("`{host}` cannot be looked up: a wildcard has no address");
                    report.rejected(origin(), message);
                }
                _ => {}
            },
            Ok(HostPattern::Exact(name)) => {
                if resolution == Resolution::DynamicDns {
                    report.rejected(origin(), "DYNAMIC_DNS is for wildcard hosts");
                }
                if !host.contains('.') || name.as_ip().is_some() {
                    let message = format!("`{host}` is not a full name; it is not completed here");
                    report.warning(codes::UPSTREAM_WARNING, origin(), message);
                }
            }
            // Stars inside a label pass upstream's validation with a warning and match nothing.
            Err(_) if host.starts_with('*') && !host.contains('/') => {
                let message = format!("`{host}` is no wildcard that anything matches");
                report.warning(codes::UPSTREAM_WARNING, origin(), message);
            }
            Err(_) => report.rejected(origin(), format!("`{host}` is not a host")),
        }
    }
}

fn check_addresses(object: &Entry, resolution: Resolution, report: &mut Report) {
    let spec = &object.spec;
    for (index, address) in spec.addresses.iter().enumerate() {
        let origin = || object.origin_of_item(spec.at, "addresses", index);
        if Cidr::parse(address).is_err() {
            report.rejected(origin(), format!("`{address}` is not an address or range"));
        } else if address.contains('/')
            && !matches!(resolution, Resolution::Static | Resolution::None)
        {
            report.rejected(origin(), "ranges are for the resolutions STATIC and NONE");
        }
    }
    if resolution == Resolution::DynamicDns && !spec.addresses.is_empty() {
        report.rejected(object.origin_of(spec.at, "addresses"), "DYNAMIC_DNS takes no addresses");
    }
    let by_address = |protocol: &str| {
        matches!(protocol.to_ascii_uppercase().as_str(), "TCP" | "MONGO" | "REDIS" | "MYSQL" | "")
    };
    let needs =
        spec.ports.iter().find(|port| by_address(port.protocol.as_deref().unwrap_or_default()));
    let status = object.written.field(object.written.root(), "status");
    let allocated = status.is_some_and(|status| object.written.has(status, "addresses"));
    if let (Some(port), true, true) =
        (needs, spec.addresses.is_empty() && !allocated, resolution == Resolution::None)
    {
        let message =
            format!("port {} takes every connection to it, whatever the host", port.number);
        report.warning(codes::ADDRESSES_REQUIRED, object.origin_at(port.at), message);
    }
}

fn check_ports(object: &Entry, resolution: Resolution, report: &mut Report) {
    let spec = &object.spec;
    let mut names: Vec<&str> = Vec::new();
    let mut numbers: Vec<u16> = Vec::new();
    for port in &spec.ports {
        if object.is_broken(port.at) {
            continue;
        }
        let of = |field: &str| object.origin_of(port.at, field);
        if names.contains(&port.name.as_str()) {
            report.rejected(of("name"), format!("the port name `{}` stands twice", port.name));
        }
        if numbers.contains(&port.number) {
            report.rejected(of("number"), format!("the port {} stands twice", port.number));
        }
        names.push(&port.name);
        numbers.push(port.number);
        let declared = port.protocol.as_deref().unwrap_or_default();
        if !declared.is_empty() && protocol::parse(declared).is_none() {
            report.rejected(of("protocol"), format!("`{declared}` is not a protocol"));
        }
        let spoken = protocol::of_port(Some(declared), Some(&port.name), port.number);
        if resolution == Resolution::DynamicDns && !(spoken.is_http() || spoken == Protocol::Tls) {
            report.rejected(of("protocol"), "DYNAMIC_DNS needs a protocol that names hosts");
        }
        if port.target_port.is_some() && matches!(resolution, Resolution::None) {
            let message = "the target port has no effect with the resolution NONE";
            report.warning(codes::UPSTREAM_WARNING, of("targetPort"), message);
        }
    }
}

fn check_endpoints(object: &Entry, resolution: Resolution, report: &mut Report) {
    let spec = &object.spec;
    let of = |field: &str| object.origin_of(spec.at, field);
    let count = spec.endpoints.len();
    match resolution {
        Resolution::None if count > 0 => {
            report.rejected(of("endpoints"), "with the resolution NONE there are no endpoints");
        }
        Resolution::DynamicDns if count > 0 => {
            report.rejected(of("endpoints"), "DYNAMIC_DNS takes no endpoints");
        }
        Resolution::DnsRoundRobin if count > 1 => {
            report.rejected(of("endpoints"), "DNS_ROUND_ROBIN takes one endpoint at most");
        }
        Resolution::Static if count == 0 && spec.workload_selector.is_none() => {
            let message = "with the resolution STATIC endpoints are needed: requests get 503";
            report.warning(codes::UPSTREAM_WARNING, of("endpoints"), message);
        }
        _ => {}
    }
    let names = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    for endpoint in &spec.endpoints {
        if object.is_broken(endpoint.at) {
            continue;
        }
        check_workload(&object.written, endpoint, endpoint.at, names, report);
        for name in endpoint.ports.keys() {
            if !spec.ports.iter().any(|port| port.name == *name) {
                let origin = object.written.origin_of_entry(endpoint.at, "ports", name);
                report.rejected(origin, format!("the ServiceEntry has no port `{name}`"));
            }
        }
        let unix =
            endpoint.address.as_deref().is_some_and(|address| address.starts_with("unix://"));
        if unix && names {
            let message = "a socket in the file system cannot be looked up";
            report.rejected(object.origin_of(endpoint.at, "address"), message);
        }
        if unix && spec.ports.len() > 1 {
            let message = "a socket in the file system serves one port";
            report.rejected(object.origin_of(endpoint.at, "address"), message);
        }
    }
}

/// What there is to say about a WorkloadEntry, by itself or inside a ServiceEntry.
pub(crate) fn check_workload(
    written: &Written,
    entry: &WorkloadEntry,
    at: At,
    names: bool,
    report: &mut Report,
) {
    let of = |field: &str| written.origin_of(at, field);
    let address = entry.address.as_deref().unwrap_or_default();
    let network = entry.network.as_deref().is_some_and(|network| !network.is_empty());
    if let Some(path) = address.strip_prefix("unix://") {
        if !path.starts_with('/') && !path.starts_with('@') {
            report.rejected(of("address"), "a socket in the file system has an absolute path");
        }
        if !entry.ports.is_empty() {
            report.rejected(of("ports"), "a socket in the file system has no ports");
        }
        report.unsupported(of("address"), "sockets in the file system are not connected to yet");
    } else if address.is_empty() {
        if network {
            let why = "without an address it is reached through its network's gateway, which is not known";
            report.unsupported(of("network"), why);
        } else {
            report.rejected(of("address"), "the address is missing");
        }
    } else if address.parse::<IpAddr>().is_err() {
        let name = Host::parse(address).is_ok() && address.contains('.');
        if !name || !names {
            let wanted = if names { "an address or a full name" } else { "an address" };
            report.rejected(of("address"), format!("`{address}` is not {wanted}"));
        }
    }
}

/// Other objects that define the same host.
fn check_conflicts(reader: &Reader<'_>, object: &Entry, report: &mut Report) {
    let spec = &object.spec;
    let own = ObjectKey::of(&AnyObject::ServiceEntry(object.clone()));
    let mesh = reader.read(&MeshKey);
    let export = |entry: &Entry| {
        let texts = entry.spec.export_to.iter().map(String::as_str);
        Export::of(texts, &entry.meta.namespace, &mesh.service_export)
    };
    for (index, host) in spec.hosts.iter().enumerate() {
        let origin = || object.origin_of_item(spec.at, "hosts", index);
        for other in reader.objects(Topic::ServicesByHost(host.to_ascii_lowercase().into())) {
            if ObjectKey::of(&other) == own {
                continue;
            }
            let name =
                format!("{} {}/{}", other.origin().kind, other.meta().namespace, other.meta().name);
            if let AnyObject::ServiceEntry(other) = &other {
                let older = by_age(&other.meta, &object.meta).is_lt();
                let together = export(object).overlaps(&export(other));
                let endpoints = |entry: &Entry, target| (entry_endpoints(entry, host), target);
                let shared = spec.ports.iter().find(|port| {
                    other.spec.ports.iter().any(|known| {
                        let own = endpoints(object, port.target_port);
                        let theirs = endpoints(other, known.target_port);
                        let by_host = matches!(
                            own.0,
                            Endpoints::Name(_)
                                | Endpoints::OriginalDestination
                                | Endpoints::Requested
                        );
                        // For namespaces apart, what leads to the same endpoints is defined side by side.
                        known.number == port.number && (together || own != theirs || !by_host)
                    })
                });
                let (Some(port), true) = (shared, older) else { continue };
                let message = format!(
                    "{name}, which was created or written before it, defines `{host}` and port {} already",
                    port.number
                );
                report.push(
                    Diagnostic::warning(codes::CONFLICTING_HOST, origin(), message.clone())
                        .related("this one decides", other.origin().clone()),
                );
                report.conflict(origin(), message);
            } else {
                let message = format!(
                    "{name} has the host `{host}`: only the subject names of this object are used"
                );
                report.push(
                    Diagnostic::error(codes::CONFLICTING_HOST, origin(), message.clone())
                        .related("this one decides", other.origin().clone()),
                );
                report.conflict(origin(), message);
            }
        }
    }
}
