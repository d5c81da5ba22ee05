//! A request that came over HTTP/1, sent to endpoints over HTTP/2: the client's side of it.
//!
//! Its body is taken out of its framing as it comes, the response's is framed anew. Trailers of a response stand behind a
//! chunked body where the client says that it takes them (`TE: trailers`, RFC 9110 section 6.5.1); those of a request are left
//! out. Requests to switch protocols do not come here: they stay HTTP/1.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use heddle_http::Connection;
use heddle_ir::protocol::Protocol;
use heddle_telemetry::ResponseFlags;
use heddle_wire::convert::{Conversion, conversion_of};
use heddle_wire::http1::{
    BodyLength, BodyScanner, ChunkPiece, ChunkedScanner, HeadLimits, HeaderEdit, Parsed, Version,
    write_chunk,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Ended, Next};
use crate::forward::bridge::is_trailer;
use crate::forward::client::{Client, LentRequestIndex};
use crate::forward::exchange::{Asked, Method};
use crate::forward::http2::is_grpc;
use crate::forward::http2_attempts::{self, Broken, Upload, poll_send};
use crate::http1::{Begun, Finished};
use crate::snapshot::DestinationState;

/// Bytes that may wait for the client before more of the response is taken.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// What a client may send ahead of the response to its request; more is left in the socket.
const PIPELINED_BYTES_MAX: usize = 64 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether requests to a destination are HTTP/2 whatever the client spoke: it is asked for, or the port declares it and
/// the client's own version is not asked for (Envoy with Istio's configuration).
pub(crate) fn is_for(state: &DestinationState) -> bool {
    let pool = &state.destination.connection_pool;
    let declared = matches!(state.destination.protocol, Protocol::Http2 | Protocol::Grpc);
    pool.upgrade_to_http2 || (declared && !pool.use_client_protocol)
}

/// The head of an HTTP/1 request as HTTP/2 has it; none for a target that HTTP/2 cannot have.
pub(crate) fn request_of(head: &[u8]) -> Option<Request<()>> {
    let limits = HeadLimits {
        head_bytes_max: head.len(),
        fields_max: head.len(),
        target_bytes_max: head.len(),
    };
    let mut index = LentRequestIndex::new(64);
    let Ok(Parsed::Complete(head_bytes)) = index.index().parse(head, 0, &limits) else {
        return None;
    };
    let head = index.index().head(head, head_bytes);
    let target = match head.query_text() {
        Some(query) => format!("{}?{query}", head.path_text()),
        None => head.path_text().to_owned(),
    };
    let is_https = head.values("x-forwarded-proto").next() == Some(b"https");
    let mut uri = http::uri::Builder::new().scheme(if is_https { "https" } else { "http" });
    uri = uri.authority(head.authority_text());
    let mut request = Request::new(());
    *request.method_mut() = head.method_text().parse().ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri.path_and_query(target).build().ok()?;
    for field in head.fields() {
        let name = HeaderName::from_bytes(field.name.of(head.bytes())).ok()?;
        let value = field.value.of(head.bytes());
        let keeps = match conversion_of(name.as_str()) {
            Conversion::Keep | Conversion::JoinCookies | Conversion::Length => {
                name != http::header::EXPECT
            }
            Conversion::OnlyTrailers => value.eq_ignore_ascii_case(b"trailers"),
            Conversion::Authority | Conversion::Drop | Conversion::Framing => false,
        };
        if keeps {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some(request)
}

/// The data of a body that has come whole, without its framing.
pub(crate) fn data_of(length: BodyLength, body: &[Bytes]) -> Option<Vec<Bytes>> {
    if length != BodyLength::Chunked {
        return Some(body.to_vec());
    }
    let whole = body.concat();
    let (mut scanner, mut data, mut rest) = (ChunkedScanner::new(), Vec::new(), &whole[..]);
    while !rest.is_empty() && !scanner.is_done() {
        let count = match scanner.next(rest).ok()? {
            ChunkPiece::Data(count) => {
                data.extend_from_slice(&rest[..count]);
                count
            }
            ChunkPiece::End(count) | ChunkPiece::Framing(count) => count,
        };
        rest = &rest[count..];
    }
    Some(vec![data.into()])
}

/// Forwards a request of which the head has been used up, and delivers what comes back, or answers.
pub(crate) async fn forward<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    client: &mut Client,
    begun: &Begun,
    request: Request<()>,
    body: RequestBody,
    decided: &Decided<'_>,
    edits: impl Fn() -> I,
) -> io::Result<Finished> {
    let keeps = decided.idempotent || decided.retry.attempts > 0;
    let keep_bytes_max = if keeps { client.limits.retry_body_bytes_max } else { 0 };
    let asked = begun.asked;
    let asked = Asked { keep_alive: asked.keep_alive && !client.is_draining(), ..asked };
    let takes_trailers = request.headers().contains_key(http::header::TE);
    let own = Http1Client::new(&mut client.connection, asked, body, takes_trailers);
    let mut upload = Upload::of_http1(own.clone(), keep_bytes_max, is_grpc(request.headers()));
    let mut respond = Responder::Http1(own.clone());
    let (mut ended, _) =
        http2_attempts::run(decided, &request, edits, &mut upload, &mut respond).await;
    let request_bytes = begun.head_bytes + upload.bytes;
    drop((upload, respond));
    let sent = poll_fn(|cx| own.0.borrow_mut().poll_write(cx)).await;
    let Left { has_whole_body, is_invalid, framing } = own.left();
    drop(own);
    if is_invalid && framing == Framing::None {
        ended = Ended { flags: ResponseFlags::NONE, ..ended }.answer(Answer::bad_request(400));
    }
    let next = std::mem::take(&mut ended.next);
    let keep = match (next, framing) {
        (Next::Answer(answer), _) => client.answer_instead(asked, &answer, has_whole_body).await?,
        (_, Framing::None) => false,
        (_, Framing::Over(whole)) if sent.is_ok() => {
            let keep = whole && has_whole_body && asked.keep_alive && !client.is_draining();
            if !keep {
                Box::pin(client.end(has_whole_body)).await;
            }
            keep
        }
        (_, _) => {
            client.connection.transport.reset_when_closed();
            false
        }
    };
    Ok(Finished { ended, request_bytes, keep: keep && !client.is_draining() })
}

/// What is left of a request when it is over.
struct Left {
    /// Whether its body has come whole.
    has_whole_body: bool,
    /// Its body is not framed validly.
    is_invalid: bool,
    framing: Framing,
}

/// What frames the body of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestBody {
    pub(crate) length: BodyLength,
    /// The client waits for leave to send it.
    pub(crate) expects_continue: bool,
}

/// The client of a request; clones are its two directions.
#[derive(Clone)]
pub(crate) struct Http1Client<'c>(Rc<RefCell<Exchange<'c>>>);

#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact of the exchange")]
struct Exchange<'c> {
    connection: &'c mut Connection,
    asked: Asked,
    body: Body,
    expects_continue: bool,
    /// Bytes that wait for the client.
    out: Vec<u8>,
    written: usize,
    framing: Framing,
    takes_trailers: bool,
    /// Whether it is still looked whether the client has gone.
    watches: bool,
    /// The request's body is not framed validly.
    is_invalid: bool,
}

enum Body {
    Plain(BodyScanner),
    Chunked(ChunkedScanner),
}

/// How the response is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    /// Nothing of it has been sent.
    None,
    Chunked,
    /// By its length.
    Plain,
    /// It has no body, whatever the server sends.
    Bodiless,
    /// By the end of the connection.
    UntilClose,
    /// It is over; the flag tells that the connection may go on.
    Over(bool),
    /// It has broken off.
    Broken,
}

impl<'c> Http1Client<'c> {
    fn new(
        connection: &'c mut Connection,
        asked: Asked,
        body: RequestBody,
        takes_trailers: bool,
    ) -> Self {
        Self(Rc::new(RefCell::new(Exchange {
            connection,
            asked,
            body: match body.length {
                BodyLength::Chunked => Body::Chunked(ChunkedScanner::new()),
                length => Body::Plain(BodyScanner::new(length)),
            },
            expects_continue: body.expects_continue && asked.version == Version::Http11,
            out: Vec::new(),
            written: 0,
            framing: Framing::None,
            takes_trailers,
            watches: true,
            is_invalid: false,
        })))
    }

    fn left(&self) -> Left {
        let own = self.0.borrow();
        let Exchange { is_invalid, framing, .. } = *own;
        Left { has_whole_body: own.body_is_done(), is_invalid, framing }
    }

    /// Whether there is nothing more of the body.
    pub(crate) fn is_end(&self) -> bool {
        self.0.borrow().body_is_done()
    }

    /// A piece of the request's body; none at its end.
    pub(crate) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let own = &mut *self.0.borrow_mut();
        let broken = || Some(Err(Reason::CANCEL.into()));
        loop {
            match own.take_data() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if own.body_is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(()) => {
                    own.is_invalid = true;
                    return Poll::Ready(broken());
                }
            }
            if own.expects_continue && own.framing == Framing::None {
                own.expects_continue = false;
                own.out.extend_from_slice(CONTINUE);
            }
            if let Poll::Ready(Err(_)) = own.poll_write(cx) {
                return Poll::Ready(broken());
            }
            match ready!(own.connection.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(broken()),
                Ok(_) => {}
            }
        }
    }

    /// Writes the head of the response; `ends`: it has no body.
    fn respond(&self, response: &Response<()>, ends: bool) {
        let own = &mut *self.0.borrow_mut();
        let status = response.status();
        let has_length = response.headers().contains_key(http::header::CONTENT_LENGTH);
        let is_bodiless = own.asked.method == Method::Head
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        own.framing = match own.asked.version {
            _ if is_bodiless => Framing::Bodiless,
            _ if ends || has_length => Framing::Plain,
            Version::Http11 => Framing::Chunked,
            Version::Http10 => Framing::UntilClose,
        };
        let reason = status.canonical_reason().unwrap_or_default();
        let line = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
        own.out.extend_from_slice(line.as_bytes());
        for (name, value) in response.headers() {
            if conversion_of(name.as_str()) == Conversion::Keep {
                write_field(&mut own.out, name.as_str(), value.as_bytes());
            }
        }
        // Several say the same.
        if let Some(length) = response.headers().get(http::header::CONTENT_LENGTH) {
            write_field(&mut own.out, "content-length", length.as_bytes());
        }
        if own.framing == Framing::Chunked {
            write_field(&mut own.out, "transfer-encoding", b"chunked");
        } else if ends && !is_bodiless && !has_length {
            write_field(&mut own.out, "content-length", b"0");
        }
        if !own.asked.keep_alive || own.framing == Framing::UntilClose {
            write_field(&mut own.out, "connection", b"close");
        } else if own.asked.version == Version::Http10 {
            write_field(&mut own.out, "connection", b"keep-alive");
        }
        own.out.extend_from_slice(b"\r\n");
        if ends {
            own.framing = Framing::Over(true);
        }
    }

    /// Takes a piece of the response's body.
    fn poll_piece(
        &self,
        cx: &mut Context<'_>,
        waiting: &mut Option<Bytes>,
    ) -> Poll<Result<(), ()>> {
        let own = &mut *self.0.borrow_mut();
        if own.out.len() - own.written > WAITING_BYTES_MAX {
            ready!(own.poll_write(cx)).map_err(drop)?;
        }
        if let Some(piece) = waiting.take().filter(|piece| !piece.is_empty()) {
            match own.framing {
                Framing::Chunked => write_chunk(&piece, &mut own.out),
                // The client would take it for the next response.
                Framing::Bodiless => {}
                _ => own.out.extend_from_slice(&piece),
            }
        }
        match own.poll_write(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(drop)),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// The response's body is over.
    fn poll_end(&self, cx: &mut Context<'_>, trailers: Option<&HeaderMap>) -> Poll<Result<(), ()>> {
        let own = &mut *self.0.borrow_mut();
        match own.framing {
            Framing::Chunked => {
                own.out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|_| own.takes_trailers) {
                    if is_trailer(name) {
                        write_field(&mut own.out, name.as_str(), value.as_bytes());
                    }
                }
                own.out.extend_from_slice(b"\r\n");
            }
            Framing::None
            | Framing::Plain
            | Framing::Bodiless
            | Framing::UntilClose
            | Framing::Over(_)
            | Framing::Broken => {}
        }
        own.framing = match own.framing {
            Framing::Chunked | Framing::Plain | Framing::Bodiless => Framing::Over(true),
            Framing::Over(whole) => Framing::Over(whole),
            Framing::None | Framing::UntilClose => Framing::Over(false),
            Framing::Broken => Framing::Broken,
        };
        own.poll_write(cx).map(|sent| sent.map_err(drop))
    }

    /// The response breaks off: the connection is closed, which tells the client.
    fn reset(&self) {
        self.0.borrow_mut().framing = Framing::Broken;
    }

    /// Ready when the client has gone.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let own = &mut *self.0.borrow_mut();
        while own.watches && own.body_is_done() {
            if own.connection.buffer.len() >= PIPELINED_BYTES_MAX {
                own.watches = false;
                break;
            }
            match ready!(own.connection.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}

impl Exchange<'_> {
    fn body_is_done(&self) -> bool {
        match &self.body {
            Body::Plain(scanner) => scanner.is_done(),
            Body::Chunked(scanner) => scanner.is_done(),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = &mut self.connection.transport;
        ready!(transport.poll_send_all(cx, &self.out, &mut self.written))?;
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// What of the body has come; none: nothing has.
    fn take_data(&mut self) -> Result<Option<Bytes>, ()> {
        let buffer = &mut self.connection.buffer;
        let mut data = Vec::new();
        while !buffer.is_empty() {
            let filled = buffer.filled();
            let (taken, count) = match &mut self.body {
                Body::Plain(scanner) if scanner.is_done() => break,
                Body::Plain(scanner) => {
                    let count = scanner.take(filled).map_err(drop)?;
                    (count, count)
                }
                Body::Chunked(scanner) if scanner.is_done() => break,
                Body::Chunked(scanner) => match scanner.next(filled).map_err(drop)? {
                    ChunkPiece::Data(count) => (count, count),
                    ChunkPiece::End(count) | ChunkPiece::Framing(count) => (0, count),
                },
            };
            data.extend_from_slice(&filled[..taken]);
            buffer.consume(count);
            if count == 0 {
                break;
            }
        }
        Ok((!data.is_empty()).then(|| data.into()))
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What a response is given to.
pub(crate) enum Responder<'c> {
    Http2(&'c mut SendResponse<Bytes>),
    Http1(Http1Client<'c>),
}

/// Where the body of a response goes.
pub(crate) enum ClientSink<'c> {
    Http2(SendStream<Bytes>),
    Http1(Http1Client<'c>),
}

impl<'c> Responder<'c> {
    /// Sends the head; `ends`: there is no body.
    pub(crate) fn send(
        &mut self,
        response: Response<()>,
        ends: bool,
    ) -> Result<ClientSink<'c>, ()> {
        match self {
            Self::Http2(respond) => {
                respond.send_response(response, ends).map(ClientSink::Http2).map_err(drop)
            }
            Self::Http1(client) => {
                client.respond(&response, ends);
                Ok(ClientSink::Http1(client.clone()))
            }
        }
    }

    /// Ready when the client wants no response any longer.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http2(respond) => respond.poll_reset(cx).map(drop),
            Self::Http1(client) => client.poll_gone(cx),
        }
    }
}

impl ClientSink<'_> {
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Option<Bytes>,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Self::Http2(sink) => poll_send(cx, sink, waiting).map_err(|_| Broken::Sink),
            Self::Http1(client) => client.poll_piece(cx, waiting).map_err(|()| Broken::Sink),
        }
    }

    /// The body is over. Trailers are given once.
    pub(crate) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        trailers: Option<HeaderMap>,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Self::Http2(sink) => Poll::Ready(
                match trailers {
                    Some(trailers) => sink.send_trailers(trailers),
                    None => sink.send_data(Bytes::new(), true),
                }
                .map_err(|_| Broken::Sink),
            ),
            Self::Http1(client) => {
                client.poll_end(cx, trailers.as_ref()).map_err(|()| Broken::Sink)
            }
        }
    }

    /// Ends a response at once with these trailers; false: that cannot be said.
    pub(crate) fn end_with(&mut self, trailers: HeaderMap) -> bool {
        match self {
            Self::Http2(sink) => sink.send_trailers(trailers).is_ok(),
            Self::Http1(_) => false,
        }
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        match self {
            Self::Http2(sink) => sink.send_reset(reason),
            Self::Http1(client) => client.reset(),
        }
    }

    /// Ready when the client wants no more of it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http2(sink) => sink.poll_reset(cx).map(drop),
            Self::Http1(client) => client.poll_gone(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_changes_its_version() {
        let head = b"POST /a/b?c=d HTTP/1.1\r\nHost: reviews:9080\r\nX-Own: 1\r\nCookie: a=1\r\n\
            Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n";
        let request = request_of(head).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "http://reviews:9080/a/b?c=d");
        let mut names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "te", "x-own"]);
        let https = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
        assert_eq!(request_of(https).unwrap().uri().scheme_str(), Some("https"));
    }

    #[test]
    fn a_body_leaves_its_framing() {
        let pieces =
            [Bytes::from_static(b"3\r\nab"), Bytes::from_static(b"c\r\n1\r\nd\r\n0\r\n\r\n")];
        assert_eq!(data_of(BodyLength::Chunked, &pieces).unwrap().concat(), b"abcd");
        let plain = [Bytes::from_static(b"3\r\n")];
        assert_eq!(data_of(BodyLength::Length(3), &plain).unwrap().concat(), b"3\r\n");
    }
}
