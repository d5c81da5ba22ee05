//! HTTP/2 requests of the workload.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use heddle_authz::OutboundTarget;
use heddle_balance::HashedRequest;
use heddle_http::Connection;
use heddle_http::drain::DrainGuard;
use heddle_ir::proxy::Limits;
use heddle_ir::request::Known;
use heddle_route::{CorsOutcome, RouteAction, RouteDecision};
use heddle_telemetry::mesh::Direction;
use heddle_telemetry::{Reason, ResponseFlag, ResponseFlags};
use heddle_wire::http1::HeaderEdit;
use http::Request;
use http::request::Parts;

use super::Accepted;
use super::http1::{OwnEdits, aborted, owned, plain, preflight, recorder_of, wire_edit};
use super::session::RequestSession;
use crate::access_log::RequestLog;
use crate::admission::http2::Received;
use crate::admission::routed::Asking;
use crate::admission::{Change, Changes};
use crate::egress::{Departure, Leave};
use crate::find::{Finder, Found};
use crate::forward::answer::Answer;
use crate::forward::attempts::{Decided, Extra};
use crate::forward::bridge;
use crate::forward::copies::{self, Copies, Source};
use crate::forward::http2::{self, Head, Stream, authority_of};
use crate::gateway::{Edge, Entered};
use crate::http1::is_idempotent;
use crate::http2::{Finished, answered, begin_log, end_log, forward, record};
use crate::snapshot::{DestinationState, OutboundState};
use crate::upstream::Target;
use crate::worker::Worker;

/// Serves the requests of one connection.
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
    let keep_bytes_max = limits.retry_body_bytes_max as usize;
    let finder = Rc::new(RefCell::new(Some(Finder::new(accepted.destination, edge.clone()))));
    let serving = http2::serve_connection(connection, &limits, guard, |stream| {
        let (worker, finder, edge) = (worker.clone(), finder.clone(), edge.clone());
        Box::pin(serve_request(worker, accepted, edge, finder, stream, keep_bytes_max))
    });
    Box::pin(serving).await;
}

/// The phases of a request.
pub(crate) async fn serve_request(
    worker: Rc<Worker>,
    accepted: Accepted,
    edge: Option<Rc<Edge>>,
    finder: Rc<RefCell<Option<Finder>>>,
    stream: Stream,
    keep_bytes_max: usize,
) {
    let Stream { head, body, mut respond, started } = stream;
    let addresses = (accepted.source, accepted.destination);
    let log = begin_log(&worker, &head, started, addresses);
    let log = log.as_deref();
    // Lent to one request at a time; another one that comes meanwhile looks for itself.
    let lent = finder.borrow_mut().take();
    let mut own = lent.unwrap_or_else(|| Finder::new(accepted.destination, None));
    let mut entered = None;
    let mut body = Received::from(body);
    let found = if let Some(answer) = http2::refusal_of(&head) {
        Err(answer)
    } else if let Some(edge) = &edge {
        Box::pin(edge.enter_http2(&worker, &head, &mut body)).await.map(|(own, outbound)| {
            entered = Some(own);
            Found::Routes(outbound)
        })
    } else {
        own.find(&worker, authority_of(&head), started).await
    };
    *finder.borrow_mut() = Some(own);
    let mut extra = ResponseFlags::NONE;
    let entered = entered.as_deref();
    let request = Asked { worker: &worker, accepted, entered, head: &head, keep_bytes_max };
    let finished = match &found {
        Err(answer) => answered(&head, answer, &mut respond),
        Ok(Found::Direct(reached, state)) => {
            let snapshot = worker.shared.configuration.snapshot();
            let departure = Departure::of_request(
                snapshot,
                accepted,
                reached.target(accepted.destination),
                &Head::new(&head),
            );
            let own = OwnEdits::of_http2(&worker, &head.headers, None);
            own.tell(log);
            let decided = Decided {
                worker: &worker,
                state,
                leave: Leave::Asked(&departure),
                retry: &worker.no_retries,
                original: Target::Address(accepted.destination),
                hash: None,
                due: None,
                idempotent: is_idempotent(head.method.as_str()),
                extra: Extra { log, ..Extra::default() },
            };
            let rewritten = || request.rewritten(None, None, own.iter());
            request.forward(&decided, rewritten, body, &mut respond, std::iter::empty).await
        }
        Ok(Found::Routes(outbound)) => {
            let random = worker.random();
            let decision = match entered.and_then(Entered::token) {
                None => outbound.routes.decide(&request.seen(), random),
                token => {
                    let head = &request.seen();
                    outbound.routes.decide(&Known { head, token, route: None }, random)
                }
            };
            match decision {
                None => answered(&head, &Answer::no_route(), &mut respond),
                Some(mut decision) => {
                    let session = RequestSession::begin(&mut decision, &request.seen());
                    let asked = OnceCell::new();
                    let routed =
                        Routed { request, decision, outbound, started, session, log, asked };
                    if routed.decision.rule.authorizer.is_some() {
                        // In memory of its own, which most requests do not need.
                        Box::pin(routed.ask(body, &mut respond, &mut extra)).await
                    } else {
                        routed.serve(body, &mut respond, &mut extra).await
                    }
                }
            }
        }
    };
    let is_grpc = http2::is_grpc(&head.headers);
    worker.events.count(Direction::Outbound, finished.ended.reason);
    let recorder = recorder_of(&worker, &finished.ended, is_grpc);
    record(recorder.as_ref(), started, &finished, extra);
    end_log(log, &finished, extra, None);
}

/// A request and what it came on.
#[derive(Clone, Copy)]
struct Asked<'a> {
    worker: &'a Rc<Worker>,
    accepted: Accepted,
    entered: Option<&'a Entered<'a>>,
    head: &'a Parts,
    keep_bytes_max: usize,
}

impl<'a> Asked<'a> {
    /// The head as it has entered.
    fn seen(&self) -> Head<'a> {
        match self.entered {
            Some(entered) => Head::with_path(self.head, entered.path()).with_scheme(entered.https),
            None => Head::new(self.head),
        }
    }

    /// The head as it goes on; none where that cannot be sent.
    fn rewritten<'e>(
        &self,
        path: Option<&str>,
        authority: Option<&str>,
        edits: impl Iterator<Item = HeaderEdit<'e>>,
    ) -> Option<Request<()>> {
        let received = self.head.uri.path();
        let changed = path.is_some_and(|path| path.contains('?'));
        let query = self.entered.and_then(Entered::query).filter(|_| !changed);
        let target = query.map(|query| format!("{}?{query}", path.unwrap_or(received)));
        let mut request = http2::rewritten(self.head, target.as_deref().or(path), authority)?;
        for change in edits {
            http2::edit(request.headers_mut(), change);
        }
        Some(request)
    }

    async fn forward<'e, I: Iterator<Item = HeaderEdit<'e>>>(
        &self,
        decided: &Decided<'_>,
        request: impl FnOnce() -> Option<Request<()>>,
        body: Received,
        respond: &mut SendResponse<Bytes>,
        edits: impl Fn() -> I,
    ) -> Finished {
        let (head, keep) = (self.head, self.keep_bytes_max);
        // Looked at where it is: taken out of the option it would be held twice.
        let request = request();
        let Some(request) = &request else {
            return answered(head, &Answer::bad_request(400), respond);
        };
        forward(decided, head, request, body, keep, respond, edits).await
    }
}

/// A request that a rule matched.
struct Routed<'a> {
    request: Asked<'a>,
    decision: RouteDecision<'a>,
    outbound: &'a OutboundState,
    started: tokio::time::Instant,
    session: Option<Box<RequestSession<'a>>>,
    log: Option<&'a RequestLog>,
    /// What the route's authoriser has changed.
    asked: OnceCell<Box<Changes>>,
}

impl Routed<'_> {
    async fn serve(
        &self,
        body: Received,
        respond: &mut SendResponse<Bytes>,
        extra: &mut ResponseFlags,
    ) -> Finished {
        let (decision, head) = (&self.decision, self.request.head);
        if let Some(log) = self.log {
            log.note_route(&decision.rule.name);
        }
        let cors = match decision.cors(&self.request.seen()) {
            CorsOutcome::None => Vec::new(),
            CorsOutcome::Add(headers) => owned(&headers),
            CorsOutcome::Preflight(headers) => {
                return answered(head, &preflight(owned(&headers)), respond);
            }
            CorsOutcome::PreflightUnmatched => {
                return answered(head, &preflight(Vec::new()), respond);
            }
        };
        if let Some(delay) = decision.delay {
            *extra = extra.with(ResponseFlag::DelayInjected);
            tokio::time::sleep(delay).await;
        }
        if let Some(abort) = decision.abort {
            return answered(head, &aborted(abort), respond);
        }
        let answer = match decision.action {
            RouteAction::Forward { destination_index, .. } => {
                match self.outbound.destinations.get(destination_index) {
                    Some(state) => return self.forward(body, respond, state, cors).await,
                    None => return answered(head, &Answer::no_destination(), respond),
                }
            }
            RouteAction::Refuse { status, .. } => {
                let answer = Answer::text(status, Reason::DestinationUnknown, "");
                return answered(head, &Answer { grpc_status: Some(14), ..answer }, respond);
            }
            RouteAction::Redirect(redirect) => {
                let mut location = String::new();
                let Asked { accepted, entered, .. } = self.request;
                let port = entered.map_or(accepted.destination.port(), Entered::port);
                decision.write_location(&self.request.seen(), port, &mut location);
                let mut answer = plain(redirect.status, &[]);
                answer.headers.push(("location".into(), location));
                answer
            }
            RouteAction::Respond(response) => plain(response.status, &response.body),
        };
        answered(head, &self.with_edits(answer), respond)
    }

    /// Asks the authoriser of the rule before anything else, preflights of CORS apart.
    async fn ask(
        &self,
        mut body: Received,
        respond: &mut SendResponse<Bytes>,
        extra: &mut ResponseFlags,
    ) -> Finished {
        let Asked { worker, accepted, entered, head, .. } = self.request;
        let is_preflight = self.decision.is_preflight(&self.request.seen());
        if let (false, Some(authorizer)) = (is_preflight, &self.decision.rule.authorizer) {
            let asking = Asking { worker, accepted, entered, authorizer };
            match asking.http2(head, &mut body).await {
                // Asked once, so that there is nothing yet.
                Ok(changes) => drop(self.asked.set(Box::new(changes))),
                Err(answer) => return answered(head, &answer, respond),
            }
        }
        self.serve(body, respond, extra).await
    }

    fn with_edits(&self, mut answer: Answer) -> Answer {
        for edit in self.decision.response_edits() {
            if let heddle_route::HeaderEdit::Add(name, value)
            | heddle_route::HeaderEdit::Set(name, value) = edit
            {
                answer.headers.push((name.to_owned().into(), value.to_owned()));
            }
        }
        answer
    }

    async fn forward(
        &self,
        body: Received,
        respond: &mut SendResponse<Bytes>,
        state: &Arc<DestinationState>,
        mut response_headers: Vec<(&'static str, Vec<u8>)>,
    ) -> Finished {
        let Asked { worker, accepted, entered, head, .. } = self.request;
        let decision = &self.decision;
        let snapshot = worker.shared.configuration.snapshot();
        let target = OutboundTarget::Configured;
        let departure = Departure::of_request(snapshot, accepted, target, &self.request.seen());
        let policy = &state.destination.load_balancing;
        let source = entered.map_or(accepted.source.ip(), |entered| entered.client);
        let hashed = HashedRequest::new(policy, &self.request.seen(), source, worker.random());
        if let Some(cookie) = &hashed.set_cookie {
            response_headers.push(("set-cookie", cookie.to_string().into_bytes()));
        }
        let mut path = String::new();
        let normal = entered.and_then(Entered::path);
        let mut rewritten = decision.write_path(normal.unwrap_or(head.uri.path()), &mut path);
        if let Some(query) = self.asked.get().and_then(|asked| asked.query.as_deref()) {
            if !std::mem::replace(&mut rewritten, true) {
                normal.unwrap_or(head.uri.path()).clone_into(&mut path);
            }
            path.push('?');
            path.push_str(query);
        }
        let own = OwnEdits::of_http2(worker, &head.headers, entered);
        own.tell(self.log);
        let request_edits = || {
            let asked = self.asked.get().map_or(&[][..], |asked| &asked.request);
            let asked = asked.iter().map(Change::edit);
            let routed = decision.request_edits().map(wire_edit);
            own.first().chain(asked).chain(routed).chain(own.iter())
        };
        let path = rewritten.then_some(&*path).or(normal);
        let authority = decision.authority();
        let base = authority.unwrap_or_else(|| authority_of(head));
        let source = Source { worker, departure: &departure, accepted };
        let copies = Copies::of(source, decision, self.outbound, base, |authority| {
            let request = self.request.rewritten(path, Some(authority), request_edits())?;
            Some(copies::Head::Http2(request, entered.is_some()))
        });
        let decided = Decided {
            worker,
            state,
            leave: Leave::Asked(&departure),
            retry: &decision.rule.retry,
            original: Target::Address(accepted.destination),
            hash: hashed.hash,
            due: super::due(decision, self.started),
            idempotent: is_idempotent(head.method.as_str()),
            extra: Extra {
                timeouts: Some(&decision.rule.stream_timeouts),
                session: self.session.as_deref(),
                copies: copies.as_ref(),
                client: Some(&self.request.accepted),
                log: self.log,
                standing: entered.and_then(Entered::standing),
                as_http1: entered.is_some() && bridge::is_for(state, &head.headers),
                as_http2: false,
            },
        };
        let response_edits = || {
            let own = response_headers.iter().map(|(name, value)| match *name {
                "set-cookie" => HeaderEdit::Add(name, value),
                _ => HeaderEdit::Set(name, value),
            });
            let session = self.session.as_deref().and_then(RequestSession::edit);
            let entered = entered.into_iter().flat_map(Entered::response_edits);
            let told = self.asked.get().map_or(&[][..], |asked| &asked.response);
            let told = told.iter().map(Change::edit);
            entered
                .chain(told)
                .chain(decision.response_edits().map(wire_edit))
                .chain(own)
                .chain(session)
        };
        let request = || self.request.rewritten(path, authority, request_edits());
        self.request.forward(&decided, request, body, respond, response_edits).await
    }
}
