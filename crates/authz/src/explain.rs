//! The whole story of a decision, as data.

use std::fmt;

use heddle_ir::authorization::{Attribute, Policy, Rule};
use heddle_ir::request::{NoRequest, RequestHead};

use crate::compile::CompiledAuthorization;
use crate::condition::{CompiledCondition, Facts};
use crate::connection::Connection;
use crate::policies::{CompiledPolicies, Failure, test};

/// One rule, or a policy without rules, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsideredRule<'a> {
    /// Index of the system in [`heddle_ir::authorization::Authorization::systems`].
    pub system: usize,
    /// The policy.
    pub policy: &'a Policy,
    /// The rule; none for a policy without rules, which matches nothing, and for one of other ports.
    pub rule: Option<&'a Rule>,
    /// What became of it.
    pub outcome: RuleOutcome,
}

/// What became of a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RuleOutcome {
    /// No alternative of this clause holds. The attribute is what the first condition that fails, in the first
    /// alternative, looks at; none when the clause has no alternative.
    Fails {
        /// Index of the clause.
        clause: usize,
        /// What was looked at.
        attribute: Option<Attribute>,
    },
    /// It matches.
    Matches,
    /// It allows by conditions on requests, and this is a stream.
    NeedsRequest,
    /// The policy has no rules.
    NoRules,
    /// The system has no say about the port.
    OtherPort,
}

impl fmt::Display for RuleOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails { attribute: Some(attribute), .. } => {
                write!(f, "not matched: {}", Name(attribute))
            }
            Self::Fails { attribute: None, .. } => f.write_str("not matched: no alternatives"),
            Self::Matches => f.write_str("matched"),
            Self::NeedsRequest => {
                f.write_str("not matched: it allows by attributes of HTTP, and this is not HTTP")
            }
            Self::NoRules => f.write_str("not matched: no rules"),
            Self::OtherPort => f.write_str("not matched: for other ports"),
        }
    }
}

/// An attribute in the words of `explain`.
struct Name<'a>(&'a Attribute);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Attribute::DestinationAddress => "destination address",
            Attribute::DestinationName => "destination name",
            Attribute::DestinationPort => "destination port",
            Attribute::Host => "host",
            Attribute::IcmpType => "ICMP type",
            Attribute::Method => "method",
            Attribute::Path => "path",
            Attribute::PathAndQuery => "path with query",
            Attribute::Protocol => "protocol",
            Attribute::QueriedName => "name of the DNS query",
            Attribute::RemoteAddress => "remote address",
            Attribute::RequestAudience => "audience of the token",
            Attribute::RequestClaim(path) => return write!(f, "claim {}", path.join(".")),
            Attribute::RequestHeader(name) => return write!(f, "header {name}"),
            Attribute::RequestPresenter => "presenter of the token",
            Attribute::RequestPrincipal => "request principal",
            Attribute::Route => "route",
            Attribute::ServerName => "server name",
            Attribute::SourceAddress => "source address",
            Attribute::SourceNamespace => "source namespace",
            Attribute::SourcePrincipal => "source principal",
            Attribute::SourceServiceAccount => "source service account",
            Attribute::SourceTrustDomain => "source trust domain",
            Attribute::Transport => "transport",
        })
    }
}

impl CompiledAuthorization {
    /// Every rule of every policy in order, and what becomes of it; `request` is none for a stream.
    pub fn explain<R: RequestHead>(
        &self,
        connection: &Connection,
        request: Option<&R>,
    ) -> Vec<ConsideredRule<'_>> {
        self.policies.considered(self.facts(connection, request))
    }

    /// As [`CompiledAuthorization::explain`], for a stream that is not HTTP.
    pub fn explain_stream(&self, connection: &Connection) -> Vec<ConsideredRule<'_>> {
        self.policies.considered::<NoRequest>(self.facts(connection, None))
    }
}

impl CompiledPolicies {
    pub(crate) fn considered<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
    ) -> Vec<ConsideredRule<'_>> {
        let mut considered = Vec::new();
        let systems = self.authorization.systems.iter().zip(&self.systems);
        for (system, (policies, compiled)) in systems.enumerate() {
            let elsewhere = !policies.ports.contains(facts.connection.destination_port());
            for (policy, compiled) in policies.policies.iter().zip(compiled) {
                if elsewhere || policy.rules.is_empty() {
                    let outcome =
                        if elsewhere { RuleOutcome::OtherPort } else { RuleOutcome::NoRules };
                    considered.push(ConsideredRule { system, policy, rule: None, outcome });
                    continue;
                }
                for (rule, compiled_rule) in policy.rules.iter().zip(&compiled.rules) {
                    let outcome = match test(compiled_rule, compiled.action, facts) {
                        Ok(()) => RuleOutcome::Matches,
                        Err(Failure::NeedsRequest) => RuleOutcome::NeedsRequest,
                        Err(Failure::Clause(clause, failed)) => RuleOutcome::Fails {
                            clause,
                            attribute: failed.map(CompiledCondition::attribute).cloned(),
                        },
                    };
                    considered.push(ConsideredRule { system, policy, rule: Some(rule), outcome });
                }
            }
        }
        considered
    }
}
