//! What a Sidecar says about connections to its own workload: ports, where the application listens, and limits.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_api::Object;
use heddle_api::istio::{IngressListener, Sidecar};
use heddle_ir::destination::ConnectionPool;
use heddle_ir::inbound::InboundPort;
use heddle_ir::protocol::Protocol;

use crate::istio::sidecar::Scoping;
use crate::istio::traffic_policy;
use crate::mesh::Mesh;
use crate::protocol;
use crate::report::Report;

/// What the kernel takes as the name of a socket, less the byte in front.
const ABSTRACT_BYTES_MAX: usize = 107;

/// The ports of a workload whose Sidecar lists them: only these are known, with the services that lead to them. `found`
/// are those that would be known without it. None where the Sidecar lists none.
pub(crate) fn ports(
    scoping: Option<&Arc<Scoping>>,
    mesh: &Mesh,
    found: &[InboundPort],
) -> Option<Vec<InboundPort>> {
    let object = &scoping?.object;
    let listeners = &object.spec.ingress;
    if listeners.is_empty() {
        return None;
    }
    let ports = listeners.iter().filter(|listener| !object.is_broken(listener.at));
    Some(ports.filter_map(|listener| port(object, listener, mesh, found)).collect())
}

fn port(
    object: &Object<Sidecar>,
    listener: &IngressListener,
    mesh: &Mesh,
    found: &[InboundPort],
) -> Option<InboundPort> {
    let written = &listener.port;
    let number = written.number.filter(|number| *number > 0)?;
    let known = found.iter().find(|port| port.port == number);
    let declared = written.protocol.as_deref().filter(|text| !text.is_empty());
    let spoken = match declared {
        Some(_) => protocol::of_port(declared, written.name.as_deref(), number),
        None => known.map_or(Protocol::Detect, |port| port.protocol),
    };
    let text = listener.default_endpoint.as_deref();
    let application = text.and_then(endpoint);
    let application_socket = text.and_then(abstract_socket).map(Into::into);
    let pool = listener.connection_pool.as_ref();
    // What there is to say about the object is said by its own report.
    let mut unused = Report::default();
    let pool = pool.map(|pool| traffic_policy::pool(&object.written, pool, mesh, &mut unused));
    Some(InboundPort {
        port: number,
        protocol: spoken,
        services: known.map(|port| port.services.clone()).unwrap_or_default(),
        probe_paths: known.map(|port| port.probe_paths.clone()).unwrap_or_default(),
        routes: known.and_then(|port| port.routes.clone()),
        application,
        application_socket,
        connection_pool: pool,
    })
}

/// Where the application listens; none for what is no address of the workload itself. The unspecified address stands for
/// the workload's own.
pub(super) fn endpoint(text: &str) -> Option<SocketAddr> {
    let own = |address: &SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
    text.parse().ok().filter(own).filter(|address| address.port() > 0)
}

/// The name of an abstract socket, without the sign that tells it from a path.
pub(super) fn abstract_socket(text: &str) -> Option<&str> {
    let name = text.strip_prefix("unix://@")?;
    (!name.is_empty() && name.len() <= ABSTRACT_BYTES_MAX && !name.contains('\0')).then_some(name)
}

/// The limits towards the application that a Sidecar sets for all ports.
pub(crate) fn connection_pool(
    scoping: Option<&Arc<Scoping>>,
    mesh: &Mesh,
) -> Option<ConnectionPool> {
    let object = &scoping?.object;
    let written = object.spec.inbound_connection_pool.as_ref()?;
    if object.is_broken(written.at) {
        return None;
    }
    Some(traffic_policy::pool(&object.written, written, mesh, &mut Report::default()))
}
