//! What the results of probes mean (Kubernetes, "Configure Liveness, Readiness and Startup Probes").
//!
//! Pure: a result goes in, what follows comes out. Running the checks is the supervisor's business.

/// What one probe watches over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The container must be started again when it fails.
    Liveness,
    /// No requests while it fails.
    Readiness,
    /// The other two wait until it succeeds; the container must be started again when it fails.
    Startup,
}

impl Kind {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }
}

/// Results in a row that settle something. At least 1 each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// `successThreshold`.
    pub success: u32,
    /// `failureThreshold`.
    pub failure: u32,
}

/// What a result changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Failures reached their threshold now.
    Fails,
    /// Successes reached their threshold now.
    Holds,
    /// Nothing changed.
    Same,
}

/// Counts the results of one probe.
#[derive(Clone, Debug)]
pub struct Counter {
    thresholds: Thresholds,
    /// What is settled; none before the first threshold is reached.
    holds: Option<bool>,
    /// The last result, and how often it came in a row.
    last: bool,
    row: u32,
}

impl Counter {
    /// No result yet.
    pub fn new(thresholds: Thresholds) -> Self {
        let thresholds =
            Thresholds { success: thresholds.success.max(1), failure: thresholds.failure.max(1) };
        Self { thresholds, holds: None, last: false, row: 0 }
    }

    /// Takes one result.
    pub fn record(&mut self, success: bool) -> Verdict {
        self.row = if success == self.last { self.row.saturating_add(1) } else { 1 };
        self.last = success;
        let threshold = if success { self.thresholds.success } else { self.thresholds.failure };
        if self.row < threshold || self.holds == Some(success) {
            return Verdict::Same;
        }
        self.holds = Some(success);
        if success { Verdict::Holds } else { Verdict::Fails }
    }
}

/// The health of one running container, from its start to its end.
#[derive(Clone, Debug)]
pub struct Health {
    startup: Option<Counter>,
    readiness: Option<Counter>,
    liveness: Option<Counter>,
    ready: bool,
}

/// What the supervisor must do after a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Tell that the container is ready, or no longer.
    TellReady(bool),
    /// Stop the container and start it again.
    Restart,
}

impl Health {
    /// A container that has just started; a probe that it does not have is none.
    pub fn new(
        startup: Option<Thresholds>,
        readiness: Option<Thresholds>,
        liveness: Option<Thresholds>,
    ) -> Self {
        Self {
            ready: startup.is_none() && readiness.is_none(),
            startup: startup.map(Counter::new),
            readiness: readiness.map(Counter::new),
            liveness: liveness.map(Counter::new),
        }
    }

    /// Whether requests may come.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether a probe of that kind shall run now.
    pub fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Startup => self.startup.is_some(),
            Kind::Readiness => self.startup.is_none() && self.readiness.is_some(),
            Kind::Liveness => self.startup.is_none() && self.liveness.is_some(),
        }
    }

    /// Takes a result. One of a probe that does not run now changes nothing.
    pub fn record(&mut self, kind: Kind, success: bool) -> Action {
        if !self.wants(kind) {
            return Action::Nothing;
        }
        let counter = match kind {
            Kind::Startup => &mut self.startup,
            Kind::Readiness => &mut self.readiness,
            Kind::Liveness => &mut self.liveness,
        };
        let verdict = counter.as_mut().map_or(Verdict::Same, |counter| counter.record(success));
        match (kind, verdict) {
            (Kind::Startup | Kind::Liveness, Verdict::Fails) => Action::Restart,
            (Kind::Startup, Verdict::Holds) => {
                self.startup = None;
                if self.readiness.is_some() { Action::Nothing } else { self.set_ready(true) }
            }
            (Kind::Readiness, Verdict::Holds) => self.set_ready(true),
            (Kind::Readiness, Verdict::Fails) => self.set_ready(false),
            (_, Verdict::Same) | (Kind::Liveness, Verdict::Holds) => Action::Nothing,
        }
    }

    fn set_ready(&mut self, ready: bool) -> Action {
        if self.ready == ready {
            return Action::Nothing;
        }
        self.ready = ready;
        Action::TellReady(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Thresholds = Thresholds { success: 1, failure: 1 };

    #[test]
    fn a_threshold_needs_results_in_a_row() {
        let mut counter = Counter::new(Thresholds { success: 2, failure: 3 });
        let verdicts: Vec<_> = [true, false, false, true, false, false, false, false, true, true]
            .map(|success| counter.record(success))
            .to_vec();
        let mut expected = vec![Verdict::Same; 10];
        expected[6] = Verdict::Fails;
        expected[9] = Verdict::Holds;
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn thresholds_of_zero_count_as_one() {
        let mut counter = Counter::new(Thresholds { success: 0, failure: 0 });
        assert_eq!(counter.record(true), Verdict::Holds);
        assert_eq!(counter.record(false), Verdict::Fails);
    }

    #[test]
    fn without_probes_a_running_container_is_ready() {
        let mut health = Health::new(None, None, None);
        assert!(health.is_ready());
        assert_eq!(health.record(Kind::Readiness, false), Action::Nothing);
        assert!(health.is_ready());
    }

    #[test]
    fn the_other_probes_wait_for_the_startup_probe() {
        let mut health = Health::new(Some(ONE), Some(ONE), Some(ONE));
        assert!(!health.is_ready() && !health.wants(Kind::Readiness));
        assert_eq!(health.record(Kind::Liveness, false), Action::Nothing);
        assert_eq!(health.record(Kind::Startup, true), Action::Nothing);
        assert!(!health.wants(Kind::Startup) && health.wants(Kind::Liveness));
        assert_eq!(health.record(Kind::Readiness, true), Action::TellReady(true));
        assert_eq!(health.record(Kind::Readiness, true), Action::Nothing);
        assert_eq!(health.record(Kind::Readiness, false), Action::TellReady(false));
        assert_eq!(health.record(Kind::Liveness, false), Action::Restart);
    }

    #[test]
    fn a_startup_probe_alone_makes_ready() {
        let mut health = Health::new(Some(Thresholds { success: 1, failure: 2 }), None, None);
        assert_eq!(health.record(Kind::Startup, false), Action::Nothing);
        assert_eq!(health.record(Kind::Startup, true), Action::TellReady(true));
        let mut health = Health::new(Some(Thresholds { success: 1, failure: 2 }), None, None);
        health.record(Kind::Startup, false);
        assert_eq!(health.record(Kind::Startup, false), Action::Restart);
        assert!(!health.is_ready());
    }
}
