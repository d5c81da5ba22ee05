//! Links: veth pairs, bridges, their state.

use std::os::fd::AsRawFd;

use super::message::{Attributes, CREATE, EXCLUSIVE, Reply, Request, read_i32, read_u32};
use super::{NetlinkError, RouteSocket};
use crate::namespace::NetworkNamespace;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_NAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINK_INFO: u16 = 18;
const IFLA_NAMESPACE_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const UP: u32 = 1;
/// Bytes of a `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu_bytes: u32,
    /// The bridge it belongs to.
    pub master: Option<u32>,
    /// Its hardware address, when it has one of six bytes.
    pub hardware_address: Option<[u8; 6]>,
}

/// A veth pair to be made: two interfaces, a cable between them.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// The end in the socket's own namespace.
    pub name: &'a str,
    /// The other end.
    pub peer_name: &'a str,
    /// Where the other end goes; none is the socket's own namespace.
    pub peer_namespace: Option<&'a NetworkNamespace>,
    /// Hardware address of the other end; none: the kernel draws one.
    pub peer_hardware_address: Option<[u8; 6]>,
    /// Largest packet in bytes, both ends.
    pub mtu_bytes: u32,
}

impl RouteSocket {
    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.transport.dump(
            Request::new(GET_LINK, 0, &header(0, 0, 0)),
            || "list links".to_owned(),
            |reply| links.extend(parse(&reply)),
        )?;
        Ok(links)
    }

    /// The link of a name.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| NetlinkError::NoLink { name: name.to_owned() })
    }

    /// Makes a veth pair; both ends are down.
    pub fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let mut request = Request::new(NEW_LINK, CREATE | EXCLUSIVE, &header(0, 0, 0));
        request.text(IFLA_NAME, pair.name).u32_native(IFLA_MTU, pair.mtu_bytes);
        request.nested(IFLA_LINK_INFO, |info| {
            info.text(INFO_KIND, "veth").nested(INFO_DATA, |data| {
                data.nested(VETH_PEER, |peer| {
                    peer.raw(&header(0, 0, 0)).text(IFLA_NAME, pair.peer_name);
                    peer.u32_native(IFLA_MTU, pair.mtu_bytes);
                    if let Some(address) = pair.peer_hardware_address {
                        peer.bytes(IFLA_ADDRESS, &address);
                    }
                    if let Some(namespace) = pair.peer_namespace {
                        namespace_attribute(peer, namespace);
                    }
                });
            });
        });
        let operation = || format!("make the veth pair {} and {}", pair.name, pair.peer_name);
        self.transport.acknowledged(request, operation)
    }

    /// Makes a bridge; it is down. Its number is returned.
    pub fn create_bridge(&mut self, name: &str) -> Result<u32, NetlinkError> {
        let mut request = Request::new(NEW_LINK, CREATE | EXCLUSIVE, &header(0, 0, 0));
        request.text(IFLA_NAME, name).nested(IFLA_LINK_INFO, |info| {
            info.text(INFO_KIND, "bridge");
        });
        self.transport.acknowledged(request, || format!("make the bridge {name}"))?;
        Ok(self.link(name)?.index)
    }

    /// Removes a link; the other end of a veth pair goes with it.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let request = Request::new(DELETE_LINK, 0, &header(index, 0, 0));
        self.transport.acknowledged(request, || format!("remove link {index}"))
    }

    /// Brings a link up or down. When it is up, its addresses can be used.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let request = Request::new(SET_LINK, 0, &header(index, if up { UP } else { 0 }, UP));
        let word = if up { "up" } else { "down" };
        self.transport.acknowledged(request, || format!("bring link {index} {word}"))?;
        if up { self.await_ipv6(index) } else { Ok(()) }
    }

    /// Puts a link into a bridge; none takes it out.
    pub fn set_master(&mut self, index: u32, bridge: Option<u32>) -> Result<(), NetlinkError> {
        let mut request = Request::new(SET_LINK, 0, &header(index, 0, 0));
        request.u32_native(IFLA_MASTER, bridge.unwrap_or(0));
        self.transport.acknowledged(request, || format!("put link {index} into bridge {bridge:?}"))
    }

    /// Sets the largest packet.
    pub fn set_mtu(&mut self, index: u32, mtu_bytes: u32) -> Result<(), NetlinkError> {
        let mut request = Request::new(SET_LINK, 0, &header(index, 0, 0));
        request.u32_native(IFLA_MTU, mtu_bytes);
        self.transport.acknowledged(request, || format!("set the MTU of link {index}"))
    }

    /// Renames a link; it should be down.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        let mut request = Request::new(SET_LINK, 0, &header(index, 0, 0));
        request.text(IFLA_NAME, name);
        self.transport.acknowledged(request, || format!("rename link {index} to {name}"))
    }

    /// Moves a link into another namespace, where it is down and has lost its addresses.
    pub fn move_link(&mut self, index: u32, to: &NetworkNamespace) -> Result<(), NetlinkError> {
        let mut request = Request::new(SET_LINK, 0, &header(index, 0, 0));
        namespace_attribute(&mut request, to);
        self.transport.acknowledged(request, || format!("move link {index} to {to:?}"))
    }

    /// Brings loopback up, without which a new namespace cannot talk to itself.
    pub fn bring_up_loopback(&mut self) -> Result<(), NetlinkError> {
        let loopback = self.link("lo")?;
        self.set_up(loopback.index, true)
    }
}

fn namespace_attribute(request: &mut Request, namespace: &NetworkNamespace) {
    use std::os::fd::AsFd;
    let descriptor = namespace.as_fd().as_raw_fd();
    request.bytes(IFLA_NAMESPACE_FD, &descriptor.to_ne_bytes());
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn parse(reply: &Reply<'_>) -> Option<Link> {
    if reply.kind != NEW_LINK {
        return None;
    }
    let index = u32::try_from(read_i32(reply.payload, 4)?).ok()?;
    let flags = read_u32(reply.payload, 8)?;
    let attributes = Attributes(reply.payload.get(HEADER_BYTES..)?);
    Some(Link {
        index,
        name: attributes.text(IFLA_NAME)?.to_owned(),
        up: flags & UP != 0,
        mtu_bytes: attributes.u32_native(IFLA_MTU).unwrap_or(0),
        master: attributes.u32_native(IFLA_MASTER).filter(|master| *master != 0),
        hardware_address: attributes.first(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()),
    })
}
