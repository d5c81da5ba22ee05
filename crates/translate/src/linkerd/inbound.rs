//! What Linkerd's objects say about the ports of a workload besides who may use them.

use heddle_ir::inbound::InboundPort;
use heddle_ir::protocol::Protocol;

use crate::engine::Reader;
use crate::linkerd::{inbound_route, server};
use crate::workload::Facts;

/// The ports of a workload with what Servers and annotations say about them.
pub(crate) fn ports(
    reader: &Reader<'_>,
    facts: &Facts,
    mut ports: Vec<InboundPort>,
) -> Vec<InboundPort> {
    for number in &facts.linkerd.opaque_ports {
        entry(&mut ports, *number).protocol = Protocol::Tcp;
    }
    for (number, server) in server::of_workload(reader, facts) {
        let port = entry(&mut ports, number);
        if let Some(protocol) = server::protocol(&server.spec) {
            port.protocol = protocol;
        }
        port.routes = inbound_route::table(reader, &server);
        if port.routes.is_some() {
            // Health checks need a route of their own then (API.md hazard 17).
            port.probe_paths.clear();
            // Routes are for requests, so the port is looked into.
            if port.protocol == Protocol::Tcp && server.spec.proxy_protocol.is_none() {
                port.protocol = Protocol::Detect;
            }
        }
    }
    ports.sort_by_key(|port| port.port);
    ports
}

/// The port of a number, added where nothing else knows it.
fn entry(ports: &mut Vec<InboundPort>, number: u16) -> &mut InboundPort {
    let index = ports.iter().position(|port| port.port == number).unwrap_or_else(|| {
        ports.push(InboundPort {
            port: number,
            protocol: Protocol::Detect,
            services: Vec::new(),
            probe_paths: Vec::new(),
            routes: None,
            application: None,
            application_socket: None,
            connection_pool: None,
        });
        ports.len() - 1
    });
    &mut ports[index]
}
