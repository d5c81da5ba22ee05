//! What supervisors have told about workloads, kept so that a restart of the control plane takes no endpoint away.

use std::collections::BTreeMap;

use heddle_ident::WorkloadId;
use heddle_proto::node::{NodeReport, Phase, PublishedPort, TransportProtocol};
use serde::{Deserialize, Serialize};

/// The document with the facts.
pub(crate) const DOCUMENT: &str = "facts";
/// Workloads that are remembered.
const WORKLOADS_MAX: usize = 10_000;

/// Everything that was told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// One run of the supervisor; another one means that everything that ran is gone.
    instance: String,
    workloads: BTreeMap<String, WorkloadFacts>,
}

/// What is known of one workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WorkloadFacts {
    pub(crate) uid: String,
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) message: String,
    pub(crate) started_at_ms: u64,
    pub(crate) published_ports: Vec<Published>,
}

/// A port of the host that leads to the workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) host_address: String,
    pub(crate) host_port: u32,
    pub(crate) workload_port: u32,
    pub(crate) protocol: String,
}

impl Facts {
    /// Takes note of the supervisor's run. True: it is another one, and nothing runs.
    pub(crate) fn set_instance(&mut self, instance: &str) -> bool {
        let is_new = self.instance != instance;
        if is_new {
            instance.clone_into(&mut self.instance);
            self.workloads.clear();
        }
        is_new
    }

    /// Takes a report in. True: something is different.
    pub(crate) fn apply(&mut self, report: &NodeReport) -> bool {
        let before = self.clone();
        self.set_instance(&report.instance);
        if report.complete {
            self.workloads.clear();
        }
        for told in &report.workloads {
            if told.phase() == Phase::Stopped {
                self.workloads.remove(&told.id);
            } else if self.workloads.len() < WORKLOADS_MAX || self.workloads.contains_key(&told.id)
            {
                let facts = WorkloadFacts {
                    uid: told.uid.clone(),
                    phase: phase_text(told.phase()).to_owned(),
                    ready: told.ready,
                    restarts: told.restarts,
                    exit_code: told.exit_code,
                    message: told.message.chars().take(1000).collect(),
                    started_at_ms: told.started_at_ms,
                    published_ports: told.published_ports.iter().map(Published::from).collect(),
                };
                self.workloads.insert(told.id.clone(), facts);
            }
        }
        *self != before
    }

    /// What is known of a workload; none: it does not run.
    pub(crate) fn of(&self, workload: &WorkloadId) -> Option<&WorkloadFacts> {
        self.workloads.get(workload.as_str())
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &WorkloadFacts)> {
        self.workloads.iter().map(|(id, facts)| (id.as_str(), facts))
    }
}

impl From<&PublishedPort> for Published {
    fn from(port: &PublishedPort) -> Self {
        let protocol = if port.protocol() == TransportProtocol::Udp { "UDP" } else { "TCP" };
        Self {
            host_address: port.host_address.clone(),
            host_port: port.host_port,
            workload_port: port.workload_port,
            protocol: protocol.to_owned(),
        }
    }
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::BackOff => "BackOff",
        Phase::Failed => "Failed",
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Stopped => "Stopped",
        Phase::Stopping => "Stopping",
        Phase::Succeeded => "Succeeded",
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::node::WorkloadReport;

    use super::*;

    fn told(id: &str, ready: bool, phase: Phase) -> WorkloadReport {
        WorkloadReport {
            id: id.into(),
            uid: "u".into(),
            phase: phase.into(),
            ready,
            ..WorkloadReport::default()
        }
    }

    fn report(complete: bool, workloads: Vec<WorkloadReport>) -> NodeReport {
        NodeReport { node: "local".into(), instance: "1".into(), complete, workloads }
    }

    #[test]
    fn a_complete_report_says_what_does_not_run() {
        let mut facts = Facts::default();
        assert!(facts.apply(&report(false, vec![told("a", true, Phase::Running)])));
        assert!(facts.apply(&report(false, vec![told("b", true, Phase::Running)])));
        assert!(!facts.apply(&report(false, vec![told("b", true, Phase::Running)])));
        assert_eq!(facts.iter().count(), 2);
        assert!(facts.apply(&report(true, vec![told("b", true, Phase::Running)])));
        assert_eq!(facts.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["b"]);
        assert!(facts.apply(&report(false, vec![told("b", false, Phase::Stopped)])));
        assert_eq!(facts.iter().count(), 0);
    }

    #[test]
    fn another_run_of_the_supervisor_begins_with_nothing() {
        let mut facts = Facts::default();
        facts.apply(&report(false, vec![told("a", true, Phase::Running)]));
        assert!(!facts.set_instance("1"));
        assert!(facts.set_instance("2"));
        assert_eq!(facts.iter().count(), 0);
    }
}
