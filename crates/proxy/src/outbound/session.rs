//! Session persistence: a client goes back to the endpoint that answered it first, and is told which that is.

use std::cell::{Cell, OnceCell};
use std::time::{SystemTime, UNIX_EPOCH};

use heddle_balance::session::{Session, backend_of};
use heddle_ir::http_route::SessionPersistence;
use heddle_ir::request::RequestHead;
use heddle_route::{RouteAction, RouteDecision};
use heddle_wire::http1::HeaderEdit;

/// The session of one request; only where a rule has them.
#[derive(Debug)]
pub(crate) struct RequestSession<'a> {
    policy: &'a SessionPersistence,
    before: Option<Session>,
    backend: u64,
    now_s: u32,
    answered: Cell<Option<u64>>,
    header: OnceCell<Option<(String, String)>>,
}

impl<'a> RequestSession<'a> {
    /// Turns the decision to the backend that the client's session is at.
    pub(crate) fn begin(
        decision: &mut RouteDecision<'a>,
        head: &impl RequestHead,
    ) -> Option<Box<Self>> {
        let policy = decision.rule.session.as_ref()?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        let session = Session::of(policy, head, now_s);
        let before = session.filter(|session| {
            decision.turn_to(|destination| backend_of(&destination.id) == session.backend)
        });
        let RouteAction::Forward { destination, .. } = decision.action else { return None };
        let backend = backend_of(&destination.id);
        let (answered, header) = (Cell::new(None), OnceCell::new());
        Some(Box::new(Self { policy, before, backend, now_s, answered, header }))
    }

    /// The endpoint to go back to.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.before.map(|session| session.endpoint)
    }

    /// Notes which endpoint's response the client gets.
    pub(crate) fn note_answer(&self, endpoint: u64) {
        self.answered.set(Some(endpoint));
    }

    /// What tells the client where its session is.
    pub(crate) fn edit(&self) -> Option<HeaderEdit<'_>> {
        let header = self.header.get_or_init(|| {
            let endpoint = self.answered.get()?;
            let session =
                Session::after(self.policy, self.before, self.backend, endpoint, self.now_s)?;
            Some(session.header(self.policy, self.now_s))
        });
        header.as_ref().map(|(name, value)| HeaderEdit::Add(name, value.as_bytes()))
    }
}
