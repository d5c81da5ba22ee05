//! HTTP/1 requests to the workload.

use std::io;
use std::rc::Rc;

use heddle_authz::{CompiledAuthorization, Permit};
use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Output};
use heddle_ir::proxy::Limits;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::mesh::Direction;
use heddle_wire::http1::{self as wire, HeaderEdit, RequestEdits, TargetForm};
use heddle_wire::path;
use tokio::time::Instant;

use super::{Peer, application};
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Extra};
use crate::forward::client::{Client, ClientLimits, Request};
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
        record_request(worker, peer, &begun, &finished);
        return Ok(false);
    }
    let admitted = admit(worker, peer, &inbound, limits.as_deref(), client, &mut request);
    let finished = match admitted {
        // In memory of its own: what few requests get must not make all of them larger.
        Err(answer) => Box::pin(http1::answer(client, &begun, request, answer)).await?,
        Ok(Admitted { permit, out, idempotent }) => {
            let policy = inbound.inbound();
            let state = worker.applications.on(peer.accepted.destination.port(), policy);
            let decided = Decided {
                worker,
                state: &state,
                permit: &permit,
                retry: &policy.retry,
                original: application(worker, peer.accepted.destination),
                hash: None,
                due: None,
                idempotent,
                extra: Extra::default(),
            };
            http1::forward(client, &begun, request, out, &decided, std::iter::empty).await?
        }
    };
    record_request(worker, peer, &begun, &finished);
    Ok(finished.keep)
}

/// A request that may go on, as it goes on.
struct Admitted {
    permit: Permit,
    out: Output,
    idempotent: bool,
}

/// Decides whether a request goes on, and writes its head; else what it is answered. Nothing in here waits, so that
/// nothing of what it looks at is held while the request is under way.
fn admit(
    worker: &Worker,
    peer: &Peer,
    inbound: &CompiledAuthorization,
    limits: Option<&CompiledLimits>,
    client: &Client,
    request: &mut Request,
) -> Result<Admitted, Answer> {
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
    let permit = inbound.decide_request(&peer.facts, &head).verdict.into_permit();
    let permit = permit.map_err(|denial| {
        let what = format_args!("{} {}", head.method_text(), head.path_text());
        super::denied(worker, peer, &what, denial.origin());
        Answer::denied()
    })?;
    if let Some(limits) = limits {
        limits.check(worker, peer.asking(), &head)?;
    }
    let mut out = Output::new();
    let edits = RequestEdits { path: normal.as_deref(), ..RequestEdits::default() };
    let headers = || own_edits(peer.client_certificate.as_deref());
    wire::write_request(&head, &edits, headers, &mut out);
    Ok(Admitted { permit, out, idempotent: http1::is_idempotent(head.method_text()) })
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

fn record_request(worker: &Worker, peer: &Peer, begun: &Begun, finished: &Finished) {
    worker.events.count(Direction::Inbound, finished.ended.reason);
    let recorder = peer.recorder(worker, begun.asked.is_grpc);
    http1::record(recorder, begun, finished, ResponseFlags::NONE, Instant::now());
}
