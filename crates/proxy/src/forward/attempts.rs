//! One HTTP/1 request, tried at as many endpoints as its policy allows, until a response has been delivered or the
//! proxy answers itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use heddle_authz::Permit;
use heddle_balance::retry::{self, TryOutcome};
use heddle_balance::{EndpointState, Observation, Pick, Picked, Resource};
use heddle_http::exchange::{ExchangeError, Pump};
use heddle_ir::http_route::RetryPolicy;
use heddle_telemetry::{Reason, ResponseFlag, ResponseFlags};
use heddle_wire::http1::HeaderEdit;
use tokio::time::{Instant, sleep_until};

use crate::forward::answer::Answer;
use crate::forward::client::Client;
use crate::forward::exchange::{self, Asked, AttemptError, Delivered, Response};
use crate::snapshot::DestinationState;
use crate::upstream::{
    self, LimitToken, PooledConnection, Target, UpstreamEndpoint, UpstreamError, UpstreamProtocol,
};
use crate::worker::Worker;

/// What is decided about a request that goes on.
pub(crate) struct Decided<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) state: &'a Arc<DestinationState>,
    pub(crate) permit: &'a Permit,
    pub(crate) retry: &'a RetryPolicy,
    /// What stands for [`Picked::OriginalDestination`].
    pub(crate) original: Target,
    /// For consistent hashing.
    pub(crate) hash: Option<u64>,
    /// When the whole request is given up.
    pub(crate) due: Option<Instant>,
    /// The method is idempotent (RFC 9110 section 9.2.2), so that a connection that had been closed by the time the
    /// request came may be replaced without asking the policy.
    pub(crate) idempotent: bool,
}

/// How a request ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The destination that it was to go to.
    pub(crate) state: Option<Arc<DestinationState>>,
    /// Where it went last.
    pub(crate) target: Option<Target>,
    /// What the thread keeps about that.
    pub(crate) endpoint: Option<Rc<UpstreamEndpoint>>,
    /// Status that the client got; 0: none.
    pub(crate) status: u16,
    pub(crate) flags: ResponseFlags,
    pub(crate) response_bytes: u64,
    pub(crate) mutual_tls: bool,
    pub(crate) next: Next,
}

/// What becomes of the client's connection.
#[derive(Debug, Default)]
pub(crate) enum Next {
    /// It is closed.
    #[default]
    Close,
    /// It takes another request.
    Continue,
    /// The proxy answers, if nothing of a response has been sent.
    Answer(Answer),
    /// Bytes are copied both ways from now on.
    Tunnel(Box<PooledConnection>),
}

struct Tries<'a> {
    decided: &'a Decided<'a>,
    tried: Vec<Arc<EndpointState>>,
    retries: u32,
    replaced_stale: bool,
    retry_token: Option<LimitToken>,
}

/// One try that got a connection.
struct Attempt {
    endpoint: Rc<UpstreamEndpoint>,
    upstream: PooledConnection,
    outcome: Result<Response, Failure>,
}

/// Why a try gave no response.
enum Failure {
    Attempt(AttemptError),
    /// Its own time was over, or that of the whole request.
    Timeout,
    Upstream(UpstreamError),
}

/// Sends the request and delivers the response with these changes.
pub(crate) async fn run<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    decided: &Decided<'_>,
    asked: Asked,
    edits: impl Fn() -> I,
    pump: &mut Pump,
    client: &mut Client,
) -> Ended {
    let mut ended = Ended { state: Some(decided.state.clone()), ..Ended::default() };
    let Ok(_request) = LimitToken::acquire(decided.state, Resource::Requests) else {
        return ended.answer(Answer::overflow());
    };
    let mut tries =
        Tries { decided, tried: Vec::new(), retries: 0, replaced_stale: false, retry_token: None };
    loop {
        let Some(target) = pick(decided, &tries.tried) else {
            return ended.answer(Answer::no_healthy_upstream());
        };
        let active = match &target {
            Target::Endpoint(_, state) => Some(state.begin()),
            Target::Address(_) | Target::Application(_) => None,
        };
        ended.target = Some(target.clone());
        let attempt = tries.attempt(&target, asked, pump, client).await;
        let (endpoint, mut upstream, outcome) = match attempt {
            Ok(Attempt { endpoint, upstream, outcome }) => (endpoint, Some(upstream), outcome),
            Err(failure) => match tries.after_failure(&target, &failure, false, pump).await {
                Some(answer) => return ended.give_up(&tries, answer),
                None => continue,
            },
        };
        ended.mutual_tls = endpoint.is_mutual_tls();
        ended.endpoint = Some(endpoint.clone());
        let mut response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                if let Failure::Attempt(AttemptError::Exchange(
                    ExchangeError::Client(_) | ExchangeError::ClientGone,
                )) = &failure
                {
                    ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
                    return ended;
                }
                let reused = upstream.as_ref().is_some_and(PooledConnection::is_reused);
                drop(upstream);
                match tries.after_failure(&target, &failure, reused, pump).await {
                    Some(answer) => return ended.give_up(&tries, answer),
                    None => continue,
                }
            }
        };
        let Some(server) = upstream.as_mut() else { return ended };
        let head = response.head(&server.connection);
        let status = head.status();
        let seen = TryOutcome::Response {
            status,
            grpc_status: grpc_status(head.values("grpc-status").next()),
            rate_limited: head.values("x-envoy-ratelimited").next().is_some(),
        };
        tries.observe(&target, Observation::Response(status));
        if tries.retries_after(&target, seen, pump) {
            drop(upstream);
            tries.pause().await;
            continue;
        }
        ended.status = status;
        if status == 101 && !asked.upgrade {
            return ended.answer(Answer::upstream_protocol_error());
        }
        let asked = Asked { keep_alive: asked.keep_alive && !client.is_draining(), ..asked };
        let delivering = exchange::deliver(
            &mut response,
            asked,
            &edits,
            pump,
            &mut client.connection,
            &mut server.connection,
        );
        let delivered = within(decided.due, delivering).await;
        drop(active);
        return ended.finish(&delivered, decided, &endpoint, upstream);
    }
}

impl Ended {
    pub(crate) fn answer(mut self, answer: Answer) -> Self {
        self.status = answer.status;
        if let Some(flag) = answer.reason.and_then(Reason::flag) {
            self.flags = self.flags.with(flag);
        }
        self.next = Next::Answer(answer);
        self
    }

    fn give_up(mut self, tries: &Tries<'_>, answer: Answer) -> Self {
        if tries.are_exhausted() {
            self.flags = self.flags.with(ResponseFlag::UpstreamRetryLimitExceeded);
        }
        self.answer(answer)
    }

    fn finish(
        mut self,
        delivered: &Result<Result<Delivered, heddle_http::exchange::ResponseError>, TimeIsUp>,
        decided: &Decided<'_>,
        endpoint: &UpstreamEndpoint,
        upstream: Option<PooledConnection>,
    ) -> Self {
        use heddle_http::exchange::ResponseError;
        let delivered = match delivered {
            Ok(Ok(delivered)) => delivered,
            Ok(Err(ResponseError::Client(_))) => {
                self.flags = self.flags.with(ResponseFlag::DownstreamConnectionTermination);
                return self;
            }
            Ok(Err(ResponseError::Server(_))) => {
                self.flags = self.flags.with(ResponseFlag::UpstreamConnectionTermination);
                return self;
            }
            Err(TimeIsUp) => {
                self.flags = self.flags.with(ResponseFlag::UpstreamRequestTimeout);
                return self;
            }
        };
        self.response_bytes = delivered.bytes;
        let Some(upstream) = upstream else { return self };
        if delivered.switched {
            self.next = Next::Tunnel(Box::new(upstream));
            return self;
        }
        if delivered.server_reusable {
            upstream::put_back(decided.state, endpoint, upstream);
        }
        if delivered.client_reusable {
            self.next = Next::Continue;
        }
        self
    }
}

impl Tries<'_> {
    async fn attempt(
        &self,
        target: &Target,
        asked: Asked,
        pump: &mut Pump,
        client: &mut Client,
    ) -> Result<Attempt, Failure> {
        let Decided { worker, state, permit, .. } = *self.decided;
        let endpoint = upstream::endpoint_of(worker, state, target, UpstreamProtocol::Http1)
            .map_err(Failure::Upstream)?;
        let due = self.try_due();
        let connecting = upstream::connect_http1(worker, state, &endpoint, permit);
        let mut upstream = match within(due, connecting).await {
            Ok(upstream) => upstream.map_err(Failure::Upstream)?,
            Err(TimeIsUp) => return Err(Failure::Timeout),
        };
        self.observe(target, Observation::Connected);
        let limits = client.limits.head;
        let requesting = exchange::request(
            pump,
            &mut client.connection,
            &mut upstream.connection,
            &limits,
            asked.version,
        );
        let outcome = match within(due, requesting).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::Attempt(error)),
            Err(TimeIsUp) => Err(Failure::Timeout),
        };
        Ok(Attempt { endpoint, upstream, outcome })
    }

    /// When the present try is given up.
    fn try_due(&self) -> Option<Instant> {
        let own = self.decided.retry.per_try_timeout.map(|timeout| Instant::now() + timeout);
        match (own, self.decided.due) {
            (Some(own), Some(due)) => Some(own.min(due)),
            (own, due) => own.or(due),
        }
    }

    fn observe(&self, target: &Target, observation: Observation) {
        if let Target::Endpoint(_, state) = target {
            let now_ms = self.decided.worker.now_ms(Instant::now());
            self.decided.state.balancer.record(state, observation, now_ms);
        }
    }

    /// The proxy's answer; none: the request is to be tried again.
    async fn after_failure(
        &mut self,
        target: &Target,
        failure: &Failure,
        reused: bool,
        pump: &mut Pump,
    ) -> Option<Answer> {
        let (outcome, observation) = match failure {
            Failure::Attempt(AttemptError::Exchange(_)) => {
                let request_sent = !pump.is_unsent();
                (TryOutcome::Reset { request_sent }, Observation::ConnectFailure)
            }
            Failure::Attempt(AttemptError::Head(_) | AttemptError::TooManyInterim) => {
                (TryOutcome::Reset { request_sent: true }, Observation::Response(502))
            }
            Failure::Timeout => (TryOutcome::Timeout, Observation::Timeout),
            Failure::Upstream(UpstreamError::Overflow(_)) => return Some(Answer::overflow()),
            Failure::Upstream(_) => (TryOutcome::ConnectFailure, Observation::ConnectFailure),
        };
        // A kept connection may have been closed while the request was on its way to it. That says nothing about the
        // endpoint, and the request is safe to send anew where its method is.
        let was_closed = matches!(
            failure,
            Failure::Attempt(AttemptError::Exchange(
                ExchangeError::Server(_) | ExchangeError::ServerEnded
            ))
        );
        if was_closed && reused && self.decided.idempotent && !self.replaced_stale && pump.restart()
        {
            self.replaced_stale = true;
            return None;
        }
        self.observe(target, observation);
        if self.retries_after(target, outcome, pump) {
            self.pause().await;
            return None;
        }
        Some(Self::answer_to(failure))
    }

    fn answer_to(failure: &Failure) -> Answer {
        match failure {
            Failure::Attempt(AttemptError::Exchange(_)) => Answer::connection_terminated(),
            Failure::Attempt(AttemptError::Head(_) | AttemptError::TooManyInterim) => {
                Answer::upstream_protocol_error()
            }
            Failure::Timeout => Answer::upstream_timeout(),
            Failure::Upstream(UpstreamError::Overflow(_)) => Answer::overflow(),
            Failure::Upstream(UpstreamError::Resolve { .. }) => {
                Answer::no_healthy_upstream().because(Reason::NameResolution)
            }
            Failure::Upstream(
                UpstreamError::Handshake(_)
                | UpstreamError::Identity(_)
                | UpstreamError::NoIdentity,
            ) => Answer::connect_failure().because(Reason::PeerIdentity),
            Failure::Upstream(UpstreamError::Timeout(_)) => {
                Answer::connect_failure().because(Reason::ConnectTimeout)
            }
            Failure::Upstream(
                UpstreamError::Connect(_)
                | UpstreamError::Http2(_)
                | UpstreamError::Http2Refused
                | UpstreamError::Outside(_)
                | UpstreamError::TlsSettings(_),
            ) => Answer::connect_failure(),
        }
    }

    /// Whether every try that the policy allows was made.
    fn are_exhausted(&self) -> bool {
        self.retries > 0 && self.retries >= self.decided.retry.attempts
    }

    /// Whether the request is tried again after this outcome; if so it counts as a retry and begins anew.
    fn retries_after(&mut self, target: &Target, outcome: TryOutcome, pump: &mut Pump) -> bool {
        let Decided { retry, state, due, .. } = *self.decided;
        if self.retries >= retry.attempts
            || !retry::is_retriable(retry, outcome)
            || due.is_some_and(|due| due <= Instant::now())
        {
            return false;
        }
        let Ok(token) = LimitToken::acquire(state, Resource::Retries) else { return false };
        if !pump.restart() {
            return false;
        }
        // Dropping the one before gives its unit back.
        self.retry_token = Some(token);
        self.retries += 1;
        if let Target::Endpoint(_, tried) = target {
            self.tried.push(tried.clone());
        }
        true
    }

    async fn pause(&self) {
        let random = self.decided.worker.random();
        let pause = retry::backoff(self.decided.retry, self.retries, random);
        tokio::time::sleep(pause).await;
    }
}

/// Picks where a try goes.
pub(crate) fn pick(decided: &Decided<'_>, tried: &[Arc<EndpointState>]) -> Option<Target> {
    let now_ms = decided.worker.now_ms(Instant::now());
    let tried = if decided.retry.avoid_tried { tried } else { &[] };
    let random = decided.worker.random();
    let balancer = &decided.state.balancer;
    let other_tiers = decided.retry.other_localities;
    let hash = decided.hash;
    match balancer.pick(&Pick { hash, random, now_ms, tried, other_tiers, ..Pick::default() })? {
        Picked::OriginalDestination => Some(decided.original.clone()),
        Picked::Endpoint(place) => {
            let slot = balancer.slots().get(place)?;
            Some(Target::Endpoint(slot.endpoint.clone(), slot.state.clone()))
        }
    }
}

fn grpc_status(value: Option<&[u8]>) -> Option<u8> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// Something took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeIsUp;

/// The outcome of `future`, unless it takes until `due`. Without a limit it costs nothing.
pub(crate) async fn within<F: Future>(
    due: Option<Instant>,
    future: F,
) -> Result<F::Output, TimeIsUp> {
    let mut future = pin!(future);
    let mut timer = due.map(|due| Box::pin(sleep_until(due)));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Err(TimeIsUp)),
            None => Poll::Pending,
        }
    })
    .await
}
