//! A transaction: everything in it takes effect at one moment, or nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use heddle_ident::Cidr;

use super::Rule;
use super::expression::COUNTER_OBJECT;
use crate::namespace::NetworkNamespace;
use crate::netlink::{Attributes, NETFILTER, NetlinkError, Reply, Request, Transport};

const SUBSYSTEM: u16 = 0xa << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_SET_ELEMENT: u16 = SUBSYSTEM | 0xc;
const NEW_OBJECT: u16 = SUBSYSTEM | 0x12;
const GET_OBJECT: u16 = SUBSYSTEM | 0x13;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_INET: u8 = 1;
const SET_CONSTANT: u32 = 2;
const SET_INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;
const NFTA_LIST_ELEMENT: u16 = 1;
/// So many elements go into one message, which keeps its list attribute below 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;

/// Where in a packet's way a chain is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Forward,
    Input,
    Output,
    Prerouting,
}

impl Hook {
    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
        }
    }
}

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainKind {
    Filter,
    Nat,
    /// Packets whose mark changes are routed again.
    Route,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// What happens to packets no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    Drop,
}

/// A base chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) kind: ChainKind,
    pub(crate) hook: Hook,
    /// Lower is asked first.
    pub(crate) priority: i32,
    pub(crate) policy: Policy,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    /// Before connection tracking.
    pub(crate) const PRIORITY_RAW: i32 = -300;
    /// Before address translation.
    pub(crate) const PRIORITY_MANGLE: i32 = -150;
    /// Address translation of destinations.
    pub(crate) const PRIORITY_NAT: i32 = -100;
    /// After it.
    pub(crate) const PRIORITY_FILTER: i32 = 0;
}

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SetKey {
    /// Ranges of IPv4 addresses; others in the list are left out.
    Ipv4(Vec<Cidr>),
    /// Ranges of IPv6 addresses; others in the list are left out.
    Ipv6(Vec<Cidr>),
    IcmpType(Vec<u8>),
    Port(Vec<u16>),
    /// From the first to the last.
    PortRange(Vec<(u16, u16)>),
}

/// A named constant set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: Cow<'static, str>,
    pub(crate) key: SetKey,
}

/// A transaction being put together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    steps: Vec<(String, Request)>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes sure that a table is not there when the batch is through.
    pub(crate) fn remove_table(&mut self, table: &str) {
        // Deleting what is not there would fail the batch, so it is made first.
        self.add_table(table);
        let mut request = message(DELETE_TABLE, 0);
        request.text(1, table);
        self.push(format!("remove the table {table}"), request);
    }

    pub(crate) fn add_table(&mut self, table: &str) {
        let mut request = message(NEW_TABLE, CREATE);
        request.text(1, table);
        self.push(format!("make the table {table}"), request);
    }

    pub(crate) fn add_set(&mut self, table: &str, set: &Set) {
        let (kind, bytes, interval) = match &set.key {
            SetKey::Ipv4(_) => (7, 4, true),
            SetKey::Ipv6(_) => (8, 16, true),
            SetKey::IcmpType(_) => (29, 1, false),
            SetKey::Port(_) => (13, 2, false),
            SetKey::PortRange(_) => (13, 2, true),
        };
        let elements = set.elements();
        // Sets are known by their name within the batch; the number is asked for all the same.
        let id = u32::try_from(self.steps.len()).unwrap_or(0) + 1;
        let flags = SET_CONSTANT | if interval { SET_INTERVAL } else { 0 };
        let mut request = message(NEW_SET, CREATE);
        request.text(1, table).text(2, &set.name).u32_network(3, flags);
        request.u32_network(4, kind).u32_network(5, bytes).u32_network(10, id);
        self.push(format!("make the set {}", set.name), request);
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut request = message(NEW_SET_ELEMENT, CREATE);
            request.text(1, table).text(2, &set.name).u32_network(4, id);
            request.nested(3, |list| {
                for (value, flags) in part {
                    list.nested(NFTA_LIST_ELEMENT, |element| {
                        element.nested(1, |key| {
                            key.bytes(1, value);
                        });
                        if *flags != 0 {
                            element.u32_network(3, *flags);
                        }
                    });
                }
            });
            self.push(format!("fill the set {}", set.name), request);
        }
    }

    /// A counter that begins at 0.
    pub(crate) fn add_counter(&mut self, table: &str, name: &str) {
        let mut request = message(NEW_OBJECT, CREATE);
        request.text(1, table).text(2, name).u32_network(3, COUNTER_OBJECT).nested(4, |_| {});
        self.push(format!("make the counter {name}"), request);
    }

    pub(crate) fn add_chain(&mut self, table: &str, chain: &Chain) {
        let mut request = message(NEW_CHAIN, CREATE);
        request.text(1, table).text(3, chain.name);
        request.nested(4, |hook| {
            hook.u32_network(1, chain.hook.number());
            hook.bytes(2, &chain.priority.to_be_bytes());
        });
        request.u32_network(5, u32::from(chain.policy == Policy::Accept));
        request.text(7, chain.kind.name());
        self.push(format!("make the chain {}", chain.name), request);
        for (index, rule) in chain.rules.iter().enumerate() {
            let mut request = message(NEW_RULE, CREATE | APPEND);
            request.text(1, table).text(2, chain.name);
            request.nested(4, |list| rule.encode(list));
            self.push(format!("add rule {} of the chain {}", index + 1, chain.name), request);
        }
    }

    /// Carries everything out in a namespace, or nothing.
    pub(crate) fn commit(mut self, namespace: &NetworkNamespace) -> Result<(), NetlinkError> {
        let mut transport = open(namespace)?;
        // One answer, to the last step, stands for all: a refusal of any step is always told.
        if let Some((_, last)) = self.steps.last_mut() {
            last.set_flags(last.flags() | ACK);
        }
        let mut names = vec!["begin a batch".to_owned()];
        let mut requests = vec![control(BATCH_BEGIN)];
        for (name, request) in self.steps {
            names.push(name);
            requests.push(request);
        }
        requests.push(control(BATCH_END));
        let name = |index: usize| {
            names.get(index).cloned().unwrap_or_else(|| "commit the batch".to_owned())
        };
        transport.exchange(requests, name, |_| {})
    }

    fn push(&mut self, name: String, request: Request) {
        self.steps.push((name, request));
    }
}

/// Whether an inet table of this name is in a namespace.
pub(crate) fn has_table(namespace: &NetworkNamespace, table: &str) -> Result<bool, NetlinkError> {
    let mut request = message(GET_TABLE, ACK);
    request.text(1, table);
    let operation = |_| format!("look for the table {table}");
    match open(namespace)?.exchange(vec![request], operation, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the counters of a table have counted, in packets; a table that is not there has none.
pub(crate) fn counters(
    namespace: &NetworkNamespace,
    table: &str,
) -> Result<Vec<(String, u64)>, NetlinkError> {
    let mut request = message(GET_OBJECT, 0);
    request.text(1, table).u32_network(3, COUNTER_OBJECT);
    let mut found = Vec::new();
    let take = |reply: Reply<'_>| {
        let attributes = Attributes(reply.payload.get(4..).unwrap_or_default());
        let packets = attributes.first(4).and_then(|data| Attributes(data).first(2));
        let packets = packets.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let (of, name) = (attributes.text(1), attributes.text(2));
        if let (Some(of), Some(name), Some(packets)) = (of, name, packets)
            && of == table
        {
            found.push((name.to_owned(), packets));
        }
    };
    open(namespace)?.dump(request, || format!("read the counters of {table}"), take)?;
    Ok(found)
}

impl Set {
    /// Values with their flags, in the kernel's form: an interval is its first value and, flagged, the
    /// first value after it; one that reaches to the top has no end.
    fn elements(&self) -> Vec<(Vec<u8>, u32)> {
        match &self.key {
            SetKey::Ipv4(ranges) => intervals(&widen(ranges, false), u128::from(u32::MAX))
                .into_iter()
                .map(|(value, flags)| (value.to_be_bytes()[12..].to_vec(), flags))
                .collect(),
            SetKey::Ipv6(ranges) => intervals(&widen(ranges, true), u128::MAX)
                .into_iter()
                .map(|(value, flags)| (value.to_be_bytes().to_vec(), flags))
                .collect(),
            SetKey::IcmpType(types) => {
                let mut types = types.clone();
                types.sort_unstable();
                types.dedup();
                types.iter().map(|kind| (vec![*kind], 0)).collect()
            }
            SetKey::PortRange(ranges) => {
                let wide = |(first, last): &(u16, u16)| (u128::from(*first), u128::from(*last));
                let ranges: Vec<(u128, u128)> = ranges.iter().map(wide).collect();
                intervals(&ranges, u128::from(u16::MAX))
                    .into_iter()
                    .map(|(value, flags)| (value.to_be_bytes()[14..].to_vec(), flags))
                    .collect()
            }
            SetKey::Port(ports) => {
                let mut ports = ports.clone();
                ports.sort_unstable();
                ports.dedup();
                ports.iter().map(|port| (port.to_be_bytes().to_vec(), 0)).collect()
            }
        }
    }
}

/// First and last address of each range of a family.
fn widen(ranges: &[Cidr], ipv6: bool) -> Vec<(u128, u128)> {
    ranges
        .iter()
        .filter_map(|range| {
            let (first, bits) = match range.network() {
                IpAddr::V4(v4) if !ipv6 => (u128::from(v4.to_bits()), 32),
                IpAddr::V6(v6) if ipv6 => (v6.to_bits(), 128),
                _ => return None,
            };
            let free_bits = bits - u32::from(range.prefix_bits());
            let size_less_one = 1_u128.checked_shl(free_bits).map_or(u128::MAX, |size| size - 1);
            Some((first, first + size_less_one))
        })
        .collect()
}

/// Joins overlapping and touching ranges, which the kernel refuses, and writes their ends.
fn intervals(ranges: &[(u128, u128)], last: u128) -> Vec<(u128, u32)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (from, to) in sorted {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => joined.push((from, to)),
        }
    }
    let mut elements = Vec::new();
    for (from, to) in joined {
        elements.push((from, 0));
        if to < last {
            elements.push((to + 1, INTERVAL_END));
        }
    }
    elements
}

fn open(namespace: &NetworkNamespace) -> Result<Transport, NetlinkError> {
    namespace.scoped(|| Transport::open(NETFILTER)).map_err(NetlinkError::from)?
}

fn message(kind: u16, flags: u16) -> Request {
    Request::new(kind, flags, &[FAMILY_INET, 0, 0, 0])
}

fn control(kind: u16) -> Request {
    // The resource id names the subsystem, in network order.
    Request::new(kind, 0, &[0, 0, 0, 10])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals_of(ranges: &[&str]) -> Vec<(Vec<u8>, u32)> {
        let ranges = ranges.iter().map(|text| Cidr::parse(text).unwrap()).collect();
        Set { name: "x".into(), key: SetKey::Ipv4(ranges) }.elements()
    }

    #[test]
    fn ranges_are_joined_and_end_after_their_last_address() {
        assert_eq!(
            intervals_of(&["10.0.0.0/9", "10.1.0.0/16", "10.128.0.0/9", "192.168.1.1"]),
            [
                (vec![10, 0, 0, 0], 0),
                (vec![11, 0, 0, 0], 1),
                (vec![192, 168, 1, 1], 0),
                (vec![192, 168, 1, 2], 1)
            ]
        );
        assert_eq!(intervals_of(&["0.0.0.0/0"]), [(vec![0; 4], 0)]);
        assert_eq!(intervals_of(&["255.0.0.0/8", "fd00::/8"]), [(vec![255, 0, 0, 0], 0)]);
        let all = Set { name: "x".into(), key: SetKey::Ipv6(vec![Cidr::parse("::/0").unwrap()]) };
        assert_eq!(all.elements(), [(vec![0; 16], 0)]);
    }

    #[test]
    fn ports_are_listed_once() {
        let ranges = SetKey::PortRange(vec![(80, 90), (85, 100), (65_000, 65_535)]);
        let ranges = Set { name: "x".into(), key: ranges };
        assert_eq!(ranges.elements(), [(vec![0, 80], 0), (vec![0, 101], 1), (vec![253, 232], 0)]);
        let ports = Set { name: "x".into(), key: SetKey::Port(vec![80, 443, 80]) };
        assert_eq!(ports.elements(), [(vec![0, 80], 0), (vec![1, 187], 0)]);
    }
}
