//! Routes of streams that are not HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::Cidr;
use heddle_ir::destination::Destination;
use heddle_ir::outbound::{Outbound, TcpBackend, TlsRule};

use crate::compile::CompiledRoutes;
use crate::draw::Weights;

/// The longest server name in bytes (RFC 1035 section 2.3.4).
const SERVER_NAME_BYTES_MAX: usize = 253;

/// The decision about one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamDecision<'a> {
    /// Where the rule that matched was written.
    pub origin: &'a Origin,
    /// The backend, drawn by weight; none when no backend has weight.
    pub backend: Option<&'a TcpBackend>,
    /// Where the connection goes, with its index in [`Outbound::destinations`]; none: the backend is not valid and the
    /// connection is reset.
    pub destination: Option<(usize, &'a Arc<Destination>)>,
}

/// Draws per rule.
#[derive(Debug)]
pub(crate) struct CompiledStreams {
    tcp: Box<[Weights]>,
    tls: Box<[Weights]>,
}

impl CompiledStreams {
    pub(crate) fn compile(outbound: &Outbound) -> Self {
        let weights = |backends: &[TcpBackend]| Weights::new(backends.iter().map(|b| b.weight));
        Self {
            tcp: outbound.tcp.iter().map(|rule| weights(&rule.backends)).collect(),
            tls: outbound.tls.iter().map(|rule| weights(&rule.backends)).collect(),
        }
    }
}

impl CompiledRoutes {
    /// Decides where an opaque stream to `destination` goes; none when no rule matches: it is refused.
    pub fn decide_tcp(&self, destination: IpAddr, random: u64) -> Option<StreamDecision<'_>> {
        let rules = self.outbound.tcp.iter().zip(&self.streams.tcp);
        let mut matching =
            rules.filter(|(rule, _)| ranges_contain(&rule.destination_ranges, destination));
        let (rule, weights) = matching.next()?;
        Some(self.stream_decision(&rule.origin, &rule.backends, weights, random))
    }

    /// Decides where TLS that is not terminated goes, by the server name of its ClientHello and the address it was
    /// made to. When no TLS rule matches, the rules for opaque streams decide.
    pub fn decide_tls(
        &self,
        server_name: Option<&str>,
        destination: IpAddr,
        random: u64,
    ) -> Option<StreamDecision<'_>> {
        let mut buffer = [0; SERVER_NAME_BYTES_MAX];
        let server_name = server_name.and_then(|name| lower_case(name, &mut buffer));
        let mut rules = self.outbound.tls.iter().zip(&self.streams.tls);
        match rules.find(|(rule, _)| tls_rule_matches(rule, server_name, destination)) {
            Some((rule, weights)) => {
                Some(self.stream_decision(&rule.origin, &rule.backends, weights, random))
            }
            None => self.decide_tcp(destination, random),
        }
    }

    /// Everything that [`CompiledRoutes::decide_tls`] (where `tls` holds) or [`CompiledRoutes::decide_tcp`] may answer, one
    /// decision for each backend that has weight, with its weight; empty when no rule matches.
    pub fn decide_stream_all(
        &self,
        tls: bool,
        server_name: Option<&str>,
        destination: IpAddr,
    ) -> Vec<(u32, StreamDecision<'_>)> {
        let mut buffer = [0; SERVER_NAME_BYTES_MAX];
        let server_name = server_name.and_then(|name| lower_case(name, &mut buffer));
        let mut tls_rules = self.outbound.tls.iter().filter(|_| tls);
        let by_name = tls_rules.find(|rule| tls_rule_matches(rule, server_name, destination));
        let mut tcp_rules = self.outbound.tcp.iter();
        let matched = by_name.map(|rule| (&rule.origin, &rule.backends)).or_else(|| {
            let rule = tcp_rules.find(|rule| ranges_contain(&rule.destination_ranges, destination));
            rule.map(|rule| (&rule.origin, &rule.backends))
        });
        let Some((origin, backends)) = matched else { return Vec::new() };
        let destination = |backend: &TcpBackend| {
            let index = backend.destination?;
            Some((index, self.outbound.destinations.get(index)?))
        };
        let weighted = backends.iter().filter(|backend| backend.weight > 0);
        let each: Vec<_> = weighted
            .map(|backend| {
                let destination = destination(backend);
                (backend.weight, StreamDecision { origin, backend: Some(backend), destination })
            })
            .collect();
        if each.is_empty() {
            return vec![(1, StreamDecision { origin, backend: None, destination: None })];
        }
        each
    }

    fn stream_decision<'a>(
        &'a self,
        origin: &'a Origin,
        backends: &'a [TcpBackend],
        weights: &Weights,
        random: u64,
    ) -> StreamDecision<'a> {
        let backend = weights.pick(random).and_then(|index| backends.get(index));
        let destination = backend.and_then(|backend| {
            let index = backend.destination?;
            Some((index, self.outbound.destinations.get(index)?))
        });
        StreamDecision { origin, backend, destination }
    }
}

pub(crate) fn ranges_contain(ranges: &[Cidr], address: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(address))
}

/// `server_name` must be lower case.
pub(crate) fn tls_rule_matches(
    rule: &TlsRule,
    server_name: Option<&str>,
    destination: IpAddr,
) -> bool {
    let named =
        server_name.is_some_and(|name| rule.server_names.iter().any(|own| own.matches(name)));
    named && ranges_contain(&rule.destination_ranges, destination)
}

/// `text` in lower case and without trailing dot, in `buffer`; none when it is too long for a host name.
pub(crate) fn lower_case<'b>(
    text: &str,
    buffer: &'b mut [u8; SERVER_NAME_BYTES_MAX],
) -> Option<&'b str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let lower = buffer.get_mut(..text.len())?;
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}
