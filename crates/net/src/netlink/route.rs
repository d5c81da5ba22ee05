//! Routes and policy rules.

use std::net::IpAddr;

use heddle_ident::Cidr;

use super::address::{family, octets, parse_octets};
use super::message::{Attributes, CREATE, EXCLUSIVE, REPLACE, Reply, Request};
use super::{NetlinkError, RouteSocket};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;

const RTA_DESTINATION: u16 = 1;
const RTA_OUT_LINK: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFERRED_SOURCE: u16 = 7;
const RTA_TABLE: u16 = 15;
const FRA_PRIORITY: u16 = 6;
const FRA_MARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_MASK: u16 = 16;

const PROTOCOL_STATIC: u8 = 4;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const SCOPE_NOWHERE: u8 = 255;
const TO_TABLE: u8 = 1;
/// Bytes of a `struct rtmsg` and of a `struct fib_rule_hdr`.
const HEADER_BYTES: usize = 12;

/// The main routing table.
const MAIN_TABLE: u32 = 254;

/// What happens to a packet that takes a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// It is dropped without a word.
    Blackhole,
    /// It is delivered to this host, whatever its address.
    Local,
    /// It goes out over a link or to a gateway.
    Unicast,
    /// It is refused, and the sender told.
    Unreachable,
}

impl RouteKind {
    const CODES: [(Self, u8); 4] =
        [(Self::Unicast, 1), (Self::Local, 2), (Self::Blackhole, 6), (Self::Unreachable, 7)];

    fn code(self) -> u8 {
        Self::CODES.iter().find(|(kind, _)| *kind == self).map_or(1, |(_, code)| *code)
    }
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Which destinations; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: Cidr,
    /// The next hop; none for destinations on the link itself.
    pub gateway: Option<IpAddr>,
    /// The outgoing link; may be none when the gateway tells.
    pub link: Option<u32>,
    /// What happens.
    pub kind: RouteKind,
    /// The source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// The table it is in; [`Route::MAIN_TABLE`] unless policy rules say otherwise.
    pub table: u32,
}

impl Route {
    /// The main routing table.
    pub const MAIN_TABLE: u32 = MAIN_TABLE;

    /// A route over a gateway, in the main table.
    pub fn via(destination: Cidr, gateway: IpAddr) -> Self {
        Self {
            destination,
            gateway: Some(gateway),
            link: None,
            kind: RouteKind::Unicast,
            source: None,
            table: MAIN_TABLE,
        }
    }

    /// Everything of one address family to this host, in a table of its own (for marked packets).
    pub fn all_local(any: Cidr, loopback: u32, table: u32) -> Self {
        Self {
            destination: any,
            gateway: None,
            link: Some(loopback),
            kind: RouteKind::Local,
            source: None,
            table,
        }
    }

    fn scope(&self) -> u8 {
        match (self.kind, self.gateway) {
            (RouteKind::Local, _) => SCOPE_HOST,
            (RouteKind::Unicast, None) => SCOPE_LINK,
            _ => SCOPE_GLOBAL,
        }
    }
}

/// A policy rule: packets with a mark look a table up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// Whether it is for IPv6.
    pub ipv6: bool,
    /// The mark, compared whole.
    pub mark: u32,
    /// The table.
    pub table: u32,
    /// Rules are asked in this order, lowest first; the main table stands at 32766.
    pub priority: u32,
}

impl RouteSocket {
    /// Adds a route; one with the same destination and table is replaced.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let request = build_route(NEW_ROUTE, CREATE | REPLACE, route);
        self.transport.acknowledged(request, || format!("add a route to {}", route.destination))
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let request = build_route(DELETE_ROUTE, 0, route);
        self.transport
            .acknowledged(request, || format!("remove the route to {}", route.destination))
    }

    /// Every IPv4 and IPv6 route of every table.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        self.transport.dump(
            Request::new(GET_ROUTE, 0, &[0; HEADER_BYTES]),
            || "list routes".to_owned(),
            |reply| routes.extend(parse_route(&reply)),
        )?;
        Ok(routes)
    }

    /// Adds a policy rule; nothing happens when it is there already.
    pub fn add_rule(&mut self, rule: PolicyRule) -> Result<(), NetlinkError> {
        let request = build_rule(NEW_RULE, CREATE | EXCLUSIVE, rule);
        let operation = || format!("add a policy rule for mark {:#x}", rule.mark);
        match self.transport.acknowledged(request, operation) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Removes a policy rule; nothing happens when it is not there.
    pub fn remove_rule(&mut self, rule: PolicyRule) -> Result<(), NetlinkError> {
        let request = build_rule(DELETE_RULE, 0, rule);
        let operation = || format!("remove the policy rule for mark {:#x}", rule.mark);
        match self.transport.acknowledged(request, operation) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Every policy rule that looks a table up by mark.
    pub fn rules(&mut self) -> Result<Vec<PolicyRule>, NetlinkError> {
        let mut rules = Vec::new();
        self.transport.dump(
            Request::new(GET_RULE, 0, &[0; HEADER_BYTES]),
            || "list policy rules".to_owned(),
            |reply| rules.extend(parse_rule(&reply)),
        )?;
        Ok(rules)
    }
}

fn build_route(kind: u16, flags: u16, route: &Route) -> Request {
    let network = route.destination.network();
    let mut header = [0; HEADER_BYTES];
    header[0] = family(network);
    header[1] = route.destination.prefix_bits();
    header[4] = u8::try_from(route.table).unwrap_or(0);
    header[5] = PROTOCOL_STATIC;
    header[6] = if kind == DELETE_ROUTE { SCOPE_NOWHERE } else { route.scope() };
    header[7] = route.kind.code();
    let mut request = Request::new(kind, flags, &header);
    request.u32_native(RTA_TABLE, route.table);
    if route.destination.prefix_bits() > 0 {
        request.bytes(RTA_DESTINATION, &octets(network));
    }
    if let Some(gateway) = route.gateway {
        request.bytes(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(link) = route.link {
        request.u32_native(RTA_OUT_LINK, link);
    }
    if let Some(source) = route.source {
        request.bytes(RTA_PREFERRED_SOURCE, &octets(source));
    }
    request
}

fn parse_route(reply: &Reply<'_>) -> Option<Route> {
    if reply.kind != NEW_ROUTE {
        return None;
    }
    let header = reply.payload.get(..HEADER_BYTES)?;
    let kind = RouteKind::CODES.iter().find(|(_, code)| *code == header[7])?.0;
    let attributes = Attributes(&reply.payload[HEADER_BYTES..]);
    let any = match header[0] {
        2 => IpAddr::from([0; 4]),
        10 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let network = attributes.first(RTA_DESTINATION).and_then(parse_octets).unwrap_or(any);
    Some(Route {
        destination: Cidr::new(network, header[1])?,
        gateway: attributes.first(RTA_GATEWAY).and_then(parse_octets),
        link: attributes.u32_native(RTA_OUT_LINK),
        kind,
        source: attributes.first(RTA_PREFERRED_SOURCE).and_then(parse_octets),
        table: attributes.u32_native(RTA_TABLE).unwrap_or(u32::from(header[4])),
    })
}

fn build_rule(kind: u16, flags: u16, rule: PolicyRule) -> Request {
    let mut header = [0; HEADER_BYTES];
    header[0] = if rule.ipv6 { 10 } else { 2 };
    header[4] = u8::try_from(rule.table).unwrap_or(0);
    header[7] = TO_TABLE;
    let mut request = Request::new(kind, flags, &header);
    request
        .u32_native(FRA_TABLE, rule.table)
        .u32_native(FRA_PRIORITY, rule.priority)
        .u32_native(FRA_MARK, rule.mark)
        .u32_native(FRA_MASK, u32::MAX);
    request
}

fn parse_rule(reply: &Reply<'_>) -> Option<PolicyRule> {
    if reply.kind != NEW_RULE {
        return None;
    }
    let header = reply.payload.get(..HEADER_BYTES)?;
    let attributes = Attributes(&reply.payload[HEADER_BYTES..]);
    if header[7] != TO_TABLE || ![2, 10].contains(&header[0]) {
        return None;
    }
    Some(PolicyRule {
        ipv6: header[0] == 10,
        mark: attributes.u32_native(FRA_MARK)?,
        table: attributes.u32_native(FRA_TABLE)?,
        priority: attributes.u32_native(FRA_PRIORITY).unwrap_or(0),
    })
}
