//! The pod that stands for a machine: what its WorkloadGroup or WorkloadEntry says, at the machine's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use heddle_api::istio::ReadinessProbe;
use heddle_api::{Reader, Resource as AnyObject};
use heddle_translate::ObjectKey;
use heddle_translate::workloads::{ENTRY_PORTS, ENTRY_WEIGHT};
use serde_json::{Value, json};

use super::Record;
use crate::objects::Objects;

const GROUP: &str = "networking.istio.io";

/// What a group or an entry says about its machines.
#[derive(Default)]
pub(super) struct Template {
    pub(super) address: Option<String>,
    pub(super) service_account: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    locality: Option<String>,
    network: Option<String>,
    ports: BTreeMap<String, u16>,
    weight: Option<u32>,
    probe: Option<Value>,
}

/// The key of a WorkloadEntry.
pub(super) fn entry_key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(GROUP, "WorkloadEntry", namespace, name)
}

/// The name of an instance of a group, as Istio names the entries that it makes.
pub(super) fn instance_name(group: &str, address: IpAddr) -> String {
    format!("{group}-{}", address.to_string().replace(':', "-"))
}

/// What an object says about its machines; none: there is no such object.
pub(super) fn template(
    objects: &Objects,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Option<Template> {
    let stored = objects.of(&ObjectKey::new(GROUP, kind, namespace, name))?;
    match &stored.candidate.object {
        AnyObject::WorkloadGroup(group) => {
            let (spec, own) = (&group.spec.template, group.spec.metadata.as_ref());
            let mut labels = spec.labels.clone();
            labels.extend(own.map(|own| own.labels.clone()).unwrap_or_default());
            labels
                .entry("service.istio.io/workload-name".to_owned())
                .or_insert_with(|| group.meta.name.clone());
            Some(Template {
                address: spec.address.clone(),
                service_account: spec.service_account.clone(),
                labels,
                annotations: own.map(|own| own.annotations.clone()).unwrap_or_default(),
                locality: spec.locality.clone(),
                network: spec.network.clone(),
                ports: spec.ports.clone(),
                weight: spec.weight,
                probe: group.spec.probe.as_ref().and_then(readiness),
            })
        }
        AnyObject::WorkloadEntry(entry) => {
            let spec = &entry.spec;
            let mut labels = entry.meta.labels.clone();
            labels.extend(spec.labels.clone());
            Some(Template {
                address: spec.address.clone(),
                service_account: spec.service_account.clone(),
                labels,
                annotations: entry.meta.annotations.clone(),
                locality: spec.locality.clone(),
                network: spec.network.clone(),
                ports: spec.ports.clone(),
                weight: spec.weight,
                probe: None,
            })
        }
        _ => None,
    }
}

/// The pod of a machine; none: its object is gone, or is for another service account by now.
pub(super) fn of(objects: &Objects, record: &Record) -> Option<AnyObject> {
    let (kind, name) = match record.group.as_str() {
        "" => ("WorkloadEntry", record.name.as_str()),
        group => ("WorkloadGroup", group),
    };
    let template = template(objects, kind, &record.namespace, name)?;
    let wanted = template.service_account.as_deref().filter(|account| !account.is_empty());
    if wanted.unwrap_or("default") != record.account {
        return None;
    }
    let mut labels = template.labels;
    if let Some(network) = template.network.filter(|network| !network.is_empty()) {
        labels.insert("topology.istio.io/network".to_owned(), network);
    }
    if let Some(locality) = template.locality.filter(|locality| !locality.is_empty()) {
        // A label has no slashes.
        labels.insert("istio-locality".to_owned(), locality.replace('/', "."));
    }
    let mut annotations = template.annotations;
    if !template.ports.is_empty() {
        let ports = template.ports.iter().map(|(name, port)| format!("{name}={port}"));
        annotations.insert(ENTRY_PORTS.to_owned(), ports.collect::<Vec<_>>().join(","));
    }
    if let Some(weight) = template.weight {
        annotations.insert(ENTRY_WEIGHT.to_owned(), weight.to_string());
    }
    let ports =
        template.ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port}));
    let mut container = json!({
        "name": "application", "image": "machine", "ports": ports.collect::<Vec<_>>(),
    });
    if let Some(probe) = template.probe {
        container["readinessProbe"] = probe;
    }
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": record.name, "namespace": record.namespace,
            "labels": labels, "annotations": annotations,
        },
        "spec": {"serviceAccountName": record.account, "containers": [container]},
        "status": {"podIP": record.address, "podIPs": [{"ip": record.address}]},
    });
    let path = format!("machine {}/{}", record.namespace, record.name);
    let read = Reader::default().read_file(&path, manifest.to_string().as_bytes());
    read.resources.into_iter().next()
}

/// A group's probe as a container has it. A command is not run: that would let whoever writes objects run anything on the
/// machine.
fn readiness(probe: &ReadinessProbe) -> Option<Value> {
    let mut made = json!({
        "initialDelaySeconds": probe.initial_delay_seconds.unwrap_or(0),
        "timeoutSeconds": probe.timeout_seconds.unwrap_or(1).max(1),
        "periodSeconds": probe.period_seconds.unwrap_or(10).max(1),
        "successThreshold": probe.success_threshold.unwrap_or(1).max(1),
        "failureThreshold": probe.failure_threshold.unwrap_or(3).max(1),
    });
    if let Some(get) = &probe.http_get {
        let headers = get
            .http_headers
            .iter()
            .map(|header| json!({"name": header.name, "value": header.value}));
        let mut action = json!({"port": get.port, "httpHeaders": headers.collect::<Vec<_>>()});
        for (name, value) in [("path", &get.path), ("host", &get.host), ("scheme", &get.scheme)] {
            if let Some(value) = value {
                action[name] = value.clone().into();
            }
        }
        made["httpGet"] = action;
    } else if let Some(tcp) = &probe.tcp_socket {
        made["tcpSocket"] = json!({"port": tcp.port});
        if let Some(host) = &tcp.host {
            made["tcpSocket"]["host"] = host.clone().into();
        }
    } else if let Some(grpc) = &probe.grpc {
        made["grpc"] = json!({"port": grpc.port.unwrap_or(0)});
        if let Some(service) = &grpc.service {
            made["grpc"]["service"] = service.clone().into();
        }
    } else {
        return None;
    }
    Some(made)
}
