//! HTTP/1 requests to the workload.

use std::cell::OnceCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use heddle_http::Output;
use heddle_http::drain::DrainGuard;
use heddle_ir::proxy::Limits;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::istio::RequestRecorder;
use heddle_wire::http1::{self as wire, HeaderEdit, RequestEdits, TargetForm};
use heddle_wire::path;
use tokio::time::Instant;

use super::{Accepted, Identified, application};
use crate::forward::answer::Answer;
use crate::forward::attempts::Decided;
use crate::forward::client::{Client, ClientLimits, Request};
use crate::http1::{self, Begun, Finished};
use crate::record::{self, Pair};
use crate::worker::Worker;

/// What stays the same for the requests of a connection.
pub(crate) struct Peer {
    pub(crate) accepted: Accepted,
    pub(crate) facts: heddle_authz::Connection,
    pub(crate) client_certificate: Option<String>,
    /// What counts its requests: of HTTP, and of gRPC.
    recorders: [OnceCell<Option<Arc<RequestRecorder>>>; 2],
}

impl Peer {
    pub(crate) fn new(
        accepted: Accepted,
        facts: heddle_authz::Connection,
        client_certificate: Option<String>,
    ) -> Self {
        Self { accepted, facts, client_certificate, recorders: Default::default() }
    }

    pub(crate) fn recorder(&self, worker: &Worker, grpc: bool) -> Option<&Arc<RequestRecorder>> {
        let Self { accepted, facts, recorders, .. } = self;
        let recorder = recorders[usize::from(grpc)].get_or_init(|| {
            let (port, source) = (accepted.destination.port(), accepted.source.ip());
            let pair = Pair::Inbound { peer: facts.peer_identity().cloned(), source, port, grpc };
            worker.recorders.requests(pair, |metrics, kind| {
                let snapshot = worker.shared.configuration.snapshot();
                let services = record::services_on(&snapshot, port);
                let identity = facts.peer_identity();
                record::inbound(metrics, kind, &snapshot, identity, source, services, grpc)
            })
        });
        recorder.as_ref()
    }
}

/// Serves the requests of one connection, one after the other.
pub(crate) async fn serve(worker: &Rc<Worker>, identified: Identified, guard: DrainGuard) {
    let Identified { accepted, facts, client, client_certificate } = identified;
    let snapshot = worker.shared.configuration.snapshot();
    let limits = snapshot.settings.as_ref().map_or_else(Limits::default, |s| s.limits);
    drop(snapshot);
    super::learn_caller(worker, accepted, &facts).await;
    let peer = Peer::new(accepted, facts, client_certificate);
    let mut client = Client::new(client, ClientLimits::new(&limits), guard);
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
    drop(snapshot);
    if request.head(&client.connection).form() == TargetForm::Authority {
        let finished = http1::answer(client, &begun, request, Answer::bad_request(405)).await?;
        record_request(worker, peer, &begun, &finished);
        return Ok(finished.keep);
    }
    let policy = inbound.inbound();
    let head = request.head(&client.connection);
    let normal = match path::normalize(head.path_text(), policy.path_normalization) {
        Ok(normal) => normal,
        Err(_) => {
            let finished = http1::answer(client, &begun, request, Answer::bad_request(400)).await?;
            record_request(worker, peer, &begun, &finished);
            return Ok(finished.keep);
        }
    };
    let head = match &normal {
        Some(path) => head.with_path(path),
        None => head,
    };
    let decision = inbound.decide_request(&peer.facts, &head);
    let permit = match decision.verdict.into_permit() {
        Ok(permit) => permit,
        Err(_) => {
            let finished = http1::answer(client, &begun, request, Answer::denied()).await?;
            record_request(worker, peer, &begun, &finished);
            return Ok(finished.keep);
        }
    };
    let state = worker.applications.on(peer.accepted.destination.port(), policy);
    let mut out = Output::new();
    let edits = RequestEdits { path: normal.as_deref(), ..RequestEdits::default() };
    let headers = || own_edits(peer.client_certificate.as_deref());
    wire::write_request(&head, &edits, headers, &mut out);
    let decided = Decided {
        worker,
        state: &state,
        permit: &permit,
        retry: &policy.retry,
        original: application(worker, peer.accepted.destination),
        hash: None,
        due: None,
        idempotent: http1::is_idempotent(head.method_text()),
    };
    let edits = std::iter::empty;
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
    let recorder = peer.recorder(worker, begun.asked.is_grpc);
    http1::record(recorder, begun, finished, ResponseFlags::NONE, Instant::now());
}
