//! What is told of a request or stream once it is over: Istio's standard metrics.
//!
//! Recorders are made once for a pair of workloads. The thread keeps them by pair; an endpoint and a client's connection
//! keep those they use, so that a request only adds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ident::{SpiffeId, WorkloadId};
use heddle_ir::destination::{Destination, DestinationId};
use heddle_ir::endpoint::Endpoint;
use heddle_ir::inbound::ServiceReference;
use heddle_ir::workload::Workload;
use heddle_telemetry::istio::{
    self, Protocol, Reporter, RequestRecorder, Route, Security, Service, StandardMetrics,
    TcpRecorder,
};

use crate::kept;
use crate::snapshot::Snapshot;

/// Recorders that a thread keeps; when there are more pairs than this it begins anew.
const RECORDERS_MAX: usize = 4096;

/// The recorders of a thread.
#[derive(Default)]
pub(crate) struct Recorders {
    metrics: Option<StandardMetrics>,
    requests: RefCell<HashMap<Pair, Arc<RequestRecorder>>>,
    streams: RefCell<HashMap<Pair, Arc<TcpRecorder>>>,
}

/// Between whom, as far as the labels of metrics tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Pair {
    /// From a peer to a port of the own workload. The peer's workload is there once it is known.
    Inbound {
        peer: Option<SpiffeId>,
        workload: Option<WorkloadId>,
        source: IpAddr,
        port: u16,
        grpc: bool,
    },
    /// To a workload behind a destination, or to none.
    Outbound {
        destination: Option<DestinationId>,
        workload: Option<WorkloadId>,
        mutual_tls: bool,
        grpc: bool,
    },
}

impl Pair {
    /// From a peer, as far as the snapshot knows its workload.
    pub(crate) fn inbound(
        snapshot: &Snapshot,
        peer: Option<&SpiffeId>,
        source: IpAddr,
        port: u16,
        grpc: bool,
    ) -> Self {
        let workload = workload_of(snapshot, peer, source).map(|workload| workload.id.clone());
        Self::Inbound { peer: peer.cloned(), workload, source, port, grpc }
    }
}

/// The workload at an address, if that is whose identity the peer has proven.
fn workload_of<'s>(
    snapshot: &'s Snapshot,
    peer: Option<&SpiffeId>,
    source: IpAddr,
) -> Option<&'s Arc<Workload>> {
    let known = snapshot.workloads.get(&source);
    known.filter(|workload| peer.is_none_or(|peer| workload.identity == *peer))
}

impl Recorders {
    pub(crate) fn new(metrics: Option<StandardMetrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// The recorder of requests between a pair, which `make` makes when the pair is new; none where metrics are off.
    pub(crate) fn requests(
        &self,
        pair: Pair,
        make: impl FnOnce(&StandardMetrics, RouteKind) -> Recorder,
    ) -> Option<Arc<RequestRecorder>> {
        let metrics = self.metrics.as_ref()?;
        let found = self.requests.borrow().get(&pair).cloned();
        if found.is_some() {
            return found;
        }
        let Recorder::Requests(recorder) = make(metrics, RouteKind::Requests) else { return None };
        keep(&self.requests, pair, recorder.clone());
        Some(recorder)
    }

    /// The recorder of streams between a pair; none where metrics are off.
    pub(crate) fn streams(
        &self,
        pair: Pair,
        make: impl FnOnce(&StandardMetrics, RouteKind) -> Recorder,
    ) -> Option<Arc<TcpRecorder>> {
        let metrics = self.metrics.as_ref()?;
        let found = self.streams.borrow().get(&pair).cloned();
        if found.is_some() {
            return found;
        }
        let Recorder::Streams(recorder) = make(metrics, RouteKind::Streams) else { return None };
        keep(&self.streams, pair, recorder.clone());
        Some(recorder)
    }
}

fn keep<R>(recorders: &RefCell<HashMap<Pair, R>>, pair: Pair, recorder: R) {
    kept::put(&mut recorders.borrow_mut(), RECORDERS_MAX, pair, recorder);
}

/// What a recorder is to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RouteKind {
    Requests,
    Streams,
}

/// A recorder of either kind.
pub(crate) enum Recorder {
    Requests(Arc<RequestRecorder>),
    Streams(Arc<TcpRecorder>),
}

fn recorder(metrics: &StandardMetrics, kind: RouteKind, route: &Route<'_>) -> Recorder {
    match kind {
        RouteKind::Requests => Recorder::Requests(metrics.requests(route)),
        RouteKind::Streams => Recorder::Streams(metrics.tcp(route)),
    }
}

fn protocol(kind: RouteKind, grpc: bool) -> Protocol {
    match (kind, grpc) {
        (RouteKind::Streams, _) => Protocol::Tcp,
        (RouteKind::Requests, true) => Protocol::Grpc,
        (RouteKind::Requests, false) => Protocol::Http,
    }
}

fn label<'a>(workload: &'a Workload, name: &str) -> &'a str {
    workload.labels.get(name).map_or("", |value| value)
}

fn labels_of(workload: &Workload, principal: &'_ str) -> WorkloadLabels {
    WorkloadLabels {
        name: workload.workload_name.to_string(),
        namespace: workload.namespace.to_string(),
        principal: principal.to_owned(),
        app: label(workload, "app").to_owned(),
        version: label(workload, "version").to_owned(),
        canonical_service: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        cluster: workload.cluster.as_str().to_owned(),
    }
}

/// Labels of one side, owned while a recorder is made.
#[derive(Default)]
struct WorkloadLabels {
    name: String,
    namespace: String,
    principal: String,
    app: String,
    version: String,
    canonical_service: String,
    canonical_revision: String,
    cluster: String,
}

impl WorkloadLabels {
    fn as_labels(&self) -> istio::Workload<'_> {
        istio::Workload {
            name: &self.name,
            namespace: &self.namespace,
            principal: &self.principal,
            app: &self.app,
            version: &self.version,
            canonical_service: &self.canonical_service,
            canonical_revision: &self.canonical_revision,
            cluster: &self.cluster,
        }
    }
}

fn own_labels(snapshot: &Snapshot, with_principal: bool) -> WorkloadLabels {
    snapshot.settings.as_ref().map_or_else(WorkloadLabels::default, |settings| {
        let workload = &settings.workload;
        let principal = if with_principal { workload.identity.to_string() } else { String::new() };
        labels_of(workload, &principal)
    })
}

/// The recorder of what goes to `endpoint` of `destination`; without a destination, to nowhere.
pub(crate) fn outbound(
    metrics: &StandardMetrics,
    kind: RouteKind,
    snapshot: &Snapshot,
    destination: Option<&Destination>,
    endpoint: Option<&Endpoint>,
    mutual_tls: bool,
    grpc: bool,
) -> Recorder {
    let source = own_labels(snapshot, mutual_tls);
    let target = endpoint.map_or_else(WorkloadLabels::default, |endpoint| {
        let identity = endpoint.identity.as_ref().filter(|_| mutual_tls);
        let text = |name: &str| endpoint.labels.get(name).map(ToString::to_string);
        WorkloadLabels {
            name: endpoint.workload_name.to_string(),
            namespace: endpoint.namespace.to_string(),
            principal: identity.map(ToString::to_string).unwrap_or_default(),
            app: text("app").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            canonical_service: endpoint.canonical_name.to_string(),
            canonical_revision: endpoint.canonical_revision.to_string(),
            cluster: source.cluster.clone(),
        }
    });
    let service = match destination {
        Some(destination) => Service {
            host: destination.id.host.as_str(),
            name: &destination.service_name,
            namespace: &destination.service_namespace,
        },
        None => Service { host: "", name: istio::BLACK_HOLE, namespace: "" },
    };
    let route = Route {
        reporter: Reporter::Source,
        source: source.as_labels(),
        destination: target.as_labels(),
        service,
        protocol: protocol(kind, grpc),
        security: Security::Unknown,
    };
    recorder(metrics, kind, &route)
}

/// The recorder of what comes from a peer to a port of the own workload. What is told of the peer's workload comes from
/// the control plane's record of its address, and only if that record has the identity that the peer has proven.
pub(crate) fn inbound(
    metrics: &StandardMetrics,
    kind: RouteKind,
    snapshot: &Snapshot,
    peer: Option<&SpiffeId>,
    source: IpAddr,
    services: &[ServiceReference],
    grpc: bool,
) -> Recorder {
    let known = workload_of(snapshot, peer, source);
    let principal = peer.map(ToString::to_string).unwrap_or_default();
    let source = known.map_or_else(
        || WorkloadLabels {
            namespace: peer.and_then(SpiffeId::namespace).unwrap_or_default().to_owned(),
            principal: principal.clone(),
            ..WorkloadLabels::default()
        },
        |workload| labels_of(workload, &principal),
    );
    let target = own_labels(snapshot, peer.is_some());
    let service = match services.first() {
        Some(service) => {
            Service { host: &service.host, name: &service.name, namespace: &service.namespace }
        }
        None => Service { host: "", name: istio::INBOUND_PASSTHROUGH, namespace: "" },
    };
    let route = Route {
        reporter: Reporter::Destination,
        source: source.as_labels(),
        destination: target.as_labels(),
        service,
        protocol: protocol(kind, grpc),
        security: if peer.is_some() { Security::MutualTls } else { Security::None },
    };
    recorder(metrics, kind, &route)
}

/// The services that lead to a port of the own workload.
pub(crate) fn services_on(snapshot: &Snapshot, port: u16) -> &[ServiceReference] {
    snapshot
        .inbound
        .as_ref()
        .and_then(|inbound| inbound.inbound().ports.iter().find(|own| own.port == port))
        .map_or(&[], |own| &own.services)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_recorders_are_kept() {
        let recorders = RefCell::default();
        for number in 0..=u32::try_from(RECORDERS_MAX).unwrap() {
            let source = IpAddr::from(std::net::Ipv4Addr::from(number));
            keep(&recorders, Pair::inbound(&Snapshot::default(), None, source, 80, false), ());
            assert!(recorders.borrow().len() <= RECORDERS_MAX);
        }
        assert_eq!(recorders.borrow().len(), 1);
    }
}
