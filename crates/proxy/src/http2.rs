//! What both directions do with an HTTP/2 request: the attempts, the answer, the record.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::istio::{RequestOutcome, RequestRecorder};
use heddle_wire::http1::HeaderEdit;
use http::Request;
use http::request::Parts;
use tokio::time::Instant;

use crate::access_log::{Outcome, RequestLog};
use crate::admission::http2::Received;
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Ended, Next};
use crate::forward::http2;
use crate::forward::http2_attempts::{self, Upload};
use crate::forward::upgraded::Responder;
use crate::inbound::Peer;
use crate::upstream::ClientAddresses;
use crate::worker::Worker;

/// How a request ended, for its record.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ended: Ended,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) request_bytes: u64,
    /// gRPC messages of the request and of the response; none where it is not gRPC.
    pub(crate) messages: Option<(u64, u64)>,
}

/// Forwards a request and delivers what comes back, or answers.
pub(crate) async fn forward<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    decided: &Decided<'_>,
    parts: &Parts,
    request: &Request<()>,
    body: impl Into<Received>,
    keep_bytes_max: usize,
    respond: &mut SendResponse<Bytes>,
    edits: impl Fn() -> I,
) -> Finished {
    let keeps = decided.retry.attempts > 0;
    let is_grpc = http2::is_grpc(&parts.headers);
    let mut upload = Upload::new(body.into(), if keeps { keep_bytes_max } else { 0 }, is_grpc);
    let (mut ended, grpc_status) =
        http2_attempts::run(decided, request, edits, &mut upload, &mut Responder::Http2(respond))
            .await;
    let request_bytes = upload.bytes;
    let messages = upload.messages.map(|counter| (counter.count(), upload.response_messages));
    if let Next::Answer(answer) = std::mem::take(&mut ended.next) {
        let ended = Ended { next: Next::Close, ..ended };
        return Finished { ended, request_bytes, messages, ..answered(parts, &answer, respond) }
            .with(&answer);
    }
    Finished { ended, grpc_status, request_bytes, messages }
}

/// Answers a request.
pub(crate) fn answered(
    parts: &Parts,
    answer: &Answer,
    respond: &mut SendResponse<Bytes>,
) -> Finished {
    // A client that has gone does not need it.
    let _ = http2::answer(respond, parts, answer);
    let is_grpc = http2::is_grpc(&parts.headers);
    let status = if is_grpc { 200 } else { answer.status };
    let (flags, reason) = (answer.flags(), answer.reason);
    let ended = Ended { status, flags, reason, ..Ended::default() };
    let grpc_status = is_grpc.then(|| u32::from(answer.grpc_code()));
    Finished { ended, grpc_status, request_bytes: 0, messages: is_grpc.then_some((0, 0)) }
}

impl Finished {
    /// The status of an answer that was given in place of the response.
    fn with(mut self, answer: &Answer) -> Self {
        self.ended.status = if self.grpc_status.is_some() { 200 } else { answer.status };
        self
    }
}

/// Begins the line of a request in the access log, where one is written.
pub(crate) fn begin_log(
    worker: &Worker,
    parts: &Parts,
    started: Instant,
    addresses: ClientAddresses,
) -> Option<Box<RequestLog>> {
    RequestLog::begin(worker, &http2::Head::new(parts), "HTTP/2", addresses, started)
}

/// Writes the line of a request that is over.
pub(crate) fn end_log(
    log: Option<&RequestLog>,
    finished: &Finished,
    extra: ResponseFlags,
    peer: Option<&Peer>,
) {
    let Some(log) = log else { return };
    let Finished { ended, grpc_status, request_bytes: body_bytes, .. } = finished;
    let flags = extra.iter().fold(ended.flags, ResponseFlags::with);
    let (body_bytes, grpc_status) = (*body_bytes, *grpc_status);
    log.end(&Outcome { ended, flags, body_bytes, grpc_status, peer });
}

/// Counts a request that is over.
pub(crate) fn record(
    recorder: Option<&Arc<RequestRecorder>>,
    started: Instant,
    finished: &Finished,
    extra: ResponseFlags,
) {
    let Some(recorder) = recorder else { return };
    recorder.record(&RequestOutcome {
        response_code: finished.ended.status,
        flags: extra.iter().fold(finished.ended.flags, ResponseFlags::with),
        grpc_status: finished.grpc_status,
        duration: started.elapsed(),
        request_bytes: finished.request_bytes,
        response_bytes: finished.ended.response_bytes,
        messages: finished.messages,
    });
}
