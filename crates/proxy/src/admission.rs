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
pub(crate) mod stream;

use std::rc::Rc;

use heddle_authz::{Approvals, CompiledAuthorization, Permit, Question, Verdict};
use heddle_diag::Origin;
use heddle_ir::authorization::AuthorizerProtocol;
use heddle_ir::request::{RequestHead, TokenFacts};
use heddle_tls::jwt::JwtError;

use crate::forward::answer::Answer;
use crate::inbound::Peer;
use crate::tokens;
use crate::worker::Worker;

pub(crate) use changes::{Change, Changes};
pub(crate) use note::{connection_refused, peer_refused};

use asking::Asked;
use changes::View;

/// A request that goes on.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    /// What changes in it; almost always nothing.
    pub(crate) changes: Option<Box<Changes>>,
    /// What its token says, for routes that look at it.
    pub(crate) token: Option<Box<TokenFacts>>,
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
    peer: &Peer,
    inbound: &CompiledAuthorization,
    head: &impl RequestHead,
) -> Option<Result<Admitted, Answer>> {
    if !inbound.inbound().jwt_rules.is_empty() {
        return None;
    }
    let decision = inbound.decide_request(&peer.facts, head);
    if matches!(decision.verdict, Verdict::Ask(_)) {
        return None;
    }
    note::decided(worker, peer, Some((head, None)), &decision);
    Some(match decision.verdict.into_permit() {
        Ok(permit) => Ok(Admitted { permit, changes: None, token: None }),
        Err(_) => Err(Answer::denied()),
    })
}

/// A request on its way through everybody who has a say.
struct Admission<'a> {
    worker: &'a Rc<Worker>,
    peer: &'a Peer,
    inbound: &'a CompiledAuthorization,
    approvals: Approvals,
    token: Option<TokenFacts>,
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
        peer: &'a Peer,
        inbound: &'a CompiledAuthorization,
        head: &impl RequestHead,
    ) -> Result<Self, Answer> {
        let (approvals, changes) = (Approvals::NONE, Changes::default());
        let mut own = Self { worker, peer, inbound, approvals, token: None, changes };
        let rules = &inbound.inbound().jwt_rules;
        if rules.is_empty() || inbound.is_probe(&peer.facts, head) {
            return Ok(own);
        }
        match tokens::verify(worker, rules, head).await {
            Ok(authenticated) => {
                own.token = authenticated.facts;
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
        View { head, changes: &self.changes, token: self.token.as_ref() }
    }

    /// Decides as far as is known.
    fn step(&self, head: &impl RequestHead) -> Result<Step<'a>, Answer> {
        let view = self.view(head);
        let decision = self.inbound.decide_request_after(&self.peer.facts, &view, self.approvals);
        if let Verdict::Ask(question) = decision.verdict {
            return Ok(Step::Ask(question));
        }
        note::decided(self.worker, self.peer, Some((&view, self.token.as_ref())), &decision);
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
        let answered = match &authorizer.protocol {
            AuthorizerProtocol::Grpc => grpc::ask(self.worker, authorizer, &asked).await,
            AuthorizerProtocol::Http(settings) => {
                http::ask(self.worker, authorizer, settings, asked).await
            }
        };
        match answered {
            Ok(Ok(changes)) => self.changes.add(changes),
            Ok(Err(answer)) => {
                let why = format!("refused by the external authoriser `{}`", authorizer.name);
                self.refused(head, "external-authorizer", &why, Some(&question.rule.origin));
                return Err(*answer);
            }
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                self.worker.events.authorizer(&authorizer.name, authorizer.fail_open, &why);
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
        note::refused(self.worker, self.peer, &self.view(head), by, why, rule);
    }

    fn admitted(self, permit: Permit) -> Admitted {
        let changes = (!self.changes.is_empty()).then(|| Box::new(self.changes));
        Admitted { permit, changes, token: self.token.map(Box::new) }
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
