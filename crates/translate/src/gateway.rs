//! The listeners of gateway workloads, put together from every dialect that writes some.
//!
//! What a gateway serves depends on its namespace and labels alone, so it is derived by scope ([`ListenersKey`]) and
//! the same for all replicas; `explain` asks for gateways that no pod runs yet in the same way. A dialect contributes
//! [`Served`] servers and knows nothing of the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ir::destination::Destination;
use heddle_ir::gateway::{Gateway, Listener, Server, ServerProtocol};
use heddle_ir::outbound::ScopeId;
use heddle_ir::protocol::Protocol;

use crate::client::Client;
use crate::destinations::Destinations;
use crate::endpoint::target_number;
use crate::engine::{Derivation, Reader};
use crate::gateway_api;
use crate::inbound::services_of;
use crate::istio;
use crate::object::ObjectKey;
use crate::scope::Scope;
use crate::workload::WorkloadKey;

/// What gateway workloads of a scope listen on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ListenersKey(pub(crate) ScopeId);

/// The gateway resource of a Pod that is a gateway.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct GatewayKey(pub(crate) ObjectKey);

/// What gateway workloads of a scope listen on.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) destinations: Vec<Arc<Destination>>,
}

/// A server and where it listens.
pub(crate) struct Served {
    pub(crate) port: u16,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) proxy_protocol: bool,
    pub(crate) server: Server,
}

impl Derivation for ListenersKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Listeners> {
        let Some(scope) = Scope::parse(&self.0) else { return Arc::default() };
        // Dialects append their servers here, and their destinations to the list that routes refer to by index.
        let mut served: Vec<Served> = Vec::new();
        let mut shared = Destinations::new(reader, Client::at_gateway(&scope, "", 0));
        istio::gateway::add(reader, &scope, &mut served, &mut shared);
        let mut destinations = shared.into_list();
        served.extend(gateway_api::servers::of_scope(reader, &scope, &mut destinations));
        Arc::new(Listeners { listeners: by_port(served), destinations })
    }
}

impl Derivation for GatewayKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Gateway>> {
        let facts = reader.read(&WorkloadKey(self.0.clone()))?;
        if !facts.is_gateway {
            return None;
        }
        let listeners = reader.read(&ListenersKey(facts.scope.clone()));
        let mut gateway = of_workload(&listeners, facts.id.clone());
        // What is written is the port that clients call; where a Service leads to another one, that is listened on.
        let services = services_of(reader, &facts);
        let ports = services.iter().flat_map(|service| &service.ports);
        let targets: BTreeMap<(u16, bool), u16> = ports
            .filter_map(|port| {
                let is_udp = port.protocol == Protocol::Udp;
                Some(((port.number, is_udp), target_number(port, Some(&facts))?))
            })
            .collect();
        for listener in &mut gateway.listeners {
            let called = (listener.port, listener.is_udp());
            if let Some(target) = targets.get(&called).filter(|target| **target != called.0) {
                (listener.client_port, listener.port) = (called.0, *target);
            }
        }
        Some(Arc::new(gateway))
    }
}

/// The gateway of one workload.
pub(crate) fn of_workload(listeners: &Listeners, workload: heddle_ident::WorkloadId) -> Gateway {
    Gateway {
        workload,
        listeners: listeners.listeners.clone(),
        destinations: listeners.destinations.clone(),
    }
}

/// Servers of one address and port share a listener, those of datagrams one of their own; the order within it is that of the dialects and their objects.
fn by_port(served: Vec<Served>) -> Vec<Listener> {
    let mut listeners: BTreeMap<(u16, Option<IpAddr>, bool), Listener> = BTreeMap::new();
    for Served { port, bind, proxy_protocol, server } in served {
        let is_udp = matches!(server.protocol, ServerProtocol::Udp(_));
        let listener = listeners.entry((port, bind, is_udp)).or_insert_with(|| Listener {
            port,
            client_port: 0,
            bind,
            proxy_protocol,
            servers: Vec::new(),
        });
        listener.proxy_protocol |= proxy_protocol;
        listener.servers.push(server);
    }
    listeners.into_values().collect()
}
