//! What the kernel lets pass besides what goes through a proxy.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use heddle_ident::Cidr;
use heddle_ir::packet::{AddressTest, PacketProtocol, PacketRule, PacketRules};
use heddle_net::interception::{DELIVERY_MARK, Interception, OwnPackets, PROXY_MARK, ProxyPorts};
use heddle_net::packet_filter::{
    DeniedBy, DeniedPacket, DeniedPackets, PacketFilter, denied_counts,
};
use heddle_net::socket::{SocketFactory, original_destination};
use tokio::net::UdpSocket;

use crate::harness::{Test, block_on};
use crate::topology::{IMPATIENCE, PATIENCE, Workload, listen, meet, two_workloads};

pub(crate) const TESTS: &[Test] = &[
    ("packet_filter::datagrams_pass_as_their_rules_say", datagrams),
    ("packet_filter::icmp_passes_by_its_type", icmp),
    ("packet_filter::connections_around_the_proxy_are_judged", streams),
    ("packet_filter::the_proxys_own_way_stays_open", proxied),
    ("packet_filter::a_change_cuts_what_it_denies", changes),
    ("packet_filter::what_is_dropped_is_counted_and_told", accounted),
    ("packet_filter::what_enters_is_judged_by_who_sends_it", incoming),
];

fn rule(peers: Vec<AddressTest>, protocol: PacketProtocol, ports: &[(u16, u16)]) -> PacketRule {
    PacketRule { peers, protocol, ports: ports.to_vec(), icmp_types: Vec::new() }
}

fn within(addresses: &[IpAddr]) -> AddressTest {
    AddressTest::In(addresses.iter().map(|ip| Cidr::parse(&ip.to_string()).unwrap()).collect())
}

fn filter(output: Option<PacketRules>, input: Option<PacketRules>) -> PacketFilter {
    let (own, ports) = (OwnPackets::Mark(PROXY_MARK), ProxyPorts::default());
    PacketFilter { own, delivery_mark: DELIVERY_MARK, ports, output, input }
}

fn closed(deny: Vec<PacketRule>, allow: Vec<PacketRule>) -> PacketRules {
    PacketRules { closed: true, deny, allow }
}

fn bind(factory: &SocketFactory, address: &str) -> UdpSocket {
    factory.bind_udp(address.parse::<SocketAddr>().unwrap()).unwrap()
}

/// Whether a datagram gets there and its answer back.
async fn echoes(client: &UdpSocket, server: &UdpSocket, to: SocketAddr) -> bool {
    // What the own rules drop fails at once.
    if client.send_to(b"question", to).await.is_err() {
        return false;
    }
    let mut buffer = [0; 64];
    let Ok(received) = tokio::time::timeout(IMPATIENCE, server.recv_from(&mut buffer)).await else {
        return false;
    };
    server.send_to(b"answer", received.unwrap().1).await.unwrap();
    tokio::time::timeout(IMPATIENCE, client.recv(&mut buffer)).await.is_ok()
}

fn datagrams() {
    let (one, other) = two_workloads();
    block_on(async {
        let servers: Vec<(u16, UdpSocket)> = [4000, 4010, 5000]
            .into_iter()
            .map(|port| (port, bind(&other.application(), &format!("[::]:{port}"))))
            .collect();
        let others = other.addresses();
        let allow = rule(vec![within(&others)], PacketProtocol::Udp, &[(4000, 4010)]);
        let deny = rule(Vec::new(), PacketProtocol::Udp, &[(4010, 4010)]);
        filter(Some(closed(vec![deny], vec![allow])), None).install(&one.namespace).unwrap();
        for (address, any) in others.iter().zip(["0.0.0.0:0", "[::]:0"]) {
            let client = bind(&one.application(), any);
            for (port, server) in &servers {
                let passes = echoes(&client, server, (*address, *port).into()).await;
                assert_eq!(passes, *port == 4000, "{address} {port}");
            }
        }
        // The other one may still ask, and is answered.
        let server = bind(&one.application(), "[::]:4000");
        let client = bind(&other.application(), "0.0.0.0:0");
        assert!(echoes(&client, &server, (one.ipv4, 4000).into()).await);
        filter(None, None).install(&one.namespace).unwrap();
        let client = bind(&one.application(), "0.0.0.0:0");
        assert!(echoes(&client, &servers[2].1, (other.ipv4, 5000).into()).await);
    });
}

fn accounted() {
    let (one, other) = two_workloads();
    block_on(async {
        let deny = rule(Vec::new(), PacketProtocol::Udp, &[(4010, 4010)]);
        let denied = filter(
            Some(closed(vec![deny.clone()], Vec::new())),
            Some(closed(vec![deny], Vec::new())),
        );
        // Where the kernel can neither count nor tell there is nothing to see.
        if !denied.install(&one.namespace).unwrap() {
            return;
        }
        let (leaving, default) = (true, None);
        let by_rule = DeniedBy { leaving, rule: Some(0) };
        let by_default = DeniedBy { leaving, rule: default };
        let entering = DeniedBy { leaving: false, rule: None };
        let told = one.namespace.scoped(|| DeniedPackets::listen(&one.namespace)).unwrap().unwrap();
        let others = other.addresses();
        let mut seen = Vec::new();
        for (address, any) in others.iter().zip(["0.0.0.0:0", "[::]:0"]) {
            let client = bind(&one.application(), any);
            for (port, by) in [(4010, by_rule), (5000, by_default)] {
                let to = SocketAddr::new(*address, port);
                assert!(client.send_to(b"question", to).await.is_err());
                let packet = loop {
                    if let Some(at) = seen
                        .iter()
                        .position(|own: &DeniedPacket| own.by == by && own.destination == *address)
                    {
                        break seen.remove(at);
                    }
                    seen.extend(
                        tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap(),
                    );
                };
                assert_eq!((packet.protocol, packet.ports.unwrap().1), (17, port));
                assert_eq!(packet.ports.unwrap().0, client.local_addr().unwrap().port());
                assert!(one.addresses().contains(&packet.source), "{packet:?}");
            }
        }
        // More than is told is counted, and what enters by itself.
        let client = bind(&one.application(), "0.0.0.0:0");
        for _ in 0..100 {
            assert!(client.send_to(b"question", (other.ipv4, 4010)).await.is_err());
        }
        let stranger = bind(&other.application(), "0.0.0.0:0");
        stranger.send_to(b"question", (one.ipv4, 5000)).await.unwrap();
        let counts = || denied_counts(&one.namespace).unwrap();
        let of = |by: DeniedBy| {
            counts().iter().find(|(own, _)| *own == by).map_or(0, |(_, count)| *count)
        };
        assert_eq!(of(by_rule), 102);
        assert!(of(by_default) >= 2);
        let entered = tokio::time::timeout(PATIENCE, async {
            loop {
                if of(entering) > 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        entered.await.unwrap();
        filter(None, None).install(&one.namespace).unwrap();
        assert_eq!(counts(), []);
    });
}

/// A socket for ICMP of IPv4.
fn pinger(workload: &Workload) -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let open = || {
        let flags = SocketFlags::NONBLOCK;
        socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::ICMP)).unwrap()
    };
    workload.namespace.scoped(open).unwrap()
}

/// Whether a message of this type is answered or, if it is no question, leaves.
fn ping(socket: &OwnedFd, to: IpAddr, kind: u8) -> bool {
    let mut message = [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sum =
        message.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum::<u32>();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = SocketAddr::new(to, 0);
    rustix::net::sendto(socket, &message, rustix::net::SendFlags::empty(), &to).is_ok()
}

fn icmp() {
    let (one, other) = two_workloads();
    let mut allow = rule(vec![within(&other.addresses())], PacketProtocol::Icmp, &[]);
    allow.icmp_types = vec![8];
    let socket = pinger(&one);
    assert!(ping(&socket, other.ipv4, 13));
    filter(Some(closed(Vec::new(), vec![allow])), None).install(&one.namespace).unwrap();
    assert!(ping(&socket, other.ipv4, 8));
    assert!(!ping(&socket, other.ipv4, 13));
    assert!(!ping(&socket, "10.77.0.1".parse().unwrap(), 8));
}

fn streams() {
    let (one, other) = two_workloads();
    let around =
        Interception { outbound_ports_exclude: vec![7000, 7001], ..Interception::default() };
    around.install(&one.namespace).unwrap();
    let allow = rule(vec![AddressTest::NotIn(vec![])], PacketProtocol::Tcp, &[(7000, 7000)]);
    filter(Some(closed(Vec::new(), vec![allow])), None).install(&one.namespace).unwrap();
    block_on(async {
        let allowed = listen(&other.application(), 7000);
        let _denied = listen(&other.application(), 7001);
        for address in other.addresses() {
            meet(&one.application(), (address, 7000).into(), &allowed).await;
            let application = one.application();
            let connect = application.connect((address, 7001).into(), PATIENCE);
            let connected = tokio::time::timeout(IMPATIENCE, connect).await;
            assert!(!matches!(connected, Ok(Ok(_))), "{address}");
        }
    });
}

fn proxied() {
    let (one, other) = two_workloads();
    Interception::default().install(&one.namespace).unwrap();
    Interception::default().install(&other.namespace).unwrap();
    let nothing = || Some(closed(Vec::new(), Vec::new()));
    filter(nothing(), nothing()).install(&one.namespace).unwrap();
    filter(nothing(), nothing()).install(&other.namespace).unwrap();
    block_on(async {
        let proxy = listen(&one.proxy(), 15001);
        let inbound = listen(&other.proxy(), 15006);
        for address in other.addresses() {
            // The application's connection reaches its proxy, the proxy's the proxy at the other end.
            let to = (address, 8080).into();
            let (_, accepted) = meet(&one.application(), to, &proxy).await;
            assert_eq!(original_destination(&accepted).unwrap(), to);
            let (_, accepted) = meet(&one.proxy(), to, &inbound).await;
            assert_eq!(original_destination(&accepted).unwrap(), to);
            // And its questions its name server.
            let dns = bind(
                &one.proxy(),
                if address.is_ipv4() { "127.0.0.1:15053" } else { "[::1]:15053" },
            );
            let client =
                bind(&one.application(), if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
            assert!(echoes(&client, &dns, (address, 53).into()).await, "{address}");
            // The application beside the proxy is reached.
            let application = listen(&other.application(), 9090);
            meet(&other.delivery(), (address, 9090).into(), &application).await;
        }
    });
}

fn changes() {
    let (one, other) = two_workloads();
    let udp = |ports: &[(u16, u16)]| {
        let allow = rule(Vec::new(), PacketProtocol::Udp, ports);
        filter(Some(closed(Vec::new(), vec![allow])), None)
    };
    udp(&[(4000, 4000)]).install(&one.namespace).unwrap();
    block_on(async {
        let server = bind(&other.application(), "[::]:4000");
        let client = bind(&one.application(), "0.0.0.0:0");
        let to = (other.ipv4, 4000).into();
        assert!(echoes(&client, &server, to).await);
        udp(&[(4001, 4001)]).install(&one.namespace).unwrap();
        assert!(!echoes(&client, &server, to).await);
        udp(&[(4000, 4001)]).install(&one.namespace).unwrap();
        assert!(echoes(&client, &server, to).await);
    });
}

fn incoming() {
    let (one, other) = two_workloads();
    let allow = rule(vec![within(&[one.ipv4])], PacketProtocol::Udp, &[(4000, 4000)]);
    filter(None, Some(closed(Vec::new(), vec![allow]))).install(&other.namespace).unwrap();
    block_on(async {
        let server = bind(&other.application(), "[::]:4000");
        let client = bind(&one.application(), "0.0.0.0:0");
        assert!(echoes(&client, &server, (other.ipv4, 4000).into()).await);
        let client = bind(&one.application(), "[::]:0");
        assert!(!echoes(&client, &server, (other.ipv6, 4000).into()).await);
        // It may ask others all the same.
        let server = bind(&one.application(), "[::]:4000");
        let client = bind(&other.application(), "[::]:0");
        assert!(echoes(&client, &server, (one.ipv6, 4000).into()).await);
    });
}
