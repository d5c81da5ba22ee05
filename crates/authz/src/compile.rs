//! Compiling what a workload enforces.

use std::fmt;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ir::authorization::{Policy, PolicyAction};
use heddle_ir::inbound::{Inbound, MutualTls};

use crate::condition::CompiledCondition;

/// What one workload enforces, ready to decide.
#[derive(Debug)]
pub struct CompiledAuthorization {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) generation: u64,
    /// By system, its policies in the order of the IR.
    pub(crate) systems: Box<[Box<[CompiledPolicy]>]>,
    pub(crate) has_dry_run: bool,
}

/// A compiled [`Policy`].
#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub(crate) action: PolicyAction,
    pub(crate) dry_run: bool,
    pub(crate) rules: Box<[CompiledRule]>,
}

/// The alternatives of a clause, each a list of conditions.
pub(crate) type CompiledClause = Box<[Box<[CompiledCondition]>]>;

/// A compiled rule: clauses, of each alternatives, of each conditions.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) clauses: Box<[CompiledClause]>,
    /// Some condition looks at an attribute that only HTTP has.
    pub(crate) has_http: bool,
}

/// Something of a policy that could not be compiled. Its condition then always holds in a DENY or AUDIT policy and
/// never in an ALLOW policy; the rest acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The rule.
    pub origin: Origin,
    /// What its policy does.
    pub action: PolicyAction,
    /// What is wrong, in a sentence.
    pub cause: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.action {
            PolicyAction::Allow => "never",
            PolicyAction::Audit | PolicyAction::Deny => "always",
        };
        write!(f, "{}: {}; this condition {effect} holds", self.origin, self.cause)
    }
}

impl CompiledAuthorization {
    /// Compiles what `inbound` enforces. `generation` is that of the configuration it belongs to, and is carried by every
    /// permit. What could not be read has its safe meaning and is returned as a problem.
    pub fn compile(inbound: Arc<Inbound>, generation: u64) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut has_dry_run = false;
        let systems = inbound.authorization.systems.iter();
        let systems = systems
            .map(|system| {
                let policies = system.policies.iter();
                let policies = policies.map(|policy| {
                    has_dry_run |= policy.dry_run;
                    CompiledPolicy::compile(policy, &mut problems)
                });
                policies.collect()
            })
            .collect();
        (Self { inbound, generation, systems, has_dry_run }, problems)
    }

    /// What was compiled.
    pub fn inbound(&self) -> &Arc<Inbound> {
        &self.inbound
    }

    /// The generation of the configuration it was compiled from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether any rule looks at requests, so that the port must be served at layer 7 to be judged fully.
    pub fn needs_requests(&self) -> bool {
        self.systems.iter().flatten().any(|policy| policy.rules.iter().any(|rule| rule.has_http))
    }

    /// What is admitted whatever the policies say, as port and path: the health checks of the node. To be listed to whoever
    /// asks what is allowed.
    pub fn implicit_allows(&self) -> impl Iterator<Item = (u16, &str)> {
        let ports = self.inbound.ports.iter().filter(|_| !self.inbound.probe_sources.is_empty());
        ports.flat_map(|port| port.probe_paths.iter().map(|path| (port.port, &**path)))
    }

    /// The setting of mutual TLS for a workload port.
    pub fn mutual_tls(&self, port: u16) -> &MutualTls {
        let by_port = self.inbound.mutual_tls_by_port.iter();
        by_port
            .rev()
            .find_map(|(own, mutual_tls)| (*own == port).then_some(mutual_tls))
            .unwrap_or(&self.inbound.mutual_tls)
    }
}

impl CompiledPolicy {
    fn compile(policy: &Policy, problems: &mut Vec<Problem>) -> Self {
        let mut rules = Vec::with_capacity(policy.rules.len());
        for rule in &policy.rules {
            let mut errors = Vec::new();
            let clauses = rule.clauses.iter().map(|clause| {
                let alternatives = clause.alternatives.iter().map(|conditions| {
                    let conditions = conditions.iter();
                    conditions
                        .map(|condition| {
                            CompiledCondition::compile(condition, policy.action, &mut errors)
                        })
                        .collect()
                });
                alternatives.collect()
            });
            let clauses: Box<[CompiledClause]> = clauses.collect();
            let mut conditions = clauses.iter().flatten().flatten();
            let has_http = conditions.any(|condition| condition.attribute().is_http());
            rules.push(CompiledRule { clauses, has_http });
            problems.extend(errors.into_iter().map(|cause| Problem {
                origin: rule.origin.clone(),
                action: policy.action,
                cause,
            }));
        }
        Self { action: policy.action, dry_run: policy.dry_run, rules: rules.into() }
    }
}
