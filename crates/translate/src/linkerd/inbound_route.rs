//! Routes with a Server as parent: requests on its port must be one of theirs (API.md 7.7).

use std::sync::Arc;

use heddle_api::At;
use heddle_diag::Origin;
use heddle_ident::HostPattern;
use heddle_ir::http_route::{HttpAction, HttpMatch, HttpRule, RetryPolicy, RouteTable, RuleOrder};
use heddle_ir::matching::TextMatch;

use crate::client::Client;
use crate::codes;
use crate::destinations::Destinations;
use crate::engine::{Reader, Topic};
use crate::gateway_api::route::{Route, RouteKind, by_age};
use crate::gateway_api::servers;
use crate::linkerd::authentication::GROUP;
use crate::linkerd::server::ServerObject;
use crate::object::ObjectKey;
use crate::report::Report;

/// A route of a Server.
#[derive(Clone, Debug)]
pub(crate) struct InboundRoute {
    /// The route.
    route: Route,
    /// What its rules are called.
    pub(crate) name: Arc<str>,
}

impl InboundRoute {
    /// Whether it is the route of that group, kind and name.
    pub(crate) fn is(&self, group: &str, kind: &str, name: &str) -> bool {
        let key = self.route.key();
        *key.group == *group && *key.kind == *kind && *key.name.name == *name
    }
}

/// The routes of a Server for requests, the oldest first.
pub(crate) fn of_server(reader: &Reader<'_>, server: &ServerObject) -> Vec<InboundRoute> {
    let meta = &server.meta;
    let key = ObjectKey::new(GROUP, "Server", &meta.namespace, &meta.name);
    let mut routes: Vec<Route> = reader
        .objects(Topic::RoutesOf(key))
        .iter()
        .filter_map(Route::of)
        .filter(|route| matches!(route.kind(), RouteKind::Http | RouteKind::Grpc))
        // A Server is attached to from its own namespace only.
        .filter(|route| route.meta().namespace == meta.namespace && !route.is_unattachable())
        .collect();
    routes.sort_by(|left, right| by_age(left.meta(), right.meta()));
    routes.into_iter().map(|route| InboundRoute { name: name_of(&route), route }).collect()
}

/// What the rules of a route are called, so that policies can tell them: kind, group and name.
fn name_of(route: &Route) -> Arc<str> {
    let key = route.key();
    format!("{}.{}/{}", key.kind.to_ascii_lowercase(), key.group, key.name.name).into()
}

/// The rules of all routes; none where the Server has no route, so that every request is taken.
pub(crate) fn table(reader: &Reader<'_>, server: &ServerObject) -> Option<Arc<RouteTable>> {
    let routes = of_server(reader, server);
    if routes.is_empty() {
        return None;
    }
    let mut destinations = Destinations::new(reader, Client::any(&server.meta.namespace));
    let mut rules = Vec::new();
    for InboundRoute { route, name } in &routes {
        let broken = broken(route);
        for rule in servers::http_rules(reader, route, &[], &mut destinations) {
            if !broken.contains(&rule.origin) {
                rules.push(inbound(rule, route.hostnames(), name));
            }
        }
    }
    Some(Arc::new(RouteTable { order: RuleOrder::Specificity, rules, tiers: Vec::new() }))
}

/// The rules that are not what their author wrote: they take no request.
fn broken(route: &Route) -> Vec<Origin> {
    let written = route.written();
    let rules: Vec<At> = match route {
        Route::Http(object) => object.spec.rules.iter().map(|rule| rule.at).collect(),
        Route::Grpc(object) => object.spec.rules.iter().map(|rule| rule.at).collect(),
        Route::Tls(_) | Route::Tcp(_) | Route::Udp(_) => Vec::new(),
    };
    rules.into_iter().filter(|at| written.is_broken(*at)).map(|at| written.origin_at(at)).collect()
}

/// A rule in its meaning before a workload: what it forwards goes there, whatever backends it has.
fn inbound(rule: HttpRule, hostnames: &[String], name: &Arc<str>) -> HttpRule {
    let action = match rule.action {
        HttpAction::Forward(_) => HttpAction::Forward(Vec::new()),
        other => other,
    };
    HttpRule {
        name: name.clone(),
        matches: of_hosts(&rule.origin, rule.matches, hostnames),
        action,
        mirrors: Vec::new(),
        session: None,
        retry: RetryPolicy::never(),
        ..rule
    }
}

/// The matches, each for each of the hosts; without hosts as they are.
pub(crate) fn of_hosts(
    origin: &Origin,
    matches: Vec<HttpMatch>,
    hostnames: &[String],
) -> Vec<HttpMatch> {
    let hosts: Vec<TextMatch> = hostnames
        .iter()
        .filter_map(|text| HostPattern::parse(text).ok())
        .map(|host| match host {
            HostPattern::Exact(host) => TextMatch::Exact(host.as_str().into()),
            HostPattern::Suffix(suffix) => TextMatch::Suffix(format!(".{suffix}").into()),
            HostPattern::Any => TextMatch::Present,
        })
        .collect();
    if hosts.is_empty() {
        return matches;
    }
    let matches = if matches.is_empty() { vec![everything(origin.clone())] } else { matches };
    let of = |one: &HttpMatch| {
        let one = one.clone();
        hosts
            .clone()
            .into_iter()
            .map(move |host| HttpMatch { authority: Some(host), ..one.clone() })
    };
    matches.iter().flat_map(of).collect()
}

/// A match without conditions.
pub(crate) fn everything(origin: Origin) -> HttpMatch {
    HttpMatch {
        origin,
        name: Arc::default(),
        path: None,
        ignore_path_case: false,
        scheme: None,
        method: None,
        authority: None,
        headers: Vec::new(),
        query: Vec::new(),
        claims: Vec::new(),
        parts: Vec::new(),
    }
}

/// Whether all parents of a route are Servers.
pub(crate) fn is_inbound(route: &Route) -> bool {
    let mut parents = route.parents().iter().map(|parent| route.parent_key(parent)).peekable();
    parents.peek().is_some() && parents.all(|key| &*key.group == GROUP && &*key.kind == "Server")
}

/// What there is to say about the rules of a route all of whose parents are Servers.
pub(crate) fn report(reader: &Reader<'_>, route: &Route, report: &mut Report) {
    let mut found = Report::default();
    crate::gateway_api::report::translate(reader, route, &[], &mut found);
    // Where backends lead to does not matter.
    found.findings.retain(|finding| finding.code != codes::BACKEND);
    report.findings.append(&mut found.findings);
    report.outcomes.append(&mut found.outcomes);
    let backends: Vec<At> = match route {
        Route::Http(object) => {
            object.spec.rules.iter().flat_map(|rule| &rule.backend_refs).map(|one| one.at).collect()
        }
        Route::Grpc(object) => {
            object.spec.rules.iter().flat_map(|rule| &rule.backend_refs).map(|one| one.at).collect()
        }
        Route::Tls(_) | Route::Tcp(_) | Route::Udp(_) => Vec::new(),
    };
    for at in backends {
        let why = "requests of a route of a Server go to the workload itself";
        let origin = route.written().origin_at(at);
        report.warning(codes::INBOUND_BACKENDS, origin.clone(), why);
        report.ignored(origin, why);
    }
}

/// What there is to say about a Server as parent.
pub(crate) fn report_server(
    reader: &Reader<'_>,
    route: &Route,
    key: &ObjectKey,
    origin: &dyn Fn() -> Origin,
    report: &mut Report,
) {
    if *key.name.namespace != *route.meta().namespace {
        report.error(
            codes::NOT_ATTACHED,
            origin(),
            "a route attaches to Servers of its own namespace",
        );
    } else if reader.object(key).is_none() {
        let message = format!("no Server `{}` is in the namespace", key.name.name);
        report.warning(codes::UNKNOWN_REFERENCE, origin(), message);
    } else if !matches!(route.kind(), RouteKind::Http | RouteKind::Grpc) {
        report.unsupported(origin(), "a Server takes HTTPRoutes and GRPCRoutes");
    }
}
