//! Two workloads on a bridge, IPv4 and IPv6.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use heddle_ident::Cidr;
use heddle_net::interception::{DELIVERY_MARK, PROXY_MARK};
use heddle_net::namespace::NetworkNamespace;
use heddle_net::netlink::{Address, Route, RouteSocket, VethPair};
use heddle_net::socket::{ListenOptions, SocketFactory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A workload: a namespace with an interface `eth0`.
pub(crate) struct Workload {
    pub(crate) namespace: NetworkNamespace,
    pub(crate) ipv4: IpAddr,
    pub(crate) ipv6: IpAddr,
}

impl Workload {
    /// The application's sockets.
    pub(crate) fn application(&self) -> SocketFactory {
        SocketFactory::in_namespace(self.namespace.clone())
    }

    /// The proxy's sockets.
    pub(crate) fn proxy(&self) -> SocketFactory {
        self.application().with_mark(PROXY_MARK)
    }

    /// The proxy's sockets towards the application.
    pub(crate) fn delivery(&self) -> SocketFactory {
        self.application().with_mark(DELIVERY_MARK)
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4, self.ipv6]
    }
}

/// A bridge in the test's own namespace with two workloads on it.
pub(crate) fn two_workloads() -> (Workload, Workload) {
    let mut root = RouteSocket::open().unwrap();
    root.bring_up_loopback().unwrap();
    let bridge = root.create_bridge("br0").unwrap();
    root.set_up(bridge, true).unwrap();
    for (address, prefix_bits) in [("10.77.0.1", 24), ("fd77::1", 64)] {
        let address = address.parse().unwrap();
        root.add_address(Address { link: bridge, address, prefix_bits }).unwrap();
    }
    (workload(&mut root, bridge, 2), workload(&mut root, bridge, 3))
}

fn workload(root: &mut RouteSocket, bridge: u32, number: u8) -> Workload {
    let namespace = NetworkNamespace::create().unwrap();
    let name = format!("veth{number}");
    root.create_veth(&VethPair {
        name: &name,
        peer_name: "eth0",
        peer_namespace: Some(&namespace),
        peer_hardware_address: None,
        mtu_bytes: 1500,
    })
    .unwrap();
    let port = root.link(&name).unwrap().index;
    root.set_master(port, Some(bridge)).unwrap();
    root.set_up(port, true).unwrap();
    let ipv4: IpAddr = format!("10.77.0.{number}").parse().unwrap();
    let ipv6: IpAddr = format!("fd77::{number}").parse().unwrap();
    let mut inside = RouteSocket::open_in(&namespace).unwrap();
    inside.bring_up_loopback().unwrap();
    let link = inside.link("eth0").unwrap().index;
    inside.add_address(Address { link, address: ipv4, prefix_bits: 24 }).unwrap();
    inside.add_address(Address { link, address: ipv6, prefix_bits: 64 }).unwrap();
    inside.set_up(link, true).unwrap();
    for (any, gateway) in [("0.0.0.0/0", "10.77.0.1"), ("::/0", "fd77::1")] {
        let route = Route::via(Cidr::parse(any).unwrap(), gateway.parse().unwrap());
        inside.add_route(&route).unwrap();
    }
    Workload { namespace, ipv4, ipv6 }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for a local handshake, short enough to wait for in vain.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(300);

/// Listens on a port, both families.
pub(crate) fn listen(factory: &SocketFactory, port: u16) -> TcpListener {
    let address: SocketAddr = format!("[::]:{port}").parse().unwrap();
    factory.listen(address, ListenOptions::default()).unwrap()
}

/// Connects, accepts at the listener where the connection is expected, and sends a byte both ways.
pub(crate) async fn meet(
    client: &SocketFactory,
    address: SocketAddr,
    listener: &TcpListener,
) -> (TcpStream, TcpStream) {
    let (connected, accepted) = tokio::join!(
        client.connect(address, PATIENCE),
        tokio::time::timeout(PATIENCE, listener.accept())
    );
    let mut connected = connected.unwrap_or_else(|error| panic!("{address}: {error:?}"));
    let mut accepted = accepted.unwrap_or_else(|_| panic!("{address}: nothing came")).unwrap().0;
    talk(&mut connected, &mut accepted).await;
    (connected, accepted)
}

/// A byte both ways.
pub(crate) async fn talk(one: &mut TcpStream, other: &mut TcpStream) {
    one.write_all(b"a").await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), b'a');
    other.write_all(b"b").await.unwrap();
    assert_eq!(one.read_u8().await.unwrap(), b'b');
}
