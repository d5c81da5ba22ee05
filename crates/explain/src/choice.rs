//! Which endpoints of a destination are picked, and how often.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_balance::{Balancer, Pick, Picked};
use heddle_ident::WorkloadId;
use heddle_ir::destination::{Destination, EndpointSource, LocalityPolicy};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth};
use heddle_ir::workload::{MeshTransport, Workload};

use crate::target::SOMEWHERE;

/// Picks that show which localities are preferred, and how much.
const PICKS: u64 = 1000;

/// An endpoint to be asked, with its share.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) workload: Option<WorkloadId>,
    pub(crate) address: SocketAddr,
    pub(crate) label: String,
    pub(crate) share: f64,
    /// How it takes connections; none where nothing is known of it.
    pub(crate) transport: Option<MeshTransport>,
}

/// Where requests to a destination go.
#[derive(Debug)]
pub(crate) enum Choice {
    /// To the address that the client connected to.
    Original,
    /// To the name that the client asks for, on this port.
    RequestedName(u16),
    /// To one of these, each a workload; with how they were found, in words.
    Endpoints(Vec<Chosen>, String),
}

impl Choice {
    pub(crate) fn of(
        destination: &Destination,
        endpoints: &[Arc<Endpoint>],
        caller: Option<&Workload>,
    ) -> Self {
        if let EndpointSource::RequestedName { port } = destination.endpoints {
            return Self::RequestedName(port);
        }
        let balancer = Balancer::new(destination, endpoints, caller, None, 0, 0);
        let (pick, slots) = (|random| pick(&balancer, random), balancer.slots());
        match pick(0) {
            Some(Picked::OriginalDestination) => return Self::Original,
            Some(Picked::Endpoint(_)) => {}
            None if slots.is_empty() => {
                return Self::Endpoints(Vec::new(), "no workload is behind it".into());
            }
            None => {
                let how = format!("none of {} endpoints is ready", slots.len());
                return Self::Endpoints(Vec::new(), how);
            }
        }
        if destination.locality == LocalityPolicy::Ignore {
            let healthy = |endpoint: &&Endpoint| endpoint.health == EndpointHealth::Healthy;
            let all = || slots.iter().map(|slot| &*slot.endpoint);
            let mut ready: Vec<(&Endpoint, f64)> =
                all().filter(healthy).map(|own| (own, f64::from(own.weight))).collect();
            if ready.is_empty() {
                // Health is ignored, or nothing would have been picked.
                ready = all().map(|own| (own, f64::from(own.weight))).collect();
            }
            let how = format!("{} of {} endpoints", ready.len(), slots.len());
            return Self::Endpoints(by_workload(&ready), how);
        }
        let mut counts = vec![0.0; slots.len()];
        for number in 0..PICKS {
            let random = (u64::MAX / PICKS).wrapping_mul(number);
            if let Some(Picked::Endpoint(place)) = pick(random)
                && let Some(count) = counts.get_mut(place)
            {
                *count += 1.0;
            }
        }
        let picked: Vec<(&Endpoint, f64)> = slots
            .iter()
            .map(|slot| &*slot.endpoint)
            .zip(counts)
            .filter(|(_, count)| *count > 0.0)
            .collect();
        let how = format!("{} of {} endpoints, by their locality", picked.len(), slots.len());
        Self::Endpoints(by_workload(&picked), how)
    }
}

fn pick(balancer: &Balancer, random: u64) -> Option<Picked> {
    balancer.pick(&Pick {
        hash: None,
        random,
        now_ms: 0,
        tried: &[],
        other_tiers: false,
        session: None,
    })
}

/// One endpoint of each workload, with the share of all of them.
pub(crate) fn by_workload(endpoints: &[(&Endpoint, f64)]) -> Vec<Chosen> {
    let total: f64 = endpoints.iter().map(|(_, weight)| weight).sum();
    let mut chosen: Vec<Chosen> = Vec::new();
    for (endpoint, weight) in endpoints {
        let share = weight / total;
        let label = label_of(endpoint);
        if let Some(known) = chosen.iter_mut().find(|known| known.label == label) {
            known.share += share;
            continue;
        }
        let address = match &endpoint.address {
            EndpointAddress::Address(address) => *address,
            // A name is resolved by the proxy; where to matters to nobody inside.
            EndpointAddress::Name(_, port) => SocketAddr::new(SOMEWHERE, *port),
        };
        let (workload, transport) = (endpoint.workload.clone(), Some(endpoint.transport));
        chosen.push(Chosen { workload, address, label, share, transport });
    }
    chosen
}

/// The workload of an endpoint; its address outside of the mesh.
fn label_of(endpoint: &Endpoint) -> String {
    if endpoint.workload.is_some() {
        return format!("{}/{}", endpoint.namespace, endpoint.workload_name);
    }
    match &endpoint.address {
        EndpointAddress::Address(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}
