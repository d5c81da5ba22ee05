//! The nine phases while they are being told.

use heddle_diag::Origin;

use crate::answer::{Considered, PhaseView};

/// The phases in order, with the words of the whole project.
pub(crate) const PHASES: [&str; 9] =
    ["accept", "detect", "identify", "authorize", "route", "pick", "connect", "forward", "record"];

/// A phase by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Accept = 0,
    Detect = 1,
    Identify = 2,
    Authorize = 3,
    Route = 4,
    Pick = 5,
    Connect = 6,
    Forward = 7,
    Record = 8,
}

/// What is known so far.
#[derive(Debug)]
pub(crate) struct Story {
    phases: Vec<PhaseView>,
}

impl Story {
    pub(crate) fn new() -> Self {
        let phase = |phase| PhaseView {
            phase,
            outcome: String::new(),
            origin: None,
            considered: Vec::new(),
            notes: Vec::new(),
        };
        Self { phases: PHASES.into_iter().map(phase).collect() }
    }

    fn at(&mut self, phase: Phase) -> &mut PhaseView {
        &mut self.phases[phase as usize]
    }

    /// Says what came out of a phase, and by which line.
    pub(crate) fn outcome(
        &mut self,
        phase: Phase,
        outcome: impl Into<String>,
        origin: Option<&Origin>,
    ) {
        let at = self.at(phase);
        at.outcome = outcome.into();
        at.origin = origin.cloned();
    }

    pub(crate) fn note(&mut self, phase: Phase, note: impl Into<String>) {
        let note = note.into();
        let notes = &mut self.at(phase).notes;
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(crate) fn consider(&mut self, phase: Phase, considered: Considered) {
        let known = &mut self.at(phase).considered;
        if !known.contains(&considered) {
            known.push(considered);
        }
    }

    /// All phases; those that nothing came to have the outcome `not reached`.
    pub(crate) fn finish(mut self) -> Vec<PhaseView> {
        for phase in &mut self.phases {
            if phase.outcome.is_empty() {
                phase.outcome.push_str("not reached");
            }
        }
        self.phases
    }
}

/// Something that the client's proxy looked at.
pub(crate) fn considered(origin: &Origin, outcome: impl Into<String>) -> Considered {
    Considered { origin: origin.clone(), outcome: outcome.into(), workload: None }
}
