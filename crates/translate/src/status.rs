//! The status of an object: whether it is accepted, and whether all of it is in force.

use heddle_diag::{Level, Outcome, OutcomeRecord};

use crate::gateway_api::status::GatewayApiStatus;
use crate::report::Report;

/// A condition of an object's status, in the form of Kubernetes' conditions without their times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// `Accepted` or `InForce`.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// One word.
    pub reason: &'static str,
    /// For people; empty where there is nothing to add.
    pub message: String,
}

/// What an object's status says, out of its report and nothing else.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// `Accepted`: nothing of it is an error. `InForce`: everything it says is in force, as upstream has it or better.
    pub conditions: Vec<Condition>,
    /// Fields that became something else than what is written.
    pub fields: Vec<OutcomeRecord>,
    /// The status in the Gateway API's form, for its objects that heddle is responsible for.
    pub gateway_api: Option<GatewayApiStatus>,
}

impl Status {
    pub(crate) fn of(report: &Report) -> Self {
        let errors: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| finding.message.as_str())
            .collect();
        let accepted = Condition {
            kind: "Accepted",
            holds: errors.is_empty(),
            reason: if errors.is_empty() { "Valid" } else { "Invalid" },
            message: errors.join("; "),
        };
        let left_out = |outcome| report.outcomes.iter().find(|record| record.outcome == outcome);
        let (reason, message) = match (left_out(Outcome::Conflict), left_out(Outcome::Unsupported))
        {
            (Some(conflict), _) => ("Conflict", conflict.detail.clone()),
            (None, Some(unsupported)) => ("Unsupported", unsupported.detail.clone()),
            (None, None) if !errors.is_empty() => {
                ("Invalid", "what is wrong has its safe meaning".into())
            }
            (None, None) => ("Applied", String::new()),
        };
        let in_force = Condition { kind: "InForce", holds: reason == "Applied", reason, message };
        let fields = report.outcomes.iter().filter(|record| record.outcome != Outcome::Applied);
        Self {
            conditions: vec![accepted, in_force],
            fields: fields.cloned().collect(),
            gateway_api: report.gateway_api.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_diag::Origin;

    use super::*;

    fn reasons(report: &Report) -> Vec<(&'static str, bool, &'static str)> {
        let conditions = Status::of(report).conditions;
        conditions.iter().map(|one| (one.kind, one.holds, one.reason)).collect()
    }

    #[test]
    fn a_conflict_counts_more_than_what_is_not_supported() {
        let origin = || Origin::built_in("test");
        let mut report = Report::default();
        assert_eq!(reasons(&report), [("Accepted", true, "Valid"), ("InForce", true, "Applied")]);
        report.translated(origin(), "how");
        assert_eq!(reasons(&report)[1], ("InForce", true, "Applied"));
        report.unsupported(origin(), "why");
        assert_eq!(reasons(&report)[1], ("InForce", false, "Unsupported"));
        report.conflict(origin(), "with");
        assert_eq!(reasons(&report)[1], ("InForce", false, "Conflict"));
        report.rejected(origin(), "wrong");
        assert_eq!(reasons(&report)[0], ("Accepted", false, "Invalid"));
        assert_eq!(Status::of(&report).fields.len(), 3);
    }
}
