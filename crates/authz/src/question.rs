//! Asking external authorisers. This crate asks nobody: it says who is to be asked, and takes note of leave.

use std::sync::Arc;

use heddle_ir::authorization::{ExternalAuthorizer, Policy, Rule};

/// A CUSTOM rule matches, and its authoriser has not approved yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The rule that matches.
    pub rule: &'a Rule,
    /// Whom to ask.
    pub authorizer: &'a Arc<ExternalAuthorizer>,
    pub(crate) place: usize,
}

/// Which authorisers have approved of a connection or request. It holds for the configuration that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Approvals(u64);

impl Approvals {
    /// Nobody has.
    pub const NONE: Self = Self(0);

    /// The same, and whom the question was for has approved too. Beyond 64 authorisers none is ever taken for approving.
    #[must_use]
    pub fn with(self, question: &Question<'_>) -> Self {
        match u32::try_from(question.place).ok().and_then(|place| 1_u64.checked_shl(place)) {
            Some(bit) => Self(self.0 | bit),
            None => self,
        }
    }

    pub(crate) fn has(self, place: usize) -> bool {
        let bit = u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place));
        bit.is_some_and(|bit| self.0 & bit != 0)
    }
}
