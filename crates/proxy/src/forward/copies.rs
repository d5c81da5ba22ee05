//! Copies of requests that go elsewhere too (mirroring): sent once the request's body is known whole, by a task of their own
//! whose end nobody waits for. What becomes of a copy touches no request. Bounded in number and in size; beyond, a request
//! goes on without copies.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_authz::Permit;
use heddle_balance::{Observation, Resource};
use heddle_http::Connection;
use heddle_route::RouteDecision;
use heddle_wire::http1::{BodyLength, BodyScanner, HeadLimits, Parsed};
use http::{HeaderMap, Request};

use crate::egress::{Departure, Leave};
use crate::forward::attempts::{Decided, Extra};
use crate::forward::bridge;
use crate::forward::client::LentResponseIndex;
use crate::forward::http2_attempts::poll_send;
use crate::forward::http2_client;
use crate::forward::retries::Retries;
use crate::forward::upgraded;
use crate::outbound::Accepted;
use crate::snapshot::{DestinationState, OutboundState};
use crate::upstream::{self, LimitToken, Target, UpstreamProtocol};
use crate::worker::Worker;

/// The longest body that is copied.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Copies of a thread that are under way.
const COPIES_MAX: usize = 1024;
/// How long a copy may take.
const COPY_MAX: Duration = Duration::from_secs(30);
/// So much of a response is read, to keep its connection; with more it is closed.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// What is read of a response head.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, fields_max: 100, target_bytes_max: 64 * 1024 };

/// The copies of a request that are still to be sent.
pub(crate) struct Copies {
    worker: Rc<Worker>,
    departure: Departure,
    accepted: Accepted,
    original: Target,
    pending: RefCell<Vec<Copy>>,
}

/// One copy.
struct Copy {
    state: Arc<DestinationState>,
    head: Head,
}

/// Where copies come from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    /// Judged as the request itself is.
    pub(crate) departure: &'a Departure,
    /// Of the connection that the request came on.
    pub(crate) accepted: Accepted,
}

/// A request without its body.
pub(crate) enum Head {
    /// As it is written.
    Http1 {
        head: Vec<u8>,
        is_head: bool,
        /// How the body is framed as it is given; none: it is given without framing.
        framed: Option<BodyLength>,
    },
    /// And whether its version may be changed for an endpoint.
    Http2(Request<()>, bool),
}

impl Copies {
    /// The copies that were drawn for a request; none where there are none. `head` makes that with a given authority in place
    /// of `authority`, where it can.
    pub(crate) fn of(
        source: Source<'_>,
        decision: &RouteDecision<'_>,
        outbound: &OutboundState,
        authority: &str,
        head: impl Fn(&str) -> Option<Head>,
    ) -> Option<Rc<Self>> {
        if decision.rule.mirrors.is_empty() {
            return None;
        }
        let copy = |copy: heddle_route::RequestCopy<'_>| {
            let state = outbound.destinations.get(copy.destination_index)?.clone();
            let authority = with_suffix(authority, &copy.mirror.authority_suffix);
            Some(Copy { state, head: head(&authority)? })
        };
        let pending: Vec<Copy> = decision.copies().filter_map(copy).collect();
        (!pending.is_empty()).then(|| {
            let Source { worker, departure, accepted } = source;
            let departure = departure.again(worker, accepted);
            let (worker, original) = (worker.clone(), Target::Address(accepted.destination));
            Rc::new(Self { worker, departure, accepted, original, pending: RefCell::new(pending) })
        })
    }

    /// Sends them, with this body; there is nothing more to send after that.
    pub(crate) fn send(&self, body: &[Bytes], trailers: Option<&HeaderMap>) {
        for copy in self.pending.take() {
            let Some(place) = Place::take(&self.worker) else { return };
            let (worker, original) = (self.worker.clone(), self.original.clone());
            let departure = self.departure.again(&self.worker, self.accepted);
            let (body, trailers) = (body.to_vec(), trailers.cloned());
            tokio::task::spawn_local(async move {
                let _place = place;
                let sending =
                    send(&worker, &copy.state, &departure, original, copy.head, body, trailers);
                // Whatever became of it: nobody waits.
                let _ = tokio::time::timeout(COPY_MAX, sending).await;
            });
        }
    }
}

/// Counts a copy under way.
struct Place(Rc<Worker>);

impl Place {
    fn take(worker: &Rc<Worker>) -> Option<Self> {
        let copies: &Cell<usize> = &worker.copies;
        let taken = copies.get();
        (taken < COPIES_MAX).then(|| {
            copies.set(taken + 1);
            Self(worker.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}

/// The suffix goes before the port.
fn with_suffix(authority: &str, suffix: &str) -> String {
    let port = match authority.rfind(':') {
        // Not the last colon of an IPv6 address.
        Some(colon) if !authority[colon..].contains(']') => colon,
        _ => authority.len(),
    };
    let (host, port) = authority.split_at(port);
    format!("{host}{suffix}{port}")
}

async fn send(
    worker: &Rc<Worker>,
    state: &Arc<DestinationState>,
    departure: &Departure,
    original: Target,
    head: Head,
    body: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> Option<()> {
    let _request = LimitToken::acquire(state, Resource::Requests).ok()?;
    let decided = Decided {
        worker,
        state,
        leave: Leave::Asked(departure),
        retry: &worker.no_retries,
        original,
        hash: None,
        due: None,
        idempotent: false,
        extra: Extra::default(),
    };
    let retries = Retries::new(&decided);
    let mut target = retries.pick()?;
    let permit = decided.leave.permit(worker, state, &mut target).await.ok()?;
    let _active = match &target {
        Target::Endpoint(_, state) => Some(state.begin()),
        Target::Address(_) | Target::Application(_) => None,
    };
    let status = match head {
        Head::Http1 { head, is_head, framed } => {
            let as_http2 = upgraded::is_for(state).then(|| upgraded::request_of(&head)).flatten();
            match (as_http2, framed) {
                (Some(request), _) => {
                    let data = framed
                        .map_or(Some(body.clone()), |length| upgraded::data_of(length, &body))?;
                    send_http2(&decided, &permit, &target, request, data, None).await
                }
                (None, Some(_)) => {
                    send_http1(&decided, &permit, &target, head, is_head, &body).await
                }
                (None, None) => {
                    let head = as_http1(upgraded::request_of(&head)?, &body);
                    send_http1(&decided, &permit, &target, head, is_head, &body).await
                }
            }
        }
        Head::Http2(request, true) if bridge::is_for(state, request.headers()) => {
            let is_head = request.method() == http::Method::HEAD;
            let head = as_http1(request, &body);
            send_http1(&decided, &permit, &target, head, is_head, &body).await
        }
        Head::Http2(request, _) => {
            send_http2(&decided, &permit, &target, request, body, trailers).await
        }
    };
    retries.observe(&target, status.map_or(Observation::ConnectFailure, Observation::Response));
    Some(())
}

/// The head of a request whose body is known whole.
fn as_http1(mut request: Request<()>, body: &[Bytes]) -> Vec<u8> {
    let length: usize = body.iter().map(Bytes::len).sum();
    request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    bridge::head_of(&request, false).0
}

async fn send_http1(
    decided: &Decided<'_>,
    permit: &Permit,
    target: &Target,
    mut message: Vec<u8>,
    is_head: bool,
    body: &[Bytes],
) -> Option<u16> {
    let Decided { worker, state, .. } = *decided;
    let endpoint = upstream::endpoint_of(worker, state, target, UpstreamProtocol::Http1).ok()?;
    let mut upstream = upstream::connect_http1(worker, state, &endpoint, permit).await.ok()?;
    for piece in body {
        message.extend_from_slice(piece);
    }
    upstream.connection.transport.send_all(&message).await.ok()?;
    let (status, reusable) = read_response(&mut upstream.connection, is_head).await?;
    if reusable {
        upstream::put_back(state, &endpoint, upstream);
    }
    Some(status)
}

/// The status of the response, and whether the connection takes another request.
async fn read_response(server: &mut Connection, is_head: bool) -> Option<(u16, bool)> {
    loop {
        let mut index = LentResponseIndex::new(HEAD_LIMITS.fields_max);
        let mut seen = 0;
        let head_bytes = loop {
            if server.buffer.len() <= seen && server.fill().await.ok()? == 0 {
                return None;
            }
            match index.index().parse(server.buffer.filled(), seen, &HEAD_LIMITS).ok()? {
                Parsed::Incomplete => seen = server.buffer.len(),
                Parsed::Complete(head_bytes) => break head_bytes,
            }
        };
        let head = index.index().head(server.buffer.filled(), head_bytes);
        let (status, interim, keeps) = (head.status(), head.is_interim(), head.keeps_alive());
        let body = head.body(if is_head { b"HEAD" } else { b"GET" });
        server.buffer.consume(head_bytes);
        if interim {
            continue;
        }
        let reusable = keeps && body != BodyLength::UntilClose && status != 101;
        return Some((status, reusable && drain(server, body).await.is_some()));
    }
}

async fn drain(server: &mut Connection, body: BodyLength) -> Option<()> {
    let mut scanner = BodyScanner::new(body);
    let mut bytes = 0;
    loop {
        let count = scanner.take(server.buffer.filled()).ok()?;
        server.buffer.consume(count);
        bytes += count;
        if scanner.is_done() {
            return server.buffer.is_empty().then_some(());
        }
        if bytes > RESPONSE_BYTES_MAX || server.fill().await.ok()? == 0 {
            return None;
        }
    }
}

async fn send_http2(
    decided: &Decided<'_>,
    permit: &Permit,
    target: &Target,
    request: Request<()>,
    body: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> Option<u16> {
    let Decided { worker, state, .. } = *decided;
    let endpoint = upstream::endpoint_of(worker, state, target, UpstreamProtocol::Http2).ok()?;
    let mut place = http2_client::connect(worker, state, &endpoint, permit).await.ok()?;
    poll_fn(|cx| place.sender.poll_ready(cx)).await.ok()?;
    let is_empty = body.is_empty() && trailers.is_none();
    let (response, mut sink) = place.sender.send_request(request, is_empty).ok()?;
    if !is_empty {
        for piece in body {
            let mut waiting = Some(piece).filter(|piece| !piece.is_empty());
            poll_fn(|cx| poll_send(cx, &mut sink, &mut waiting)).await.ok()?;
        }
        match trailers {
            Some(trailers) => sink.send_trailers(trailers),
            None => sink.send_data(Bytes::new(), true),
        }
        .ok()?;
    }
    let response = response.await.ok()?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(Ok(piece)) = body.data().await {
        bytes += piece.len();
        if bytes > RESPONSE_BYTES_MAX {
            break;
        }
        let _ = body.flow_control().release_capacity(piece.len());
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::with_suffix;

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (authority, expected) in [
            ("reviews", "reviews-shadow"),
            ("reviews:9080", "reviews-shadow:9080"),
            ("10.0.0.1:80", "10.0.0.1-shadow:80"),
            ("[::1]", "[::1]-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            assert_eq!(with_suffix(authority, "-shadow"), expected);
            assert_eq!(with_suffix(authority, ""), authority);
        }
    }
}
