//! One HTTP/2 request, tried at as many endpoints as its policy allows, until a response has been delivered or the
//! proxy answers itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use heddle_balance::retry::TryOutcome;
use heddle_balance::{Observation, Resource, grpc_as_http_status};
use heddle_telemetry::ResponseFlag;
use heddle_wire::grpc::MessageCounter;
use heddle_wire::http1::HeaderEdit;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::admission::http2::Received;
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Ended, Next, answer_to};
use crate::forward::copies::{BODY_BYTES_MAX, Copies};
use crate::forward::http2::{edit, is_grpc};
use crate::forward::http2_client::{self, Place};
use crate::forward::retries::Retries;
use crate::forward::watch::{CutShort, Watch, within};
use crate::upstream::{self, LimitToken, Target, UpstreamError, UpstreamProtocol};

/// A request body on its way, and what has been kept of it for another try.
pub(crate) struct Upload {
    body: RecvStream,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keep_bytes_max: usize,
    /// Not all that was sent is kept.
    dropped: bool,
    /// All data have come.
    ended: Option<End>,
    /// What of `kept` the present try has sent.
    replayed: usize,
    /// A piece that waits for the sink's window.
    waiting: Option<Bytes>,
    finished: bool,
    pub(crate) bytes: u64,
    /// The messages of a gRPC call.
    pub(crate) messages: Option<MessageCounter>,
    /// Those of its response.
    pub(crate) response_messages: u64,
    watch: Watch,
    tee: Option<Tee>,
}

/// A body as it passed, for copies of its request.
struct Tee {
    copies: Rc<Copies>,
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// The end of a body.
enum End {
    Plain,
    Trailers(HeaderMap),
}

/// How a direction of a stream broke.
enum Broken {
    Source(h2::Error),
    Sink,
}

impl Upload {
    pub(crate) fn new(body: Received, keep_bytes_max: usize, is_grpc: bool) -> Self {
        let Received { stream: body, front } = body;
        let ended = body.is_end_stream().then_some(End::Plain);
        let front_bytes = front.iter().map(Bytes::len).sum();
        let mut messages = is_grpc.then(MessageCounter::default);
        if let Some(messages) = &mut messages {
            for piece in &front {
                messages.take(piece);
            }
        }
        Self {
            body,
            kept: front,
            kept_bytes: front_bytes,
            keep_bytes_max,
            dropped: false,
            ended,
            replayed: 0,
            waiting: None,
            finished: false,
            bytes: front_bytes as u64,
            messages,
            response_messages: 0,
            watch: Watch::default(),
            tee: None,
        }
    }

    /// Sends copies of the request once its body is known whole.
    fn copy_to(&mut self, copies: &Rc<Copies>) {
        self.tee = Some(Tee { copies: copies.clone(), pieces: Vec::new(), bytes: 0 });
        self.send_copies();
    }

    fn send_copies(&mut self) {
        let Some(end) = &self.ended else { return };
        let Some(tee) = self.tee.take() else { return };
        let trailers = match end {
            End::Plain => None,
            End::Trailers(trailers) => Some(trailers),
        };
        tee.copies.send(&tee.pieces, trailers);
    }

    fn note_piece(&mut self, piece: &Bytes) {
        let Some(tee) = &mut self.tee else { return };
        tee.bytes += piece.len();
        if tee.bytes > BODY_BYTES_MAX {
            self.tee = None;
        } else {
            tee.pieces.push(piece.clone());
        }
    }

    /// Whether there is no body at all.
    fn is_empty(&self) -> bool {
        matches!(self.ended, Some(End::Plain)) && self.kept.is_empty() && !self.dropped
    }

    fn restart(&mut self) -> bool {
        if !self.dropped {
            self.replayed = 0;
            self.waiting = None;
            self.finished = false;
            if let Some(progress) = self.watch.progress() {
                progress.restart();
            }
        }
        !self.dropped
    }

    fn finish(&mut self) {
        self.finished = true;
        if let Some(progress) = self.watch.progress() {
            progress.note();
            progress.note_request_end();
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.waiting.is_some() {
                ready!(poll_send(cx, sink, &mut self.waiting)).map_err(|_| Broken::Sink)?;
                continue;
            }
            if let Some(piece) = self.kept.get(self.replayed) {
                self.waiting = Some(piece.clone());
                self.replayed += 1;
                continue;
            }
            if let Some(end) = &self.ended {
                let sent = match end {
                    End::Trailers(trailers) => sink.send_trailers(trailers.clone()),
                    End::Plain => sink.send_data(Bytes::new(), true),
                };
                sent.map_err(|_| Broken::Sink)?;
                self.finish();
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    if let Some(progress) = self.watch.progress() {
                        progress.note();
                    }
                    // An empty piece only carried the end, for which no window is waited.
                    if !piece.is_empty() {
                        self.bytes += piece.len() as u64;
                        self.messages.iter_mut().for_each(|messages| messages.take(&piece));
                        self.keep(&piece);
                        self.note_piece(&piece);
                        self.waiting = Some(piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(Broken::Source)?;
                    self.ended = Some(trailers.map_or(End::Plain, End::Trailers));
                    self.send_copies();
                }
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes += piece.len();
        if self.dropped || self.kept_bytes > self.keep_bytes_max {
            self.dropped = true;
            self.kept = Vec::new();
            self.replayed = 0;
        } else {
            self.kept.push(piece.clone());
            self.replayed = self.kept.len();
        }
    }

    /// Keeps no more of it.
    fn forget(&mut self) {
        self.keep_bytes_max = 0;
    }
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

/// A response body on its way to the client.
struct Download {
    body: RecvStream,
    waiting: Option<Bytes>,
    bytes: u64,
    grpc_status: Option<u32>,
    /// The messages of a gRPC call.
    messages: Option<MessageCounter>,
    watch: Watch,
}

impl Download {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.waiting.is_some() {
                ready!(poll_send(cx, sink, &mut self.waiting)).map_err(|_| Broken::Sink)?;
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    let _ = self.body.flow_control().release_capacity(piece.len());
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
                    let sent = match trailers {
                        Some(trailers) => {
                            self.grpc_status = grpc_status(&trailers).or(self.grpc_status);
                            sink.send_trailers(trailers)
                        }
                        None => sink.send_data(Bytes::new(), true),
                    };
                    return Poll::Ready(sent.map_err(|_| Broken::Sink));
                }
            }
        }
    }
}

pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Why a try gave no response.
enum Failure {
    /// The client reset the stream or went away.
    Client,
    Reset {
        refused: bool,
        sent: bool,
    },
    CutShort(CutShort),
    Upstream(UpstreamError),
}

/// One try that is under way.
struct Attempt {
    _place: Place,
    sink: SendStream<Bytes>,
    response: ResponseFuture,
}

/// Sends the request and delivers the response with these changes. The gRPC status, where there is one, is the second
/// of the pair.
pub(crate) async fn run<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    decided: &Decided<'_>,
    request: &Request<()>,
    edits: impl Fn() -> I,
    upload: &mut Upload,
    respond: &mut SendResponse<Bytes>,
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
        let Some(target) = tries.retries.pick() else {
            return (ended.answer(Answer::no_healthy_upstream()), None);
        };
        let _active = match &target {
            Target::Endpoint(_, state) => Some(state.begin()),
            Target::Address(_) | Target::Application(_) => None,
        };
        ended.target = Some(target.clone());
        let began = tries.retries.clock();
        let outcome = tries.attempt(&target, request, upload, respond, &mut ended).await;
        let (attempt, response) = match outcome {
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
        let (head, body) = response.into_parts();
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
        let ends = body.is_end_stream();
        let Ok(sink) = respond.send_response(response, ends) else {
            ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
            return (ended, in_head);
        };
        if ends {
            return (ended, in_head);
        }
        let watch = upload.watch.clone();
        let messages = upload.messages.map(|_| MessageCounter::default());
        let grpc_status = in_head;
        let download = Download { body, waiting: None, bytes: 0, grpc_status, messages, watch };
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
    upload: &mut Upload,
    mut download: Download,
    mut sink: SendStream<Bytes>,
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
        sink.poll_reset(cx).map(|_| Err(Broken::Sink))
    });
    let outcome = watch.within(decided.extra.standing, decided.due, delivering).await;
    ended.response_bytes = download.bytes;
    upload.response_messages = download.messages.map_or(0, |messages| messages.count());
    let grpc = download.grpc_status;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(Broken::Sink)) => {
            attempt.sink.send_reset(Reason::CANCEL);
            ended.flags = ended.flags.with(ResponseFlag::DownstreamConnectionTermination);
        }
        Ok(Err(Broken::Source(error))) => {
            sink.send_reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
            ended.flags = ended.flags.with(ResponseFlag::UpstreamRemoteReset);
        }
        Err(why) => {
            if !(why == CutShort::Denied && is_grpc && tell_denied(&mut sink)) {
                sink.send_reset(Reason::CANCEL);
            }
            attempt.sink.send_reset(Reason::CANCEL);
            ended.flags = ended.flags.with(why.flag());
            ended.reason = why.reason();
        }
    }
    ended.next = Next::Continue;
    (ended, grpc)
}

/// Ends a gRPC response that was cut off in the way that its client understands; false: it has ended already.
fn tell_denied(sink: &mut SendStream<Bytes>) -> bool {
    let denied = Answer::denied();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(denied.grpc_code()).into());
    if let Ok(message) = HeaderValue::from_bytes(&denied.body) {
        trailers.insert("grpc-message", message);
    }
    sink.send_trailers(trailers).is_ok()
}

struct Tries<'a> {
    retries: Retries<'a>,
}

impl Tries<'_> {
    async fn attempt(
        &self,
        target: &Target,
        request: &Request<()>,
        upload: &mut Upload,
        respond: &mut SendResponse<Bytes>,
        ended: &mut Ended,
    ) -> Result<(Attempt, Response<RecvStream>), Failure> {
        let Decided { worker, state, permit, extra, .. } = *self.retries.decided;
        let endpoint =
            upstream::endpoint_for(worker, state, target, UpstreamProtocol::Http2, extra.client)
                .map_err(Failure::Upstream)?;
        ended.mutual_tls = endpoint.is_mutual_tls();
        ended.endpoint = Some(endpoint.clone());
        let due = self.retries.due();
        let connecting = http2_client::connect(worker, state, &endpoint, permit);
        let mut place = match within(extra.standing, due, connecting).await {
            Ok(place) => place.map_err(Failure::Upstream)?,
            Err(why) => return Err(Failure::CutShort(why)),
        };
        self.retries.observe(target, Observation::Connected);
        let reset = |error: &h2::Error, sent: bool| Failure::Reset {
            refused: error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away() && !sent,
            sent,
        };
        poll_fn(|cx| place.sender.poll_ready(cx)).await.map_err(|error| reset(&error, false))?;
        let (response, sink) = place
            .sender
            .send_request(request.clone(), upload.is_empty())
            .map_err(|error| reset(&error, false))?;
        if upload.is_empty() {
            upload.finish();
        }
        let watch = upload.watch.clone();
        let mut attempt = Attempt { _place: place, sink, response };
        let waiting = poll_fn(|cx| {
            if !upload.finished
                && let Poll::Ready(Err(Broken::Source(_))) = upload.poll(cx, &mut attempt.sink)
            {
                return Poll::Ready(Err(Failure::Client));
            }
            if let Poll::Ready(outcome) = pin!(&mut attempt.response).poll(cx) {
                return Poll::Ready(outcome.map_err(|error| reset(&error, true)));
            }
            respond.poll_reset(cx).map(|_| Err(Failure::Client))
        });
        let outcome = watch.within(extra.standing, due, waiting).await;
        if let Some(progress) = watch.progress() {
            progress.note();
        }
        match outcome {
            Ok(Ok(response)) => Ok((attempt, response)),
            Ok(Err(failure)) => {
                attempt.sink.send_reset(Reason::CANCEL);
                Err(failure)
            }
            Err(why) => {
                attempt.sink.send_reset(Reason::CANCEL);
                Err(Failure::CutShort(why))
            }
        }
    }

    /// The proxy's answer; none: the request is to be tried again.
    async fn after_failure(
        &mut self,
        target: &Target,
        failure: &Failure,
        upload: &mut Upload,
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
            Failure::Upstream(UpstreamError::Overflow(_)) => return Some(Answer::overflow()),
            Failure::Upstream(error) => {
                self.retries.tell(target, error);
                let answer = answer_to(error);
                (TryOutcome::ConnectFailure, Observation::ConnectFailure, answer)
            }
        };
        let again = self.retries.after_failure(target, outcome, observation, || upload.restart());
        if again.await { None } else { Some(answer) }
    }
}
