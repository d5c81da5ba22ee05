//! What reaches an application: redirection, TPROXY, deliveries, calls of a workload to itself.

use std::net::{IpAddr, SocketAddr};

use heddle_ident::Cidr;
use heddle_net::interception::{
    DELIVERY_SOURCE_IPV4, DELIVERY_SOURCE_IPV6, InboundMode, Interception, OwnPackets,
    RESERVED_PORTS, Selection,
};
use heddle_net::socket::{ListenOptions, SocketFactory, Source, original_destination};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Test, block_on};
use crate::topology::{IMPATIENCE, PATIENCE, listen, meet, talk, two_workloads};

pub(crate) const TESTS: &[Test] = &[
    ("inbound::redirected_connections_keep_both_addresses", redirected),
    ("inbound::transparent_connections_keep_both_addresses", transparent),
    ("inbound::reserved_and_excluded_ports_reach_the_application", exceptions),
    ("inbound::outsiders_do_not_reach_the_proxys_own_ports", fence),
    ("inbound::the_application_reaches_itself_directly", itself),
    ("inbound::loopback_is_taken_when_it_is_listed", listed_loopback),
    ("inbound::the_proxy_calling_its_own_workload_comes_in_again", self_call),
    ("inbound::deliveries_reach_the_application", deliveries),
    ("inbound::deliveries_without_a_mark_reach_the_application", unmarked_deliveries),
    ("inbound::deliveries_may_come_from_the_client", foreign_deliveries),
];

fn transparent_listener(factory: &SocketFactory, port: u16) -> TcpListener {
    let options = ListenOptions { transparent: true, ..ListenOptions::default() };
    factory.listen(SocketAddr::new("::".parse().unwrap(), port), options).unwrap()
}

fn ip(address: std::io::Result<SocketAddr>) -> IpAddr {
    address.unwrap().ip().to_canonical()
}

fn redirected() {
    let (one, other) = two_workloads();
    Interception::default().install(&other.namespace).unwrap();
    block_on(async {
        let proxy = listen(&other.proxy(), 15006);
        for (address, client) in other.addresses().into_iter().zip(one.addresses()) {
            // No application listens: the port is only a name for the proxy.
            let asked = SocketAddr::new(address, 8080);
            let (_, accepted) = meet(&one.application(), asked, &proxy).await;
            assert_eq!(original_destination(&accepted).unwrap(), asked);
            assert_eq!(ip(accepted.peer_addr()), client);
        }
    });
}

fn transparent() {
    let (one, other) = two_workloads();
    let interception =
        Interception { inbound: InboundMode::Transparent, ..Interception::default() };
    interception.install(&other.namespace).unwrap();
    block_on(async {
        let proxy = transparent_listener(&other.proxy(), 15006);
        let application = listen(&other.application(), 8080);
        for (address, client) in other.addresses().into_iter().zip(one.addresses()) {
            let asked = SocketAddr::new(address, 8080);
            let (connected, accepted) = meet(&one.application(), asked, &proxy).await;
            assert_eq!(original_destination(&accepted).unwrap(), asked);
            assert_eq!(ip(accepted.local_addr()), address, "not translated");
            assert_eq!(accepted.local_addr().unwrap().port(), 8080, "not translated");
            assert_eq!(ip(accepted.peer_addr()), client);
            assert_eq!(
                accepted.peer_addr().unwrap().port(),
                connected.local_addr().unwrap().port()
            );
        }
        // What the workload itself sends works as before, answers included.
        let outside = listen(&one.application(), 9090);
        for address in one.addresses() {
            meet(&other.proxy(), (address, 9090).into(), &outside).await;
        }
        for address in other.addresses() {
            meet(&other.application(), (address, 8080).into(), &application).await;
        }
    });
}

/// Every mode that takes inbound connections.
fn both_modes() -> [Interception; 2] {
    let redirect = Interception::default();
    let transparent = Interception { inbound: InboundMode::Transparent, ..redirect.clone() };
    [redirect, transparent]
}

fn exceptions() {
    let (one, other) = two_workloads();
    block_on(async {
        let proxy = transparent_listener(&other.proxy(), 15006);
        let client = one.application();
        for base in both_modes() {
            base.install(&other.namespace).unwrap();
            for port in RESERVED_PORTS {
                let application = listen(&other.application(), port);
                for address in other.addresses() {
                    meet(&client, (address, port).into(), &application).await;
                }
            }
            let application = listen(&other.application(), 8080);
            let cases = [
                (Interception { inbound_ports_exclude: vec![8080], ..base.clone() }, &application),
                (Interception { inbound_ports_exclude: vec![8081], ..base.clone() }, &proxy),
                (
                    Interception { inbound_ports: Selection::Only(vec![8080]), ..base.clone() },
                    &proxy,
                ),
                (
                    Interception { inbound_ports: Selection::Only(vec![8081]), ..base.clone() },
                    &application,
                ),
                (
                    Interception { inbound_ports: Selection::Only(vec![]), ..base.clone() },
                    &application,
                ),
                (
                    Interception { interfaces_exclude: vec!["eth0".to_owned()], ..base.clone() },
                    &application,
                ),
                (Interception { inbound: InboundMode::Off, ..base.clone() }, &application),
            ];
            for (interception, listener) in cases {
                interception.install(&other.namespace).unwrap();
                for address in other.addresses() {
                    meet(&client, (address, 8080).into(), listener).await;
                }
            }
        }
    });
}

fn fence() {
    let (one, other) = two_workloads();
    block_on(async {
        let _outbound = listen(&other.proxy(), 15001);
        let _inbound = transparent_listener(&other.proxy(), 15006);
        let _dns = listen(&other.proxy(), 15053);
        for interception in both_modes() {
            interception.install(&other.namespace).unwrap();
            for port in [15001, 15006, 15053] {
                for address in other.addresses() {
                    let address = SocketAddr::new(address, port);
                    one.application().connect(address, IMPATIENCE).await.unwrap_err();
                }
            }
        }
    });
}

fn itself() {
    let (_, other) = two_workloads();
    block_on(async {
        let application = listen(&other.application(), 8080);
        for interception in both_modes() {
            interception.install(&other.namespace).unwrap();
            let loopback = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
            for address in other.addresses().into_iter().chain(loopback) {
                meet(&other.application(), (address, 8080).into(), &application).await;
            }
        }
    });
}

fn self_call() {
    let (_, other) = two_workloads();
    block_on(async {
        let proxy = transparent_listener(&other.proxy(), 15006);
        let tunnel = listen(&other.proxy(), 15008);
        let application = listen(&other.application(), 8080);
        for interception in both_modes() {
            interception.install(&other.namespace).unwrap();
            for address in other.addresses() {
                let asked = SocketAddr::new(address, 8080);
                let (_, accepted) = meet(&other.proxy(), asked, &proxy).await;
                assert_eq!(original_destination(&accepted).unwrap(), asked);
                // A tunnel to itself is not taken apart, and loopback is the application's.
                meet(&other.proxy(), (address, 15008).into(), &tunnel).await;
            }
            for loopback in ["127.0.0.1:8080", "[::1]:8080"] {
                meet(&other.proxy(), loopback.parse().unwrap(), &application).await;
            }
        }
    });
}

fn deliveries() {
    let (_, other) = two_workloads();
    block_on(async {
        let application = listen(&other.application(), 8080);
        for interception in both_modes() {
            interception.install(&other.namespace).unwrap();
            for address in other.addresses() {
                let asked = SocketAddr::new(address, 8080);
                let (_, accepted) = meet(&other.delivery(), asked, &application).await;
                assert_eq!(ip(accepted.peer_addr()), address);
            }
        }
    });
}

fn listed_loopback() {
    let (_, other) = two_workloads();
    let loopback = ["127.0.0.0/8", "::1/128"].map(|range| Cidr::parse(range).unwrap());
    let interception = Interception {
        outbound_ranges: Selection::Only(loopback.to_vec()),
        ..Interception::default()
    };
    interception.install(&other.namespace).unwrap();
    block_on(async {
        let application = listen(&other.application(), 8080);
        let proxy = listen(&other.proxy(), 15001);
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            let address = address.parse().unwrap();
            let (_, accepted) = meet(&other.application(), address, &proxy).await;
            assert_eq!(original_destination(&accepted).unwrap(), address);
            meet(&other.delivery(), address, &application).await;
        }
        for address in other.addresses() {
            meet(&other.application(), (address, 8080).into(), &application).await;
        }
    });
}

/// Connects under a source and says what the listener saw.
async fn meet_from(
    factory: &SocketFactory,
    source: Source,
    address: SocketAddr,
    listener: &TcpListener,
) -> (TcpStream, TcpStream) {
    let (connected, accepted) = tokio::join!(
        factory.connect_from(source, address, PATIENCE),
        tokio::time::timeout(PATIENCE, listener.accept())
    );
    let mut connected = connected.unwrap_or_else(|error| panic!("{address}: {error:?}"));
    let mut accepted = accepted.unwrap_or_else(|_| panic!("{address}: nothing came")).unwrap().0;
    talk(&mut connected, &mut accepted).await;
    (connected, accepted)
}

fn unmarked_deliveries() {
    let (_, other) = two_workloads();
    // Everybody in here is user 0, so every packet is the proxy's own.
    let interception = Interception { own: OwnPackets::User(0), ..Interception::default() };
    interception.install(&other.namespace).unwrap();
    block_on(async {
        let application = listen(&other.application(), 8080);
        let proxy = listen(&other.application(), 15006);
        let sources: [IpAddr; 2] = [DELIVERY_SOURCE_IPV4.into(), DELIVERY_SOURCE_IPV6.into()];
        for (address, source) in other.addresses().into_iter().zip(sources) {
            let asked = SocketAddr::new(address, 8080);
            let from = Source::Address(source);
            let (_, accepted) = meet_from(&other.application(), from, asked, &application).await;
            assert_eq!(ip(accepted.peer_addr()), source);
            meet(&other.application(), asked, &proxy).await;
        }
        let mixed = Source::Address(sources[0]);
        let address = SocketAddr::new(other.ipv6, 8080);
        other.application().connect_from(mixed, address, PATIENCE).await.unwrap_err();
    });
}

fn foreign_deliveries() {
    let (one, other) = two_workloads();
    block_on(async {
        let application = listen(&other.application(), 8080);
        let proxy = transparent_listener(&other.proxy(), 15006);
        for base in both_modes() {
            let interception = Interception { original_source: true, ..base };
            interception.install(&other.namespace).unwrap();
            for (address, client) in other.addresses().into_iter().zip(one.addresses()) {
                // The whole way: client, proxy, application, with the client's address all along.
                let asked = SocketAddr::new(address, 8080);
                let (mut from_client, mut at_proxy) = meet(&one.application(), asked, &proxy).await;
                let source = Source::Foreign(ip(at_proxy.peer_addr()));
                let destination = original_destination(&at_proxy).unwrap();
                let (mut onwards, mut at_application) =
                    meet_from(&other.delivery(), source, destination, &application).await;
                assert_eq!(ip(at_application.peer_addr()), client);
                assert_eq!(ip(at_application.local_addr()), address);
                talk(&mut at_application, &mut onwards).await;
                talk(&mut at_proxy, &mut from_client).await;
            }
        }
    });
}
