//! What there is to say about a ServiceProfile.

use heddle_api::linkerd::RequestCondition;
use heddle_ir::http_route::RetryPolicy;

use crate::client::Client;
use crate::codes;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::istio::regex;
use crate::linkerd::service_profile::{self, Profile};
use crate::report::Report;
use crate::service::ServiceKey;

/// Reports on a profile.
pub(crate) fn report(reader: &Reader<'_>, profile: &Profile, report: &mut Report) {
    let namespace = &*profile.meta.namespace;
    for route in &profile.spec.routes {
        if let Some(condition) = &route.condition {
            patterns(profile, condition, report);
        }
        if let Some(budget) = &route.retry_budget {
            misplaced(profile, budget.at, report);
        }
    }
    service_profile::budget(profile, report);
    let service = reader.read(&ServiceKey(profile.meta.name.as_str().into()));
    let Some(service) = service else {
        let message =
            format!("no Service has the host `{}`: the profile does nothing", profile.meta.name);
        let origin = profile.origin().clone();
        report.warning(codes::UNUSED_PROFILE, origin, message);
        return;
    };
    if *service.namespace != *namespace {
        let message = format!(
            "only clients in the namespace `{namespace}` see it; for all clients it belongs into `{}`",
            service.namespace
        );
        report.info(codes::UNUSED_PROFILE, profile.origin().clone(), message);
    }
    let Some(port) = service.ports.first() else { return };
    let mut destinations = Destinations::new(reader, Client::any(namespace));
    let never = RetryPolicy::never();
    let both = (&*service, port);
    service_profile::http(reader, profile, both, &never, &mut destinations, report);
}

/// Expressions that cannot be compiled make their route take nothing.
fn patterns(profile: &Profile, condition: &RequestCondition, report: &mut Report) {
    if let Some(pattern) = &condition.path_regex
        && let Err(error) = regex::check(pattern)
    {
        let origin = profile.origin_of(condition.at, "pathRegex");
        report.rejected(origin, format!("{error}: the route takes no request"));
    }
    let nested = condition.all.0.iter().chain(&condition.any.0).chain(&condition.not.0);
    for one in nested {
        patterns(profile, one, report);
    }
}

/// A budget below a route, where the schema has none and where it is dropped without a word (API.md 11.2 row 5).
fn misplaced(profile: &Profile, at: heddle_api::At, report: &mut Report) {
    let origin = profile.origin_at(at);
    let beside = profile.spec.retry_budget.is_some();
    let message = "a route has no `retryBudget`: the API server drops or refuses it; it belongs beside `routes`";
    report.error(codes::MISPLACED_BUDGET, origin.clone(), message);
    if beside {
        report.ignored(origin, "the budget beside `routes` counts");
    } else {
        report.translated(origin, "read as the budget of the whole profile");
    }
}
