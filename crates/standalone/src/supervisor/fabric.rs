//! The network of the mesh: a bridge in the supervisor's namespace, and a cable from it to every workload.
//!
//! Nothing here is visible on the host, and all of it ends with the supervisor's namespace. The calls block for
//! some milliseconds: they are made on threads for blocking work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

use heddle_ident::{Cidr, ParseCidrError};
use heddle_net::interception::{self, InterceptionError, OwnPackets, PROXY_MARK};
use heddle_net::namespace::{NamespaceError, NetworkNamespace};
use heddle_net::netlink::{Address, NetlinkError, Route, RouteSocket, VethPair};

/// The bridge's name; captures are taken there.
pub(crate) const BRIDGE: &str = "heddle0";
/// A workload's interface.
const INTERFACE: &str = "eth0";
/// Largest packet in bytes, that of Ethernet. Segments cross a veth pair unsplit whatever it is.
const MTU_BYTES: u32 = 1500;

/// The network could not be set up.
#[derive(Debug, Error)]
pub(crate) enum FabricError {
    /// A range of addresses is not one.
    #[error("range of workload addresses {range:?}")]
    Range {
        /// The text.
        range: String,
        /// Why not.
        source: ParseCidrError,
    },
    /// An address is not one, or in no range.
    #[error("workload address {address:?} is not in the mesh's ranges")]
    Address {
        /// The text.
        address: String,
    },
    /// A namespace could not be made.
    #[error("network namespace")]
    Namespace(#[from] NamespaceError),
    /// Links, addresses or routes.
    #[error("network of the mesh")]
    Netlink(#[from] NetlinkError),
    /// The rules that keep a workload from talking before its proxy is ready.
    #[error("interception")]
    Interception(#[from] InterceptionError),
}

/// The bridge with its addresses.
#[derive(Debug)]
pub(crate) struct Fabric {
    namespace: NetworkNamespace,
    bridge: u32,
    next_link: AtomicU32,
    ranges: Mutex<Vec<Cidr>>,
}

impl Fabric {
    /// Makes the bridge, without addresses, in the namespace of the calling thread.
    pub(crate) fn create() -> Result<Self, FabricError> {
        let mut socket = RouteSocket::open()?;
        socket.bring_up_loopback()?;
        let bridge = socket.create_bridge(BRIDGE)?;
        socket.set_mtu(bridge, MTU_BYTES)?;
        socket.set_up(bridge, true)?;
        Ok(Self {
            namespace: NetworkNamespace::current()?,
            bridge,
            next_link: AtomicU32::new(0),
            ranges: Mutex::default(),
        })
    }

    /// The namespace the bridge is in.
    pub(crate) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// Gives the bridge the first address of every range. Ranges are never taken away. Returns the bridge's
    /// addresses in the order of the ranges, and whether any of them is new.
    pub(crate) fn set_ranges(&self, texts: &[String]) -> Result<(Vec<IpAddr>, bool), FabricError> {
        let mut socket = RouteSocket::open_in(&self.namespace)?;
        let mut addresses = Vec::new();
        let mut grown = false;
        for text in texts {
            let range = Cidr::parse(text)
                .map_err(|source| FabricError::Range { range: text.clone(), source })?;
            let address = gateway(range);
            addresses.push(address);
            let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
            if !ranges.contains(&range) {
                let prefix_bits = range.prefix_bits();
                socket.add_address(Address { link: self.bridge, address, prefix_bits })?;
                ranges.push(range);
                grown = true;
            }
        }
        Ok((addresses, grown))
    }

    /// Makes a namespace for a workload and connects it. With `held`, nothing but the proxy's own packets
    /// leaves or enters it until its interception is installed.
    pub(crate) fn attach(&self, addresses: &[IpAddr], held: bool) -> Result<Port, FabricError> {
        let plan = addresses
            .iter()
            .map(|address| Ok((*address, self.range_of(*address)?)))
            .collect::<Result<Vec<_>, FabricError>>()?;
        let namespace = NetworkNamespace::create()?;
        if held {
            interception::hold(OwnPackets::Mark(PROXY_MARK), &namespace)?;
        }
        let number = self.next_link.fetch_add(1, Ordering::Relaxed);
        let name = format!("w{number}");
        let mut fabric = RouteSocket::open_in(&self.namespace)?;
        fabric.create_veth(&VethPair {
            name: &name,
            peer_name: INTERFACE,
            peer_namespace: Some(&namespace),
            peer_hardware_address: hardware_address(addresses),
            mtu_bytes: MTU_BYTES,
        })?;
        let port = Port { namespace, fabric: self.namespace.clone(), name };
        let link = fabric.link(&port.name)?.index;
        fabric.set_master(link, Some(self.bridge))?;
        fabric.set_up(link, true)?;
        allow_all_ports(&port.namespace)?;
        let mut inside = RouteSocket::open_in(&port.namespace)?;
        inside.bring_up_loopback()?;
        let own = inside.link(INTERFACE)?.index;
        for (address, range) in &plan {
            let prefix_bits = range.prefix_bits();
            inside.add_address(Address { link: own, address: *address, prefix_bits })?;
        }
        inside.set_up(own, true)?;
        for (_, range) in &plan {
            // Virtual addresses and those outside need a route too, or they would be unreachable before
            // interception sees them.
            inside.add_route(&Route::via(everything(*range), gateway(*range)))?;
        }
        Ok(port)
    }

    fn range_of(&self, address: IpAddr) -> Result<Cidr, FabricError> {
        let ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ranges.iter().find(|range| range.contains(address)).copied();
        found.ok_or_else(|| FabricError::Address { address: address.to_string() })
    }
}

/// A workload's place in the fabric. Dropping it cuts the cable; the namespace ends with its last process.
#[derive(Debug)]
pub(crate) struct Port {
    namespace: NetworkNamespace,
    fabric: NetworkNamespace,
    name: String,
}

impl Port {
    /// The workload's namespace.
    pub(crate) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Without this the other end would stay until the kernel has taken the namespace apart. An error
        // means that it is gone already.
        if let Ok(mut socket) = RouteSocket::open_in(&self.fabric)
            && let Ok(link) = socket.link(&self.name)
        {
            let _ = socket.delete_link(link.index);
        }
    }
}

/// Lets programs without capabilities listen on ports below 1024 and ping, as container runtimes do.
fn allow_all_ports(namespace: &NetworkNamespace) -> Result<(), NamespaceError> {
    namespace.run(|| {
        for (setting, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 0")] {
            // A host whose settings cannot be written still runs everything above port 1024.
            if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value) {
                tracing::warn!(setting, %error, "cannot set a network setting of a workload");
            }
        }
    })
}

/// The first address of a range: the bridge's.
fn gateway(range: Cidr) -> IpAddr {
    match range.network() {
        IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() | 1).into(),
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | 1).into(),
    }
}

/// All addresses of the family of a range.
fn everything(range: Cidr) -> Cidr {
    let zero: IpAddr = match range.network() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Cidr::new(zero, 0).unwrap_or(range)
}

/// The hardware address that goes with a workload's addresses. A replica takes over the addresses of the one it
/// replaces, and its neighbours go on with the hardware address that they remember for half a minute.
fn hardware_address(addresses: &[IpAddr]) -> Option<[u8; 6]> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            // Locally administered, unicast (IEEE 802 section 8.4).
            Some([0x02, 0x68, a, b, c, d])
        }
        IpAddr::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_has_the_first_address_of_each_range() {
        for (range, address) in [
            ("10.244.0.0/16", "10.244.0.1"),
            ("10.244.7.9/16", "10.244.0.1"),
            ("fd00:244::/64", "fd00:244::1"),
        ] {
            let range = Cidr::parse(range).unwrap();
            assert_eq!(gateway(range).to_string(), address);
        }
        assert_eq!(everything(Cidr::parse("10.0.0.0/8").unwrap()).to_string(), "0.0.0.0/0");
        assert_eq!(everything(Cidr::parse("fd00::/8").unwrap()).to_string(), "::/0");
    }
}
