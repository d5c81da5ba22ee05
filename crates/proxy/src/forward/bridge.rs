//! A request that came over HTTP/2, sent to an endpoint that speaks HTTP/1 only.
//!
//! One exchange on one connection, driven from both sides of the stream: the request's body is framed as it comes, the
//! response's is taken out of its frames. Trailers go along both ways: those of a request with a chunked body, those of a
//! response as they stand behind one (RFC 9110 section 6.5); a client that says that it takes trailers says so to the endpoint.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use heddle_ir::protocol::Protocol;
use heddle_wire::convert::{Conversion, conversion_of};
use heddle_wire::http1::{
    BodyLength, BodyScanner, ChunkPiece, ChunkedScanner, HeadLimits, Parsed, ResponseIndex,
    may_be_trailer, write_chunk,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::forward::http2::is_grpc;
use crate::snapshot::DestinationState;
use crate::upstream::{self, PooledConnection, UpstreamEndpoint};

/// Bytes that may wait for the socket before more of the body is taken.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Interim responses before the final one.
const INTERIM_MAX: u32 = 8;

/// One exchange; clones are its two sides.
#[derive(Clone)]
pub(crate) struct Bridge(Rc<RefCell<Exchange>>);

struct Exchange {
    /// None once it has been put back.
    upstream: Option<PooledConnection>,
    state: Arc<DestinationState>,
    endpoint: Rc<UpstreamEndpoint>,
    method: http::Method,
    /// Bytes that wait for the socket.
    out: Vec<u8>,
    written: usize,
    is_chunked: bool,
    request_ended: bool,
    index: Box<ResponseIndex>,
    seen: usize,
    interim: u32,
    /// None until the head has come.
    body: Option<Body>,
    /// Trailer lines of the response, which the scanner bounds.
    trailers: Vec<u8>,
    keep: bool,
}

/// How the body of a response ends.
enum Body {
    Plain(BodyScanner),
    Chunked(ChunkedScanner),
}

impl Body {
    fn is_done(&self) -> bool {
        match self {
            Self::Plain(scanner) => scanner.is_done(),
            Self::Chunked(scanner) => scanner.is_done(),
        }
    }
}

/// Whether a field may stand in trailers: none that frames or routes a message (RFC 9110 section 6.5.1).
pub(super) fn is_trailer(name: &HeaderName) -> bool {
    let of_head = matches!(name.as_str(), "content-encoding" | "content-range" | "content-type");
    !of_head && may_be_trailer(name.as_str().as_bytes())
}

/// Whether a gateway changes the version of a request: clients take HTTP/2 wherever they are offered it, and most
/// applications do not speak it. gRPC cannot do without.
pub(crate) fn is_for(state: &DestinationState, headers: &HeaderMap) -> bool {
    let pool = &state.destination.connection_pool;
    let keeps_version = pool.use_client_protocol || pool.upgrade_to_http2;
    state.destination.protocol == Protocol::Http1 && !keeps_version && !is_grpc(headers)
}

impl Bridge {
    /// Begins the exchange: writes the head, and the end of a request that `is_empty`.
    pub(crate) fn begin(
        upstream: PooledConnection,
        state: Arc<DestinationState>,
        endpoint: Rc<UpstreamEndpoint>,
        request: &Request<()>,
        is_empty: bool,
    ) -> Self {
        let (out, is_chunked) = head_of(request, is_empty);
        Self(Rc::new(RefCell::new(Exchange {
            upstream: Some(upstream),
            state,
            endpoint,
            method: request.method().clone(),
            out,
            written: 0,
            is_chunked,
            request_ended: is_empty,
            index: Box::default(),
            seen: 0,
            interim: 0,
            body: None,
            trailers: Vec::new(),
            keep: false,
        })))
    }

    /// Takes a piece of the request's body.
    pub(crate) fn poll_piece(
        &self,
        cx: &mut Context<'_>,
        waiting: &mut Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        let mut own = self.0.borrow_mut();
        if own.out.len() - own.written > WAITING_BYTES_MAX {
            ready!(own.poll_write(cx))?;
        }
        // An empty chunk would end the body.
        if let Some(piece) = waiting.take().filter(|piece| !piece.is_empty()) {
            if own.is_chunked {
                write_chunk(&piece, &mut own.out);
            } else {
                own.out.extend_from_slice(&piece);
            }
        }
        if let Poll::Ready(written) = own.poll_write(cx) {
            written?;
        }
        Poll::Ready(Ok(()))
    }

    /// The request's body is over.
    pub(crate) fn end(&self, trailers: Option<&HeaderMap>) {
        let own = &mut *self.0.borrow_mut();
        if own.is_chunked {
            own.out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.into_iter().flatten() {
                if is_trailer(name) {
                    write_field(&mut own.out, name, value.as_bytes());
                }
            }
            own.out.extend_from_slice(b"\r\n");
        }
        own.request_ended = true;
    }

    /// The response's head; the flag says that it has no body. An error before anything has come on a connection that had
    /// been kept says nothing of the request: see [`Self::was_stale`].
    pub(crate) fn poll_response(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Response<()>, bool)>> {
        let mut own = self.0.borrow_mut();
        loop {
            if let Poll::Ready(Err(error)) = own.poll_write(cx) {
                return Poll::Ready(Err(error));
            }
            if let Some(response) = own.parse_head()? {
                own.finish_if_done();
                let ends = own.body.as_ref().is_none_or(Body::is_done);
                return Poll::Ready(Ok((response, ends)));
            }
            let connection = &mut own.connection()?.connection;
            if ready!(connection.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Whether the connection had been kept and gave nothing, so that it may have been closed before the request.
    pub(crate) fn was_stale(&self) -> bool {
        let own = self.0.borrow();
        let is_reused = own.upstream.as_ref().is_some_and(PooledConnection::is_reused);
        is_reused && own.seen == 0 && own.body.is_none()
    }

    /// A piece of the response's body; none at its end.
    pub(crate) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut own = self.0.borrow_mut();
        loop {
            // What is left of the request goes on its way; an error shows in the response.
            let _ = own.poll_write(cx);
            match own.take_data() {
                Ok(Some(piece)) => {
                    own.finish_if_done();
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if own.body.as_ref().is_none_or(Body::is_done) {
                own.finish_if_done();
                return Poll::Ready(None);
            }
            let Some(upstream) = &mut own.upstream else { return Poll::Ready(None) };
            match ready!(upstream.connection.poll_fill(cx)) {
                Ok(0) => {
                    let may_end = matches!(&own.body, Some(Body::Plain(scanner)) if scanner.may_end_with_connection());
                    own.body = None;
                    own.upstream = None;
                    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(if may_end { None } else { Some(Err(cut())) });
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The trailers of a response that has come to its end.
    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        let lines = std::mem::take(&mut self.0.borrow_mut().trailers);
        let mut trailers = HeaderMap::new();
        for line in lines.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let Ok(name) = HeaderName::from_bytes(name) else { continue };
            let Ok(value) = HeaderValue::from_bytes(value[1..].trim_ascii()) else { continue };
            if is_trailer(&name) {
                trailers.append(name, value);
            }
        }
        (!trailers.is_empty()).then_some(trailers)
    }

    /// Gives the exchange up: its connection is closed.
    pub(crate) fn cancel(&self) {
        self.0.borrow_mut().upstream = None;
    }
}

impl Exchange {
    fn connection(&mut self) -> io::Result<&mut PooledConnection> {
        self.upstream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(Ok(())) };
        let transport = &mut upstream.connection.transport;
        ready!(transport.poll_send_all(cx, &self.out, &mut self.written))?;
        self.out.clear();
        self.written = 0;
        self.finish_if_done();
        Poll::Ready(Ok(()))
    }

    /// The head of the final response, once it is whole.
    fn parse_head(&mut self) -> io::Result<Option<Response<()>>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        loop {
            let Self { upstream, index, seen, .. } = self;
            let upstream = upstream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let filled = upstream.connection.buffer.filled();
            if filled.len() <= *seen {
                return Ok(None);
            }
            let head_bytes = match index.parse(filled, *seen, &HeadLimits::default()) {
                Ok(Parsed::Complete(head_bytes)) => head_bytes,
                Ok(Parsed::Incomplete) => {
                    *seen = filled.len();
                    return Ok(None);
                }
                Err(_) => return Err(invalid()),
            };
            let head = index.head(filled, head_bytes);
            if head.is_interim() {
                upstream.connection.buffer.consume(head_bytes);
                (self.seen, self.interim) = (0, self.interim + 1);
                if self.interim > INTERIM_MAX {
                    return Err(invalid());
                }
                continue;
            }
            let mut response = Response::new(());
            // Another protocol was not asked for.
            let status = StatusCode::from_u16(head.status()).ok();
            let status = status.filter(|status| !status.is_informational()).ok_or_else(invalid)?;
            *response.status_mut() = status;
            let bytes = head.bytes();
            for field in head.fields() {
                let name = HeaderName::from_bytes(field.name.of(bytes)).map_err(|_| invalid())?;
                let conversion = conversion_of(name.as_str());
                if !matches!(conversion, Conversion::Keep | Conversion::Length) {
                    continue;
                }
                let value = HeaderValue::from_bytes(field.value.of(bytes));
                response.headers_mut().append(name, value.map_err(|_| invalid())?);
            }
            let length = head.body(self.method.as_str().as_bytes());
            self.keep = head.keeps_alive() && length != BodyLength::UntilClose;
            self.body = Some(match length {
                BodyLength::Chunked => Body::Chunked(ChunkedScanner::new()),
                length => Body::Plain(BodyScanner::new(length)),
            });
            upstream.connection.buffer.consume(head_bytes);
            return Ok(Some(response));
        }
    }

    /// What of the body has come; none: nothing has.
    fn take_data(&mut self) -> io::Result<Option<Bytes>> {
        let Self { upstream: Some(upstream), body: Some(body), trailers, .. } = self else {
            return Ok(None);
        };
        let buffer = &mut upstream.connection.buffer;
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut data = Vec::new();
        while !buffer.is_empty() && !body.is_done() {
            let filled = buffer.filled();
            let (taken, count) = match body {
                Body::Plain(scanner) => {
                    let count = scanner.take(filled).map_err(invalid)?;
                    (count, count)
                }
                Body::Chunked(scanner) => {
                    let in_trailers = scanner.in_trailers();
                    match scanner.next(filled).map_err(invalid)? {
                        ChunkPiece::Data(count) => (count, count),
                        ChunkPiece::End(count) | ChunkPiece::Framing(count) => {
                            if in_trailers {
                                trailers.extend_from_slice(&filled[..count]);
                            }
                            (0, count)
                        }
                    }
                }
            };
            data.extend_from_slice(&filled[..taken]);
            buffer.consume(count);
            if count == 0 {
                break;
            }
        }
        Ok((!data.is_empty()).then(|| data.into()))
    }

    /// Keeps the connection for another request, once both messages are over.
    fn finish_if_done(&mut self) {
        let is_over = self.request_ended
            && self.written == self.out.len()
            && self.body.as_ref().is_some_and(Body::is_done);
        if !is_over {
            return;
        }
        let Some(mut upstream) = self.upstream.take() else { return };
        if self.keep && upstream.connection.buffer.is_empty() {
            upstream.connection.buffer.release();
            upstream::put_back(&self.state, &self.endpoint, upstream);
        }
    }
}

/// The head as HTTP/1 writes it, and whether its body is chunked.
pub(super) fn head_of(request: &Request<()>, is_empty: bool) -> (Vec<u8>, bool) {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\n");
    let headers = request.headers();
    for (name, value) in headers {
        // Nobody would wait for leave to send the body.
        if conversion_of(name.as_str()) == Conversion::Keep && *name != http::header::EXPECT {
            write_field(&mut out, name, value.as_bytes());
        }
    }
    let cookies: Vec<&[u8]> = headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        write_field(&mut out, &http::header::COOKIE, &cookies.join(&b"; "[..]));
    }
    // Of one connection only, hence named by it.
    if headers.get(http::header::TE).is_some_and(|value| value == "trailers") {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    // HTTP/2 has made sure that several say the same, and that the body keeps to it.
    let length = headers.get(http::header::CONTENT_LENGTH);
    let is_chunked = !is_empty && length.is_none();
    if let Some(length) = length {
        write_field(&mut out, &http::header::CONTENT_LENGTH, length.as_bytes());
    } else if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !request.method().is_safe() {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (out, is_chunked)
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
