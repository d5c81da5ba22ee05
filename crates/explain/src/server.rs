//! The server's side: what the proxy of a workload does with a connection and the request on it.

use std::net::{IpAddr, SocketAddr};

use heddle_authz::{
    Acceptance, AllowedBy, Approvals, CompiledAuthorization, Connection, ConsideredRule, Decision,
    Denial, Question, Transport, Verdict as Judged,
};
use heddle_diag::Origin;
use heddle_ident::{SpiffeId, WorkloadId};
use heddle_ir::authorization::{AuthorizerProtocol, PolicyAction};
use heddle_ir::http_route::HttpMatch;
use heddle_ir::inbound::MutualTlsMode;
use heddle_ir::protocol::Protocol;
use heddle_ir::rate_limit::RateLimits;
use heddle_ir::request::ConnectionFacts;
use heddle_route::{CompiledDescriptors, CompiledFilter, DescriptorFacts};
use heddle_wire::path::normalize;

use crate::answer::{Considered, Handled, ServerView, TransportView, Verdict};
use crate::gateway;
use crate::head::{Head, Speaks};
use crate::tokens::TokenVerdict;
use crate::world::World;

/// The port that clients are imagined to come from.
const SOURCE_PORT: u16 = 40_000;

/// A connection to a workload as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    /// Proven by the connection.
    pub(crate) identity: Option<SpiffeId>,
    /// Of the TLS that the server sees.
    pub(crate) server_name: Option<String>,
    pub(crate) source: IpAddr,
    pub(crate) destination: SocketAddr,
    /// What the client's proxy has told to be carried; none: opaque, or there is no client's proxy.
    pub(crate) declared_by_peer: Option<Handled>,
    /// What the bytes are.
    pub(crate) speaks: Speaks,
    /// A proxy stands at the client's side, which answers 503 where a connection is closed.
    pub(crate) has_client_proxy: bool,
}

impl Link {
    fn view(&self) -> TransportView {
        match self.transport {
            Transport::MutualTls => TransportView::MutualTls,
            Transport::OpaqueTls => TransportView::Tls,
            Transport::Plaintext => TransportView::Plaintext,
        }
    }

    /// What a client of HTTP gets where the connection is closed.
    fn closed(&self) -> Option<u16> {
        (self.has_client_proxy && self.speaks.is_http()).then_some(503)
    }
}

/// What is said of a workload.
pub(crate) struct Server<'a> {
    pub(crate) world: &'a World,
    pub(crate) link: &'a Link,
    pub(crate) head: &'a Head,
}

impl Server<'_> {
    /// What the proxy of a workload does; `label` names it, `share` is the part of the traffic that it gets.
    pub(crate) fn serve(&self, workload: &WorkloadId, label: &str, share: f64) -> ServerView {
        let mut view = self.reached(label, share);
        let meshed = self.world.settings(workload).is_some_and(|settings| {
            settings.workload.transport != heddle_ir::workload::MeshTransport::None
        });
        if self.world.is_gateway(workload)
            && let Some(gateway) = self.world.replica(workload)
        {
            return gateway::follow(self.world, &gateway, self.link, self.head, view);
        }
        match self.world.inbound(workload).filter(|_| meshed) {
            Some(inbound) => self.enforce(&inbound, &mut view),
            None if self.link.transport == Transport::MutualTls => {
                view.verdict = Verdict::Unreachable;
                view.status = self.link.closed();
                view.reason = format!(
                    "{label} has no proxy that could take mutual TLS, which its clients are told to use"
                );
            }
            None => view.reason = format!("{label} has no proxy: nothing is enforced there"),
        }
        view
    }

    /// A server of which nothing is known but that it is there.
    pub(crate) fn reached(&self, label: &str, share: f64) -> ServerView {
        ServerView {
            workload: label.to_owned(),
            share,
            verdict: Verdict::Forward,
            status: None,
            reason: String::new(),
            origin: None,
            transport: self.link.view(),
            handled: self.link.speaks.handled(Protocol::Detect),
            mutual_tls: None,
            considered: Vec::new(),
            depends_on: Vec::new(),
            then: Vec::new(),
            request: None,
        }
    }

    /// What the policies of a gateway's workload say about a request that one of its servers took, and the request as it
    /// goes on.
    pub(crate) fn at_edge(
        &self,
        workload: &WorkloadId,
        label: &str,
        handled: Handled,
    ) -> (ServerView, Head) {
        let mut view = self.reached(label, 1.0);
        view.handled = handled;
        let head = if let Some(inbound) = self.world.edge_policy(workload) {
            self.judge(&inbound, &mut view)
        } else {
            "no policy".clone_into(&mut view.reason);
            None
        };
        (view, head.unwrap_or_else(|| self.head.clone()))
    }

    fn enforce(&self, inbound: &CompiledAuthorization, view: &mut ServerView) {
        let link = self.link;
        let port = link.destination.port();
        let ports = &inbound.inbound().ports;
        let declared = ports.iter().find(|own| own.port == port);
        let declared = declared.map_or(Protocol::Detect, |own| own.protocol);
        let mutual_tls = inbound.mutual_tls(port);
        view.mutual_tls = Some((mode(mutual_tls.mode), mutual_tls.origin.clone()));
        if mutual_tls.mode == MutualTlsMode::Disable && link.transport == Transport::MutualTls {
            view.verdict = Verdict::Unreachable;
            view.status = link.closed();
            view.origin = Some(mutual_tls.origin.clone());
            view.reason = "the client speaks mutual TLS and the server takes plaintext only".into();
            return;
        }
        view.handled = self.handled(declared);
        if let Some(head) = self.judge(inbound, view)
            && head != *self.head
        {
            view.request = Some(head.view(view.handled));
        }
    }

    /// Accepts the connection and decides about what is on it, handled as the view says. Answers the request as it goes on
    /// if it does; none for a stream.
    fn judge(&self, inbound: &CompiledAuthorization, view: &mut ServerView) -> Option<Head> {
        let link = self.link;
        let facts = ConnectionFacts {
            peer_identity: link.identity.clone(),
            source: SocketAddr::new(link.source, SOURCE_PORT),
            destination: link.destination,
            server_name: link.server_name.clone(),
        };
        let connection = Connection::new(link.transport, facts);
        match inbound.accept(&connection) {
            Acceptance::Accept => {}
            Acceptance::ProbesOnly(_) if view.handled.is_http() => {}
            Acceptance::ProbesOnly(setting) | Acceptance::Refuse(setting) => {
                deny(view, &Denial::Transport(setting), link.closed());
                return None;
            }
        }
        if !view.handled.is_http() {
            let decide = |approvals| inbound.decide_stream_after(&connection, approvals);
            let decision = after_all_leave(view, true, decide);
            tell(view, &decision, inbound.explain_stream(&connection), None);
            return None;
        }
        if !link.speaks.is_http() {
            view.verdict = Verdict::Unreachable;
            view.status = Some(400);
            view.reason = "the port speaks HTTP and the client does not".into();
            return None;
        }
        self.judge_request(inbound, &connection, view)
    }

    fn judge_request(
        &self,
        inbound: &CompiledAuthorization,
        connection: &Connection,
        view: &mut ServerView,
    ) -> Option<Head> {
        let policy = inbound.inbound();
        let mut head = self.head.clone();
        match normalize(&head.path, policy.path_normalization) {
            Ok(Some(path)) => head.path = path,
            Ok(None) => {}
            Err(error) => {
                refuse(view, Verdict::Deny, 400, error.to_string());
                return None;
            }
        }
        let needs_nothing = inbound.is_probe(connection, &head);
        let mut edits = Vec::new();
        if !policy.jwt_rules.is_empty() && !needs_nothing {
            match self.world.tokens.verify(&policy.jwt_rules, &head) {
                TokenVerdict::Accepted { facts, edits: own, depends_on } => {
                    head.token = facts;
                    edits = own;
                    view.depends_on.extend(depends_on);
                }
                TokenVerdict::Refused { status, reason } => {
                    refuse(view, Verdict::Deny, status, reason);
                    view.origin = policy.jwt_rules.first().map(|rule| rule.origin.clone());
                    return None;
                }
            }
        }
        // Policies see the request as it goes on, as in the proxy.
        for edit in &edits {
            head.edit_for_token(edit);
        }
        if let Some(routes) = self.world.port_routes(policy, self.link.destination.port())
            && !needs_nothing
        {
            let Some(decision) = routes.decide(&head, 0) else {
                refuse(view, Verdict::NoRoute, 404, "no route of the port takes it".into());
                return None;
            };
            head.route = Some(decision.rule.name.to_string());
        }
        let decide = |approvals| inbound.decide_request_after(connection, &head, approvals);
        let decision = after_all_leave(view, false, decide);
        let status = match decision.verdict {
            Judged::Deny(Denial::Transport(_)) => self.link.closed(),
            _ => Some(403),
        };
        tell(view, &decision, inbound.explain(connection, Some(&head)), status);
        if head.path != self.head.path {
            view.reason = format!("{} (path normalised to {})", view.reason, head.path);
        }
        if matches!(view.verdict, Verdict::Forward | Verdict::Depends) {
            let facts = DescriptorFacts {
                client: inbound.client_address(connection, &head),
                identity: self.link.identity.as_ref(),
                port: self.link.destination.port(),
                route: "",
                client_certificate: None,
            };
            Self::limit(&policy.rate_limits, &head, facts, view);
        }
        head.route = None;
        Some(head)
    }

    /// Whether there is a token left in the buckets is for the running proxy to know.
    fn limit(limits: &RateLimits, head: &Head, facts: DescriptorFacts<'_>, view: &mut ServerView) {
        for (origin, what) in limits_of(limits, head, facts) {
            let considered = Considered {
                origin: origin.clone(),
                outcome: what.clone(),
                workload: Some(view.workload.clone()),
            };
            view.considered.push(considered);
            view.depends_on.push(format!("{what} ({origin})"));
            if view.verdict == Verdict::Forward {
                view.verdict = Verdict::Depends;
                view.reason = format!("{}, if {what} allows it", view.reason);
                view.origin = Some(origin.clone());
            }
        }
    }

    /// As what the proxy handles the bytes: what its peer has told, then what is declared, then the first bytes.
    fn handled(&self, declared: Protocol) -> Handled {
        let link = self.link;
        match (link.transport, link.declared_by_peer) {
            (Transport::MutualTls, Some(told)) if told.is_http() => told,
            (Transport::OpaqueTls, _) => Handled::Tls,
            (Transport::MutualTls | Transport::Plaintext, _) => match declared {
                Protocol::Tcp | Protocol::Tls | Protocol::Udp => Handled::Tcp,
                declared => match link.speaks.handled(declared) {
                    // Inside the mesh's own TLS, or in plaintext, TLS of the application is opaque.
                    Handled::Tls => Handled::Tcp,
                    handled => handled,
                },
            },
        }
    }
}

/// The limits that count a request, where they were written and in words.
pub(crate) fn limits_of<'l>(
    limits: &'l RateLimits,
    head: &Head,
    facts: DescriptorFacts<'_>,
) -> Vec<(&'l Origin, String)> {
    let takes = |own: Option<u16>, matches: &[HttpMatch]| {
        own.is_none_or(|own| own == facts.port) && CompiledFilter::compile(matches).0.takes(head)
    };
    let local = limits.local.iter().filter(|limit| takes(limit.port, &limit.matches));
    let local = local.map(|limit| {
        let what = match &limit.bucket {
            Some(bucket) => format!(
                "the local rate limit of {} per {:?}, at most {} at once",
                bucket.refill, bucket.interval, bucket.capacity
            ),
            None => "the local rate limit of some identities".to_owned(),
        };
        (&limit.origin, what)
    });
    let global = limits.global.iter().filter_map(|limit| {
        let told = CompiledDescriptors::compile(limit).0.of(head, facts);
        if told.is_empty() || limit.asked_ppm == 0 {
            return None;
        }
        let who = match &limit.service {
            Some(service) => format!("the rate limit service {}:{}", service.host, service.port),
            None => "the rate limits that heddle counts".to_owned(),
        };
        let told: Vec<String> = told.iter().map(|own| format!("[{own}]")).collect();
        let what = format!("{who}, domain {}, told of {}", limit.domain, told.join(" and "));
        Some((&limit.origin, what))
    });
    local.chain(global).collect()
}

/// What is decided once everybody who is asked has approved.
fn after_all_leave<'a>(
    view: &mut ServerView,
    is_stream: bool,
    decide: impl Fn(Approvals) -> Decision<'a>,
) -> Decision<'a> {
    let mut approvals = Approvals::NONE;
    loop {
        let decision = decide(approvals);
        let Judged::Ask(question) = &decision.verdict else { return decision };
        // One of HTTP cannot be asked about a stream, so that nobody can give leave.
        let can_be_asked = !is_stream || question.authorizer.protocol == AuthorizerProtocol::Grpc;
        let after = if can_be_asked { ask(view, question, approvals) } else { approvals };
        if after == approvals {
            return decision;
        }
        approvals = after;
    }
}

/// Somebody outside of the proxy has to approve, and is taken for doing so.
fn ask(view: &mut ServerView, question: &Question<'_>, approvals: Approvals) -> Approvals {
    let authorizer = &question.authorizer;
    let who = format!(
        "the external authoriser {} ({}:{})",
        authorizer.name, authorizer.host, authorizer.port
    );
    if !view.depends_on.contains(&who) {
        view.depends_on.push(who);
    }
    view.origin = Some(question.rule.origin.clone());
    approvals.with(question)
}

fn refuse(view: &mut ServerView, verdict: Verdict, status: u16, reason: String) {
    view.verdict = verdict;
    view.status = Some(status);
    view.reason = reason;
}

fn mode(mode: MutualTlsMode) -> &'static str {
    match mode {
        MutualTlsMode::Disable => "disabled",
        MutualTlsMode::Permissive => "permissive",
        MutualTlsMode::Strict => "strict",
    }
}

fn tell(
    view: &mut ServerView,
    decision: &Decision<'_>,
    considered: Vec<ConsideredRule<'_>>,
    status: Option<u16>,
) {
    for rule in considered {
        let origin = rule.rule.map_or(&rule.policy.origin, |rule| &rule.origin);
        let mut outcome = rule.outcome.to_string();
        if rule.policy.dry_run {
            outcome.push_str(" (dry run: not enforced)");
        }
        let outcome = format!("{}: {outcome}", action(rule.policy.action));
        let workload = Some(view.workload.clone());
        view.considered.push(Considered { origin: origin.clone(), outcome, workload });
    }
    match &decision.verdict {
        Judged::Allow { by, .. } => {
            let (reason, origin) = allowed(by);
            view.reason = reason;
            if view.depends_on.is_empty() {
                view.origin = origin;
            }
        }
        Judged::Ask(question) => {
            // Everybody who can be asked has been taken for approving.
            deny(view, &Denial::NoAuthorizer(question.policy, question.rule), status);
        }
        Judged::Deny(denial) => deny(view, denial, status),
    }
    if view.verdict == Verdict::Forward && !view.depends_on.is_empty() {
        view.verdict = Verdict::Depends;
        view.reason = format!("{}; that depends on {}", view.reason, view.depends_on.join(" and "));
    }
    if let Some(Err(denial)) = &decision.dry_run
        && view.verdict == Verdict::Forward
    {
        view.reason = format!("{}; a policy under dry run would refuse it: {denial}", view.reason);
    }
    if let Some(audit) = decision.audit {
        view.reason = format!("{}; marked for the audit log by {}", view.reason, audit.origin);
    }
}

fn action(action: PolicyAction) -> &'static str {
    match action {
        PolicyAction::Allow => "ALLOW",
        PolicyAction::Audit => "AUDIT",
        PolicyAction::Custom => "CUSTOM",
        PolicyAction::Deny => "DENY",
    }
}

fn allowed(by: &AllowedBy<'_>) -> (String, Option<Origin>) {
    match by {
        AllowedBy::Default => ("allowed: no policy refuses it".into(), None),
        AllowedBy::Probe(path) => (format!("allowed: a health check of {path}"), None),
        AllowedBy::Rule(_, rule) => {
            (format!("allowed by {}", rule.origin), Some(rule.origin.clone()))
        }
    }
}

fn deny(view: &mut ServerView, denial: &Denial<'_>, status: Option<u16>) {
    view.verdict = Verdict::Deny;
    view.status = status;
    view.reason = denial.to_string();
    view.origin = Some(denial.origin().clone());
}
