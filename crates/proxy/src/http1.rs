//! What both directions do with an HTTP/1 request: the head written out again, the attempts, the record.

use std::io;
use std::sync::Arc;

use heddle_http::Output;
use heddle_http::exchange::Pump;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::istio::{RequestOutcome, RequestRecorder};
use heddle_wire::http1::{HeaderEdit, Version};
use tokio::time::Instant;

use crate::access_log::{Outcome, RequestLog};
use crate::forward::answer::Answer;
use crate::forward::attempts::{self, Decided, Ended, Next};
use crate::forward::client::{Client, Request};
use crate::forward::copies;
use crate::forward::exchange::Asked;
use crate::forward::stream;
use crate::forward::upgraded::{self, RequestBody};
use crate::forward::watch::within;
use crate::inbound::Peer;
use crate::upstream::ClientAddresses;
use crate::worker::Worker;

/// What is known of a request before it is forwarded or answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) asked: Asked,
    pub(crate) started: Instant,
    pub(crate) head_bytes: u64,
}

impl Begun {
    pub(crate) fn of(request: &mut Request, client: &Client) -> Self {
        let (started, head_bytes) = (request.started, request.head_bytes() as u64);
        let asked = Asked::of(&request.head(&client.connection), client.is_draining());
        Self { asked, started, head_bytes }
    }
}

/// How a request ended, for its record.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ended: Ended,
    pub(crate) request_bytes: u64,
    /// Whether the client's connection takes another request.
    pub(crate) keep: bool,
}

/// Forwards a request whose head is rewritten in `out`, and delivers what comes back, or answers.
pub(crate) async fn forward<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    client: &mut Client,
    begun: &Begun,
    request: Request,
    out: Output,
    decided: &Decided<'_>,
    edits: impl Fn() -> I,
) -> io::Result<Finished> {
    let mut request = request;
    let head = request.head(&client.connection);
    let (body, expects_continue) = (head.body(), head.expects_continue());
    client.connection.buffer.consume(request.head_bytes());
    drop(request);
    // A switch of protocols is HTTP/1's, and so is a target that HTTP/2 has no words for.
    if decided.extra.as_http2
        && !begun.asked.upgrade
        && let Some(head) = upgraded::request_of(&out)
    {
        drop(out);
        let body = RequestBody { length: body, expects_continue };
        return Box::pin(upgraded::forward(client, begun, head, body, decided, edits)).await;
    }
    let keeps = decided.idempotent || decided.retry.attempts > 0;
    let keep_bytes_max = if keeps { client.limits.retry_body_bytes_max } else { 0 };
    let head_bytes = out.len();
    // Not by way of a variable of the whole result, which would be held next to the pump until the end.
    let Ok(mut pump) = Pump::new(out, body, &mut client.connection, keep_bytes_max) else {
        let answer = Answer::bad_request(400);
        Box::pin(client.answer_instead(begun.asked, &answer, false)).await?;
        return Ok(answered(&answer, begun.head_bytes));
    };
    if decided.extra.copies.is_some() {
        pump.copy_body(head_bytes, copies::BODY_BYTES_MAX);
        send_copies(decided, &mut pump);
    }
    let mut ended = attempts::run(decided, begun.asked, edits, &mut pump, client).await;
    send_copies(decided, &mut pump);
    let request_bytes = begun.head_bytes + pump.body_bytes();
    let has_whole_body = pump.has_whole_body();
    drop(pump);
    let keep = match std::mem::take(&mut ended.next) {
        Next::Close => false,
        Next::Continue => !client.is_draining(),
        Next::End => {
            Box::pin(client.end(has_whole_body)).await;
            false
        }
        Next::Reset => {
            client.connection.transport.reset_when_closed();
            false
        }
        Next::Answer(answer) => {
            // In memory of its own, as what few requests get.
            Box::pin(client.answer_instead(begun.asked, &answer, has_whole_body)).await?
        }
        Next::Tunnel(mut upstream) => {
            let idle = decided.state.destination.connection_pool.tcp_idle_timeout;
            let server = &mut upstream.connection;
            let copying = Box::pin(stream::copy(&mut client.connection, server, idle));
            if let Err(why) = within(decided.extra.standing, None, copying).await {
                ended.flags = ended.flags.with(why.flag());
                ended.reason = why.reason();
            }
            false
        }
    };
    Ok(Finished { ended, request_bytes, keep })
}

/// Sends the copies of a request, if its body has come whole.
fn send_copies(decided: &Decided<'_>, pump: &mut Pump) {
    let Some(copies) = decided.extra.copies else { return };
    if let Some(body) = pump.take_copy() {
        copies.send(&[body.into()], None);
    }
}

/// Answers a request that goes nowhere.
pub(crate) async fn answer(
    client: &mut Client,
    begun: &Begun,
    mut request: Request,
    answer: Answer,
) -> io::Result<Finished> {
    let keep = client.answer(&mut request, &answer).await?;
    Ok(Finished { keep, ..answered(&answer, begun.head_bytes) })
}

fn answered(answer: &Answer, request_bytes: u64) -> Finished {
    let (flags, reason) = (answer.flags(), answer.reason);
    let ended = Ended { status: answer.status, flags, reason, ..Ended::default() };
    Finished { ended, request_bytes, keep: false }
}

/// Counts a request that is over.
pub(crate) fn record(
    recorder: Option<&Arc<RequestRecorder>>,
    begun: &Begun,
    finished: &Finished,
    extra: ResponseFlags,
    now: Instant,
) {
    let Some(recorder) = recorder else { return };
    let flags = extra.iter().fold(finished.ended.flags, ResponseFlags::with);
    recorder.record(&RequestOutcome {
        response_code: finished.ended.status,
        flags,
        grpc_status: None,
        duration: now.saturating_duration_since(begun.started),
        request_bytes: finished.request_bytes,
        response_bytes: finished.ended.response_bytes,
        messages: None,
    });
}

/// Begins the line of a request in the access log, where one is written.
pub(crate) fn begin_log(
    worker: &Worker,
    client: &Client,
    begun: &Begun,
    request: &mut Request,
    addresses: ClientAddresses,
) -> Option<Box<RequestLog>> {
    let head = request.head(&client.connection);
    let protocol = match head.version() {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    RequestLog::begin(worker, &head, protocol, addresses, begun.started)
}

/// Writes the line of a request that is over.
pub(crate) fn end_log(
    log: Option<&RequestLog>,
    begun: &Begun,
    finished: &Finished,
    extra: ResponseFlags,
    peer: Option<&Peer>,
) {
    let Some(log) = log else { return };
    let ended = &finished.ended;
    let flags = extra.iter().fold(ended.flags, ResponseFlags::with);
    let body_bytes = finished.request_bytes.saturating_sub(begun.head_bytes);
    log.end(&Outcome { ended, flags, body_bytes, grpc_status: None, peer });
}

/// Whether a method may be sent twice (RFC 9110 section 9.2.2).
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}
