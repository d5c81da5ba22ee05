//! Addresses of links.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::message::{Attributes, CREATE, REPLACE, Reply, Request, read_u32};
use super::{NetlinkError, RouteKind, RouteSocket};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `IFA_F_NODAD`: usable at once. The address plan of a mesh has no duplicates to detect.
const NO_DUPLICATE_DETECTION: u8 = 2;
/// The kernel needs some milliseconds; on an overloaded host some more.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a `struct ifaddrmsg`.
const HEADER_BYTES: usize = 8;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix that is reached directly over the link.
    pub prefix_bits: u8,
}

impl RouteSocket {
    /// Every address of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut addresses = Vec::new();
        self.transport.dump(
            Request::new(GET_ADDRESS, 0, &[0; HEADER_BYTES]),
            || "list addresses".to_owned(),
            |reply| addresses.extend(parse(&reply)),
        )?;
        Ok(addresses)
    }

    /// Adds an address, usable when this returns (or when the link is brought up); nothing happens when
    /// it is there already.
    pub fn add_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let request = build(NEW_ADDRESS, CREATE | REPLACE, address);
        self.transport.acknowledged(request, || {
            format!("add {}/{} to link {}", address.address, address.prefix_bits, address.link)
        })?;
        self.await_ipv6(address.link)
    }

    /// Waits until the IPv6 addresses of a link that is up can be used.
    ///
    /// The kernel takes IPv6 addresses into use in a job of its own, also without duplicate detection;
    /// for some milliseconds after the answer a connection to the address fails. There is no event for
    /// the end of that job that could not be missed, so the routing table is looked at.
    pub(super) fn await_ipv6(&mut self, link: u32) -> Result<(), NetlinkError> {
        let deadline = Instant::now() + IN_USE_TIMEOUT;
        loop {
            if !self.links()?.iter().any(|known| known.index == link && known.up) {
                return Ok(());
            }
            let routes = self.routes()?;
            let in_use = |address: &Address| {
                routes.iter().any(|route| {
                    route.kind == RouteKind::Local && route.destination.network() == address.address
                })
            };
            // Link-local addresses are the kernel's own affair and take part in duplicate detection.
            let awaited = |address: &Address| {
                let of_link = address.link == link && !in_use(address);
                of_link && matches!(address.address, IpAddr::V6(v6) if !v6.is_unicast_link_local())
            };
            let Some(missing) = self.addresses()?.into_iter().find(awaited) else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(NetlinkError::NotInUse { address: missing.address, link });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let request = build(DELETE_ADDRESS, 0, address);
        self.transport.acknowledged(request, || {
            format!("remove {}/{} from link {}", address.address, address.prefix_bits, address.link)
        })
    }
}

fn build(kind: u16, flags: u16, address: Address) -> Request {
    let mut header = [0; HEADER_BYTES];
    header[0] = family(address.address);
    header[1] = address.prefix_bits;
    header[2] = if address.address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
    header[4..8].copy_from_slice(&address.link.to_ne_bytes());
    let mut request = Request::new(kind, flags, &header);
    let bytes = octets(address.address);
    request.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    request
}

fn parse(reply: &Reply<'_>) -> Option<Address> {
    if reply.kind != NEW_ADDRESS {
        return None;
    }
    let attributes = Attributes(reply.payload.get(HEADER_BYTES..)?);
    let bytes = attributes.first(IFA_LOCAL).or_else(|| attributes.first(IFA_ADDRESS))?;
    Some(Address {
        link: read_u32(reply.payload, 4)?,
        address: parse_octets(bytes)?,
        prefix_bits: *reply.payload.get(1)?,
    })
}

/// `AF_INET` or `AF_INET6`, as netlink headers have it.
pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// The address in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn parse_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
}
