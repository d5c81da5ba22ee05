//! HTTP/1 requests to the workload.

use std::io;
use std::rc::Rc;

use heddle_authz::CompiledAuthorization;
use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Output};
use heddle_ir::proxy::Limits;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::mesh::Direction;
use heddle_wire::http1::{self as wire, HeaderEdit, RequestEdits, TargetForm};
use heddle_wire::path;
use tokio::time::Instant;

use super::standing::{Admission, Kept};
use super::{Peer, application};
use crate::access_log::RequestLog;
use crate::admission::{self, Admitted};
use crate::egress::Leave;
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Extra};
use crate::forward::client::{Client, ClientLimits, Request};
use crate::forward::upgraded;
use crate::http1::{self, Begun, Finished};
use crate::rate_limits::CompiledLimits;
use crate::worker::Worker;

/// Serves the requests of one connection, one after the other.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    peer: Box<Peer>,
    connection: Connection,
    guard: DrainGuard,
) {
    let snapshot = worker.shared.configuration.snapshot();
    let limits = snapshot.settings.as_ref().map_or_else(Limits::default, |s| s.limits);
    drop(snapshot);
    let mut client = Client::new(connection, ClientLimits::new(&limits), guard);
    loop {
        let request = match client.next_request().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => return client.refuse(&error).await,
        };
        // In memory of its own, which an idle connection does not hold.
        match Box::pin(serve_request(worker, &peer, &mut client, request)).await {
            Ok(true) => client.rest(Instant::now()),
            Ok(false) | Err(_) => return,
        }
    }
}

/// The phases of a request. Answers whether the connection takes another one.
pub(crate) async fn serve_request(
    worker: &Rc<Worker>,
    peer: &Peer,
    client: &mut Client,
    mut request: Request,
) -> io::Result<bool> {
    let begun = Begun::of(&mut request, client);
    let addresses = (peer.accepted.source, peer.accepted.destination);
    let log = http1::begin_log(worker, client, &begun, &mut request, addresses);
    let log = log.as_deref();
    let head = request.head(&client.connection);
    let kept = Kept::Http1(head.bytes().to_vec(), client.limits.head);
    let admission = Admission::new(worker, peer, kept);
    let snapshot = worker.shared.configuration.snapshot();
    let Some(inbound) = snapshot.inbound.clone() else {
        Box::pin(http1::answer(client, &begun, request, Answer::no_destination())).await?;
        return Ok(false);
    };
    let limits = snapshot.inbound_limits.clone();
    drop(snapshot);
    if peer.is_revoked(worker) {
        peer.tell_revoked(worker);
        let denied = http1::answer(client, &begun, request, Answer::denied());
        let finished = Box::pin(denied).await?;
        record_request(worker, peer, &begun, &finished, log);
        return Ok(false);
    }
    let limits = limits.as_deref();
    let mut ready = admit(worker, peer, &inbound, limits, client, &mut request, None);
    if let Ok(None) = ready {
        // In memory of its own, too.
        let asking = admission::http1::admit(worker, peer.party(), &inbound, client, &mut request);
        let known = match (Box::pin(asking).await, limits) {
            (Ok(known), Some(limits)) => {
                Box::pin(limit(worker, peer, &inbound, limits, client, &mut request, known)).await
            }
            (known, _) => known,
        };
        ready = known.and_then(|known| {
            admit(worker, peer, &inbound, None, client, &mut request, Some(known))
        });
    }
    let finished = match ready.and_then(|ready| ready.ok_or_else(Answer::denied)) {
        // In memory of its own: what few requests get must not make all of them larger.
        Err(answer) => Box::pin(http1::answer(client, &begun, request, answer)).await?,
        Ok(Ready { admitted, out, idempotent }) => {
            admission.know(admitted.changes.as_ref());
            let policy = inbound.inbound();
            let state = worker.applications.on(peer.accepted.destination.port(), policy);
            let decided = Decided {
                worker,
                state: &state,
                leave: Leave::Given(&admitted.permit),
                retry: &policy.retry,
                original: application(worker, policy, peer.accepted.destination),
                hash: None,
                due: None,
                idempotent,
                extra: Extra {
                    log,
                    standing: Some(&admission),
                    as_http2: upgraded::is_for(&state),
                    ..Extra::default()
                },
            };
            let edits = || admitted.response_edits();
            http1::forward(client, &begun, request, out, &decided, edits).await?
        }
    };
    record_request(worker, peer, &begun, &finished, log);
    Ok(finished.keep)
}

/// A request that may go on, as it goes on.
struct Ready {
    admitted: Admitted,
    out: Output,
    idempotent: bool,
}

/// Decides whether a request goes on, and writes its head; else what it is answered. Nothing in here waits, so that
/// nothing of what it looks at is held while the request is under way. None: somebody must be waited for, whose word
/// is to be brought as `known`, after the limits were asked.
fn admit(
    worker: &Worker,
    peer: &Peer,
    inbound: &CompiledAuthorization,
    limits: Option<&CompiledLimits>,
    client: &Client,
    request: &mut Request,
    known: Option<Admitted>,
) -> Result<Option<Ready>, Answer> {
    let head = request.head(&client.connection);
    if head.form() == TargetForm::Authority {
        return Err(Answer::bad_request(405));
    }
    let normal = path::normalize(head.path_text(), inbound.inbound().path_normalization)
        .map_err(|_| Answer::bad_request(400))?;
    let head = match &normal {
        Some(path) => head.with_path(path),
        None => head,
    };
    if known.is_none() && limits.is_some_and(CompiledLimits::asks) {
        return Ok(None);
    }
    let known = known.map(Ok).or_else(|| admission::at_once(worker, peer.party(), inbound, &head));
    let Some(admitted) = known.transpose()? else { return Ok(None) };
    if let Some(limits) = limits {
        limits.check(worker, peer.asking(), &head)?;
    }
    let mut out = Output::new();
    let other_target = admitted.target(head.path_text());
    let path = other_target.as_deref().or(normal.as_deref());
    let edits = RequestEdits { path, ..RequestEdits::default() };
    let own = || own_edits(peer.client_certificate.as_deref());
    let headers = || admitted.request_edits().chain(own());
    wire::write_request(&head, &edits, headers, &mut out);
    let idempotent = http1::is_idempotent(head.method_text());
    Ok(Some(Ready { admitted, out, idempotent }))
}

/// Takes a token of each limit, and has the request counted by whoever counts for several proxies.
async fn limit(
    worker: &Rc<Worker>,
    peer: &Peer,
    inbound: &CompiledAuthorization,
    limits: &CompiledLimits,
    client: &Client,
    request: &mut Request,
    admitted: Admitted,
) -> Result<Admitted, Answer> {
    let head = request.head(&client.connection);
    let normal = path::normalize(head.path_text(), inbound.inbound().path_normalization)
        .map_err(|_| Answer::bad_request(400))?;
    let head = match &normal {
        Some(path) => head.with_path(path),
        None => head,
    };
    peer.limit(worker, inbound, limits, &head, admitted, "").await
}

/// What the proxy itself tells the application: who the client is. What a plaintext client says about that is removed,
/// since it has not been proven.
pub(crate) fn own_edits(client_certificate: Option<&str>) -> impl Iterator<Item = HeaderEdit<'_>> {
    const NAME: &str = "x-forwarded-client-cert";
    std::iter::once(match client_certificate {
        Some(certificate) => HeaderEdit::Add(NAME, certificate.as_bytes()),
        None => HeaderEdit::Remove(NAME),
    })
}

fn record_request(
    worker: &Worker,
    peer: &Peer,
    begun: &Begun,
    finished: &Finished,
    log: Option<&RequestLog>,
) {
    http1::end_log(log, begun, finished, ResponseFlags::NONE, Some(peer));
    worker.events.count(Direction::Inbound, finished.ended.reason);
    let recorder = peer.recorder(worker, begun.asked.is_grpc);
    http1::record(recorder, begun, finished, ResponseFlags::NONE, Instant::now());
}
