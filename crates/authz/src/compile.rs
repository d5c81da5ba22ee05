//! Compiling what a workload enforces.

use std::fmt;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ir::authorization::PolicyAction;
use heddle_ir::inbound::{Inbound, MutualTls};

use crate::policies::CompiledPolicies;

/// What one workload enforces, ready to decide.
#[derive(Debug)]
pub struct CompiledAuthorization {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) generation: u64,
    pub(crate) policies: CompiledPolicies,
}

/// Something of a policy that could not be compiled. Its condition then always holds in a DENY, CUSTOM or AUDIT
/// policy and never in an ALLOW policy; the rest acts.
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
            PolicyAction::Audit | PolicyAction::Custom | PolicyAction::Deny => "always",
        };
        write!(f, "{}: {}; this condition {effect} holds", self.origin, self.cause)
    }
}

impl CompiledAuthorization {
    /// Compiles what `inbound` enforces. `generation` is that of the configuration it belongs to, and is carried by every
    /// permit. What could not be read has its safe meaning and is returned as a problem.
    pub fn compile(inbound: Arc<Inbound>, generation: u64) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let policies = CompiledPolicies::compile(inbound.authorization.clone(), &mut problems);
        (Self { inbound, generation, policies }, problems)
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
        self.policies.needs_requests()
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
