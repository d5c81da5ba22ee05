//! Recorders: a table from what a response varies in to the series that counts it.
//!
//! Reading the table is a load and a scan of few entries; a new combination replaces the table.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Protocol, Reporter, Route, Security};
use crate::flags::ResponseFlags;
use crate::metrics::{Counter, Group, Histogram, Series};

/// Combinations of status, flags and gRPC status that one recorder tells apart; upstreams choose statuses freely.
const OUTCOMES_MAX: usize = 64;
/// Labels of a route, without the varying ones.
const ROUTE_LABELS: usize = 21;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestOutcome {
    /// The response's status; 0 when the connection ended without one.
    pub response_code: u16,
    /// Response flags.
    pub flags: ResponseFlags,
    /// The gRPC status; none for what is not gRPC.
    pub grpc_status: Option<u32>,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// Bytes of the request, head included.
    pub request_bytes: u64,
    /// Bytes of the response, head included.
    pub response_bytes: u64,
    /// gRPC messages of the request and of the response; none for what is not gRPC.
    pub messages: Option<(u64, u64)>,
}

/// Records the requests of a route between two workloads.
#[derive(Debug)]
pub struct RequestRecorder {
    requests: Group,
    messages: Group,
    labels: RouteLabels,
    table: Table<RequestSeries>,
}

/// Records the connections to a destination between two workloads.
#[derive(Debug)]
pub struct TcpRecorder {
    group: Group,
    labels: RouteLabels,
    table: Table<TcpSeries>,
    /// What an open connection records into: no flags yet.
    open: TcpSeries,
}

#[derive(Debug, Clone)]
struct RequestSeries {
    total: Option<Counter>,
    duration: Option<Histogram>,
    request_bytes: Option<Histogram>,
    response_bytes: Option<Histogram>,
    /// Of a request and of a response that are gRPC.
    messages: [Option<Counter>; 2],
}

#[derive(Debug, Clone)]
struct TcpSeries {
    opened: Option<Counter>,
    closed: Option<Counter>,
    sent: Option<Counter>,
    received: Option<Counter>,
}

/// What a response varies in.
type OutcomeKey = (u16, u32, Option<u32>);

#[derive(Debug)]
struct Table<S> {
    entries: ArcSwap<Vec<(OutcomeKey, S)>>,
    /// Held while an entry is added.
    adding: Mutex<()>,
}

impl<S: Clone> Table<S> {
    fn new() -> Self {
        Self { entries: ArcSwap::default(), adding: Mutex::new(()) }
    }

    /// Calls `record` with the series of `key`, which `resolve` makes when it is new (given whether there is room
    /// for it).
    fn with(&self, key: OutcomeKey, resolve: impl FnOnce(bool) -> S, record: impl FnOnce(&S)) {
        if let Some((_, series)) = self.entries.load().iter().find(|(held, _)| *held == key) {
            return record(series);
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = self.entries.load_full();
        // Someone may have added it meanwhile.
        if let Some((_, series)) = entries.iter().find(|(held, _)| *held == key) {
            return record(series);
        }
        let has_room = entries.len() < OUTCOMES_MAX;
        let series = resolve(has_room);
        record(&series);
        if has_room {
            let mut entries = Vec::clone(&entries);
            entries.push((key, series));
            self.entries.store(Arc::new(entries));
        }
    }
}

impl RequestRecorder {
    pub(super) fn new(requests: Group, messages: Group, route: &Route<'_>) -> Self {
        Self { requests, messages, labels: RouteLabels::new(route), table: Table::new() }
    }

    /// Counts a request that has ended. Without a lock or an allocation, but for the first of its outcome.
    pub fn record(&self, outcome: &RequestOutcome) {
        let key = (outcome.response_code, outcome.flags.bits(), outcome.grpc_status);
        let resolve = |has_room| self.resolve(outcome, has_room);
        self.table.with(key, resolve, |series| {
            if let Some(total) = &series.total {
                total.increment();
            }
            let micros = u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX);
            observe(series.duration.as_ref(), micros);
            // Byte histograms count in thousandths, for the one bound that is half a byte.
            observe(series.request_bytes.as_ref(), outcome.request_bytes.saturating_mul(1_000));
            observe(series.response_bytes.as_ref(), outcome.response_bytes.saturating_mul(1_000));
            if let Some((requests, responses)) = outcome.messages {
                let [of_requests, of_responses] = &series.messages;
                for (counter, count) in [(of_requests, requests), (of_responses, responses)] {
                    if let Some(counter) = counter {
                        counter.add(count);
                    }
                }
            }
        });
    }

    fn resolve(&self, outcome: &RequestOutcome, has_room: bool) -> RequestSeries {
        let series = if has_room {
            self.labels.request_series(&self.requests, outcome)
        } else {
            self.requests.overflow()
        };
        let messages = outcome.messages.map(|_| {
            if has_room {
                self.labels.request_series(&self.messages, outcome)
            } else {
                self.messages.overflow()
            }
        });
        let messages = |metric| messages.as_ref().and_then(|series| series.counter(metric));
        RequestSeries {
            messages: [messages(0), messages(1)],
            total: series.counter(0),
            duration: series.histogram(1),
            request_bytes: series.histogram(2),
            response_bytes: series.histogram(3),
        }
    }
}

impl TcpRecorder {
    pub(super) fn new(group: Group, route: &Route<'_>) -> Self {
        let labels = RouteLabels::new(route);
        let open = TcpSeries::new(&labels.tcp_series(&group, ResponseFlags::NONE));
        Self { group, labels, table: Table::new(), open }
    }

    /// Counts a connection that has opened.
    pub fn record_opened(&self) {
        if let Some(opened) = &self.open.opened {
            opened.increment();
        }
    }

    /// Counts bytes since the last call: `sent` by the called side, `received` by it. Call it every few seconds
    /// for connections that last, and when one ends.
    pub fn record_bytes(&self, sent: u64, received: u64) {
        for (counter, bytes) in [(&self.open.sent, sent), (&self.open.received, received)] {
            if let Some(counter) = counter {
                counter.add(bytes);
            }
        }
    }

    /// Counts a connection that has closed.
    pub fn record_closed(&self, flags: ResponseFlags) {
        let resolve = |has_room| {
            TcpSeries::new(&if has_room {
                self.labels.tcp_series(&self.group, flags)
            } else {
                self.group.overflow()
            })
        };
        self.table.with((0, flags.bits(), None), resolve, |series| {
            if let Some(closed) = &series.closed {
                closed.increment();
            }
        });
    }
}

impl TcpSeries {
    fn new(series: &Arc<Series>) -> Self {
        Self {
            opened: series.counter(0),
            closed: series.counter(1),
            sent: series.counter(2),
            received: series.counter(3),
        }
    }
}

fn observe(histogram: Option<&Histogram>, value: u64) {
    if let Some(histogram) = histogram {
        histogram.observe(value);
    }
}

/// The labels of a route, in Istio's order up to `request_protocol`, and the security policy, which stands last.
#[derive(Debug)]
struct RouteLabels {
    values: [Box<str>; ROUTE_LABELS],
    security: &'static str,
}

impl RouteLabels {
    fn new(route: &Route<'_>) -> Self {
        let Route { source, destination, service, .. } = route;
        let known = |value: &str| -> Box<str> {
            if value.is_empty() { "unknown".into() } else { value.into() }
        };
        let revision = |value: &str| -> Box<str> {
            if value.is_empty() { "latest".into() } else { value.into() }
        };
        let values = [
            route.reporter.as_str().into(),
            known(source.name),
            known(source.canonical_service),
            revision(source.canonical_revision),
            known(source.namespace),
            known(source.principal),
            known(source.app),
            known(source.version),
            known(source.cluster),
            known(destination.name),
            known(destination.namespace),
            known(destination.principal),
            known(destination.app),
            known(destination.version),
            known(service.host),
            known(destination.canonical_service),
            revision(destination.canonical_revision),
            known(service.name),
            known(service.namespace),
            known(destination.cluster),
            Protocol::as_str(route.protocol).into(),
        ];
        let security = match route.reporter {
            Reporter::Source => Security::Unknown,
            Reporter::Destination | Reporter::Waypoint => route.security,
        };
        Self { values, security: security.as_str() }
    }

    fn request_series(&self, group: &Group, outcome: &RequestOutcome) -> Arc<Series> {
        let code = outcome.response_code.to_string();
        let grpc = match outcome.grpc_status {
            None => String::new(),
            Some(status @ 0..=16) => status.to_string(),
            // Statuses beyond those defined are the peer's invention.
            Some(_) => "unknown".to_owned(),
        };
        let flags = outcome.flags.to_string();
        self.series(group, &[&code, &grpc, &flags])
    }

    fn tcp_series(&self, group: &Group, flags: ResponseFlags) -> Arc<Series> {
        self.series(group, &[&flags.to_string()])
    }

    fn series(&self, group: &Group, varying: &[&str]) -> Arc<Series> {
        let mut values: Vec<&str> = self.values.iter().map(AsRef::as_ref).collect();
        values.extend_from_slice(varying);
        values.push(self.security);
        group.series(&values)
    }
}
