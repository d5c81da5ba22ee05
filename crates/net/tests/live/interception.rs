//! What an application sends: redirection, exceptions, DNS, the hold.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use heddle_ident::Cidr;
use heddle_net::interception::{
    self, InboundMode, Interception, OwnPackets, PROXY_MARK, SERVICE_ENDPOINTS_MAX, Selection,
    VirtualAddress, serve_virtual_addresses,
};
use heddle_net::netlink::RouteSocket;
use heddle_net::socket::{SocketFactory, original_destination};
use tokio::net::TcpListener;

use crate::harness::{Test, block_on};
use crate::topology::{IMPATIENCE, PATIENCE, Workload, listen, meet, two_workloads};

pub(crate) const TESTS: &[Test] = &[
    ("interception::outbound_tcp_reaches_the_proxy_with_its_destination", outbound),
    ("interception::the_proxys_own_packets_pass", own_packets),
    ("interception::dns_questions_reach_the_proxy", dns),
    ("interception::the_proxys_own_questions_pass", own_dns),
    ("interception::exceptions_follow_the_annotations", exceptions),
    ("interception::without_a_proxy_nothing_goes_around_it", fail_closed),
    ("interception::nothing_leaves_while_held", held),
    ("interception::installing_again_replaces_and_removing_leaves_nothing", replace_and_remove),
    ("interception::long_lists_are_taken_whole", long_lists),
    ("interception::virtual_addresses_lead_to_endpoints", virtual_addresses),
];

/// Destinations that exist nowhere: only redirection can make a connection to them.
const NOWHERE: [&str; 2] = ["192.0.2.10:4711", "[2001:db8::10]:4711"];

fn outbound() {
    let (one, _) = two_workloads();
    Interception::default().install(&one.namespace).unwrap();
    block_on(async {
        let proxy = listen(&one.proxy(), 15001);
        for address in NOWHERE {
            let address: SocketAddr = address.parse().unwrap();
            let (_, accepted) = meet(&one.application(), address, &proxy).await;
            assert_eq!(original_destination(&accepted).unwrap(), address);
        }
    });
}

fn virtual_addresses() {
    let (one, other) = two_workloads();
    block_on(async {
        let (application, ports) = (one.application(), [8080, 8081]);
        let servers = ports.map(|port| listen(&other.application(), port));
        let mut addresses = Vec::new();
        for nowhere in NOWHERE {
            let address: SocketAddr = nowhere.parse().unwrap();
            let same = |at: &IpAddr| at.is_ipv4() == address.is_ipv4();
            let endpoint = other.addresses().into_iter().find(same).unwrap();
            let endpoints = ports.iter().map(|port| SocketAddr::new(endpoint, *port)).collect();
            addresses.push(VirtualAddress { address, endpoints, udp: false });
        }
        serve_virtual_addresses(&addresses, &one.namespace).unwrap();
        for VirtualAddress { address, .. } in &addresses {
            let mut seen = [0, 0];
            for _ in 0..40 {
                let connected = application.connect(*address, PATIENCE);
                let accepted = async {
                    tokio::select! {
                        _ = servers[0].accept() => 0,
                        _ = servers[1].accept() => 1,
                    }
                };
                let (connected, index) = tokio::join!(connected, accepted);
                connected.unwrap();
                seen[index] += 1;
            }
            assert!(seen.iter().all(|count| *count > 4), "{address}: {seen:?}");
        }
        // As many as may be are taken, and replaced by none.
        let many: Vec<SocketAddr> =
            (0..SERVICE_ENDPOINTS_MAX).map(|_| addresses[0].endpoints[0]).collect();
        let many = VirtualAddress { address: addresses[0].address, endpoints: many, udp: false };
        serve_virtual_addresses(&[many], &one.namespace).unwrap();
        serve_virtual_addresses(&[], &one.namespace).unwrap();
        let connecting = application.connect(addresses[0].address, PATIENCE);
        let gone = tokio::time::timeout(IMPATIENCE, connecting).await;
        assert!(!matches!(gone, Ok(Ok(_))));
    });
}

fn own_packets() {
    let (one, other) = two_workloads();
    block_on(async {
        let server = listen(&other.application(), 8080);
        let proxy = listen(&one.proxy(), 15001);
        Interception::default().install(&one.namespace).unwrap();
        for address in other.addresses() {
            meet(&one.proxy(), (address, 8080).into(), &server).await;
        }
        // Told by user instead: everybody is user 0 in here.
        let all_own = Interception { own: OwnPackets::User(0), ..Interception::default() };
        all_own.install(&one.namespace).unwrap();
        for address in other.addresses() {
            meet(&one.application(), (address, 8080).into(), &server).await;
        }
        let none_own = Interception { own: OwnPackets::User(1337), ..Interception::default() };
        none_own.install(&one.namespace).unwrap();
        for address in other.addresses() {
            meet(&one.application(), (address, 8080).into(), &proxy).await;
        }
    });
}

/// Asks over UDP and gives what the answerer saw and what came back.
async fn ask(client: &SocketFactory, server: SocketAddr, answerer: &tokio::net::UdpSocket) {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = client.bind_udp(any).unwrap();
    // Connected, so that an answer under another address than the asked one would not be taken.
    socket.connect(server).await.unwrap();
    socket.send(b"question").await.unwrap();
    let mut buffer = [0; 64];
    let (length, from) =
        tokio::time::timeout(PATIENCE, answerer.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"question");
    answerer.send_to(b"answer", from).await.unwrap();
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"answer");
}

fn dns() {
    let (one, _) = two_workloads();
    Interception::default().install(&one.namespace).unwrap();
    block_on(async {
        let bind = |address: &str| one.proxy().bind_udp(address.parse().unwrap()).unwrap();
        let udp = [bind("127.0.0.1:15053"), bind("[::1]:15053")];
        let tcp = listen(&one.proxy(), 15053);
        // A server elsewhere, and one at loopback as a container's resolv.conf has it.
        for server in ["192.0.2.53:53", "[2001:db8::53]:53", "127.0.0.11:53", "[::1]:53"] {
            let server: SocketAddr = server.parse().unwrap();
            ask(&one.application(), server, &udp[usize::from(server.is_ipv6())]).await;
            let (_, accepted) = meet(&one.application(), server, &tcp).await;
            assert_eq!(original_destination(&accepted).unwrap(), server);
        }
    });
}

fn own_dns() {
    let (one, other) = two_workloads();
    block_on(async {
        let server = other.application().bind_udp("[::]:53".parse().unwrap()).unwrap();
        let proxy = one.proxy().bind_udp("[::]:15053".parse().unwrap()).unwrap();
        Interception::default().install(&one.namespace).unwrap();
        for address in other.addresses() {
            let address = SocketAddr::new(address, 53);
            // The application's question leaves a trace in connection tracking; a question of the proxy
            // from the same port must not follow it.
            let any: SocketAddr =
                if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            let application = one.application().bind_udp(any).unwrap();
            application.send_to(b"question", address).await.unwrap();
            let mut buffer = [0; 64];
            tokio::time::timeout(PATIENCE, proxy.recv_from(&mut buffer)).await.unwrap().unwrap();
            let port = application.local_addr().unwrap().port();
            drop(application);
            let own = one.proxy().bind_udp(SocketAddr::new(any.ip(), port)).unwrap();
            own.connect(address).await.unwrap();
            own.send(b"own").await.unwrap();
            let received = tokio::time::timeout(PATIENCE, server.recv_from(&mut buffer)).await;
            let (length, from) = received.unwrap().unwrap();
            assert_eq!(&buffer[..length], b"own");
            server.send_to(b"answer", from).await.unwrap();
            tokio::time::timeout(PATIENCE, own.recv(&mut buffer)).await.unwrap().unwrap();
        }
    });
}

/// Who gets a connection of the application.
async fn who_gets(
    one: &Workload,
    address: SocketAddr,
    server: &TcpListener,
    proxy: &TcpListener,
) -> &'static str {
    let application = one.application();
    let (connected, who) = tokio::join!(
        application.connect(address, PATIENCE),
        tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                _ = server.accept() => "server",
                _ = proxy.accept() => "proxy",
            }
        })
    );
    connected.unwrap_or_else(|error| panic!("{address}: {error:?}"));
    who.unwrap()
}

fn exceptions() {
    let (one, other) = two_workloads();
    let ranges = |texts: &[&str]| -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    };
    let base = Interception::default;
    // What is asked: the other workload's IPv4 and IPv6 address, port 8080.
    let cases: Vec<(&str, Interception, [&str; 2])> = vec![
        ("default", base(), ["proxy", "proxy"]),
        (
            "excluded port",
            Interception { outbound_ports_exclude: vec![9, 8080], ..base() },
            ["server", "server"],
        ),
        (
            "excluded ranges",
            Interception { outbound_ranges_exclude: ranges(&["10.77.0.0/16"]), ..base() },
            ["server", "proxy"],
        ),
        (
            "excluded IPv6 range",
            Interception {
                outbound_ranges_exclude: ranges(&["fd77::/64", "10.0.0.0/16"]),
                ..base()
            },
            ["proxy", "server"],
        ),
        (
            "only other ranges",
            Interception { outbound_ranges: Selection::Only(ranges(&["10.78.0.0/16"])), ..base() },
            ["server", "server"],
        ),
        (
            "only ranges that hold it",
            Interception {
                outbound_ranges: Selection::Only(ranges(&["10.77.0.0/24", "10.77.0.3", "fd77::3"])),
                ..base()
            },
            ["proxy", "proxy"],
        ),
        (
            "nothing",
            Interception { outbound_ranges: Selection::Only(Vec::new()), ..base() },
            ["server", "server"],
        ),
        (
            "nothing but a port",
            Interception {
                outbound_ranges: Selection::Only(Vec::new()),
                outbound_ports: vec![8080],
                ..base()
            },
            ["proxy", "proxy"],
        ),
        (
            "an excluded range wins over an included port",
            Interception {
                outbound_ports: vec![8080],
                outbound_ranges_exclude: ranges(&["10.77.0.3/32"]),
                ..base()
            },
            ["server", "proxy"],
        ),
        (
            "excluded interface",
            Interception { interfaces_exclude: vec!["eth0".to_owned()], ..base() },
            ["server", "server"],
        ),
        (
            "another excluded interface",
            Interception { interfaces_exclude: vec!["eth".to_owned()], ..base() },
            ["proxy", "proxy"],
        ),
    ];
    block_on(async {
        let server = listen(&other.application(), 8080);
        let proxy = listen(&one.proxy(), 15001);
        for (name, interception, expected) in cases {
            interception.install(&one.namespace).unwrap();
            for (address, expected) in other.addresses().into_iter().zip(expected) {
                let who = who_gets(&one, (address, 8080).into(), &server, &proxy).await;
                assert_eq!(who, expected, "{name}: {address}");
            }
        }
    });
}

fn fail_closed() {
    let (one, other) = two_workloads();
    Interception::default().install(&one.namespace).unwrap();
    block_on(async {
        let _server = listen(&other.application(), 8080);
        for address in other.addresses() {
            one.application().connect((address, 8080).into(), PATIENCE).await.unwrap_err();
        }
    });
}

fn held() {
    let (one, other) = two_workloads();
    let mark = OwnPackets::Mark(PROXY_MARK);
    interception::hold(mark, &one.namespace).unwrap();
    interception::hold(mark, &one.namespace).unwrap();
    assert!(interception::is_held(&one.namespace).unwrap());
    block_on(async {
        let inside = listen(&one.application(), 8080);
        let outside = listen(&other.application(), 8080);
        for address in other.addresses() {
            one.application().connect((address, 8080).into(), IMPATIENCE).await.unwrap_err();
            meet(&one.proxy(), (address, 8080).into(), &outside).await;
        }
        for address in one.addresses() {
            other.application().connect((address, 8080).into(), IMPATIENCE).await.unwrap_err();
            meet(&one.application(), (address, 8080).into(), &inside).await;
        }
        // A question over UDP does not leave either.
        let server = other.application().bind_udp("[::]:5300".parse().unwrap()).unwrap();
        let socket = one.application().bind_udp("0.0.0.0:0".parse().unwrap()).unwrap();
        let _refused = socket.send_to(b"x", SocketAddr::new(other.ipv4, 5300)).await;
        let received = tokio::time::timeout(IMPATIENCE, server.recv_from(&mut [0; 8])).await;
        received.unwrap_err();

        let interception = Interception { inbound: InboundMode::Off, ..Interception::default() };
        interception.install(&one.namespace).unwrap();
        assert!(!interception::is_held(&one.namespace).unwrap());
        for address in one.addresses() {
            meet(&other.application(), (address, 8080).into(), &inside).await;
        }
    });
}

fn replace_and_remove() {
    let (one, other) = two_workloads();
    let namespace = &one.namespace;
    let everything = Interception {
        inbound: InboundMode::Transparent,
        original_source: true,
        ..Interception::default()
    };
    let by_user = Interception { own: OwnPackets::User(1337), ..Interception::default() };
    let before = state(&one);
    everything.remove(namespace).unwrap();
    assert_eq!(state(&one), before);
    for interception in [&everything, &everything, &by_user, &by_user] {
        interception.install(namespace).unwrap();
        assert!(Interception::is_installed(namespace).unwrap());
    }
    interception::hold(OwnPackets::Mark(PROXY_MARK), namespace).unwrap();
    everything.remove(namespace).unwrap();
    assert!(!Interception::is_installed(namespace).unwrap());
    assert_eq!(state(&one), before);
    everything.remove(namespace).unwrap();
    block_on(async {
        let server = listen(&other.application(), 8080);
        meet(&one.application(), (other.ipv4, 8080).into(), &server).await;
    });
}

/// What the kernel holds for a workload, rules included where `nft` is there to show them.
fn state(workload: &Workload) -> String {
    let mut socket = RouteSocket::open_in(&workload.namespace).unwrap();
    let rules = workload.namespace.run(|| Command::new("nft").args(["list", "ruleset"]).output());
    let rules = rules.unwrap().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    format!(
        "{:?} {:?} {:?} {}",
        socket.addresses().unwrap(),
        socket.routes().unwrap(),
        socket.rules().unwrap(),
        rules.unwrap_or_default()
    )
}

fn long_lists() {
    let (one, other) = two_workloads();
    let spread = |index: u32| IpAddr::from((0x0b00_0000 + index * 512).to_be_bytes());
    let mut ranges: Vec<Cidr> = (0..1023).map(|i| Cidr::new(spread(i), 24).unwrap()).collect();
    ranges.push(Cidr::new(other.ipv6, 128).unwrap());
    let long = Interception {
        outbound_ranges_exclude: ranges,
        inbound_ports_exclude: (1..=1024).collect(),
        outbound_ports_exclude: (20000..21024).collect(),
        outbound_ports: (30000..31024).collect(),
        ..Interception::default()
    };
    long.install(&one.namespace).unwrap();
    block_on(async {
        let server = listen(&other.application(), 8080);
        let proxy = listen(&one.proxy(), 15001);
        for (address, expected) in other.addresses().into_iter().zip(["proxy", "server"]) {
            let who = who_gets(&one, (address, 8080).into(), &server, &proxy).await;
            assert_eq!(who, expected, "{address}");
        }
    });
}
