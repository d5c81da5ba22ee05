//! Pods as text: what a controller would create, and what a kubelet would say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use heddle_api::kubernetes::{Job, PodTemplate};
use heddle_api::{At, Meta, Reader, Resource as AnyObject, Written};
use heddle_diag::JsonWriter;
use heddle_ident::ObjectName;

use super::SUBDOMAIN;
use crate::pod;

/// Where a Pod is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PodPhase {
    /// It ended with an error and is not started again.
    Failed,
    /// Not all of its containers run yet.
    Pending,
    /// It runs.
    #[default]
    Running,
    /// It ended well and is not started again.
    Succeeded,
}

impl PodPhase {
    /// The name as it stands in `status.phase`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "Failed",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
        }
    }
}

/// What the supervisor of a standalone mesh knows of a Pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodStatus {
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Whether it takes requests.
    pub ready: bool,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When it was told to stop (RFC 3339); none while it is to run. From then on it gets no new requests.
    pub deletion_timestamp: Option<String>,
}

/// A Pod before it is written down.
pub(super) struct Draft {
    pub(super) name: ObjectName,
    pub(super) status: PodStatus,
    metadata: String,
    spec: String,
}

impl Draft {
    /// The Pod. None only where the text of its template cannot be read, which reading the template has reported.
    pub(super) fn into_pod(self) -> Option<AnyObject> {
        read(&self.metadata, &self.spec, &self.status)
    }
}

/// The status of a Pod, as it is written.
pub fn pod_status(pod: &AnyObject) -> PodStatus {
    let written = pod.written();
    PodStatus {
        addresses: pod::addresses(written),
        ready: pod::is_ready(written),
        phase: pod::phase(written),
        deletion_timestamp: pod.meta().deletion_timestamp.clone(),
    }
}

/// The same Pod with another status; none for an object that is no Pod.
pub fn with_status(pod: &AnyObject, status: &PodStatus) -> Option<AnyObject> {
    let AnyObject::Pod(object) = pod else { return None };
    let written = &object.written;
    let mut meta = object.meta.clone();
    meta.deletion_timestamp.clone_from(&status.deletion_timestamp);
    read(&metadata(&meta), &body(written, object.spec.at), status)
}

/// The name of the Pod that stands in for one of this name while it is replaced.
pub fn stand_in_name(name: &str) -> String {
    format!("{name}{STAND_IN}")
}

/// The name of the Pod that one of this name stands in for; none for one that stands in for nobody.
pub(super) fn stood_in_for(name: &str) -> Option<&str> {
    name.strip_suffix(STAND_IN)
}

/// The same Pod with another name and addresses; none for an object that is no Pod.
pub(super) fn renamed(pod: &AnyObject, name: &str, addresses: Vec<IpAddr>) -> Option<AnyObject> {
    let AnyObject::Pod(object) = pod else { return None };
    let mut meta = object.meta.clone();
    name.clone_into(&mut meta.name);
    let status = PodStatus { addresses, ..pod_status(pod) };
    read(&metadata(&meta), &body(&object.written, object.spec.at), &status)
}

fn body(written: &Written, spec: At) -> String {
    written.tree().to_json(spec)
}

fn read(metadata: &str, spec: &str, status: &PodStatus) -> Option<AnyObject> {
    let status = status_json(status);
    let json = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{metadata},"spec":{spec},"status":{status}}}"#
    );
    let loaded = Reader::default().read_cluster("", json.as_bytes());
    loaded.resources.into_iter().find(|object| matches!(object, AnyObject::Pod(_)))
}

fn metadata(meta: &Meta) -> String {
    let mut json = JsonWriter::new();
    json.open_object();
    json.field("name", &meta.name);
    json.field("namespace", &meta.namespace);
    for (key, texts) in [("labels", &meta.labels), ("annotations", &meta.annotations)] {
        if !texts.is_empty() {
            json.key(key);
            json.open_object();
            for (key, text) in texts {
                json.field(key, text);
            }
            json.close_object();
        }
    }
    let optional = [
        ("uid", &meta.uid),
        ("creationTimestamp", &meta.creation_timestamp),
        ("deletionTimestamp", &meta.deletion_timestamp),
    ];
    for (key, text) in optional {
        if let Some(text) = text {
            json.field(key, text);
        }
    }
    if !meta.owner_references.is_empty() {
        json.key("ownerReferences");
        json.open_list();
        for owner in &meta.owner_references {
            json.open_object();
            json.field("apiVersion", &owner.api_version);
            json.field("kind", &owner.kind);
            json.field("name", &owner.name);
            json.key("controller");
            json.raw(if owner.controller == Some(true) { "true" } else { "false" });
            json.close_object();
        }
        json.close_list();
    }
    json.close_object();
    json.finish()
}

fn status_json(status: &PodStatus) -> String {
    let mut json = JsonWriter::new();
    json.open_object();
    json.field("phase", status.phase.as_str());
    if let Some(primary) = status.addresses.first() {
        json.field("podIP", &primary.to_string());
        json.key("podIPs");
        json.open_list();
        for address in &status.addresses {
            json.open_object();
            json.field("ip", &address.to_string());
            json.close_object();
        }
        json.close_list();
    }
    json.key("conditions");
    json.open_list();
    json.open_object();
    json.field("type", "Ready");
    json.field("status", if status.ready { "True" } else { "False" });
    json.close_object();
    json.close_list();
    json.close_object();
    json.finish()
}

/// What makes Pods.
struct Workload<'a> {
    api_version: &'a str,
    kind: &'a str,
    meta: &'a Meta,
    written: &'a Written,
    template: &'a PodTemplate,
    replicas: u32,
    /// The Service below whose name its Pods have names.
    service: Option<&'a str>,
    /// Whether its Pods are told their numbers.
    indexed: bool,
}

/// More replicas than this of one workload are not made on one machine.
pub(super) const REPLICAS_MAX: u32 = 1000;
/// A Pod with this behind its name stands in for one that is being replaced.
const STAND_IN: &str = "-next";
/// The number of a Pod of an indexed Job.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Takes the Pods out of the objects and adds those of the workloads, in the order of names. Pods that say nothing of
/// their status get one.
pub(super) fn make(objects: Vec<AnyObject>, ready: bool) -> (Vec<AnyObject>, Vec<Draft>) {
    let mut drafts: BTreeMap<ObjectName, Draft> = BTreeMap::new();
    let (pods, others): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| matches!(object, AnyObject::Pod(_)));
    for pod in &pods {
        let AnyObject::Pod(object) = pod else { continue };
        let name = ObjectName::new(object.meta.namespace.as_str(), object.meta.name.as_str());
        let mut status = pod_status(pod);
        if object.written.field(object.written.root(), "status").is_none() {
            status.ready = ready;
        }
        let spec = body(&object.written, object.spec.at);
        let metadata = metadata(&object.meta);
        drafts.insert(name.clone(), Draft { name, status, metadata, spec });
    }
    let mut workloads: Vec<Workload<'_>> = others.iter().filter_map(workload).collect();
    workloads.sort_by(|left, right| {
        let key = |workload: &Workload<'_>| {
            (workload.meta.namespace.clone(), workload.meta.name.clone(), workload.kind.to_owned())
        };
        key(left).cmp(&key(right))
    });
    for workload in workloads {
        let names: BTreeSet<&ObjectName> = drafts.keys().collect();
        let prefix = prefix(&workload, &names);
        for number in 0..workload.replicas.min(REPLICAS_MAX) {
            let draft = replica(&workload, &prefix, number, ready);
            drafts.insert(draft.name.clone(), draft);
        }
    }
    (others, drafts.into_values().collect())
}

/// What the names of replicas begin with: the name of the workload, and its kind too where another workload of that
/// name has the name already.
fn prefix(workload: &Workload<'_>, taken: &BTreeSet<&ObjectName>) -> String {
    let name = &workload.meta.name;
    let first = ObjectName::new(workload.meta.namespace.as_str(), format!("{name}-0"));
    if taken.contains(&first) {
        return format!("{name}-{}", workload.kind.to_ascii_lowercase());
    }
    name.clone()
}

fn replica(workload: &Workload<'_>, prefix: &str, number: u32, ready: bool) -> Draft {
    let name = format!("{prefix}-{number}");
    let template = workload.template;
    let mut meta = Meta {
        name: name.clone(),
        namespace: workload.meta.namespace.clone(),
        labels: template.metadata.labels.clone(),
        annotations: template.metadata.annotations.clone(),
        creation_timestamp: workload.meta.creation_timestamp.clone(),
        owner_references: vec![heddle_api::OwnerReference {
            api_version: workload.api_version.to_owned(),
            kind: workload.kind.to_owned(),
            name: workload.meta.name.clone(),
            controller: Some(true),
            ..heddle_api::OwnerReference::default()
        }],
        ..Meta::default()
    };
    if let Some(service) = workload.service {
        meta.annotations.insert(SUBDOMAIN.to_owned(), service.to_owned());
    }
    if workload.kind == "StatefulSet" {
        let labels = &mut meta.labels;
        labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
        labels.insert("apps.kubernetes.io/pod-index".to_owned(), number.to_string());
    }
    if workload.kind == "Job" {
        for label in ["batch.kubernetes.io/job-name", "job-name"] {
            meta.labels.insert(label.to_owned(), workload.meta.name.clone());
        }
    }
    if workload.indexed {
        meta.labels.insert(COMPLETION_INDEX.to_owned(), number.to_string());
        meta.annotations.insert(COMPLETION_INDEX.to_owned(), number.to_string());
    }
    Draft {
        name: ObjectName::new(workload.meta.namespace.as_str(), name),
        status: PodStatus { ready, ..PodStatus::default() },
        metadata: metadata(&meta),
        spec: body(workload.written, template.spec.at),
    }
}

fn workload(object: &AnyObject) -> Option<Workload<'_>> {
    let (kind, template, replicas) = match object {
        AnyObject::Deployment(object) => {
            ("Deployment", &object.spec.template, object.spec.replicas.unwrap_or(1))
        }
        AnyObject::StatefulSet(object) => {
            ("StatefulSet", &object.spec.template, object.spec.replicas.unwrap_or(1))
        }
        AnyObject::ReplicaSet(object) => {
            ("ReplicaSet", object.spec.template.as_ref()?, object.spec.replicas.unwrap_or(1))
        }
        // One node, so one Pod.
        AnyObject::DaemonSet(object) => ("DaemonSet", &object.spec.template, 1),
        AnyObject::Job(object) => ("Job", &object.spec.template, job_pods(&object.spec)),
        _ => return None,
    };
    let indexed = matches!(object, AnyObject::Job(job) if is_indexed(&job.spec));
    let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    let (meta, written) = (object.meta(), object.written());
    // A ReplicaSet of a Deployment makes no Pods besides the Deployment's.
    let owned = meta.owner_references.iter().any(|owner| owner.kind == "Deployment");
    let service = match object {
        AnyObject::StatefulSet(set) => set.spec.service_name.as_deref(),
        _ => None,
    };
    let workload =
        Workload { api_version, kind, meta, written, template, replicas, service, indexed };
    (!owned).then_some(workload)
}

/// One Pod for each success that a Job needs; which of them run at a time is whoever's runs them.
fn job_pods(job: &Job) -> u32 {
    if job.suspend == Some(true) {
        return 0;
    }
    // Without `completions` its Pods share the work, and it is done when they are.
    job.completions.unwrap_or_else(|| job.parallelism.unwrap_or(1).max(1))
}

fn is_indexed(job: &Job) -> bool {
    job.completion_mode.as_deref() == Some("Indexed")
}
