//! HTTP/1 requests to the workload.

use std::io;
use std::rc::Rc;

use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Output};
use heddle_ir::proxy::Limits;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::mesh::Direction;
use heddle_wire::http1::{self as wire, HeaderEdit, RequestEdits, TargetForm};
use heddle_wire::path;
use tokio::time::Instant;

use super::{Peer, application};
use crate::admission;
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Extra};
use crate::forward::client::{Client, ClientLimits, Request};
use crate::http1::{self, Begun, Finished};
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
        http1::answer(client, &begun, request, Answer::no_destination()).await?;
        return Ok(false);
    };
    let limits = snapshot.inbound_limits.clone();
    drop(snapshot);
    if request.head(&client.connection).form() == TargetForm::Authority {
        let finished = http1::answer(client, &begun, request, Answer::bad_request(405)).await?;
        record_request(worker, peer, &begun, &finished);
        return Ok(finished.keep);
    }
    let policy = inbound.inbound();
    let head = request.head(&client.connection);
    let Ok(normal) = path::normalize(head.path_text(), policy.path_normalization) else {
        let finished = http1::answer(client, &begun, request, Answer::bad_request(400)).await?;
        record_request(worker, peer, &begun, &finished);
        return Ok(finished.keep);
    };
    let head = match &normal {
        Some(path) => head.with_path(path),
        None => head,
    };
    let admitted = match admission::at_once(worker, peer, &inbound, &head) {
        Some(admitted) => admitted,
        None => {
            let normal = normal.as_deref();
            let cold =
                admission::http1::admit(worker, peer, &inbound, client, &mut request, normal);
            Box::pin(cold).await
        }
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => {
            let finished = http1::answer(client, &begun, request, answer).await?;
            record_request(worker, peer, &begun, &finished);
            return Ok(finished.keep);
        }
    };
    let head = request.head(&client.connection);
    let head = match &normal {
        Some(path) => head.with_path(path),
        None => head,
    };
    if let Some(limits) = &limits
        && let Err(refusal) = limits.check(worker, peer.asking(), &head)
    {
        let finished = http1::answer(client, &begun, request, refusal).await?;
        record_request(worker, peer, &begun, &finished);
        return Ok(finished.keep);
    }
    let state = worker.applications.on(peer.accepted.destination.port(), policy);
    let mut out = Output::new();
    let other_target = admitted.target(head.path_text());
    let path = other_target.as_deref().or(normal.as_deref());
    let edits = RequestEdits { path, ..RequestEdits::default() };
    let own = || own_edits(peer.client_certificate.as_deref());
    let headers = || admitted.request_edits().chain(own());
    wire::write_request(&head, &edits, headers, &mut out);
    let idempotent = http1::is_idempotent(head.method_text());
    // Not to be held while the request is under way.
    drop((normal, other_target, limits));
    let decided = Decided {
        worker,
        state: &state,
        permit: &admitted.permit,
        retry: &policy.retry,
        original: application(worker, peer.accepted.destination),
        hash: None,
        due: None,
        idempotent,
        extra: Extra::default(),
    };
    let edits = || admitted.response_edits();
    let finished = http1::forward(client, &begun, request, out, &decided, edits).await?;
    record_request(worker, peer, &begun, &finished);
    Ok(finished.keep)
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
