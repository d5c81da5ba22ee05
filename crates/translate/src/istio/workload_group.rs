//! The probe of a WorkloadGroup for entries that are written by hand. Machines that have joined are probed by the agent
//! beside them; where there is none, the proxies that use an entry ask it themselves (`docs/decisions/0111`).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{ReadinessProbe, WorkloadEntry, WorkloadGroup};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::endpoint::{HealthCheck, HealthProbe};

use crate::engine::{Kind, Reader, Topic};
use crate::report::Report;

/// The annotation by which Istio's control plane says which group an entry was made of.
const GROUP_ANNOTATION: &str = "istio.io/autoRegistrationGroup";

/// How a proxy asks whether a workload outside of the cluster is well; none: it has no group with a probe.
pub(crate) fn health_check(
    reader: &Reader<'_>,
    entry: &Object<WorkloadEntry>,
) -> Option<Arc<HealthCheck>> {
    let groups =
        reader.objects(Topic::KindIn(Kind::WorkloadGroup, entry.meta.namespace.as_str().into()));
    groups.into_iter().find_map(|group| match group {
        AnyObject::WorkloadGroup(group) if holds(&group, entry) => check(&group).map(Arc::new),
        _ => None,
    })
}

/// Whether an entry belongs to a group: Istio's annotation or the owner names it, or the entry has all labels that the group gives
/// its entries.
fn holds(group: &Object<WorkloadGroup>, entry: &Object<WorkloadEntry>) -> bool {
    let meta = &entry.meta;
    if let Some(name) = meta.annotations.get(GROUP_ANNOTATION) {
        return *name == group.meta.name;
    }
    let mut owners = meta.owner_references.iter().filter(|owner| owner.kind == "WorkloadGroup");
    if let Some(owner) = owners.next() {
        return owner.name == group.meta.name;
    }
    let labels = group.spec.metadata.iter().flat_map(|metadata| &metadata.labels);
    let labels = labels.chain(&group.spec.template.labels);
    let has = |key: &String, value: &String| {
        entry.spec.labels.get(key).or_else(|| meta.labels.get(key)) == Some(value)
    };
    let mut count = 0;
    labels.inspect(|_| count += 1).all(|(key, value)| has(key, value)) && count > 0
}

/// The check that a probe is; none where there is none, or a proxy cannot make it.
fn check(group: &Object<WorkloadGroup>) -> Option<HealthCheck> {
    let probe = group.spec.probe.as_ref()?;
    if group.is_broken(probe.at) {
        return None;
    }
    let (asked, port) = asked(probe)?;
    let number = |field: Option<i32>, default: u32| {
        field
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
            .unwrap_or(default)
    };
    let seconds = |field, default| Duration::from_secs(number(field, default).into());
    Some(HealthCheck {
        origin: group.origin_of(group.spec.at, "probe"),
        probe: asked,
        interval: seconds(probe.period_seconds, 10),
        timeout: seconds(probe.timeout_seconds, 1),
        healthy_threshold: number(probe.success_threshold, 1),
        unhealthy_threshold: number(probe.failure_threshold, 3),
        port,
    })
}

fn asked(probe: &ReadinessProbe) -> Option<(HealthProbe, Option<u16>)> {
    if let Some(http) = &probe.http_get {
        if is_https(http.scheme.as_deref()) {
            return Some((HealthProbe::Tcp, Some(http.port)));
        }
        let path = http.path.as_deref().unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let mut host = http.host.clone().unwrap_or_default();
        let mut headers = Vec::new();
        for header in &http.http_headers {
            let value = header.value.as_deref().unwrap_or_default();
            let Some(name) = header.name.as_deref() else { continue };
            if name.eq_ignore_ascii_case("host") {
                value.clone_into(&mut host);
            } else {
                headers.push((name.to_ascii_lowercase().into(), value.into()));
            }
        }
        let asked = HealthProbe::Http { host: host.into(), path: path.into(), headers };
        return Some((asked, Some(http.port)));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some((HealthProbe::Tcp, Some(tcp.port)));
    }
    // A command could be run by the machine only.
    let grpc = probe.grpc.as_ref()?;
    let service = grpc.service.as_deref().unwrap_or_default().into();
    Some((HealthProbe::Grpc { service }, grpc.port))
}

fn is_https(scheme: Option<&str>) -> bool {
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// What there is to say about the probe of a group, for entries that are written by hand.
pub(super) fn report(reader: &Reader<'_>, group: &Object<WorkloadGroup>, report: &mut Report) {
    let Some(probe) = &group.spec.probe else { return };
    let namespace = group.meta.namespace.as_str().into();
    let entries = reader.objects(Topic::KindIn(Kind::WorkloadEntry, namespace));
    let has_entry = entries.iter().any(|entry| match entry {
        AnyObject::WorkloadEntry(entry) => holds(group, entry),
        _ => false,
    });
    if !has_entry {
        return;
    }
    let https = probe.http_get.as_ref().filter(|http| is_https(http.scheme.as_deref()));
    if let Some(http) = https {
        let how = "of entries without an agent it is asked whether the port takes connections: nobody vouches for their \
                   certificates";
        report.translated(group.origin_of(http.at, "scheme"), how);
    }
    if probe.initial_delay_seconds.is_some_and(|seconds| seconds > 0) {
        let how = "entries without an agent are asked as soon as they are used: when they were started is not known";
        report.translated(group.origin_of(probe.at, "initialDelaySeconds"), how);
    }
    if let Some(tcp) = probe.tcp_socket.as_ref().filter(|tcp| tcp.host.is_some()) {
        let how = "entries without an agent are asked at their own address";
        report.translated(group.origin_of(tcp.at, "host"), how);
    }
}
