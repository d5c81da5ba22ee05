//! What runs and how it fares: the JSON of the supervisor's API, and the reports to the control plane.
//!
//! Values only. The supervisor's tasks write them to a `Board`, and whoever wants to know reads them there.

mod board;
mod report;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use board::Board;
pub(crate) use report::report;

/// Where in its life something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It failed and is started again after a pause.
    BackOff,
    /// It failed and is not started again.
    Failed,
    /// Not started yet.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It is gone.
    Stopped,
    /// It is being stopped.
    Stopping,
    /// It ended well and is not started again.
    Succeeded,
}

/// A process of heddle's own: the control plane or a proxy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Where in its life it is.
    pub phase: Phase,
    /// Whether it answers.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its id in the supervisor's PID namespace; none while it does not run.
    pub pid: Option<u32>,
    /// Exit code of its last end; death by a signal is 128 + its number.
    pub exit_code: Option<i32>,
    /// One sentence for the operator; may be empty.
    pub message: String,
}

/// What a container is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerKind {
    /// Runs as long as the workload.
    Application,
    /// Runs to its end before the others start.
    Init,
    /// An init container that goes on beside the others (`restartPolicy: Always`).
    Sidecar,
}

/// One container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its name, unique in the workload.
    pub name: String,
    /// What it is for.
    pub kind: ContainerKind,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its process; `pid` is that of the init of the container's own PID namespace.
    #[serde(flatten)]
    pub process: ProcessStatus,
}

/// A port of the host that leads to a workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedStatus {
    /// Address on the host.
    pub host_address: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// The workload's port.
    pub workload_port: u16,
    /// The port of the host that was asked for; another one than `host_port` where that may not be had.
    #[serde(default)]
    pub wanted_port: u16,
    /// The Service that it is a port of (`namespace/name`); empty: a container's own.
    #[serde(default)]
    pub service: String,
    /// Whether it takes datagrams of UDP; else connections of TCP.
    #[serde(default)]
    pub udp: bool,
    /// Why it is not open; none when it is.
    pub error: Option<String>,
}

/// One workload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// `standalone/Pod/<namespace>/<name>`.
    pub id: String,
    /// Unique among all replicas ever.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the replica.
    pub name: String,
    /// Name of the controlling object (Deployment and kin); may be empty.
    pub owner: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Whether it is a gateway: a proxy alone.
    #[serde(default)]
    pub gateway: bool,
    /// Where in its life it is.
    pub phase: Phase,
    /// All containers are ready, and the proxy where there is one.
    pub ready: bool,
    /// One sentence for the operator; may be empty.
    pub message: String,
    /// When it was started, milliseconds since 1970 UTC; 0: not yet.
    pub started_at_ms: u64,
    /// Inode of its network namespace; 0: not yet.
    pub network_namespace: u64,
    /// Its proxy; none without one.
    pub proxy: Option<ProcessStatus>,
    /// Its containers, init containers first.
    pub containers: Vec<ContainerStatus>,
    /// Ports on the host.
    pub published: Vec<PublishedStatus>,
}

impl WorkloadStatus {
    /// Restarts of all containers.
    pub fn restarts(&self) -> u32 {
        self.containers.iter().map(|container| container.process.restarts).sum()
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Derives phase and readiness from the parts. A workload that is being stopped, or is gone, stays so.
    pub(crate) fn settle(&mut self) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            self.ready = false;
            return;
        }
        let of = |kind| self.containers.iter().filter(move |c| c.kind == kind);
        let in_phase = |c: &ContainerStatus, phases: &[Phase]| phases.contains(&c.process.phase);
        let applications = || of(ContainerKind::Application);
        if let (true, Some(proxy)) = (self.gateway && self.containers.is_empty(), &self.proxy) {
            self.ready = proxy.ready;
            self.phase = proxy.phase;
            return;
        }
        self.ready = self.proxy.as_ref().is_none_or(|proxy| proxy.ready)
            && applications().chain(of(ContainerKind::Sidecar)).all(|c| c.process.ready);
        self.phase = if applications().all(|c| in_phase(c, &[Phase::Succeeded])) {
            Phase::Succeeded
        } else if applications().all(|c| in_phase(c, &[Phase::Succeeded, Phase::Failed]))
            || of(ContainerKind::Init).any(|c| in_phase(c, &[Phase::Failed]))
        {
            Phase::Failed
        } else if self.containers.iter().any(|c| in_phase(c, &[Phase::BackOff])) {
            Phase::BackOff
        } else if applications().any(|c| in_phase(c, &[Phase::Running])) {
            Phase::Running
        } else {
            Phase::Pending
        };
    }
}

/// Everything the supervisor knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MeshStatus {
    /// Drawn at random when the supervisor started.
    pub instance: String,
    /// The broker's process on the host.
    pub broker_pid: u32,
    /// Inode of the fabric's network namespace, where the control plane and the bridge are.
    pub network_namespace: u64,
    /// The bridge's addresses.
    pub fabric_addresses: Vec<IpAddr>,
    /// The control plane.
    pub control: ProcessStatus,
    /// Version of the desired state that was received last; empty before the first.
    pub desired_version: String,
    /// Every workload.
    pub workloads: Vec<WorkloadStatus>,
}

#[cfg(test)]
mod tests;
