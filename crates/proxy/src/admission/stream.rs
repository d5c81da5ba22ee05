//! Streams that are not HTTP: CUSTOM before DENY before ALLOW, as for requests.

use std::rc::Rc;

use heddle_authz::{Approvals, CompiledAuthorization, Permit, Verdict};
use heddle_diag::Origin;
use heddle_ir::authorization::AuthorizerProtocol;
use heddle_ir::request::NoRequest;

use super::Party;
use super::asking::Parties;
use super::grpc;
use super::note;
use crate::worker::Worker;

/// Asks everybody who has a say. The origin is that of what denies it.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    party: Party<'_>,
    inbound: &CompiledAuthorization,
) -> Result<Permit, Box<Origin>> {
    let verdict = inbound.decide_stream(party.facts).verdict;
    if matches!(verdict, Verdict::Ask(_)) {
        return Box::pin(ask(worker, party, inbound)).await;
    }
    verdict.into_permit().map_err(|denial| Box::new(denial.origin().clone()))
}

/// What denies a stream that was let through before; whoever was asked outside stands by their word.
pub(crate) fn denial_of(
    inbound: &CompiledAuthorization,
    facts: &heddle_authz::Connection,
) -> Option<Box<Origin>> {
    let mut approvals = Approvals::NONE;
    loop {
        let verdict = inbound.decide_stream_after(facts, approvals).verdict;
        match &verdict {
            Verdict::Ask(question) if approvals.with(question) != approvals => {
                approvals = approvals.with(question);
            }
            _ => {
                let denial = verdict.into_permit().err();
                return denial.map(|denial| Box::new(denial.origin().clone()));
            }
        }
    }
}

async fn ask(
    worker: &Rc<Worker>,
    party: Party<'_>,
    inbound: &CompiledAuthorization,
) -> Result<Permit, Box<Origin>> {
    let mut approvals = Approvals::NONE;
    loop {
        let decision = inbound.decide_stream_after(party.facts, approvals);
        let question = match decision.verdict {
            Verdict::Ask(question) => question,
            verdict => {
                return verdict.into_permit().map_err(|denial| Box::new(denial.origin().clone()));
            }
        };
        let authorizer = question.authorizer;
        let refused = |why: &str| {
            let origin = &question.rule.origin;
            note::stream_refused(worker, party, &why, origin);
            Err(Box::new(origin.clone()))
        };
        // An authoriser of HTTP cannot be asked about anything else, so that nobody can give leave.
        if authorizer.protocol != AuthorizerProtocol::Grpc {
            return refused("its external authoriser can be asked about HTTP only");
        }
        let parties = Parties::of(worker, party);
        match grpc::ask_about_stream(worker, authorizer, &parties).await {
            Ok(true) => {}
            Ok(false) => return refused("refused by the external authoriser"),
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                let (name, fail_open) = (&authorizer.name, authorizer.fail_open);
                worker.events.authorizer(party.direction, name, fail_open, &why);
                if !authorizer.fail_open {
                    return refused("no answer from the external authoriser");
                }
            }
        }
        approvals = approvals.with(&question);
    }
}

/// Tells of the decision about a stream, once that is known to be one.
pub(crate) fn note_decided(worker: &Worker, party: Party<'_>) {
    let snapshot = worker.shared.configuration.snapshot();
    let Some(inbound) = &snapshot.inbound else { return };
    let decision = inbound.decide_stream(party.facts);
    note::decided(worker, party, None::<(&NoRequest, _)>, &decision);
}
