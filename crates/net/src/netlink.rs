//! A small blocking netlink client: links, addresses, routes, policy rules.
//!
//! Written here rather than taken from rtnetlink because nftables (which no well-kept permissive crate
//! speaks) needs the same message layer, and the dozen requests of this module do not pay for an async
//! stack. It is used at set-up and tear-down, never on the forwarding path.
//!
//! A socket belongs to the network namespace it was opened in; [`RouteSocket::open_in`] says which.

mod address;
mod link;
mod message;
mod route;
mod transport;

pub use address::Address;
pub use link::{Link, VethPair};
pub(crate) use message::{Attributes, Reply, Request, replies};
pub use route::{PolicyRule, Route, RouteKind};
pub use transport::NetlinkError;
pub(crate) use transport::{NETFILTER, Transport};

use crate::namespace::{NamespaceError, NetworkNamespace};

/// A socket for links, addresses, routes and rules of one network namespace.
#[derive(Debug)]
pub struct RouteSocket {
    transport: Transport,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { transport: Transport::open(transport::ROUTE)? })
    }

    /// Opens a socket in a namespace; it keeps acting on it whatever thread uses it.
    pub fn open_in(namespace: &NetworkNamespace) -> Result<Self, NetlinkError> {
        namespace.scoped(Self::open).map_err(NetlinkError::from)?
    }
}

impl From<NamespaceError> for NetlinkError {
    fn from(source: NamespaceError) -> Self {
        Self::Namespace { source }
    }
}
