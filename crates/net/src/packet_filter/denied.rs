//! What the kernel has dropped: counts of all, and the beginning of some, so that an operator learns who tried what.
//!
//! A packet tells addresses, a protocol, ports. Who is behind an address it does not tell, nor which program sent it, nor
//! what was asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{PacketFilterError, TABLE};
use crate::namespace::NetworkNamespace;
use crate::netlink::{Attributes, NETFILTER, Request, Transport, replies};
use crate::nftables::{Rule, counters};
use crate::option;

/// The group that packets are told to, within the namespace.
const GROUP: u16 = 1337;
/// Enough for the headers.
const BYTES: u32 = 80;
/// Packets of one rule that are told, a second; all are counted.
const PER_SECOND: u64 = 10;
const BURST: u32 = 20;

const LOG_PACKET: u16 = 4 << 8;
const LOG_CONFIG: u16 = LOG_PACKET | 1;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_MODE: u16 = 2;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// More than the kernel puts into one datagram.
const BUFFER_BYTES: usize = 64 * 1024;

/// What has dropped a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeniedBy {
    /// Packets that leave, not such that enter.
    pub leaving: bool,
    /// The place of the rule in [`heddle_ir::packet::PacketRules::deny`]; none: no rule allows it.
    pub rule: Option<usize>,
}

/// A packet that was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeniedPacket {
    /// By what.
    pub by: DeniedBy,
    /// The number of the protocol above IP.
    pub protocol: u8,
    /// Where it came from.
    pub source: IpAddr,
    /// Where it was going.
    pub destination: IpAddr,
    /// Source and destination port, of protocols that have some.
    pub ports: Option<(u16, u16)>,
}

impl DeniedBy {
    /// The name of its counter, and the word in what is told.
    pub(super) fn name(self) -> String {
        let way = if self.leaving { "output" } else { "input" };
        match self.rule {
            Some(place) => format!("{way}-{place}"),
            None => format!("{way}-default"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (way, place) = name.split_once('-')?;
        let leaving = match way {
            "output" => true,
            "input" => false,
            _ => return None,
        };
        let rule = if place == "default" { None } else { Some(place.parse().ok()?) };
        Some(Self { leaving, rule })
    }
}

/// The rules that drop what `matches` matches: some of it is told, all of it counted.
pub(super) fn dropping(matches: Rule, by: DeniedBy) -> [Rule; 2] {
    let name = by.name();
    let told = matches.clone().limit(PER_SECOND, BURST).log(GROUP, &name, BYTES);
    [told, matches.count(&name).drop_packet()]
}

/// How many packets each rule has dropped since the filter was installed; those that have dropped none are left out.
pub fn denied_counts(
    namespace: &NetworkNamespace,
) -> Result<Vec<(DeniedBy, u64)>, PacketFilterError> {
    let counted = counters(namespace, TABLE).map_err(|source| PacketFilterError::Rules {
        action: "read the counts of dropped packets",
        namespace: namespace.clone(),
        source,
    })?;
    let named = counted.into_iter().filter(|(_, packets)| *packets > 0);
    Ok(named.filter_map(|(name, packets)| Some((DeniedBy::parse(&name)?, packets))).collect())
}

/// Listens to what is dropped in a namespace. One can at a time.
#[derive(Debug)]
pub struct DeniedPackets {
    socket: AsyncFd<OwnedFd>,
}

impl DeniedPackets {
    /// Listens from now on. Needs CAP_NET_ADMIN in the user namespace that owns the network namespace, and an event loop
    /// around it.
    pub fn listen(namespace: &NetworkNamespace) -> Result<Self, PacketFilterError> {
        let failed = |source| PacketFilterError::Rules {
            action: "listen to dropped packets",
            namespace: namespace.clone(),
            source,
        };
        let mut transport = namespace
            .scoped(|| Transport::open(NETFILTER))
            .map_err(PacketFilterError::from)?
            .map_err(failed)?;
        let [high, low] = GROUP.to_be_bytes();
        for (kind, value) in [
            (CONFIG_COMMAND, vec![BIND]),
            // How much is copied, how, and a byte of padding.
            (CONFIG_MODE, [&BYTES.to_be_bytes()[..], &[COPY_PACKET, 0]].concat()),
        ] {
            let mut request = Request::new(LOG_CONFIG, 0, &[0, 0, high, low]);
            request.bytes(kind, &value);
            transport
                .acknowledged(request, || "tell of dropped packets".to_owned())
                .map_err(failed)?;
        }
        let socket = transport.into_socket();
        let open = || {
            socket.set_nonblocking(true)?;
            option::watch(socket.into(), Interest::READABLE)
        };
        let socket = open().map_err(|source| PacketFilterError::Listen { source })?;
        Ok(Self { socket })
    }

    /// The next packets that were dropped, of those that are told.
    pub async fn next(&self) -> io::Result<Vec<DeniedPacket>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            let read = ready.try_io(|socket| {
                let flags = RecvFlags::empty();
                let (count, _) = rustix::net::recv(socket.get_ref(), &mut buffer[..], flags)?;
                Ok(count)
            });
            match read {
                Err(_) => {}
                // The kernel had more to tell than there was room for; the counts have them all.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(count)) => {
                    let packets: Vec<DeniedPacket> = packets(&buffer[..count]).collect();
                    if !packets.is_empty() {
                        return Ok(packets);
                    }
                }
            }
        }
    }
}

fn packets(datagram: &[u8]) -> impl Iterator<Item = DeniedPacket> {
    replies(datagram).filter(|reply| reply.kind == LOG_PACKET).filter_map(|reply| {
        let attributes = Attributes(reply.payload.get(4..)?);
        let by = DeniedBy::parse(attributes.text(PREFIX)?)?;
        packet(by, attributes.first(PAYLOAD)?)
    })
}

/// Reads the headers of a packet; none for what is no IP. Extension headers of IPv6 are not looked behind.
fn packet(by: DeniedBy, bytes: &[u8]) -> Option<DeniedPacket> {
    let (protocol, source, destination, above) = match bytes.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            let header_bytes = usize::from(bytes[0] & 15) * 4;
            (*bytes.get(9)?, address(12)?, address(16)?, bytes.get(header_bytes..)?)
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            (*bytes.get(6)?, address(8)?, address(24)?, bytes.get(40..)?)
        }
        _ => return None,
    };
    let has_ports =
        matches!(protocol, crate::nftables::TCP | crate::nftables::UDP | crate::nftables::SCTP);
    let port = |at: usize| Some(u16::from_be_bytes(above.get(at..at + 2)?.try_into().ok()?));
    let ports = has_ports.then(|| Some((port(0)?, port(2)?))).flatten();
    Some(DeniedPacket { by, protocol, source, destination, ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for leaving in [false, true] {
            for rule in [None, Some(0), Some(12)] {
                let by = DeniedBy { leaving, rule };
                assert_eq!(DeniedBy::parse(&by.name()), Some(by));
            }
        }
        for name in ["", "output", "output-", "output-x", "forward-1", "input--1"] {
            assert_eq!(DeniedBy::parse(name), None, "{name}");
        }
    }

    #[test]
    fn headers_that_are_cut_tell_nothing() {
        let by = DeniedBy { leaving: true, rule: None };
        let mut udp = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        udp.extend([0x10, 0, 0x13, 0x88, 0, 9, 0, 0, 1]);
        let read = packet(by, &udp).unwrap();
        assert_eq!((read.protocol, read.ports), (17, Some((4096, 5000))));
        assert_eq!(read.destination, IpAddr::from([10, 0, 0, 2]));
        for cut in 0..20 {
            assert_eq!(packet(by, &udp[..cut]), None, "{cut}");
        }
        assert_eq!(packet(by, &udp[..22]).unwrap().ports, None);
        let mut icmp = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        icmp.extend([0; 32]);
        icmp.extend([128, 0, 0, 0, 0, 0, 0, 0]);
        let read = packet(by, &icmp).unwrap();
        assert_eq!((read.protocol, read.ports), (58, None));
        assert_eq!(packet(by, &[0x10; 60]), None);
    }
}
