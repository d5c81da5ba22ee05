//! The listeners of gateway workloads, put together from every dialect that writes some.
//!
//! What a gateway serves depends on its namespace and labels alone, so it is derived by scope ([`ListenersKey`]) and
//! the same for all replicas; `explain` asks for gateways that no pod runs yet in the same way. A dialect contributes
//! [`Served`] servers and knows nothing of the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ir::destination::Destination;
use heddle_ir::gateway::{Gateway, Listener, Server};
use heddle_ir::outbound::ScopeId;

use crate::client::Client;
use crate::destinations::Destinations;
use crate::endpoint::target_number;
use crate::engine::{Derivation, Reader};
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
        let mut destinations = Destinations::new(reader, Client::at_gateway(&scope, "", 0));
        istio::gateway::add(reader, &scope, &mut served, &mut destinations);
        Arc::new(Listeners { listeners: by_port(served), destinations: destinations.into_list() })
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
        let targets: BTreeMap<u16, u16> = ports
            .filter_map(|port| Some((port.number, target_number(port, Some(&facts))?)))
            .collect();
        for listener in &mut gateway.listeners {
            listener.port = targets.get(&listener.port).copied().unwrap_or(listener.port);
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

/// Servers of one address and port share a listener; the order within it is that of the dialects and their objects.
fn by_port(served: Vec<Served>) -> Vec<Listener> {
    let mut listeners: BTreeMap<(u16, Option<IpAddr>), Listener> = BTreeMap::new();
    for Served { port, bind, proxy_protocol, server } in served {
        let listener = listeners.entry((port, bind)).or_insert_with(|| Listener {
            port,
            bind,
            proxy_protocol,
            servers: Vec::new(),
        });
        listener.proxy_protocol |= proxy_protocol;
        listener.servers.push(server);
    }
    listeners.into_values().collect()
}
