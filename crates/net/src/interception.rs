//! Interception: which connections of a workload's network namespace go through its proxy.
//!
//! An [`Interception`] is a description; [`Interception::install`] makes the kernel follow it, at one
//! moment, replacing what an earlier call left. The meaning of the lists is that of Istio's
//! `traffic.sidecar.istio.io/*` annotations and its order of rules, since firewalls and runbooks rest
//! on it. Before a proxy is ready, [`hold`] lets nothing leave or enter.
//!
//! What is not TCP is not redirected, but for DNS. If the proxy is gone, redirected connections are
//! refused: nothing falls back to going around it.
//!
//! ```text
//! application ──▶ output:  own? pass · DNS ▶ 15053 · loopback? pass · excluded? pass · rest ▶ 15001
//! network     ──▶ prerouting:  15008 15020 15021 15090? pass · excluded? pass · rest ▶ 15006
//! proxy       ──▶ own address, over loopback ▶ 15006, unless it is a delivery to the application
//! ```
//!
//! A delivery to the application must be recognisable, or it would be taken for a call of the workload
//! to itself and go round for ever. It is when its socket carries the delivery mark, or is bound to
//! 127.0.0.6 or ::6 (which works without privilege, as in Istio), or goes to loopback.

mod install;
mod rules;
mod services;

pub use install::{hold, is_held};
pub use services::{SERVICE_ENDPOINTS_MAX, VirtualAddress, serve_virtual_addresses};

use std::net::{Ipv4Addr, Ipv6Addr};

use heddle_ident::Cidr;
use thiserror::Error;

use crate::namespace::NetworkNamespace;
use crate::netlink::NetlinkError;

/// The mark of the proxy's own packets: the number Istio uses for its user and its mark.
pub const PROXY_MARK: u32 = 1337;
/// The mark of the proxy's connections to the application beside it.
pub const DELIVERY_MARK: u32 = 1338;
/// The routing table that delivers marked packets locally, as in Istio.
pub const ROUTE_TABLE: u32 = 133;
/// Port of HBONE; like the three below it is never redirected.
pub const TUNNEL_PORT: u16 = 15008;
/// Ports that inbound interception always leaves alone: HBONE, merged metrics, health, statistics.
pub const RESERVED_PORTS: [u16; 4] = [TUNNEL_PORT, 15020, 15021, 15090];
/// What a delivery without a mark is bound to, IPv4.
pub const DELIVERY_SOURCE_IPV4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// What a delivery without a mark is bound to, IPv6. Put on loopback by [`Interception::install`].
pub const DELIVERY_SOURCE_IPV6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// At most so many entries in each list.
pub const ENTRIES_MAX: usize = 1024;

/// How the proxy's own packets are told from the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnPackets {
    /// By socket mark; the proxy needs CAP_NET_ADMIN or CAP_NET_RAW, the application must have neither.
    Mark(u32),
    /// By the user id it runs as; no privilege needed, no original source possible.
    User(u32),
}

/// What happens to connections from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundMode {
    /// They reach the application untouched.
    Off,
    /// They are redirected: the proxy asks for the original destination.
    Redirect,
    /// They are handed over as they are (TPROXY): the accepted socket has both original addresses.
    /// The listener must be transparent.
    Transparent,
}

/// Everything, or what is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<T> {
    /// `*`
    All,
    /// The entries only; an empty list is nothing.
    Only(Vec<T>),
}

/// The proxy's listening ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProxyPorts {
    /// Connections of the application to others.
    pub outbound: u16,
    /// Connections of others to the application.
    pub inbound: u16,
    /// DNS questions of the application, UDP and TCP. UDP must be bound to 127.0.0.1 and to ::1, not
    /// to the wildcard address: redirection sends questions there, and an answer under another address
    /// is not translated back.
    pub dns: u16,
}

impl Default for ProxyPorts {
    /// 15001, 15006, 15053.
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, dns: 15053 }
    }
}

/// What is intercepted in one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// How the proxy's own packets are told.
    pub own: OwnPackets,
    /// Where the proxy listens.
    pub ports: ProxyPorts,
    /// What happens to connections from the network.
    pub inbound: InboundMode,
    /// Which ports of the application (`includeInboundPorts`).
    pub inbound_ports: Selection<u16>,
    /// Ports left alone when `inbound_ports` is [`Selection::All`] (`excludeInboundPorts`).
    pub inbound_ports_exclude: Vec<u16>,
    /// Which destinations (`includeOutboundIPRanges`). Loopback counts only when it is listed.
    pub outbound_ranges: Selection<Cidr>,
    /// Destinations left alone (`excludeOutboundIPRanges`); wins over both inclusions.
    pub outbound_ranges_exclude: Vec<Cidr>,
    /// Destination ports taken whatever the address (`includeOutboundPorts`).
    pub outbound_ports: Vec<u16>,
    /// Destination ports left alone (`excludeOutboundPorts`), TCP and UDP; wins over everything.
    pub outbound_ports_exclude: Vec<u16>,
    /// Interfaces left alone, both ways (`excludeInterfaces`).
    pub interfaces_exclude: Vec<String>,
    /// Whether DNS questions of the application go to the proxy, whatever server they are for.
    pub capture_dns: bool,
    /// Whether the proxy may connect to the application under the client's own address. Only with
    /// [`OwnPackets::Mark`]; such sockets carry `delivery_mark`, and their source port is left to the
    /// kernel.
    pub original_source: bool,
    /// The mark of connections to the application. Ignored with [`OwnPackets::User`].
    pub delivery_mark: u32,
    /// The routing table for marked packets; it must be this value's own.
    pub route_table: u32,
}

impl Default for Interception {
    /// All TCP both ways by redirection, DNS, own packets by [`PROXY_MARK`].
    fn default() -> Self {
        Self {
            own: OwnPackets::Mark(PROXY_MARK),
            ports: ProxyPorts::default(),
            inbound: InboundMode::Redirect,
            inbound_ports: Selection::All,
            inbound_ports_exclude: Vec::new(),
            outbound_ranges: Selection::All,
            outbound_ranges_exclude: Vec::new(),
            outbound_ports: Vec::new(),
            outbound_ports_exclude: Vec::new(),
            interfaces_exclude: Vec::new(),
            capture_dns: true,
            original_source: false,
            delivery_mark: DELIVERY_MARK,
            route_table: ROUTE_TABLE,
        }
    }
}

/// Interception could not be set up or taken down.
#[derive(Debug, Error)]
pub enum InterceptionError {
    /// The description contradicts itself or exceeds a bound.
    #[error("the description of the interception is not usable: {0}")]
    Description(&'static str),
    /// The kernel refused the rules.
    #[error("cannot {action} in {namespace:?}")]
    Rules {
        /// What was tried, in words.
        action: &'static str,
        /// Where.
        namespace: NetworkNamespace,
        /// Why not.
        source: NetlinkError,
    },
}

impl InterceptionError {
    /// What to do about it, when something can be done on this host.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Rules { source, .. } = self else { return None };
        let open_errno = match source {
            NetlinkError::Open { source } => source.raw_os_error(),
            _ => None,
        };
        match source.errno().or(open_errno) {
            Some(libc::EPERM | libc::EACCES) => Some(
                "setting rules up needs CAP_NET_ADMIN in the user namespace that owns the network namespace",
            ),
            Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT) => Some(
                "the kernel lacks a part of nftables; it needs nf_tables with inet, nat, redir, ct, and tproxy for the transparent mode (`sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_ct nft_tproxy`)",
            ),
            _ => None,
        }
    }
}

impl Interception {
    /// Whether the description can be carried out, and if not, why.
    fn check(&self) -> Result<(), &'static str> {
        let ports = [self.ports.outbound, self.ports.inbound, self.ports.dns];
        if ports.contains(&0)
            || ports[0] == ports[1]
            || ports[0] == ports[2]
            || ports[1] == ports[2]
        {
            return Err("the proxy's ports must be three different ones");
        }
        match self.own {
            OwnPackets::Mark(0) => return Err("mark 0 is the mark of every packet"),
            OwnPackets::Mark(mark) if self.delivery_mark == 0 || mark == self.delivery_mark => {
                return Err("the delivery mark must not be 0 nor the proxy's mark");
            }
            OwnPackets::User(_) if self.needs_routes() => {
                return Err("TPROXY and original source need a mark, not a user id");
            }
            OwnPackets::Mark(_) | OwnPackets::User(_) => {}
        }
        if self.needs_routes() && matches!(self.route_table, 0 | 253..=255) {
            return Err("the routing table must not be one of the system's");
        }
        let counts = [
            self.inbound_ports.len(),
            self.inbound_ports_exclude.len(),
            self.outbound_ranges.len(),
            self.outbound_ranges_exclude.len(),
            self.outbound_ports.len(),
            self.outbound_ports_exclude.len(),
            self.interfaces_exclude.len(),
        ];
        if counts.iter().any(|count| *count > ENTRIES_MAX) {
            return Err("a list has more than 1024 entries");
        }
        if self.interfaces_exclude.iter().any(|name| name.is_empty() || name.len() > 15) {
            return Err("an interface name has 1 to 15 bytes");
        }
        Ok(())
    }

    fn needs_routes(&self) -> bool {
        self.original_source || self.inbound == InboundMode::Transparent
    }
}

impl<T> Selection<T> {
    fn len(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Only(entries) => entries.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_that_cannot_work_are_refused() {
        let base = Interception::default;
        let user = OwnPackets::User(1337);
        let cases = [
            (base(), true),
            (Interception { own: user, ..base() }, true),
            (Interception { own: user, inbound: InboundMode::Transparent, ..base() }, false),
            (Interception { own: user, original_source: true, ..base() }, false),
            (Interception { own: OwnPackets::Mark(0), ..base() }, false),
            (Interception { own: OwnPackets::Mark(DELIVERY_MARK), ..base() }, false),
            (Interception { original_source: true, route_table: 254, ..base() }, false),
            (Interception { route_table: 254, ..base() }, true),
            (Interception { interfaces_exclude: vec!["x".repeat(16)], ..base() }, false),
            (Interception { outbound_ports: vec![1; 1025], ..base() }, false),
            (
                Interception {
                    ports: ProxyPorts { inbound: 15001, ..ProxyPorts::default() },
                    ..base()
                },
                false,
            ),
        ];
        for (interception, usable) in cases {
            assert_eq!(interception.check().is_ok(), usable, "{interception:?}");
        }
    }
}
