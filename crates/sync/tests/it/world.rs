//! A small mesh to be sent: endpoint sets whose content is a number, and outbounds that refer to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_ident::{Host, NetworkName};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSet, EndpointSetKey};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::MeshTransport;
use heddle_proto::resource::{Encoded, encode};
use heddle_sync::Catalog;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

pub(crate) fn name(index: usize) -> ResourceName {
    ResourceName::Endpoints(key(index))
}

fn key(index: usize) -> EndpointSetKey {
    EndpointSetKey { host: Host::parse(&format!("h{index}")).unwrap(), port: 80 }
}

/// The set under `name(index)` with `content`.
pub(crate) fn resource(index: usize, content: u32) -> Resource {
    let endpoint = Endpoint {
        workload: None,
        address: EndpointAddress::Address("10.0.0.1:80".parse().unwrap()),
        weight: content,
        health: EndpointHealth::Healthy,
        labels: Arc::default(),
        identity: None,
        transport: MeshTransport::None,
        locality: heddle_ident::Locality::default(),
        network: NetworkName::new(""),
        namespace: "".into(),
        workload_name: "".into(),
        canonical_name: "".into(),
        canonical_revision: "".into(),
        hostname: Arc::default(),
        health_check: None,
    };
    let endpoints = vec![Arc::new(endpoint)];
    Resource::Endpoints(Arc::new(EndpointSet { key: key(index), endpoints }))
}

/// What [`resource`] put in.
pub(crate) fn content(resource: &Resource) -> u32 {
    let Resource::Endpoints(set) = resource else { unreachable!("only sets are made here") };
    set.endpoints[0].weight
}

/// The resources as the server has them.
#[derive(Default)]
pub(crate) struct World {
    contents: BTreeMap<ResourceName, Arc<Encoded>>,
    pub(crate) numbers: BTreeMap<ResourceName, u32>,
    /// How many resources were handed out.
    pub(crate) reads: usize,
}

impl World {
    pub(crate) fn set(&mut self, index: usize, content: u32) {
        self.contents.insert(name(index), Arc::new(encode(&resource(index, content))));
        self.numbers.insert(name(index), content);
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.contents.remove(&name(index));
        self.numbers.remove(&name(index));
    }
}

impl Catalog for World {
    fn resource(&mut self, name: &ResourceName) -> Option<Arc<Encoded>> {
        self.reads += 1;
        self.contents.get(name).cloned()
    }
}
