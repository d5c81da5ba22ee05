//! Deciding about what the local workload asks of others.
//!
//! The same policies as inbound, looked at from the other end: the destination is that of the endpoint that was picked,
//! and the names are those that the workload found it under. A DNS query is judged by the rules on queries alone, since the
//! proxy's own name server stands for whatever resolver they speak of.

use std::sync::Arc;

use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies,
};
use heddle_ir::inbound::ClientAddress;
use heddle_ir::request::{NoRequest, RequestHead};

use crate::compile::Problem;
use crate::condition::Facts;
use crate::connection::Connection;
use crate::decision::{AllowedBy, Denial};
use crate::explain::ConsideredRule;
use crate::policies::{CompiledPolicies, Stop};
use crate::question::Approvals;

/// What a workload may do to others, ready to decide.
#[derive(Debug)]
pub struct CompiledEgress {
    policies: CompiledPolicies,
    /// What is left of the policies for queries that the proxy answers itself.
    queries: CompiledPolicies,
    headers: Box<[Arc<str>]>,
    looks_at_names: bool,
    looks_at_server_names: bool,
    client_address: ClientAddress,
}

impl CompiledEgress {
    /// Compiles [`heddle_ir::proxy::ProxySettings::egress`]. What could not be read has its safe meaning and is returned as
    /// a problem.
    pub fn compile(authorization: Arc<Authorization>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let looks_at = |wanted: &Attribute| attributes(&authorization).any(|own| own == wanted);
        let looks_at_names = looks_at(&Attribute::DestinationName);
        let looks_at_server_names = looks_at(&Attribute::ServerName);
        // The same values are compiled twice; what is wrong with them is told once.
        let queries =
            CompiledPolicies::compile(Arc::new(of_queries(&authorization)), &mut Vec::new());
        let headers = headers(&authorization);
        let policies = CompiledPolicies::compile(authorization, &mut problems);
        let own = Self {
            policies,
            queries,
            headers,
            looks_at_names,
            looks_at_server_names,
            client_address: ClientAddress::default(),
        };
        (own, problems)
    }

    /// Whether any rule looks at requests: what is said on a connection must then be found out, whatever is declared.
    pub fn needs_requests(&self) -> bool {
        self.policies.needs_requests()
    }

    /// Whether a request must be shown to [`CompiledEgress::decide_request`]: some rule looks at requests, or at names, which
    /// a request may contradict. Else it is decided about as a stream.
    pub fn looks_at_requests(&self) -> bool {
        self.needs_requests() || self.looks_at_names
    }

    /// The headers that rules look at, in lower case.
    pub fn headers(&self) -> &[Arc<str>] {
        &self.headers
    }

    /// Whether any rule looks at the server name that TLS is begun with.
    pub fn needs_server_names(&self) -> bool {
        self.looks_at_server_names || self.looks_at_names
    }

    /// Whether any rule looks at the names that addresses were found under.
    pub fn needs_names(&self) -> bool {
        self.looks_at_names
    }

    /// What admits a stream that is not HTTP.
    pub fn decide_stream(&self, connection: &Connection) -> Result<AllowedBy<'_>, Denial<'_>> {
        self.decide::<NoRequest>(&self.policies, connection, None)
    }

    /// What admits a request.
    pub fn decide_request(
        &self,
        connection: &Connection,
        request: &impl RequestHead,
    ) -> Result<AllowedBy<'_>, Denial<'_>> {
        self.decide(&self.policies, connection, Some(request))
    }

    /// What admits a query that the proxy's own name server got: a connection to any resolver with
    /// [`Connection::with_queried_name`]. Where no rule is about queries, all are answered: without names nothing could be
    /// connected to, not even what is allowed (API.md 11.2 row 8).
    pub fn decide_query(&self, connection: &Connection) -> Result<AllowedBy<'_>, Denial<'_>> {
        self.decide::<NoRequest>(&self.queries, connection, None)
    }

    /// Every rule of every policy in order, and what becomes of it; `request` is none for a stream.
    pub fn explain<R: RequestHead>(
        &self,
        connection: &Connection,
        request: Option<&R>,
    ) -> Vec<ConsideredRule<'_>> {
        self.policies.considered(self.facts(connection, request))
    }

    /// As [`CompiledEgress::explain`], for a stream that is not HTTP.
    pub fn explain_stream(&self, connection: &Connection) -> Vec<ConsideredRule<'_>> {
        self.policies.considered::<NoRequest>(self.facts(connection, None))
    }

    fn facts<'f, R>(&'f self, connection: &'f Connection, request: Option<&'f R>) -> Facts<'f, R> {
        Facts { connection, request, client_address: &self.client_address }
    }

    fn decide<'a, R: RequestHead>(
        &'a self,
        policies: &'a CompiledPolicies,
        connection: &Connection,
        request: Option<&R>,
    ) -> Result<AllowedBy<'a>, Denial<'a>> {
        match policies.judge(self.facts(connection, request), false, Approvals::NONE) {
            Ok((by, _)) => Ok(by),
            Err(Stop::Deny(denial)) => Err(denial),
            // Nobody is asked about what a workload does; leave that nobody has got is none.
            Err(Stop::Ask(question)) => Err(Denial::NoAuthorizer(question.policy, question.rule)),
        }
    }
}

fn attributes(authorization: &Authorization) -> impl Iterator<Item = &Attribute> {
    let policies = authorization.systems.iter().flat_map(|system| &system.policies);
    let clauses = policies.flat_map(|policy| &policy.rules).flat_map(|rule| &rule.clauses);
    clauses.flat_map(|clause| &clause.alternatives).flatten().map(|own| &own.attribute)
}

fn headers(authorization: &Authorization) -> Box<[Arc<str>]> {
    let mut headers: Vec<Arc<str>> = attributes(authorization)
        .filter_map(|own| match own {
            Attribute::RequestHeader(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    headers.sort_unstable();
    headers.dedup();
    headers.into()
}

/// The policies as far as they are about queries. Where the resolver is does not count in a rule that names queries; a rule
/// that does not, and speaks of addresses, says nothing about the proxy's own name server. Where no rule names queries, only
/// what is denied counts.
fn of_queries(authorization: &Authorization) -> Authorization {
    let any_names = attributes(authorization).any(|own| *own == Attribute::QueriedName);
    let policy = |policy: &Arc<Policy>| {
        let rules = policy.rules.iter().filter_map(rule_of_queries).collect();
        Arc::new(Policy { rules, ..Policy::clone(policy) })
    };
    let counts = |policy: &&Arc<Policy>| any_names || policy.action == PolicyAction::Deny;
    let system = |system: &SystemPolicies| SystemPolicies {
        policies: system.policies.iter().filter(counts).map(policy).collect(),
        without_allow: if any_names { system.without_allow.clone() } else { Fallback::Allow },
        ..system.clone()
    };
    Authorization {
        systems: authorization.systems.iter().map(system).collect(),
        authorizers: authorization.authorizers.clone(),
    }
}

/// None for a rule that says nothing about the proxy's own name server.
fn rule_of_queries(rule: &Rule) -> Option<Rule> {
    let is_place = |condition: &Condition| {
        matches!(condition.attribute, Attribute::DestinationAddress | Attribute::DestinationName)
    };
    let mut conditions = rule.clauses.iter().flat_map(|own| &own.alternatives).flatten();
    let is_of_names = conditions.any(|own| own.attribute == Attribute::QueriedName);
    let mut clauses = Vec::new();
    for clause in &rule.clauses {
        let mut alternatives = clause.alternatives.clone();
        if is_of_names {
            for own in &mut alternatives {
                own.retain(|own| !is_place(own));
            }
        } else {
            alternatives.retain(|own| !own.iter().any(is_place));
            if alternatives.is_empty() {
                return None;
            }
        }
        clauses.push(Clause { alternatives });
    }
    Some(Rule { origin: rule.origin.clone(), clauses })
}
