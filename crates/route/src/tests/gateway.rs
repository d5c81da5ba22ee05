//! Which server of a gateway answers.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::{HostPattern, WorkloadId};
use heddle_ir::gateway::{
    ClientCertificate, Gateway, Listener, Server, ServerProtocol, ServerTls, TlsTermination,
    TlsVersion, VirtualHost,
};
use heddle_ir::http_route::{RouteTable, RuleOrder};
use heddle_ir::rate_limit::RateLimits;

use crate::CompiledGateway;

fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect()
}

fn server(name: &str, hosts: &[&str], routed: &[&str], tls: bool) -> Server {
    let table = RouteTable { order: RuleOrder::Written, rules: Vec::new(), tiers: Vec::new() };
    let routed =
        routed.iter().map(|host| VirtualHost { hosts: patterns(&[host]), table: table.clone() });
    let termination = TlsTermination {
        certificates: Vec::new(),
        client_certificate: ClientCertificate::Ignore,
        client_authority: None,
        subject_alt_names: Vec::new(),
        certificate_pins: Vec::new(),
        version_min: TlsVersion::V1_2,
        version_max: TlsVersion::V1_3,
        revocations_path: None,
        cipher_suites: Vec::new(),
    };
    Server {
        origin: Origin::built_in("test"),
        name: name.into(),
        hosts: patterns(hosts),
        tls: tls.then_some(ServerTls::Terminate(termination)),
        protocol: ServerProtocol::Http(routed.collect()),
        rate_limits: RateLimits::default(),
    }
}

fn gateway(servers: Vec<Server>) -> CompiledGateway {
    let listener =
        Listener { port: 443, bind: None, proxy_protocol: false, client_port: 0, servers };
    let gateway = Gateway {
        workload: WorkloadId::new("gateway"),
        listeners: vec![listener],
        destinations: Vec::new(),
    };
    CompiledGateway::compile(Arc::new(gateway)).0
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 443))
}

#[test]
fn the_most_specific_host_tells_server_and_routes() {
    let plain = gateway(vec![
        server("any", &["*"], &["*"], false),
        server("wide", &["*.example.com"], &["*.example.com", "a.example.com"], false),
        server("narrow", &["*.b.example.com"], &["*"], false),
        server("unrouted", &["c.example.com", "d.example.com"], &["c.example.com"], false),
        server("exact", &["d.example.com", "*.d.example.com"], &["d.example.com"], false),
    ]);
    for (authority, name, is_routed) in [
        ("example.com", "any", true),
        ("A.example.com:80", "wide", true),
        ("x.y.example.com", "wide", true),
        ("x.b.example.com", "narrow", true),
        ("b.example.com", "wide", true),
        ("c.example.com.", "unrouted", true),
        // The first of those that share the host has nothing for it.
        ("d.example.com", "exact", true),
        ("x.d.example.com", "exact", false),
    ] {
        let (found, routes) = plain.by_authority(address(), authority).unwrap();
        assert_eq!((&*found.server.name, routes.is_some()), (name, is_routed), "{authority}");
    }
    assert!(plain.by_server_name(address(), Some("a.example.com")).is_none());
}

#[test]
fn a_request_on_the_connection_of_another_server_is_misdirected() {
    let secure = gateway(vec![
        server("any", &["*"], &["*"], true),
        server("one", &["one.example.com"], &["*"], true),
        server("two", &["*.two.example.com"], &["*"], true),
    ]);
    for (server_name, authority, expected) in [
        (Some("one.example.com"), "one.example.com:443", false),
        (Some("ONE.example.com"), "One.Example.com", false),
        (Some("one.example.com"), "x.two.example.com", true),
        (Some("x.two.example.com"), "y.two.example.com", false),
        (Some("x.example.org"), "one.example.com", true),
        // A host of the server that has all hosts, on a connection of one that has its own.
        (Some("one.example.com"), "example.org", true),
        (Some("x.example.org"), "y.example.org", false),
        (None, "one.example.com", false),
    ] {
        let found = secure.by_server_name(address(), server_name).unwrap();
        let told = secure.is_misdirected(address(), server_name, &found, authority);
        assert_eq!(told, expected, "{server_name:?} {authority}");
    }
}
