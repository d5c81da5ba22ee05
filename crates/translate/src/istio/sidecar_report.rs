//! What there is to say about a Sidecar.

use std::sync::Arc;

use heddle_api::Object;
use heddle_api::istio::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficMode, ServerTlsMode, Sidecar,
};
use heddle_ident::{Host, HostPattern};

use crate::codes;
use crate::engine::Reader;
use crate::istio::gateway_report::check_bind;
use crate::istio::sidecar::{HostEntry, host_entry, is_bound, of_namespace};
use crate::istio::sidecar_inbound::{abstract_socket, endpoint};
use crate::istio::{selector, traffic_policy};
use crate::mesh::{Mesh, MeshKey};
use crate::protocol;
use crate::report::Report;
use crate::service::VisibleKey;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Arc<Object<Sidecar>>, report: &mut Report) {
    let spec = &object.spec;
    let mesh = reader.read(&MeshKey);
    let empty = spec.egress.is_empty()
        && spec.ingress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none();
    if empty && object.written.is_sound() && !object.written.has(spec.at, "egress") {
        report.rejected(object.origin().clone(), "the Sidecar says nothing");
    }
    check_selector(reader, &mesh, object, report);
    check_ingress(&mesh, object, report);
    check_egress(reader, object, report);
    if let Some(pool) = &spec.inbound_connection_pool {
        traffic_policy::pool(&object.written, pool, &mesh, report);
    }
    if let Some(policy) = &spec.outbound_traffic_policy {
        let of = |field: &str| object.origin_of(policy.at, field);
        if policy.mode.is_none() && !object.is_broken(policy.at) {
            let message = "a policy without mode means REGISTRY_ONLY";
            report.warning(codes::UPSTREAM_WARNING, object.origin_at(policy.at), message);
        }
        if let Some(proxy) = &policy.egress_proxy {
            if policy.mode != Some(OutboundTrafficMode::AllowAny) {
                report.rejected(of("egressProxy"), "an egress proxy needs the mode ALLOW_ANY");
            }
            if Host::parse(&proxy.host).is_err() {
                let origin = object.origin_of(proxy.at, "host");
                report.rejected(origin, format!("`{}` is not a host", proxy.host));
            }
            if proxy.port.as_ref().and_then(|port| port.number).is_none() {
                report.rejected(object.origin_of(proxy.at, "port"), "an egress proxy needs a port");
            }
            let why = "unknown destinations are connected to directly; route known ones through a gateway by a \
                       VirtualService";
            report.unsupported(of("egressProxy"), why);
        }
    }
}

fn check_selector(
    reader: &Reader<'_>,
    mesh: &Mesh,
    object: &Arc<Object<Sidecar>>,
    report: &mut Report,
) {
    let spec = &object.spec;
    let namespace: Arc<str> = object.meta.namespace.as_str().into();
    let others = of_namespace(reader, &namespace);
    let others = others.iter().filter(|other| !Arc::ptr_eq(other, object));
    let origin = || object.origin_of(spec.at, "workloadSelector");
    let Some(own) = &spec.workload_selector else {
        let mut same = others.filter(|other| other.spec.workload_selector.is_none());
        if let Some(other) = same.next() {
            let older = crate::object::by_age(&other.meta, &object.meta).is_lt();
            let decides = if older { other.meta.name.as_str() } else { object.meta.name.as_str() };
            let message = format!(
                "`{}` is for the whole namespace too: the older `{decides}` decides",
                other.meta.name
            );
            report.error(codes::SIDECARS_OF_NAMESPACE, object.origin().clone(), message.clone());
            if older {
                report.conflict(object.origin().clone(), message);
            }
        }
        return;
    };
    if *namespace == *mesh.root_namespace {
        report.rejected(origin(), "a Sidecar of the root namespace selects no workloads");
    }
    selector::check_pairs(&object.written, own.at, "labels", &own.labels, report);
    if own.labels.is_empty() {
        let message = "a selector without labels takes every workload of the namespace";
        report.warning(codes::UPSTREAM_WARNING, origin(), message);
        return;
    }
    let workloads = selector::selected(reader, &namespace, &own.labels);
    if workloads.is_empty() {
        let message = "no workload of the namespace has these labels";
        report.warning(codes::SIDECAR_SELECTS_NOTHING, origin(), message);
        return;
    }
    let mut shared: Vec<&str> = others
        .filter(|other| {
            other.spec.workload_selector.as_ref().is_some_and(|selector| {
                workloads
                    .iter()
                    .any(|facts| crate::client::selects(&selector.labels, &facts.labels))
            })
        })
        .map(|other| other.meta.name.as_str())
        .collect();
    shared.sort_unstable();
    if !shared.is_empty() {
        let message = format!(
            "`{}` selects some of these workloads too: the oldest decides",
            shared.join("`, `")
        );
        report.error(codes::SIDECARS_OF_WORKLOAD, origin(), message);
    }
}

fn check_egress(reader: &Reader<'_>, object: &Arc<Object<Sidecar>>, report: &mut Report) {
    let spec = &object.spec;
    let mut ports: Vec<u16> = Vec::new();
    let mut whole: Option<usize> = None;
    for (index, listener) in spec.egress.iter().enumerate() {
        if object.is_broken(listener.at) {
            continue;
        }
        let number = listener.port.as_ref().and_then(|port| port.number);
        let bind = listener.bind.as_deref().unwrap_or_default();
        let socket = bind.starts_with("unix://");
        match number.filter(|number| *number > 0) {
            Some(number) => {
                if ports.contains(&number) {
                    let origin = object.origin_of(listener.at, "port");
                    report.rejected(origin, format!("the port {number} stands twice"));
                }
                ports.push(number);
            }
            None if listener.port.is_none() => {
                if whole.is_some() {
                    let message = "only one listener may be without port";
                    report.rejected(object.origin_at(listener.at), message);
                }
                whole = Some(index);
                if !bind.is_empty() {
                    let origin = object.origin_of(listener.at, "bind");
                    report.rejected(origin, "a listener with an address of its own needs a port");
                }
            }
            None if !socket => {
                let origin = object.origin_of(listener.at, "port");
                report.rejected(origin, "the port needs a number");
            }
            None => {}
        }
        if whole.is_some_and(|first| first < index) {
            let message = "the listener without port comes last";
            report.rejected(object.origin_at(listener.at), message);
        }
        check_port(object, listener.port.as_ref(), report);
        check_bind(&object.written, listener.at, bind, report);
        if is_bound(listener) && !socket {
            let why = "nothing listens on addresses of its own: traffic is redirected; the hosts of this listener are \
                       not known by it";
            report.unsupported(object.origin_at(listener.at), why);
        }
        check_hosts(reader, object, listener, report);
    }
}

fn check_hosts(
    reader: &Reader<'_>,
    object: &Arc<Object<Sidecar>>,
    listener: &EgressListener,
    report: &mut Report,
) {
    if listener.hosts.is_empty() && !object.is_field_broken(listener.at, "hosts") {
        report.rejected(object.origin_of(listener.at, "hosts"), "a listener needs hosts");
    }
    let everything = listener.hosts.iter().any(|host| host == "*/*");
    for (index, text) in listener.hosts.iter().enumerate() {
        let origin = || object.origin_of_item(listener.at, "hosts", index);
        let Some(entry) = host_entry(text) else {
            report.rejected(origin(), format!("`{text}` is not `namespace/host`"));
            continue;
        };
        let (namespace, host, known) = match entry {
            HostEntry::Known(namespace, host) => (namespace, host, true),
            HostEntry::Excluded(namespace, host) => (namespace, host, false),
        };
        let label = !namespace.is_empty()
            && namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !matches!(namespace, "*" | ".") && !label {
            report.rejected(origin(), format!("`{namespace}` is not a namespace, `.` or `*`"));
            continue;
        }
        let Ok(pattern) = HostPattern::parse(host) else {
            report.rejected(origin(), format!("`{host}` is not a host"));
            continue;
        };
        if everything && known && text != "*/*" {
            let message = format!("`*/*` takes `{text}` already");
            report.warning(codes::UPSTREAM_WARNING, origin(), message);
        }
        if let (HostPattern::Exact(name), true) = (&pattern, known) {
            check_known(reader, object, name, origin, report);
        }
    }
}

/// A host that nobody has opens nothing.
fn check_known(
    reader: &Reader<'_>,
    object: &Arc<Object<Sidecar>>,
    name: &Host,
    origin: impl Fn() -> heddle_diag::Origin,
    report: &mut Report,
) {
    let visible = reader.read(&VisibleKey(object.meta.namespace.as_str().into()));
    let found = visible.iter().any(|service| service.host.matches(name.as_str()));
    if !found {
        let message = format!("no Service or ServiceEntry has the host `{name}`");
        report.info(codes::UNKNOWN_SIDECAR_HOST, origin(), message);
    }
}

fn check_port(
    object: &Object<Sidecar>,
    port: Option<&heddle_api::istio::SidecarPort>,
    report: &mut Report,
) {
    let Some(port) = port.filter(|port| !object.is_broken(port.at)) else { return };
    let declared = port.protocol.as_deref().unwrap_or_default();
    if !declared.is_empty() && protocol::parse(declared).is_none() {
        let origin = object.origin_of(port.at, "protocol");
        report.rejected(origin, format!("`{declared}` is not a protocol"));
    }
}

fn check_ingress(mesh: &Mesh, object: &Arc<Object<Sidecar>>, report: &mut Report) {
    let spec = &object.spec;
    let mut ports: Vec<u16> = Vec::new();
    for listener in &spec.ingress {
        if object.is_broken(listener.at) {
            continue;
        }
        let of = |field: &str| object.origin_of(listener.at, field);
        match listener.port.number.filter(|number| *number > 0) {
            Some(number) if ports.contains(&number) => {
                report.rejected(of("port"), format!("the port {number} stands twice"));
            }
            Some(number) => ports.push(number),
            None => report.rejected(of("port"), "the port needs a number"),
        }
        check_port(object, Some(&listener.port), report);
        let bind = listener.bind.as_deref().unwrap_or_default();
        if bind.starts_with("unix://") {
            report.rejected(of("bind"), "a workload's port is no socket in the file system");
        } else {
            check_bind(&object.written, listener.at, bind, report);
        }
        if !bind.is_empty() && !matches!(bind, "0.0.0.0" | "::") {
            let why = "the port is taken at every address of the workload";
            report.unsupported(of("bind"), why);
        }
        if listener.capture_mode == Some(CaptureMode::None) {
            let why = "connections to the port are redirected all the same";
            report.unsupported(of("captureMode"), why);
        }
        check_endpoint(object, listener, report);
        if let Some(pool) = &listener.connection_pool {
            traffic_policy::pool(&object.written, pool, mesh, report);
        }
        check_tls(object, listener, report);
    }
}

fn check_endpoint(object: &Object<Sidecar>, listener: &IngressListener, report: &mut Report) {
    let Some(text) = listener.default_endpoint.as_deref().filter(|text| !text.is_empty()) else {
        return;
    };
    let origin = || object.origin_of(listener.at, "defaultEndpoint");
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with('/') && abstract_socket(text).is_none() {
            let message = format!("`{text}` is neither `unix:///PATH` nor `unix://@NAME`");
            report.rejected(origin(), message);
        } else if path.starts_with('/') {
            let why = "the proxy does not see the application's files; requests to the port go to the port itself. An \
                       abstract socket (`unix://@NAME`) is reached";
            report.unsupported(origin(), why);
        }
        return;
    }
    if endpoint(text).is_none() {
        let message = format!("`{text}` is not `127.0.0.1:PORT`, `[::1]:PORT` or `0.0.0.0:PORT`");
        report.rejected(origin(), message);
    }
}

fn check_tls(object: &Object<Sidecar>, listener: &IngressListener, report: &mut Report) {
    let Some(tls) = &listener.tls else { return };
    let of = |field: &str| object.origin_of(tls.at, field);
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let mode = tls.mode.unwrap_or(ServerTlsMode::Passthrough);
    if matches!(mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        report.rejected(of("mode"), "TLS of a workload's own port is SIMPLE or MUTUAL");
    }
    let declared = listener.port.protocol.as_deref().unwrap_or_default().to_ascii_uppercase();
    if !matches!(declared.as_str(), "HTTPS" | "TLS") {
        report.rejected(of("mode"), "TLS settings need a port of protocol HTTPS or TLS");
    }
    for (field, set) in [
        ("httpsRedirect", tls.https_redirect == Some(true)),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("credentialName", set(&tls.credential_name)),
    ] {
        if set {
            report.rejected(of(field), format!("`{field}` is for gateways"));
        }
    }
    for (field, given) in [
        ("serverCertificate", set(&tls.server_certificate)),
        ("privateKey", set(&tls.private_key)),
        ("caCertificates", set(&tls.ca_certificates) || mode != ServerTlsMode::Mutual),
    ] {
        let terminates = matches!(mode, ServerTlsMode::Simple | ServerTlsMode::Mutual);
        if terminates && !given {
            report.rejected(of(field), format!("this mode needs `{field}`"));
        }
    }
    let why =
        "TLS that is not the mesh's goes to the application as it is; take it off at a Gateway";
    report.unsupported(object.origin_at(tls.at), why);
}
