//! Finding the workload and container that somebody means.

use crate::status::{ContainerKind, Phase, WorkloadStatus};
use crate::supervisor::workload::PROXY_CONTAINER;

/// Names under which users of other meshes know the proxy's container.
const PROXY_NAMES: [&str; 3] = [PROXY_CONTAINER, "istio-proxy", "linkerd-proxy"];

/// The namespace of a name without one.
const DEFAULT_NAMESPACE: &str = "default";

/// Finds a workload by id, by `[namespace/]name`, or by the name of what controls it (`reviews-v1`, with or
/// without its kind: `deployment/reviews-v1`); then a ready replica is preferred. An error is one sentence.
pub(super) fn workload<'a>(
    workloads: &'a [WorkloadStatus],
    wanted: &str,
) -> Result<&'a WorkloadStatus, String> {
    if let Some(found) = workloads.iter().find(|workload| workload.id == wanted) {
        return Ok(found);
    }
    let parts: Vec<&str> = wanted.split('/').collect();
    let (namespace, name) = match parts.as_slice() {
        [name] => (DEFAULT_NAMESPACE, *name),
        [kind, name] if is_kind(kind) => (DEFAULT_NAMESPACE, *name),
        [namespace, name] | [namespace, _, name] => (*namespace, *name),
        _ => return Err(format!("{wanted:?} names no workload; write NAMESPACE/NAME")),
    };
    let mut candidates: Vec<_> =
        workloads.iter().filter(|workload| workload.namespace == namespace).collect();
    if let Some(found) = candidates.iter().find(|workload| workload.name == name) {
        return Ok(found);
    }
    candidates.retain(|workload| workload.owner == name);
    candidates.sort_by_key(|workload| (!workload.ready, workload.phase != Phase::Running));
    candidates.first().copied().ok_or_else(|| {
        let known: Vec<_> =
            workloads.iter().map(|w| format!("{}/{}", w.namespace, w.name)).collect();
        if known.is_empty() {
            format!("no workload {namespace}/{name}: none runs")
        } else {
            format!("no workload {namespace}/{name}; there are {}", known.join(", "))
        }
    })
}

fn is_kind(text: &str) -> bool {
    [
        "pod",
        "deployment",
        "deploy",
        "statefulset",
        "sts",
        "daemonset",
        "ds",
        "replicaset",
        "rs",
        "job",
    ]
    .contains(&text.to_ascii_lowercase().as_str())
}

/// The name of a container of a workload: the one given, or the only sensible one. An error is one sentence.
pub(super) fn container(workload: &WorkloadStatus, wanted: Option<&str>) -> Result<String, String> {
    let Some(wanted) = wanted else {
        let mut applications =
            workload.containers.iter().filter(|c| c.kind == ContainerKind::Application);
        let first = applications.next().map(|container| container.name.clone());
        return first.ok_or_else(|| format!("{} has no container", workload.name));
    };
    if workload.container(wanted).is_some() {
        return Ok(wanted.to_owned());
    }
    if workload.meshed && PROXY_NAMES.contains(&wanted) {
        return Ok(PROXY_CONTAINER.to_owned());
    }
    let names: Vec<_> = workload.containers.iter().map(|c| c.name.as_str()).collect();
    Err(format!("no container {wanted} in {}; there are {}", workload.name, names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ContainerStatus, ProcessStatus};

    fn status(namespace: &str, name: &str, owner: &str, ready: bool) -> WorkloadStatus {
        WorkloadStatus {
            id: format!("standalone/Pod/{namespace}/{name}"),
            namespace: namespace.into(),
            name: name.into(),
            owner: owner.into(),
            ready,
            meshed: true,
            containers: vec![ContainerStatus {
                name: "app".into(),
                kind: ContainerKind::Application,
                command: vec![],
                process: ProcessStatus::default(),
            }],
            ..WorkloadStatus::default()
        }
    }

    #[test]
    fn a_workload_is_found_by_every_name_it_has() {
        let all = [
            status("default", "reviews-v1-0", "reviews-v1", false),
            status("default", "reviews-v1-1", "reviews-v1", true),
            status("shop", "web-0", "web", true),
        ];
        for (wanted, name) in [
            ("standalone/Pod/shop/web-0", "web-0"),
            ("reviews-v1-0", "reviews-v1-0"),
            ("reviews-v1", "reviews-v1-1"),
            ("deployment/reviews-v1", "reviews-v1-1"),
            ("shop/web", "web-0"),
            ("shop/deploy/web", "web-0"),
        ] {
            assert_eq!(workload(&all, wanted).unwrap().name, name, "{wanted}");
        }
        let error = workload(&all, "web").unwrap_err();
        assert!(error.contains("default/web") && error.contains("shop/web-0"), "{error}");
        assert!(workload(&[], "web").is_err());
        assert!(workload(&all, "a/b/c/d").is_err());
    }

    #[test]
    fn the_proxy_goes_by_the_names_it_has_elsewhere() {
        let workload = status("a", "b", "", true);
        assert_eq!(container(&workload, None).unwrap(), "app");
        assert_eq!(container(&workload, Some("app")).unwrap(), "app");
        assert_eq!(container(&workload, Some("istio-proxy")).unwrap(), "proxy");
        assert!(container(&workload, Some("x")).unwrap_err().contains("app"));
        let unmeshed = WorkloadStatus { meshed: false, ..workload };
        assert!(container(&unmeshed, Some("istio-proxy")).is_err());
    }
}
