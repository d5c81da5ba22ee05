//! The compact index: what a proxy must know of everything, so that it can ask for the rest.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_ident::{Cidr, Host, HostPattern};

use crate::protocol::Protocol;

/// Visible names, virtual addresses and address ranges of one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Index {
    /// Every visible service.
    pub frontends: Vec<Frontend>,
    /// Hosts whose routes are found by the request's authority, per port.
    pub routed_hosts: Vec<RoutedHost>,
    /// Addresses inside these belong to the mesh: a destination there whose policy has not come is never passed through.
    pub mesh_ranges: Vec<Cidr>,
    /// What happens to destinations outside.
    pub unknown_destinations: UnknownDestinations,
    /// Networks outside of the mesh with routes of their own, on every port. The first that holds an address counts, where
    /// no frontend does.
    pub networks: Vec<NetworkFrontend>,
}

/// Addresses outside of the mesh with routes of their own (Linkerd's EgressNetwork).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkFrontend {
    /// [`crate::outbound::OutboundKey::host`] of the tables; none: it has no routes, and nothing after it is asked.
    pub table: Option<Arc<str>>,
    /// The addresses; empty: every address.
    pub ranges: Vec<Cidr>,
    /// Those that are not meant.
    pub except: Vec<Cidr>,
}

/// What happens to a destination that is in no range of the mesh and that no frontend names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum UnknownDestinations {
    /// Passed through (Istio's ALLOW_ANY).
    #[default]
    PassThrough,
    /// Refused (Istio's REGISTRY_ONLY).
    Refuse,
}

/// One service as clients address it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Its full name.
    pub host: HostPattern,
    /// Virtual addresses that DNS answers with; empty for a headless service or one known by name alone.
    pub addresses: Vec<IpAddr>,
    /// Address ranges that a ServiceEntry lists.
    pub ranges: Vec<Cidr>,
    /// Service ports.
    pub ports: Vec<FrontendPort>,
    /// DNS answers with the addresses of the endpoints (headless services).
    pub headless: bool,
}

/// A port of a frontend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendPort {
    /// The service port.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Says that requests on `port` whose authority matches `host` have routes of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutedHost {
    /// The hosts. Where several match, the most specific counts.
    pub host: HostPattern,
    /// The port on which they are visible.
    pub port: u16,
    /// [`crate::outbound::OutboundKey::host`] of the table.
    pub table: Arc<str>,
}

impl Frontend {
    /// The host, unless it is a wildcard.
    pub fn exact_host(&self) -> Option<&Host> {
        match &self.host {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        }
    }
}
