//! Authorisers of routes: asked about a request once a rule has taken it, before anything of the rule happens to it.
//!
//! They see the request as it came, with what the proxy itself tells of its client at a gateway. There is no leave without
//! an answer.

use std::rc::Rc;

use heddle_authz::{Connection as Facts, Transport as How};
use heddle_ir::http_route::RouteAuthorizer;
use heddle_ir::request::{ConnectionFacts, RequestHead as _};
use heddle_telemetry::mesh::Direction;
use http::request::Parts;

use super::asking::{Asked, Body};
use super::http2::Received;
use super::{Change, Changes, Party, View, answer_of, http1, http2, note};
use crate::forward::answer::Answer;
use crate::forward::client::{Client, Request};
use crate::forward::http2::Head;
use crate::gateway::Entered;
use crate::outbound::{Accepted, http1::seen};
use crate::worker::Worker;

/// Who asks, and whom.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) accepted: Accepted,
    pub(crate) entered: Option<&'a Entered<'a>>,
    pub(crate) authorizer: &'a RouteAuthorizer,
}

impl Asking<'_> {
    /// Asks about a request of HTTP/1: what changes in it, or what is answered. What is read of the body stays in the
    /// client's buffer.
    pub(crate) async fn http1(
        self,
        client: &mut Client,
        request: &mut Request,
    ) -> Result<Changes, Box<Answer>> {
        let body = match self.authorizer.authorizer.body {
            Some(limit) => Some(http1::read_body(client, request, limit).await?),
            None => None,
        };
        let head = seen(request.head(&client.connection), self.entered);
        let (changes, facts) = (Changes::default(), self.facts());
        let (view, party) = (View { head: &head, changes: &changes }, self.party(&facts));
        let asked = http1::asked_of(self.worker, party, &view, &head);
        self.ask(party, &view, asked, body).await
    }

    /// The same of HTTP/2; what is read of the body is kept in front of it.
    pub(crate) async fn http2(
        self,
        parts: &Parts,
        body: &mut Received,
    ) -> Result<Changes, Box<Answer>> {
        let read = match self.authorizer.authorizer.body {
            Some(limit) => Some(body.read_in_time(limit).await?),
            None => None,
        };
        let head = match self.entered {
            Some(entered) => Head::with_path(parts, entered.path()).with_scheme(entered.https),
            None => Head::new(parts),
        };
        let (changes, facts) = (Changes::default(), self.facts());
        let (view, party) = (View { head: &head, changes: &changes }, self.party(&facts));
        let asked = http2::asked_of(self.worker, party, &view, parts);
        self.ask(party, &view, asked, read).await
    }

    /// What is known of a workload that sends a request itself.
    fn facts(&self) -> Facts {
        let Accepted { source, destination } = self.accepted;
        let snapshot = self.worker.shared.configuration.snapshot();
        let settings = snapshot.settings.as_ref();
        let peer_identity = settings.map(|settings| settings.workload.identity.clone());
        let facts = ConnectionFacts { peer_identity, source, destination, server_name: None };
        Facts::new(How::Plaintext, facts)
    }

    fn party<'p>(&'p self, facts: &'p Facts) -> Party<'p> {
        let Accepted { source, destination } = self.accepted;
        let (direction, https) = (Direction::Outbound, false);
        let own = Party { source, destination, facts, direction, https };
        self.entered.map_or(own, Entered::party)
    }

    async fn ask(
        &self,
        party: Party<'_>,
        view: &View<'_, impl heddle_ir::request::RequestHead>,
        mut asked: Asked,
        body: Option<Body>,
    ) -> Result<Changes, Box<Answer>> {
        for edit in self.entered.into_iter().flat_map(Entered::edits) {
            Change::of(&edit).apply(&mut asked.headers);
        }
        if let Some(query) = self.entered.and_then(Entered::query) {
            asked.target = match query {
                "" => view.path().to_owned(),
                query => format!("{}?{query}", view.path()),
            };
        }
        let names = &self.authorizer.request_headers;
        asked
            .headers
            .retain(|(name, _)| names.is_empty() || names.iter().any(|own| **own == **name));
        let asked = match body {
            Some(body) => asked.with_body(body),
            None => asked,
        };
        let (worker, authorizer) = (self.worker, &self.authorizer.authorizer);
        let refused = |why: &str| {
            let (by, rule) = ("external-authorizer", Some(&authorizer.origin));
            note::refused(worker, party, view, by, &why, rule);
        };
        match answer_of(worker, authorizer, asked).await {
            Ok(Ok(changes)) => Ok(changes),
            Ok(Err(answer)) => {
                refused(&format!("refused by the external authoriser `{}`", authorizer.name));
                Err(answer)
            }
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                worker.events.authorizer(party.direction, &authorizer.name, false, &why);
                let name = &authorizer.name;
                refused(&format!("no answer from the external authoriser `{name}`: {why}"));
                Err(Box::new(Answer::unanswered(authorizer.status_on_error)))
            }
        }
    }
}
