//! What the control plane says about itself, as JSON.

use std::time::SystemTime;

use heddle_api::kubernetes::Secret;
use heddle_api::{Object, Resource};
use heddle_cert::RotationPhase;
use heddle_diag::{Diagnostic, JsonWriter, Origin, Outcome, OutcomeRecord, Source, findings_json};
use heddle_ident::WorkloadId;
use heddle_proto::resource::{ResourceType, name_text};
use heddle_translate::ObjectKey;
use heddle_translate::workloads::pod_status;
use serde_json::{Value, json};

use super::State;
use crate::certificates::{self, days_left};
use crate::objects::{Objects, Stored};
use crate::plan::jobs::Run;
use crate::plan::{Plan, PodEntry, Stage};
use crate::sessions::Session;
use crate::timestamp::{millis, text};

/// Why something that is waited for is not there yet: one sentence for each proxy or workload.
pub(crate) type Unsettled = Vec<String>;

impl State {
    /// What shall run, and its translation.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The objects that are in force.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Proxies that do not have everything yet. A workload that does not run has no proxy to wait for.
    pub(crate) fn unsettled_proxies(&self) -> Unsettled {
        let mut unsettled = Vec::new();
        for entry in self.plan.pods().filter(|entry| entry.stage == Stage::Wanted) {
            let workload = &entry.workload;
            let runs = self.facts.of(workload).is_some_and(|facts| {
                facts.uid == entry.uid && facts.ready && facts.phase == "Running"
            });
            match self.sessions.of(workload) {
                Some(session) if !session.is_settled() => {
                    unsettled.push(format!("proxy of {workload} has not confirmed yet"));
                }
                None if runs && self.is_meshed(workload) => {
                    unsettled.push(format!("proxy of {workload} is not connected"));
                }
                Some(_) | None => {}
            }
        }
        unsettled
    }

    /// Resources that a proxy refuses.
    pub(crate) fn rejections(&self) -> Vec<String> {
        let mut refused = Vec::new();
        for session in self.sessions.iter() {
            for rejection in session.rejections() {
                refused.push(format!(
                    "proxy of {} refuses {}: {}",
                    session.workload, rejection.name, rejection.reason
                ));
            }
        }
        refused
    }

    /// Pods that are not ready, or not gone, of a namespace (all when empty) and workload (all when empty).
    pub(crate) fn unready_pods(&self, namespace: &str, name: &str) -> Unsettled {
        let mut unready = Vec::new();
        for entry in self.plan.pods().filter(|entry| is_selected(entry, namespace, name)) {
            let own = self.facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
            let (ready, done) =
                own.map_or((false, false), |facts| (facts.ready, facts.phase == "Succeeded"));
            if entry.stage == Stage::Held {
                if !entry.is_of_job() {
                    unready.push(format!("{} waits for those it replaces", entry.workload));
                }
            } else if entry.stands_in() {
                unready.push(format!("{} stands in for a replica", entry.workload));
            } else if entry.is_outdated() {
                unready.push(format!("{} is being replaced", entry.workload));
            } else if entry.stage != Stage::Wanted {
                unready.push(format!("{} is stopping", entry.workload));
            } else if !ready && !done {
                let detail = own.map(|facts| match facts.message.as_str() {
                    "" => facts.phase.clone(),
                    message => format!("{}: {message}", facts.phase),
                });
                let detail = detail.unwrap_or_else(|| "not started".to_owned());
                unready.push(format!("{} is not ready ({detail})", entry.workload));
            }
        }
        for (key, run) in self.plan.job_runs() {
            let named = (namespace.is_empty() || *key.name.namespace == *namespace)
                && (name.is_empty() || *key.name.name == *name);
            if let Some(finish) = run.finished.as_ref().filter(|_| named)
                && !finish.is_complete()
            {
                unready.push(format!("{key} has failed ({})", finish.reason));
            }
        }
        unready
    }

    /// Pods of a namespace (all when empty) and workload (all when empty) that are not gone.
    pub(crate) fn running_pods(&self, namespace: &str, name: &str) -> Unsettled {
        let entries = self.plan.pods().filter(|entry| is_selected(entry, namespace, name));
        entries.map(|entry| format!("{} is not gone", entry.workload)).collect()
    }

    /// The names of objects that match.
    pub(crate) fn selected(&self, wanted: &Selection) -> Vec<ObjectKey> {
        let keys = self.objects.iter().map(|stored| &stored.candidate.key);
        keys.filter(|key| wanted.matches(key)).cloned().collect()
    }

    /// Everything at a glance.
    pub(crate) fn status(&self, now: SystemTime) -> Value {
        let proxies: Vec<Value> = self.sessions.iter().map(describe_session).collect();
        let pods: Vec<Value> = self.plan.pods().map(|entry| self.describe_pod(entry)).collect();
        json!({
            "revision": self.revision,
            "trust_domain": self.authority.domain().to_string(),
            "now": text(millis(now)),
            "objects": self.objects.iter().count(),
            "resources": self.catalog.len(),
            "derived": self.plan.translator().derived_len(),
            "proxies": proxies,
            "workloads": pods,
            "unsettled": self.unsettled_proxies(),
            "rejections": self.rejections(),
        })
    }

    /// Roots, and where a rotation stands.
    pub(crate) fn certificates(&self, now: SystemTime) -> Value {
        let status = self.authority.status(now);
        let roots: Vec<Value> = self
            .authority
            .roots()
            .map(|(root, signs)| {
                json!({
                    "id": root.id.as_str(),
                    "not_before": text(millis(root.validity.not_before)),
                    "not_after": text(millis(root.not_after())),
                    "days_left": days_left(root.not_after(), now),
                    "signs": signs,
                })
            })
            .collect();
        let phase = match &status.phase {
            RotationPhase::Distribute { new, generation } => {
                json!({"stage": "distribute", "new": new.as_str(), "generation": generation})
            }
            RotationPhase::Renew { old } => json!({"stage": "renew", "old": old.as_str()}),
            RotationPhase::Steady => json!({"stage": "steady"}),
        };
        json!({
            "trust_domain": self.authority.domain().to_string(),
            "generation": self.catalog.bundle().map(|bundle| bundle.generation),
            "roots": roots,
            "intermediates": self.describe_intermediates(now),
            "plugged_in": self.authority.is_plugged(),
            "trusted": self.describe_other_roots(now),
            "revoked": self.describe_revoked(),
            "tokens": self.tokens(now),
            "certificates": self.leaves(now),
            "warnings": self.warnings(now),
            "rotation": phase,
            "waiting": status.waiting,
            "waiting_for": status.sample.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ends_by": status.ends_by.map(|at| text(millis(at))),
            "issued": self.authority.issued(),
        })
    }

    /// Objects whose parts match; an empty part matches all.
    pub(crate) fn list(&self, wanted: &Selection) -> Vec<Value> {
        let stored = self.objects.iter().filter(|stored| wanted.matches(&stored.candidate.key));
        let mut items: Vec<Value> = stored.map(|stored| self.describe_object(stored)).collect();
        // Pods that were made are no objects of the user's, but people ask for them.
        let made = self.plan.pods().filter(|entry| {
            let key = ObjectKey::of(&entry.pod);
            wanted.matches(&key) && self.objects.of(&key).is_none()
        });
        items.extend(made.map(|entry| self.describe_made(entry)));
        items
    }

    fn describe_object(&self, stored: &Stored) -> Value {
        let candidate = &stored.candidate;
        let mut findings = candidate.findings.clone();
        let mut outcomes = candidate.outcomes.clone();
        findings.extend(certificates::of_object(
            &candidate.object,
            |name| self.secrets_of_name(name),
            SystemTime::now(),
        ));
        for object in candidate.objects() {
            let report = self.plan.translator().report(&ObjectKey::of(&object));
            findings.extend(report.findings.iter().cloned());
            outcomes.extend(report.outcomes.iter().cloned());
        }
        let key = &candidate.key;
        let mut content: Value =
            serde_json::from_str(&candidate.object.written().to_json()).unwrap_or_default();
        // As a cluster would give it back: with what the store knows, and what became of it.
        content["metadata"]["uid"] = stored.record.uid.clone().into();
        content["metadata"]["generation"] = stored.record.generation.into();
        content["metadata"]["creationTimestamp"] = text(stored.record.created_at_ms).into();
        content["status"] = status_of(&findings, &outcomes);
        self.add_conditions(stored, &mut content["status"]);
        if let Some((_, run)) = self.plan.job_runs().find(|(job, _)| job == key) {
            describe_run(run, &mut content["status"]);
        }
        let differing: Vec<_> =
            outcomes.iter().filter(|o| o.outcome != Outcome::Applied).cloned().collect();
        let different = describe_findings(&findings, &differing);
        json!({
            "group": &*key.group,
            "kind": &*key.kind,
            "namespace": &*key.name.namespace,
            "name": &*key.name.name,
            "findings": different["findings"],
            "outcomes": different["outcomes"],
            "uid": stored.record.uid,
            "generation": stored.record.generation,
            "revision": stored.record.revision,
            "created_at": text(stored.record.created_at_ms),
            "file": stored.source.path,
            "object": content,
            "yaml": stored.text(),
            "status": describe_findings(&findings, &outcomes),
        })
    }

    /// The Secrets of a name, in any namespace.
    fn secrets_of_name(&self, name: &str) -> Vec<&Object<Secret>> {
        let all = self.objects.iter().filter_map(|stored| match &stored.candidate.object {
            Resource::Secret(secret) => Some(&**secret),
            _ => None,
        });
        all.filter(|secret| secret.meta.name == name).collect()
    }

    /// What the object's own project would write into its status, or for one that has no conditions of its own whether
    /// it is accepted and in force. Nothing keeps the times of transitions: they are that of the object.
    fn add_conditions(&self, stored: &Stored, status: &mut Value) {
        let key = &stored.candidate.key;
        let Some(own) = self.plan.translator().status(key) else { return };
        let since = text(stored.record.created_at_ms);
        let generation = stored.record.generation;
        if let Some(own) = &own.gateway_api {
            let mut json = JsonWriter::new();
            own.write_json(i64::try_from(generation).unwrap_or(i64::MAX), &since, &mut json);
            let own: Value = serde_json::from_str(&json.finish()).unwrap_or_default();
            for (field, value) in own.as_object().into_iter().flatten() {
                status[field] = value.clone();
            }
        } else if is_mesh_group(&key.group) {
            let conditions = own.conditions.iter().map(|condition| {
                json!({
                    "lastTransitionTime": since,
                    "message": condition.message,
                    "observedGeneration": generation,
                    "reason": condition.reason,
                    "status": if condition.holds { "True" } else { "False" },
                    "type": condition.kind,
                })
            });
            status["conditions"] = conditions.collect();
        }
    }

    fn describe_made(&self, entry: &PodEntry) -> Value {
        let key = ObjectKey::of(&entry.pod);
        let mut content: Value =
            serde_json::from_str(&entry.pod.written().to_json()).unwrap_or_default();
        content["metadata"]["uid"] = entry.uid.clone().into();
        content["status"] = entry.live_status_json(&self.facts);
        json!({
            "group": &*key.group,
            "kind": &*key.kind,
            "namespace": &*key.name.namespace,
            "name": &*key.name.name,
            "uid": entry.uid,
            "made": true,
            "object": content,
            "findings": [],
            "outcomes": [],
            "status": self.describe_pod(entry),
        })
    }

    fn describe_pod(&self, entry: &PodEntry) -> Value {
        let own = self.facts.of(&entry.workload).filter(|facts| facts.uid == entry.uid);
        let meta = entry.pod.meta();
        let owner = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
        json!({
            "id": entry.workload.as_str(),
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": entry.uid,
            "owner": owner.map(|owner| format!("{}/{}", owner.kind, owner.name)),
            "addresses": pod_status(&entry.pod).addresses,
            "meshed": self.is_meshed(&entry.workload),
            "stage": match entry.stage {
                Stage::Draining { .. } => "draining",
                Stage::Held => "held",
                Stage::Stopping { .. } => "stopping",
                Stage::Wanted => "wanted",
            },
            "phase": own.map_or("Pending", |facts| facts.phase.as_str()),
            "ready": own.is_some_and(|facts| facts.ready),
            "restarts": own.map_or(0, |facts| facts.restarts),
            "exit_code": own.and_then(|facts| facts.exit_code),
            "message": own.map(|facts| facts.message.as_str()).unwrap_or_default(),
            "started_at": own.map(|facts| text(facts.started_at_ms)),
            "published_ports": own.map(|facts| &facts.published_ports),
            "connected": self.sessions.of(&entry.workload).is_some(),
        })
    }

    fn is_meshed(&self, workload: &WorkloadId) -> bool {
        let desired = self.desired.borrow();
        desired.workloads.iter().any(|own| own.meshed && own.id == workload.as_str())
    }
}

/// Which objects are meant; an empty part means all.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(crate) struct Selection {
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) name: String,
}

impl Selection {
    fn matches(&self, key: &ObjectKey) -> bool {
        let is = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
        self.group.as_ref().is_none_or(|group| *group == *key.group)
            && is(&self.kind, &key.kind)
            && is(&self.namespace, &key.name.namespace)
            && is(&self.name, &key.name.name)
    }
}

/// `{"findings": […], "outcomes": […]}`, as `analyze` prints them.
pub(crate) fn describe_findings(findings: &[Diagnostic], outcomes: &[OutcomeRecord]) -> Value {
    serde_json::from_str(&findings_json(findings, outcomes)).unwrap_or_default()
}

/// Whether objects of a group are a mesh's, so that being accepted means something for them.
fn is_mesh_group(group: &str) -> bool {
    group.contains('.') && !group.ends_with("k8s.io")
}

/// `status` of an object: what there is to say about it, and what became of each of its fields.
fn status_of(findings: &[Diagnostic], outcomes: &[OutcomeRecord]) -> Value {
    let place = |origin: &Origin| match &origin.source {
        Source::File { path, position } => {
            format!("{path}:{}:{}", position.line, position.column)
        }
        Source::BuiltIn | Source::Cluster { .. } => String::new(),
    };
    let findings = findings.iter().map(|finding| {
        json!({
            "code": finding.code.id,
            "level": finding.level.as_str(),
            "field": &*finding.origin.field,
            "message": finding.message,
            "at": place(&finding.origin),
        })
    });
    let outcomes = outcomes.iter().map(|record| {
        let mut outcome = json!({
            "field": &*record.origin.field,
            "outcome": record.outcome.as_str(),
        });
        if !record.detail.is_empty() {
            outcome["detail"] = record.detail.clone().into();
        }
        outcome
    });
    json!({
        "findings": findings.collect::<Vec<_>>(),
        "outcomes": outcomes.collect::<Vec<_>>(),
    })
}

/// What became of a job, in the words of Kubernetes.
fn describe_run(run: &Run, status: &mut Value) {
    status["startTime"] = text(run.started_at_ms).into();
    status["succeeded"] = run.succeeded.len().into();
    status["failed"] = run.failed.into();
    if let Some(finish) = &run.finished {
        let kind = if finish.is_complete() { "Complete" } else { "Failed" };
        status["conditions"] = json!([{"type": kind, "status": "True", "reason": finish.reason}]);
        status["completionTime"] = text(finish.at_ms).into();
    }
}

fn describe_session(session: &Session) -> Value {
    let resources: Vec<Value> = session
        .accepted()
        .map(|(name, version)| {
            json!({
                "type": ResourceType::of(name).short_name(),
                "name": name_text(name),
                "version": version,
            })
        })
        .collect();
    let rejections = session.rejections().map(|rejection| {
        json!({"name": rejection.name.to_string(), "version": rejection.version, "reason": rejection.reason})
    });
    json!({
        "workload": session.workload.as_str(),
        "connected_at": text(millis(session.connected_at)),
        "settled": session.is_settled(),
        "resources": resources,
        "rejections": rejections.collect::<Vec<_>>(),
    })
}

/// Whether a pod is of a namespace and workload; the workload's own name and the pod's both count.
fn is_selected(entry: &PodEntry, namespace: &str, name: &str) -> bool {
    let meta = entry.pod.meta();
    let mut owners = meta.owner_references.iter();
    (namespace.is_empty() || meta.namespace == namespace)
        && (name.is_empty() || meta.name == name || owners.any(|owner| owner.name == name))
}
