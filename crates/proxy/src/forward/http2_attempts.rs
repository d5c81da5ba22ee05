//! One HTTP/2 request, tried at as many endpoints as its policy allows, until a response has been delivered or the
//! proxy answers itself.

mod upload;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use heddle_balance::retry::TryOutcome;
use heddle_balance::{Observation, Resource, grpc_as_http_status};
use heddle_telemetry::ResponseFlag;
use heddle_wire::grpc::MessageCounter;
use heddle_wire::http1::HeaderEdit;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Ended, Next, answer_to};
use crate::forward::either::{self, Attempt, RequestSink, ResponseBody};
use crate::forward::http2::{edit, is_grpc};
use crate::forward::retries::Retries;
use crate::forward::upgraded::{ClientSink, Responder};
use crate::forward::watch::{CutShort, Watch};
use crate::upstream::{self, LimitToken, Target, UpstreamError};

pub(crate) use upload::Upload;

/// How a direction of a stream broke.
pub(crate) enum Broken {
    Source(h2::Error),
    Sink,
}

/// Sends what waits, as the sink's window allows.
pub(crate) fn poll_send(
    cx: &mut Context<'_>,
    sink: &mut SendStream<Bytes>,
    waiting: &mut Option<Bytes>,
) -> Poll<Result<(), h2::Error>> {
    while let Some(piece) = waiting {
        sink.reserve_capacity(piece.len());
        if sink.capacity() == 0 {
            match ready!(sink.poll_capacity(cx)) {
                Some(capacity) => {
                    capacity?;
                    continue;
                }
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
        let count = sink.capacity().min(piece.len());
        let part = piece.split_to(count);
        if piece.is_empty() {
            *waiting = None;
        }
        sink.send_data(part, false)?;
    }
    Poll::Ready(Ok(()))
}

pub(super) fn reset(error: &h2::Error, sent: bool) -> Failure {
    Failure::Reset {
        refused: error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away() && !sent,
        sent,
    }
}

/// A response body on its way to the client.
struct Download {
    body: ResponseBody,
    waiting: Option<Bytes>,
    bytes: u64,
    /// All of it has come; its end is on its way.
    ended: bool,
    grpc_status: Option<u32>,
    /// The messages of a gRPC call.
    messages: Option<MessageCounter>,
    watch: Watch,
}

impl Download {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut ClientSink<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.ended {
                return sink.poll_end(cx, None);
            }
            if self.waiting.is_some() {
                ready!(sink.poll_piece(cx, &mut self.waiting))?;
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.bytes += piece.len() as u64;
                    self.messages.iter_mut().for_each(|messages| messages.take(&piece));
                    if let Some(progress) = self.watch.progress() {
                        progress.note();
                    }
                    self.waiting = Some(piece).filter(|piece| !piece.is_empty());
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(Broken::Source)?;
                    let code = trailers.as_ref().and_then(grpc_status);
                    self.grpc_status = code.or(self.grpc_status);
                    self.ended = true;
                    return sink.poll_end(cx, trailers);
                }
            }
        }
    }
}

pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Why a try gave no response.
pub(super) enum Failure {
    /// The client reset the stream or went away.
    Client,
    Reset {
        refused: bool,
        sent: bool,
    },
    CutShort(CutShort),
    Upstream(UpstreamError),
}

/// Sends the request and delivers the response with these changes. The gRPC status, where there is one, is the second
/// of the pair.
pub(crate) async fn run<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    decided: &Decided<'_>,
    request: &Request<()>,
    edits: impl Fn() -> I,
    upload: &mut Upload<'_>,
    respond: &mut Responder<'_>,
) -> (Ended, Option<u32>) {
    let mut ended = Ended { state: Some(decided.state.clone()), ..Ended::default() };
    let Ok(_request) = LimitToken::acquire(decided.state, Resource::Requests) else {
        return (ended.answer(Answer::overflow()), None);
    };
    upload.watch = Watch::new(decided.extra.timeouts);
    if let Some(copies) = decided.extra.copies {
        upload.copy_to(copies);
    }
    let mut tries = Tries { retries: Retries::new(decided) };
    loop {
        let Some(mut target) = tries.retries.pick() else {
            return (ended.answer(Answer::no_healthy_upstream()), None);
        };
        let _active = match &target {
            Target::Endpoint(_, state) => Some(state.begin()),
            Target::Address(_) | Target::Application(_) => None,
        };
        ended.target = Some(target.clone());
        let began = tries.retries.clock();
        let outcome = tries.attempt(&mut target, request, upload, respond, &mut ended).await;
        let (attempt, head, body) = match outcome {
            Ok(outcome) => outcome,
            Err(Failure::Client) => {
                ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
                return (ended, None);
            }
            Err(failure) => match tries.after_failure(&target, &failure, upload).await {
                Some(answer) => return (ended.give_up(&tries.retries, answer), None),
                None => continue,
            },
        };
        let status = head.status.as_u16();
        let in_head = grpc_status(&head.headers);
        let seen = TryOutcome::Response {
            status,
            grpc_status: in_head.and_then(|code| u8::try_from(code).ok()),
            rate_limited: head.headers.contains_key("x-envoy-ratelimited"),
        };
        // A gRPC response tells how it went at its end, unless it is nothing but its end.
        let tells_later = in_head.is_none() && status == 200 && is_grpc(request.headers());
        if !tells_later {
            let counted = seen_as_http(status, in_head);
            tries.retries.observe(&target, Observation::Response(counted));
        }
        tries.retries.observe_latency(&target, began);
        if tries.retries.admit(&target, seen, || upload.restart()) {
            tries.retries.pause().await;
            continue;
        }
        ended.note_overflow(&tries.retries);
        tries.retries.note_session(&target);
        upload.forget();
        ended.status = status;
        if let Some(log) = decided.extra.log {
            log.note_response(|name| head.headers.get(name).map(HeaderValue::as_bytes));
        }
        let mut response = Response::from_parts(head, ());
        for change in edits() {
            edit(response.headers_mut(), change);
        }
        let ends = body.is_end();
        let Ok(sink) = respond.send(response, ends) else {
            ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
            return (ended, in_head);
        };
        if ends {
            return (ended, in_head);
        }
        let watch = upload.watch.clone();
        let messages = upload.messages.map(|_| MessageCounter::default());
        let grpc_status = in_head;
        let (waiting, ended_body) = (None, false);
        let download =
            Download { body, waiting, bytes: 0, ended: ended_body, grpc_status, messages, watch };
        let delivered = deliver(decided, ended, attempt, upload, download, sink).await;
        if let (true, Some(code)) = (tells_later, delivered.1) {
            let counted = seen_as_http(status, Some(code));
            tries.retries.observe(&target, Observation::Response(counted));
        }
        return delivered;
    }
}

/// The HTTP status that outlier detection counts.
fn seen_as_http(status: u16, grpc: Option<u32>) -> u16 {
    match grpc.and_then(|code| u8::try_from(code).ok()) {
        Some(code) if status == 200 => grpc_as_http_status(code),
        _ => status,
    }
}

async fn deliver(
    decided: &Decided<'_>,
    mut ended: Ended,
    mut attempt: Attempt,
    upload: &mut Upload<'_>,
    mut download: Download,
    mut sink: ClientSink<'_>,
) -> (Ended, Option<u32>) {
    let (is_grpc, mut uploading) = (download.messages.is_some(), !upload.finished);
    let watch = upload.watch.clone();
    let delivering = poll_fn(|cx| {
        if uploading {
            // The response says more than an error on the way up.
            uploading = upload.poll(cx, &mut attempt.sink).is_pending();
        }
        if let Poll::Ready(outcome) = download.poll(cx, &mut sink) {
            return Poll::Ready(outcome);
        }
        sink.poll_gone(cx).map(|()| Err(Broken::Sink))
    });
    let outcome = watch.within(decided.extra.standing, decided.due, delivering).await;
    ended.response_bytes = download.bytes;
    upload.response_messages = download.messages.map_or(0, |messages| messages.count());
    let grpc = download.grpc_status;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(Broken::Sink)) => {
            attempt.sink.cancel();
            ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
        }
        Ok(Err(Broken::Source(error))) => {
            sink.reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
            ended.flags = ended.flags.with(ResponseFlag::UpstreamRemoteReset);
        }
        Err(why) => {
            if !(why == CutShort::Denied && is_grpc && tell_denied(&mut sink)) {
                sink.reset(Reason::CANCEL);
            }
            attempt.sink.cancel();
            ended.flags = ended.flags.with(why.flag());
            ended.reason = why.reason();
        }
    }
    ended.next = Next::Continue;
    (ended, grpc)
}

/// Ends a gRPC response that was cut off in the way that its client understands; false: it has ended already.
fn tell_denied(sink: &mut ClientSink<'_>) -> bool {
    let denied = Answer::denied();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(denied.grpc_code()).into());
    if let Ok(message) = HeaderValue::from_bytes(&denied.body) {
        trailers.insert("grpc-message", message);
    }
    sink.end_with(trailers)
}

struct Tries<'a> {
    retries: Retries<'a>,
}

impl Tries<'_> {
    async fn attempt(
        &self,
        target: &mut Target,
        request: &Request<()>,
        upload: &mut Upload<'_>,
        respond: &mut Responder<'_>,
        ended: &mut Ended,
    ) -> Result<(Attempt, http::response::Parts, ResponseBody), Failure> {
        let Decided { worker, state, leave, .. } = *self.retries.decided;
        let permit = leave.permit(worker, state, target).await.map_err(Failure::Upstream)?;
        let (retries, is_empty) = (&self.retries, upload.is_empty());
        let mut attempt = if retries.decided.extra.as_http1 {
            either::begin_http1(retries, target, &permit, request, is_empty, ended).await?
        } else {
            either::begin_http2(retries, target, &permit, request, is_empty, ended).await?
        };
        if upload.is_empty() {
            upload.finish();
        }
        let (extra, due) = (self.retries.decided.extra, self.retries.due());
        let watch = upload.watch.clone();
        let waiting = poll_fn(|cx| {
            if !upload.finished
                && let Poll::Ready(Err(Broken::Source(_))) = upload.poll(cx, &mut attempt.sink)
            {
                return Poll::Ready(Err(Failure::Client));
            }
            if let Poll::Ready(outcome) = attempt.response.poll(cx) {
                return Poll::Ready(outcome);
            }
            respond.poll_gone(cx).map(|()| Err(Failure::Client))
        });
        let outcome = watch.within(extra.standing, due, waiting).await;
        if let Some(progress) = watch.progress() {
            progress.note();
        }
        match outcome {
            Ok(Ok((head, body))) => Ok((attempt, head, body)),
            Ok(Err(failure)) => {
                attempt.sink.cancel();
                Err(failure)
            }
            Err(why) => {
                attempt.sink.cancel();
                Err(Failure::CutShort(why))
            }
        }
    }

    /// The proxy's answer; none: the request is to be tried again.
    async fn after_failure(
        &mut self,
        target: &Target,
        failure: &Failure,
        upload: &mut Upload<'_>,
    ) -> Option<Answer> {
        let (outcome, observation, answer) = match failure {
            Failure::Client => return Some(Answer::connection_terminated()),
            Failure::Reset { refused: true, .. } => {
                let answer = Answer::connection_terminated();
                (TryOutcome::RefusedStream, Observation::ConnectFailure, answer)
            }
            Failure::Reset { sent, .. } => {
                let outcome = TryOutcome::Reset { request_sent: *sent };
                (outcome, Observation::ConnectFailure, Answer::connection_terminated())
            }
            Failure::CutShort(CutShort::Denied) => return Some(Answer::denied()),
            Failure::CutShort(why) => (TryOutcome::Timeout, Observation::Timeout, why.answer()),
            Failure::Upstream(error @ UpstreamError::Overflow(_)) => {
                return Some(answer_to(self.retries.decided.worker, error));
            }
            // Neither says anything about the endpoint, and another one would fare no better.
            Failure::Upstream(
                error @ (UpstreamError::Denied(_) | UpstreamError::NotAdmitted(_)),
            ) => {
                let Decided { worker, state, .. } = *self.retries.decided;
                upstream::tell(worker, state, target, None, error);
                return Some(answer_to(self.retries.decided.worker, error));
            }
            Failure::Upstream(error) => {
                self.retries.tell(target, error);
                let answer = answer_to(self.retries.decided.worker, error);
                (TryOutcome::ConnectFailure, Observation::ConnectFailure, answer)
            }
        };
        let again = self.retries.after_failure(target, outcome, observation, || upload.restart());
        if again.await { None } else { Some(answer) }
    }
}
