//! A pod, and where it is in its life.

use std::collections::BTreeSet;

use heddle_api::Resource as AnyObject;
use heddle_ident::WorkloadId;
use heddle_translate::ObjectKey;
use heddle_translate::workloads::{PodPhase, PodStatus, pod_status};

use super::jobs::{Member, MemberState};
use crate::digest::digest;
use crate::facts::Facts;
use crate::timestamp;

/// A pod and where it is in its life.
pub(crate) struct PodEntry {
    pub(crate) workload: WorkloadId,
    pub(crate) uid: String,
    /// As it was expanded.
    pub(crate) pod: AnyObject,
    pub(crate) stage: Stage,
    /// What controls it.
    pub(crate) owner: Option<ObjectKey>,
    /// The pod that it stands in for while that one is replaced.
    pub(super) stands_in_for: Option<ObjectKey>,
    /// `uid` without the number of the try.
    pub(super) template: String,
    /// Which try of a job's pod it is.
    pub(super) attempt: u32,
    /// Whether it has succeeded for good, be it in an earlier run of the mesh.
    pub(super) done: bool,
    /// What shall take its place.
    pub(super) next: Option<AnyObject>,
    /// As the translator has it.
    pub(super) status: Option<PodStatus>,
}

/// Where in its life a pod is, as far as the control plane decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It shall go: no new requests. Holds when this began.
    Draining { since_ms: u64 },
    /// It shall not run now.
    Held,
    /// It is not desired any more. Holds when draining began.
    Stopping { since_ms: u64 },
    /// It shall run.
    Wanted,
}

/// What controls a pod.
pub(super) fn owner_of(pod: &AnyObject) -> Option<ObjectKey> {
    let meta = pod.meta();
    let owner = meta.owner_references.iter().find(|owner| owner.controller == Some(true))?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    Some(ObjectKey::new(group, &owner.kind, &meta.namespace, &owner.name))
}

/// Names a job and what it does; a job of the same name that does something else is another job.
pub(super) fn identity_of(job: &heddle_api::Object<heddle_api::kubernetes::Job>) -> String {
    let template = job.written.tree().to_json(job.spec.template.at);
    let uid = job.meta.uid.clone().unwrap_or_default();
    digest([uid.as_bytes(), template.as_bytes()])
}

/// What a replica is made of, but for its name and addresses.
pub(super) fn content(pod: &AnyObject) -> String {
    let meta = pod.meta();
    let written = pod.written();
    let spec = written.field(written.root(), "spec");
    let spec = spec.map(|spec| written.tree().to_json(spec)).unwrap_or_default();
    format!("{:?} {:?} {spec}", meta.labels, meta.annotations)
}

impl PodEntry {
    /// Whether it is of a job.
    pub(crate) fn is_of_job(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| &*owner.kind == "Job")
    }

    /// Whether it runs beside those that are asked for, while one of them is replaced.
    pub(crate) fn stands_in(&self) -> bool {
        self.stands_in_for.is_some()
    }

    /// Whether it shall be replaced.
    pub(crate) fn is_outdated(&self) -> bool {
        self.next.is_some()
    }

    /// What jobs know of it.
    pub(super) fn member(&self, facts: &Facts) -> Member {
        let own = facts.of(&self.workload).filter(|facts| facts.uid == self.uid);
        let state = match self.stage {
            Stage::Draining { .. } | Stage::Stopping { .. } => MemberState::Leaving,
            Stage::Held => MemberState::Held,
            Stage::Wanted => match own.map(|facts| facts.phase.as_str()) {
                Some("Succeeded") => MemberState::Succeeded,
                Some("Failed") => MemberState::Failed,
                _ => MemberState::Runs,
            },
        };
        Member {
            name: self.pod.meta().name.clone(),
            attempt: self.attempt,
            state,
            restarts: own.map_or(0, |facts| facts.restarts),
        }
    }

    /// Of a job: goes on with what runs, after a restart of the control plane, and does not do again what has
    /// succeeded, after one of the mesh. True: something changed.
    pub(super) fn settle(&mut self, facts: &Facts, succeeded: &BTreeSet<String>) -> bool {
        self.done = succeeded.contains(&self.pod.meta().name);
        let is_there = facts.of(&self.workload).is_some_and(|facts| facts.uid == self.uid);
        let stage = match self.stage {
            Stage::Held if is_there => Stage::Wanted,
            Stage::Wanted if self.done && !is_there => Stage::Held,
            other => other,
        };
        std::mem::replace(&mut self.stage, stage) != stage
    }
}

impl PodEntry {
    /// The status as the kubelet would write it.
    pub(super) fn live_status(&self, facts: &Facts) -> PodStatus {
        let own = facts.of(&self.workload).filter(|facts| facts.uid == self.uid);
        let deletion_timestamp = match self.stage {
            Stage::Draining { since_ms } | Stage::Stopping { since_ms } => {
                Some(timestamp::text(since_ms))
            }
            Stage::Held | Stage::Wanted => None,
        };
        PodStatus {
            addresses: pod_status(&self.pod).addresses,
            ready: own.is_some_and(|facts| facts.ready),
            phase: match own.map(|facts| facts.phase.as_str()) {
                Some("Failed") => PodPhase::Failed,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Running" | "Stopping" | "BackOff") => PodPhase::Running,
                _ if self.done => PodPhase::Succeeded,
                _ => PodPhase::Pending,
            },
            deletion_timestamp,
        }
    }
}

impl PodEntry {
    /// [`PodEntry::live_status`] as it stands in the object.
    pub(crate) fn live_status_json(&self, facts: &Facts) -> serde_json::Value {
        let status = self.live_status(facts);
        let ready = if status.ready { "True" } else { "False" };
        let addresses = status.addresses.iter().map(|ip| serde_json::json!({"ip": ip}));
        serde_json::json!({
            "phase": status.phase.as_str(),
            "podIP": status.addresses.first(),
            "podIPs": addresses.collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": ready}],
        })
    }
}

/// Follows from everything that a replica is made of and from when its workload was created: so a restart of the
/// control plane gives the same, and another template another one.
pub(super) fn uid(pod: &AnyObject) -> String {
    let meta = pod.meta();
    let written = pod.written();
    let spec = written.field(written.root(), "spec");
    let spec = spec.map(|spec| written.tree().to_json(spec)).unwrap_or_default();
    let mut parts = vec![
        meta.namespace.clone(),
        meta.name.clone(),
        meta.creation_timestamp.clone().unwrap_or_default(),
        spec,
    ];
    for (key, value) in &meta.annotations {
        parts.push(format!("{key}={value}"));
    }
    // Labels of a pod of one's own can change while it runs; those of a template make another template.
    if owner_of(pod).is_some() {
        parts.extend(meta.labels.iter().map(|(key, value)| format!("{key}={value}")));
    }
    parts.extend(pod_status(pod).addresses.iter().map(ToString::to_string));
    digest(parts.iter().map(String::as_bytes))
}
