//! What a proxy enforces for its own workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ident::{HostPattern, SpiffeId};
use heddle_ir::authorization::{
    Authorization, ExternalAuthorizer, Fallback, Policy, SystemPolicies,
};
use heddle_ir::destination::ConnectionPool;
use heddle_ir::inbound::{ClientAddress, Forwarders, Inbound, InboundPort, ServiceReference};
use heddle_ir::protocol::Protocol;
use heddle_ir::rate_limit::RateLimits;

use crate::client::{Client, selects};
use crate::destinations::rules_for;
use crate::endpoint::target_number;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::istio::sidecar::SidecarKey;
use crate::istio::traffic_policy::{Policies, default_pool};
use crate::istio::{authorization_policy, envoy_filter, request_authentication, sidecar_inbound};
use crate::linkerd;
use crate::mesh::MeshKey;
use crate::network::{self, Direction};
use crate::object::ObjectKey;
use crate::options::Profile;
use crate::report::Report;
use crate::scope::Scope;
use crate::service::{Endpoints, Service, ServiceKey};
use crate::smi;
use crate::workload::{Facts, MutualTlsKey, WorkloadKey};

/// Ports and policy of a Pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct InboundKey(pub(crate) ObjectKey);

/// One authorisation policy, wherever it applies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PolicyKey(pub(crate) ObjectKey);

impl Derivation for PolicyKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Policy>> {
        let Some(AnyObject::AuthorizationPolicy(object)) = reader.object(&self.0) else {
            return None;
        };
        // What there is to say about the object is said by its own report.
        Some(Arc::new(authorization_policy::translate(reader, &object, &mut Report::default())))
    }
}

impl Derivation for InboundKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Inbound>> {
        let facts = reader.read(&WorkloadKey(self.0.clone()))?;
        let mesh = reader.read(&MeshKey);
        let mutual_tls = reader.read(&MutualTlsKey(self.0.clone()))?;
        let services = services_of(reader, &facts);
        let scoping = reader.read(&SidecarKey(facts.scope.clone())).filter(|_| !facts.is_gateway);
        let found = ports(&facts, &services);
        let listed = sidecar_inbound::ports(scoping.as_ref(), &mesh, &found);
        let own_pool = sidecar_inbound::connection_pool(scoping.as_ref(), &mesh);
        let authorization = Arc::new(authorization(reader, &facts));
        let mut ports = linkerd::inbound::ports(reader, &facts, listed.unwrap_or(found));
        for port in ports.iter_mut().filter(|port| port.protocol == Protocol::Tcp) {
            // Rules on what is said must be able to hear it, whatever the port declares.
            if network::listens(&authorization, port.port) {
                port.protocol = Protocol::Detect;
            }
        }
        Some(Arc::new(Inbound {
            workload: facts.id.clone(),
            ports,
            mutual_tls: mutual_tls.default.clone(),
            mutual_tls_by_port: mutual_tls.by_port.clone(),
            authorization,
            jwt_rules: request_authentication::rules_for(reader, &facts),
            client_address: client_address(reader, &facts),
            path_normalization: mesh.path_normalization,
            connection_pool: own_pool.unwrap_or_else(|| connection_pool(reader, &facts, &services)),
            retry: mesh.inbound_retry.clone(),
            probe_sources: reader.options().probe_sources.clone(),
            rate_limits: rate_limits(reader, &facts, &services),
        }))
    }
}

fn rate_limits(reader: &Reader<'_>, facts: &Facts, services: &[Arc<Service>]) -> RateLimits {
    let mut limits = envoy_filter::inbound_limits(reader, facts, services);
    limits.local.extend(linkerd::rate_limit::limits(reader, facts));
    limits
}

/// The services that lead to a workload, in the order of their objects.
pub(crate) fn services_of(reader: &Reader<'_>, facts: &Facts) -> Vec<Arc<Service>> {
    let mut hosts: Vec<Arc<str>> = Vec::new();
    for object in reader.objects(Topic::KindIn(Kind::Service, facts.namespace.clone())) {
        let AnyObject::Service(service) = object else { continue };
        let (name, namespace) = (&service.meta.name, &service.meta.namespace);
        let host = crate::names::service_host(name, namespace, &reader.options().cluster_domain);
        hosts.extend(host.map(|host| host.as_str().into()));
    }
    for object in reader.objects(Topic::KindIn(Kind::ServiceEntry, facts.namespace.clone())) {
        let AnyObject::ServiceEntry(entry) = object else { continue };
        if entry.spec.workload_selector.is_some() {
            hosts.extend(entry.spec.hosts.iter().map(|host| host.to_ascii_lowercase().into()));
        }
    }
    hosts
        .into_iter()
        .filter_map(|host| reader.read(&ServiceKey(host)))
        .filter(|service| {
            service.ports.iter().any(|port| match &port.endpoints {
                Endpoints::Selected { labels, .. } => {
                    !labels.is_empty() && selects(labels, &facts.labels)
                }
                _ => false,
            })
        })
        .collect()
}

fn ports(facts: &Facts, services: &[Arc<Service>]) -> Vec<InboundPort> {
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    let empty = |port, protocol| InboundPort {
        port,
        protocol,
        services: Vec::new(),
        probe_paths: Vec::new(),
        routes: None,
        application: None,
        application_socket: None,
        connection_pool: None,
    };
    for service in services {
        for port in &service.ports {
            let Some(number) = target_number(port, Some(facts)) else { continue };
            if port.protocol == Protocol::Udp {
                continue;
            }
            // Where services disagree about what is spoken, the first decides.
            let entry = ports.entry(number).or_insert_with(|| empty(number, port.protocol));
            entry.services.push(ServiceReference {
                host: service.host.to_string().into(),
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                port: port.number,
            });
        }
    }
    for (number, path) in &facts.probes {
        let entry = ports.entry(*number).or_insert_with(|| empty(*number, Protocol::Detect));
        entry.probe_paths.push(path.clone());
    }
    ports.into_values().collect()
}

/// Limits towards the application: those that a DestinationRule sets for the first service that leads to it.
fn connection_pool(
    reader: &Reader<'_>,
    facts: &Facts,
    services: &[Arc<Service>],
) -> ConnectionPool {
    let mesh = reader.read(&MeshKey);
    let first = services.first().and_then(|service| {
        let port = service.ports.first()?;
        Some((service.clone(), port.number))
    });
    let (Some((service, port)), Some(scope)) = (first, Scope::parse(&facts.scope)) else {
        return default_pool(&mesh);
    };
    let host: &HostPattern = &service.host;
    let rules = rules_for(reader, &Client::of(&scope, port), host, &service.namespace);
    let top = rules
        .iter()
        .find_map(|rule| rule.spec.traffic_policy.as_ref().map(|policy| (rule, policy)));
    // The mesh's own limits are for clients.
    if top.is_none() {
        return default_pool(&mesh);
    }
    Policies::merge(&mesh, top, None, port).connection_pool(&mesh, &mut Report::default())
}

/// Who is believed about where requests come from: the gateways of the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ForwardersKey;

impl Derivation for ForwardersKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<[SpiffeId]> {
        let pods = reader.objects(Topic::Kind(Kind::Pod));
        let facts = pods.iter().filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod))));
        let mut identities: Vec<SpiffeId> =
            facts.filter(|facts| facts.is_gateway).map(|facts| facts.identity.clone()).collect();
        identities.sort();
        identities.dedup();
        identities.into()
    }
}

/// A gateway is at the edge and believes the proxies that it is told of. A sidecar believes gateways; stock Istio's believes
/// everyone.
fn client_address(reader: &Reader<'_>, facts: &Facts) -> ClientAddress {
    if facts.is_gateway {
        let trusted_hops = reader.read(&MeshKey).trusted_proxies;
        return ClientAddress { forwarders: Forwarders::Nobody, trusted_hops };
    }
    let forwarders = if reader.options().profile == Profile::Heddle {
        let gateways = reader.read(&ForwardersKey);
        if gateways.is_empty() {
            Forwarders::Nobody
        } else {
            Forwarders::Identities(gateways.to_vec())
        }
    } else {
        Forwarders::Everyone
    };
    ClientAddress { forwarders, trusted_hops: 0 }
}

fn authorization(reader: &Reader<'_>, facts: &Facts) -> Authorization {
    let root = reader.read(&MeshKey).root_namespace.clone();
    let mut namespaces = vec![root];
    if !namespaces.contains(&facts.namespace) {
        namespaces.push(facts.namespace.clone());
    }
    let mut policies = Vec::new();
    for namespace in namespaces {
        for object in reader.objects(Topic::KindIn(Kind::AuthorizationPolicy, namespace)) {
            let key = ObjectKey::of(&object);
            let AnyObject::AuthorizationPolicy(policy) = object else { continue };
            if authorization_policy::applies(reader, &policy, facts) {
                policies.extend(reader.read(&PolicyKey(key)));
            }
        }
    }
    let mut systems = Vec::new();
    if !policies.is_empty() {
        systems.push(SystemPolicies::new(Fallback::Allow, policies));
    }
    // Each must allow; a system that says nothing about the workload is not there (API.md 11.1 row 5).
    systems.extend(linkerd::policy::systems(reader, facts));
    systems.extend(smi::traffic_target::system(reader, facts));
    systems.extend(network::system(reader, facts, Direction::Ingress));
    let authorizers = authorizers(reader, &systems);
    Authorization { systems, authorizers }
}

/// The authorisers that policies name and the mesh configuration knows. Stock Istio lets a workload have one; with several
/// it denies what would be asked about.
fn authorizers(reader: &Reader<'_>, systems: &[SystemPolicies]) -> Vec<Arc<ExternalAuthorizer>> {
    let policies = systems.iter().flat_map(|system| &system.policies);
    let mut names: Vec<&Arc<str>> =
        policies.filter_map(|policy| policy.authorizer.as_ref()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() || (names.len() > 1 && reader.options().profile != Profile::Heddle) {
        return Vec::new();
    }
    let mesh = reader.read(&MeshKey);
    let is_named = |authorizer: &&Arc<ExternalAuthorizer>| names.contains(&&authorizer.name);
    mesh.authorizers.iter().filter(is_named).cloned().collect()
}
