//! Packets that do not pass a proxy: datagrams, ICMP, excluded ports. What policies say of them is enforced by the kernel, in
//! the workload's own network namespace.
//!
//! A [`PacketFilter`] is a description; [`PacketFilter::install`] makes the kernel follow it, at one moment, replacing what
//! an earlier call left. Every packet of the original direction is asked about, not only a connection's first, so that a
//! change cuts what it denies. What goes to or comes from the proxy passes: it is decided about there.
//!
//! ```text
//! output:  loopback, the proxy's own, answers? pass · denied? drop · allowed? pass · closed? drop
//! input:   loopback, the proxy's ports, answers? pass · denied? drop · allowed? pass · closed? drop
//! ```

mod denied;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use heddle_ident::Cidr;
use heddle_ir::packet::{AddressTest, PacketProtocol, PacketRule, PacketRules};
use thiserror::Error;

use crate::interception::{OwnPackets, ProxyPorts, RESERVED_PORTS};
use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::netlink::NetlinkError;
use crate::nftables::{
    Batch, Chain, ChainKind, Connection, Direction, End, Hook, ICMP, ICMPV6, Meta, Policy, Rule,
    SCTP, Set, SetKey, TCP, UDP,
};

pub use denied::{DeniedBy, DeniedPacket, DeniedPackets, denied_counts};

const TABLE: &str = "heddle-policy";
const HOUSEKEEPING: &str = "ipv6-housekeeping";
const PROXY_PORTS: &str = "proxy-ports";
/// Router and neighbour discovery (RFC 4861), multicast listener reports (RFC 3810).
const HOUSEKEEPING_TYPES: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];
/// Rules of both directions together; the kernel asks them one after the other.
pub const RULES_MAX: usize = 8192;

/// What the kernel enforces in one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketFilter {
    /// How the proxy's own packets are told.
    pub own: OwnPackets,
    /// The mark of the proxy's connections to the application beside it.
    pub delivery_mark: u32,
    /// Where the proxy listens.
    pub ports: ProxyPorts,
    /// What leaves; none: everything does.
    pub output: Option<PacketRules>,
    /// What enters; none: everything does.
    pub input: Option<PacketRules>,
}

/// The kernel did not take the rules.
#[derive(Debug, Error)]
pub enum PacketFilterError {
    /// There are more rules than [`RULES_MAX`].
    #[error("{0} rules for packets, more than {RULES_MAX}")]
    TooMany(usize),
    /// The own namespace cannot be told.
    #[error("cannot find the network namespace")]
    Namespace(#[from] NamespaceError),
    /// The event loop does not take the socket.
    #[error("cannot listen to dropped packets")]
    Listen {
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} in {namespace:?}")]
    Rules {
        /// What was tried, in words.
        action: &'static str,
        /// Where.
        namespace: NetworkNamespace,
        /// Why not.
        source: NetlinkError,
    },
}

impl PacketFilterError {
    /// Whether this process may not change the namespace.
    pub fn is_not_permitted(&self) -> bool {
        let Self::Rules { source, .. } = self else { return false };
        let open_errno = match source {
            NetlinkError::Open { source } => source.raw_os_error(),
            _ => None,
        };
        matches!(source.errno().or(open_errno), Some(libc::EPERM | libc::EACCES))
    }
}

/// Whether the kernel does not know what counts and tells (modules of their own before 5.17).
fn lacks_expressions(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT))
}

impl PacketFilter {
    /// Whether nothing is dropped.
    pub fn is_empty(&self) -> bool {
        self.output.is_none() && self.input.is_none()
    }

    /// Makes the namespace follow this description, at one moment. Whether what is dropped is counted and told
    /// ([`denied_counts`], [`DeniedPackets`]): it is not where the kernel can do neither.
    ///
    /// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
    pub fn install(&self, namespace: &NetworkNamespace) -> Result<bool, PacketFilterError> {
        match self.install_rules(namespace, true) {
            Err(PacketFilterError::Rules { source, .. }) if lacks_expressions(&source) => {
                self.install_rules(namespace, false).map(|()| false)
            }
            // Telling takes a rule more for each that denies.
            Err(PacketFilterError::TooMany(_)) => {
                self.install_rules(namespace, false).map(|()| false)
            }
            installed => installed.map(|()| true),
        }
    }

    fn install_rules(
        &self,
        namespace: &NetworkNamespace,
        accounts: bool,
    ) -> Result<(), PacketFilterError> {
        let mut sets = Sets::default();
        let mut chains = Vec::new();
        if let Some(rules) = &self.output {
            chains.push(self.chain("policy-output", Hook::Output, rules, accounts, &mut sets));
        }
        if let Some(rules) = &self.input {
            chains.push(self.chain("policy-input", Hook::Input, rules, accounts, &mut sets));
        }
        let count: usize = chains.iter().map(|chain| chain.rules.len()).sum();
        if count > RULES_MAX {
            return Err(PacketFilterError::TooMany(count));
        }
        let mut batch = Batch::new();
        batch.remove_table(TABLE);
        if !chains.is_empty() {
            batch.add_table(TABLE);
            for set in self.fixed_sets().iter().chain(&sets.made) {
                batch.add_set(TABLE, set);
            }
            if accounts {
                for by in self.denying() {
                    batch.add_counter(TABLE, &by.name());
                }
            }
            for chain in &chains {
                batch.add_chain(TABLE, chain);
            }
        }
        batch.commit(namespace).map_err(|source| PacketFilterError::Rules {
            action: "install the rules for packets",
            namespace: namespace.clone(),
            source,
        })
    }

    /// Everything that drops.
    fn denying(&self) -> impl Iterator<Item = DeniedBy> {
        let ways = [(true, &self.output), (false, &self.input)];
        ways.into_iter().flat_map(|(leaving, rules)| {
            let places = 0..rules.as_ref().map_or(0, |rules| rules.deny.len());
            let default = rules.as_ref().is_some_and(|rules| rules.closed).then_some(None);
            places.map(Some).chain(default).map(move |rule| DeniedBy { leaving, rule })
        })
    }

    fn fixed_sets(&self) -> [Set; 2] {
        let ports = RESERVED_PORTS.into_iter().chain([self.ports.inbound]).collect();
        [
            Set { name: HOUSEKEEPING.into(), key: SetKey::IcmpType(HOUSEKEEPING_TYPES.to_vec()) },
            Set { name: PROXY_PORTS.into(), key: SetKey::Port(ports) },
        ]
    }

    fn chain(
        &self,
        name: &'static str,
        hook: Hook,
        policy: &PacketRules,
        accounts: bool,
        sets: &mut Sets,
    ) -> Chain {
        let leaving = hook == Hook::Output;
        let end = if leaving { End::Destination } else { End::Source };
        let mut rules = self.passing(hook);
        let deny = |rules: &mut Vec<Rule>, matches: Rule, rule: Option<usize>| {
            if accounts {
                rules.extend(denied::dropping(matches, DeniedBy { leaving, rule }));
            } else {
                rules.push(matches.drop_packet());
            }
        };
        for (place, denied) in policy.deny.iter().enumerate() {
            for matches in of_rule(denied, end, sets) {
                deny(&mut rules, matches, Some(place));
            }
        }
        if policy.closed {
            for allowed in &policy.allow {
                rules.extend(of_rule(allowed, end, sets).into_iter().map(Rule::accept));
            }
            deny(&mut rules, Rule::new(), None);
        }
        Chain {
            name,
            kind: ChainKind::Filter,
            hook,
            priority: Chain::PRIORITY_FILTER,
            policy: if policy.closed { Policy::Drop } else { Policy::Accept },
            rules,
        }
    }

    /// What is not decided about here.
    fn passing(&self, hook: Hook) -> Vec<Rule> {
        let mut rules = vec![
            Rule::new().connection_direction(Direction::Reply).accept(),
            Rule::new().connection(Connection::RELATED).accept(),
            Rule::new().ipv6_housekeeping(HOUSEKEEPING).accept(),
        ];
        if hook == Hook::Output {
            rules.push(Rule::new().interface(Meta::OutputName, "lo").accept());
            rules.push(match self.own {
                OwnPackets::Mark(mark) => Rule::new().mark(mark).accept(),
                OwnPackets::User(user) => Rule::new().socket_user(user).accept(),
            });
            rules.push(Rule::new().mark(self.delivery_mark).accept());
            // What interception sends to the proxy has its address already, and not yet its interface.
            rules.push(Rule::new().destination_is(Ipv4Addr::LOCALHOST.into()).accept());
            rules.push(Rule::new().destination_is(Ipv6Addr::LOCALHOST.into()).accept());
        } else {
            rules.push(Rule::new().interface(Meta::InputName, "lo").accept());
            rules.push(Rule::new().mark(self.delivery_mark).accept());
            rules.push(Rule::new().protocol(TCP).destination_port_in(PROXY_PORTS).accept());
        }
        rules
    }
}

/// The sets that rules refer to, each once.
#[derive(Default)]
struct Sets {
    made: Vec<Set>,
    known: HashMap<SetKey, String>,
}

impl Sets {
    fn name(&mut self, key: SetKey) -> String {
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = format!("set-{}", self.made.len());
        self.made.push(Set { name: name.clone().into(), key: key.clone() });
        self.known.insert(key, name.clone());
        name
    }
}

/// The matches of a rule, one for each family of addresses if it looks at any.
fn of_rule(rule: &PacketRule, end: End, sets: &mut Sets) -> Vec<Rule> {
    let families: &[Option<bool>] =
        if rule.peers.is_empty() { &[None] } else { &[Some(false), Some(true)] };
    families.iter().filter_map(|family| of_family(rule, *family, end, sets)).collect()
}

fn of_family(rule: &PacketRule, ipv6: Option<bool>, end: End, sets: &mut Sets) -> Option<Rule> {
    let mut made = Rule::new();
    for test in &rule.peers {
        let ipv6 = ipv6?;
        let (ranges, inside) = match test {
            AddressTest::In(ranges) => (ranges, true),
            AddressTest::NotIn(ranges) => (ranges, false),
        };
        let own: Vec<Cidr> =
            ranges.iter().filter(|range| range.network().is_ipv6() == ipv6).copied().collect();
        match (own.is_empty(), inside) {
            (true, true) => return None,
            (true, false) => made = made.of_family(ipv6),
            (false, _) => {
                let key = if ipv6 { SetKey::Ipv6(own) } else { SetKey::Ipv4(own) };
                made = made.address_in_set(end, ipv6, &sets.name(key), inside);
            }
        }
    }
    let number = match rule.protocol {
        PacketProtocol::Any => None,
        PacketProtocol::Icmp => Some(ICMP),
        PacketProtocol::Icmpv6 => Some(ICMPV6),
        PacketProtocol::Sctp => Some(SCTP),
        PacketProtocol::Tcp => Some(TCP),
        PacketProtocol::Udp => Some(UDP),
    };
    if let Some(number) = number {
        made = made.protocol(number);
    }
    if !rule.ports.is_empty() {
        made = made.destination_port_in(&sets.name(SetKey::PortRange(rule.ports.clone())));
    }
    if !rule.icmp_types.is_empty() {
        made = made.icmp_type_in(&sets.name(SetKey::IcmpType(rule.icmp_types.clone())));
    }
    Some(made)
}
