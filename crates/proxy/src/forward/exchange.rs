//! One HTTP/1 request at one connection of an endpoint: sent, and its response delivered.

use std::rc::Rc;

use heddle_http::exchange::{ExchangeError, Pump, ResponseError, deliver_response, until_response};
use heddle_http::progress::Progress;
use heddle_http::{Connection, Output};
use heddle_wire::http1::{
    self, BodyError, BodyLength, ChunkPiece, ChunkedScanner, HeadError, HeadLimits, HeaderEdit,
    Parsed, RequestHead, ResponseEdits, ResponseHead, Version,
};

use crate::forward::client::LentResponseIndex;

/// Interim responses before the final one; more are not sent by any server that means well.
const INTERIM_MAX: usize = 16;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    /// The connections.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// What came is no response.
    #[error("the response head is not valid")]
    Head(#[from] HeadError),
    /// Interim responses without end.
    #[error("more than {INTERIM_MAX} interim responses")]
    TooManyInterim,
}

/// A response whose head has come; its bytes are in the buffer of the server's connection.
pub(crate) struct Response {
    index: LentResponseIndex,
    head_bytes: usize,
}

impl Response {
    /// The head, over the server's buffer, which must not have been used up.
    pub(crate) fn head<'a>(&'a mut self, server: &'a Connection) -> ResponseHead<'a> {
        self.index.index().head(server.buffer.filled(), self.head_bytes)
    }
}

/// Sends the request and waits for the head of the response. Interim responses are passed to the client.
pub(crate) async fn request(
    pump: &mut Pump,
    client: &mut Connection,
    server: &mut Connection,
    limits: &HeadLimits,
    version: Version,
) -> Result<Response, AttemptError> {
    let mut index: Option<LentResponseIndex> = None;
    let (mut seen, mut interim) = (0, 0);
    loop {
        if server.buffer.len() <= seen {
            until_response(pump, client, server).await?;
        }
        let length = server.buffer.len();
        let mut lent = index.take().unwrap_or_else(|| LentResponseIndex::new(limits.fields_max));
        match lent.index().parse(server.buffer.filled(), seen, limits)? {
            Parsed::Incomplete => {
                seen = length;
                index = Some(lent);
            }
            Parsed::Complete(head_bytes) => {
                let mut response = Response { index: lent, head_bytes };
                if !response.head(server).is_interim() {
                    return Ok(response);
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(AttemptError::TooManyInterim);
                }
                pass_interim(&mut response, client, server, version).await?;
                seen = 0;
            }
        }
    }
}

async fn pass_interim(
    response: &mut Response,
    client: &mut Connection,
    server: &mut Connection,
    version: Version,
) -> Result<(), AttemptError> {
    let mut out = Output::new();
    let head = response.head(server);
    http1::write_response(&head, &ResponseEdits::default(), std::iter::empty, &mut out);
    server.buffer.consume(response.head_bytes);
    // RFC 9110 section 15.2: not to a client of HTTP/1.0.
    if version == Version::Http11 {
        let sent = client.transport.send_all(&out).await;
        sent.map_err(|error| {
            ExchangeError::Client(heddle_http::exchange::PumpError::Write(error))
        })?;
    }
    Ok(())
}

/// What is to be known of the request while its response is delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The method, as far as it decides whether there is a body.
    pub(crate) method: Method,
    /// The client's version.
    pub(crate) version: Version,
    /// Whether the client's connection stays open after the response.
    pub(crate) keep_alive: bool,
    /// Whether the client asked to switch protocols.
    pub(crate) upgrade: bool,
    /// Whether it is gRPC, by its content type.
    pub(crate) is_grpc: bool,
}

impl Asked {
    /// What is to be known of this request; `draining` closes the connection after it.
    pub(crate) fn of(head: &RequestHead<'_>, draining: bool) -> Self {
        let is_grpc =
            head.values("content-type").any(|value| value.starts_with(b"application/grpc"));
        Self {
            method: Method::of(head.method_text()),
            version: head.version(),
            keep_alive: head.keeps_alive() && !draining,
            upgrade: head.upgrade().is_some(),
            is_grpc,
        }
    }
}

/// Methods whose responses are framed differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Head,
    Other,
}

impl Method {
    pub(crate) fn of(text: &str) -> Self {
        if text == "HEAD" { Self::Head } else { Self::Other }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Other => "GET",
        }
    }
}

/// What became of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    /// Head and body.
    pub(crate) bytes: u64,
    /// The head.
    pub(crate) head_bytes: u64,
    /// Whether the server's connection can take another request.
    pub(crate) server_reusable: bool,
    /// Whether the client's connection can.
    pub(crate) client_reusable: bool,
    /// Whether both have switched protocols, and bytes are to be copied from now on.
    pub(crate) switched: bool,
}

/// Delivers a response with these changes.
pub(crate) async fn deliver<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    response: &mut Response,
    asked: Asked,
    edits: impl Fn() -> I,
    pump: &mut Pump,
    client: &mut Connection,
    server: &mut Connection,
    progress: Option<&Rc<Progress>>,
) -> Result<Delivered, ResponseError> {
    let mut out = Output::new();
    let head = response.head(server);
    let switched = head.status() == 101;
    let body = head.body(asked.method.as_str().as_bytes());
    let keep_server = head.keeps_alive() && body != BodyLength::UntilClose && !switched;
    // Clients of HTTP/1.0 do not know chunks; for them the body ends with the connection.
    let without_chunks = asked.version == Version::Http10 && body == BodyLength::Chunked;
    let keep_client = asked.keep_alive && body != BodyLength::UntilClose && !without_chunks;
    let changes = ResponseEdits {
        close: !keep_client && !switched,
        keep_alive: keep_client && asked.version == Version::Http10,
        without_chunks,
    };
    http1::write_response(&head, &changes, edits, &mut out);
    server.buffer.consume(response.head_bytes);
    let head_bytes = out.len() as u64;
    pump.forget();
    if without_chunks {
        let bytes = deliver_without_chunks(out, client, server).await?;
        return Ok(Delivered {
            bytes: head_bytes + bytes,
            head_bytes,
            server_reusable: keep_server && pump.is_finished(),
            client_reusable: false,
            switched: false,
        });
    }
    let invalid = |error: BodyError| ResponseError::Server(error.into());
    let mut answer = Pump::new(out, body, server, 0).map_err(invalid)?;
    if let Some(progress) = progress {
        answer.watch(progress, false);
    }
    deliver_response(pump, &mut answer, client, server).await?;
    Ok(Delivered {
        bytes: head_bytes + answer.body_bytes(),
        head_bytes,
        server_reusable: keep_server && pump.is_finished(),
        client_reusable: keep_client && pump.is_finished() && !switched,
        switched,
    })
}

/// For clients of HTTP/1.0, which are few: data without framing, one read at a time. Trailers are lost.
async fn deliver_without_chunks(
    mut out: Output,
    client: &mut Connection,
    server: &mut Connection,
) -> Result<u64, ResponseError> {
    use heddle_http::exchange::PumpError::{Read, Truncated, Write};
    let mut scanner = ChunkedScanner::new();
    let mut bytes = 0;
    loop {
        while !server.buffer.is_empty() && !scanner.is_done() {
            let filled = server.buffer.filled();
            let taken = match scanner.next(filled).map_err(|e| ResponseError::Server(e.into()))? {
                ChunkPiece::Data(count) => {
                    out.extend_from_slice(&filled[..count]);
                    bytes += count as u64;
                    count
                }
                ChunkPiece::End(count) | ChunkPiece::Framing(count) => count,
            };
            server.buffer.consume(taken);
        }
        if !out.is_empty() {
            let sent = client.transport.send_all(&out).await;
            sent.map_err(|error| ResponseError::Client(Write(error)))?;
            out.clear();
        }
        if scanner.is_done() {
            return Ok(bytes);
        }
        match server.fill().await {
            Ok(0) => return Err(ResponseError::Server(Truncated)),
            Ok(_) => {}
            Err(error) => return Err(ResponseError::Server(Read(error))),
        }
    }
}
