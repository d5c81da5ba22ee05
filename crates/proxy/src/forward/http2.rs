//! HTTP/2 towards clients: connections, and what is the same for the requests of both directions.
//!
//! Frames, flow control and HPACK are the `h2` crate's. Each request is a task of its own; what it has to say to others
//! goes through the connection's driver. A request keeps its version: it goes on as HTTP/2.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use heddle_http::Connection;
use heddle_http::deadline::Deadline;
use heddle_http::drain::DrainGuard;
use heddle_ir::proxy::Limits;
use heddle_ir::request::RequestHead;
use heddle_wire::http1::{is_authority, write_target};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;

use crate::forward::answer::Answer;

/// Bytes that a peer may send ahead on one stream, and on all streams of a connection. Small windows cost bulk
/// throughput; what is sent ahead is held in memory.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The largest frame of data.
pub(crate) const FRAME_BYTES_MAX: u32 = 32 * 1024;
/// Streams that a peer may have reset and that are still remembered; more, and it is cut off (CVE-2023-44487).
pub(crate) const RESET_STREAMS_MAX: usize = 64;

/// How long a client without requests may take to answer that its connection ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// One request of a connection.
pub(crate) struct Stream {
    pub(crate) head: Parts,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) started: Instant,
}

/// Serves a connection until it ends, is idle for too long or has drained. `serve` makes the task of a request.
pub(crate) async fn serve_connection<F: Future<Output = ()> + 'static>(
    connection: Connection,
    limits: &Limits,
    guard: DrainGuard,
    serve: impl Fn(Stream) -> F,
) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(limits.head_bytes_max)
        .max_concurrent_streams(limits.concurrent_streams_max)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_send_buffer_size(STREAM_WINDOW_BYTES as usize);
    let shaking = builder.handshake::<_, Bytes>(connection);
    let Ok(Ok(mut connection)) = tokio::time::timeout(limits.head_timeout, shaking).await else {
        return;
    };
    let active = Rc::new(Cell::new(0_usize));
    let mut deadline = Deadline::new(Instant::now() + limits.idle_timeout);
    let mut ending = false;
    let mut farewell: Option<Deadline> = None;
    loop {
        let accepted = poll_fn(|cx| {
            if !ending && guard.poll_draining(cx) {
                ending = true;
                connection.graceful_shutdown();
            }
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
            if !ending && deadline.poll(cx).is_ready() {
                if active.get() == 0 {
                    ending = true;
                    connection.graceful_shutdown();
                    // Have the shutdown written.
                    if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                        return Poll::Ready(accepted);
                    }
                    return farewell
                        .insert(Deadline::new(Instant::now() + FAREWELL_MAX))
                        .poll(cx)
                        .map(|()| None);
                }
                deadline.set(Instant::now() + limits.idle_timeout);
                return deadline.poll(cx).map(|()| None);
            }
            // A client that does not say goodbye would stay for ever.
            if !ending || active.get() > 0 {
                farewell = None;
                return Poll::Pending;
            }
            let due = || Deadline::new(Instant::now() + FAREWELL_MAX);
            farewell.get_or_insert_with(due).poll(cx).map(|()| None)
        })
        .await;
        let Some(Ok((request, respond))) = accepted else { return };
        let started = Instant::now();
        deadline.set(started + limits.idle_timeout);
        let (head, body) = request.into_parts();
        let serving = serve(Stream { head, body, respond, started });
        let active = Active::new(&active);
        tokio::task::spawn_local(async move {
            let _active = active;
            serving.await;
        });
    }
}

/// Counts while it lives.
pub(crate) struct Active(Rc<Cell<usize>>);

impl Active {
    pub(crate) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The view of an HTTP/2 head that rules read.
pub(crate) struct Head<'a> {
    parts: &'a Parts,
    /// Another path than was received, as a normalised one.
    path: Option<&'a str>,
    /// Another scheme than was said, where the connection tells it.
    scheme: Option<&'static str>,
}

impl<'a> Head<'a> {
    pub(crate) fn new(parts: &'a Parts) -> Self {
        Self { parts, path: None, scheme: None }
    }

    pub(crate) fn with_path(parts: &'a Parts, path: Option<&'a str>) -> Self {
        Self { parts, path, scheme: None }
    }

    /// The same as addressed under this scheme.
    pub(crate) fn with_scheme(self, https: bool) -> Self {
        Self { scheme: Some(if https { "https" } else { "http" }), ..self }
    }
}

impl RequestHead for Head<'_> {
    fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    fn path(&self) -> &str {
        self.path.unwrap_or_else(|| self.parts.uri.path())
    }

    fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    fn authority(&self) -> &str {
        authority_of(self.parts)
    }

    fn scheme(&self) -> &str {
        self.scheme.or(self.parts.uri.scheme_str()).unwrap_or("http")
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.parts.headers.get_all(name).iter();
        let first = values.next()?.as_bytes();
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        // RFC 9113 section 8.2.3: cookies are joined in their own way.
        let separator: &[u8] = if name == "cookie" { b"; " } else { b"," };
        let mut joined = [first, second.as_bytes()].join(separator);
        for value in values {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(value.as_bytes());
        }
        Some(Cow::Owned(joined))
    }
}

/// `:authority`, else `host`; empty where there is neither.
pub(crate) fn authority_of(parts: &Parts) -> &str {
    let host = || parts.headers.get("host").and_then(|value| value.to_str().ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(host).unwrap_or_default()
}

/// What a request is answered that cannot be forwarded: a tunnel, or one whose target HTTP/1 does not have either (RFC 9113
/// section 8.3.1). The library has checked the characters, not the meaning.
pub(crate) fn refusal_of(parts: &Parts) -> Option<Answer> {
    if parts.method == http::Method::CONNECT {
        return Some(Answer::bad_request(405));
    }
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let has_path =
        target.starts_with('/') || target == "*" && parts.method == http::Method::OPTIONS;
    let authority = authority_of(parts);
    let is_whole = has_path && !authority.is_empty() && is_authority(authority.as_bytes());
    // Where `host` stands alone it must not be several.
    let is_one =
        parts.uri.authority().is_some() || parts.headers.get_all("host").iter().count() < 2;
    (!is_whole || !is_one).then(|| Answer::bad_request(400))
}

/// Whether a request is gRPC, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// One change of a header. What cannot be a header, or belongs to the connection, is passed over.
pub(crate) fn edit(headers: &mut HeaderMap, edit: heddle_wire::http1::HeaderEdit<'_>) {
    use heddle_wire::convert::{Conversion, conversion_of};
    use heddle_wire::http1::HeaderEdit::{Add, Remove, Set};
    let (Add(name, _) | Remove(name) | Set(name, _)) = edit;
    let keeps = matches!(conversion_of(name), Conversion::Keep | Conversion::JoinCookies);
    let Some(name) = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| keeps) else { return };
    match edit {
        Add(_, value) => {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(name, value);
            }
        }
        Remove(_) => {
            headers.remove(name);
        }
        Set(_, value) => {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// The head of the request as it goes on, with another path (see [`write_target`]) and authority. None where that is no valid target: what was
/// decided about is then nothing that can be sent, and as it came it was not decided about.
pub(crate) fn rewritten(
    parts: &Parts,
    path: Option<&str>,
    authority: Option<&str>,
) -> Option<Request<()>> {
    let mut uri = http::uri::Builder::new().scheme(parts.uri.scheme_str().unwrap_or("http"));
    uri = uri.authority(authority.unwrap_or_else(|| authority_of(parts)));
    let mut target = Vec::new();
    write_target(path.unwrap_or_else(|| parts.uri.path()), parts.uri.query(), &mut target);
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri.path_and_query(target).build().ok()?;
    *request.headers_mut() = parts.headers.clone();
    // `:authority` says it; a `host` beside it could say something else.
    request.headers_mut().remove("host");
    Some(request)
}

/// Answers a request itself. gRPC clients get the status in the head (a trailers-only response).
pub(crate) fn answer(
    respond: &mut SendResponse<Bytes>,
    parts: &Parts,
    answer: &Answer,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    if is_grpc(&parts.headers) {
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(answer.grpc_code())));
        if let Ok(message) = HeaderValue::from_bytes(&answer.body) {
            headers.insert("grpc-message", message);
        }
        for (name, value) in answer.grpc_headers() {
            edit(headers, heddle_wire::http1::HeaderEdit::Add(name, value.as_bytes()));
        }
        return respond.send_response(response, true).map(drop);
    }
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        edit(response.headers_mut(), heddle_wire::http1::HeaderEdit::Add(name, value.as_bytes()));
    }
    let headers = response.headers_mut();
    headers.insert("content-length", HeaderValue::from(answer.body.len()));
    headers.insert("server", HeaderValue::from_static("istio-envoy"));
    let is_empty = answer.body.is_empty() || parts.method == http::Method::HEAD;
    if !is_empty && !headers.contains_key("content-type") {
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
    }
    let mut body = respond.send_response(response, is_empty)?;
    if !is_empty {
        body.send_data(Bytes::from(answer.body.clone().into_owned()), true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_on_as_it_was_decided_or_not_at_all() {
        let (parts, ()) = Request::get("http://a/x?y").body(()).unwrap().into_parts();
        let target = |path, authority| {
            let request = rewritten(&parts, path, authority);
            request.map(|request| request.uri().to_string())
        };
        for (path, expected) in [
            (None, "http://a/x?y"),
            (Some("/z"), "http://a/z?y"),
            (Some("/z?q"), "http://a/z?q"),
            (Some("/z?"), "http://a/z"),
        ] {
            assert_eq!(target(path, None).as_deref(), Some(expected), "{path:?}");
        }
        assert_eq!(target(Some("/z"), Some("b c")), None);
        assert_eq!(target(Some("/ z"), None), None);
    }
}
