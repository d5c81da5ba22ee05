//! Workloads that files do not have.
//!
//! Files that hold mesh objects and Services, but nothing that runs, are explained as if every Service had what it
//! selects: one replica with the labels of its selector, or one for each subset that a DestinationRule makes of it. As
//! soon as the files hold anything that runs, nothing is assumed: a Service without a workload then has no endpoints.

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::kubernetes::{Service, ServiceType};
use heddle_api::{IntOrText, Object, Reader, Resource as AnyObject};
use heddle_diag::JsonWriter;

/// Whether the objects hold anything that runs, or say where something runs.
pub(crate) fn has_workloads(objects: &[AnyObject]) -> bool {
    objects.iter().any(|object| {
        matches!(
            &*object.origin().kind,
            "CronJob"
                | "DaemonSet"
                | "Deployment"
                | "EndpointSlice"
                | "ExternalWorkload"
                | "Job"
                | "Pod"
                | "ReplicaSet"
                | "StatefulSet"
                | "WorkloadEntry"
        )
    })
}

/// The service account that a workload of this name is assumed to have: the one of its name if the objects have it.
pub(crate) fn account(
    accounts: &BTreeSet<(String, String)>,
    namespace: &str,
    name: &str,
) -> String {
    let own = (namespace.to_owned(), name.to_owned());
    if accounts.contains(&own) { own.1 } else { "default".to_owned() }
}

/// The service accounts among the objects, as namespace and name.
pub(crate) fn accounts(objects: &[AnyObject]) -> BTreeSet<(String, String)> {
    let accounts = objects.iter().filter(|object| &*object.origin().kind == "ServiceAccount");
    accounts.map(|object| (object.meta().namespace.clone(), object.meta().name.clone())).collect()
}

/// A Pod for everything that the Services select.
pub(crate) fn pods(objects: &[AnyObject]) -> Vec<AnyObject> {
    let accounts = accounts(objects);
    let mut pods: BTreeMap<(String, String), AnyObject> = BTreeMap::new();
    for object in objects {
        let AnyObject::Service(service) = object else { continue };
        let spec = &service.spec;
        if spec.selector.is_empty() || spec.kind == Some(ServiceType::ExternalName) {
            continue;
        }
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let mut made = vec![(name.clone(), spec.selector.clone())];
        let subsets = subsets(objects, namespace, name);
        if !subsets.is_empty() {
            made = subsets
                .into_iter()
                .map(|(subset, labels)| {
                    let mut all = spec.selector.clone();
                    all.extend(labels);
                    (format!("{name}-{subset}"), all)
                })
                .collect();
        }
        for (pod, labels) in made {
            let account = account(&accounts, namespace, name);
            let written = json(service, &pod, &labels, &account);
            let read = Reader::default().read_cluster("", written.as_bytes());
            let made = read.resources.into_iter().find(|made| matches!(made, AnyObject::Pod(_)));
            if let Some(made) = made {
                pods.entry((namespace.clone(), pod)).or_insert(made);
            }
        }
    }
    pods.into_values().collect()
}

/// The subsets with labels that DestinationRules make of a Service.
fn subsets(
    objects: &[AnyObject],
    namespace: &str,
    name: &str,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut subsets = BTreeMap::new();
    for object in objects {
        let AnyObject::DestinationRule(rule) = object else { continue };
        let host = rule.spec.host.to_ascii_lowercase();
        let short = host == name && rule.meta.namespace == namespace;
        let names = [format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")];
        let full = names.contains(&host) || host.starts_with(&format!("{name}.{namespace}.svc."));
        if !short && !full {
            continue;
        }
        for subset in rule.spec.subsets.iter().filter(|subset| !subset.labels.is_empty()) {
            subsets.entry(subset.name.clone()).or_insert_with(|| subset.labels.clone());
        }
    }
    subsets
}

fn json(
    service: &Object<Service>,
    name: &str,
    labels: &BTreeMap<String, String>,
    account: &str,
) -> String {
    let mut json = JsonWriter::new();
    json.open_object();
    json.field("apiVersion", "v1");
    json.field("kind", "Pod");
    json.key("metadata");
    json.open_object();
    json.field("name", name);
    json.field("namespace", &service.meta.namespace);
    json.key("labels");
    json.open_object();
    for (key, value) in labels {
        json.field(key, value);
    }
    json.close_object();
    json.close_object();
    json.key("spec");
    json.open_object();
    json.field("serviceAccountName", account);
    json.key("containers");
    json.open_list();
    json.open_object();
    json.field("name", "assumed");
    json.field("image", "assumed");
    json.key("ports");
    json.open_list();
    for port in &service.spec.ports {
        // A port that is named at the target has the Service's number.
        let Some(IntOrText::Text(target)) = &port.target_port else { continue };
        json.open_object();
        json.field("name", target);
        json.key("containerPort");
        json.raw(&port.port.to_string());
        json.close_object();
    }
    json.close_list();
    json.close_object();
    json.close_list();
    json.close_object();
    json.close_object();
    json.finish()
}
