//! One HTTP/1 request, tried at as many endpoints as its policy allows, until a response has been delivered or the
//! proxy answers itself.

use std::rc::Rc;
use std::sync::Arc;

use heddle_balance::retry::TryOutcome;
use heddle_balance::{Observation, Resource};
use heddle_http::exchange::{ExchangeError, Pump, PumpError};
use heddle_ir::http_route::{RetryPolicy, StreamTimeouts};
use heddle_ir::proxy::{ProxyRole, ProxySettings};
use heddle_telemetry::{Reason, ResponseFlag, ResponseFlags};
use heddle_wire::http1::HeaderEdit;
use tokio::time::Instant;

use crate::access_log::RequestLog;
use crate::egress::Leave;
use crate::forward::answer::Answer;
use crate::forward::client::Client;
use crate::forward::copies::Copies;
use crate::forward::exchange::{self, Asked, AttemptError, Delivered, Response};
use crate::forward::retries::Retries;
use crate::forward::watch::{CutShort, Standing, Watch, within};
use crate::outbound::Accepted;
use crate::outbound::session::RequestSession;
use crate::snapshot::DestinationState;
use crate::upstream::proof::Both;
use crate::upstream::{
    self, LimitToken, PooledConnection, Target, UpstreamEndpoint, UpstreamError, UpstreamProtocol,
};
use crate::worker::Worker;

/// What is decided about a request that goes on.
pub(crate) struct Decided<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) state: &'a Arc<DestinationState>,
    pub(crate) leave: Leave<'a>,
    pub(crate) retry: &'a RetryPolicy,
    /// What stands for [`heddle_balance::Picked::OriginalDestination`].
    pub(crate) original: Target,
    /// For consistent hashing.
    pub(crate) hash: Option<u64>,
    /// When the whole request is given up.
    pub(crate) due: Option<Instant>,
    /// The method is idempotent (RFC 9110 section 9.2.2), so that a connection that had been closed by the time the
    /// request came may be replaced without asking the policy.
    pub(crate) idempotent: bool,
    /// What few rules ask for.
    pub(crate) extra: Extra<'a>,
}

/// What few rules ask for besides.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extra<'a> {
    /// Bounds on the stream; none: no bounds.
    pub(crate) timeouts: Option<&'a StreamTimeouts>,
    /// The client's session.
    pub(crate) session: Option<&'a RequestSession<'a>>,
    /// Copies that go elsewhere.
    pub(crate) copies: Option<&'a Rc<Copies>>,
    /// Whom endpoints are told of that ask for it; none: nobody.
    pub(crate) client: Option<&'a Accepted>,
    /// Its line in the access log; none: none is written.
    pub(crate) log: Option<&'a RequestLog>,
    /// What tells that it is newly denied; none: nothing that is decided again let it through.
    pub(crate) standing: Option<&'a dyn Standing>,
    /// A request of HTTP/2 goes on as HTTP/1.
    pub(crate) as_http1: bool,
    /// A request of HTTP/1 goes on as HTTP/2.
    pub(crate) as_http2: bool,
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
    /// Why it did not end well; none: it did, as far as this proxy can tell.
    pub(crate) reason: Option<Reason>,
    pub(crate) next: Next,
}

/// What becomes of the client's connection.
#[derive(Debug, Default)]
pub(crate) enum Next {
    /// It is closed: the client has gone, or is not to be answered.
    #[default]
    Close,
    /// It ends after the response, which is complete.
    End,
    /// The response was begun and cannot be completed, which the client must not take for its end.
    Reset,
    /// It takes another request.
    Continue,
    /// The proxy answers, if nothing of a response has been sent.
    Answer(Answer),
    /// Bytes are copied both ways from now on.
    Tunnel(Box<PooledConnection>),
}

struct Tries<'a> {
    retries: Retries<'a>,
    replaced_stale: bool,
    watch: Watch,
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
    /// Its own time was over, or that of the whole request, or nothing moved, or it is newly denied.
    CutShort(CutShort),
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
    let watch = Watch::new(decided.extra.timeouts);
    if let Some(progress) = watch.progress() {
        pump.watch(progress, true);
    }
    let mut tries = Tries { retries: Retries::new(decided), replaced_stale: false, watch };
    loop {
        let Some(mut target) = tries.retries.pick() else {
            return ended.answer(Answer::no_healthy_upstream());
        };
        let active = match &target {
            Target::Endpoint(_, state) => Some(state.begin()),
            Target::Address(_) | Target::Application(_) => None,
        };
        ended.target = Some(target.clone());
        let began = tries.retries.clock();
        // Not by way of a variable of the whole result, which would be held next to its parts.
        let (endpoint, mut upstream, outcome) =
            match tries.attempt(&mut target, asked, pump, client).await {
                Ok(Attempt { endpoint, upstream, outcome }) => (endpoint, Some(upstream), outcome),
                Err(failure) => match tries.after_failure(&target, &failure, false, pump).await {
                    Some(answer) => return ended.give_up(&tries.retries, answer),
                    None => continue,
                },
            };
        ended.mutual_tls = endpoint.is_mutual_tls();
        ended.endpoint = Some(endpoint.clone());
        let mut response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                if let Failure::Attempt(AttemptError::Exchange(ExchangeError::Client(error))) =
                    &failure
                    && matches!(error, PumpError::Body(_))
                {
                    return ended.answer(Answer::bad_request(400));
                }
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
                    Some(answer) => return ended.give_up(&tries.retries, answer),
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
        tries.retries.observe(&target, Observation::Response(status));
        tries.retries.observe_latency(&target, began);
        if tries.retries.admit(&target, seen, || pump.restart()) {
            drop(upstream);
            tries.retries.pause().await;
            continue;
        }
        ended.note_overflow(&tries.retries);
        tries.retries.note_session(&target);
        ended.status = status;
        if let Some(log) = decided.extra.log {
            log.note_response(|name| head.values(name).next());
        }
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
            tries.watch.progress(),
        );
        let both = Both(&decided.extra.standing, server.guard.proof());
        let delivered = tries.watch.within(Some(&both), decided.due, delivering).await;
        drop(active);
        return ended.finish(&delivered, decided, &endpoint, upstream);
    }
}

impl Ended {
    pub(crate) fn answer(mut self, answer: Answer) -> Self {
        self.status = answer.status;
        self.reason = answer.reason;
        if let Some(flag) = answer.reason.and_then(Reason::flag) {
            self.flags = self.flags.with(flag);
        }
        self.next = Next::Answer(answer);
        self
    }

    pub(crate) fn give_up(mut self, retries: &Retries<'_>, answer: Answer) -> Self {
        if retries.are_exhausted() {
            self.flags = self.flags.with(ResponseFlag::UpstreamRetryLimitExceeded);
        }
        self.note_overflow(retries);
        self.answer(answer)
    }

    /// Envoy marks a response that would have been tried again as one that a circuit breaker has stopped.
    pub(crate) fn note_overflow(&mut self, retries: &Retries<'_>) {
        if retries.have_overflowed() {
            self.flags = self.flags.with(ResponseFlag::UpstreamOverflow);
        }
    }

    fn finish(
        mut self,
        delivered: &Result<Result<Delivered, heddle_http::exchange::ResponseError>, CutShort>,
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
                self.next = Next::Reset;
                return self;
            }
            Err(why) => {
                self.flags = self.flags.with(why.flag());
                self.reason = why.reason();
                self.next = Next::Reset;
                return self;
            }
        };
        self.response_bytes = delivered.bytes;
        if let Some(log) = decided.extra.log {
            log.note_head_bytes(delivered.head_bytes);
        }
        let Some(upstream) = upstream else { return self };
        if delivered.switched {
            self.next = Next::Tunnel(Box::new(upstream));
            return self;
        }
        if delivered.server_reusable {
            upstream::put_back(decided.state, endpoint, upstream);
        }
        self.next = if delivered.client_reusable { Next::Continue } else { Next::End };
        self
    }
}

impl Tries<'_> {
    async fn attempt(
        &self,
        target: &mut Target,
        asked: Asked,
        pump: &mut Pump,
        client: &mut Client,
    ) -> Result<Attempt, Failure> {
        let Decided { worker, state, leave, extra, .. } = *self.retries.decided;
        let permit = leave.permit(worker, state, target).await.map_err(Failure::Upstream)?;
        let endpoint =
            upstream::endpoint_for(worker, state, target, UpstreamProtocol::Http1, extra.client)
                .map_err(Failure::Upstream)?;
        let due = self.retries.due();
        let connecting = upstream::connect_http1(worker, state, &endpoint, &permit);
        let mut upstream = match within(extra.standing, due, connecting).await {
            Ok(upstream) => upstream.map_err(Failure::Upstream)?,
            Err(why) => return Err(Failure::CutShort(why)),
        };
        self.retries.observe(target, Observation::Connected);
        let limits = client.limits.head;
        let requesting = exchange::request(
            pump,
            &mut client.connection,
            &mut upstream.connection,
            &limits,
            asked.version,
        );
        let both = Both(&self.retries.decided.extra.standing, upstream.guard.proof());
        let outcome = match self.watch.within(Some(&both), due, requesting).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::Attempt(error)),
            Err(CutShort::Denied) if both.is_revoked() => {
                let proof = upstream.guard.proof();
                let expected = target.endpoint().and_then(|own| own.identity.as_ref());
                let error = proof.and_then(|proof| proof.error(expected));
                Err(error.map_or(Failure::CutShort(CutShort::Denied), Failure::Upstream))
            }
            Err(why) => Err(Failure::CutShort(why)),
        };
        if let Some(progress) = self.watch.progress() {
            progress.note();
        }
        Ok(Attempt { endpoint, upstream, outcome })
    }

    /// The proxy's answer; none: the request is to be tried again.
    async fn after_failure(
        &mut self,
        target: &Target,
        failure: &Failure,
        reused: bool,
        pump: &mut Pump,
    ) -> Option<Answer> {
        if let Failure::Upstream(error) = failure {
            self.retries.tell(target, error);
        }
        let (outcome, observation) = match failure {
            Failure::Attempt(AttemptError::Exchange(_)) => {
                let request_sent = !pump.is_unsent();
                (TryOutcome::Reset { request_sent }, Observation::ConnectFailure)
            }
            Failure::Attempt(AttemptError::Head(_) | AttemptError::TooManyInterim) => {
                (TryOutcome::Reset { request_sent: true }, Observation::Response(502))
            }
            Failure::CutShort(CutShort::Denied) => return Some(Answer::denied()),
            Failure::CutShort(_) => (TryOutcome::Timeout, Observation::Timeout),
            // None of these says anything about the endpoint, and another one would fare no better.
            Failure::Upstream(
                error @ (UpstreamError::Denied(_)
                | UpstreamError::NotAdmitted(_)
                | UpstreamError::Overflow(_)),
            ) => return Some(answer_to(self.retries.decided.worker, error)),
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
        let idempotent = self.retries.decided.idempotent;
        if was_closed && reused && idempotent && !self.replaced_stale && pump.restart() {
            self.replaced_stale = true;
            return None;
        }
        let again = self.retries.after_failure(target, outcome, observation, || pump.restart());
        if again.await {
            return None;
        }
        Some(Self::answer_to(self.retries.decided.worker, failure))
    }

    fn answer_to(worker: &Worker, failure: &Failure) -> Answer {
        match failure {
            Failure::Attempt(AttemptError::Exchange(_)) => Answer::connection_terminated(),
            Failure::Attempt(AttemptError::Head(_) | AttemptError::TooManyInterim) => {
                Answer::upstream_protocol_error()
            }
            Failure::CutShort(why) => why.answer(),
            Failure::Upstream(error) => answer_to(worker, error),
        }
    }
}

/// What a client is answered when no connection to an endpoint could be had.
pub(crate) fn answer_to(worker: &Worker, error: &UpstreamError) -> Answer {
    let reason = upstream::reason_of(error);
    match reason {
        Reason::AuthorizationDenied => Answer::denied(),
        Reason::CircuitOverflow => Answer::overflow(),
        Reason::DestinationUnknown => Answer::no_destination(),
        Reason::NameResolution => Answer::no_healthy_upstream().because(reason),
        _ => {
            let answer = Answer::connect_failure().because(reason);
            let snapshot = worker.shared.configuration.snapshot();
            let is_inside = |own: &ProxySettings| own.role == ProxyRole::Sidecar;
            match upstream::refusal_of(error) {
                // Clients of a gateway learn nothing of the inside.
                Some(refusal) if snapshot.settings.as_deref().is_some_and(is_inside) => {
                    answer.about_peer(&refusal)
                }
                _ => answer,
            }
        }
    }
}

fn grpc_status(value: Option<&[u8]>) -> Option<u8> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}
