//! The load generator: steady requests, and a count of every answer by what gave it.
//!
//! A request that gets no answer, or one of 500 and above, is a failure and is never repeated. Memory is
//! bounded: distinct answers are counted up to a limit, latencies in a histogram.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Connection, Endpoint, RequestError};

/// Distinct error texts kept; the rest is counted under `other`.
const ERRORS_MAX: usize = 16;
/// Latencies are counted in buckets of this width; what is slower than the last bucket falls into it.
const LATENCY_BUCKET: Duration = Duration::from_micros(5);
const LATENCY_BUCKETS: usize = 40_000;

/// What to send.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where.
    pub url: String,
    /// How.
    pub method: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// How many requests in all; none: until stopped.
    pub count: Option<u64>,
    /// How long; none: until `count` is reached.
    pub duration: Option<Duration>,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Requests per second over all connections; none: as fast as answers come.
    pub rate: Option<f64>,
    /// A new connection for every request.
    pub close: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Keep the body of the last answer.
    pub show_body: bool,
}

/// What came back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Requests that were sent.
    pub requests: u64,
    /// No answer, or 500 and above.
    pub failed: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by the service and version that gave them, from every service named in the answer.
    pub versions: BTreeMap<String, u64>,
    /// Answers by the replica that gave them.
    pub replicas: BTreeMap<String, u64>,
    /// What went wrong, with counts.
    pub errors: BTreeMap<String, u64>,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// 99th percentile of latency in microseconds.
    pub p99_us: u64,
    /// How long the run took in milliseconds.
    pub elapsed_ms: u64,
    /// The body of the last answer, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

struct Run {
    options: LoadOptions,
    endpoint: Endpoint,
    method: Method,
    started: Instant,
    sent: AtomicU64,
    tally: Mutex<(LoadSummary, Vec<u32>)>,
}

/// Sends until the count, the time or `stop`, whichever comes first. `each_second` sees the running summary.
pub async fn run(
    options: LoadOptions,
    stop: impl Future<Output = ()>,
    mut each_second: impl FnMut(&LoadSummary),
) -> Result<LoadSummary, RequestError> {
    let endpoint = Endpoint::parse(&options.url)?;
    let method = Method::from_bytes(options.method.as_bytes())
        .map_err(|error| RequestError::Request(error.into()))?;
    let run = Arc::new(Run {
        endpoint,
        method,
        started: Instant::now(),
        sent: AtomicU64::new(0),
        tally: Mutex::new((LoadSummary::default(), vec![0; LATENCY_BUCKETS])),
        options,
    });
    let mut workers = JoinSet::new();
    for worker in 0..run.options.connections.max(1) {
        workers.spawn(run.clone().work(worker));
    }
    tokio::pin!(stop);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await;
    loop {
        tokio::select! {
            next = workers.join_next() => if next.is_none() { break },
            _ = seconds.tick() => each_second(&run.summary()),
            () = &mut stop => {
                workers.shutdown().await;
                break;
            }
        }
    }
    Ok(run.summary())
}

impl Run {
    async fn work(self: Arc<Self>, worker: usize) {
        let connections = self.options.connections.max(1);
        let mut pace = self.options.rate.filter(|rate| *rate > 0.0).map(|rate| {
            #[expect(clippy::cast_precision_loss, reason = "a few hundred connections at the most")]
            let period = Duration::from_secs_f64(connections as f64 / rate);
            let phase = period.mul_f64(
                f64::from(u32::try_from(worker).unwrap_or(0))
                    / f64::from(u32::try_from(connections).unwrap_or(1)),
            );
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + phase, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let fresh = || Connection::new(self.endpoint.clone(), self.options.timeout);
        let mut connection = fresh();
        loop {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            if self.options.duration.is_some_and(|limit| self.started.elapsed() >= limit) {
                return;
            }
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            if self.options.count.is_some_and(|count| number >= count) {
                return;
            }
            if self.options.close {
                connection = fresh();
            }
            let begun = Instant::now();
            let answer = connection
                .request(
                    self.method.clone(),
                    &self.endpoint.path,
                    &self.options.headers,
                    Bytes::new(),
                )
                .await;
            self.record(&answer, begun.elapsed());
        }
    }

    fn record(&self, answer: &Result<Response<Bytes>, RequestError>, latency: Duration) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let (summary, latencies) = &mut *tally;
        summary.requests += 1;
        let bucket = latency.as_nanos() / LATENCY_BUCKET.as_nanos();
        let bucket = usize::try_from(bucket).unwrap_or(usize::MAX).min(LATENCY_BUCKETS - 1);
        if let Some(count) = latencies.get_mut(bucket) {
            *count += 1;
        }
        let problem = match answer {
            Ok(response) => {
                let status = response.status();
                *summary.statuses.entry(status.as_u16()).or_default() += 1;
                if self.options.show_body {
                    summary.body = Some(String::from_utf8_lossy(response.body()).into_owned());
                }
                if let Ok(body) = serde_json::from_slice::<Value>(response.body()) {
                    count_versions(&body, summary);
                }
                status.is_server_error().then(|| {
                    let body = String::from_utf8_lossy(response.body());
                    format!("{status}: {}", body.chars().take(200).collect::<String>())
                })
            }
            Err(error) => Some(heddle_diag::error_chain(error)),
        };
        if let Some(problem) = problem {
            summary.failed += 1;
            let known = summary.errors.len() < ERRORS_MAX || summary.errors.contains_key(&problem);
            let key = if known { problem } else { "other".to_owned() };
            *summary.errors.entry(key).or_default() += 1;
        }
    }

    fn summary(&self) -> LoadSummary {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = tally.0.clone();
        summary.p50_us = percentile(&tally.1, summary.requests, 50);
        summary.p99_us = percentile(&tally.1, summary.requests, 99);
        summary.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        summary
    }
}

/// Counts every `service`/`version`/`replica` in an answer, those of the services it asked included.
fn count_versions(body: &Value, summary: &mut LoadSummary) {
    let Value::Object(fields) = body else { return };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if let (Some(service), Some(version)) = (text("service"), text("version")) {
        *summary.versions.entry(format!("{service}-{version}")).or_default() += 1;
        if let Some(replica) = text("replica") {
            *summary.replicas.entry(replica.to_owned()).or_default() += 1;
        }
    }
    for value in fields.values() {
        count_versions(value, summary);
    }
}

fn percentile(latencies: &[u32], total: u64, percent: u64) -> u64 {
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (bucket, count) in latencies.iter().enumerate() {
        seen += u64::from(*count);
        if seen >= wanted && seen > 0 {
            let upper =
                LATENCY_BUCKET.saturating_mul(u32::try_from(bucket + 1).unwrap_or(u32::MAX));
            return u64::try_from(upper.as_micros()).unwrap_or(u64::MAX);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_upper_bounds_of_their_bucket() {
        let mut latencies = vec![0; 10];
        latencies[0] = 98;
        latencies[3] = 2;
        assert_eq!(percentile(&latencies, 100, 50), 5);
        assert_eq!(percentile(&latencies, 100, 98), 5);
        assert_eq!(percentile(&latencies, 100, 99), 20);
        assert_eq!(percentile(&[0; 10], 0, 50), 0);
    }

    #[test]
    fn every_service_named_in_an_answer_is_counted() {
        let mut summary = LoadSummary::default();
        let body = serde_json::json!({"service": "productpage", "version": "v1", "replica": "p-0",
            "reviews": {"service": "reviews", "version": "v2", "replica": "r-0", "stars": {"ratings": {"service": "ratings", "version": "v1", "replica": "s-0"}}}});
        count_versions(&body, &mut summary);
        let versions: Vec<_> = summary.versions.keys().map(String::as_str).collect();
        assert_eq!(versions, ["productpage-v1", "ratings-v1", "reviews-v2"]);
    }
}
