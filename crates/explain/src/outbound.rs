//! The client's side: what the proxy beside the client does.

use std::sync::Arc;

use heddle_authz::{OutboundPolicy, OutboundRefusal, OutboundTarget, Transport};
use heddle_balance::HashedRequest;
use heddle_diag::Origin;
use heddle_ir::destination::Destination;
use heddle_ir::http_route::{
    AbortStatus, BackendTarget, Fault, HttpRule, RetryOn, RetryPolicy, RouteAuthorizer,
};
use heddle_ir::outbound::OutboundKey;
use heddle_ir::protocol::Protocol;
use heddle_route::{
    CompiledRoutes, CorsOutcome, HeaderEdit, MatchOutcome, RouteAction, RouteDecision, Speaker,
    StreamOutcome,
};

use crate::answer::{Handled, HeaderChanges, MirrorView, RetriesView, Verdict};
use crate::branch::{Branch, Call, Sent, service_of};
use crate::head::{Speaks, change};
use crate::story::{Phase, Story, considered};
use crate::target::Resolution;
use crate::world::View;

/// What came of the client's side.
#[derive(Default)]
pub(crate) struct Followed {
    /// Where it may go.
    pub(crate) branches: Vec<Branch>,
    /// What the proxy answers by itself.
    pub(crate) own: Option<Own>,
    pub(crate) fault: Option<Fault>,
    /// What it depends on besides its branches.
    pub(crate) depends_on: Vec<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) retries: Option<RetriesView>,
    pub(crate) mirrors: Vec<MirrorView>,
    /// Of whatever is answered.
    pub(crate) response_headers: HeaderChanges,
    /// The name that metrics and logs give the route.
    pub(crate) route_name: String,
}

/// An answer of the proxy.
pub(crate) struct Own {
    pub(crate) verdict: Verdict,
    pub(crate) status: Option<u16>,
    pub(crate) grpc_status: Option<u8>,
    pub(crate) reason: String,
    pub(crate) origin: Option<Origin>,
    pub(crate) location: Option<String>,
    pub(crate) body: Option<String>,
}

impl Own {
    pub(crate) fn new(verdict: Verdict, status: Option<u16>, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            status,
            grpc_status: None,
            reason: reason.into(),
            origin: None,
            location: None,
            body: None,
        }
    }

    pub(crate) fn by(mut self, origin: &Origin) -> Self {
        self.origin = Some(origin.clone());
        self
    }
}

impl Followed {
    pub(crate) fn answered(own: Own) -> Self {
        Self { own: Some(own), ..Self::default() }
    }

    pub(crate) fn to(branch: Branch) -> Self {
        Self { branches: vec![branch], ..Self::default() }
    }
}

impl Call<'_> {
    /// What the client's proxy does.
    pub(crate) fn outbound(&self, view: &View, story: &mut Story) -> Followed {
        if self.handled == Handled::Udp {
            let what = "datagrams are never taken by a proxy";
            story.outcome(Phase::Accept, format!("not captured: {what}"), None);
            return Followed::answered(Own::new(Verdict::Passthrough, None, what));
        }
        if let Some((reason, origin)) = self.name_is_refused() {
            story.outcome(Phase::Authorize, &*reason, Some(&origin));
            return Followed::answered(Own::new(Verdict::Deny, None, reason).by(&origin));
        }
        let destination = self.target.destination;
        let authority = self.handled.is_http().then_some(&*self.head.authority);
        let speaker = match view.targets.speaker(authority, destination) {
            Speaker::Table(table) => Speaker::Table(table),
            other => self.imagined(other),
        };
        match speaker {
            Speaker::Table(table) => self.by_table(&table, story),
            Speaker::Workload if self.target.resolution != Resolution::Missing => {
                self.to_workload(view, story)
            }
            Speaker::Workload | Speaker::Unknown => self.to_unknown(view, story),
        }
    }

    /// Files that hold nothing that runs may lack the service that a VirtualService speaks for; its rules are followed all
    /// the same.
    fn imagined(&self, speaker: Speaker) -> Speaker {
        let Some(host) = self.target.host.as_deref().filter(|_| self.world.assumed) else {
            return speaker;
        };
        let known = matches!(self.target.resolution, Resolution::Service | Resolution::Headless);
        let key = OutboundKey {
            scope: self.caller.scope.clone(),
            host: host.into(),
            port: self.target.destination.port(),
        };
        if known || self.world.routes(&key).is_none() { speaker } else { Speaker::Table(key.host) }
    }

    fn by_table(&self, table: &Arc<str>, story: &mut Story) -> Followed {
        let port = self.target.destination.port();
        let key = OutboundKey { scope: self.caller.scope.clone(), host: table.clone(), port };
        let Some(routes) = self.world.routes(&key) else {
            let reason = format!("nothing is configured for {table}:{port}");
            story.outcome(Phase::Route, &*reason, None);
            return Followed::answered(Own::new(Verdict::Unreachable, self.http(503), reason));
        };
        story.note(Phase::Route, format!("the routes of {table}:{port} count"));
        if self.handled.is_http() {
            if !self.speaks.is_http() {
                let reason = "the port speaks HTTP and the client does not";
                story.outcome(Phase::Detect, reason, None);
                return Followed::answered(Own::new(Verdict::Unreachable, Some(400), reason));
            }
            // Of a port that declares streams, requests that are heard go where streams go.
            if routes.outbound().protocol == Protocol::Tcp {
                return self.by_stream(&routes, story);
            }
            self.by_http(&routes, story)
        } else {
            self.by_stream(&routes, story)
        }
    }

    fn http(&self, status: u16) -> Option<u16> {
        self.handled.is_http().then_some(status)
    }

    pub(crate) fn by_http(&self, routes: &CompiledRoutes, story: &mut Story) -> Followed {
        for each in routes.explain(self.head) {
            // A rule that takes everything hides all behind it; those that do not match either tell nothing.
            if each.outcome == MatchOutcome::Shadowed || !each.describe().is_empty() {
                story.consider(Phase::Route, considered(each.origin(), each.describe()));
            }
        }
        let decisions = routes.decide_all(self.head);
        let Some((_, first)) = decisions.first() else {
            let reason = "no rule matches";
            story.outcome(Phase::Route, reason, None);
            let mut own = Own::new(Verdict::NoRoute, Some(404), reason);
            own.grpc_status = Some(12);
            return Followed::answered(own);
        };
        story.outcome(Phase::Route, "matched", Some(&first.rule.origin));
        if first.name != "default" {
            story.note(Phase::Route, format!("the rule is called {}", first.name));
        }
        let destinations = &routes.outbound().destinations;
        let mut followed = self.by_action(&decisions, destinations, story);
        first.name.clone_into(&mut followed.route_name);
        let preflight = first.cors(self.head);
        let preflight =
            matches!(preflight, CorsOutcome::Preflight(_) | CorsOutcome::PreflightUnmatched);
        if let Some(RouteAuthorizer { authorizer, .. }) = first.rule.authorizer.as_deref()
            && !preflight
        {
            let what = format!(
                "the external authoriser {} ({}:{})",
                authorizer.name, authorizer.host, authorizer.port
            );
            let outcome = format!("asked before anything else: {what}");
            story.consider(Phase::Authorize, considered(&authorizer.origin, outcome));
            followed.depends_on.push(what);
        }
        if followed.own.is_none() || followed.fault.is_some() {
            Self::tell_limits(first.rule, &mut followed, story);
        }
        followed
    }

    fn tell_limits(rule: &HttpRule, followed: &mut Followed, story: &mut Story) {
        followed.timeout_ms = rule.timeout.map(millis);
        if let Some(timeout) = rule.timeout {
            story.note(Phase::Forward, format!("the whole request may take {timeout:?}"));
        }
        if followed.own.is_none() {
            followed.retries = Some(retries(&rule.retry));
            if rule.retry.attempts > 0 {
                let on = retries(&rule.retry).on.join(", ");
                let text = format!("tried again up to {} times on {on}", rule.retry.attempts);
                story.consider(Phase::Forward, considered(&rule.retry.origin, text));
            }
        }
    }

    fn by_action(
        &self,
        decisions: &[(u32, RouteDecision<'_>)],
        destinations: &[Arc<Destination>],
        story: &mut Story,
    ) -> Followed {
        let Some((_, first)) = decisions.first() else { return Followed::default() };
        let mut cors: HeaderChanges = Vec::new();
        match first.cors(self.head) {
            CorsOutcome::None => {}
            CorsOutcome::Add(headers) => {
                for (name, value) in headers.iter() {
                    cors.push((name.to_owned(), Some(String::from_utf8_lossy(value).into_owned())));
                }
            }
            CorsOutcome::Preflight(headers) => {
                let own = Own::new(Verdict::Respond, Some(200), "a CORS preflight is answered");
                let mut followed = Followed::answered(own.by(cors_origin(first.rule)));
                for (name, value) in headers.iter() {
                    let value = String::from_utf8_lossy(value).into_owned();
                    followed.response_headers.push((name.to_owned(), Some(value)));
                }
                return followed;
            }
            CorsOutcome::PreflightUnmatched => {
                let reason = "a CORS preflight of an origin that is not allowed is answered";
                let own = Own::new(Verdict::Respond, Some(200), reason);
                return Followed::answered(own.by(cors_origin(first.rule)));
            }
        }
        let mut followed = self.without_fault(decisions, destinations, &cors);
        followed.fault.clone_from(&first.rule.fault);
        if let Some(fault) = &first.rule.fault {
            story.consider(Phase::Route, considered(&fault.origin, fault_text(fault)));
        }
        followed
    }

    fn without_fault(
        &self,
        decisions: &[(u32, RouteDecision<'_>)],
        destinations: &[Arc<Destination>],
        cors: &HeaderChanges,
    ) -> Followed {
        let Some((_, first)) = decisions.first() else { return Followed::default() };
        match first.action {
            RouteAction::Redirect(redirect) => {
                let mut location = String::new();
                first.write_location(self.head, self.target.destination.port(), &mut location);
                let reason = format!("redirected to {location}");
                let own = Own::new(Verdict::Redirect, Some(redirect.status), reason);
                let own = Own { location: Some(location), ..own.by(&first.rule.origin) };
                Followed { response_headers: added(first), ..Followed::answered(own) }
            }
            RouteAction::Respond(response) => {
                let reason = "the rule answers by itself";
                let own = Own::new(Verdict::Respond, Some(response.status), reason);
                let body = String::from_utf8_lossy(&response.body).into_owned();
                let own = Own { body: Some(body), ..own.by(&first.rule.origin) };
                Followed { response_headers: added(first), ..Followed::answered(own) }
            }
            RouteAction::Forward { .. } | RouteAction::Refuse { .. } => {
                let branches: Vec<Branch> = decisions
                    .iter()
                    .map(|(weight, each)| self.backend(*weight, each, cors))
                    .collect();
                let mirrors = Self::mirrors(first.rule, destinations);
                let response_headers = common(&branches).unwrap_or_else(|| cors.clone());
                Followed { branches, mirrors, response_headers, ..Followed::default() }
            }
        }
    }

    fn mirrors(rule: &HttpRule, destinations: &[Arc<Destination>]) -> Vec<MirrorView> {
        let mut views = Vec::new();
        for mirror in rule.mirrors.iter().filter(|mirror| mirror.share_ppm > 0) {
            let BackendTarget::Destination(place) = mirror.target else { continue };
            let Some(destination) = destinations.get(place) else { continue };
            let id = &destination.id;
            views.push(MirrorView {
                service: service_of(destination),
                port: id.port,
                subset: (!id.subset.is_empty()).then(|| id.subset.to_string()),
                percent: f64::from(mirror.share_ppm.min(1_000_000)) / 10_000.0,
            });
        }
        views
    }

    fn backend(&self, weight: u32, decision: &RouteDecision<'_>, cors: &HeaderChanges) -> Branch {
        let destination = match decision.action {
            RouteAction::Forward { destination, .. } => destination,
            RouteAction::Refuse { status, reason } => {
                let origin = &decision.rule.origin;
                return Branch::refused(weight, Some(status), reason.to_owned(), origin);
            }
            RouteAction::Redirect(_) | RouteAction::Respond(_) => {
                return Branch::refused(weight, None, String::new(), &decision.rule.origin);
            }
        };
        let mut head = self.head.clone();
        let mut path = String::new();
        if decision.write_path(&self.head.path, &mut path) {
            head.set_path(path);
        }
        if let Some(authority) = decision.authority() {
            authority.clone_into(&mut head.authority);
        }
        for edit in decision.request_edits() {
            head.edit(edit);
        }
        let mut response_headers = HeaderChanges::new();
        for edit in decision.response_edits() {
            change(&mut response_headers, edit);
        }
        for (name, value) in cors {
            if let Some(value) = value {
                change(&mut response_headers, HeaderEdit::Set(name, value));
            }
        }
        let policy = &destination.load_balancing;
        let hashed = HashedRequest::new(policy, self.head, self.caller.address, 0);
        let mut branch = self
            .reach(destination, Sent { weight, head, response_headers: response_headers.clone() });
        if hashed.set_cookie.is_some()
            && let Some(view) = &mut branch.destination
        {
            // Its value is drawn anew for every client.
            change(
                &mut view.response_headers,
                HeaderEdit::Add("set-cookie", "(of the load balancer)"),
            );
        }
        branch
    }

    pub(crate) fn by_stream(&self, routes: &CompiledRoutes, story: &mut Story) -> Followed {
        let address = self.target.destination.ip().to_canonical();
        let tls = self.handled == Handled::Tls;
        let server_name = tls.then(|| self.head.host().to_owned());
        for each in routes.explain_stream(tls, server_name.as_deref(), address) {
            let outcome = match each.outcome {
                StreamOutcome::Decides => "matched",
                StreamOutcome::Fails => "not matched: server name or destination address",
                StreamOutcome::Shadowed => "would match, but an earlier rule did",
            };
            story.consider(Phase::Route, considered(each.origin, outcome));
        }
        let decisions = routes.decide_stream_all(tls, server_name.as_deref(), address);
        let Some((_, first)) = decisions.first() else {
            let reason = "no rule for streams matches: the connection is closed";
            story.outcome(Phase::Route, reason, None);
            return Followed::answered(Own::new(Verdict::NoRoute, None, reason));
        };
        story.outcome(Phase::Route, "matched", Some(first.origin));
        let branches = decisions.iter().map(|(weight, decision)| {
            let Some((_, destination)) = decision.destination else {
                let origin = decision.backend.map_or(decision.origin, |backend| &backend.origin);
                let reason = "the backend is not valid: the connection is closed".to_owned();
                return Branch::refused(*weight, None, reason, origin);
            };
            let (head, response_headers) = (self.head.clone(), HeaderChanges::new());
            self.reach(destination, Sent { weight: *weight, head, response_headers })
        });
        Followed { branches: branches.collect(), ..Followed::default() }
    }

    /// A workload of the mesh at its own address, without routes.
    fn to_workload(&self, view: &View, story: &mut Story) -> Followed {
        let address = self.target.destination;
        let Some(workload) = self.world.at(&self.caller.network, address.ip()) else {
            return self.to_unknown(view, story);
        };
        let label = format!("{}/{}", workload.namespace, workload.workload_name);
        let reason = format!("no routes: {address} is the workload {label} itself");
        story.outcome(Phase::Route, reason, None);
        let sent =
            Sent { weight: 1, head: self.head.clone(), response_headers: HeaderChanges::new() };
        Followed::to(self.reach_workload(&workload, sent))
    }

    /// What no frontend, route or workload is known for.
    fn to_unknown(&self, view: &View, story: &mut Story) -> Followed {
        if self.target.resolution == Resolution::Missing {
            let host = self.target.host.as_deref().unwrap_or_default();
            let reason = format!(
                "the host is unknown: no Service or ServiceEntry that the client sees is called {host}"
            );
            story.outcome(Phase::Accept, &*reason, None);
            return Followed::answered(Own::new(Verdict::Unreachable, None, reason));
        }
        let address = self.target.destination.ip().to_canonical();
        let target = OutboundTarget::Unknown(address);
        match OutboundPolicy::new(view.targets.index(), None, 1).admits(target) {
            Ok(()) => {
                if let Some(denied) = self.passing_is_denied(story) {
                    return denied;
                }
                let what = match &self.target.host {
                    Some(host) => format!("{host} is no service of the mesh"),
                    None => format!("{address} is outside of the mesh"),
                };
                let reason = format!("{what}: it is passed through as it is");
                story.outcome(Phase::Route, &*reason, None);
                Followed::answered(Own::new(Verdict::Passthrough, None, reason))
            }
            Err(refusal @ OutboundRefusal::InsideMesh(_)) => {
                story.outcome(Phase::Route, refusal.to_string(), None);
                let own = Own::new(Verdict::Unreachable, self.http(503), refusal.to_string());
                Followed::answered(own)
            }
            Err(OutboundRefusal::NotConfigured(_)) => {
                let what = self.target.host.clone().unwrap_or_else(|| address.to_string());
                let reason = format!(
                    "{what} is outside of the mesh and no ServiceEntry names it (REGISTRY_ONLY)"
                );
                story.outcome(Phase::Authorize, &*reason, None);
                // As Istio's block-all route answers.
                Followed::answered(Own::new(Verdict::Deny, self.http(502), reason))
            }
        }
    }
}

impl Call<'_> {
    /// What policies on the client's side refuse of what would leave the mesh as it is.
    fn passing_is_denied(&self, story: &mut Story) -> Option<Followed> {
        let tls = self.speaks == Speaks::Tls;
        let transport = if tls { Transport::OpaqueTls } else { Transport::Plaintext };
        let server_name = tls.then(|| self.head.host().to_owned());
        let egress = self.egress(self.target.destination, transport, server_name, None)?;
        for each in egress.considered {
            story.consider(Phase::Authorize, each);
        }
        match egress.result {
            Ok(origin) => {
                story.outcome(Phase::Authorize, "allowed", origin.as_ref());
                None
            }
            Err(refusal) => {
                let (reason, origin) = *refusal;
                story.outcome(Phase::Authorize, &*reason, Some(&origin));
                let own = Own::new(Verdict::Deny, self.http(403), reason).by(&origin);
                Some(Followed::answered(own))
            }
        }
    }
}

/// Headers that the proxy puts into an answer of its own.
fn added(decision: &RouteDecision<'_>) -> HeaderChanges {
    let mut changes = HeaderChanges::new();
    for edit in decision.response_edits() {
        if !matches!(edit, HeaderEdit::Remove(_)) {
            change(&mut changes, edit);
        }
    }
    changes
}

fn cors_origin(rule: &HttpRule) -> &Origin {
    rule.cors.as_ref().map_or(&rule.origin, |cors| &cors.origin)
}

/// What all branches change of a response; none where they differ.
fn common(branches: &[Branch]) -> Option<HeaderChanges> {
    let mut changes = branches.iter().map(|branch| {
        branch.destination.as_ref().map(|view| view.response_headers.clone()).unwrap_or_default()
    });
    let first = changes.next()?;
    changes.all(|other| other == first).then_some(first)
}

fn fault_text(fault: &Fault) -> String {
    let percent = |share: u32| format!("{} %", f64::from(share) / 10_000.0);
    let mut parts = Vec::new();
    if let Some(delay) = fault.delay {
        parts.push(format!("{} wait {:?}", percent(delay.share_ppm), delay.duration));
    }
    if let Some(abort) = fault.abort {
        let what = match abort.status {
            AbortStatus::Http(status) => format!("{status}"),
            AbortStatus::Grpc(status) => format!("gRPC status {status}"),
        };
        parts.push(format!("{} are answered with {what}", percent(abort.share_ppm)));
    }
    format!("fault: {}", parts.join(", "))
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn retries(policy: &RetryPolicy) -> RetriesView {
    let on = if policy.attempts == 0 { &[][..] } else { &policy.on };
    RetriesView {
        attempts: policy.attempts,
        on: on.iter().copied().map(retry_on).collect(),
        per_try_timeout_ms: policy.per_try_timeout.map(millis),
    }
}

/// The name in Envoy's `retry_on`.
fn retry_on(on: RetryOn) -> String {
    match on {
        RetryOn::ConnectFailure => "connect-failure".into(),
        RetryOn::RefusedStream => "refused-stream".into(),
        RetryOn::Reset => "reset".into(),
        RetryOn::ResetBeforeRequest => "reset-before-request".into(),
        RetryOn::ServerError => "5xx".into(),
        RetryOn::GatewayError => "gateway-error".into(),
        RetryOn::Retriable4xx => "retriable-4xx".into(),
        RetryOn::Status(status) => status.to_string(),
        RetryOn::GrpcStatus(status) => match status {
            1 => "cancelled".into(),
            4 => "deadline-exceeded".into(),
            8 => "resource-exhausted".into(),
            13 => "internal".into(),
            14 => "unavailable".into(),
            other => format!("grpc-status-{other}"),
        },
        RetryOn::StatusRange(range) => format!("{}-{}", range.first, range.last),
        RetryOn::RateLimited => "envoy-ratelimited".into(),
    }
}
