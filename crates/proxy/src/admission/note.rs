//! What was decided, told to the operator: a log line for what was denied, a record of the audit log.

use std::borrow::Cow;
use std::fmt::Display;

use heddle_authz::{AllowedBy, Decision, Verdict};
use heddle_diag::Origin;
use heddle_ir::request::{NoRequest, RequestHead, TokenFacts};
use heddle_telemetry::audit::{AuditRecord, AuditedRequest, Outcome};
use heddle_tls::PeerVerificationError;

use super::Party;
use crate::events::Parties;
use crate::inbound::Accepted;
use crate::worker::Worker;

/// Tells of a decision. Cheap where it allows and nobody wants to know.
pub(super) fn decided<H: RequestHead>(
    worker: &Worker,
    party: Party<'_>,
    request: Option<(&H, Option<&TokenFacts>)>,
    decision: &Decision<'_>,
) {
    let on_trial = decision.on_trial.is_some() || matches!(decision.dry_run, Some(Err(_)));
    match &decision.verdict {
        Verdict::Ask(_) => {}
        Verdict::Allow { by, .. } => {
            if on_trial || decision.audit.is_some() || worker.shared.audit.writes_all() {
                allowed(worker, party, request, decision, by);
            }
        }
        Verdict::Deny(denial) => {
            let origin = denial.origin();
            // Whoever closes a stream tells of it.
            if let Some((head, _)) = request {
                let what = format_args!("{} {}", head.method(), head.path());
                denied(worker, party, &what, origin);
            }
            let record = Record { outcome: Outcome::Deny, by: "authorization", rule: Some(origin) };
            write(worker, party, request, &record, denial, decision.audit.map(|rule| &rule.origin));
        }
    }
}

fn denied(worker: &Worker, party: Party<'_>, what: &dyn Display, origin: &Origin) {
    let parties = Parties {
        direction: party.direction,
        source: Some(party.source),
        peer: party.facts.principal().unwrap_or_default(),
        destination: &party.destination,
    };
    worker.events.denied(parties, what, origin);
}

#[cold]
fn allowed<H: RequestHead>(
    worker: &Worker,
    party: Party<'_>,
    request: Option<(&H, Option<&TokenFacts>)>,
    decision: &Decision<'_>,
    by: &AllowedBy<'_>,
) {
    let audit = decision.audit.map(|rule| &rule.origin);
    let dry_run = decision.dry_run.as_ref().and_then(|decided| decided.as_ref().err());
    for denial in decision.on_trial.iter().chain(dry_run) {
        let outcome = Outcome::WouldDeny;
        let record = Record { outcome, by: "authorization", rule: Some(denial.origin()) };
        write(worker, party, request, &record, denial, audit);
    }
    if audit.is_none() && !worker.shared.audit.writes_all() {
        return;
    }
    let (why, rule): (&dyn Display, Option<&Origin>) = match by {
        AllowedBy::Default => (&"no policy would refuse it", None),
        AllowedBy::Probe(_) => (&"a health check of the node", None),
        AllowedBy::Rule(_, rule) => (&"allowed by a rule", Some(&rule.origin)),
    };
    let record = Record { outcome: Outcome::Allow, by: "authorization", rule };
    write(worker, party, request, &record, why, audit);
}

/// Tells of a request that was refused before policies were asked for the last time.
pub(super) fn refused(
    worker: &Worker,
    party: Party<'_>,
    head: &impl RequestHead,
    by: &'static str,
    why: &dyn Display,
    rule: Option<&Origin>,
) {
    if let Some(origin) = rule {
        let what = format_args!("{} {} ({why})", head.method(), head.path());
        denied(worker, party, &what, origin);
    }
    let record = Record { outcome: Outcome::Deny, by, rule };
    write(worker, party, Some((head, head.token())), &record, why, None);
}

/// Tells of a stream that an external authoriser refused.
pub(super) fn stream_refused(worker: &Worker, party: Party<'_>, why: &dyn Display, rule: &Origin) {
    let record = Record { outcome: Outcome::Deny, by: "external-authorizer", rule: Some(rule) };
    write(worker, party, None::<(&NoRequest, _)>, &record, why, None);
}

/// Tells of a connection that was refused for what it is, or whose other end did not prove who it is.
pub(crate) fn connection_refused(
    worker: &Worker,
    accepted: Accepted,
    identity: &str,
    transport: &str,
    why: &dyn Display,
    rule: Option<&Origin>,
) {
    if !worker.shared.audit.is_on() {
        return;
    }
    worker.shared.audit.write(&AuditRecord {
        time: worker.shared.identity.clock().now(),
        outcome: Outcome::Deny,
        by: "mutual-tls",
        reason: &why.to_string(),
        direction: "inbound",
        workload: &own_identity(worker),
        identity,
        transport,
        token: "",
        source: Some(accepted.source),
        destination: Some(accepted.destination),
        host: "",
        count: None,
        request: None,
        rule,
        audit: None,
    });
}

/// Writes down who did not prove what it said.
pub(crate) fn peer_refused(
    worker: &Worker,
    accepted: Accepted,
    refusal: Option<&PeerVerificationError>,
    error: &dyn std::error::Error,
) {
    let presented = refusal.and_then(PeerVerificationError::presented).map(ToString::to_string);
    let presented = presented.unwrap_or_default();
    let why = heddle_diag::error_chain(error);
    connection_refused(worker, accepted, &presented, "mutual-tls", &why, None);
}

fn own_identity(worker: &Worker) -> String {
    let own = worker.shared.identity.current();
    own.map(|own| own.svid().identity.to_string()).unwrap_or_default()
}

/// What is the same for the records of one decision.
struct Record<'a> {
    outcome: Outcome,
    by: &'static str,
    rule: Option<&'a Origin>,
}

fn write<H: RequestHead>(
    worker: &Worker,
    party: Party<'_>,
    request: Option<(&H, Option<&TokenFacts>)>,
    record: &Record<'_>,
    why: &dyn Display,
    audit: Option<&Origin>,
) {
    if !worker.shared.audit.is_on() {
        return;
    }
    let token = request.and_then(|(_, token)| token?.principal()).unwrap_or_default();
    let id = request.and_then(|(head, _)| head.header("x-request-id").map(Cow::into_owned));
    let id = id.map(|id| String::from_utf8_lossy(&id).into_owned()).unwrap_or_default();
    let request = request.map(|(head, _)| AuditedRequest {
        method: head.method(),
        host: head.authority(),
        path: head.path(),
        id: &id,
    });
    let identity = party.facts.peer_identity().map(ToString::to_string).unwrap_or_default();
    worker.shared.audit.write(&AuditRecord {
        time: worker.shared.identity.clock().now(),
        outcome: record.outcome,
        by: record.by,
        reason: &why.to_string(),
        direction: party.direction.as_str(),
        workload: &own_identity(worker),
        identity: &identity,
        transport: party.facts.transport().name(),
        token: &token,
        source: Some(party.source),
        destination: Some(party.destination),
        host: "",
        count: None,
        request,
        rule: record.rule,
        audit,
    });
}
