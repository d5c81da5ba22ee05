//! What `--to` means: the address that the client's connection is made to, and the name it writes into its request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use heddle_ident::{Host, HostPattern};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSetKey};
use heddle_ir::index::{Frontend, FrontendPort};
use heddle_ir::protocol::Protocol;
use heddle_route::Name;

use crate::caller::{self, Caller};
use crate::head::Speaks;
use crate::query::{Query, QueryError};
use crate::world::{View, World};

/// The address of a name that somebody outside of the mesh knows (RFC 5737).
pub(crate) const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// With fewer dots than this a name is tried with the search list first, as Kubernetes sets it.
const NDOTS: usize = 5;
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Where a connection is made to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) destination: SocketAddr,
    /// As the client writes it into `Host`.
    pub(crate) authority: String,
    /// The full name that was found; none for an address.
    pub(crate) host: Option<String>,
    pub(crate) resolution: Resolution,
}

/// What the client's name server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// No name was asked for.
    Address,
    /// The name of a service, which has this address.
    Service,
    /// The name of a service without own address: one of its endpoints.
    Headless,
    /// A name that is known outside, if at all.
    Outside,
    /// The mesh's to know, and nothing has it.
    Missing,
}

/// The parts of `--to`.
enum Written {
    Address(IpAddr, Option<u16>),
    Host(String, Option<u16>),
    Workload(String, String, Option<u16>),
}

impl Target {
    pub(crate) fn of(
        world: &World,
        caller: &Caller,
        view: &View,
        query: &Query,
        speaks: Option<Speaks>,
    ) -> Result<Self, QueryError> {
        match parse(&query.to).ok_or_else(|| QueryError::To(query.to.clone()))? {
            Written::Address(address, port) => {
                let port = port.unwrap_or(default_port(speaks));
                let destination = SocketAddr::new(address, port);
                Ok(Self {
                    authority: authority(&bracketed(address), port, speaks),
                    destination,
                    host: None,
                    resolution: Resolution::Address,
                })
            }
            Written::Workload(namespace, name, port) => {
                of_workload(world, &namespace, &name, port, query, speaks).or_else(|error| {
                    // Perhaps it is a service that is meant.
                    let host = format!("{name}.{namespace}");
                    let found = of_host(world, caller, view, &host, port, speaks);
                    if found.resolution == Resolution::Missing { Err(error) } else { Ok(found) }
                })
            }
            Written::Host(host, port) => Ok(of_host(world, caller, view, &host, port, speaks)),
        }
    }
}

fn parse(text: &str) -> Option<Written> {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Written::Address(address, None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Written::Address(address.ip(), Some(address.port())));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse().ok().map(|address| Written::Address(address, None));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().filter(|port| *port > 0)?)),
        None => (text, None),
    };
    if let Some((namespace, workload)) = name.split_once('/') {
        let sound = |part: &str| !part.is_empty() && !part.contains('/');
        return (sound(namespace) && sound(workload))
            .then(|| Written::Workload(namespace.to_owned(), workload.to_owned(), port));
    }
    let name = name.to_ascii_lowercase();
    Host::parse(name.strip_suffix('.').unwrap_or(&name)).ok()?;
    Some(Written::Host(name, port))
}

/// Host and port, as a client of a gateway writes them.
pub(crate) fn written_host(text: &str) -> Option<(String, Option<u16>)> {
    match parse(text)? {
        Written::Address(address, port) => Some((bracketed(address), port)),
        Written::Host(host, port) => Some((host.trim_end_matches('.').to_owned(), port)),
        Written::Workload(..) => None,
    }
}

fn of_workload(
    world: &World,
    namespace: &str,
    name: &str,
    port: Option<u16>,
    query: &Query,
    speaks: Option<Speaks>,
) -> Result<Target, QueryError> {
    let workload = caller::find(world, namespace, name)
        .ok_or_else(|| caller::no_workload(world, &format!("{namespace}/{name}")))?;
    let own_port = || {
        let inbound = world.inbound(&workload.id)?;
        let ports = &inbound.inbound().ports;
        ports.first().filter(|_| ports.len() == 1).map(|port| port.port)
    };
    let port = port.or_else(own_port).ok_or_else(|| QueryError::NoPort(query.to.clone()))?;
    let address = workload.addresses.first().copied();
    let address = address.ok_or_else(|| QueryError::To(query.to.clone()))?;
    Ok(Target {
        destination: SocketAddr::new(address, port),
        authority: authority(&bracketed(address), port, speaks),
        host: None,
        resolution: Resolution::Address,
    })
}

fn of_host(
    world: &World,
    caller: &Caller,
    view: &View,
    written: &str,
    port: Option<u16>,
    speaks: Option<Speaks>,
) -> Target {
    let (host, name) = look_up(caller, view, written);
    let frontend = frontend(view, &host);
    let port = port.unwrap_or_else(|| port_of(frontend, speaks));
    let (address, resolution) = match &name {
        Name::Addresses(addresses) => match addresses.first() {
            Some(address) => (*address, Resolution::Service),
            None => (SOMEWHERE, Resolution::Outside),
        },
        Name::Endpoints(host, _) => match endpoint(world, host, port, None) {
            Some(address) => (address, Resolution::Headless),
            None => (SOMEWHERE, Resolution::Missing),
        },
        Name::Endpoint(own, host, of_port) => match endpoint(world, host, *of_port, Some(own)) {
            Some(address) => (address, Resolution::Headless),
            None => (SOMEWHERE, Resolution::Missing),
        },
        Name::Missing => (SOMEWHERE, Resolution::Missing),
        Name::Outside => (SOMEWHERE, Resolution::Outside),
    };
    Target {
        destination: SocketAddr::new(address, port),
        authority: authority(written.strip_suffix('.').unwrap_or(written), port, speaks),
        host: Some(host),
        resolution,
    }
}

/// Asks for a name as a resolver does: with the search list of the client's namespace first, where it has few dots.
fn look_up(caller: &Caller, view: &View, written: &str) -> (String, Name) {
    let absolute = written.ends_with('.');
    let name = written.strip_suffix('.').unwrap_or(written);
    let mut tries = vec![name.to_owned()];
    if !absolute {
        let searched = [
            format!("{name}.{}.svc.{CLUSTER_DOMAIN}", caller.namespace),
            format!("{name}.svc.{CLUSTER_DOMAIN}"),
            format!("{name}.{CLUSTER_DOMAIN}"),
        ];
        let few = name.matches('.').count() < NDOTS;
        let place = if few { 0 } else { tries.len() };
        tries.splice(place..place, searched);
    }
    for full in &tries {
        let found = view.names.find(full);
        let is_asked_for = full == name;
        match &found {
            Name::Missing => {}
            // What the search list makes of a name is nobody's outside.
            Name::Outside if !is_asked_for && frontend(view, full).is_none() => {}
            _ => return (full.clone(), found),
        }
    }
    let full = if name.contains('.') {
        name.to_owned()
    } else {
        format!("{name}.{}.svc.{CLUSTER_DOMAIN}", caller.namespace)
    };
    (full, Name::Missing)
}

/// The service that has a name.
pub(crate) fn frontend<'v>(view: &'v View, host: &str) -> Option<&'v Frontend> {
    let frontends = &view.targets.index().frontends;
    let exact = frontends
        .iter()
        .find(|frontend| matches!(&frontend.host, HostPattern::Exact(own) if own.as_str() == host));
    exact.or_else(|| {
        let mut covering: Vec<&Frontend> =
            frontends.iter().filter(|frontend| frontend.host.matches(host)).collect();
        covering.sort_by(|left, right| left.host.cmp_specificity(&right.host));
        covering.first().copied()
    })
}

/// The port that a client takes who names none: the default of its protocol, else the only one that fits.
fn port_of(frontend: Option<&Frontend>, speaks: Option<Speaks>) -> u16 {
    let wanted = default_port(speaks);
    let ports: &[FrontendPort] = frontend.map_or(&[], |frontend| &frontend.ports);
    if ports.is_empty() || ports.iter().any(|port| port.number == wanted) {
        return wanted;
    }
    let fits = |port: &&FrontendPort| match speaks {
        None => port.protocol != Protocol::Udp,
        Some(speaks) => {
            speaks == Speaks::to_port(port.protocol) || port.protocol == Protocol::Detect
        }
    };
    let is_http = |port: &&FrontendPort| port.protocol.is_http();
    let found = ports.iter().filter(fits).find(|port| speaks.is_some() || is_http(port));
    found.or_else(|| ports.iter().find(fits)).or(ports.first()).map_or(wanted, |port| port.number)
}

fn default_port(speaks: Option<Speaks>) -> u16 {
    if speaks == Some(Speaks::Tls) { 443 } else { 80 }
}

fn endpoint(world: &World, host: &Host, port: u16, own: Option<&str>) -> Option<IpAddr> {
    let set = world.endpoints(&EndpointSetKey { host: host.clone(), port })?;
    let of_name = |endpoint: &Endpoint| own.is_none_or(|own| *own == *endpoint.hostname);
    let healthy = |endpoint: &Endpoint| endpoint.health == EndpointHealth::Healthy;
    let mut healthy = set.endpoints.iter().filter(|e| healthy(e) && of_name(e));
    healthy.find_map(|endpoint| match &endpoint.address {
        EndpointAddress::Address(address) => Some(address.ip()),
        EndpointAddress::Name(..) => None,
    })
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// `host:port`, without a port that goes without saying.
fn authority(host: &str, port: u16, speaks: Option<Speaks>) -> String {
    if port == default_port(speaks) { host.to_owned() } else { format!("{host}:{port}") }
}

/// The service of a frontend as `namespace/name`; its host outside of the cluster's domain.
pub(crate) fn service_label(namespace: &str, name: &str, host: &str) -> String {
    let inside = host.ends_with(&format!(".svc.{CLUSTER_DOMAIN}"));
    if inside && !namespace.is_empty() {
        return format!("{namespace}/{name}");
    }
    // As `translate` writes a wildcard where a host is needed.
    match host.strip_prefix("_wildcard.") {
        Some(suffix) => format!("*.{suffix}"),
        None => host.to_owned(),
    }
}

/// Names of the view that resemble nothing: for a client without scope, services of any namespace by their short name.
pub(crate) fn any_namespace(view: &View, short: &str) -> Option<Arc<str>> {
    let suffix = format!(".svc.{CLUSTER_DOMAIN}");
    let mut found = view.targets.index().frontends.iter().filter_map(|frontend| {
        let host = frontend.exact_host()?.as_str();
        let (name, _) = host.strip_suffix(&suffix)?.split_once('.')?;
        (name == short).then(|| Arc::from(host))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
