//! What is decided about a connection or a request.

use std::fmt;

use heddle_diag::Origin;
use heddle_ir::authorization::{Policy, Rule};
use heddle_ir::inbound::MutualTls;

use crate::permit::Permit;
use crate::question::Question;

/// The decision, with what is to be recorded about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it goes on.
    pub verdict: Verdict<'a>,
    /// What a system on trial would have refused it for (Linkerd's `audit`); it goes on nevertheless.
    pub on_trial: Option<Denial<'a>>,
    /// The first AUDIT rule that matched; none: the request is not marked.
    pub audit: Option<&'a Rule>,
    /// What would be decided if the policies under dry run were enforced with the others; none without such policies, and
    /// as long as somebody must be asked.
    pub dry_run: Option<Result<AllowedBy<'a>, Denial<'a>>>,
}

/// Whether a connection or request goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes on with this permit.
    Allow {
        /// What connecting asks for.
        permit: Permit,
        /// What admits it.
        by: AllowedBy<'a>,
    },
    /// An external authoriser decides first: whoever holds the request asks it, and on leave asks here again.
    Ask(Question<'a>),
    /// It does not. HTTP: 403 with `RBAC: access denied`; gRPC: PERMISSION_DENIED; a stream is closed.
    Deny(Denial<'a>),
}

impl<'a> Verdict<'a> {
    /// The permit, or why there is none.
    pub fn into_permit(self) -> Result<Permit, Denial<'a>> {
        match self {
            Self::Allow { permit, .. } => Ok(permit),
            // Leave that nobody has got is none.
            Self::Ask(question) => Err(Denial::NoAuthorizer(question.policy, question.rule)),
            Self::Deny(denial) => Err(denial),
        }
    }
}

/// What admitted something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllowedBy<'a> {
    /// No system has a policy that would refuse it.
    Default,
    /// It is a health check of the node; holds the probe path of the port's configuration.
    Probe(&'a str),
    /// A rule; of the last system that has ALLOW policies.
    Rule(&'a Policy, &'a Rule),
}

/// Why something was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial<'a> {
    /// Nothing allows it, and the default, written here, is to refuse.
    Default(&'a Origin),
    /// A CUSTOM rule matches, and there is no authoriser that could be asked.
    NoAuthorizer(&'a Policy, &'a Rule),
    /// ALLOW policies exist, and no rule of them matches; holds one of the policies.
    NoAllowMatches(&'a Policy),
    /// A DENY rule matches.
    Rule(&'a Policy, &'a Rule),
    /// The transport is not accepted by this setting.
    Transport(&'a MutualTls),
}

impl<'a> Denial<'a> {
    /// The line that decided.
    pub fn origin(&self) -> &'a Origin {
        match self {
            Self::Default(origin) => origin,
            Self::NoAllowMatches(policy) => &policy.origin,
            Self::NoAuthorizer(_, rule) | Self::Rule(_, rule) => &rule.origin,
            Self::Transport(mutual_tls) => &mutual_tls.origin,
        }
    }
}

impl fmt::Display for Denial<'_> {
    /// For the operator; the peer learns nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(origin) => write!(f, "nothing allows it; default set by {origin}"),
            Self::NoAllowMatches(policy) => write!(
                f,
                "ALLOW policies select the workload and no rule of them matches, for example {}",
                policy.origin
            ),
            Self::NoAuthorizer(policy, rule) => write!(
                f,
                "{} needs leave of the external authoriser `{}`, which was not had",
                rule.origin,
                policy.authorizer.as_deref().unwrap_or_default()
            ),
            Self::Rule(_, rule) => write!(f, "denied by {}", rule.origin),
            Self::Transport(mutual_tls) => {
                write!(f, "transport not accepted: mutual TLS is {:?} by ", mutual_tls.mode)?;
                write!(f, "{}", mutual_tls.origin)
            }
        }
    }
}
