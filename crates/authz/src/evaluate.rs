//! Deciding.

use std::borrow::Cow;

use heddle_ir::authorization::{Fallback, Policy, PolicyAction, Rule, SystemPolicies};
use heddle_ir::inbound::MutualTlsMode;
use heddle_ir::request::RequestHead;

use crate::compile::{CompiledAuthorization, CompiledPolicy, CompiledRule};
use crate::condition::{CompiledCondition, Facts};
use crate::connection::{Acceptance, Connection, Transport};
use crate::decision::{AllowedBy, Decision, Denial, Verdict};
use crate::permit::Permit;

impl CompiledAuthorization {
    /// Whether the transport of a connection is accepted, to be asked once the transport is known and before anything is
    /// read. It grants nothing: every decision asks again, by its own configuration.
    pub fn accept(&self, connection: &Connection) -> Acceptance<'_> {
        let port = connection.destination_port();
        let mutual_tls = self.mutual_tls(port);
        let proven = connection.peer_identity().is_some();
        match (mutual_tls.mode, connection.transport()) {
            (MutualTlsMode::Strict | MutualTlsMode::Permissive, Transport::MutualTls) if proven => {
                Acceptance::Accept
            }
            (
                MutualTlsMode::Permissive | MutualTlsMode::Disable,
                Transport::Plaintext | Transport::OpaqueTls,
            ) => Acceptance::Accept,
            (MutualTlsMode::Strict, Transport::Plaintext)
                if self.may_probe(connection) && !self.probe_paths(port).is_empty() =>
            {
                Acceptance::ProbesOnly(mutual_tls)
            }
            // A certificate without identity proves nothing, and where mutual TLS is off nothing may have ended it.
            (_, Transport::MutualTls)
            | (MutualTlsMode::Strict, Transport::Plaintext | Transport::OpaqueTls) => {
                Acceptance::Refuse(mutual_tls)
            }
        }
    }

    /// Decides about a stream that is not HTTP. Conditions on requests never hold in ALLOW rules; DENY and AUDIT rules keep
    /// their other conditions.
    pub fn decide_stream(&self, connection: &Connection) -> Decision<'_> {
        self.decide::<NoRequest>(Facts { connection, request: None })
    }

    /// Decides about one HTTP request.
    pub fn decide_request(
        &self,
        connection: &Connection,
        request: &impl RequestHead,
    ) -> Decision<'_> {
        self.decide(Facts { connection, request: Some(request) })
    }

    fn decide<R: RequestHead>(&self, facts: Facts<'_, R>) -> Decision<'_> {
        let enforced = self.judge(facts, false);
        let dry_run = self.has_dry_run.then(|| self.judge(facts, true));
        Decision {
            verdict: match enforced {
                Ok(by) => Verdict::Allow { permit: Permit::new(self.generation), by },
                Err(denial) => Verdict::Deny(denial),
            },
            audit: self.first_match(facts, PolicyAction::Audit, false).map(|(_, rule)| rule),
            dry_run,
        }
    }

    /// The verdict, with or without the policies under dry run.
    fn judge<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
        with_dry_run: bool,
    ) -> Result<AllowedBy<'_>, Denial<'_>> {
        if let Some(path) = self.probe(facts) {
            return Ok(AllowedBy::Probe(path));
        }
        match self.accept(facts.connection) {
            Acceptance::Accept => {}
            Acceptance::ProbesOnly(setting) | Acceptance::Refuse(setting) => {
                return Err(Denial::Transport(setting));
            }
        }
        if let Some((policy, rule)) = self.first_match(facts, PolicyAction::Deny, with_dry_run) {
            return Err(Denial::Rule(policy, rule));
        }
        let mut by = AllowedBy::Default;
        for (system, compiled) in self.inbound.authorization.systems.iter().zip(&self.systems) {
            by = match allow(system, compiled, facts, with_dry_run)? {
                AllowedBy::Default => by,
                stronger => stronger,
            };
        }
        Ok(by)
    }

    /// The first rule of any policy with this action that matches, over all systems.
    fn first_match<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
        action: PolicyAction,
        with_dry_run: bool,
    ) -> Option<(&Policy, &Rule)> {
        let systems = self.inbound.authorization.systems.iter().zip(&self.systems);
        let mut matches = systems
            .flat_map(|(system, compiled)| policies(system, compiled, action, with_dry_run))
            .filter_map(|(policy, compiled)| Some((policy, first_rule(policy, compiled, facts)?)));
        matches.next()
    }

    /// The probe path that the request is for, where it is a health check of the node.
    fn probe<R: RequestHead>(&self, facts: Facts<'_, R>) -> Option<&str> {
        let request = facts.request?;
        let is_read = matches!(request.method(), "GET" | "HEAD");
        if !is_read || !self.may_probe(facts.connection) {
            return None;
        }
        let paths = self.probe_paths(facts.connection.destination_port());
        paths.iter().map(|path| &**path).find(|path| {
            // A probe may be configured with a query; the path decides.
            path.split('?').next() == Some(request.path())
        })
    }

    /// Health checks are plaintext and come from the node.
    fn may_probe(&self, connection: &Connection) -> bool {
        let source = connection.source();
        connection.transport() == Transport::Plaintext
            && self.inbound.probe_sources.iter().any(|range| range.contains(source))
    }

    fn probe_paths(&self, port: u16) -> &[std::sync::Arc<str>] {
        let own = self.inbound.ports.iter().find(|own| own.port == port);
        own.map_or(&[], |own| &own.probe_paths)
    }
}

/// What a system says once no DENY rule matches.
fn allow<'a, R: RequestHead>(
    system: &'a SystemPolicies,
    compiled: &'a [CompiledPolicy],
    facts: Facts<'_, R>,
    with_dry_run: bool,
) -> Result<AllowedBy<'a>, Denial<'a>> {
    let mut unmatched = None;
    for (policy, compiled) in policies(system, compiled, PolicyAction::Allow, with_dry_run) {
        if let Some(rule) = first_rule(policy, compiled, facts) {
            return Ok(AllowedBy::Rule(policy, rule));
        }
        unmatched.get_or_insert(policy);
    }
    match (unmatched, &system.without_allow) {
        (Some(policy), _) => Err(Denial::NoAllowMatches(policy)),
        (None, Fallback::Allow) => Ok(AllowedBy::Default),
        (None, Fallback::Deny(origin)) => Err(Denial::Default(origin)),
    }
}

/// The policies of a system with this action that count.
fn policies<'a>(
    system: &'a SystemPolicies,
    compiled: &'a [CompiledPolicy],
    action: PolicyAction,
    with_dry_run: bool,
) -> impl Iterator<Item = (&'a Policy, &'a CompiledPolicy)> {
    let pairs = system.policies.iter().map(|policy| &**policy).zip(compiled);
    pairs.filter(move |(_, compiled)| {
        compiled.action == action && (with_dry_run || !compiled.dry_run)
    })
}

fn first_rule<'a, R: RequestHead>(
    policy: &'a Policy,
    compiled: &CompiledPolicy,
    facts: Facts<'_, R>,
) -> Option<&'a Rule> {
    let rules = policy.rules.iter().zip(&compiled.rules);
    let mut matching =
        rules.filter(|(_, compiled_rule)| test(compiled_rule, compiled.action, facts).is_ok());
    matching.next().map(|(rule, _)| rule)
}

/// Why a rule does not match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure<'a> {
    /// No alternative of this clause holds; the condition is the first that fails in its first alternative.
    Clause(usize, Option<&'a CompiledCondition>),
    /// It allows by conditions on requests, and this is a stream.
    NeedsRequest,
}

/// Tests a rule of a policy with this action.
pub(crate) fn test<'a, R: RequestHead>(
    rule: &'a CompiledRule,
    action: PolicyAction,
    facts: Facts<'_, R>,
) -> Result<(), Failure<'a>> {
    if rule.has_http && facts.request.is_none() && action == PolicyAction::Allow {
        return Err(Failure::NeedsRequest);
    }
    for (index, clause) in rule.clauses.iter().enumerate() {
        let holds = |conditions: &[CompiledCondition]| {
            conditions.iter().all(|condition| condition.holds(facts))
        };
        if !clause.iter().any(|alternative| holds(alternative)) {
            let first = clause.first().into_iter().flatten();
            let failed = first.clone().find(|condition| !condition.holds(facts));
            return Err(Failure::Clause(index, failed));
        }
    }
    Ok(())
}

/// Stands for the request of a stream, which has none.
#[derive(Debug)]
pub(crate) enum NoRequest {}

impl RequestHead for NoRequest {
    fn method(&self) -> &str {
        match *self {}
    }
    fn path(&self) -> &str {
        match *self {}
    }
    fn query(&self) -> Option<&str> {
        match *self {}
    }
    fn authority(&self) -> &str {
        match *self {}
    }
    fn scheme(&self) -> &str {
        match *self {}
    }
    fn header(&self, _name: &str) -> Option<Cow<'_, [u8]>> {
        match *self {}
    }
}
