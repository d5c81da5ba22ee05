//! What shall run, and what it means for the mesh: objects are expanded into pods, pods live through their stages, and
//! the translator is told.
//!
//! A pod that shall go is *draining* first: its endpoints take no new requests, and it goes on serving until every
//! proxy knows that, or a bound has passed. Only then it leaves the desired state and is stopped. A pod whose template
//! changed goes the same way and comes back with another `uid`, when [`rollout`] says so; pods of jobs wait until
//! [`jobs`] lets them run.

pub(crate) mod jobs;
mod pod;
mod rollout;
pub(crate) mod stored;

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::Resource as AnyObject;
use heddle_ident::WorkloadId;
use heddle_ir::resource::ResourceName;
use heddle_translate::workloads::{
    Allocation, expand, gateways, stand_in, stand_in_name, with_status,
};
use heddle_translate::{Change, Changed, ObjectKey, Options, Translator};

use crate::digest::digest;
use crate::facts::Facts;

pub(crate) use pod::{PodEntry, Stage};

use jobs::{Jobs, Member};
use pod::{content, identity_of, owner_of, uid};
use rollout::{Place, Replica, Strategy};

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
    jobs: Jobs,
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
    pub(crate) fn new(options: Options, allocation: Allocation, jobs: Jobs) -> Self {
        let translator = Translator::new(options);
        let (put, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { translator, allocation, put, pods, tried_pods: BTreeSet::new(), jobs }
    }

    /// Runs of jobs, to be stored.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Jobs that are over and are to be removed by now.
    pub(crate) fn expired_jobs(&self, now_ms: u64) -> Vec<ObjectKey> {
        let is_over = |key: &&ObjectKey| {
            let Some(AnyObject::Job(job)) = self.translator.object(key) else { return false };
            let run = self.jobs.of(&key.name.to_string());
            let expires = run.and_then(|run| run.expires_ms(&job.spec));
            expires.is_some_and(|expires| now_ms >= expires)
        };
        self.job_keys().iter().filter(is_over).cloned().collect()
    }

    /// Jobs that have begun.
    pub(crate) fn job_runs(&self) -> impl Iterator<Item = (ObjectKey, &jobs::Run)> {
        let runs = self.job_keys().into_iter();
        runs.filter_map(|key| Some((key.clone(), self.jobs.of(&key.name.to_string())?)))
    }

    fn job_keys(&self) -> Vec<ObjectKey> {
        let keys = self.put.keys();
        keys.filter(|key| &*key.kind == "Job" && &*key.group == "batch").cloned().collect()
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
        let expansion = expand(with_gateways(objects), self.allocation.clone(), false);
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
        let expansion = expand(with_gateways(objects), self.allocation.clone(), false);
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
                Some(entry)
                    if matches!(entry.stage, Stage::Wanted | Stage::Held)
                        && entry.template == uid(&pod) =>
                {
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
            // Stand-ins are not asked for by anyone; they stay as long as the pod they stand in for is.
            if wanted.contains(entry.stands_in_for.as_ref().unwrap_or(key)) {
                continue;
            }
            entry.next = None;
            if matches!(entry.stage, Stage::Wanted | Stage::Held) {
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
        consequences.pods_changed |= self.follow_jobs(facts, now_ms);
        consequences.pods_changed |= self.roll_out(facts, now_ms);
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
        let ended = !over.is_empty();
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
        if ended {
            // Others may have waited for those that are gone.
            consequences.merge(self.advance(facts, now_ms, false));
        }
        consequences
    }

    /// Begins to replace pods whose template changed. True: other pods shall run.
    fn roll_out(&mut self, facts: &Facts, now_ms: u64) -> bool {
        let mut groups: BTreeMap<&ObjectKey, Vec<&ObjectKey>> = BTreeMap::new();
        for (key, entry) in &self.pods {
            let owner = entry.owner.as_ref().unwrap_or(key);
            if &*owner.kind != "Job" {
                groups.entry(owner).or_default().push(key);
            }
        }
        let mut steps = Vec::new();
        for (owner, keys) in groups {
            let replicas: Vec<Replica> =
                keys.iter().filter_map(|key| self.replica(key, facts)).collect();
            // Most of the time there is nothing to do.
            let is_steady = |replica: &Replica| {
                replica.place == Place::Wanted && !replica.outdated && !replica.stands_in
            };
            if replicas.iter().all(is_steady) {
                continue;
            }
            let asked_for = replicas.iter().filter(|replica| !replica.stands_in).count();
            let object = self.translator.object(owner);
            let strategy = Strategy::of(object.as_ref(), asked_for);
            for step in rollout::steps(strategy, &replicas) {
                let (rollout::Step::Drain(index)
                | rollout::Step::StandIn(index)
                | rollout::Step::Start(index)) = step;
                steps.extend(keys.get(index).map(|key| (step, (*key).clone())));
            }
        }
        let changed = !steps.is_empty();
        for (step, key) in steps {
            match (step, self.pods.get_mut(&key)) {
                (rollout::Step::Drain(_), Some(entry)) => {
                    entry.stage = Stage::Draining { since_ms: now_ms };
                }
                (rollout::Step::Start(_), Some(entry)) => entry.stage = Stage::Wanted,
                (rollout::Step::StandIn(_), _) => self.add_stand_in(&key),
                (_, None) => {}
            }
        }
        changed
    }

    fn replica(&self, key: &ObjectKey, facts: &Facts) -> Option<Replica> {
        let entry = self.pods.get(key)?;
        let own = facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
        let outdated = match &entry.stands_in_for {
            None => entry.next.is_some(),
            Some(key) => self.pods.get(key).is_none_or(|replaced| {
                content(replaced.next.as_ref().unwrap_or(&replaced.pod)) != content(&entry.pod)
            }),
        };
        let place = match entry.stage {
            Stage::Wanted => Place::Wanted,
            Stage::Held => Place::Held,
            Stage::Draining { .. } | Stage::Stopping { .. } => Place::Leaving,
        };
        let ready = own.is_some_and(|facts| facts.ready);
        Some(Replica { place, ready, outdated, stands_in: entry.stands_in_for.is_some() })
    }

    fn add_stand_in(&mut self, replaced: &ObjectKey) {
        let Some(next) = self.pods.get(replaced).and_then(|entry| entry.next.clone()) else {
            return;
        };
        let name = stand_in_name(&replaced.name.name);
        let key = ObjectKey::new("", "Pod", &replaced.name.namespace, &name);
        // The user's own pod may have the name; then the replacement does without.
        if self.pods.contains_key(&key) {
            return;
        }
        let Some(pod) = stand_in(&next, &mut self.allocation) else { return };
        let mut entry = self.new_entry(pod);
        entry.stands_in_for = Some(replaced.clone());
        entry.stage = Stage::Wanted;
        self.pods.insert(key, entry);
    }

    /// Lets pods of jobs run, and takes them away. True: other pods shall run.
    fn follow_jobs(&mut self, facts: &Facts, now_ms: u64) -> bool {
        let mut changed = false;
        let present: BTreeSet<String> =
            self.job_keys().iter().map(|key| key.name.to_string()).collect();
        self.jobs.keep(|name| present.contains(name));
        for key in self.job_keys() {
            let Some(AnyObject::Job(job)) = self.translator.object(&key) else { continue };
            let is_own = |entry: &&mut PodEntry| entry.owner.as_ref() == Some(&key);
            let name = key.name.to_string();
            if job.spec.suspend == Some(true) {
                continue;
            }
            let succeeded =
                self.jobs.of(&name).map(|run| run.succeeded.clone()).unwrap_or_default();
            for entry in self.pods.values_mut().filter(is_own) {
                changed |= entry.settle(facts, &succeeded);
            }
            let members: Vec<Member> = self
                .pods
                .values()
                .filter(|entry| entry.owner.as_ref() == Some(&key))
                .map(|entry| entry.member(facts))
                .collect();
            let identity = identity_of(&job);
            for step in self.jobs.follow(&name, &identity, &job.spec, &members, now_ms) {
                let (jobs::Step::Start(pod) | jobs::Step::Stop(pod)) = &step;
                let pod = ObjectKey::new("", "Pod", &key.name.namespace, pod);
                let Some(entry) = self.pods.get_mut(&pod) else { continue };
                changed = true;
                match step {
                    jobs::Step::Start(_) => entry.stage = Stage::Wanted,
                    jobs::Step::Stop(_) => {
                        entry.stage = Stage::Stopping { since_ms: now_ms };
                        // It stays in the list of pods, and runs when it is let.
                        entry.next = entry.next.take().or_else(|| Some(entry.pod.clone()));
                    }
                }
            }
        }
        changed
    }

    /// When [`Plan::advance`] must be called, since only time has to pass: a drain is over, a job is due.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let ends = self.pods.values().filter_map(|entry| match entry.stage {
            Stage::Draining { since_ms } => Some(since_ms + DRAIN_MAX_MS),
            Stage::Held | Stage::Stopping { .. } | Stage::Wanted => None,
        });
        let jobs = self.job_keys().into_iter().filter_map(|key| {
            let Some(AnyObject::Job(job)) = self.translator.object(&key) else { return None };
            self.jobs.of(&key.name.to_string())?.next_ms(&job.spec, now_ms)
        });
        ends.chain(jobs).min()
    }

    fn new_entry(&self, pod: AnyObject) -> PodEntry {
        let meta = pod.meta();
        let cluster = &self.translator.options().cluster;
        let id = format!("{cluster}/Pod/{}/{}", meta.namespace, meta.name);
        let owner = owner_of(&pod);
        let job = owner.as_ref().filter(|owner| &*owner.kind == "Job");
        let run = job.and_then(|job| self.jobs.of(&job.name.to_string()));
        let attempt = run.map_or(0, |run| run.attempt(&meta.name));
        let template = uid(&pod);
        let recreated = owner.as_ref().is_some_and(|owner| {
            let replicas = self.pods.values().filter(|entry| entry.owner.as_ref() == Some(owner));
            let leaves = |entry: &PodEntry| {
                matches!(entry.stage, Stage::Draining { .. } | Stage::Stopping { .. })
            };
            let object = self.translator.object(owner);
            replicas.into_iter().any(leaves)
                && Strategy::of(object.as_ref(), 1) == Strategy::Recreate
        });
        PodEntry {
            workload: WorkloadId::new(id),
            uid: match attempt {
                0 => template.clone(),
                number => digest([template.as_bytes(), &number.to_be_bytes()]),
            },
            stage: if job.is_some() || recreated { Stage::Held } else { Stage::Wanted },
            done: run.is_some_and(|run| run.succeeded.contains(&meta.name)),
            stands_in_for: None,
            template,
            attempt,
            owner,
            pod,
            next: None,
            status: None,
        }
    }
}

/// The objects, with the workloads that their Gateways need.
fn with_gateways(mut objects: Vec<AnyObject>) -> Vec<AnyObject> {
    let made = gateways(&objects);
    objects.extend(made);
    objects
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
