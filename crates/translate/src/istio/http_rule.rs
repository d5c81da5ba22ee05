//! Entries of `http[]` of a VirtualService: one rule of a route table each, in written order.

use std::sync::Arc;

use heddle_api::Object;
use heddle_api::istio::{Delegate, HttpRoute, HttpRouteDestination, VirtualService};
use heddle_diag::{Diagnostic, Origin};
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpRule, RetryPolicy, Rewrite, StreamTimeouts,
    WeightedBackend,
};

use crate::client::{Client, Gateways};
use crate::codes;
use crate::destinations::{Destinations, Wanted};
use crate::istio::http_match::{self, Drafts, RuleMatches};
use crate::istio::{delegate, header_edits, http_action, mirror, retry};
use crate::report::Report;

/// What a request gets that a rule with an error would have taken.
pub(super) const BROKEN_STATUS: u16 = 503;

/// The rules of an object for one client, up to the first that takes everything.
pub(crate) fn translate(
    object: &Object<VirtualService>,
    client: &Client<'_>,
    default_retry: &RetryPolicy,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<HttpRule> {
    if !client.is_bound(Gateways::new(&object.spec.gateways, &object.meta.namespace)) {
        return Vec::new();
    }
    let mut rules = Vec::new();
    let mut complete = false;
    for written in &object.spec.http {
        let own = Source { object, route: written };
        let drafts = http_match::drafts(object, written.at, &written.matches, report);
        let translated = match &written.delegate {
            Some(delegate) if !object.spec.hosts.is_empty() && !object.is_broken(delegate.at) => {
                delegated(own, delegate, &drafts, client, default_retry, destinations, report)
            }
            _ => {
                let rule = rule(own, None, default_retry, destinations, report);
                vec![(http_match::select(drafts, client), rule)]
            }
        };
        for (matches, rule) in translated {
            let RuleMatches::AnyOf(matches) = matches else { continue };
            if complete {
                continue;
            }
            complete = client.labels.is_some() && matches.is_empty();
            rules.push(HttpRule { matches, ..rule });
        }
    }
    rules
}

/// The rules of the object that a rule delegates to, in the place of the rule (API.md 2.1, `delegate`).
fn delegated(
    root: Source<'_>,
    delegate: &Delegate,
    within: &Drafts<'_>,
    client: &Client<'_>,
    default_retry: &RetryPolicy,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<(RuleMatches, HttpRule)> {
    let of = |field: &str| root.object.origin_of(delegate.at, field);
    // What the rule itself says is looked at even where the delegate takes its place.
    rule(root, None, default_retry, &mut destinations.fresh(), report);
    let name = delegate.name.as_deref().unwrap_or_default();
    let reader = destinations.reader();
    let leaf = match delegate::find(reader, root.object, name, delegate.namespace.as_deref()) {
        Ok(leaf) => leaf,
        Err(reason) => {
            let message = format!("{}: the rule is left out", reason.message());
            report.error(codes::DELEGATE, of("name"), message);
            return Vec::new();
        }
    };
    let mut rules = Vec::new();
    // What there is to say about the delegate is said by its own report.
    let mut unused = Report::default();
    for written in leaf.spec.http.iter().filter(|written| written.delegate.is_none()) {
        let drafts = http_match::drafts(&leaf, written.at, &written.matches, &mut unused);
        let Some(merged) = delegate::merge(within, drafts) else {
            let message = format!(
                "a rule of `{}/{}` is left out: it matches what this rule does not",
                leaf.meta.namespace, leaf.meta.name
            );
            report.push(
                Diagnostic::warning(codes::DELEGATE, of("name"), message)
                    .related("the rule that is left out", leaf.origin_at(written.at)),
            );
            continue;
        };
        let own = Source { object: &leaf, route: written };
        let rule = rule(own, Some(root), default_retry, destinations, &mut unused);
        rules.push((http_match::select(merged, client), rule));
    }
    rules
}

/// Where the fields of a rule are written.
#[derive(Clone, Copy)]
struct Source<'a> {
    object: &'a Object<VirtualService>,
    route: &'a HttpRoute,
}

/// A rule; what it leaves out is said by the rule that delegates to it, if one does.
fn rule(
    own: Source<'_>,
    root: Option<Source<'_>>,
    default_retry: &RetryPolicy,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> HttpRule {
    let source = |says: fn(&HttpRoute) -> bool| match root {
        Some(root) if !says(own.route) => root,
        _ => own,
    };
    let Source { object, route } = source(|route| route.headers.is_some());
    let headers = route.headers.as_ref();
    let request =
        header_edits::request(object, headers.and_then(|headers| headers.request.as_ref()), report);
    let response = header_edits::response(
        object,
        headers.and_then(|headers| headers.response.as_ref()),
        report,
    );
    let Source { object, route } = source(|route| route.rewrite.is_some());
    let rewrite = http_action::rewrite(object, route.rewrite.as_ref(), request.authority, report);
    let Source { object, route } = source(|route| route.cors_policy.is_some());
    let cors = route.cors_policy.as_ref().and_then(|cors| http_action::cors(object, cors, report));
    let Source { object, route } = source(|route| route.fault.is_some());
    let fault = route.fault.as_ref().and_then(|fault| http_action::fault(object, fault, report));
    let Source { object, route } = source(|route| route.retries.is_some());
    let retry = retry::translate(object, route.retries.as_ref(), default_retry, report);
    let Source { object, route } = source(mirror::says);
    let mirrors = mirror::translate(object, route, destinations, report);
    let Source { object, route } = source(|route| route.timeout.is_some());
    report.precise(route.timeout, || object.origin_of(route.at, "timeout"));
    let timeout =
        route.timeout.map(heddle_api::Duration::as_std).filter(|timeout| !timeout.is_zero());
    let action = action(own.object, own.route, destinations, report);
    let origin = own.object.origin_at(own.route.at);
    let action = match (&rewrite, action) {
        (Some(_), Some(action)) => action,
        _ => HttpAction::Forward(vec![broken(origin.clone())]),
    };
    let named = |route: &HttpRoute| route.name.as_deref().unwrap_or_default().into();
    let name = delegate::join(
        &root.map_or_else(Arc::default, |root| named(root.route)),
        &named(own.route),
    );
    HttpRule {
        origin,
        name: http_match::rule_name(Some(&name)),
        matches: Vec::new(),
        action,
        request_headers: request.headers,
        response_headers: response,
        rewrite: rewrite.unwrap_or_default(),
        timeout,
        retry,
        cors,
        fault,
        mirrors,
        session: None,
        stream_timeouts: StreamTimeouts::default(),
        failures: Vec::new(),
        authorizer: None,
    }
}

/// What the rule does; none where that cannot be known.
fn action(
    object: &Object<VirtualService>,
    written: &HttpRoute,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Option<HttpAction> {
    let at = written.at;
    let of = |field: &str| object.origin_of(at, field);
    if !check_combination(object, written, report) {
        return None;
    }
    if written.delegate.is_some() {
        // A delegate's own delegates, and the place of a rule that another object's rules take.
        if object.spec.hosts.is_empty() {
            report.rejected(of("delegate"), "a delegate has no delegates");
        }
        return None;
    }
    if let Some(redirect) = &written.redirect {
        return http_action::redirect(object, written, redirect, report).map(HttpAction::Redirect);
    }
    if let Some(response) = &written.direct_response {
        return http_action::direct_response(object, response, report).map(HttpAction::Respond);
    }
    check_cookies(object, written, report);
    backends(object, written, destinations, report).map(HttpAction::Forward)
}

/// Istio's rules on what may stand beside what. False where the action cannot be known.
fn check_combination(
    object: &Object<VirtualService>,
    written: &HttpRoute,
    report: &mut Report,
) -> bool {
    let of = |field: &str| object.origin_of(written.at, field);
    let actions = [
        ("route", !written.route.is_empty() || object.written.has(written.at, "route")),
        ("redirect", written.redirect.is_some()),
        ("directResponse", written.direct_response.is_some()),
        ("delegate", written.delegate.is_some()),
    ];
    let set: Vec<&str> = actions.iter().filter(|(_, set)| *set).map(|(field, _)| *field).collect();
    match set.as_slice() {
        [] => {
            let message =
                "the rule needs one of `route`, `redirect`, `directResponse` and `delegate`";
            report.rejected(object.origin_at(written.at), message);
            return false;
        }
        [_] => {}
        [first, second, ..] => {
            report.rejected(of(second), format!("`{first}` and `{second}` exclude each other"));
            return false;
        }
    }
    if written.redirect.is_some() || written.direct_response.is_some() {
        let action = if written.redirect.is_some() { "redirect" } else { "directResponse" };
        for (field, set) in
            [("fault", written.fault.is_some()), ("rewrite", written.rewrite.is_some())]
        {
            if set {
                report.rejected(of(field), format!("`{field}` has no meaning beside `{action}`"));
            }
        }
        // What is sent nowhere is neither limited nor copied, as in Istio.
        for field in [
            "timeout",
            "retries",
            "mirror",
            "mirrors",
            "mirrorPercentage",
            "mirror_percent",
            "mirrorPercent",
        ] {
            if object.written.has(written.at, field) {
                report.ignored(of(field), format!("`{action}` sends nothing on"));
            }
        }
    }
    true
}

/// The backends by weight; none where the shares cannot be known.
fn backends(
    object: &Object<VirtualService>,
    written: &HttpRoute,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Option<Vec<WeightedBackend>> {
    if written.route.is_empty() {
        report.rejected(object.origin_of(written.at, "route"), "the route has no destination");
        return None;
    }
    let backends: Vec<WeightedBackend> =
        written.route.iter().map(|route| backend(object, route, destinations, report)).collect();
    let weights: Vec<Option<i32>> = written.route.iter().map(|route| route.weight).collect();
    let places: Vec<_> = written.route.iter().map(|route| route.at).collect();
    let weights = shares(object, object.origin_of(written.at, "route"), &weights, &places, report)?;
    let weighted = backends
        .into_iter()
        .zip(weights)
        .map(|(backend, weight)| WeightedBackend { weight, ..backend });
    Some(weighted.filter(|backend| backend.weight > 0).collect())
}

/// The weights that count: a destination alone has all, whatever it says; several share by what they say. None where
/// they add up to nothing or cannot be read.
pub(super) fn shares(
    object: &Object<VirtualService>,
    list: Origin,
    weights: &[Option<i32>],
    places: &[heddle_api::At],
    report: &mut Report,
) -> Option<Vec<u32>> {
    for (weight, at) in weights.iter().zip(places) {
        if weight.is_some_and(|weight| weight < 0) {
            report.rejected(object.origin_of(*at, "weight"), "a weight cannot be negative");
            return None;
        }
        // An unknown field of one of several may be its weight, misspelt.
        if weights.len() > 1 && object.is_field_broken(*at, "weight") {
            return None;
        }
    }
    if weights.len() == 1 {
        if let (Some(Some(weight)), Some(at)) = (weights.first(), places.first())
            && *weight != 100
        {
            let why = "a destination that stands alone gets every request";
            report.ignored(object.origin_of(*at, "weight"), why);
        }
        return Some(vec![1]);
    }
    let weights: Vec<u32> =
        weights.iter().map(|weight| weight.unwrap_or(0).unsigned_abs()).collect();
    if weights.iter().all(|weight| *weight == 0) {
        let message = "the weights of the destinations add up to 0: requests of this rule get 503";
        report.error(codes::WEIGHTS, list, message);
        return None;
    }
    Some(weights)
}

fn backend(
    object: &Object<VirtualService>,
    route: &HttpRouteDestination,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> WeightedBackend {
    let origin = object.origin_at(route.at);
    if object.is_broken(route.at) {
        return broken(origin);
    }
    let headers = route.headers.as_ref();
    let request =
        header_edits::request(object, headers.and_then(|headers| headers.request.as_ref()), report);
    let mut request_headers = request.headers;
    if let Some(authority) = request.authority {
        // The head's authority is edited like a header by the name of the HTTP/1 field.
        request_headers.set.push(("host".into(), authority));
    }
    let response_headers = header_edits::response(
        object,
        headers.and_then(|headers| headers.response.as_ref()),
        report,
    );
    let wanted = Wanted { object, destination: &route.destination };
    let target = match destinations.resolve(&wanted, report) {
        Ok(index) => BackendTarget::Destination(index),
        Err(reason) => BackendTarget::Invalid { status: BROKEN_STATUS, reason },
    };
    let rewrite = Rewrite::default();
    WeightedBackend { origin, target, weight: 1, request_headers, response_headers, rewrite }
}

fn broken(origin: Origin) -> WeightedBackend {
    let reason: Arc<str> = "the rule has an error, see `analyze`".into();
    WeightedBackend {
        origin,
        target: BackendTarget::Invalid { status: BROKEN_STATUS, reason },
        weight: 1,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
    }
}

/// A cookie that is set for every destination alike cannot tell them apart.
fn check_cookies(object: &Object<VirtualService>, written: &HttpRoute, report: &mut Report) {
    let several = written.route.iter().filter(|route| route.weight.unwrap_or(0) > 0).count() > 1;
    let Some(response) = written.headers.as_ref().and_then(|headers| headers.response.as_ref())
    else {
        return;
    };
    for (field, entries) in [("add", &response.add), ("set", &response.set)] {
        for name in entries.keys() {
            if several && name.eq_ignore_ascii_case("set-cookie") {
                let origin = object.written.origin_of_entry(response.at, field, name);
                let message = "every client gets the same cookie, whichever destination answers";
                report.warning(codes::COOKIE_ON_ROUTE, origin, message);
            }
        }
    }
}

/// The one rule of a service that no object routes.
pub(crate) fn default_rule(origin: Origin, destination: usize, retry: RetryPolicy) -> HttpRule {
    HttpRule {
        origin: origin.clone(),
        name: "default".into(),
        matches: Vec::new(),
        action: HttpAction::Forward(vec![WeightedBackend {
            origin,
            target: BackendTarget::Destination(destination),
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
        }]),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
        timeout: None,
        retry,
        cors: None,
        fault: None,
        mirrors: Vec::new(),
        session: None,
        stream_timeouts: StreamTimeouts::default(),
        failures: Vec::new(),
        authorizer: None,
    }
}
