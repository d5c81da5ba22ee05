//! What the workload addresses: which table of routes speaks for a destination.
//!
//! A request is found by its authority where routes are visible on that port for that host, and by the address
//! it was sent to otherwise; a stream is found by address alone (DESIGN section 4).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_ident::{Cidr, Host, HostPattern};
use heddle_ir::index::{Frontend, Index, NetworkFrontend};
use heddle_ir::protocol::Protocol;

/// The index of a scope, ready for look-ups.
#[derive(Debug, Default)]
pub struct TargetIndex {
    known: bool,
    index: Arc<Index>,
    /// Frontends by their own addresses.
    by_address: HashMap<IpAddr, Vec<usize>>,
    /// Frontends with an exact host, in the order of their hosts.
    by_host: Box<[u32]>,
    /// Hosts with routes of their own, by port.
    routed: HashMap<u16, RoutedHosts>,
}

#[derive(Debug, Default)]
struct RoutedHosts {
    exact: HashMap<Box<str>, Arc<str>>,
    /// Most specific first.
    patterns: Vec<(HostPattern, Arc<str>)>,
}

/// What speaks for a request or a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The routes that are kept under this [`heddle_ir::outbound::OutboundKey::host`].
    Table(Arc<str>),
    /// No routes, but an address of the mesh: the workload that has it, if one does, and nothing else.
    Workload,
    /// Neither: a destination outside of the mesh that nothing names.
    Unknown,
}

/// The frontend of an address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFrontend {
    /// [`heddle_ir::outbound::OutboundKey::host`] of its table.
    pub table: Arc<str>,
    /// What is declared of the port.
    pub protocol: Protocol,
}

impl TargetIndex {
    /// Prepares an index.
    pub fn new(index: Arc<Index>) -> Self {
        let mut by_address: HashMap<IpAddr, Vec<usize>> = HashMap::new();
        for (place, frontend) in index.frontends.iter().enumerate() {
            for address in &frontend.addresses {
                by_address.entry(address.to_canonical()).or_default().push(place);
            }
        }
        let mut routed: HashMap<u16, RoutedHosts> = HashMap::new();
        for host in &index.routed_hosts {
            let hosts = routed.entry(host.port).or_default();
            match &host.host {
                HostPattern::Exact(exact) => {
                    let name = exact.as_str().into();
                    hosts.exact.entry(name).or_insert_with(|| host.table.clone());
                }
                pattern => hosts.patterns.push((pattern.clone(), host.table.clone())),
            }
        }
        for hosts in routed.values_mut() {
            hosts.patterns.sort_by(|a, b| a.0.cmp_specificity(&b.0));
        }
        let places = (0..u32::MAX).zip(&index.frontends);
        let mut by_host: Vec<u32> = places
            .filter(|(_, frontend)| frontend.exact_host().is_some())
            .map(|(place, _)| place)
            .collect();
        by_host.sort_by_key(|place| exact_host(&index, *place));
        Self { known: true, by_address, by_host: by_host.into(), routed, index }
    }

    /// Whether an index has come at all.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// The index itself.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The frontend that an address and port belong to, by its own address first, then by its ranges.
    pub fn frontend(&self, destination: SocketAddr) -> Option<FoundFrontend> {
        let address = destination.ip().to_canonical();
        let own = self.by_address.get(&address).into_iter().flatten();
        let own = own.filter_map(|place| self.index.frontends.get(*place));
        let by_range = || {
            let holds =
                |frontend: &&Frontend| frontend.ranges.iter().any(|range| range.contains(address));
            self.index.frontends.iter().filter(holds)
        };
        let found = own.chain(by_range()).find_map(|frontend| {
            let mut ports = frontend.ports.iter();
            let port = ports.find(|port| port.number == destination.port())?;
            Some(FoundFrontend { table: frontend.host.to_string().into(), protocol: port.protocol })
        });
        found.or_else(|| self.network(address))
    }

    /// The routes of the network outside of the mesh that an address is in.
    fn network(&self, address: IpAddr) -> Option<FoundFrontend> {
        if self.index.networks.is_empty() || self.is_in_mesh(address) {
            return None;
        }
        let contain = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address));
        let holds = |network: &&NetworkFrontend| {
            (network.ranges.is_empty() || contain(&network.ranges)) && !contain(&network.except)
        };
        let table = self.index.networks.iter().find(holds)?.table.clone()?;
        Some(FoundFrontend { table, protocol: Protocol::Detect })
    }

    /// Whether a frontend has this very host and port: what is told of others must not be asked for, since anybody can make
    /// up names.
    pub fn has_host(&self, host: &str, port: u16) -> bool {
        let first = self.by_host.partition_point(|place| exact_host(&self.index, *place) < host);
        let rest = self.by_host.get(first..).unwrap_or_default().iter();
        rest.map_while(|place| self.index.frontends.get(*place as usize))
            .take_while(|frontend| frontend.exact_host().is_some_and(|own| own.as_str() == host))
            .any(|frontend| frontend.ports.iter().any(|own| own.number == port))
    }

    /// The table of routes that a request's authority finds on a port; none: the address decides.
    pub fn routed_host(&self, authority: &str, port: u16) -> Option<&Arc<str>> {
        let hosts = self.routed.get(&port)?;
        let host = host_of(authority);
        // Authorities are nearly always lower case already.
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return hosts.find(&host.to_ascii_lowercase());
        }
        hosts.find(host)
    }

    /// What speaks for a request with this authority, or for a stream without one, to `destination`. The proxy and
    /// `heddle explain` both ask here.
    pub fn speaker(&self, authority: Option<&str>, destination: SocketAddr) -> Speaker {
        let routed = authority.and_then(|name| self.routed_host(name, destination.port()).cloned());
        let table = routed.or_else(|| self.frontend(destination).map(|frontend| frontend.table));
        match table {
            Some(table) => Speaker::Table(table),
            None if self.is_in_mesh(destination.ip()) => Speaker::Workload,
            None => Speaker::Unknown,
        }
    }

    /// What is declared of the port of a destination.
    pub fn declared(&self, destination: SocketAddr) -> Protocol {
        self.frontend(destination).map_or(Protocol::Detect, |frontend| frontend.protocol)
    }

    /// Whether an address belongs to the mesh, so that it is never passed through unknown.
    pub fn is_in_mesh(&self, address: IpAddr) -> bool {
        self.index.mesh_ranges.iter().any(|range| range.contains(address))
    }
}

fn exact_host(index: &Index, place: u32) -> &str {
    let frontend = index.frontends.get(place as usize);
    frontend.and_then(Frontend::exact_host).map_or("", Host::as_str)
}

impl RoutedHosts {
    fn find(&self, host: &str) -> Option<&Arc<str>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.exact.get(host).or_else(|| {
            let mut patterns = self.patterns.iter();
            patterns.find(|(pattern, _)| pattern.matches(host)).map(|(_, table)| table)
        })
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use heddle_ir::index::{FrontendPort, RoutedHost};

    use super::*;

    fn frontend(host: &str, addresses: &[&str], ranges: &[&str], port: u16) -> Frontend {
        Frontend {
            host: HostPattern::parse(host).unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ranges: ranges.iter().map(|text| Cidr::parse(text).unwrap()).collect(),
            ports: vec![FrontendPort { number: port, protocol: Protocol::Http1 }],
            headless: false,
        }
    }

    fn routed(host: &str, port: u16, table: &str) -> RoutedHost {
        RoutedHost { host: HostPattern::parse(host).unwrap(), port, table: table.into() }
    }

    #[test]
    fn hosts_are_known_by_their_ports() {
        let index = TargetIndex::new(Arc::new(Index {
            frontends: vec![
                frontend("c.x", &[], &[], 80),
                frontend("*.x", &[], &[], 80),
                frontend("a.x", &[], &[], 80),
                frontend("b.x", &[], &[], 80),
                frontend("b.x", &[], &[], 81),
            ],
            ..Index::default()
        }));
        for (host, port, has) in [
            ("a.x", 80, true),
            ("b.x", 81, true),
            ("c.x", 80, true),
            ("a.x", 81, false),
            ("d.x", 80, false),
            ("a", 80, false),
            ("", 80, false),
            ("*.x", 80, false),
        ] {
            assert_eq!(index.has_host(host, port), has, "{host}:{port}");
        }
        assert!(!TargetIndex::default().has_host("a.x", 80));
    }

    #[test]
    fn addresses_find_frontends_by_port_and_ranges_come_last() {
        let index = TargetIndex::new(Arc::new(Index {
            frontends: vec![
                frontend("range.x", &[], &["10.0.0.0/8"], 80),
                frontend("a.x", &["10.0.0.1"], &[], 80),
                frontend("b.x", &["10.0.0.1"], &[], 81),
            ],
            ..Index::default()
        }));
        let table = |address: &str| {
            index.frontend(address.parse().unwrap()).map(|found| found.table.to_string())
        };
        assert_eq!(table("10.0.0.1:80").as_deref(), Some("a.x"));
        assert_eq!(table("10.0.0.1:81").as_deref(), Some("b.x"));
        assert_eq!(table("[::ffff:10.0.0.1]:81").as_deref(), Some("b.x"));
        assert_eq!(table("10.0.0.2:80").as_deref(), Some("range.x"));
        assert_eq!(table("10.0.0.2:81"), None);
        assert_eq!(table("11.0.0.1:80"), None);
        assert!(Host::parse("a.x").is_ok());
    }

    #[test]
    fn networks_come_last_and_the_first_that_holds_an_address_counts() {
        let network = |table: Option<&str>, ranges: &[&str], except: &[&str]| NetworkFrontend {
            table: table.map(Into::into),
            ranges: ranges.iter().map(|text| Cidr::parse(text).unwrap()).collect(),
            except: except.iter().map(|text| Cidr::parse(text).unwrap()).collect(),
        };
        let index = TargetIndex::new(Arc::new(Index {
            frontends: vec![frontend("a.x", &["203.0.113.1"], &[], 80)],
            mesh_ranges: vec![Cidr::parse("10.0.0.0/8").unwrap()],
            networks: vec![
                network(None, &["203.0.113.0/28"], &[]),
                network(Some("n"), &["203.0.113.0/24"], &["203.0.113.128/25"]),
                network(Some("all"), &[], &["192.168.0.0/16"]),
            ],
            ..Index::default()
        }));
        let speaker = |address: &str| index.speaker(None, address.parse().unwrap());
        assert_eq!(speaker("203.0.113.1:80"), Speaker::Table("a.x".into()));
        assert_eq!(speaker("203.0.113.1:81"), Speaker::Unknown, "a network without routes");
        assert_eq!(speaker("203.0.113.77:81"), Speaker::Table("n".into()));
        assert_eq!(speaker("203.0.113.200:81"), Speaker::Table("all".into()));
        assert_eq!(speaker("[2001:db8::1]:443"), Speaker::Table("all".into()));
        assert_eq!(speaker("192.168.1.1:443"), Speaker::Unknown);
        assert_eq!(speaker("10.0.0.1:443"), Speaker::Workload);
        assert_eq!(index.declared("203.0.113.77:81".parse().unwrap()), Protocol::Detect);
    }

    #[test]
    fn the_authority_speaks_before_the_address_and_mesh_addresses_are_never_unknown() {
        let index = TargetIndex::new(Arc::new(Index {
            frontends: vec![frontend("a.x", &["10.0.0.1"], &[], 80)],
            routed_hosts: vec![routed("b.x", 80, "b.x")],
            mesh_ranges: vec![Cidr::parse("10.0.0.0/8").unwrap()],
            ..Index::default()
        }));
        let speaker = |authority, address: &str| index.speaker(authority, address.parse().unwrap());
        assert_eq!(speaker(Some("b.x"), "10.0.0.1:80"), Speaker::Table("b.x".into()));
        assert_eq!(speaker(Some("c.x"), "10.0.0.1:80"), Speaker::Table("a.x".into()));
        assert_eq!(speaker(None, "10.0.0.1:80"), Speaker::Table("a.x".into()));
        assert_eq!(speaker(Some("b.x"), "10.0.0.1:81"), Speaker::Workload);
        assert_eq!(speaker(None, "11.0.0.1:80"), Speaker::Unknown);
        assert_eq!(index.declared("10.0.0.1:80".parse().unwrap()), Protocol::Http1);
        assert_eq!(index.declared("11.0.0.1:80".parse().unwrap()), Protocol::Detect);
    }

    #[test]
    fn the_most_specific_host_on_the_port_counts() {
        let index = TargetIndex::new(Arc::new(Index {
            routed_hosts: vec![
                routed("*", 80, "any"),
                routed("*.x", 80, "x"),
                routed("*.a.x", 80, "ax"),
                routed("b.a.x", 80, "exact"),
                routed("b.a.x", 81, "other port"),
            ],
            ..Index::default()
        }));
        let table = |authority, port| index.routed_host(authority, port).map(|table| &**table);
        assert_eq!(table("b.a.x", 80), Some("exact"));
        assert_eq!(table("B.A.x.:80", 80), Some("exact"));
        assert_eq!(table("c.a.x:80", 80), Some("ax"));
        assert_eq!(table("a.x", 80), Some("x"));
        assert_eq!(table("[::1]:80", 80), Some("any"));
        assert_eq!(table("b.a.x", 81), Some("other port"));
        assert_eq!(table("c.a.x", 81), None);
        assert_eq!((host_of("[::1]:80"), host_of("a:b"), host_of("a:80")), ("::1", "a:b", "a"));
    }
}
