//! Rules of HTTPRoutes and GRPCRoutes into rules of route tables.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::gateway_api::{
    CookieLifetime, GrpcRoute, HttpBackendRef, HttpRoute, HttpRule as Written, HttpTimeouts,
    RetrySettings, SessionPersistence as WrittenSession, SessionType,
};
use heddle_api::{At, Object, Written as Places};
use heddle_diag::{Diagnostic, Origin};
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpMatch, HttpRule, Mirror, RetryOn, RetryPolicy,
    Rewrite, RouteAuthorizer, SessionLocation, SessionPersistence, StreamTimeouts, WeightedBackend,
};

use crate::codes;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::gateway_api::backend::{self, INVALID_DESTINATION, Reference, Referrer};
use crate::gateway_api::certificates::Unresolved;
use crate::gateway_api::filters::{self, Filtered};
use crate::gateway_api::route::RouteKind;
use crate::gateway_api::{external_auth, grpc, matches};
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::report::Report;

/// What a request gets whose backend, or a filter of whose rule, leads to nothing (API.md hazard 13).
pub(crate) const INVALID_STATUS: u16 = 500;

/// How often a request is tried again where `retry` does not say.
const ATTEMPTS: u32 = 2;

/// What the status of a route tells of its rules.
#[derive(Default, Debug)]
pub(crate) struct Told {
    /// The first reference that leads to nothing.
    pub(crate) unresolved: Option<Unresolved>,
    /// Rules that take no request, in words.
    pub(crate) dropped: Vec<String>,
}

/// What translating rules needs.
pub(crate) struct Context<'a, 'd> {
    pub(crate) reader: &'a Reader<'a>,
    pub(crate) namespace: &'a str,
    pub(crate) kind: RouteKind,
    /// Services of whose requests the rules decide; empty at a gateway.
    pub(crate) parents: &'a [ObjectKey],
    pub(crate) places: &'a Places,
    /// Where rules without backends lead; none: requests get 500.
    pub(crate) default_backend: Option<usize>,
    pub(crate) destinations: &'a mut Destinations<'d>,
    pub(crate) report: &'a mut Report,
    pub(crate) told: &'a mut Told,
}

/// The rules of an HTTPRoute.
pub(crate) fn http(object: &Object<HttpRoute>, context: &mut Context<'_, '_>) -> Vec<HttpRule> {
    let mut rules = Vec::new();
    if object.spec.rules.is_empty() && !object.is_field_broken(object.spec.at, "rules") {
        let default = Written { at: object.spec.at, ..Written::default() };
        rules.push(rule(&default, Vec::new(), context));
    }
    for (index, written) in object.spec.rules.iter().enumerate() {
        match matches::translate(object, written, context.report) {
            Some(matches) => rules.push(rule(written, matches, context)),
            None => context.told.dropped.push(format!("rule {index} has no valid match")),
        }
    }
    rules
}

/// The rules of a GRPCRoute.
pub(crate) fn grpc(object: &Object<GrpcRoute>, context: &mut Context<'_, '_>) -> Vec<HttpRule> {
    let mut rules = Vec::new();
    for (index, written) in object.spec.rules.iter().enumerate() {
        match grpc::matches(object, written, context.report) {
            Some(matches) => rules.push(rule(&grpc::as_http(written), matches, context)),
            None => context.told.dropped.push(format!("rule {index} has no valid match")),
        }
    }
    rules
}

fn rule(written: &Written, matches: Vec<HttpMatch>, context: &mut Context<'_, '_>) -> HttpRule {
    let places = context.places;
    let place = |at: At| places.origin_at(at);
    let is_broken = |at: At| places.is_broken(at);
    let filtered = filters::read(&written.filters, &place, &is_broken);
    let mut mirrors: Vec<Mirror> =
        filtered.mirrors.iter().filter_map(|filter| mirror(filter, context)).collect();
    let mut cors = filtered.cors.clone();
    let action = action(written, &filtered, &mut mirrors, &mut cors, context);
    let retry = retry(written.retry.as_ref(), written.timeouts.as_ref(), context);
    let (action, authorizer) = authorized(written, &filtered, action, context);
    HttpRule {
        origin: place(written.at),
        name: written.name.as_deref().unwrap_or("default").into(),
        matches,
        action,
        request_headers: filtered.request_headers,
        response_headers: filtered.response_headers,
        rewrite: filtered.rewrite,
        timeout: written.timeouts.as_ref().and_then(|timeouts| limit(timeouts.request)),
        retry,
        cors,
        fault: None,
        mirrors,
        session: written.session_persistence.as_ref().and_then(|one| session(one, context)),
        stream_timeouts: StreamTimeouts::default(),
        failures: Vec::new(),
        authorizer,
    }
}

/// Who is asked about the requests of a rule. Where that cannot be known, none of them passes.
fn authorized(
    written: &Written,
    filtered: &Filtered<'_>,
    action: HttpAction,
    context: &mut Context<'_, '_>,
) -> (HttpAction, Option<Arc<RouteAuthorizer>>) {
    // A backend's filter is for all requests where it is the only one.
    let of_backend = written.backend_refs.first().filter(|_| written.backend_refs.len() == 1);
    let mut of_backend = of_backend.iter().flat_map(|backend| &backend.filters);
    let of_backend = of_backend.find_map(|filter| filter.external_auth.as_ref());
    let Some(auth) = filtered.external_auth.or(of_backend) else { return (action, None) };
    let origin = context.places.origin_at(auth.at);
    match external_auth::authorizer(auth, &origin, context) {
        Ok(authorizer) => (action, Some(Arc::new(authorizer))),
        Err(error) => (answer(origin, &error.message), None),
    }
}

/// Zero means no limit.
fn limit(duration: Option<heddle_api::Duration>) -> Option<Duration> {
    duration.map(heddle_api::Duration::as_std).filter(|duration| !duration.is_zero())
}

fn action(
    written: &Written,
    filtered: &Filtered<'_>,
    mirrors: &mut Vec<Mirror>,
    cors: &mut Option<heddle_ir::http_route::CorsPolicy>,
    context: &mut Context<'_, '_>,
) -> HttpAction {
    let places = context.places;
    let origin = places.origin_at(written.at);
    if let Some((filter, reason, why)) = &filtered.impossible {
        refuse(places.origin_at(filter.at), reason, why, context);
        return answer(origin, why.as_str());
    }
    // Beside the matches, of which broken ones match nothing, and backends, of which broken ones keep their share.
    let parts = ["filters", "retry", "sessionPersistence", "timeouts", "name"];
    let broken =
        |field: &&str| places.field(written.at, field).is_some_and(|at| places.is_broken(at));
    if places.broken().contains(&written.at) || parts.iter().any(broken) {
        return answer(origin, "the rule has an error, see `analyze`");
    }
    if let Some(redirect) = &filtered.redirect {
        return HttpAction::Redirect(redirect.clone());
    }
    if written.backend_refs.is_empty() {
        let Some(index) = context.default_backend else {
            return answer(origin, "the rule has no backend");
        };
        let target = BackendTarget::Destination(index);
        return HttpAction::Forward(vec![WeightedBackend { target, ..invalid(origin, "", 1) }]);
    }
    let alone = written.backend_refs.len() == 1;
    let backends = written.backend_refs.iter();
    let mut weighted = Vec::new();
    for backend in backends {
        weighted.push(weighted_backend(backend, alone, mirrors, cors, context));
    }
    HttpAction::Forward(weighted)
}

fn answer(origin: Origin, reason: &str) -> HttpAction {
    HttpAction::Forward(vec![invalid(origin, reason, 1)])
}

fn invalid(origin: Origin, reason: &str, weight: u32) -> WeightedBackend {
    WeightedBackend {
        origin,
        target: BackendTarget::Invalid { status: INVALID_STATUS, reason: reason.into() },
        weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
    }
}

/// A filter that cannot be done: its requests are refused, and the route says so.
fn refuse(origin: Origin, reason: &'static str, why: &str, context: &mut Context<'_, '_>) {
    context.report.unsupported(origin, why);
    context.told.unresolved.get_or_insert_with(|| Unresolved::new(reason, why));
}

fn weighted_backend(
    written: &HttpBackendRef,
    alone: bool,
    mirrors: &mut Vec<Mirror>,
    cors: &mut Option<heddle_ir::http_route::CorsPolicy>,
    context: &mut Context<'_, '_>,
) -> WeightedBackend {
    let places = context.places;
    let origin = places.origin_at(written.at);
    let weight = written.weight.unwrap_or(1);
    if places.is_broken(written.at) || written.at == At::default() {
        return invalid(origin, "the backend has an error, see `analyze`", weight.max(1));
    }
    let place = |at: At| places.origin_at(at);
    let is_broken = |at: At| places.is_broken(at);
    let filtered = filters::read(&written.filters, &place, &is_broken);
    if let Some((filter, reason, why)) = &filtered.impossible {
        refuse(places.origin_at(filter.at), reason, why, context);
        return invalid(origin, why, weight);
    }
    let whole =
        !filtered.mirrors.is_empty() || filtered.cors.is_some() || filtered.external_auth.is_some();
    if whole && !alone {
        let why =
            "mirrors, CORS and ExternalAuth are for whole rules, not for one of several backends";
        refuse(origin.clone(), "UnsupportedValue", why, context);
        return invalid(origin, why, weight);
    }
    mirrors.extend(filtered.mirrors.iter().filter_map(|filter| mirror(filter, context)));
    *cors = cors.take().or(filtered.cors);
    let target = match filtered.redirect {
        Some(redirect) => BackendTarget::Redirect(redirect),
        None => target(written.into(), &origin, context),
    };
    WeightedBackend {
        origin,
        target,
        weight,
        request_headers: filtered.request_headers,
        response_headers: filtered.response_headers,
        rewrite: filtered.rewrite,
    }
}

/// Where a reference leads; reports one that leads to nothing.
fn target(
    reference: Reference<'_>,
    origin: &Origin,
    context: &mut Context<'_, '_>,
) -> BackendTarget {
    match resolve(reference, origin, context) {
        Ok(index) => BackendTarget::Destination(index),
        Err(Unresolved { reason, message }) => {
            let status = if reason == INVALID_DESTINATION { 503 } else { INVALID_STATUS };
            BackendTarget::Invalid { status, reason: message.into() }
        }
    }
}

/// The destination of a reference; one that leads to nothing is reported and told.
pub(crate) fn resolve(
    reference: Reference<'_>,
    origin: &Origin,
    context: &mut Context<'_, '_>,
) -> Result<usize, Unresolved> {
    let referrer = context.referrer();
    let found = backend::resolve(context.reader, referrer, reference, context.destinations);
    found.inspect_err(|error| {
        let effect = match (context.kind, error.reason) {
            (RouteKind::Http, INVALID_DESTINATION) => "requests for it get 503",
            (RouteKind::Http, _) => "requests for it get 500",
            (RouteKind::Grpc, _) => "calls to it get UNAVAILABLE",
            (RouteKind::Udp, _) => "datagrams for it are dropped",
            _ => "connections to it are closed",
        };
        context.unresolved(origin, error, effect);
    })
}

impl<'a> Context<'a, '_> {
    /// Who refers to backends.
    pub(crate) fn referrer(&self) -> Referrer<'a> {
        Referrer {
            group: &self.places.origin().group,
            kind: self.kind,
            namespace: self.namespace,
            parents: self.parents,
        }
    }

    /// Reports a reference that leads to nothing, and what comes of that.
    pub(crate) fn unresolved(&mut self, origin: &Origin, error: &Unresolved, effect: &str) {
        let message = format!("{}: {effect}", error.message);
        self.report.push(Diagnostic::error(codes::BACKEND, origin.clone(), message));
        if error.reason != INVALID_DESTINATION {
            self.told.unresolved.get_or_insert_with(|| error.clone());
        }
    }
}

fn mirror(
    written: &heddle_api::gateway_api::MirrorFilter,
    context: &mut Context<'_, '_>,
) -> Option<Mirror> {
    let origin = context.places.origin_at(written.at);
    if context.places.is_broken(written.at) {
        return None;
    }
    let target = target((&written.backend_ref).into(), &origin, context);
    let share_ppm = filters::mirror_share(written);
    Some(Mirror { origin, target, share_ppm, authority_suffix: Arc::default() })
}

fn retry(
    written: Option<&RetrySettings>,
    timeouts: Option<&HttpTimeouts>,
    context: &Context<'_, '_>,
) -> RetryPolicy {
    let default = context.reader.read(&MeshKey).unnoticed_retry.clone();
    let per_try_timeout = timeouts.and_then(|timeouts| limit(timeouts.backend_request));
    let Some(written) = written else { return RetryPolicy { per_try_timeout, ..default } };
    // The codes that are listed, and what keeps a request from being answered at all.
    let mut on = vec![RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset];
    on.extend(written.codes.iter().map(|code| RetryOn::Status(*code)));
    let backoff_base = limit(written.backoff).unwrap_or(default.backoff_base);
    RetryPolicy {
        attempts: written.attempts.unwrap_or(ATTEMPTS),
        on,
        per_try_timeout,
        backoff_base,
        avoid_tried: true,
        origin: context.places.origin_at(written.at),
        backoff_max: None,
        other_localities: false,
    }
}

/// What a session's cookie is called where nothing is said.
const SESSION_NAME: &str = "heddle-session";

/// Says how the former spelling of a session is read.
fn former_session(written: &WrittenSession, context: &mut Context<'_, '_>) {
    let former = [
        ("sessionName", written.session_name.is_some(), "read as the name of the cookie or header"),
        ("cookieConfig", written.cookie_config.is_some(), "read as `cookie`"),
        (
            "idleTimeout",
            written.idle_timeout.is_some(),
            "kept, though the field has been taken out",
        ),
    ];
    for (field, _, how) in former.into_iter().filter(|(_, is_there, _)| *is_there) {
        context.report.translated(context.places.origin_of(written.at, field), how);
    }
}

fn session(written: &WrittenSession, context: &mut Context<'_, '_>) -> Option<SessionPersistence> {
    if context.places.is_broken(written.at) {
        return None;
    }
    former_session(written, context);
    let former = written.session_name.as_deref();
    let (name, location) = match written.kind() {
        SessionType::Cookie => {
            let cookie = written.cookie.as_ref();
            let lifetime = cookie
                .and_then(|cookie| cookie.lifetime)
                .or(written.cookie_config.as_ref().and_then(|config| config.lifetime));
            let location = SessionLocation::Cookie {
                path: cookie.and_then(|cookie| cookie.path.as_deref()).unwrap_or("/").into(),
                permanent: lifetime == Some(CookieLifetime::Permanent),
            };
            let name = cookie.and_then(|cookie| cookie.name.as_deref());
            (name.or(former).unwrap_or(SESSION_NAME).to_owned(), location)
        }
        SessionType::Header => {
            let name = written.header.as_ref().map(|header| header.name.as_str());
            let name = name.or(former)?.to_ascii_lowercase();
            (name, SessionLocation::Header)
        }
    };
    Some(SessionPersistence {
        origin: context.places.origin_at(written.at),
        name: name.into(),
        location,
        absolute_timeout: limit(written.absolute_timeout),
        idle_timeout: limit(written.idle_timeout),
    })
}
