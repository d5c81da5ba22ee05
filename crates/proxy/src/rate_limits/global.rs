//! Limits that a service counts: what it is told of a request, and what becomes of its answer. The service is asked as
//! external authorisers are; where heddle counts itself, the control plane is, over the connection that configuration
//! comes on.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use heddle_ir::rate_limit::GlobalRateLimit;
use heddle_ir::request::RequestHead;
use heddle_proto::external_authorization::HeaderValue;
use heddle_proto::rate_limit_service::{
    Code, DescriptorEntry, DescriptorStatus, RateLimitDescriptor, RateLimitRequest,
    RateLimitResponse, SHOULD_RATE_LIMIT_PATH, UInt64Value, Unit,
};
use heddle_route::{CompiledDescriptors, Descriptor, DescriptorFacts};
use heddle_rpc::client::Connection;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::{Direction, LimitOutcome};

use super::refusal_headers;
use crate::admission::{Admitted, Change, Changes, View, is_of_message};
use crate::ask::{self, grpc};
use crate::forward::answer::Answer;
use crate::worker::Worker;

/// The connection to the control plane while there is one, for what data planes ask it beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct ControlPlane(Arc<arc_swap::ArcSwapOption<Connection>>);

impl ControlPlane {
    /// Another connection, or none any more.
    pub(crate) fn set(&self, connection: Option<Connection>) {
        self.0.store(connection.map(Arc::new));
    }
}

/// A limit that a service counts.
#[derive(Debug)]
pub(super) struct CompiledGlobal {
    limit: GlobalRateLimit,
    descriptors: CompiledDescriptors,
}

/// Why nobody has counted.
#[derive(Debug, thiserror::Error)]
enum CountError {
    /// The service has not answered.
    #[error(transparent)]
    Service(#[from] grpc::GrpcError),
    /// There is no control plane.
    #[error("there is no connection to the control plane, which counts")]
    NoControlPlane,
    /// The control plane has answered with an error.
    #[error("the control plane answers: {0}")]
    ControlPlane(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

impl CompiledGlobal {
    pub(super) fn compile(limit: &GlobalRateLimit, problems: &mut Vec<String>) -> Self {
        let (descriptors, found) = CompiledDescriptors::compile(limit);
        problems.extend(found.iter().map(|found| format!("{}: {found}", limit.origin)));
        Self { limit: limit.clone(), descriptors }
    }

    pub(super) fn needs_route(&self) -> bool {
        self.descriptors.needs_route()
    }

    /// Has a request counted. What is told to client and upstream is added to its changes; the error is what the client
    /// gets instead.
    pub(super) async fn check(
        &self,
        worker: &Rc<Worker>,
        head: &impl RequestHead,
        facts: DescriptorFacts<'_>,
        direction: Direction,
        admitted: &mut Admitted,
    ) -> Result<(), Answer> {
        let limit = &self.limit;
        let none = Changes::default();
        let changes = admitted.changes.clone();
        let view = View { head, changes: changes.as_deref().unwrap_or(&none) };
        let descriptors = self.descriptors.of(&view, facts);
        if descriptors.is_empty() || !is_drawn(worker, limit.asked_ppm) {
            return Ok(());
        }
        let count = |outcome| {
            if let Some(metrics) = &worker.shared.mesh_metrics {
                metrics.record_limit(direction, &limit.domain, outcome);
            }
        };
        let response = match self.ask(worker, descriptors).await {
            Ok(response) => response,
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                worker.events.limiter(direction, &limit.domain, limit.fail_closed, &why);
                if !limit.fail_closed {
                    count(LimitOutcome::FailureAllowed);
                    return Ok(());
                }
                count(LimitOutcome::Error);
                return Err(Answer::text(limit.failure_status, Reason::RateLimitService, ""));
            }
        };
        let mut told = if limit.tells_limits { limits(&response.statuses) } else { Vec::new() };
        told.extend(response.response_headers_to_add.into_iter().filter_map(header));
        if response.overall_code == Code::OverLimit as i32 {
            count(LimitOutcome::OverLimit);
            if is_drawn(worker, limit.enforced_ppm) {
                return Err(refusal(limit, told, response.raw_body));
            }
        } else {
            count(LimitOutcome::Ok);
        }
        let asked: Vec<_> =
            response.request_headers_to_add.into_iter().filter_map(header).collect();
        if !told.is_empty() || !asked.is_empty() {
            let mut changes = changes.map(|own| Changes::clone(&own)).unwrap_or_default();
            let set = |(name, value): (String, String)| Change::Set(name, value.into_bytes());
            changes.response.extend(told.into_iter().map(set));
            changes.request.extend(asked.into_iter().map(set));
            admitted.changes = Some(Rc::new(changes));
        }
        Ok(())
    }

    async fn ask(
        &self,
        worker: &Rc<Worker>,
        descriptors: Vec<Descriptor>,
    ) -> Result<RateLimitResponse, CountError> {
        let limit = &self.limit;
        let request = RateLimitRequest {
            domain: limit.domain.to_string(),
            descriptors: descriptors.into_iter().map(descriptor).collect(),
            hits_addend: 0,
        };
        let Some(service) = &limit.service else {
            let connection = worker.shared.control_plane.0.load_full();
            let connection = connection.ok_or(CountError::NoControlPlane)?;
            let asked = connection.should_rate_limit(request);
            let answered = tokio::time::timeout(limit.timeout, asked).await;
            let answered = answered.map_err(|_| CountError::Timeout(limit.timeout))?;
            return answered
                .map_err(|status| CountError::ControlPlane(status.message().to_owned()));
        };
        let (host, port) = (&service.host, service.port);
        let call = async {
            let place = if service.in_mesh {
                ask::service(worker, host, port).await
            } else {
                ask::outside(worker, host, port, false)
            };
            let place = place.map_err(grpc::GrpcError::Ask)?;
            let (path, timeout) = (SHOULD_RATE_LIMIT_PATH, limit.timeout);
            grpc::call(worker, &place, host, path, &request, timeout).await
        };
        // Looking for the service may take longer than asking it.
        let answered = tokio::time::timeout(limit.timeout, Box::pin(call)).await;
        Ok(answered.map_err(|_| CountError::Timeout(limit.timeout))??)
    }
}

fn is_drawn(worker: &Worker, ppm: u32) -> bool {
    const ALL: u32 = 1_000_000;
    ppm >= ALL || worker.random() % u64::from(ALL) < u64::from(ppm)
}

fn descriptor(own: Descriptor) -> RateLimitDescriptor {
    let entry = |(key, value)| DescriptorEntry { key, value };
    RateLimitDescriptor {
        entries: own.entries.into_iter().map(entry).collect(),
        limit: None,
        hits_addend: own.hits.map(|value| UInt64Value { value: value.into() }),
    }
}

/// A header that the service asks for; none for one that frames the message.
fn header(own: HeaderValue) -> Option<(String, String)> {
    let name = own.key.to_ascii_lowercase();
    let value = if own.raw_value.is_empty() {
        own.value
    } else {
        String::from_utf8_lossy(&own.raw_value).into_owned()
    };
    let is_safe = value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control());
    (!is_of_message(&name) && !name.starts_with(':') && is_safe).then_some((name, value))
}

/// What clients are told of limits (draft-ietf-httpapi-ratelimit-headers-03, as Envoy writes it): the nearest, and all of
/// them.
fn limits(statuses: &[DescriptorStatus]) -> Vec<(String, String)> {
    let known = || statuses.iter().filter_map(|own| Some((own, own.current_limit.as_ref()?)));
    let Some((nearest, limit)) = known().min_by_key(|(own, _)| own.limit_remaining) else {
        return Vec::new();
    };
    let mut policies = limit.requests_per_unit.to_string();
    for (_, own) in known() {
        let seconds = match own.unit() {
            Unit::Unknown => continue,
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3600,
            Unit::Day => 86_400,
            Unit::Week => 7 * 86_400,
            Unit::Month => 30 * 86_400,
            Unit::Year => 365 * 86_400,
        };
        policies.push_str(&format!(", {};w={seconds}", own.requests_per_unit));
        if !own.name.is_empty() {
            let name: String =
                own.name.chars().filter(|letter| !"\"\\\r\n".contains(*letter)).collect();
            policies.push_str(&format!(";name=\"{name}\""));
        }
    }
    let reset = nearest.duration_until_reset.map_or(0, |reset| reset.seconds.max(0));
    vec![
        ("x-ratelimit-limit".to_owned(), policies),
        ("x-ratelimit-remaining".to_owned(), nearest.limit_remaining.to_string()),
        ("x-ratelimit-reset".to_owned(), reset.to_string()),
    ]
}

fn refusal(limit: &GlobalRateLimit, told: Vec<(String, String)>, body: Vec<u8>) -> Answer {
    let mut answer = Answer::text(limit.status, Reason::GlobalRateLimit, "");
    answer.body = Cow::Owned(body);
    answer.grpc_status = limit.resource_exhausted.then_some(8);
    if !limit.hides_refusals {
        answer.headers.push((Cow::Borrowed("x-envoy-ratelimited"), "true".to_owned()));
    }
    answer.headers.extend(told.into_iter().map(|(name, value)| (Cow::Owned(name), value)));
    refusal_headers(&mut answer, &limit.response_headers);
    answer
}

#[cfg(test)]
mod tests {
    use heddle_proto::rate_limit_service::{Duration, Limit};

    use super::*;

    fn status(requests: u32, unit: Unit, name: &str, remaining: u32) -> DescriptorStatus {
        DescriptorStatus {
            code: Code::Ok as i32,
            current_limit: Some(Limit {
                requests_per_unit: requests,
                unit: unit as i32,
                name: name.to_owned(),
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(Duration { seconds: i64::from(requests), nanos: 0 }),
        }
    }

    #[test]
    fn clients_are_told_of_the_nearest_limit_and_of_all() {
        let unlimited = DescriptorStatus { limit_remaining: 0, ..DescriptorStatus::default() };
        let statuses =
            [unlimited, status(10, Unit::Second, "per-ip", 7), status(1000, Unit::Hour, "", 3)];
        let told = limits(&statuses);
        let told: Vec<(&str, &str)> =
            told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("x-ratelimit-limit", "1000, 10;w=1;name=\"per-ip\", 1000;w=3600"),
            ("x-ratelimit-remaining", "3"),
            ("x-ratelimit-reset", "1000"),
        ];
        assert_eq!(told, expected);
        assert!(limits(&statuses[..1]).is_empty());
    }

    #[test]
    fn headers_of_the_service_do_not_frame_messages() {
        let of = |key: &str, value: &str| {
            let (key, value) = (key.to_owned(), value.to_owned());
            header(HeaderValue { key, value, raw_value: Vec::new() })
        };
        assert_eq!(of("X-Left", "3"), Some(("x-left".to_owned(), "3".to_owned())));
        for (name, value) in [("content-length", "0"), (":status", "200"), ("x", "a\r\nb: c")] {
            assert_eq!(of(name, value), None, "{name}");
        }
    }
}
