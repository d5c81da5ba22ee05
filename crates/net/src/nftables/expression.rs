//! Rules as lists of expressions.
//!
//! Every match loads a value into one register and compares it; a rule goes on only while its matches
//! hold. Values of packets are in network order, values the kernel makes (marks, user ids, states) in
//! the machine's order.

use std::net::{IpAddr, SocketAddr};

use heddle_ident::Cidr;

use crate::netlink::Request;

const NFTA_LIST_ELEMENT: u16 = 1;
const NFTA_EXPRESSION_NAME: u16 = 1;
const NFTA_EXPRESSION_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
/// Free while the first one holds a value.
const SECOND_REGISTER: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// The kind of object that counts.
pub(super) const COUNTER_OBJECT: u32 = 1;

const IPV4: u8 = 2;
const IPV6: u8 = 10;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// A fact about a packet that is not in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    InputName,
    Mark,
    OutputName,
    /// User id of the owner of the sending socket; a packet without a socket does not match.
    SocketUser,
}

impl Meta {
    fn key(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::InputName => 6,
            Self::OutputName => 7,
            Self::SocketUser => 10,
        }
    }
}

/// States of connection tracking, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection(u32);

impl Connection {
    pub(crate) const ESTABLISHED_OR_RELATED: Self = Self(2 | 4);
    pub(crate) const NEW: Self = Self(8);
    pub(crate) const RELATED: Self = Self(4);
}

/// Which way a packet goes in its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Original,
    Reply,
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Destination,
    Source,
}

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
}

impl Verdict {
    fn code(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Bitwise { mask: Vec<u8> },
    Compare { operator: u32, value: Vec<u8> },
    ConnectionLoad { key: u32 },
    ConnectionMarkSet,
    Count { counter: String },
    DestinationTranslation { family: u8 },
    Immediate { value: Vec<u8> },
    ImmediateSecond { value: Vec<u8> },
    Limit { per_second: u64, burst: u32 },
    Log { group: u16, prefix: String, bytes: u32 },
    Lookup { set: String, invert: bool },
    MetaLoad { key: u32 },
    MetaMarkSet,
    NoTrack,
    Payload { base: u32, offset: u32, bytes: u32 },
    RandomNumber { below: u32 },
    Redirect,
    TransparentProxy,
    Verdict(Verdict),
}

/// A rule: matches, then what to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    expressions: Vec<Expression>,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn protocol(self, protocol: u8) -> Self {
        self.meta_equals(16, vec![protocol])
    }

    pub(crate) fn interface(self, side: Meta, name: &str) -> Self {
        self.meta_equals(side.key(), interface_name(name))
    }

    pub(crate) fn interface_not(mut self, side: Meta, name: &str) -> Self {
        self.expressions.push(Expression::MetaLoad { key: side.key() });
        self.compare(NOT_EQUAL, interface_name(name))
    }

    pub(crate) fn mark(self, mark: u32) -> Self {
        self.meta_equals(Meta::Mark.key(), mark.to_ne_bytes().to_vec())
    }

    pub(crate) fn socket_user(self, uid: u32) -> Self {
        self.meta_equals(Meta::SocketUser.key(), uid.to_ne_bytes().to_vec())
    }

    pub(crate) fn source(self, address: IpAddr) -> Self {
        let (offset, value) = match address {
            IpAddr::V4(v4) => (12, v4.octets().to_vec()),
            IpAddr::V6(v6) => (8, v6.octets().to_vec()),
        };
        let bytes = u32::try_from(value.len()).unwrap_or(0);
        self.family(address.is_ipv6()).payload(NETWORK_HEADER, offset, bytes).compare(EQUAL, value)
    }

    pub(crate) fn destination_address(self, address: IpAddr) -> Self {
        let value = octets(address);
        self.family(address.is_ipv6()).destination(address.is_ipv6()).compare(EQUAL, value)
    }

    /// Matches one of so many packets, drawn at random.
    pub(crate) fn one_of(mut self, number: u32) -> Self {
        self.expressions.push(Expression::RandomNumber { below: number });
        self.compare(EQUAL, 0_u32.to_ne_bytes().to_vec())
    }

    /// Matches packets of the range's family whose destination is not in it.
    pub(crate) fn destination_outside(mut self, range: Cidr) -> Self {
        let (ipv6, value) = match range.network() {
            IpAddr::V4(v4) => (false, v4.octets().to_vec()),
            IpAddr::V6(v6) => (true, v6.octets().to_vec()),
        };
        let mask = prefix_mask(range.prefix_bits(), value.len());
        self = self.family(ipv6).destination(ipv6);
        self.expressions.push(Expression::Bitwise { mask });
        self.compare(NOT_EQUAL, value)
    }

    /// Matches packets of one family.
    pub(crate) fn of_family(self, ipv6: bool) -> Self {
        self.family(ipv6)
    }

    pub(crate) fn destination_is(self, address: IpAddr) -> Self {
        let value = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let ipv6 = address.is_ipv6();
        self.family(ipv6).destination(ipv6).compare(EQUAL, value)
    }

    /// Matches packets of a family whose address at that end is in a set, or is not.
    pub(crate) fn address_in_set(self, end: End, ipv6: bool, set: &str, inside: bool) -> Self {
        let (offset, bytes) = match (end, ipv6) {
            (End::Destination, false) => (16, 4),
            (End::Destination, true) => (24, 16),
            (End::Source, false) => (12, 4),
            (End::Source, true) => (8, 16),
        };
        self.family(ipv6).payload(NETWORK_HEADER, offset, bytes).lookup(set, !inside)
    }

    /// Of a packet of ICMP, of either family.
    pub(crate) fn icmp_type_in(self, set: &str) -> Self {
        self.payload(TRANSPORT_HEADER, 0, 1).lookup(set, false)
    }

    pub(crate) fn destination_in_set(self, ipv6: bool, set: &str) -> Self {
        self.family(ipv6).destination(ipv6).lookup(set, false)
    }

    pub(crate) fn destination_port(self, port: u16) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2).compare(EQUAL, port.to_be_bytes().to_vec())
    }

    pub(crate) fn destination_port_not(self, port: u16) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2).compare(NOT_EQUAL, port.to_be_bytes().to_vec())
    }

    pub(crate) fn destination_port_in(self, set: &str) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2).lookup(set, false)
    }

    pub(crate) fn destination_port_not_in(self, set: &str) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2).lookup(set, true)
    }

    pub(crate) fn source_port(self, port: u16) -> Self {
        self.payload(TRANSPORT_HEADER, 0, 2).compare(EQUAL, port.to_be_bytes().to_vec())
    }

    /// IPv6 neighbour discovery and multicast listener reports, without which IPv6 has no link.
    pub(crate) fn ipv6_housekeeping(self, set: &str) -> Self {
        self.family(true).protocol(ICMPV6).payload(TRANSPORT_HEADER, 0, 1).lookup(set, false)
    }

    pub(crate) fn connection(mut self, states: Connection) -> Self {
        self.expressions.push(Expression::ConnectionLoad { key: 0 });
        self.expressions.push(Expression::Bitwise { mask: states.0.to_ne_bytes().to_vec() });
        self.compare(NOT_EQUAL, vec![0; 4])
    }

    pub(crate) fn connection_direction(mut self, direction: Direction) -> Self {
        self.expressions.push(Expression::ConnectionLoad { key: 1 });
        let value = match direction {
            Direction::Original => 0,
            Direction::Reply => 1,
        };
        self.compare(EQUAL, vec![value])
    }

    pub(crate) fn connection_mark(mut self, mark: u32) -> Self {
        self.expressions.push(Expression::ConnectionLoad { key: 3 });
        self.compare(EQUAL, mark.to_ne_bytes().to_vec())
    }

    pub(crate) fn set_mark(self, mark: u32) -> Self {
        self.with_value(mark.to_ne_bytes().to_vec(), Expression::MetaMarkSet)
    }

    pub(crate) fn set_connection_mark(self, mark: u32) -> Self {
        self.with_value(mark.to_ne_bytes().to_vec(), Expression::ConnectionMarkSet)
    }

    /// Counts the packet with a counter of the table.
    pub(crate) fn count(mut self, counter: &str) -> Self {
        self.expressions.push(Expression::Count { counter: counter.to_owned() });
        self
    }

    /// Matches only so many packets.
    pub(crate) fn limit(mut self, per_second: u64, burst: u32) -> Self {
        self.expressions.push(Expression::Limit { per_second, burst });
        self
    }

    /// Hands the beginning of the packet to whoever listens to the group, with a word that tells the rule.
    pub(crate) fn log(mut self, group: u16, prefix: &str, bytes: u32) -> Self {
        self.expressions.push(Expression::Log { group, prefix: prefix.to_owned(), bytes });
        self
    }

    pub(crate) fn no_track(mut self) -> Self {
        self.expressions.push(Expression::NoTrack);
        self
    }

    /// Sends the connection to a port of this host; ends the rule.
    pub(crate) fn redirect(self, port: u16) -> Self {
        self.with_value(port.to_be_bytes().to_vec(), Expression::Redirect)
    }

    /// Sends the connection to another address and port of the same family; ends the rule.
    pub(crate) fn redirected_to(mut self, endpoint: SocketAddr) -> Self {
        let family = if endpoint.is_ipv6() { IPV6 } else { IPV4 };
        self.expressions.push(Expression::Immediate { value: octets(endpoint.ip()) });
        let port = endpoint.port().to_be_bytes().to_vec();
        self.expressions.push(Expression::ImmediateSecond { value: port });
        self.expressions.push(Expression::DestinationTranslation { family });
        self
    }

    /// Hands the packet to a transparent socket at a port, its addresses unchanged.
    pub(crate) fn transparent_proxy(self, port: u16) -> Self {
        self.with_value(port.to_be_bytes().to_vec(), Expression::TransparentProxy)
    }

    pub(crate) fn verdict(mut self, verdict: Verdict) -> Self {
        self.expressions.push(Expression::Verdict(verdict));
        self
    }

    pub(crate) fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    pub(crate) fn drop_packet(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    fn family(self, ipv6: bool) -> Self {
        self.meta_equals(15, vec![if ipv6 { IPV6 } else { IPV4 }])
    }

    fn destination(self, ipv6: bool) -> Self {
        let (offset, bytes) = if ipv6 { (24, 16) } else { (16, 4) };
        self.payload(NETWORK_HEADER, offset, bytes)
    }

    fn meta_equals(mut self, key: u32, value: Vec<u8>) -> Self {
        self.expressions.push(Expression::MetaLoad { key });
        self.compare(EQUAL, value)
    }

    fn payload(mut self, base: u32, offset: u32, bytes: u32) -> Self {
        self.expressions.push(Expression::Payload { base, offset, bytes });
        self
    }

    fn compare(mut self, operator: u32, value: Vec<u8>) -> Self {
        self.expressions.push(Expression::Compare { operator, value });
        self
    }

    fn lookup(mut self, set: &str, invert: bool) -> Self {
        self.expressions.push(Expression::Lookup { set: set.to_owned(), invert });
        self
    }

    fn with_value(mut self, value: Vec<u8>, then: Expression) -> Self {
        self.expressions.push(Expression::Immediate { value });
        self.expressions.push(then);
        self
    }

    /// Writes the list of expressions into a rule message.
    pub(super) fn encode(&self, list: &mut Request) {
        for expression in &self.expressions {
            list.nested(NFTA_LIST_ELEMENT, |element| {
                element.text(NFTA_EXPRESSION_NAME, expression.name());
                element.nested(NFTA_EXPRESSION_DATA, |data| expression.encode(data));
            });
        }
    }
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::ConnectionLoad { .. } | Self::ConnectionMarkSet => "ct",
            Self::Count { .. } => "objref",
            Self::DestinationTranslation { .. } => "nat",
            Self::Immediate { .. } | Self::ImmediateSecond { .. } | Self::Verdict(_) => "immediate",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Lookup { .. } => "lookup",
            Self::MetaLoad { .. } | Self::MetaMarkSet => "meta",
            Self::NoTrack => "notrack",
            Self::Payload { .. } => "payload",
            Self::RandomNumber { .. } => "numgen",
            Self::Redirect => "redir",
            Self::TransparentProxy => "tproxy",
        }
    }

    fn encode(&self, data: &mut Request) {
        match self {
            Self::Bitwise { mask } => {
                data.u32_network(1, REGISTER).u32_network(2, REGISTER);
                data.u32_network(3, u32::try_from(mask.len()).unwrap_or(0));
                value(data, 4, mask);
                value(data, 5, &vec![0; mask.len()]);
            }
            Self::Compare { operator, value: expected } => {
                data.u32_network(1, REGISTER).u32_network(2, *operator);
                value(data, 3, expected);
            }
            Self::ConnectionLoad { key } | Self::MetaLoad { key } => {
                data.u32_network(1, REGISTER).u32_network(2, *key);
            }
            Self::ConnectionMarkSet => {
                data.u32_network(2, 3).u32_network(4, REGISTER);
            }
            Self::Count { counter } => {
                data.u32_network(1, COUNTER_OBJECT).text(2, counter);
            }
            // The unit is a second, what is counted packets.
            Self::Limit { per_second, burst } => {
                data.bytes(1, &per_second.to_be_bytes()).bytes(2, &1_u64.to_be_bytes());
                data.u32_network(3, *burst).u32_network(4, 0);
            }
            // Asks for each packet at once: what is too many is limited before.
            Self::Log { group, prefix, bytes } => {
                data.bytes(1, &group.to_be_bytes()).text(2, prefix);
                data.u32_network(3, *bytes).bytes(4, &1_u16.to_be_bytes());
            }
            // Type 1: the destination; then family, address and port.
            Self::DestinationTranslation { family } => {
                data.u32_network(1, 1).u32_network(2, u32::from(*family));
                data.u32_network(3, REGISTER).u32_network(5, SECOND_REGISTER);
            }
            Self::ImmediateSecond { value: constant } => {
                data.u32_network(1, SECOND_REGISTER);
                value(data, 2, constant);
            }
            Self::Immediate { value: constant } => {
                data.u32_network(1, REGISTER);
                value(data, 2, constant);
            }
            Self::Lookup { set, invert } => {
                data.text(1, set).u32_network(2, REGISTER);
                data.u32_network(5, u32::from(*invert));
            }
            Self::MetaMarkSet => {
                data.u32_network(2, Meta::Mark.key()).u32_network(3, REGISTER);
            }
            Self::NoTrack => {}
            Self::Payload { base, offset, bytes } => {
                data.u32_network(1, REGISTER).u32_network(2, *base);
                data.u32_network(3, *offset).u32_network(4, *bytes);
            }
            // Type 1: random.
            Self::RandomNumber { below } => {
                data.u32_network(1, REGISTER).u32_network(2, *below).u32_network(3, 1);
            }
            Self::Redirect => {
                data.u32_network(1, REGISTER);
            }
            // Family 0: both, in an inet table; the address stays the packet's own.
            Self::TransparentProxy => {
                data.u32_network(1, 0).u32_network(3, REGISTER);
            }
            Self::Verdict(verdict) => {
                data.u32_network(1, VERDICT_REGISTER).nested(2, |immediate| {
                    immediate.nested(NFTA_DATA_VERDICT, |inner| {
                        inner.u32_network(NFTA_VERDICT_CODE, verdict.code());
                    });
                });
            }
        }
    }
}

fn value(data: &mut Request, kind: u16, value: &[u8]) {
    data.nested(kind, |inner| {
        inner.bytes(NFTA_DATA_VALUE, value);
    });
}

/// Interface names are compared as 16 bytes filled with zeroes.
fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn prefix_mask(bits: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| {
            let left = usize::from(bits).saturating_sub(index * 8).min(8);
            0xff_u8.checked_shl(u32::try_from(8 - left).unwrap_or(8)).unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_as_many_leading_ones_as_the_prefix_says() {
        for bits in 0..=128_u8 {
            let mask = prefix_mask(bits, 16);
            let number = u128::from_be_bytes(mask.try_into().unwrap());
            assert_eq!(number.leading_ones(), u32::from(bits));
            assert_eq!(number.count_ones(), u32::from(bits));
        }
    }
}
