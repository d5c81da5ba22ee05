//! One verdict out of everything that may become of a request.

use heddle_ir::http_route::{AbortStatus, Fault};

use crate::answer::{
    Alternative, Answer, DestinationView, Handled, HeaderChanges, ServerView, TransportView,
    Verdict,
};
use crate::branch::{self, Branch, Call, Outcome};
use crate::outbound::{Followed, millis};
use crate::query::Query;
use crate::story::{Phase, Story};

/// Shares smaller than this are rounding.
const NOTHING: f64 = 1e-9;

/// Puts the answer together.
pub(crate) fn combine(
    call: &Call<'_>,
    query: &Query,
    followed: &Followed,
    mut story: Story,
) -> Answer {
    let outcomes = outcomes(followed);
    let mut depends_on = depends_on(followed);
    let base = verdict(&outcomes, &followed.branches, &mut depends_on);
    tell_servers(followed, &base, &mut story);
    let (base, alternatives, delay_ms) = with_fault(base, &outcomes, followed.fault.as_ref());
    let own = followed.own.as_ref().filter(|_| base.verdict != Verdict::Fault);
    let is_http = call.handled.is_http();
    // What cannot be forwarded as configured is UNAVAILABLE for gRPC, whatever HTTP clients are told.
    let unreachable = base.verdict == Verdict::Unreachable;
    let of_base = |status| if unreachable && status == 500 { 14 } else { grpc_of(status) };
    let grpc_status = (call.handled == Handled::Grpc)
        .then(|| own.and_then(|own| own.grpc_status).or_else(|| base.status.map(of_base)))
        .flatten();
    let transport = match base.verdict {
        Verdict::Passthrough if call.handled == Handled::Tls => TransportView::Tls,
        Verdict::Passthrough => TransportView::Plaintext,
        _ => branch::transport(&followed.branches),
    };
    // One that stands alone gets everything.
    let weight = |own: u32| if followed.branches.len() == 1 { 100 } else { own };
    let destinations = followed.branches.iter().filter_map(|branch| {
        let view = branch.destination.clone()?;
        Some(DestinationView { weight: weight(view.weight), ..view })
    });
    tell_end(followed, &base, transport, &mut story);
    Answer {
        from: query.from.clone(),
        to: query.to.clone(),
        verdict: base.verdict,
        depends_on,
        status: base.status,
        grpc_status,
        protocol: call.handled,
        transport,
        request: call.head.view(call.handled),
        response_headers: if is_http {
            followed.response_headers.clone()
        } else {
            HeaderChanges::new()
        },
        location: own.and_then(|own| own.location.clone()),
        body: own.and_then(|own| own.body.clone()),
        destinations: destinations.collect(),
        mirrors: followed.mirrors.clone(),
        timeout_ms: followed.timeout_ms,
        retries: followed.retries.clone(),
        delay_ms,
        alternatives,
        phases: story.finish(),
        reason: base.reason,
        assumptions: assumptions(call),
    }
}

fn assumptions(call: &Call<'_>) -> Vec<String> {
    let mut assumptions = call.caller.assumptions.clone();
    if call.world.assumed {
        assumptions.push(
            "the files hold nothing that runs: every Service has a ready workload of its labels"
                .into(),
        );
    }
    assumptions
}

/// The gRPC status that clients are given for a status (grpc/doc/http-grpc-status-mapping).
fn grpc_of(status: u16) -> u8 {
    match status {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Everything that may become of the request where no fault is injected; shares add up to 1.
fn outcomes(followed: &Followed) -> Vec<Outcome> {
    if let Some(own) = &followed.own {
        return vec![Outcome {
            share: 1.0,
            verdict: own.verdict,
            status: own.status,
            reason: own.reason.clone(),
            origin: own.origin.clone(),
        }];
    }
    let total: f64 = followed.branches.iter().map(|branch| f64::from(branch.weight)).sum();
    let mut all: Vec<Outcome> = Vec::new();
    for branch in &followed.branches {
        let part = f64::from(branch.weight) / total;
        for outcome in &branch.outcomes {
            let share = outcome.share * part;
            let same = all
                .iter_mut()
                .find(|known| (known.verdict, known.status) == (outcome.verdict, outcome.status));
            match same {
                Some(known) => known.share += share,
                None => all.push(Outcome { share, ..outcome.clone() }),
            }
        }
    }
    all
}

/// What becomes of everything that was followed, and what it depends on; injected failures of a share are left out.
pub(crate) fn settle(followed: &Followed) -> (Outcome, Vec<String>) {
    let outcomes = outcomes(followed);
    let mut depends_on = depends_on(followed);
    let base = verdict(&outcomes, &followed.branches, &mut depends_on);
    let (base, ..) = with_fault(base, &outcomes, followed.fault.as_ref());
    (base, depends_on)
}

fn depends_on(followed: &Followed) -> Vec<String> {
    let mut depends_on: Vec<String> = Vec::new();
    let of_branches = followed.branches.iter().flat_map(|branch| &branch.depends_on);
    for reason in followed.depends_on.iter().chain(of_branches) {
        if !depends_on.contains(reason) {
            depends_on.push(reason.clone());
        }
    }
    depends_on
}

/// The verdict where no fault is injected.
fn verdict(outcomes: &[Outcome], branches: &[Branch], depends_on: &mut Vec<String>) -> Outcome {
    match outcomes {
        [] => Outcome {
            share: 1.0,
            verdict: Verdict::Unreachable,
            status: None,
            reason: "there is nothing to send it to".into(),
            origin: None,
        },
        [only] => {
            let mut only = only.clone();
            if only.verdict == Verdict::Forward {
                only.reason = forwarded(branches);
                if !depends_on.is_empty() {
                    only.verdict = Verdict::Depends;
                }
            }
            only
        }
        several => {
            if depends_on.is_empty() || branches.len() > 1 {
                depends_on.push(if branches.len() > 1 {
                    "which backend is drawn".into()
                } else {
                    "which endpoint is picked".into()
                });
            }
            let reasons: Vec<String> = several
                .iter()
                .map(|outcome| format!("{}: {}", outcome.verdict.as_str(), outcome.reason))
                .collect();
            Outcome {
                share: 1.0,
                verdict: Verdict::Depends,
                status: None,
                reason: reasons.join("; "),
                origin: None,
            }
        }
    }
}

fn forwarded(branches: &[Branch]) -> String {
    let total: u32 = branches.iter().map(|branch| branch.weight).sum();
    let names: Vec<String> = branches
        .iter()
        .filter_map(|branch| {
            let view = branch.destination.as_ref()?;
            let name = branch::name(view);
            Some(if branches.len() > 1 {
                format!("{name} ({} %)", percent(f64::from(branch.weight) / f64::from(total)))
            } else {
                name
            })
        })
        .collect();
    format!("forwarded to {}", names.join(", "))
}

/// A share in percent, to four digits behind the point.
fn percent(share: f64) -> f64 {
    (share * 1_000_000.0).round() / 10_000.0
}

/// Spreads an injected failure over what would become of the request without it.
fn with_fault(
    base: Outcome,
    outcomes: &[Outcome],
    fault: Option<&Fault>,
) -> (Outcome, Vec<Alternative>, Option<u64>) {
    let share = |ppm: u32| f64::from(ppm.min(1_000_000)) / 1_000_000.0;
    let delay = fault.and_then(|fault| fault.delay);
    let abort = fault.and_then(|fault| fault.abort);
    let delayed = delay.map_or(0.0, |delay| share(delay.share_ppm));
    let aborted = abort.map_or(0.0, |abort| share(abort.share_ppm));
    let delay_ms = delay.map(|delay| millis(delay.duration));
    let failure = abort.zip(fault).map(|(abort, fault)| Outcome {
        share: aborted,
        verdict: Verdict::Fault,
        status: Some(match abort.status {
            AbortStatus::Http(status) => status,
            AbortStatus::Grpc(_) => 200,
        }),
        reason: match abort.status {
            AbortStatus::Http(status) => format!("an injected failure answers with {status}"),
            AbortStatus::Grpc(status) => {
                format!("an injected failure answers gRPC status {status}")
            }
        },
        origin: Some(fault.origin.clone()),
    });
    let mut ends: Vec<Outcome> = failure.iter().filter(|_| aborted > NOTHING).cloned().collect();
    if aborted < 1.0 - NOTHING {
        let rest = 1.0 - aborted;
        ends.extend(outcomes.iter().map(|outcome| Outcome {
            share: outcome.share * rest,
            reason: if outcomes.len() == 1 { base.reason.clone() } else { outcome.reason.clone() },
            ..outcome.clone()
        }));
    }
    let always = delayed > 1.0 - NOTHING;
    let mut alternatives = Vec::new();
    for end in &ends {
        for (part, delay) in [(delayed, delay_ms), (1.0 - delayed, None)] {
            if part > NOTHING {
                alternatives.push(Alternative {
                    percent: percent(end.share * part),
                    verdict: end.verdict,
                    status: end.status,
                    delay_ms: delay,
                    reason: end.reason.clone(),
                });
            }
        }
    }
    if alternatives.len() == 1 {
        alternatives.clear();
    }
    let base = match failure {
        Some(failure) if aborted > 1.0 - NOTHING => failure,
        _ => base,
    };
    (base, alternatives, delay_ms.filter(|_| always))
}

/// `workload, workload: what`, once for all of which the same is said.
fn alike(servers: &[ServerView], what: impl Fn(&ServerView) -> String) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for server in servers {
        let said = what(server);
        match groups.iter_mut().find(|(known, _)| *known == said) {
            Some((_, workloads)) => workloads.push(&server.workload),
            None => groups.push((said, vec![&server.workload])),
        }
    }
    groups.iter().map(|(said, workloads)| format!("{}: {said}", workloads.join(", "))).collect()
}

/// What the servers' proxies did, and how they were found.
fn tell_servers(followed: &Followed, base: &Outcome, story: &mut Story) {
    for branch in &followed.branches {
        let Some(view) = &branch.destination else { continue };
        let name = branch::name(view);
        let of = crate::story::considered(&view.origin, format!("{name}: {}", branch.picked));
        story.consider(Phase::Pick, of);
        for server in &view.servers {
            if let Some((mode, origin)) = &server.mutual_tls {
                let mut of = crate::story::considered(origin, format!("mutual TLS is {mode}"));
                of.workload = Some(server.workload.clone());
                story.consider(Phase::Connect, of);
            }
            for considered in &server.considered {
                story.consider(Phase::Authorize, considered.clone());
            }
        }
        let how = |server: &ServerView| {
            let how = match server.transport {
                TransportView::MutualTls => "mutual TLS with the identities of the mesh",
                TransportView::Tls => "TLS",
                TransportView::Plaintext | TransportView::None => "plaintext",
            };
            how.to_owned()
        };
        for note in alike(&view.servers, how) {
            story.note(Phase::Connect, note);
        }
        for note in alike(&view.servers, |server| server.reason.clone()) {
            story.note(Phase::Authorize, note);
        }
    }
    let first = followed.branches.iter().find_map(|branch| branch.destination.as_ref());
    if let Some(view) = first {
        let count = followed.branches.len();
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        let picked = format!("{}{more}", branch::name(view));
        story.outcome(Phase::Pick, picked, Some(&view.origin));
    }
    let servers: Vec<_> = followed
        .branches
        .iter()
        .filter_map(|branch| branch.destination.as_ref())
        .flat_map(|view| &view.servers)
        .collect();
    if servers.is_empty() {
        return;
    }
    let (outcome, origin) = match base.verdict {
        Verdict::Deny => ("denied", base.origin.as_ref()),
        Verdict::Depends => ("depends", base.origin.as_ref()),
        Verdict::Unreachable => ("not reached", None),
        _ => ("allowed", servers.iter().find_map(|server| server.origin.as_ref())),
    };
    story.outcome(Phase::Authorize, outcome, origin);
}

/// The phases after the verdict.
fn tell_end(followed: &Followed, base: &Outcome, transport: TransportView, story: &mut Story) {
    let origin = base.origin.as_ref();
    if followed.branches.iter().any(|branch| branch.destination.is_some()) {
        let setting = followed
            .branches
            .iter()
            .filter_map(|branch| branch.destination.as_ref())
            .flat_map(|view| &view.servers)
            .find_map(|server| server.mutual_tls.as_ref().map(|(_, origin)| origin));
        story.outcome(Phase::Connect, transport.as_str(), setting);
    }
    match base.verdict {
        Verdict::Forward | Verdict::Depends | Verdict::Passthrough => {
            story.outcome(Phase::Forward, &*base.reason, None);
        }
        Verdict::Redirect | Verdict::Respond | Verdict::Fault => {
            story.outcome(Phase::Forward, format!("answered here: {}", base.reason), origin);
        }
        Verdict::Deny | Verdict::NoRoute | Verdict::Unreachable => {
            story.outcome(Phase::Forward, format!("not reached: {}", base.verdict.as_str()), None);
        }
    }
    let status = base.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let route = if followed.route_name.is_empty() { "-" } else { &followed.route_name };
    let answered = if base.verdict == Verdict::Forward { "the application's" } else { &status };
    story.outcome(Phase::Record, format!("route {route}, status {answered}"), None);
}
