//! Istio's standard metrics from the records of requests and streams.
//!
//! The labels of a route between two workloads are resolved once and kept; counting a request then finds them by the
//! addresses of the shared values it was decided with. What is kept is bounded, and holds those values alive, so that
//! an address never stands for another value.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use heddle_ident::SpiffeId;
use heddle_ir::destination::Destination;
use heddle_ir::endpoint::Endpoint;
use heddle_ir::resource::ResourceName;
use heddle_ir::workload::Workload;
use heddle_telemetry::istio::{
    self, Protocol, Reporter, RequestOutcome, RequestRecorder, Route, Security, Service,
    StandardMetrics, TcpRecorder,
};
use heddle_telemetry::metrics::Registry;
use heddle_telemetry::{ResponseFlag, ResponseFlags};

use crate::configuration::{Configuration, Demand};
use crate::record::{
    Direction, Flags, Parties, Recorder, RequestProtocol, RequestRecord, StreamRecord,
};
use crate::snapshot::Snapshot;

/// Routes between workloads that are kept; when there are more, all are resolved anew.
const ROUTES_MAX: usize = 4096;

/// What tells routes apart: addresses of values that the entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct RouteKey {
    direction: Direction,
    protocol: RouteProtocol,
    mutual_tls: bool,
    destination: usize,
    endpoint: usize,
    /// Inbound: who called, and on which port.
    client: Option<IpAddr>,
    port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum RouteProtocol {
    Grpc,
    Http,
    Tcp,
}

/// A resolved route, and the values whose addresses name it.
#[derive(Clone)]
struct Entry {
    requests: Option<Arc<RequestRecorder>>,
    streams: Option<Arc<TcpRecorder>>,
    _destination: Option<Arc<Destination>>,
    _endpoint: Option<Arc<Endpoint>>,
    /// Inbound, the caller's identity as it was when the route was resolved: another caller at the same address
    /// is another route.
    peer: Option<SpiffeId>,
}

/// Counts into a registry.
pub struct MetricsRecorder {
    metrics: StandardMetrics,
    configuration: Configuration,
    demand: Arc<dyn Demand>,
    routes: Mutex<HashMap<RouteKey, Entry>>,
}

impl MetricsRecorder {
    /// A recorder that asks `configuration` who is who, and asks `demand` for callers it does not know.
    pub fn new(registry: &Registry, configuration: Configuration, demand: Arc<dyn Demand>) -> Self {
        let metrics = StandardMetrics::new(registry);
        Self { metrics, configuration, demand, routes: Mutex::default() }
    }

    /// The route of a record, resolved before or now.
    fn route(&self, parties: &Parties<'_>, protocol: RouteProtocol) -> Entry {
        let address_of = |value: Option<usize>| value.unwrap_or(0);
        let inbound = parties.direction == Direction::Inbound;
        let key = RouteKey {
            direction: parties.direction,
            protocol,
            mutual_tls: parties.mutual_tls,
            destination: address_of(parties.destination.map(|value| Arc::as_ptr(value) as usize)),
            endpoint: address_of(parties.endpoint.map(|value| Arc::as_ptr(value) as usize)),
            client: inbound.then(|| parties.client_address.ip()),
            port: if inbound { parties.destination_address.port() } else { 0 },
        };
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = routes.get(&key)
            && (!inbound || entry.peer.as_ref() == parties.peer)
        {
            return entry.clone();
        }
        let (entry, final_answer) = self.resolve(parties, protocol);
        if final_answer {
            if routes.len() >= ROUTES_MAX {
                routes.clear();
            }
            routes.insert(key, entry.clone());
        }
        entry
    }

    /// Makes the entry of a route; false when a later record may know more.
    fn resolve(&self, parties: &Parties<'_>, protocol: RouteProtocol) -> (Entry, bool) {
        let snapshot = self.configuration.snapshot();
        let (route_protocol, streams) = match protocol {
            RouteProtocol::Grpc => (Protocol::Grpc, false),
            RouteProtocol::Http => (Protocol::Http, false),
            RouteProtocol::Tcp => (Protocol::Tcp, true),
        };
        let make = |route: &Route<'_>| Entry {
            requests: (!streams).then(|| self.metrics.requests(route)),
            streams: streams.then(|| self.metrics.tcp(route)),
            _destination: parties.destination.cloned(),
            _endpoint: parties.endpoint.cloned(),
            peer: parties.peer.cloned(),
        };
        let Some(settings) = &snapshot.settings else {
            return (make(&unknown(parties, route_protocol)), false);
        };
        let own = SideText::of(&settings.workload);
        match parties.direction {
            Direction::Inbound => self.resolve_inbound(parties, route_protocol, &snapshot, &own, make),
            Direction::Outbound => {
                let cluster = settings.workload.cluster.as_str();
                let called = parties
                    .endpoint
                    .map(|endpoint| SideText::of_endpoint(endpoint, cluster))
                    .unwrap_or_default();
                let secured = |principal| if parties.mutual_tls { principal } else { "" };
                let route = Route {
                    reporter: Reporter::Source,
                    source: own.side(secured(&own.principal)),
                    destination: called.side(secured(&called.principal)),
                    service: service_of(parties),
                    protocol: route_protocol,
                    security: Security::Unknown,
                };
                (make(&route), true)
            }
        }
    }

    fn resolve_inbound(
        &self,
        parties: &Parties<'_>,
        protocol: Protocol,
        snapshot: &Snapshot,
        own: &SideText,
        make: impl Fn(&Route<'_>) -> Entry,
    ) -> (Entry, bool) {
        let address = parties.client_address.ip().to_canonical();
        let caller = snapshot.workloads.get(&address);
        // A caller's labels come from the record that matches the identity it has proven, never from its address
        // alone once it has proven one.
        let known = caller.filter(|workload| {
            parties.peer.is_none_or(|identity| workload.identity == *identity)
        });
        let mut settled = known.is_some();
        if let (None, Some(settings)) = (caller, &snapshot.settings) {
            let name = ResourceName::Workload(settings.workload.network.clone(), address);
            settled = snapshot.absent.contains(&name);
            if !settled {
                self.demand.want(name);
            }
        }
        let principal = parties.peer.map(ToString::to_string).unwrap_or_default();
        let caller = known.map(|workload| SideText::of(workload)).unwrap_or_default();
        let port = parties.destination_address.port();
        let service = snapshot.inbound.as_ref().and_then(|compiled| {
            let port = compiled.inbound().ports.iter().find(|known| known.port == port)?;
            port.services.first()
        });
        let route = Route {
            reporter: Reporter::Destination,
            source: caller.side(&principal),
            destination: own.side(if parties.mutual_tls { &own.principal } else { "" }),
            service: service.map_or(
                Service { name: istio::INBOUND_PASSTHROUGH, ..Service::default() },
                |service| Service {
                    host: &service.host,
                    name: &service.name,
                    namespace: &service.namespace,
                },
            ),
            protocol,
            security: if parties.mutual_tls { Security::MutualTls } else { Security::None },
        };
        (make(&route), settled)
    }
}

impl Recorder for MetricsRecorder {
    fn request(&self, record: &RequestRecord<'_>) {
        let protocol = match record.protocol {
            RequestProtocol::Grpc => RouteProtocol::Grpc,
            RequestProtocol::Http1 | RequestProtocol::Http2 => RouteProtocol::Http,
        };
        if let Some(recorder) = self.route(&record.parties, protocol).requests {
            recorder.record(&RequestOutcome {
                response_code: record.status,
                flags: flags(record.flags),
                grpc_status: record.grpc_status,
                duration: record.duration,
                request_bytes: record.request_bytes,
                response_bytes: record.response_bytes,
            });
        }
    }

    fn stream_opened(&self, record: &StreamRecord<'_>) {
        if let Some(recorder) = self.route(&record.parties, RouteProtocol::Tcp).streams {
            recorder.record_opened();
        }
    }

    fn stream_closed(&self, record: &StreamRecord<'_>) {
        if let Some(recorder) = self.route(&record.parties, RouteProtocol::Tcp).streams {
            recorder.record_bytes(record.sent_bytes, record.received_bytes);
            recorder.record_closed(flags(record.flags));
        }
    }
}

/// The texts of one side of a route.
#[derive(Default)]
struct SideText {
    name: Arc<str>,
    namespace: Arc<str>,
    principal: String,
    app: Arc<str>,
    version: Arc<str>,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: String,
}

impl SideText {
    fn of(workload: &Workload) -> Self {
        let label = |name: &str| workload.labels.get(name).cloned().unwrap_or_default();
        Self {
            name: workload.workload_name.clone(),
            namespace: workload.namespace.clone(),
            principal: workload.identity.to_string(),
            app: label("app"),
            version: label("version"),
            canonical_service: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            cluster: workload.cluster.to_string(),
        }
    }

    fn of_endpoint(endpoint: &Endpoint, cluster: &str) -> Self {
        let label = |name: &str| endpoint.labels.get(name).cloned().unwrap_or_default();
        Self {
            name: endpoint.workload_name.clone(),
            namespace: endpoint.namespace.clone(),
            principal: endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            app: label("app"),
            version: label("version"),
            canonical_service: endpoint.canonical_name.clone(),
            canonical_revision: endpoint.canonical_revision.clone(),
            cluster: if endpoint.workload.is_some() { cluster.to_owned() } else { String::new() },
        }
    }

    fn side<'a>(&'a self, principal: &'a str) -> istio::Workload<'a> {
        istio::Workload {
            name: &self.name,
            namespace: &self.namespace,
            principal,
            app: &self.app,
            version: &self.version,
            canonical_service: &self.canonical_service,
            canonical_revision: &self.canonical_revision,
            cluster: &self.cluster,
        }
    }
}

fn unknown(parties: &Parties<'_>, protocol: Protocol) -> Route<'static> {
    Route {
        reporter: match parties.direction {
            Direction::Inbound => Reporter::Destination,
            Direction::Outbound => Reporter::Source,
        },
        source: istio::Workload::default(),
        destination: istio::Workload::default(),
        service: Service::default(),
        protocol,
        security: Security::Unknown,
    }
}

/// The service that a record is about.
fn service_of<'a>(parties: &Parties<'a>) -> Service<'a> {
    match parties.destination {
        Some(destination) => Service {
            host: destination.id.host.as_str(),
            name: &destination.service_name,
            namespace: &destination.service_namespace,
        },
        None if parties.endpoint.is_some() => {
            Service { name: istio::PASSTHROUGH, ..Service::default() }
        }
        None => Service { name: istio::BLACK_HOLE, ..Service::default() },
    }
}

fn flags(flags: Flags) -> ResponseFlags {
    if flags.is_empty() {
        return ResponseFlags::NONE;
    }
    // Rare: a request on which something went wrong.
    let text = flags.to_string();
    text.split(',')
        .filter_map(ResponseFlag::parse)
        .fold(ResponseFlags::NONE, ResponseFlags::with)
}
