//! HTTP/2 requests to the workload.

use std::rc::Rc;

use heddle_http::Connection;
use heddle_http::drain::DrainGuard;
use heddle_ir::proxy::Limits;
use heddle_telemetry::ResponseFlags;
use heddle_telemetry::mesh::Direction;
use heddle_wire::path;

use super::http1::own_edits;
use super::standing::{Admission, Kept};
use super::{Peer, application};
use crate::access_log::RequestLog;
use crate::admission::{self, http2::Received};
use crate::egress::Leave;
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Extra};
use crate::forward::bridge;
use crate::forward::http2::{self, Head, Stream};
use crate::http1::is_idempotent;
use crate::http2::{Finished, answered, begin_log, end_log, forward, record};
use crate::worker::Worker;

/// Serves the requests of one connection.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    peer: Box<Peer>,
    client: Connection,
    guard: DrainGuard,
) {
    let snapshot = worker.shared.configuration.snapshot();
    let limits = snapshot.settings.as_ref().map_or_else(Limits::default, |s| s.limits);
    drop(snapshot);
    let peer: Rc<Peer> = Rc::from(peer);
    let keep_bytes_max = limits.retry_body_bytes_max as usize;
    let serving = http2::serve_connection(client, &limits, guard, |stream| {
        let (worker, peer) = (worker.clone(), peer.clone());
        Box::pin(async move {
            let (started, is_grpc) = (stream.started, http2::is_grpc(&stream.head.headers));
            let addresses = (peer.accepted.source, peer.accepted.destination);
            let log = begin_log(&worker, &stream.head, started, addresses);
            let log = log.as_deref();
            let finished = serve_request(&worker, &peer, stream, keep_bytes_max, log).await;
            worker.events.count(Direction::Inbound, finished.ended.reason);
            let recorder = peer.recorder(&worker, is_grpc);
            record(recorder, started, &finished, ResponseFlags::NONE);
            end_log(log, &finished, ResponseFlags::NONE, Some(&peer));
        })
    });
    Box::pin(serving).await;
}

/// The phases of a request.
pub(crate) async fn serve_request(
    worker: &Rc<Worker>,
    peer: &Peer,
    stream: Stream,
    keep_bytes_max: usize,
    log: Option<&RequestLog>,
) -> Finished {
    let Stream { head, body, mut respond, .. } = stream;
    let admission = Admission::new(worker, peer, Kept::Http2(&head));
    let snapshot = worker.shared.configuration.snapshot();
    let Some(inbound) = snapshot.inbound.clone() else {
        return answered(&head, &Answer::no_destination(), &mut respond);
    };
    let limits = snapshot.inbound_limits.clone();
    drop(snapshot);
    if peer.is_revoked(worker) {
        peer.tell_revoked(worker);
        return answered(&head, &Answer::denied(), &mut respond);
    }
    if let Some(answer) = http2::refusal_of(&head) {
        return answered(&head, &answer, &mut respond);
    }
    let policy = inbound.inbound();
    let Ok(normal) = path::normalize(head.uri.path(), policy.path_normalization) else {
        return answered(&head, &Answer::bad_request(400), &mut respond);
    };
    let view = Head::with_path(&head, normal.as_deref());
    let mut body = Received::from(body);
    let admitted = if let Some(admitted) = admission::at_once(worker, peer.party(), &inbound, &view)
    {
        admitted
    } else {
        let (party, normal, body) = (peer.party(), normal.as_deref(), &mut body);
        Box::pin(admission::http2::admit(worker, party, &inbound, &head, body, normal)).await
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => return answered(&head, &answer, &mut respond),
    };
    admission.know(admitted.changes.as_ref());
    let admitted = match &limits {
        None => Ok(admitted),
        Some(limits) if limits.asks() => {
            Box::pin(peer.limit(worker, &inbound, limits, &view, admitted, "")).await
        }
        Some(limits) => limits.check(worker, peer.asking(), &view).map(|()| admitted),
    };
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return answered(&head, &refusal, &mut respond),
    };
    let state = worker.applications.on(peer.accepted.destination.port(), policy);
    let decided = Decided {
        worker,
        state: &state,
        leave: Leave::Given(&admitted.permit),
        retry: &policy.retry,
        original: application(worker, policy, peer.accepted.destination),
        hash: None,
        due: None,
        idempotent: is_idempotent(head.method.as_str()),
        extra: Extra {
            log,
            standing: Some(&admission),
            as_http1: bridge::is_for(&state, &head.headers),
            ..Extra::default()
        },
    };
    let target = admitted.target(normal.as_deref().unwrap_or(head.uri.path()));
    let target = target.as_deref().or(normal.as_deref());
    let Some(mut request) = http2::rewritten(&head, target, None) else {
        return answered(&head, &Answer::bad_request(400), &mut respond);
    };
    for change in admitted.request_edits().chain(own_edits(peer.client_certificate.as_deref())) {
        http2::edit(request.headers_mut(), change);
    }
    let edits = || admitted.response_edits();
    forward(&decided, &head, &request, body, keep_bytes_max, &mut respond, edits).await
}
