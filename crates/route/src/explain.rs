//! The whole story of a decision, as data, for `heddle explain` and for records of refused requests.

use std::net::IpAddr;

use heddle_diag::Origin;
use heddle_ir::http_route::{HttpMatch, HttpRule};
use heddle_ir::request::RequestHead;

use crate::compile::CompiledRoutes;
use crate::matching::FailedCondition;
use crate::stream::{lower_case, ranges_contain, tls_rule_matches};

/// One match, in the order in which matches are tried, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsideredMatch<'a> {
    /// The rule.
    pub rule: &'a HttpRule,
    /// Its index in the table.
    pub rule_index: usize,
    /// The match; none for a rule without matches, which takes everything.
    pub matched: Option<&'a HttpMatch>,
    /// What became of it.
    pub outcome: MatchOutcome,
}

impl<'a> ConsideredMatch<'a> {
    /// Where the match, or the rule without matches, was written.
    pub fn origin(&self) -> &'a Origin {
        self.matched.map_or(&self.rule.origin, |matched| &matched.origin)
    }

    /// The outcome in words, for example `not matched: header end-user`.
    pub fn describe(&self) -> String {
        match (self.outcome, self.matched) {
            (MatchOutcome::Decides, _) => "matched".into(),
            (MatchOutcome::Shadowed, _) => "would match, but an earlier rule did".into(),
            (MatchOutcome::Fails(failed), Some(matched)) => {
                format!("not matched: {}", failed.describe(matched))
            }
            (MatchOutcome::Fails(_), None) => "not matched".into(),
        }
    }
}

/// What became of a match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MatchOutcome {
    /// It is the first that holds.
    Decides,
    /// This condition, the first of its conditions that fails, does not hold.
    Fails(FailedCondition),
    /// It holds, but an earlier one did.
    Shadowed,
}

/// One rule for streams, in order, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsideredStreamRule<'a> {
    /// Where it was written.
    pub origin: &'a Origin,
    /// What became of it.
    pub outcome: StreamOutcome,
}

/// What became of a rule for streams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamOutcome {
    /// It is the first that holds.
    Decides,
    /// Neither the destination address nor the server name, or one of them, is the rule's.
    Fails,
    /// It holds, but an earlier one did.
    Shadowed,
}

impl CompiledRoutes {
    /// Every match in the order in which [`CompiledRoutes::decide`] tries them, and what became of each.
    pub fn explain(&self, request: &impl RequestHead) -> Vec<ConsideredMatch<'_>> {
        let mut decided = false;
        let considered = self.entries.iter().filter_map(|entry| {
            let outcome = match self.test(*entry, request) {
                Err(failed) => MatchOutcome::Fails(failed),
                Ok(()) if std::mem::replace(&mut decided, true) => MatchOutcome::Shadowed,
                Ok(()) => MatchOutcome::Decides,
            };
            let rule = self.outbound.http.rules.get(entry.rule)?;
            let matched = entry.matched.and_then(|index| rule.matches.get(index));
            Some(ConsideredMatch { rule, rule_index: entry.rule, matched, outcome })
        });
        considered.collect()
    }

    /// The rules for TLS (where `tls` holds) and for opaque streams, in order, and what became of each.
    pub fn explain_stream(
        &self,
        tls: bool,
        server_name: Option<&str>,
        destination: IpAddr,
    ) -> Vec<ConsideredStreamRule<'_>> {
        let mut buffer = [0; 253];
        let server_name = server_name.and_then(|name| lower_case(name, &mut buffer));
        let tls_rules = self.outbound.tls.iter().filter(|_| tls);
        let tls_rules =
            tls_rules.map(|rule| (&rule.origin, tls_rule_matches(rule, server_name, destination)));
        let tcp_rules = self.outbound.tcp.iter();
        let tcp_rules = tcp_rules
            .map(|rule| (&rule.origin, ranges_contain(&rule.destination_ranges, destination)));
        let mut decided = false;
        let considered = tls_rules.chain(tcp_rules).map(|(origin, holds)| {
            let outcome = match holds {
                false => StreamOutcome::Fails,
                true if std::mem::replace(&mut decided, true) => StreamOutcome::Shadowed,
                true => StreamOutcome::Decides,
            };
            ConsideredStreamRule { origin, outcome }
        });
        considered.collect()
    }
}
