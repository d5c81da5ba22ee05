//! Gateway workloads out of Gateways, where nobody has installed any.
//!
//! A cluster has them from a chart (Istio) or from a controller (Gateway API). A mesh on one machine has neither, so the
//! objects that those would have made are made here: an account, a Deployment of a proxy alone, and a Service whose
//! ports are those of the Gateways. Where the files bring a workload that a Gateway selects, nothing is made for it.

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::gateway_api::Gateway as ApiGateway;
use heddle_api::istio::Gateway;
use heddle_api::kubernetes::Service;
use heddle_api::{Object, Reader, Resource as AnyObject};
use heddle_diag::JsonWriter;

use crate::gateway_api::class::{WAYPOINT, workload_name};
use crate::gateway_api::servers::GATEWAY_NAME;
use crate::object::ObjectKey;
use crate::workload::is_gateway;

/// The namespace of Istio's gateways where no Service says another one.
const ISTIO_NAMESPACE: &str = "istio-system";
/// The workload of Gateways that select nothing: they are for every gateway.
const DEFAULT: &str = "istio-ingressgateway";
/// How the Service of a Gateway of the Gateway API is reached, as in Istio.
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// Objects that are made have no clock behind them; what is younger must not restart them.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// Another name of the account, as in Istio.
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// Marks what was made here.
pub const MADE_FOR: &str = "heddle.dev/made-for-gateway";

type Labels = BTreeMap<String, String>;

/// A gateway that is to be made.
struct Wanted {
    namespace: String,
    name: String,
    account: String,
    labels: Labels,
    annotations: Labels,
    service_type: String,
    /// By number, and whether it is one of UDP: the protocol, in small letters.
    ports: BTreeMap<(u16, bool), String>,
}

/// The objects of the gateways that Gateways ask for and the objects do not bring. The same objects give the same
/// result; nothing in it but the Service depends on the listeners, so that another listener restarts nobody.
pub fn gateways(objects: &[AnyObject]) -> Vec<AnyObject> {
    let brought: Vec<&Labels> = objects.iter().filter_map(labels).collect();
    let mut wanted: Vec<Wanted> = Vec::new();
    add_istio(objects, &brought, &mut wanted);
    add_gateway_api(objects, &brought, &mut wanted);
    let there: BTreeSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
    let mut made = Vec::new();
    for one in &wanted {
        for json in [one.account(), one.deployment(), one.service()] {
            let read = Reader::default().read_cluster("", json.as_bytes()).resources;
            made.extend(read.into_iter().filter(|object| !there.contains(&ObjectKey::of(object))));
        }
    }
    made
}

/// Labels of the pods that an object is, or makes.
fn labels(object: &AnyObject) -> Option<&Labels> {
    match object {
        AnyObject::Pod(pod) => Some(&pod.meta.labels),
        AnyObject::Deployment(object) => Some(&object.spec.template.metadata.labels),
        AnyObject::StatefulSet(object) => Some(&object.spec.template.metadata.labels),
        AnyObject::DaemonSet(object) => Some(&object.spec.template.metadata.labels),
        AnyObject::ReplicaSet(object) => {
            object.spec.template.as_ref().map(|template| &template.metadata.labels)
        }
        _ => None,
    }
}

fn add_istio(objects: &[AnyObject], brought: &[&Labels], wanted: &mut Vec<Wanted>) {
    let mut found: Vec<&Object<Gateway>> = objects
        .iter()
        .filter_map(|object| match object {
            AnyObject::Gateway(gateway) => Some(&**gateway),
            _ => None,
        })
        .filter(|gateway| !gateway.is_field_broken(gateway.spec.at, "selector"))
        .collect();
    // What selects more comes first, so that what selects less finds it.
    found.sort_by_key(|gateway| {
        let spec = &gateway.spec;
        (std::cmp::Reverse(spec.selector.len()), format!("{:?}", spec.selector))
    });
    for gateway in &found {
        let selector = &gateway.spec.selector;
        if !selector.is_empty() && brought.iter().any(|labels| selects(selector, labels)) {
            continue;
        }
        let known = wanted.iter().any(|one| selects(selector, &one.labels));
        if known || selector.is_empty() && brought_gateway(objects) {
            continue;
        }
        wanted.push(Wanted::for_selector(selector, objects));
    }
    for one in wanted {
        for gateway in found.iter().filter(|gateway| selects(&gateway.spec.selector, &one.labels)) {
            for server in gateway.spec.servers.iter().filter(|s| !gateway.is_broken(s.at)) {
                let protocol = server.port.protocol.to_ascii_lowercase();
                one.ports.entry((server.port.number, false)).or_insert(protocol);
            }
        }
    }
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether the objects bring some gateway workload of Istio's.
fn brought_gateway(objects: &[AnyObject]) -> bool {
    let is_gateway = |object: &AnyObject| {
        let (meta, spec) = match object {
            AnyObject::Pod(pod) => {
                return is_gateway(&pod.meta.labels, &pod.meta.annotations, &pod.spec);
            }
            AnyObject::Deployment(object) => {
                (&object.spec.template.metadata, &object.spec.template.spec)
            }
            AnyObject::DaemonSet(object) => {
                (&object.spec.template.metadata, &object.spec.template.spec)
            }
            _ => return false,
        };
        is_gateway(&meta.labels, &meta.annotations, spec)
    };
    objects.iter().any(is_gateway)
}

fn add_gateway_api(objects: &[AnyObject], brought: &[&Labels], wanted: &mut Vec<Wanted>) {
    for object in objects {
        let AnyObject::GatewayApiGateway(gateway) = object else { continue };
        let (meta, spec) = (&gateway.meta, &gateway.spec);
        // A Gateway that names a Service is served by the workloads behind that.
        let elsewhere = spec.addresses.iter().any(|address| address.kind() == "Hostname");
        let is_there = brought.iter().any(|labels| labels.get(GATEWAY_NAME) == Some(&meta.name));
        if elsewhere || is_there || spec.gateway_class_name == WAYPOINT {
            continue;
        }
        let mut one = Wanted::for_gateway(gateway);
        for listener in &spec.listeners {
            let protocol = listener.protocol.to_ascii_lowercase();
            one.ports.entry((listener.port, protocol == "udp")).or_insert(protocol);
        }
        for object in objects {
            let (AnyObject::ListenerSet(set) | AnyObject::XListenerSet(set)) = object else {
                continue;
            };
            let parent = &set.spec.parent_ref;
            let namespace = parent.namespace.as_ref().unwrap_or(&set.meta.namespace);
            if parent.is_gateway() && parent.name == meta.name && *namespace == meta.namespace {
                for listener in &set.spec.listeners {
                    let protocol = listener.protocol.to_ascii_lowercase();
                    one.ports.entry((listener.port, protocol == "udp")).or_insert(protocol);
                }
            }
        }
        wanted.push(one);
    }
}

impl Wanted {
    /// The workload that Istio's charts would make for a selector.
    fn for_selector(selector: &Labels, objects: &[AnyObject]) -> Self {
        let name = match (selector.get("istio"), selector.get("app")) {
            (Some(istio), _) => format!("istio-{istio}"),
            (None, Some(app)) => app.clone(),
            (None, None) if selector.is_empty() => DEFAULT.to_owned(),
            (None, None) => selector.values().cloned().collect::<Vec<_>>().join("-"),
        };
        let name = name.to_ascii_lowercase();
        let mut labels = selector.clone();
        labels.entry("app".to_owned()).or_insert_with(|| name.clone());
        if let Some(istio) = name.strip_prefix("istio-") {
            labels.entry("istio".to_owned()).or_insert_with(|| istio.to_owned());
        }
        let in_front = objects.iter().find_map(|object| match object {
            AnyObject::Service(service) => Some(&**service).filter(|service| {
                let selector = &service.spec.selector;
                !selector.is_empty() && selects(selector, &labels)
            }),
            _ => None,
        });
        let namespace = in_front.map(|service: &Object<Service>| service.meta.namespace.clone());
        // What leaves the mesh is called from within.
        let is_egress = name.contains("egress");
        Self {
            namespace: namespace.unwrap_or_else(|| ISTIO_NAMESPACE.to_owned()),
            account: name.clone(),
            name,
            labels,
            annotations: Labels::new(),
            service_type: if is_egress { "ClusterIP" } else { "LoadBalancer" }.to_owned(),
            ports: BTreeMap::new(),
        }
    }

    /// What Istio's controller would make for a Gateway of the Gateway API.
    fn for_gateway(gateway: &Object<ApiGateway>) -> Self {
        let (meta, spec) = (&gateway.meta, &gateway.spec);
        let name = workload_name(gateway);
        let (mut labels, mut annotations) = (Labels::new(), Labels::new());
        if let Some(infrastructure) = &spec.infrastructure {
            labels.extend(infrastructure.labels.clone());
            annotations.extend(infrastructure.annotations.clone());
        }
        let class = &spec.gateway_class_name;
        labels.insert(GATEWAY_NAME.to_owned(), meta.name.clone());
        labels.insert("gateway.networking.k8s.io/gateway-class-name".to_owned(), class.clone());
        let own = meta.annotations.get(SERVICE_TYPE).or_else(|| annotations.get(SERVICE_TYPE));
        let known = own.filter(|kind| matches!(kind.as_str(), "ClusterIP" | "NodePort"));
        let service_type = known.map_or("LoadBalancer", String::as_str).to_owned();
        let namespace = meta.namespace.clone();
        let account = meta.annotations.get(SERVICE_ACCOUNT).unwrap_or(&name).clone();
        let ports = BTreeMap::new();
        Self { namespace, name, account, labels, annotations, service_type, ports }
    }

    fn open(&self, api_version: &str, kind: &str) -> JsonWriter {
        let mut json = JsonWriter::new();
        json.open_object();
        json.field("apiVersion", api_version);
        json.field("kind", kind);
        json.key("metadata");
        json.open_object();
        json.field("name", if kind == "ServiceAccount" { &self.account } else { &self.name });
        json.field("namespace", &self.namespace);
        json.field("creationTimestamp", CREATED);
        map(&mut json, "labels", &self.labels);
        let made = Labels::from([(MADE_FOR.to_owned(), "true".to_owned())]);
        map(&mut json, "annotations", &made);
        json.close_object();
        json
    }

    fn account(&self) -> String {
        let mut json = self.open("v1", "ServiceAccount");
        json.close_object();
        json.finish()
    }

    fn deployment(&self) -> String {
        let mut json = self.open("apps/v1", "Deployment");
        json.key("spec");
        json.open_object();
        json.key("selector");
        json.open_object();
        map(&mut json, "matchLabels", &self.labels);
        json.close_object();
        json.key("template");
        json.open_object();
        json.key("metadata");
        json.open_object();
        map(&mut json, "labels", &self.labels);
        let mut annotations = self.annotations.clone();
        annotations.insert("inject.istio.io/templates".to_owned(), "gateway".to_owned());
        map(&mut json, "annotations", &annotations);
        json.close_object();
        json.key("spec");
        json.open_object();
        json.field("serviceAccountName", &self.account);
        json.key("containers");
        json.raw(r#"[{"name":"istio-proxy","image":"auto"}]"#);
        json.close_object();
        json.close_object();
        json.close_object();
        json.close_object();
        json.finish()
    }

    fn service(&self) -> String {
        let mut json = self.open("v1", "Service");
        json.key("spec");
        json.open_object();
        json.field("type", &self.service_type);
        map(&mut json, "selector", &self.labels);
        json.key("ports");
        json.open_list();
        for ((number, is_udp), protocol) in &self.ports {
            json.open_object();
            json.field("name", &format!("{}-{number}", port_prefix(protocol)));
            json.key("port");
            json.raw(&number.to_string());
            if *is_udp {
                json.field("protocol", "UDP");
            }
            json.close_object();
        }
        json.close_list();
        json.close_object();
        json.close_object();
        json.finish()
    }
}

/// What the port of the Service declares, so that clients within the mesh speak the same.
fn port_prefix(protocol: &str) -> &str {
    match protocol {
        "http" | "http2" | "https" | "grpc" | "tls" | "mongo" | "redis" | "mysql" | "udp" => {
            protocol
        }
        "grpc-web" => "grpc",
        _ => "tcp",
    }
}

fn map(json: &mut JsonWriter, key: &str, entries: &Labels) {
    json.key(key);
    json.open_object();
    for (key, text) in entries {
        json.field(key, text);
    }
    json.close_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Vec<AnyObject> {
        let loaded = Reader::default().read_file("f.yaml", text.as_bytes());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.resources
    }

    fn names(text: &str) -> Vec<String> {
        gateways(&objects(text)).iter().map(|object| ObjectKey::of(object).to_string()).collect()
    }

    fn istio(name: &str, selector: &str, port: u16) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             selector: {selector}\n  servers: [{{port: {{number: {port}, name: p, protocol: HTTP}}, hosts: ['*']}}]\n---\n"
        )
    }

    #[test]
    fn one_workload_serves_all_gateways_of_its_labels() {
        let text = [
            istio("a", "{app: istio-ingressgateway}", 80),
            istio("b", "{istio: ingressgateway}", 8080),
            istio("c", "{}", 81),
        ]
        .concat();
        let made = gateways(&objects(&text));
        assert_eq!(made.len(), 3, "{made:#?}");
        let AnyObject::Service(service) = &made[2] else { panic!("{made:#?}") };
        let ports: Vec<u16> = service.spec.ports.iter().map(|port| port.port).collect();
        assert_eq!(ports, [80, 81, 8080]);
        assert_eq!((&*service.meta.namespace, &*service.meta.name), (ISTIO_NAMESPACE, DEFAULT));
        // Another listener changes nothing of the workload.
        let fewer = gateways(&objects(&istio("a", "{istio: ingressgateway}", 80)));
        assert_eq!(made[1].written().to_json(), fewer[1].written().to_json());
    }

    #[test]
    fn what_the_files_bring_is_not_made() {
        let own = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: gw}\nspec:\n  selector: {matchLabels: {istio: ingressgateway}}\n  \
                   template:\n    metadata: {labels: {istio: ingressgateway}}\n    spec: {containers: [{name: istio-proxy, image: auto}]}\n---\n";
        let some = istio("a", "{istio: ingressgateway}", 80);
        assert!(names(&[own, &some].concat()).is_empty());
        assert!(names(&[own, &istio("a", "{}", 80)].concat()).is_empty(), "for every gateway");
        let other = names(&[own, &istio("a", "{istio: egressgateway}", 80)].concat());
        assert_eq!(other.len(), 3, "{other:?}");
        assert!(other[2].contains("istio-egressgateway"), "{other:?}");
    }

    #[test]
    fn each_gateway_of_the_gateway_api_has_its_own() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web, namespace: shop}\nspec:\n  \
                    gatewayClassName: heddle\n  infrastructure: {labels: {team: a}}\n  listeners: [{name: h, port: 80, protocol: HTTP}]\n";
        let made = gateways(&objects(text));
        let AnyObject::Deployment(deployment) = &made[1] else { panic!("{made:#?}") };
        assert_eq!((&*deployment.meta.namespace, &*deployment.meta.name), ("shop", "web-heddle"));
        let labels = &deployment.spec.template.metadata.labels;
        assert_eq!(labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(labels.get(GATEWAY_NAME).map(String::as_str), Some("web"));
        let waypoint = text.replace("heddle", WAYPOINT);
        assert!(gateways(&objects(&waypoint)).is_empty());
    }
}
