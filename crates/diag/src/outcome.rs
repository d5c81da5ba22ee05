//! What became of a field that a user wrote: the promise "never silently ignored" as data.

use crate::Origin;

/// What became of a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// It is in force as its project documents it.
    Applied,
    /// It is in force, but means something else than upstream makes of it; the detail says what.
    Translated,
    /// It has no effect, as upstream gives it none; the detail says why.
    Ignored,
    /// heddle does not do this; the detail says what happens instead.
    Unsupported,
    /// Another object says otherwise; the detail names it.
    Conflict,
}

impl Outcome {
    /// The name as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Translated => "translated",
            Self::Ignored => "ignored",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
        }
    }
}

/// What became of the field of one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeRecord {
    /// The object and field.
    pub origin: Origin,
    /// What became of it.
    pub outcome: Outcome,
    /// How or why; empty for `Applied` where there is nothing to say.
    pub detail: String,
}

impl OutcomeRecord {
    /// A record.
    pub fn new(origin: Origin, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { origin, outcome, detail: detail.into() }
    }
}
