//! The proxy's own checks of endpoints that nobody else checks: machines of a WorkloadGroup with a probe. Everything that
//! leads to an endpoint learns of it. When they are due is decided in `balance`; only endpoints of destinations that are held are
//! checked, so that an idle proxy asks nobody.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_balance::health::{Checks, is_well};
use heddle_ident::Host;
use heddle_ir::endpoint::{Endpoint, EndpointAddress, HealthCheck, HealthProbe};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ask::grpc::{self, GrpcError};
use crate::ask::{self, AskError, Asking, Place};
use crate::snapshot::{DestinationState, Snapshot};
use crate::worker::Worker;

/// Results that wait to be taken in.
const RESULTS_MAX: usize = 64;
/// The longest answer that is read of a page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The method of `grpc.health.v1`.
const CHECK_PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Eq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// An endpoint as it is asked: whatever leads to it, it is asked once.
#[derive(Clone, Debug)]
struct Key {
    endpoint: Arc<Endpoint>,
    check: Arc<HealthCheck>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let of = |key: &Self| {
            let own = &key.endpoint;
            (own.address.clone(), own.identity.clone(), own.transport)
        };
        of(self) == of(other)
            && (Arc::ptr_eq(&self.check, &other.check) || self.check == other.check)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.endpoint.address.hash(state);
    }
}

/// Why an endpoint is not well.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("it does not serve: status {0} of grpc.health.v1")]
    NotServing(i32),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

type Outcome = (Key, Result<(), CheckError>);

/// Checks as long as the thread lives. One thread of a proxy does so for all.
pub async fn run(worker: Rc<Worker>) {
    let mut changes = worker.shared.configuration.changes();
    let mut driver = Driver::new(worker);
    let (results, mut outcomes) = mpsc::channel::<Outcome>(RESULTS_MAX);
    loop {
        changes.mark_unchanged();
        driver.follow();
        loop {
            let due = driver.begin(&results);
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                Some((key, result)) = outcomes.recv() => driver.take(&key, &result),
                () = wait => {}
            }
        }
    }
}

struct Driver {
    worker: Rc<Worker>,
    checks: Checks<Key>,
    /// Where each is asked, so that its connections are known from one check to the next.
    places: HashMap<Key, Arc<DestinationState>>,
}

impl Driver {
    fn new(worker: Rc<Worker>) -> Self {
        Self { worker, checks: Checks::default(), places: HashMap::new() }
    }

    fn now(&self) -> Duration {
        self.worker.age(Instant::now())
    }

    /// What is configured now is checked, and everything that leads there is told what is known.
    fn follow(&mut self) {
        let snapshot = self.worker.shared.configuration.snapshot();
        let mut wanted = Vec::new();
        each_slot(&snapshot, |_, slot| wanted.extend(key_of(&slot.endpoint)));
        let worker = self.worker.clone();
        let keys = wanted.into_iter().map(|key| {
            let check = key.check.clone();
            (key, check)
        });
        let now = self.now();
        self.checks.set(keys, now, || worker.random());
        let checks = &self.checks;
        self.places.retain(|key, _| checks.knows(key));
        self.tell(&snapshot, None);
    }

    /// Begins what is due, and says when the next is.
    fn begin(&mut self, results: &mpsc::Sender<Outcome>) -> Option<Instant> {
        for (key, check) in self.checks.begin(self.now()) {
            let place = self
                .places
                .entry(key.clone())
                .or_insert_with(|| ask::endpoint_state(&self.worker, &asked(&key)))
                .clone();
            let (worker, results) = (self.worker.clone(), results.clone());
            tokio::task::spawn_local(async move {
                let checking = Box::pin(check_once(&worker, place, &key, &check));
                let checked = tokio::time::timeout(check.timeout, checking).await;
                let checked = checked.unwrap_or(Err(CheckError::Timeout(check.timeout)));
                // Only the end of the thread closes it.
                let _ = results.send((key, checked)).await;
            });
        }
        let due = self.checks.next_due()?;
        Some(self.worker.shared.started + due)
    }

    fn take(&mut self, key: &Key, result: &Result<(), CheckError>) {
        let changed = self.checks.record(key, result.is_ok(), self.now());
        let Some(is_healthy) = changed else { return };
        let (endpoint, origin) = (&key.endpoint.address, &key.check.origin);
        if let Err(error) = result {
            let why = heddle_diag::error_chain(error);
            warn!(%endpoint, %origin, why, "the endpoint fails its health checks; it gets no requests");
        } else {
            info!(%endpoint, %origin, "the endpoint is well again");
        }
        let snapshot = self.worker.shared.configuration.snapshot();
        self.tell(&snapshot, Some((key, is_healthy)));
    }

    /// Tells everything that leads to an endpoint of its health; without one, of that of all.
    fn tell(&self, snapshot: &Snapshot, only: Option<(&Key, bool)>) {
        let now_ms = self.worker.now_ms(Instant::now());
        each_slot(snapshot, |state, slot| {
            let key = key_of(&slot.endpoint);
            let is_healthy = match (only, key) {
                (Some((wanted, is_healthy)), Some(key)) if *wanted == key => is_healthy,
                (Some(_), _) => return,
                (None, Some(key)) => self.checks.is_healthy(&key),
                // One that is not checked any more is as good as any.
                (None, None) => true,
            };
            state.balancer.set_checked(&slot.state, is_healthy, now_ms);
        });
    }
}

fn key_of(endpoint: &Arc<Endpoint>) -> Option<Key> {
    let check = endpoint.health_check.clone()?;
    Some(Key { endpoint: endpoint.clone(), check })
}

/// Every endpoint of every destination that is held.
fn each_slot(snapshot: &Snapshot, mut visit: impl FnMut(&DestinationState, &heddle_balance::Slot)) {
    let outbound = snapshot.outbounds.values().flat_map(|outbound| outbound.destinations.iter());
    let gateway = snapshot.gateway.iter().flat_map(|gateway| gateway.destinations.iter());
    for state in outbound.chain(gateway) {
        for slot in state.balancer.slots() {
            visit(state, slot);
        }
    }
}

/// The endpoint at the port that is asked.
fn asked(key: &Key) -> Endpoint {
    let mut endpoint = (*key.endpoint).clone();
    if let Some(port) = key.check.port {
        match &mut endpoint.address {
            EndpointAddress::Address(address) => address.set_port(port),
            EndpointAddress::Name(_, own) => *own = port,
        }
    }
    endpoint
}

async fn check_once(
    worker: &Rc<Worker>,
    state: Arc<DestinationState>,
    key: &Key,
    check: &HealthCheck,
) -> Result<(), CheckError> {
    let place = Place::of(worker, state)?;
    let host = match &key.endpoint.address {
        EndpointAddress::Address(address) => Host::of_address(address.ip()),
        EndpointAddress::Name(host, _) => host.clone(),
    };
    match &check.probe {
        HealthProbe::Tcp => Ok(ask::connect(worker, &place).await?),
        HealthProbe::Http { host: own, path, headers } => {
            let authority = if own.is_empty() { host.as_str() } else { own };
            let headers =
                headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            // Each check stands for itself, as the node's do.
            let close = ("connection".to_owned(), b"close".to_vec());
            let asking = Asking {
                method: "GET",
                target: path,
                authority,
                headers: headers.chain([close]).collect(),
                body: Bytes::new(),
                reply_bytes_max: PAGE_BYTES_MAX,
            };
            let reply = ask::over_http1(worker, &place, &asking, check.timeout).await?;
            if is_well(reply.status) { Ok(()) } else { Err(CheckError::Status(reply.status)) }
        }
        HealthProbe::Grpc { service } => {
            let request = HealthRequest { service: service.to_string() };
            let called = grpc::call(worker, &place, &host, CHECK_PATH, &request, check.timeout);
            let response: HealthResponse = called.await?;
            match response.status {
                SERVING => Ok(()),
                other => Err(CheckError::NotServing(other)),
            }
        }
    }
}
