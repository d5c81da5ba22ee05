//! What supervisors have told about workloads, kept so that a restart of the control plane takes no endpoint away.

use std::collections::BTreeMap;

use heddle_ident::WorkloadId;
use heddle_proto::node::{NodeReport, Phase, PublishedPort, TransportProtocol, WorkloadReport};
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
    /// A machine of its own tells of it, and not the mesh's supervisor.
    #[serde(default)]
    pub(crate) remote: bool,
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
            self.workloads.retain(|_, facts| facts.remote);
        }
        is_new
    }

    /// Takes a report in. True: something is different.
    pub(crate) fn apply(&mut self, report: &NodeReport) -> bool {
        let before = self.clone();
        self.set_instance(&report.instance);
        if report.complete {
            self.workloads.retain(|_, facts| facts.remote);
        }
        for told in &report.workloads {
            self.take(told, false);
        }
        *self != before
    }

    /// Takes in what a machine says of its own workload; whatever it says of others is nobody's. True: something is
    /// different.
    pub(crate) fn apply_machine(&mut self, workload: &WorkloadId, report: &NodeReport) -> bool {
        let before = self.workloads.get(workload.as_str()).cloned();
        let told = report.workloads.iter().find(|told| told.id == workload.as_str());
        match told {
            Some(told) => self.take(told, true),
            None if report.complete => drop(self.workloads.remove(workload.as_str())),
            None => {}
        }
        self.workloads.get(workload.as_str()) != before.as_ref()
    }

    /// A machine is away: nothing is sent there. True: something is different.
    pub(crate) fn set_away(&mut self, workload: &WorkloadId) -> bool {
        let Some(facts) = self.workloads.get_mut(workload.as_str()) else { return false };
        let was_ready = std::mem::replace(&mut facts.ready, false);
        if was_ready {
            "the machine is away".clone_into(&mut facts.message);
        }
        was_ready
    }

    /// A machine is gone for good.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) -> bool {
        self.workloads.remove(workload.as_str()).is_some()
    }

    fn take(&mut self, told: &WorkloadReport, remote: bool) {
        if told.phase() == Phase::Stopped {
            self.workloads.remove(&told.id);
        } else if self.workloads.len() < WORKLOADS_MAX || self.workloads.contains_key(&told.id) {
            let facts = WorkloadFacts {
                uid: told.uid.clone(),
                phase: phase_text(told.phase()).to_owned(),
                ready: told.ready,
                restarts: told.restarts,
                exit_code: told.exit_code,
                message: told.message.chars().take(1000).collect(),
                started_at_ms: told.started_at_ms,
                published_ports: told.published_ports.iter().map(Published::from).collect(),
                remote,
            };
            self.workloads.insert(told.id.clone(), facts);
        }
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
    fn a_machine_tells_of_itself_only_and_outlives_the_supervisors_runs() {
        let mut facts = Facts::default();
        facts.apply(&report(false, vec![told("a", true, Phase::Running)]));
        let vm = WorkloadId::new("vm");
        let of_machine = |ready| {
            report(true, vec![told("vm", ready, Phase::Running), told("a", false, Phase::Failed)])
        };
        assert!(facts.apply_machine(&vm, &of_machine(true)));
        assert!(!facts.apply_machine(&vm, &of_machine(true)));
        assert!(facts.of(&WorkloadId::new("a")).unwrap().ready, "it is not the machine's");
        assert!(facts.apply(&report(true, Vec::new())));
        assert!(facts.set_instance("2"), "the supervisor's");
        assert_eq!(facts.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["vm"]);
        assert!(facts.set_away(&vm) && !facts.set_away(&vm));
        assert!(facts.apply_machine(&vm, &report(true, Vec::new())));
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
