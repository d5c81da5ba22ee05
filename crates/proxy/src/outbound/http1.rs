//! HTTP/1 requests of the workload.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::OutboundTarget;
use heddle_balance::HashedRequest;
use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Output};
use heddle_ir::http_route::AbortStatus;
use heddle_ir::proxy::Limits;
use heddle_ir::request::Known;
use heddle_route::{CorsHeaders, CorsOutcome, RouteAction, RouteDecision};
use heddle_telemetry::istio::RequestRecorder;
use heddle_telemetry::mesh::Direction;
use heddle_telemetry::{Reason, ResponseFlag, ResponseFlags};
use heddle_wire::http1::{
    self as wire, BodyLength, HeaderEdit, RequestEdits, RequestHead, TargetForm,
};
use http::HeaderMap;
use tokio::time::Instant;

use super::session::RequestSession;
use super::{Accepted, request_id};
use crate::access_log::RequestLog;
use crate::admission::routed::Asking;
use crate::admission::{Change, Changes};
use crate::egress::{Departure, Leave};
use crate::find::{Finder, Found};
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Ended, Extra};
use crate::forward::client::{Client, ClientLimits, Request};
use crate::forward::copies::{self, Copies, Source};
use crate::forward::upgraded;
use crate::gateway::{Edge, Entered};
use crate::http1::{self, Begun, Finished};
use crate::record::{self, Pair};
use crate::snapshot::DestinationState;
use crate::upstream::Target;
use crate::worker::Worker;

/// Serves the requests of one connection, one after the other.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    accepted: Accepted,
    edge: Option<Rc<Edge>>,
    connection: Connection,
    guard: DrainGuard,
) {
    let snapshot = worker.shared.configuration.snapshot();
    let limits = snapshot.settings.as_ref().map_or_else(Limits::default, |s| s.limits);
    drop(snapshot);
    let mut client = Client::new(connection, ClientLimits::new(&limits), guard);
    let mut finder = Finder::new(accepted.destination, edge);
    loop {
        let request = match client.next_request().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => return client.refuse(&error).await,
        };
        // In memory of its own, which an idle connection does not hold.
        let serving = Box::pin(serve_request(worker, accepted, &mut client, &mut finder, request));
        match serving.await {
            Ok(true) => client.rest(Instant::now()),
            Ok(false) | Err(_) => return,
        }
    }
}

/// The phases of a request. Answers whether the connection takes another one.
pub(crate) async fn serve_request(
    worker: &Rc<Worker>,
    accepted: Accepted,
    client: &mut Client,
    finder: &mut Finder,
    mut request: Request,
) -> io::Result<bool> {
    let begun = Begun::of(&mut request, client);
    let addresses = (accepted.source, accepted.destination);
    let log = http1::begin_log(worker, client, &begun, &mut request, addresses);
    let log = log.as_deref();
    let edge = finder.edge().cloned();
    let mut entered = None;
    let found = if request.head(&client.connection).form() == TargetForm::Authority {
        Err(Answer::bad_request(405))
    } else if let Some(edge) = &edge {
        let entering = edge.enter_http1(worker, client, &mut request);
        Box::pin(entering).await.map(|(own, outbound)| {
            entered = Some(own);
            Found::Routes(outbound)
        })
    } else {
        let head = request.head(&client.connection);
        finder.find(worker, head.authority_text(), begun.started).await
    };
    let entered = entered.as_deref();
    let mut extra = ResponseFlags::NONE;
    let finished = match &found {
        Err(answer) => http1::answer(client, &begun, request, answer.clone()).await,
        Ok(Found::Direct(reached, state)) => {
            let mut out = Output::new();
            let head = request.head(&client.connection);
            let snapshot = worker.shared.configuration.snapshot();
            let departure = Departure::of_request(
                snapshot,
                accepted,
                reached.target(accepted.destination),
                &head,
            );
            let own = OwnEdits::new(worker, &head, None);
            wire::write_request(&head, &RequestEdits::default(), || own.iter(), &mut out);
            own.tell(log);
            let decided = Decided {
                worker,
                state,
                leave: Leave::Asked(&departure),
                retry: &worker.no_retries,
                original: Target::Address(accepted.destination),
                hash: None,
                due: None,
                idempotent: http1::is_idempotent(head.method_text()),
                extra: Extra { log, ..Extra::default() },
            };
            http1::forward(client, &begun, request, out, &decided, std::iter::empty).await
        }
        Ok(Found::Routes(outbound)) => {
            let random = worker.random();
            let head = seen(request.head(&client.connection), entered);
            let decision = match entered.and_then(Entered::token) {
                None => outbound.routes.decide(&head, random),
                token => outbound.routes.decide(&Known { head: &head, token, route: None }, random),
            };
            match decision {
                None => http1::answer(client, &begun, request, Answer::no_route()).await,
                Some(mut decision) => {
                    let session = RequestSession::begin(&mut decision, &head);
                    let asked = OnceCell::new();
                    let routed = Routed {
                        worker,
                        accepted,
                        entered,
                        decision,
                        outbound,
                        session,
                        log,
                        asked,
                    };
                    if routed.decision.rule.authorizer.is_some() {
                        // In memory of its own, which most requests do not need.
                        Box::pin(routed.ask(client, &begun, request, &mut extra)).await
                    } else {
                        routed.serve(client, &begun, request, &mut extra).await
                    }
                }
            }
        }
    }?;
    record_request(worker, &begun, &finished, extra);
    http1::end_log(log, &begun, &finished, extra, None);
    Ok(finished.keep)
}

/// A request that a rule matched.
struct Routed<'a> {
    worker: &'a Rc<Worker>,
    accepted: Accepted,
    entered: Option<&'a Entered<'a>>,
    decision: RouteDecision<'a>,
    outbound: &'a crate::snapshot::OutboundState,
    session: Option<Box<RequestSession<'a>>>,
    log: Option<&'a RequestLog>,
    /// What the route's authoriser has changed.
    asked: OnceCell<Box<Changes>>,
}

/// A request as it goes on.
struct Written {
    out: Output,
    hash: Option<u64>,
    idempotent: bool,
    copies: Option<Rc<Copies>>,
}

impl Routed<'_> {
    async fn serve(
        &self,
        client: &mut Client,
        begun: &Begun,
        mut request: Request,
        extra: &mut ResponseFlags,
    ) -> io::Result<Finished> {
        let head = seen(request.head(&client.connection), self.entered);
        if let Some(log) = self.log {
            log.note_route(&self.decision.rule.name);
        }
        let cors = match self.decision.cors(&head) {
            CorsOutcome::None => None,
            CorsOutcome::Add(headers) => Some(owned(&headers)),
            CorsOutcome::Preflight(headers) => {
                let answer = preflight(owned(&headers));
                return http1::answer(client, begun, request, answer).await;
            }
            CorsOutcome::PreflightUnmatched => {
                return http1::answer(client, begun, request, preflight(Vec::new())).await;
            }
        };
        if let Some(delay) = self.decision.delay {
            *extra = extra.with(ResponseFlag::DelayInjected);
            tokio::time::sleep(delay).await;
        }
        if let Some(abort) = self.decision.abort {
            return http1::answer(client, begun, request, aborted(abort)).await;
        }
        match self.decision.action {
            RouteAction::Forward { destination_index, .. } => {
                let Some(state) = self.outbound.destinations.get(destination_index) else {
                    return http1::answer(client, begun, request, Answer::no_destination()).await;
                };
                self.forward(client, begun, request, state, cors.unwrap_or_default()).await
            }
            RouteAction::Redirect(redirect) => {
                let mut location = String::new();
                let head = seen(request.head(&client.connection), self.entered);
                let port = self.entered.map_or(self.accepted.destination.port(), Entered::port);
                self.decision.write_location(&head, port, &mut location);
                let mut answer = plain(redirect.status, &[]);
                answer.headers.push((Cow::Borrowed("location"), location));
                self.answer_with_edits(client, begun, request, answer).await
            }
            RouteAction::Refuse { status, .. } => {
                let reason = Reason::DestinationUnknown;
                let answer = Answer { grpc_status: Some(14), ..Answer::text(status, reason, "") };
                http1::answer(client, begun, request, answer).await
            }
            RouteAction::Respond(response) => {
                let answer = plain(response.status, &response.body);
                self.answer_with_edits(client, begun, request, answer).await
            }
        }
    }

    /// Asks the authoriser of the rule before anything else, preflights of CORS apart.
    async fn ask(
        &self,
        client: &mut Client,
        begun: &Begun,
        mut request: Request,
        extra: &mut ResponseFlags,
    ) -> io::Result<Finished> {
        let Self { worker, accepted, entered, .. } = *self;
        let head = seen(request.head(&client.connection), entered);
        let is_preflight = self.decision.is_preflight(&head);
        if let (false, Some(authorizer)) = (is_preflight, &self.decision.rule.authorizer) {
            let asking = Asking { worker, accepted, entered, authorizer };
            match asking.http1(client, &mut request).await {
                // Asked once, so that there is nothing yet.
                Ok(changes) => drop(self.asked.set(Box::new(changes))),
                Err(answer) => return http1::answer(client, begun, request, *answer).await,
            }
        }
        self.serve(client, begun, request, extra).await
    }

    async fn answer_with_edits(
        &self,
        client: &mut Client,
        begun: &Begun,
        request: Request,
        mut answer: Answer,
    ) -> io::Result<Finished> {
        for edit in self.decision.response_edits() {
            if let heddle_route::HeaderEdit::Add(name, value)
            | heddle_route::HeaderEdit::Set(name, value) = edit
            {
                answer.headers.push((Cow::Owned(name.to_owned()), value.to_owned()));
            }
        }
        http1::answer(client, begun, request, answer).await
    }

    /// What goes elsewhere too: the same head for another authority.
    fn copies(
        &self,
        head: &RequestHead<'_>,
        edits: &RequestEdits<'_>,
        own: &OwnEdits<'_>,
        departure: &Departure,
        framed: Option<BodyLength>,
    ) -> Option<Rc<Copies>> {
        let (worker, decision) = (self.worker, &self.decision);
        let authority = edits.authority.unwrap_or_else(|| head.authority_text());
        let source = Source { worker, departure, accepted: self.accepted };
        Copies::of(source, decision, self.outbound, authority, |authority| {
            let mut out = Vec::new();
            let edits = RequestEdits { authority: Some(authority), ..*edits };
            let headers = || {
                let asked = self.asked.get().map_or(&[][..], |asked| &asked.request);
                let asked = asked.iter().map(Change::edit);
                let routed = decision.request_edits().map(wire_edit);
                own.first().chain(asked).chain(routed).chain(own.iter())
            };
            wire::write_request(head, &edits, headers, &mut out);
            let is_head = head.method_text() == "HEAD";
            Some(copies::Head::Http1 { head: out, is_head, framed })
        })
    }

    /// Writes the head as it goes on. Nothing in here waits, so that nothing of what it looks at is held while the
    /// request is under way.
    fn write(
        &self,
        head: &RequestHead<'_>,
        state: &DestinationState,
        departure: &Departure,
        response_headers: &mut Vec<(&'static str, Vec<u8>)>,
    ) -> Written {
        let (worker, decision) = (self.worker, &self.decision);
        let mut out = Output::new();
        let source = self.entered.map_or(self.accepted.source.ip(), |entered| entered.client);
        let policy = &state.destination.load_balancing;
        let hashed = HashedRequest::new(policy, head, source, worker.random());
        if let Some(cookie) = &hashed.set_cookie {
            response_headers.push(("set-cookie", cookie.to_string().into_bytes()));
        }
        let own = OwnEdits::new(worker, head, self.entered);
        let mut path = String::new();
        let rewritten = decision.write_path(head.path_text(), &mut path);
        let path = rewritten.then_some(&*path).or_else(|| self.entered.and_then(Entered::path));
        let asked = self.asked.get();
        let query = asked.and_then(|asked| asked.query.as_deref());
        let query = query.or_else(|| self.entered.and_then(Entered::query));
        let target = query.map(|query| format!("{}?{query}", path.unwrap_or(head.path_text())));
        let edits = RequestEdits {
            path: target.as_deref().or(path),
            authority: decision.authority(),
            close: false,
        };
        let asked = || {
            let changes = asked.map_or(&[][..], |asked| &asked.request);
            changes.iter().map(Change::edit)
        };
        let headers = || {
            let routed = decision.request_edits().map(wire_edit);
            own.first().chain(asked()).chain(routed).chain(own.iter())
        };
        wire::write_request(head, &edits, headers, &mut out);
        own.tell(self.log);
        let copies = if head.upgrade().is_some() {
            None
        } else {
            // What is upgraded has lost its framing when it is copied.
            let upgraded = upgraded::is_for(state);
            let framed = (!upgraded).then(|| head.body());
            self.copies(head, &edits, &own, departure, framed)
        };
        let idempotent = http1::is_idempotent(head.method_text());
        Written { out, hash: hashed.hash, idempotent, copies }
    }

    async fn forward(
        &self,
        client: &mut Client,
        begun: &Begun,
        mut request: Request,
        state: &Arc<DestinationState>,
        mut response_headers: Vec<(&'static str, Vec<u8>)>,
    ) -> io::Result<Finished> {
        let (worker, decision) = (self.worker, &self.decision);
        let snapshot = worker.shared.configuration.snapshot();
        let head = seen(request.head(&client.connection), self.entered);
        let target = OutboundTarget::Configured;
        let departure = Departure::of_request(snapshot, self.accepted, target, &head);
        let Written { out, hash, idempotent, copies } =
            self.write(&head, state, &departure, &mut response_headers);
        let decided = Decided {
            worker,
            state,
            leave: Leave::Asked(&departure),
            retry: &decision.rule.retry,
            original: Target::Address(self.accepted.destination),
            hash,
            due: super::due(decision, begun.started),
            idempotent,
            extra: Extra {
                timeouts: Some(&decision.rule.stream_timeouts),
                session: self.session.as_deref(),
                copies: copies.as_ref(),
                client: Some(&self.accepted),
                log: self.log,
                standing: self.entered.and_then(Entered::standing),
                as_http1: false,
                as_http2: upgraded::is_for(state),
            },
        };
        let edits = || {
            let own = response_headers.iter().map(|(name, value)| match *name {
                "set-cookie" => HeaderEdit::Add(name, value),
                _ => HeaderEdit::Set(name, value),
            });
            let session = self.session.as_deref().and_then(RequestSession::edit);
            let entered = self.entered.into_iter().flat_map(Entered::response_edits);
            let asked = self.asked.get().map_or(&[][..], |asked| &asked.response);
            let asked = asked.iter().map(Change::edit);
            entered
                .chain(asked)
                .chain(decision.response_edits().map(wire_edit))
                .chain(own)
                .chain(session)
        };
        http1::forward(client, begun, request, out, &decided, edits).await
    }
}

/// What the proxy itself adds to a request.
pub(crate) struct OwnEdits<'a> {
    request_id: Option<[u8; 36]>,
    forwarded_proto: bool,
    /// The application says who its own client was, which nobody has proven to the mesh. A gateway says it itself.
    claims_certificate: bool,
    entered: Option<&'a Entered<'a>>,
}

/// What proxies say about whom they have authenticated.
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// A head as it has entered at a gateway.
pub(crate) fn seen<'h>(head: RequestHead<'h>, entered: Option<&'h Entered<'_>>) -> RequestHead<'h> {
    let Some(entered) = entered else { return head };
    let head = head.with_scheme(entered.https);
    match entered.path() {
        Some(path) => head.with_path(path),
        None => head,
    }
}

impl<'a> OwnEdits<'a> {
    pub(crate) fn of_http2(
        worker: &Worker,
        headers: &HeaderMap,
        entered: Option<&'a Entered<'a>>,
    ) -> Self {
        let has_id = headers.contains_key("x-request-id");
        let request_id = (!has_id).then(|| request_id::new(worker.random(), worker.random()));
        let has_proto = entered.is_some() || headers.contains_key("x-forwarded-proto");
        let claims_certificate = entered.is_none() && headers.contains_key(CLIENT_CERTIFICATE);
        Self { request_id, forwarded_proto: !has_proto, claims_certificate, entered }
    }

    fn new(worker: &Worker, head: &RequestHead<'_>, entered: Option<&'a Entered<'a>>) -> Self {
        let (mut has_id, mut has_proto, mut claims_certificate) = (false, entered.is_some(), false);
        for field in head.fields() {
            let name = field.name.of(head.bytes());
            match name.len() {
                12 => has_id |= name.eq_ignore_ascii_case(b"x-request-id"),
                17 => has_proto |= name.eq_ignore_ascii_case(b"x-forwarded-proto"),
                23 if entered.is_none() => {
                    let own = CLIENT_CERTIFICATE.as_bytes();
                    claims_certificate |= name.eq_ignore_ascii_case(own);
                }
                _ => {}
            }
        }
        let request_id = (!has_id).then(|| request_id::new(worker.random(), worker.random()));
        Self { request_id, forwarded_proto: !has_proto, claims_certificate, entered }
    }

    /// What comes before the changes of routes: what a gateway tells of the client.
    pub(crate) fn first(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        self.entered.into_iter().flat_map(Entered::edits)
    }

    /// Tells the access log of the request's number.
    pub(crate) fn tell(&self, log: Option<&RequestLog>) {
        if let (Some(log), Some(id)) = (log, &self.request_id) {
            log.note_own("x-request-id", id);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        let id = self.request_id.as_ref().map(|id| HeaderEdit::Add("x-request-id", id));
        let proto = self.forwarded_proto.then_some(HeaderEdit::Add("x-forwarded-proto", b"http"));
        let claim = self.claims_certificate.then_some(HeaderEdit::Remove(CLIENT_CERTIFICATE));
        claim.into_iter().chain(proto).chain(id)
    }
}

pub(crate) fn wire_edit(edit: heddle_route::HeaderEdit<'_>) -> HeaderEdit<'_> {
    match edit {
        heddle_route::HeaderEdit::Add(name, value) => HeaderEdit::Add(name, value.as_bytes()),
        heddle_route::HeaderEdit::Remove(name) => HeaderEdit::Remove(name),
        heddle_route::HeaderEdit::Set(name, value) => HeaderEdit::Set(name, value.as_bytes()),
    }
}

pub(crate) fn owned(headers: &CorsHeaders<'_>) -> Vec<(&'static str, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name, value.to_vec())).collect()
}

/// An answer that nothing went wrong with.
pub(crate) fn plain(status: u16, body: &[u8]) -> Answer {
    let body = Cow::Owned(body.to_vec());
    Answer { status, reason: None, body, headers: Vec::new(), grpc_status: None }
}

pub(crate) fn preflight(headers: Vec<(&'static str, Vec<u8>)>) -> Answer {
    let mut answer = plain(200, &[]);
    answer.headers = headers
        .into_iter()
        .map(|(name, value)| (Cow::Borrowed(name), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    answer
}

pub(crate) fn aborted(abort: AbortStatus) -> Answer {
    let text = "fault filter abort";
    match abort {
        AbortStatus::Http(status) => Answer::text(status, Reason::FaultAbort, text),
        AbortStatus::Grpc(status) => {
            Answer { grpc_status: Some(status), ..Answer::text(200, Reason::FaultAbort, text) }
        }
    }
}

fn record_request(worker: &Worker, begun: &Begun, finished: &Finished, extra: ResponseFlags) {
    worker.events.count(Direction::Outbound, finished.ended.reason);
    let recorder = recorder_of(worker, &finished.ended, begun.asked.is_grpc);
    http1::record(recorder.as_ref(), begun, finished, extra, Instant::now());
}

/// The endpoint keeps the recorder of requests that got as far as to it.
pub(crate) fn recorder_of(
    worker: &Worker,
    ended: &Ended,
    grpc: bool,
) -> Option<Arc<RequestRecorder>> {
    let make = || {
        let destination = ended.state.as_ref().map(|state| &*state.destination);
        let endpoint = ended.target.as_ref().and_then(Target::endpoint);
        let pair = Pair::Outbound {
            destination: destination.map(|destination| destination.id.clone()),
            workload: endpoint.and_then(|endpoint| endpoint.workload.clone()),
            mutual_tls: ended.mutual_tls,
            grpc,
        };
        worker.recorders.requests(pair, |metrics, kind| {
            let snapshot = worker.shared.configuration.snapshot();
            let endpoint = endpoint.map(|endpoint| &**endpoint);
            let mutual_tls = ended.mutual_tls;
            record::outbound(metrics, kind, &snapshot, destination, endpoint, mutual_tls, grpc)
        })
    };
    match &ended.endpoint {
        Some(endpoint) => endpoint.recorders[usize::from(grpc)].get_or_init(make).clone(),
        None => make(),
    }
}
