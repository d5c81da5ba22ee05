//! How the replicas of a workload are replaced when its template changes. Pure.
//!
//! Replicas keep their names: each is drained, stopped and started again with the new template. Where the workload may
//! have more replicas than it asks for (`maxSurge`), a stand-in with the new template runs beside them meanwhile, so
//! that a single replica can be replaced without a moment in which nobody answers.

use heddle_api::{At, Resource as AnyObject, Written};

/// What a workload says about its replacement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strategy {
    /// All old replicas end before a new one begins.
    Recreate,
    /// A few at a time.
    Rolling {
        /// So many more may run than are asked for.
        surge: usize,
        /// So many fewer may serve than are asked for.
        unavailable: usize,
    },
}

impl Strategy {
    /// What the owner says, with Kubernetes' defaults. What has no owner is replaced on the spot.
    pub(crate) fn of(owner: Option<&AnyObject>, replicas: usize) -> Self {
        let one = Self::Rolling { surge: 0, unavailable: 1 };
        match owner {
            Some(AnyObject::Deployment(deployment)) => {
                let written = &deployment.written;
                let strategy = written.field(deployment.spec.at, "strategy");
                if strategy.is_some_and(|at| text(written, at, "type") == Some("Recreate")) {
                    return Self::Recreate;
                }
                Self::rolling(written, strategy, replicas, ["25%", "25%"])
            }
            Some(AnyObject::DaemonSet(set)) => {
                let strategy = set.written.field(set.spec.at, "updateStrategy");
                Self::rolling(&set.written, strategy, replicas, ["0", "1"])
            }
            Some(AnyObject::StatefulSet(set)) => {
                let strategy = set.written.field(set.spec.at, "updateStrategy");
                Self::rolling(&set.written, strategy, replicas, ["0", "1"])
            }
            _ => one,
        }
    }

    fn rolling(
        written: &Written,
        strategy: Option<At>,
        replicas: usize,
        [surge, unavailable]: [&str; 2],
    ) -> Self {
        let rolling = strategy.and_then(|at| written.field(at, "rollingUpdate"));
        let own = |field| rolling.and_then(|at| text(written, at, field));
        let surge = share(own("maxSurge").unwrap_or(surge), replicas, true);
        let unavailable = share(own("maxUnavailable").unwrap_or(unavailable), replicas, false);
        // Both zero would never come to an end; Kubernetes reads this so too.
        Self::Rolling {
            surge,
            unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        }
    }
}

fn text<'a>(written: &'a Written, at: At, field: &str) -> Option<&'a str> {
    written.field(at, field).map(|field| &**written.tree().text(field))
}

/// A number, or a share of the replicas in per cent.
fn share(text: &str, replicas: usize, up: bool) -> usize {
    match text.strip_suffix('%') {
        Some(percent) => {
            let part = percent.trim().parse::<usize>().unwrap_or(0).saturating_mul(replicas);
            if up { part.div_ceil(100) } else { part / 100 }
        }
        None => text.trim().parse().unwrap_or(0),
    }
}

/// Where a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It waits for its start.
    Held,
    /// It drains or stops.
    Leaving,
    /// It shall run.
    Wanted,
}

/// A replica, as far as its replacement goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Replica {
    pub(crate) place: Place,
    /// Whether it takes requests.
    pub(crate) ready: bool,
    /// Whether the template is another one now.
    pub(crate) outdated: bool,
    /// Whether it runs beside those that are asked for.
    pub(crate) stands_in: bool,
}

/// What is to be done with a replica, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It takes no new requests, and ends.
    Drain(usize),
    /// Another one with the new template is started beside it.
    StandIn(usize),
    /// It may begin.
    Start(usize),
}

/// What can be done now for the replicas of one workload.
pub(crate) fn steps(strategy: Strategy, replicas: &[Replica]) -> Vec<Step> {
    let own = || replicas.iter().enumerate().filter(|(_, replica)| !replica.stands_in);
    let outdated = || own().filter(|(_, r)| r.place == Place::Wanted && r.outdated);
    let mut steps = Vec::new();
    let leaving = own().any(|(_, replica)| replica.place == Place::Leaving);
    if !leaving {
        steps.extend(own().filter(|(_, r)| r.place == Place::Held).map(|(i, _)| Step::Start(i)));
    }
    let Strategy::Rolling { surge, unavailable } = strategy else {
        steps.extend(outdated().map(|(index, _)| Step::Drain(index)));
        return steps;
    };
    let settled = own().all(|(_, r)| r.place == Place::Wanted && r.ready && !r.outdated);
    let stand_ins = || {
        let all = replicas.iter().enumerate().filter(|(_, replica)| replica.stands_in);
        all.filter(|(_, replica)| replica.place == Place::Wanted)
    };
    steps.extend(stand_ins().filter(|(_, r)| settled || r.outdated).map(|(i, _)| Step::Drain(i)));
    let wanted = surge.min(outdated().count());
    let missing = wanted.saturating_sub(replicas.iter().filter(|r| r.stands_in).count());
    steps.extend(outdated().take(missing).map(|(index, _)| Step::StandIn(index)));
    let serves = |replica: &Replica| {
        replica.place == Place::Wanted && replica.ready && !(replica.stands_in && replica.outdated)
    };
    let mut available = replicas.iter().filter(|replica| serves(replica)).count();
    let least = own().count().saturating_sub(unavailable);
    for (index, replica) in outdated() {
        // One that does not serve anyway need not wait for its turn.
        if !replica.ready {
            steps.push(Step::Drain(index));
        } else if available > least {
            available -= 1;
            steps.push(Step::Drain(index));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w` wanted, `o` outdated, `l` leaving, `h` held, `s` stand-in, `x` outdated stand-in; capitals are ready.
    fn replicas(text: &str) -> Vec<Replica> {
        let replica = |c: char| Replica {
            place: match c.to_ascii_lowercase() {
                'l' => Place::Leaving,
                'h' => Place::Held,
                _ => Place::Wanted,
            },
            ready: c.is_ascii_uppercase(),
            outdated: matches!(c.to_ascii_lowercase(), 'o' | 'x'),
            stands_in: matches!(c.to_ascii_lowercase(), 's' | 'x'),
        };
        text.chars().map(replica).collect()
    }

    #[test]
    fn nobody_is_missed_while_replicas_are_replaced() {
        let rolling = |surge, unavailable| Strategy::Rolling { surge, unavailable };
        for (strategy, now, expected) in [
            // A single replica: a stand-in first, then itself, then the stand-in goes.
            (rolling(1, 0), "O", vec![Step::StandIn(0)]),
            (rolling(1, 0), "Os", vec![]),
            (rolling(1, 0), "OS", vec![Step::Drain(0)]),
            (rolling(1, 0), "lS", vec![]),
            (rolling(1, 0), "wS", vec![]),
            (rolling(1, 0), "WS", vec![Step::Drain(1)]),
            (rolling(1, 0), "W", vec![]),
            // The template changed again meanwhile.
            (rolling(1, 0), "OX", vec![Step::Drain(1)]),
            (rolling(1, 0), "o", vec![Step::StandIn(0), Step::Drain(0)]),
            // One at a time.
            (rolling(0, 1), "OO", vec![Step::Drain(0)]),
            (rolling(0, 1), "lO", vec![]),
            (rolling(0, 1), "wO", vec![]),
            (rolling(0, 1), "WO", vec![Step::Drain(1)]),
            (rolling(1, 1), "OOOO", vec![Step::StandIn(0), Step::Drain(0)]),
            (rolling(0, 2), "OOO", vec![Step::Drain(0), Step::Drain(1)]),
            (Strategy::Recreate, "OO", vec![Step::Drain(0), Step::Drain(1)]),
            (Strategy::Recreate, "lh", vec![]),
            (Strategy::Recreate, "hh", vec![Step::Start(0), Step::Start(1)]),
        ] {
            assert_eq!(steps(strategy, &replicas(now)), expected, "{strategy:?} {now}");
        }
    }

    #[test]
    fn numbers_and_shares_are_read_as_kubernetes_does() {
        for (strategy, replicas, expected) in [
            ("", 1, (1, 0)),
            ("", 4, (1, 1)),
            ("", 10, (3, 2)),
            ("rollingUpdate: {maxSurge: 0, maxUnavailable: 0}", 3, (0, 1)),
            ("rollingUpdate: {maxSurge: 2, maxUnavailable: 50%}", 3, (2, 1)),
            ("rollingUpdate: {maxSurge: 0}", 1, (0, 1)),
        ] {
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  strategy: {{{strategy}}}\n  selector: {{}}\n  \
                 template: {{spec: {{containers: [{{name: c}}]}}}}\n"
            );
            let loaded = heddle_api::Reader::default().read_file("d.yaml", text.as_bytes());
            let (surge, unavailable) = expected;
            let found = Strategy::of(loaded.resources.first(), replicas);
            assert_eq!(found, Strategy::Rolling { surge, unavailable }, "{strategy} {replicas}");
        }
    }
}
