//! Mesh TLS that is passed on by its server name alone (AUTO_PASSTHROUGH): `outbound_.<port>_.<subset>_.<host>`.

use std::rc::Rc;
use std::sync::Arc;

use heddle_balance::Balancer;
use heddle_diag::Origin;
use heddle_ir::destination::ClientTls;
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{Outbound, OutboundKey, TcpBackend, TcpRule};
use heddle_route::CompiledRoutes;
use tokio::time::Instant;

use crate::find;
use crate::snapshot::{DestinationState, OutboundState};
use crate::worker::Worker;

/// What a server name asks for.
#[derive(PartialEq, Eq, Debug)]
struct Wanted<'a> {
    port: u16,
    subset: &'a str,
    host: &'a str,
}

impl<'a> Wanted<'a> {
    fn parse(server_name: &'a str) -> Option<Self> {
        let rest = server_name.strip_prefix("outbound_.")?;
        let (port, rest) = rest.split_once("_.")?;
        let (subset, host) = rest.split_once("_.")?;
        let port = port.parse().ok()?;
        (!host.is_empty()).then_some(Self { port, subset, host })
    }
}

/// Where such a stream goes: to the endpoints of the service as they are, since the TLS inside is theirs. None: there is no
/// such service, or it has no such subset that anything routes to.
pub(super) async fn outbound(worker: &Rc<Worker>, server_name: &str) -> Option<Arc<OutboundState>> {
    let Wanted { port, subset, host } = Wanted::parse(server_name)?;
    let snapshot = worker.shared.configuration.snapshot();
    // Nobody has proven anything yet: made up names must not fill what is asked for.
    if !snapshot.targets.has_host(host, port) {
        return None;
    }
    let scope = snapshot.settings.as_ref()?.scope.clone();
    let key = OutboundKey { scope, host: host.into(), port };
    let found = find::table(worker, &snapshot, &key).await?;
    let now_ms = worker.now_ms(Instant::now());
    let of_host = |state: &&Arc<DestinationState>| {
        let id = &state.destination.id;
        id.host.as_str() == host && id.port == port
    };
    let same = found.destinations.iter().filter(of_host);
    let same: Vec<&Arc<DestinationState>> = same.collect();
    let own = same.iter().find(|state| *state.destination.id.subset == *subset);
    let state = own.or_else(|| same.first().filter(|_| subset.is_empty()))?;
    Some(Arc::new(as_it_is(worker, state, &key, now_ms)))
}

/// The destination without TLS of its own, and nothing else to go to.
fn as_it_is(
    worker: &Worker,
    state: &DestinationState,
    key: &OutboundKey,
    now_ms: u64,
) -> OutboundState {
    let mut destination = (*state.destination).clone();
    destination.tls = ClientTls::Disable;
    let snapshot = worker.shared.configuration.snapshot();
    let set_key = EndpointSetKey { host: destination.id.host.clone(), port: destination.id.port };
    let endpoints = snapshot.endpoints(&set_key).map_or(&[][..], |set| &set.endpoints);
    let own = snapshot.settings.as_ref().map(|settings| &*settings.workload);
    let seed = worker.random();
    let balancer = Balancer::new(&destination, endpoints, own, None, seed, now_ms);
    let destination = Arc::new(destination);
    let origin = Origin::built_in("the server name of mesh TLS");
    let rule = TcpRule {
        origin: origin.clone(),
        destination_ranges: Vec::new(),
        backends: vec![TcpBackend { origin, destination: Some(0), weight: 1 }],
    };
    let outbound = Outbound {
        key: key.clone(),
        protocol: heddle_ir::protocol::Protocol::Tcp,
        host: Some(destination.id.host.clone()),
        http: heddle_ir::http_route::RouteTable {
            order: heddle_ir::http_route::RuleOrder::Written,
            rules: Vec::new(),
            tiers: Vec::new(),
        },
        tls: Vec::new(),
        tcp: vec![rule],
        destinations: vec![destination.clone()],
    };
    let (routes, _) = CompiledRoutes::compile(Arc::new(outbound));
    let limits = state.limits.clone();
    let state =
        Arc::new(DestinationState { destination, balancer, limits, credentials: Arc::default() });
    let used_at_ms = Arc::default();
    OutboundState { routes: Arc::new(routes), destinations: Arc::new([state]), used_at_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_of_the_mesh_are_read() {
        let parsed = Wanted::parse("outbound_.9080_.v2_.reviews.default.svc.cluster.local");
        let host = "reviews.default.svc.cluster.local";
        assert_eq!(parsed, Some(Wanted { port: 9080, subset: "v2", host }));
        let parsed = Wanted::parse("outbound_.80_._.a.b");
        assert_eq!(parsed, Some(Wanted { port: 80, subset: "", host: "a.b" }));
        for name in ["", "a.b", "outbound_.x_._.a", "outbound_.80_._.", "outbound_.80_.a"] {
            assert_eq!(Wanted::parse(name), None, "{name}");
        }
    }
}
