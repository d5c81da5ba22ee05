//! Links, addresses, routes, rules.

use std::net::IpAddr;

use heddle_ident::Cidr;
use heddle_net::namespace::NetworkNamespace;
use heddle_net::netlink::{
    Address, NetlinkError, PolicyRule, Route, RouteKind, RouteSocket, VethPair,
};

use crate::harness::{Test, block_on};
use crate::topology::{listen, meet, two_workloads};

pub(crate) const TESTS: &[Test] = &[
    ("netlink::workloads_on_a_bridge_reach_each_other", bridge),
    ("netlink::links_change_and_go", links),
    ("netlink::addresses_routes_and_rules_are_listed_and_go", lists),
    ("netlink::ipv6_addresses_can_be_used_at_once", in_use),
    ("netlink::refusals_name_the_operation_and_the_reason", refusals),
];

fn bridge() {
    let (one, other) = two_workloads();
    block_on(async {
        let listener = listen(&other.application(), 8080);
        for address in other.addresses() {
            let (_, accepted) = meet(&one.application(), (address, 8080).into(), &listener).await;
            let peer = accepted.peer_addr().unwrap().ip().to_canonical();
            assert!(one.addresses().contains(&peer), "{peer}");
        }
    });
}

fn links() {
    let mut socket = RouteSocket::open().unwrap();
    let other = NetworkNamespace::create().unwrap();
    let pair = VethPair {
        name: "a0",
        peer_name: "b0",
        peer_namespace: None,
        peer_hardware_address: Some([2, 0, 0, 0, 0, 7]),
        mtu_bytes: 1400,
    };
    socket.create_veth(&pair).unwrap();
    let a = socket.link("a0").unwrap();
    assert!(!a.up && a.mtu_bytes == 1400 && a.hardware_address.is_some(), "{a:?}");
    let bridge = socket.create_bridge("br9").unwrap();
    socket.set_master(a.index, Some(bridge)).unwrap();
    socket.set_up(a.index, true).unwrap();
    socket.set_mtu(a.index, 9000).unwrap();
    let a = socket.link("a0").unwrap();
    assert!(a.up && a.mtu_bytes == 9000 && a.master == Some(bridge), "{a:?}");
    socket.set_master(a.index, None).unwrap();
    assert_eq!(socket.link("a0").unwrap().master, None);
    let b = socket.link("b0").unwrap();
    assert_eq!(b.hardware_address, Some([2, 0, 0, 0, 0, 7]));
    let b = b.index;
    socket.rename(b, "c0").unwrap();
    socket.move_link(b, &other).unwrap();
    assert!(matches!(socket.link("c0"), Err(NetlinkError::NoLink { .. })));
    RouteSocket::open_in(&other).unwrap().link("c0").unwrap();
    socket.delete_link(a.index).unwrap();
    assert!(RouteSocket::open_in(&other).unwrap().link("c0").is_err());
}

fn lists() {
    let mut socket = RouteSocket::open().unwrap();
    socket.bring_up_loopback().unwrap();
    let link = socket.link("lo").unwrap().index;
    for (address, prefix_bits) in [("10.9.0.1", 24), ("fd09::1", 64)] {
        let address = Address { link, address: address.parse().unwrap(), prefix_bits };
        socket.add_address(address).unwrap();
        socket.add_address(address).unwrap();
        assert_eq!(socket.addresses().unwrap().iter().filter(|a| **a == address).count(), 1);
        socket.remove_address(address).unwrap();
        assert!(!socket.addresses().unwrap().contains(&address));
    }
    for (any, ipv6) in [("0.0.0.0/0", false), ("::/0", true)] {
        let route = Route::all_local(Cidr::parse(any).unwrap(), link, 1000);
        socket.add_route(&route).unwrap();
        socket.add_route(&route).unwrap();
        let present = socket.routes().unwrap();
        assert_eq!(present.iter().filter(|r| **r == route).count(), 1, "{present:?}");
        socket.remove_route(&route).unwrap();
        assert!(!socket.routes().unwrap().contains(&route));
        let rule = PolicyRule { ipv6, mark: 0x1_0001, table: 1000, priority: 77 };
        socket.add_rule(rule).unwrap();
        socket.add_rule(rule).unwrap();
        assert_eq!(socket.rules().unwrap(), [rule]);
        socket.remove_rule(rule).unwrap();
        socket.remove_rule(rule).unwrap();
        assert_eq!(socket.rules().unwrap(), []);
    }
}

fn in_use() {
    for up_first in [false, true] {
        for _ in 0..100 {
            let mut socket = RouteSocket::open().unwrap();
            let pair = VethPair {
                name: "a0",
                peer_name: "b0",
                peer_namespace: None,
                peer_hardware_address: None,
                mtu_bytes: 1500,
            };
            socket.create_veth(&pair).unwrap();
            let (a, b) = (socket.link("a0").unwrap().index, socket.link("b0").unwrap().index);
            socket.set_up(b, true).unwrap();
            let ip: IpAddr = "fd99::7".parse().unwrap();
            let address = Address { link: a, address: ip, prefix_bits: 64 };
            if up_first {
                socket.set_up(a, true).unwrap();
            }
            socket.add_address(address).unwrap();
            if !up_first {
                socket.set_up(a, true).unwrap();
            }
            let used =
                |route: &Route| route.destination.network() == ip && route.kind == RouteKind::Local;
            assert!(socket.routes().unwrap().iter().any(used), "{up_first}");
            socket.delete_link(a).unwrap();
        }
    }
}

fn refusals() {
    let mut socket = RouteSocket::open().unwrap();
    socket.create_bridge("br9").unwrap();
    let error = socket.create_bridge("br9").unwrap_err();
    assert_eq!(error.errno(), Some(libc::EEXIST));
    assert!(error.to_string().starts_with("the kernel refused to make the bridge br9"), "{error}");
    let error = socket.set_mtu(99, 1).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
}
