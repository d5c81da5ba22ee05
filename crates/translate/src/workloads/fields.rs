//! What becomes of the fields of workloads in a standalone mesh, where heddle is the kubelet and the controllers too.
//!
//! A cluster's own kubelet enforces them there, so the translator says nothing about them: whoever runs workloads, or
//! says offline what would become of them, asks here.

use heddle_api::kubernetes::{
    Container, CronJob, Deployment, Job, PodSpec, PodTemplate, Protocol, Service, StatefulSet,
    Volume,
};

use heddle_api::{At, Decode, LabelSelector, Resource as AnyObject, Written};
use heddle_diag::{Diagnostic, Outcome};

use crate::codes;
use crate::linkerd;
use crate::linkerd::annotations::Annotated;
use crate::outcomes::Becomes::{self, Applied, Ignored, Unsupported};
use crate::outcomes::{Table, fill};
use crate::report::Report;
use crate::workloads::replicas::REPLICAS_MAX;

const ONE_NODE: &str = "there is one node, this machine";
const NO_IMAGES: &str =
    "images are not run; the command is a program of this machine, as `command` says";
const NO_TOKEN: &str = "no token is mounted; the proxy proves the identity";
const OWN_NUMBERS: &str = "the process sees itself so; on this machine it is whoever started the mesh, as without root there is one user";
const OWN_VIEW: &str = "each container has its own view of processes and devices";

/// `spec` of a pod. What depends on values is told by [`pod_values`].
const POD: Table = &[
    ("containers", Applied),
    ("containers[].image", Ignored(NO_IMAGES)),
    ("containers[].resources.requests", Ignored(ONE_NODE)),
    ("initContainers", Applied),
    ("initContainers[].image", Ignored(NO_IMAGES)),
    ("initContainers[].resources.requests", Ignored(ONE_NODE)),
    ("volumes", Applied),
    ("serviceAccountName", Applied),
    ("serviceAccount", Applied),
    ("automountServiceAccountToken", Ignored(NO_TOKEN)),
    ("hostNetwork", Applied),
    ("hostPID", Applied),
    ("hostIPC", Applied),
    ("securityContext", Applied),
    ("restartPolicy", Applied),
    ("terminationGracePeriodSeconds", Applied),
    ("nodeName", Ignored(ONE_NODE)),
    ("hostname", Applied),
    ("subdomain", Applied),
    ("dnsPolicy", Applied),
    ("dnsConfig", Unsupported("names are resolved by the mesh, with its own search list")),
    ("hostAliases", Applied),
    ("shareProcessNamespace", Applied),
    (
        "readinessGates",
        Unsupported("nobody sets such conditions here; readiness is what the probes say"),
    ),
    ("imagePullSecrets", Ignored(NO_IMAGES)),
    ("activeDeadlineSeconds", Unsupported("a pod is not ended by its age")),
];

const DEPLOYMENT: Table = &[
    ("replicas", Applied),
    ("selector", Applied),
    ("strategy", Applied),
    ("minReadySeconds", Unsupported("a replica counts as soon as it is ready")),
    ("paused", Applied),
    ("template", Applied),
    ("template.metadata.name", Ignored("the workload gives the names")),
    ("template.metadata.namespace", Ignored("pods live in the namespace of their workload")),
    ("template.metadata.creationTimestamp", Ignored("set by tools that export objects")),
    ("template.metadata.finalizers", Ignored("nobody is asked before a replica goes")),
    ("updateStrategy", Applied),
    ("serviceName", Applied),
    ("podManagementPolicy", Applied),
    ("ordinals", Unsupported("replicas are numbered from 0")),
    (
        "volumeClaimTemplates",
        Unsupported("there are no claims on storage; use `hostPath` or `emptyDir`"),
    ),
];

const JOB: Table = &[
    ("template", Applied),
    ("template.metadata.name", Ignored("the workload gives the names")),
    ("template.metadata.namespace", Ignored("pods live in the namespace of their workload")),
    ("template.metadata.creationTimestamp", Ignored("set by tools that export objects")),
    ("template.metadata.finalizers", Ignored("nobody is asked before a replica goes")),
    ("parallelism", Applied),
    ("completions", Applied),
    ("backoffLimit", Applied),
    ("activeDeadlineSeconds", Applied),
    ("ttlSecondsAfterFinished", Applied),
    ("suspend", Applied),
    ("selector", Ignored("pods of a job are known by their owner")),
    ("manualSelector", Ignored("pods of a job are known by their owner")),
    ("completionMode", Applied),
];

const CRON_JOB: Table =
    &[("", Unsupported("nothing is started by the clock; write a Job to run it once"))];

/// What becomes of the fields of a workload where heddle runs it; empty for objects that are no workloads.
pub fn report(object: &AnyObject) -> Report {
    let mut report = Report::default();
    match object {
        AnyObject::Pod(pod) => {
            pod_spec(object, &pod.spec, &mut report);
            // The Pod that is made of it has no places in a text.
            linkerd::settings::report(Annotated::of(&**pod), &mut report);
        }
        AnyObject::Deployment(deployment) => {
            let Deployment { selector, template, .. } = &deployment.spec;
            template_of(object, selector, template, &mut report);
            let at = deployment.spec.at;
            replicas(object, at, "replicas", deployment.spec.replicas, &mut report);
            if deployment.spec.paused == Some(true) {
                warn(object, at, "paused", "a changed template is rolled out at once", &mut report);
            }
            fill(object, &<Deployment as Decode>::SCHEMA, DEPLOYMENT, &mut report);
        }
        AnyObject::StatefulSet(set) => {
            let StatefulSet { selector, template, .. } = &set.spec;
            template_of(object, selector, template, &mut report);
            if set.spec.pod_management_policy.as_deref() == Some("OrderedReady") {
                let why = "all replicas start together";
                warn(object, set.spec.at, "podManagementPolicy", why, &mut report);
            }
            replicas(object, set.spec.at, "replicas", set.spec.replicas, &mut report);
            update_strategy(object, set.spec.at, &mut report);
            fill(object, &<StatefulSet as Decode>::SCHEMA, DEPLOYMENT, &mut report);
        }
        AnyObject::ReplicaSet(set) => {
            if let Some(template) = &set.spec.template {
                template_of(object, &set.spec.selector, template, &mut report);
            }
            fill(
                object,
                &<heddle_api::kubernetes::ReplicaSet as Decode>::SCHEMA,
                DEPLOYMENT,
                &mut report,
            );
        }
        AnyObject::DaemonSet(set) => {
            template_of(object, &set.spec.selector, &set.spec.template, &mut report);
            update_strategy(object, set.spec.at, &mut report);
            fill(
                object,
                &<heddle_api::kubernetes::DaemonSet as Decode>::SCHEMA,
                DEPLOYMENT,
                &mut report,
            );
        }
        AnyObject::Job(job) => {
            pod_spec(object, &job.spec.template.spec, &mut report);
            job_values(object, &job.spec, &mut report);
            fill(object, &<Job as Decode>::SCHEMA, JOB, &mut report);
        }
        AnyObject::Service(service) => service_values(object, &service.spec, &mut report),
        AnyObject::CronJob(_) => {
            let why = "nothing is started by the clock; write a Job to run it once";
            let origin = object.origin().clone();
            report.push(Diagnostic::warning(codes::UNSUPPORTED, origin, why));
            // One finding for the object; every field has its outcome.
            let mut fields = Report::default();
            fill(object, &<CronJob as Decode>::SCHEMA, CRON_JOB, &mut fields);
            report.outcomes.append(&mut fields.outcomes);
        }
        _ => {}
    }
    report
}

/// What a Service asks of the machine: ports of the host are opened, other addresses are not.
fn service_values(object: &AnyObject, service: &Service, report: &mut Report) {
    let at = service.at;
    if !service.external_ips.is_empty() {
        let why = "addresses of the host are not taken; `type: LoadBalancer` opens the ports of 127.0.0.1";
        warn(object, at, "externalIPs", why, report);
    }
    for port in &service.ports {
        if port.protocol == Some(Protocol::Sctp) {
            warn(object, port.at, "protocol", "SCTP is not carried", report);
        }
    }
}

/// A template that its workload's selector does not select is refused by every cluster.
fn template_of(
    object: &AnyObject,
    selector: &LabelSelector,
    template: &PodTemplate,
    report: &mut Report,
) {
    if !selector.matches(&template.metadata.labels) {
        let origin = object.written().origin_at(selector.at);
        report.rejected(origin, "the selector does not select the labels of the template");
    }
    pod_spec(object, &template.spec, report);
}

fn update_strategy(object: &AnyObject, at: At, report: &mut Report) {
    let written = object.written();
    let Some(strategy) = written.field(at, "updateStrategy") else { return };
    let tree = written.tree();
    if tree.field(strategy, "type").is_some_and(|kind| &**tree.text(kind) == "OnDelete") {
        let why = "a changed template is rolled out at once";
        warn(object, strategy, "type", why, report);
    }
    if let Some(rolling) = tree.field(strategy, "rollingUpdate")
        && let Some(partition) = tree.field(rolling, "partition")
        && &**tree.text(partition) != "0"
    {
        warn(
            object,
            rolling,
            "partition",
            "a changed template is rolled out to all replicas",
            report,
        );
    }
}

fn replicas(object: &AnyObject, at: At, field: &str, number: Option<u32>, report: &mut Report) {
    if number.is_some_and(|number| number > REPLICAS_MAX) {
        let why = format!("at most {REPLICAS_MAX} replicas run on one machine");
        warn(object, at, field, &why, report);
    }
}

fn job_values(object: &AnyObject, job: &Job, report: &mut Report) {
    replicas(object, job.at, "completions", job.completions, report);
    replicas(object, job.at, "parallelism", job.parallelism, report);
    let restarts = job.template.spec.restart_policy;
    if !matches!(
        restarts,
        Some(
            heddle_api::kubernetes::RestartPolicy::Never
                | heddle_api::kubernetes::RestartPolicy::OnFailure
        )
    ) {
        let origin = object.written().origin_of(job.template.spec.at, "restartPolicy");
        report.rejected(origin, "the pods of a Job need `restartPolicy: Never` or `OnFailure`");
    }
}

/// Everything below `spec` of a pod or of a template.
fn pod_spec(object: &AnyObject, spec: &PodSpec, report: &mut Report) {
    pod_values(object, spec, report);
    for container in spec.init_containers.iter().chain(&spec.containers) {
        container_values(object, container, report);
    }
    for volume in &spec.volumes {
        volume_values(object, volume, report);
    }
    crate::outcomes::fill_below(object, spec.at, &<PodSpec as Decode>::SCHEMA, POD, report);
}

fn pod_values(object: &AnyObject, spec: &PodSpec, report: &mut Report) {
    let at = spec.at;
    if spec.host_network == Some(true) {
        let why =
            "every workload has a network of its own; publish ports with `hostPort` or a Service";
        warn(object, at, "hostNetwork", why, report);
    }
    if spec.share_process_namespace == Some(true) {
        warn(object, at, "shareProcessNamespace", OWN_VIEW, report);
    }
    if spec.dns_policy.as_deref().is_some_and(|policy| !policy.starts_with("ClusterFirst")) {
        let why = "names are resolved by the mesh, which asks the host for those of the outside";
        warn(object, at, "dnsPolicy", why, report);
    }
    let written = object.written();
    if let Some(context) = written.field(at, "securityContext") {
        security_context(object, context, report);
    }
    for (field, set, what) in
        [("hostPID", spec.host_pid, "processes"), ("hostIPC", spec.host_ipc, "shared memory")]
    {
        if set == Some(true) {
            let why = format!("a workload does not see the {what} of the host");
            warn(object, at, field, &why, report);
        }
    }
}

/// A user namespace without root maps one user only: the one who started the mesh.
fn security_context(object: &AnyObject, context: At, report: &mut Report) {
    let written = object.written();
    let tree = written.tree();
    for child in tree.children(context) {
        let Some(key) = tree.key(child) else { continue };
        let value = &**tree.text(child);
        let why = match &**key {
            "runAsUser" | "runAsGroup" => {
                report.translated(written.origin_at(child), OWN_NUMBERS);
                continue;
            }
            "fsGroup"
            | "supplementalGroups"
            | "runAsNonRoot"
            | "fsGroupChangePolicy"
            | "supplementalGroupsPolicy" => {
                "without root there is one user: processes run as whoever started the mesh"
            }
            "privileged" | "allowPrivilegeEscalation" if value == "false" => {
                applied(written, child, report);
                continue;
            }
            "privileged" | "allowPrivilegeEscalation" | "capabilities" => {
                "processes have no capabilities and get no new privileges"
            }
            "readOnlyRootFilesystem" => "the host's files are seen as the user may use them",
            "sysctls" => "settings of the kernel are not changed",
            _ => "this setting is not put in force",
        };
        note(object, child, why, report);
    }
}

fn container_values(object: &AnyObject, container: &Container, report: &mut Report) {
    let (written, at) = (object.written(), container.at);
    if crate::workload::is_proxy(container) {
        report.outcome(
            written.origin_of(at, "image"),
            Outcome::Ignored,
            "the mesh brings the proxy",
        );
    } else if container.command.is_empty() {
        let why =
            "images are not run: the container needs a `command` with a program of this machine";
        let origin = written.origin_of(at, "image");
        report.info(codes::UNSUPPORTED, origin.clone(), why);
        report.outcome(origin, Outcome::Unsupported, why);
    }
    if let Some(limits) = written.field(at, "resources").and_then(|r| written.field(r, "limits")) {
        let why = "limits are not enforced: without root there are no control groups";
        note(object, limits, why, report);
    }
    if let Some(context) = written.field(at, "securityContext") {
        security_context(object, context, report);
    }
    for (field, set) in [("tty", container.tty), ("stdin", container.stdin)] {
        if set == Some(true) {
            warn(object, at, field, "processes have no terminal and no input", report);
        }
    }
    for port in &container.ports {
        if port.protocol == Some(Protocol::Sctp) {
            warn(object, port.at, "protocol", "SCTP is not carried", report);
        }
    }
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let Some(probe) = probe else { continue };
        if probe.termination_grace_period_seconds.is_some() {
            let why = "the grace period of the pod counts";
            warn(object, probe.at, "terminationGracePeriodSeconds", why, report);
        }
    }
    if let Some(lifecycle) = &container.lifecycle
        && lifecycle.stop_signal.as_deref().is_some_and(|signal| signal != "SIGTERM")
    {
        warn(object, lifecycle.at, "stopSignal", "processes are stopped with SIGTERM", report);
    }
    for mount in &container.volume_mounts {
        let how = mount.mount_propagation.as_deref();
        if how.is_some_and(|how| how != "None") {
            warn(object, mount.at, "mountPropagation", "mounts are not passed on", report);
        }
    }
    environment_values(object, container, report);
}

fn environment_values(object: &AnyObject, container: &Container, report: &mut Report) {
    for from in container.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
        for (field, set) in [
            ("resourceFieldRef", from.resource_field_ref.is_some()),
            ("fileKeyRef", from.file_key_ref.is_some()),
        ] {
            if set {
                warn(object, from.at, field, "the variable is not set", report);
            }
        }
        if let Some(field) = &from.field_ref
            && !is_known_field(&field.field_path)
        {
            let why = "the variable is not set: this field of the pod is not known here";
            warn(object, field.at, "fieldPath", why, report);
        }
    }
}

/// The fields of a pod that variables and files can hold (the downward API).
pub fn is_known_field(path: &str) -> bool {
    matches!(
        path,
        "metadata.name"
            | "metadata.namespace"
            | "metadata.uid"
            | "spec.serviceAccountName"
            | "spec.nodeName"
            | "status.podIP"
            | "status.podIPs"
            | "status.hostIP"
            | "status.hostIPs"
    ) || (path.starts_with("metadata.labels['") || path.starts_with("metadata.annotations['"))
        && path.ends_with("']")
}

fn volume_values(object: &AnyObject, volume: &Volume, report: &mut Report) {
    let at = volume.at;
    for (field, set, why) in [
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
            "there are no claims on storage: the volume is not mounted; use `hostPath` or `emptyDir`",
        ),
        ("downwardAPI", volume.downward_api.is_some(), "the volume is not mounted; use variables"),
    ] {
        if set {
            warn(object, at, field, why, report);
        }
    }
    if let Some(empty) = &volume.empty_dir {
        let on_disk = "the directory is on the disk of this machine";
        if empty.medium.as_deref().is_some_and(|medium| !medium.is_empty()) {
            warn(object, empty.at, "medium", on_disk, report);
        }
        if empty.size_limit.is_some() {
            let why = "the size is bounded by the disk of this machine only";
            warn(object, empty.at, "sizeLimit", why, report);
        }
    }
    if let Some(host) = &volume.host_path
        && host.kind.as_deref().is_some_and(|kind| !matches!(kind, "" | "Directory"))
    {
        let why = "the path must be a folder that exists";
        warn(object, host.at, "type", why, report);
    }
    for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
        for (field, set) in [
            ("secret", source.secret.is_some()),
            ("serviceAccountToken", source.service_account_token.is_some()),
            ("downwardAPI", source.downward_api.is_some()),
            ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
            ("podCertificate", source.pod_certificate.is_some()),
        ] {
            if set {
                warn(object, source.at, field, "this source is left out of the volume", report);
            }
        }
    }
    let known = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.empty_dir.is_some()
        || volume.host_path.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.persistent_volume_claim.is_some();
    if !known {
        let origin = object.written().origin_at(at);
        report.unsupported(origin, "there is no driver for such a volume: it is not mounted");
    }
}

fn applied(written: &Written, at: At, report: &mut Report) {
    report.outcome(written.origin_at(at), Outcome::Applied, "");
}

fn warn(object: &AnyObject, at: At, field: &str, why: &str, report: &mut Report) {
    report.unsupported(object.written().origin_of(at, field), why);
}

/// What many files say and few depend on: told, and no warning.
fn note(object: &AnyObject, at: At, why: &str, report: &mut Report) {
    let origin = object.written().origin_at(at);
    report.info(codes::UNSUPPORTED, origin.clone(), why);
    report.outcome(origin, Outcome::Unsupported, why);
}

/// The tables, for reference pages.
pub(crate) const TABLES: &[(&str, &[(&str, Becomes)])] =
    &[("CronJob", CRON_JOB), ("Deployment", DEPLOYMENT), ("Job", JOB), ("Pod", POD)];

#[cfg(test)]
#[path = "fields/tests.rs"]
mod tests;
