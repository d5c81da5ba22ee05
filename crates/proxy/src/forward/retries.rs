//! What is the same for the tries of an HTTP/1 and of an HTTP/2 request: which endpoints were tried, what budgets allow,
//! what is reported of endpoints.

use std::pin::Pin;
use std::sync::Arc;

use heddle_balance::retry::{self, TryOutcome};
use heddle_balance::{EndpointState, Observation, Pick, Picked, Resource};
use tokio::time::{Instant, Sleep};

use crate::forward::attempts::Decided;
use crate::outbound::session::RequestSession;
use crate::upstream::{self, LimitToken, Target, UpstreamError};

/// The tries of one request.
pub(crate) struct Retries<'a> {
    pub(crate) decided: &'a Decided<'a>,
    tried: Vec<Arc<EndpointState>>,
    made: u32,
    token: Option<LimitToken>,
    /// A retry was wanted that limits or budgets do not allow.
    overflowed: bool,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(decided: &'a Decided<'a>) -> Self {
        if decided.retry.attempts > 0 {
            let budget = decided.state.destination.retry_budget.as_ref();
            let now_ms = decided.worker.now_ms(Instant::now());
            decided.state.limits.budget.begin(budget, now_ms);
        }
        Self { decided, tried: Vec::new(), made: 0, token: None, overflowed: false }
    }

    /// Picks where the next try goes.
    pub(crate) fn pick(&self) -> Option<Target> {
        let Decided { worker, state, retry, hash, extra, .. } = *self.decided;
        let pick = Pick {
            hash,
            random: worker.random(),
            now_ms: worker.now_ms(Instant::now()),
            tried: if retry.avoid_tried { &self.tried } else { &[] },
            other_tiers: retry.other_localities,
            session: extra.session.and_then(RequestSession::wanted),
        };
        match state.balancer.pick(&pick)? {
            Picked::OriginalDestination => Some(self.decided.original.clone()),
            Picked::Endpoint(place) => {
                let slot = state.balancer.slots().get(place)?;
                Some(Target::Endpoint(slot.endpoint.clone(), slot.state.clone()))
            }
        }
    }

    /// When the present try is given up.
    pub(crate) fn due(&self) -> Option<Instant> {
        let own = self.decided.retry.per_try_timeout.map(|timeout| Instant::now() + timeout);
        match (own, self.decided.due) {
            (Some(own), Some(due)) => Some(own.min(due)),
            (own, due) => own.or(due),
        }
    }

    /// Reports what was seen of an endpoint.
    pub(crate) fn observe(&self, target: &Target, observation: Observation) {
        if let Target::Endpoint(_, state) = target {
            let now_ms = self.decided.worker.now_ms(Instant::now());
            self.decided.state.balancer.record(state, observation, now_ms);
        }
    }

    /// Tells of an endpoint that could not be connected to.
    pub(crate) fn tell(&self, target: &Target, error: &UpstreamError) {
        let Decided { worker, state, .. } = *self.decided;
        upstream::tell(worker, state, target, None, error);
    }

    /// When a try begins, if anybody wants to know how long it takes.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.decided.state.balancer.wants_latency().then(Instant::now)
    }

    /// Reports how long the response took.
    pub(crate) fn observe_latency(&self, target: &Target, began: Option<Instant>) {
        if let (Target::Endpoint(_, state), Some(began)) = (target, began) {
            let now = Instant::now();
            let now_ms = self.decided.worker.now_ms(now);
            self.decided.state.balancer.record_latency(state, now - began, now_ms);
        }
    }

    /// Tells the client's session which endpoint answers.
    pub(crate) fn note_session(&self, target: &Target) {
        let Some(session) = self.decided.extra.session else { return };
        let Target::Endpoint(_, state) = target else { return };
        let slots = self.decided.state.balancer.slots();
        if let Some(slot) = slots.iter().find(|slot| Arc::ptr_eq(&slot.state, state)) {
            session.note_answer(slot.session);
        }
    }

    /// Whether every try that the policy allows was made.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.made > 0 && self.made >= self.decided.retry.attempts
    }

    /// Whether a retry was wanted and not allowed by a limit or a budget.
    pub(crate) fn have_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether the request is tried again after this outcome; if so it counts as a retry. `restart` makes it begin anew, where
    /// that is still possible.
    pub(crate) fn admit(
        &mut self,
        target: &Target,
        outcome: TryOutcome,
        restart: impl FnOnce() -> bool,
    ) -> bool {
        let Decided { retry, state, due, worker, .. } = *self.decided;
        let now = Instant::now();
        if self.made >= retry.attempts
            || !retry::is_retriable(retry, outcome)
            || due.is_some_and(|due| due <= now)
        {
            return false;
        }
        // The unit of the retry before is not that of this one.
        self.token = None;
        let breakers = &state.limits.breakers;
        let active = breakers.taken(Resource::Requests);
        let retrying = breakers.taken(Resource::Retries);
        let Ok(token) = LimitToken::acquire(state, Resource::Retries) else {
            self.overflowed = true;
            return false;
        };
        let budget = state.destination.retry_budget.as_ref();
        let now_ms = worker.now_ms(now);
        if !state.limits.budget.admits(budget, outcome, active, retrying, now_ms) {
            self.overflowed = true;
            return false;
        }
        // Last, for it takes back what was sent.
        if !restart() {
            return false;
        }
        self.token = Some(token);
        self.made += 1;
        if let Target::Endpoint(_, tried) = target {
            self.tried.push(tried.clone());
        }
        true
    }

    /// Reports a try that gave no response, and pauses where there is to be another one. Answers whether there is.
    pub(crate) async fn after_failure(
        &mut self,
        target: &Target,
        outcome: TryOutcome,
        observation: Observation,
        restart: impl FnOnce() -> bool,
    ) -> bool {
        self.observe(target, observation);
        let again = self.admit(target, outcome, restart);
        if again {
            self.pause().await;
        }
        again
    }

    /// The pause before the try that was admitted. Boxed, since few requests come this way.
    pub(crate) fn pause(&self) -> Pin<Box<Sleep>> {
        let random = self.decided.worker.random();
        Box::pin(tokio::time::sleep(retry::backoff(self.decided.retry, self.made, random)))
    }
}
