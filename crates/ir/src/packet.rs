//! What may leave or enter a workload's network without passing its proxy: policies as far as packets tell.
//!
//! Made of [`crate::authorization::Authorization`] where it is enforced; never sent.

use heddle_ident::Cidr;

/// What is decided about the packets of one direction. Any denying rule drops; then any allowing rule lets pass.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketRules {
    /// What no rule decides is dropped, not let pass.
    pub closed: bool,
    /// What is dropped.
    pub deny: Vec<PacketRule>,
    /// What passes.
    pub allow: Vec<PacketRule>,
}

/// Everything must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PacketRule {
    /// Of the address at the other end; all must hold, none: every address.
    pub peers: Vec<AddressTest>,
    /// What is spoken above IP.
    pub protocol: PacketProtocol,
    /// Destination ports from the first to the last; empty: every one. Only of protocols that have ports.
    pub ports: Vec<(u16, u16)>,
    /// Types of ICMP messages; empty: every one. Only of ICMP.
    pub icmp_types: Vec<u8>,
}

/// A test on an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AddressTest {
    /// In any of the ranges.
    In(Vec<Cidr>),
    /// In none of them.
    NotIn(Vec<Cidr>),
}

/// What is spoken above IP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketProtocol {
    /// Everything.
    Any,
    /// ICMP.
    Icmp,
    /// `ICMPv6`.
    Icmpv6,
    /// SCTP.
    Sctp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
