//! authorize, for requests to the workload: tokens, external authorisers, policies, in this order, and what each of them
//! changes in the request (Istio's order: tokens before CUSTOM before DENY before ALLOW; each sees what those before it
//! have changed).
//!
//! Most requests need neither token nor anybody outside, and are decided [`at_once`]. What the others need is done in
//! memory of its own, which the request path has no room for.

mod asking;
mod changes;
mod grpc;
mod http;
pub(crate) mod http1;
pub(crate) mod http2;
mod note;
pub(crate) mod routed;
pub(crate) mod stream;

use std::net::SocketAddr;
use std::rc::Rc;

use heddle_authz::{Approvals, CompiledAuthorization, Denial, Permit, Question, Verdict};
use heddle_diag::Origin;
use heddle_ir::authorization::{AuthorizerProtocol, ExternalAuthorizer};
use heddle_ir::request::RequestHead;
use heddle_telemetry::mesh::Direction;
use heddle_tls::jwt::JwtError;

use crate::forward::answer::Answer;
use crate::tokens;
use crate::worker::Worker;

pub(crate) use changes::{Change, Changes, View};
pub(crate) use note::{connection_refused, peer_refused};

pub(crate) use asking::is_of_message;

use asking::Asked;

/// Who asks for something, and where.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) facts: &'a heddle_authz::Connection,
    /// On which side of the proxy it is counted.
    pub(crate) direction: Direction,
    /// Whether it speaks TLS that is not the mesh's, as clients of a gateway do.
    pub(crate) https: bool,
}

/// A request that goes on.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    /// What was found out about it, and what changes in it; almost always nothing.
    pub(crate) changes: Option<Rc<Changes>>,
}

impl Admitted {
    /// Changes of the request's headers.
    pub(crate) fn request_edits(&self) -> impl Iterator<Item = heddle_wire::http1::HeaderEdit<'_>> {
        self.changes.iter().flat_map(|changes| changes.request.iter().map(Change::edit))
    }

    /// Changes of the response's headers.
    pub(crate) fn response_edits(
        &self,
    ) -> impl Iterator<Item = heddle_wire::http1::HeaderEdit<'_>> {
        self.changes.iter().flat_map(|changes| changes.response.iter().map(Change::edit))
    }

    /// Path and query as they go on, where the query is another one; it may be empty.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        self.query().map(|query| format!("{path}?{query}"))
    }

    /// The query as it goes on, where that is another one; empty: none.
    pub(crate) fn query(&self) -> Option<&str> {
        self.changes.as_ref()?.query.as_deref()
    }
}

/// Decides about a request that needs neither token nor anybody outside. None: it does.
pub(crate) fn at_once(
    worker: &Worker,
    party: Party<'_>,
    inbound: &CompiledAuthorization,
    head: &impl RequestHead,
) -> Option<Result<Admitted, Answer>> {
    if !inbound.inbound().jwt_rules.is_empty() {
        return None;
    }
    let decision = inbound.decide_request(party.facts, head);
    if matches!(decision.verdict, Verdict::Ask(_)) {
        return None;
    }
    note::decided(worker, party, Some((head, None)), &decision);
    Some(match decision.verdict.into_permit() {
        Ok(permit) => Ok(Admitted { permit, changes: None }),
        Err(_) => Err(Answer::denied()),
    })
}

/// What denies a request that was let through before; its tokens and whoever was asked outside stand by their word.
pub(crate) fn denial_of<'a>(
    inbound: &'a CompiledAuthorization,
    facts: &heddle_authz::Connection,
    head: &impl RequestHead,
    changes: Option<&Changes>,
) -> Option<Denial<'a>> {
    let none = Changes::default();
    let view = View { head, changes: changes.unwrap_or(&none) };
    let mut approvals = Approvals::NONE;
    loop {
        let verdict = inbound.decide_request_after(facts, &view, approvals).verdict;
        match &verdict {
            Verdict::Ask(question) if approvals.with(question) != approvals => {
                approvals = approvals.with(question);
            }
            _ => return verdict.into_permit().err(),
        }
    }
}

/// A request on its way through everybody who has a say.
struct Admission<'a> {
    worker: &'a Rc<Worker>,
    party: Party<'a>,
    inbound: &'a CompiledAuthorization,
    approvals: Approvals,
    changes: Changes,
}

/// What is next.
enum Step<'a> {
    Ask(Question<'a>),
    Done(Permit),
}

impl<'a> Admission<'a> {
    /// Verifies the request's tokens.
    async fn begin(
        worker: &'a Rc<Worker>,
        party: Party<'a>,
        inbound: &'a CompiledAuthorization,
        head: &impl RequestHead,
    ) -> Result<Self, Answer> {
        let (approvals, changes) = (Approvals::NONE, Changes::default());
        let mut own = Self { worker, party, inbound, approvals, changes };
        let rules = &inbound.inbound().jwt_rules;
        if rules.is_empty() || inbound.is_probe(party.facts, head) {
            return Ok(own);
        }
        match tokens::verify(worker, rules, head).await {
            Ok(authenticated) => {
                own.changes.token = authenticated.facts;
                own.changes.of_tokens(&authenticated.edits, head);
                Ok(own)
            }
            Err(error) => {
                let rule = rules.first().map(|rule| &rule.origin);
                own.refused(head, "token", &error, rule);
                Err(invalid_token(error, head))
            }
        }
    }

    fn view<'v, H>(&'v self, head: &'v H) -> View<'v, H> {
        View { head, changes: &self.changes }
    }

    /// Decides as far as is known.
    fn step(&self, head: &impl RequestHead) -> Result<Step<'a>, Answer> {
        let view = self.view(head);
        let decision = self.inbound.decide_request_after(self.party.facts, &view, self.approvals);
        if let Verdict::Ask(question) = decision.verdict {
            return Ok(Step::Ask(question));
        }
        let token = self.changes.token.as_ref();
        note::decided(self.worker, self.party, Some((&view, token)), &decision);
        match decision.verdict.into_permit() {
            Ok(permit) => Ok(Step::Done(permit)),
            Err(_) => Err(Answer::denied()),
        }
    }

    /// Asks an external authoriser; on leave it counts as approving from now on.
    async fn ask(
        &mut self,
        question: &Question<'a>,
        asked: Asked,
        head: &impl RequestHead,
    ) -> Result<(), Answer> {
        let authorizer = question.authorizer;
        match answer_of(self.worker, authorizer, asked).await {
            Ok(Ok(changes)) => self.changes.add(changes),
            Ok(Err(answer)) => {
                let why = format!("refused by the external authoriser `{}`", authorizer.name);
                self.refused(head, "external-authorizer", &why, Some(&question.rule.origin));
                return Err(*answer);
            }
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                let (name, fail_open) = (&authorizer.name, authorizer.fail_open);
                self.worker.events.authorizer(self.party.direction, name, fail_open, &why);
                if !authorizer.fail_open {
                    let name = &authorizer.name;
                    let why = format!("no answer from the external authoriser `{name}`: {why}");
                    self.refused(head, "external-authorizer", &why, Some(&question.rule.origin));
                    return Err(Answer::unanswered(authorizer.status_on_error));
                }
            }
        }
        self.approvals = self.approvals.with(question);
        Ok(())
    }

    fn refused(
        &self,
        head: &impl RequestHead,
        by: &'static str,
        why: &dyn std::fmt::Display,
        rule: Option<&Origin>,
    ) {
        note::refused(self.worker, self.party, &self.view(head), by, why, rule);
    }

    fn admitted(self, permit: Permit) -> Admitted {
        let changes = (!self.changes.is_empty()).then(|| Rc::new(self.changes));
        Admitted { permit, changes }
    }
}

/// What an external authoriser says to a request.
async fn answer_of(
    worker: &Rc<Worker>,
    authorizer: &ExternalAuthorizer,
    asked: Asked,
) -> asking::Answered {
    match &authorizer.protocol {
        AuthorizerProtocol::Grpc => grpc::ask(worker, authorizer, &asked).await,
        AuthorizerProtocol::Http(settings) => http::ask(worker, authorizer, settings, asked).await,
    }
}

/// The answer to a request whose token is not valid, or that has none and needs one (RFC 6750 section 3), in Envoy's
/// words.
fn invalid_token(error: JwtError, head: &impl RequestHead) -> Answer {
    let safe: String = format!("{}://{}{}", head.scheme(), head.authority(), head.path())
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
        .take(256)
        .collect();
    let mut challenge = format!("Bearer realm=\"{safe}\"");
    if error != JwtError::Missing {
        challenge.push_str(", error=\"invalid_token\"");
    }
    Answer::unauthenticated(error.status(), error.to_string(), challenge)
}
