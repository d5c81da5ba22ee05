//! HTTP/1 requests that need a token or somebody outside.

use std::rc::Rc;

use heddle_authz::CompiledAuthorization;
use heddle_ir::authorization::AuthorizerBody;
use heddle_wire::http1::{BodyLength, ChunkPiece, ChunkedScanner, RequestHead, Version};
use heddle_wire::path;

use super::asking::{Asked, Body, Parties};
use super::{Admission, Admitted, Party, Step, View};
use crate::forward::answer::Answer;
use crate::forward::client::{Client, Request};
use crate::worker::Worker;

/// So many bytes of a message are read for a byte of its body; a chunk of one byte has six.
const FRAMING_MAX: usize = 8;

/// Lets a request through everybody who has a say. What is read of the body stays in the client's buffer.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    party: Party<'_>,
    inbound: &CompiledAuthorization,
    client: &mut Client,
    request: &mut Request,
) -> Result<Admitted, Answer> {
    let received = request.head(&client.connection).path_text();
    let normal = path::normalize(received, inbound.inbound().path_normalization);
    let normal = normal.map_err(|_| Answer::bad_request(400))?;
    let normal = normal.as_deref();
    let head = as_seen(request.head(&client.connection), party, normal);
    let mut admission = Admission::begin(worker, party, inbound, &head).await?;
    loop {
        let head = as_seen(request.head(&client.connection), party, normal);
        let question = match admission.step(&head)? {
            Step::Done(permit) => return Ok(admission.admitted(permit)),
            Step::Ask(question) => question,
        };
        let body = match question.authorizer.body {
            Some(limit) => Some(read_body(client, request, limit).await?),
            None => None,
        };
        let head = as_seen(request.head(&client.connection), party, normal);
        let asked = asked(&admission, &head);
        let asked = match body {
            Some(body) => asked.with_body(body),
            None => asked,
        };
        admission.ask(&question, asked, &head).await?;
    }
}

fn as_seen<'a>(
    head: RequestHead<'a>,
    party: Party<'_>,
    normal: Option<&'a str>,
) -> RequestHead<'a> {
    let head = head.with_scheme(party.https);
    match normal {
        Some(path) => head.with_path(path),
        None => head,
    }
}

fn asked(admission: &Admission<'_>, head: &RequestHead<'_>) -> Asked {
    asked_of(admission.worker, admission.party, &admission.view(head), head)
}

/// A request as an authoriser is told of it.
pub(super) fn asked_of(
    worker: &Worker,
    party: Party<'_>,
    view: &View<'_, RequestHead<'_>>,
    head: &RequestHead<'_>,
) -> Asked {
    let bytes = head.bytes();
    let forwarded = head.fields().filter(|field| !head.is_nominated(field));
    let headers = forwarded.map(|field| {
        let name = String::from_utf8_lossy(field.name.of(bytes)).to_ascii_lowercase();
        (name, field.value.of(bytes).to_vec())
    });
    let protocol = match head.version() {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let parties = Parties::of(worker, party);
    let size = match head.body() {
        BodyLength::None => 0,
        BodyLength::Length(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        BodyLength::Chunked | BodyLength::UntilClose => -1,
    };
    Asked { size, ..Asked::of(view, protocol, headers.collect(), parties) }
}

/// Reads the body, or its beginning.
pub(super) async fn read_body(
    client: &mut Client,
    request: &mut Request,
    limit: AuthorizerBody,
) -> Result<Body, Answer> {
    let head = request.head(&client.connection);
    let (length, must_ask) = (head.body(), head.expects_continue());
    let max = limit.body_bytes_max as usize;
    if matches!(length, BodyLength::Length(bytes) if bytes > max as u64) && !limit.allow_partial {
        return Err(Answer::too_large());
    }
    let mut reading = Reading { length, scanner: ChunkedScanner::new(), at: 0, bytes: Vec::new() };
    let due = tokio::time::Instant::now() + client.limits.head_timeout;
    let mut waits = must_ask;
    loop {
        let filled = &client.connection.buffer.filled()[request.head_bytes()..];
        let done = reading.take(filled)?;
        // A body in chunks of a byte is mostly framing; what a client may put into that is held as well.
        if reading.at
            > max.saturating_mul(FRAMING_MAX).saturating_add(client.limits.head.head_bytes_max)
        {
            return Err(Answer::too_large());
        }
        if reading.bytes.len() > max || (reading.bytes.len() == max && !done && limit.allow_partial)
        {
            if !limit.allow_partial {
                return Err(Answer::too_large());
            }
            reading.bytes.truncate(max);
            return Ok(Body { bytes: reading.bytes, partial: true });
        }
        if done {
            return Ok(Body { bytes: reading.bytes, partial: false });
        }
        if std::mem::take(&mut waits) {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
            let sent = client.connection.transport.send_all(interim).await;
            sent.map_err(|_| Answer::bad_request(400))?;
        }
        let filling = tokio::time::timeout_at(due, client.connection.fill());
        match filling.await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(_) => return Err(Answer::bad_request(400)),
            Err(_) => return Err(Answer::bad_request(408)),
        }
    }
}

/// A body as far as it has been read.
struct Reading {
    length: BodyLength,
    scanner: ChunkedScanner,
    /// What has been looked at.
    at: usize,
    bytes: Vec<u8>,
}

impl Reading {
    /// Looks at what has come; answers whether that is all.
    fn take(&mut self, filled: &[u8]) -> Result<bool, Answer> {
        match self.length {
            BodyLength::None | BodyLength::UntilClose => Ok(true),
            BodyLength::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let upto = filled.len().min(length);
                self.bytes.extend_from_slice(&filled[self.at..upto]);
                self.at = upto;
                Ok(upto == length)
            }
            BodyLength::Chunked => {
                while self.at < filled.len() && !self.scanner.is_done() {
                    let rest = &filled[self.at..];
                    let piece = self.scanner.next(rest).map_err(|_| Answer::bad_request(400))?;
                    match piece {
                        ChunkPiece::Data(count) => {
                            self.bytes.extend_from_slice(&rest[..count]);
                            self.at += count;
                        }
                        ChunkPiece::End(count) | ChunkPiece::Framing(count) => self.at += count,
                    }
                }
                Ok(self.scanner.is_done())
            }
        }
    }
}
