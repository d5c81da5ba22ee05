//! What shall run, and what it means for the mesh: objects are expanded into pods, pods live through their stages, and
//! the translator is told.
//!
//! A pod that shall go is *draining* first: its endpoints take no new requests, and it goes on serving until every
//! proxy knows that, or a bound has passed. Only then it leaves the desired state and is stopped. A pod whose template
//! changed goes the same way and comes back with another `uid`; of one workload one pod at a time does so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ident::WorkloadId;
use heddle_ir::resource::ResourceName;
use heddle_translate::workloads::{
    Allocation, PodPhase, PodStatus, expand, pod_status, with_status,
};
use heddle_translate::{Change, Changed, ObjectKey, Options, Translator};

use crate::digest::digest;
use crate::facts::Facts;
use crate::timestamp;

/// A draining pod is stopped after this time, even where a proxy has not confirmed.
const DRAIN_MAX_MS: u64 = 5_000;

/// Objects, pods and the translator.
pub(crate) struct Plan {
    translator: Translator,
    allocation: Allocation,
    /// What the translator holds, but for pods, with a digest of each.
    put: BTreeMap<ObjectKey, String>,
    pods: BTreeMap<ObjectKey, PodEntry>,
    /// Pods that the translator was told of by [`Plan::try_objects`].
    tried_pods: BTreeSet<ObjectKey>,
}

/// A pod and where it is in its life.
pub(crate) struct PodEntry {
    pub(crate) workload: WorkloadId,
    pub(crate) uid: String,
    /// As it was expanded.
    pub(crate) pod: AnyObject,
    pub(crate) stage: Stage,
    owner: Option<String>,
    /// What shall take its place.
    next: Option<AnyObject>,
    /// As the translator has it.
    status: Option<PodStatus>,
}

/// Where in its life a pod is, as far as the control plane decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It shall go: no new requests. Holds when this began.
    Draining { since_ms: u64 },
    /// It is not desired any more. Holds when draining began.
    Stopping { since_ms: u64 },
    /// It shall run.
    Wanted,
}

/// What followed from a change.
#[derive(Debug, Default)]
pub(crate) struct Consequences {
    /// Resources that may be others now.
    pub(crate) resources: BTreeSet<ResourceName>,
    /// Workloads that are gone for good.
    pub(crate) gone: Vec<(WorkloadId, String)>,
    /// Another pod shall run, or one shall not run any more.
    pub(crate) pods_changed: bool,
}

impl Consequences {
    fn add(&mut self, changed: Changed) {
        self.resources.extend(changed.resources);
    }

    /// Adds those of a later change.
    pub(crate) fn merge(&mut self, other: Self) {
        self.resources.extend(other.resources);
        self.gone.extend(other.gone);
        self.pods_changed |= other.pods_changed;
    }

    /// Whether nothing is different.
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.gone.is_empty() && !self.pods_changed
    }
}

impl Plan {
    /// A plan without objects.
    pub(crate) fn new(options: Options, allocation: Allocation) -> Self {
        let translator = Translator::new(options);
        let (put, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { translator, allocation, put, pods, tried_pods: BTreeSet::new() }
    }

    /// What is derived from the objects.
    pub(crate) fn translator(&self) -> &Translator {
        &self.translator
    }

    /// Says that nobody subscribes to the resource any more.
    pub(crate) fn forget(&mut self, name: &ResourceName) {
        self.translator.forget(name);
    }

    /// Addresses given so far, to be stored.
    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// The pods, in order.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodEntry> {
        self.pods.values()
    }

    /// Puts objects into the translator for a moment, with the pods that they would make, so that it can be asked about
    /// them; the next [`Plan::set_objects`] puts everything right.
    pub(crate) fn try_objects(&mut self, objects: Vec<AnyObject>) -> Consequences {
        let expansion = expand(objects, self.allocation.clone(), false);
        let mut changes = Vec::new();
        for object in expansion.objects {
            let key = ObjectKey::of(&object);
            if matches!(object, AnyObject::Pod(_)) {
                // A pod that is there already stays as it is.
                if self.pods.contains_key(&key) {
                    continue;
                }
                self.tried_pods.insert(key);
            } else {
                let digest = fingerprint(&object);
                if self.put.get(&key) == Some(&digest) {
                    continue;
                }
                // No digest is equal to this one, so that the object is put again, or removed, later on.
                self.put.insert(key, String::new());
            }
            changes.push(Change::Upsert(object));
        }
        let mut consequences = Consequences::default();
        consequences.add(self.translator.apply(changes));
        consequences
    }

    /// These are all objects from now on.
    pub(crate) fn set_objects(
        &mut self,
        objects: Vec<AnyObject>,
        facts: &Facts,
        now_ms: u64,
    ) -> Consequences {
        let expansion = expand(objects, self.allocation.clone(), false);
        self.allocation = expansion.allocation;
        let (pods, others): (Vec<_>, Vec<_>) =
            expansion.objects.into_iter().partition(|object| matches!(object, AnyObject::Pod(_)));
        let mut changes = Vec::new();
        let mut gone: BTreeSet<ObjectKey> = self.put.keys().cloned().collect();
        for object in others {
            let (key, digest) = (ObjectKey::of(&object), fingerprint(&object));
            gone.remove(&key);
            if self.put.get(&key) != Some(&digest) {
                self.put.insert(key, digest);
                changes.push(Change::Upsert(object));
            }
        }
        for key in gone {
            self.put.remove(&key);
            changes.push(Change::Delete(key));
        }
        self.set_pods(pods, facts, now_ms);
        for key in std::mem::take(&mut self.tried_pods) {
            if !self.pods.contains_key(&key) {
                changes.push(Change::Delete(key));
            }
        }
        let mut consequences = Consequences::default();
        consequences.add(self.translator.apply(changes));
        // Contents of mounted files, and folders, may be others too.
        consequences.pods_changed = true;
        consequences.merge(self.advance(facts, now_ms, false));
        consequences
    }

    /// Compares the pods that shall be with those that are.
    fn set_pods(&mut self, pods: Vec<AnyObject>, facts: &Facts, now_ms: u64) {
        let mut wanted = BTreeSet::new();
        for pod in pods {
            let key = ObjectKey::of(&pod);
            wanted.insert(key.clone());
            match self.pods.get_mut(&key) {
                Some(entry) if entry.stage == Stage::Wanted && entry.uid == uid(&pod) => {
                    entry.pod = pod;
                    entry.next = None;
                }
                Some(entry) => entry.next = Some(pod),
                None => {
                    let entry = self.new_entry(pod);
                    self.pods.insert(key, entry);
                }
            }
        }
        for (key, entry) in &mut self.pods {
            if wanted.contains(key) {
                continue;
            }
            entry.next = None;
            if entry.stage == Stage::Wanted {
                let runs = facts.of(&entry.workload).is_some_and(|facts| facts.uid == entry.uid);
                entry.stage = if runs {
                    Stage::Draining { since_ms: now_ms }
                } else {
                    Stage::Stopping { since_ms: now_ms }
                };
            }
        }
    }

    /// Goes on with whatever can go on, and tells the translator how the pods are. `settled`: every proxy has what was
    /// published so far.
    pub(crate) fn advance(&mut self, facts: &Facts, now_ms: u64, settled: bool) -> Consequences {
        let mut consequences = Consequences::default();
        self.begin_replacements(facts, now_ms);
        let mut changes = Vec::new();
        let mut over = Vec::new();
        for (key, entry) in &mut self.pods {
            let own = facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
            // The translator must know of the draining first, so that proxies can have confirmed it.
            let is_told = entry.status.as_ref().is_some_and(|s| s.deletion_timestamp.is_some());
            if let Stage::Draining { since_ms } = entry.stage
                && ((settled && is_told) || now_ms >= since_ms + DRAIN_MAX_MS || own.is_none())
            {
                entry.stage = Stage::Stopping { since_ms };
                consequences.pods_changed = true;
            }
            if matches!(entry.stage, Stage::Stopping { .. }) && own.is_none() {
                over.push(key.clone());
                continue;
            }
            let status = entry.live_status(facts);
            if entry.status.as_ref() != Some(&status) {
                if let Some(pod) = with_status(&entry.pod, &status) {
                    changes.push(Change::Upsert(pod));
                }
                entry.status = Some(status);
            }
        }
        for key in over {
            let Some(entry) = self.pods.remove(&key) else { continue };
            consequences.pods_changed = true;
            consequences.gone.push((entry.workload, entry.uid));
            match entry.next {
                Some(pod) => {
                    let mut entry = self.new_entry(pod);
                    let status = entry.live_status(facts);
                    changes.extend(with_status(&entry.pod, &status).map(Change::Upsert));
                    entry.status = Some(status);
                    self.pods.insert(key, entry);
                }
                None => changes.push(Change::Delete(key)),
            }
        }
        if !changes.is_empty() {
            consequences.add(self.translator.apply(changes));
        }
        consequences
    }

    /// Begins to replace pods whose template changed, one of each workload at a time.
    fn begin_replacements(&mut self, facts: &Facts, now_ms: u64) {
        let is_ready = |entry: &PodEntry| {
            let own = facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
            entry.stage == Stage::Wanted && own.is_some_and(|facts| facts.ready)
        };
        // Workloads with a pod that is on its way out or not up yet.
        let mut busy: BTreeSet<String> = self
            .pods
            .values()
            .filter(|entry| !is_ready(entry) && entry.next.is_none())
            .filter_map(|entry| entry.owner.clone())
            .collect();
        let leaving = self.pods.values().filter(|entry| entry.stage != Stage::Wanted);
        busy.extend(leaving.filter_map(|entry| entry.owner.clone()));
        for entry in self.pods.values_mut() {
            if entry.stage != Stage::Wanted || entry.next.is_none() {
                continue;
            }
            let own = facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
            let serves = own.is_some_and(|facts| facts.ready);
            // One that does not serve anyway need not wait for its turn.
            if serves && entry.owner.as_ref().is_some_and(|owner| busy.contains(owner)) {
                continue;
            }
            entry.stage = Stage::Draining { since_ms: now_ms };
            busy.extend(entry.owner.clone());
        }
    }

    /// Whether a pod drains, so that [`Plan::advance`] must be called when its time is over; when that is.
    pub(crate) fn drain_ends_ms(&self) -> Option<u64> {
        let ends = self.pods.values().filter_map(|entry| match entry.stage {
            Stage::Draining { since_ms } => Some(since_ms + DRAIN_MAX_MS),
            Stage::Stopping { .. } | Stage::Wanted => None,
        });
        ends.min()
    }

    fn new_entry(&self, pod: AnyObject) -> PodEntry {
        let meta = pod.meta();
        let cluster = &self.translator.options().cluster;
        let id = format!("{cluster}/Pod/{}/{}", meta.namespace, meta.name);
        let owner = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
        let owner = owner.map(|owner| format!("{}/{}/{}", owner.kind, meta.namespace, owner.name));
        PodEntry {
            workload: WorkloadId::new(id),
            uid: uid(&pod),
            owner,
            pod,
            stage: Stage::Wanted,
            next: None,
            status: None,
        }
    }
}

impl PodEntry {
    /// The status as the kubelet would write it.
    fn live_status(&self, facts: &Facts) -> PodStatus {
        let own = facts.of(&self.workload).filter(|facts| facts.uid == self.uid);
        let deletion_timestamp = match self.stage {
            Stage::Draining { since_ms } | Stage::Stopping { since_ms } => {
                Some(timestamp::text(since_ms))
            }
            Stage::Wanted => None,
        };
        PodStatus {
            addresses: pod_status(&self.pod).addresses,
            ready: own.is_some_and(|facts| facts.ready),
            phase: match own.map(|facts| facts.phase.as_str()) {
                Some("Failed") => PodPhase::Failed,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Running" | "Stopping" | "BackOff") => PodPhase::Running,
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
fn uid(pod: &AnyObject) -> String {
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
    parts.extend(pod_status(pod).addresses.iter().map(ToString::to_string));
    digest(parts.iter().map(String::as_bytes))
}

/// Tells apart what the translator must be told again: content, position and what expansion added.
fn fingerprint(object: &AnyObject) -> String {
    let origin = object.origin();
    let extra = match object {
        AnyObject::Service(service) => service.spec.cluster_ips.join(","),
        AnyObject::ServiceEntry(entry) => format!("{:?}", entry.meta.annotations),
        _ => String::new(),
    };
    let created = object.meta().creation_timestamp.clone().unwrap_or_default();
    let json = object.written().to_json();
    digest([json.as_bytes(), origin.to_string().as_bytes(), extra.as_bytes(), created.as_bytes()])
}

/// For the store.
pub(crate) mod stored {
    use super::{Allocation, Arc, BTreeMap};
    use heddle_translate::workloads::Slots;
    use serde::{Deserialize, Serialize};

    /// The document with the addresses given.
    pub(crate) const DOCUMENT: &str = "allocation";

    #[derive(Serialize, Deserialize)]
    struct Stored {
        pods: StoredSlots,
        services: StoredSlots,
        entries: StoredSlots,
    }

    #[derive(Serialize, Deserialize)]
    struct StoredSlots {
        taken: BTreeMap<String, u32>,
        next: u32,
    }

    impl From<&Slots> for StoredSlots {
        fn from(slots: &Slots) -> Self {
            Self { taken: slots.taken.clone(), next: slots.next }
        }
    }

    impl From<StoredSlots> for Slots {
        fn from(stored: StoredSlots) -> Self {
            Self { taken: stored.taken, next: stored.next }
        }
    }

    /// As JSON.
    pub(crate) fn format(allocation: &Allocation) -> Arc<[u8]> {
        let Allocation { pods, services, entries } = allocation;
        let stored =
            Stored { pods: pods.into(), services: services.into(), entries: entries.into() };
        // Maps of texts and numbers have no way to fail.
        serde_json::to_vec(&stored).unwrap_or_default().into()
    }

    /// From JSON.
    pub(crate) fn parse(document: &[u8]) -> Result<Allocation, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(document)?;
        Ok(Allocation {
            pods: stored.pods.into(),
            services: stored.services.into(),
            entries: stored.entries.into(),
        })
    }
}
