//! What Linkerd's objects say about the ports of a workload besides who may use them.

use std::collections::BTreeMap;

use heddle_ir::inbound::InboundPort;
use heddle_ir::protocol::Protocol;

use crate::engine::Reader;
use crate::linkerd::{inbound_route, server};
use crate::workload::Facts;

/// Puts into the ports of a workload what Servers and annotations say; `empty` makes one that nothing else knows.
pub(crate) fn ports(
    reader: &Reader<'_>,
    facts: &Facts,
    ports: &mut BTreeMap<u16, InboundPort>,
    empty: impl Fn(u16, Protocol) -> InboundPort,
) {
    for number in &facts.linkerd.opaque_ports {
        let port = ports.entry(*number).or_insert_with(|| empty(*number, Protocol::Tcp));
        port.protocol = Protocol::Tcp;
    }
    for (number, server) in server::of_workload(reader, facts) {
        let port = ports.entry(number).or_insert_with(|| empty(number, Protocol::Detect));
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
}
