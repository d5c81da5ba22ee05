//! HTTPLocalRateLimitPolicies: how many requests the port of a Server takes, counted by each workload for itself
//! (API.md 7.13).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::linkerd::{HttpLocalRateLimitPolicy, RateLimitOverride as Override};
use heddle_api::{At, Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ir::authorization::ValueMatch;
use heddle_ir::http_route::HeaderEdits;
use heddle_ir::protocol::Protocol;
use heddle_ir::rate_limit::{LocalRateLimit, RateLimitOverride, RateLimitScope, TokenBucket};

use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::linkerd::authentication::{self, GROUP};
use crate::linkerd::server::{self, ServerObject};
use crate::linkerd::{identity, policy_report};
use crate::object::{ObjectKey, by_age};
use crate::report::Report;
use crate::workload::Facts;

type Policy = Arc<Object<HttpLocalRateLimitPolicy>>;

/// 429 Too Many Requests; calls of gRPC get RESOURCE_EXHAUSTED.
const TOO_MANY_REQUESTS: u16 = 429;
/// Up to here a token comes at a time, beyond every millisecond as many as belong to it.
const SINGLE_TOKENS_MAX: u32 = 1_000_000;

/// The limits on requests to a workload.
pub(crate) fn limits(reader: &Reader<'_>, facts: &Facts) -> Vec<LocalRateLimit> {
    let servers = server::of_workload(reader, facts).into_iter();
    servers
        .filter_map(|(port, server)| Some((port, of_server(reader, &server).into_iter().next()?)))
        .flat_map(|(port, policy)| of_policy(reader, &policy, port))
        .collect()
}

/// The policies of a Server, the oldest first; that one counts.
fn of_server(reader: &Reader<'_>, server: &ServerObject) -> Vec<Policy> {
    let namespace = server.meta.namespace.as_str();
    let objects = reader.objects(Topic::KindIn(Kind::HttpLocalRateLimitPolicy, namespace.into()));
    let mut policies: Vec<Policy> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::HttpLocalRateLimitPolicy(policy) => Some(policy),
            _ => None,
        })
        .filter(|policy| {
            let broken = policy.is_field_broken(policy.spec.at, "targetRef");
            !broken && is_server(&policy.spec) && policy.spec.target_ref.name == server.meta.name
        })
        .collect();
    policies.sort_by(|left, right| by_age(&left.meta, &right.meta));
    policies
}

/// Whether the target is a Server. Without group the core group is meant, which has none; the author means Linkerd's.
fn is_server(policy: &HttpLocalRateLimitPolicy) -> bool {
    let target = &policy.target_ref;
    target.kind == "Server" && matches!(target.group.as_deref().unwrap_or_default(), "" | GROUP)
}

/// First the limit of all requests, then that of the client: the first override for it, else the one per identity.
fn of_policy(reader: &Reader<'_>, policy: &Policy, port: u16) -> Vec<LocalRateLimit> {
    let spec = &policy.spec;
    let limit = |origin: Origin, scope, bucket, overrides| LocalRateLimit {
        origin,
        port: Some(port),
        matches: Vec::new(),
        scope,
        bucket,
        overrides,
        enforced_ppm: 1_000_000,
        status: TOO_MANY_REQUESTS,
        response_headers: HeaderEdits::default(),
    };
    let sound = |at: At, rate| if policy.is_broken(at) { None } else { bucket(rate) };
    let mut limits = Vec::new();
    if let Some(total) = &spec.total
        && let Some(bucket) = sound(total.at, total.requests_per_second)
    {
        let origin = policy.origin_at(total.at);
        limits.push(limit(origin, RateLimitScope::Total, Some(bucket), Vec::new()));
    }
    let identity = spec.identity.as_ref();
    let each = identity.and_then(|limit| sound(limit.at, limit.requests_per_second));
    let overrides: Vec<RateLimitOverride> = spec
        .overrides
        .iter()
        .filter_map(|own| {
            let bucket = sound(own.at, own.requests_per_second)?;
            Some(RateLimitOverride { identities: clients(reader, policy, own), bucket })
        })
        .collect();
    if each.is_some() || !overrides.is_empty() {
        let field = if identity.is_some() { "identity" } else { "overrides" };
        let origin = policy.origin_of(spec.at, field);
        limits.push(limit(origin, RateLimitScope::Identity, each, overrides));
    }
    limits
}

/// A bucket of as many tokens as come in a second; none where no rate is given that could be kept.
fn bucket(per_second: i64) -> Option<TokenBucket> {
    let capacity = u32::try_from(per_second).unwrap_or(if per_second > 0 { u32::MAX } else { 0 });
    if capacity == 0 {
        return None;
    }
    let (refill, interval) = if capacity <= SINGLE_TOKENS_MAX {
        (1, Duration::from_secs(1) / capacity)
    } else {
        (capacity / 1000, Duration::from_millis(1))
    };
    Some(TokenBucket { capacity, refill, interval })
}

/// Tests on the identities that share the bucket of an override.
fn clients(
    reader: &Reader<'_>,
    policy: &Policy,
    own: &Override,
) -> Vec<heddle_ir::matching::TextMatch> {
    let domains = authentication::domains(reader);
    let sound = own.client_refs.iter().filter(|client| !policy.is_broken(client.at));
    let values = sound.flat_map(|client| {
        let given = client.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = given.unwrap_or(&policy.meta.namespace);
        identity::of_account(namespace, &client.name, &domains)
    });
    values
        .filter_map(|value| match value {
            ValueMatch::Text(text) => Some(text),
            _ => None,
        })
        .collect()
}

/// What there is to say about a policy.
pub(crate) fn report(reader: &Reader<'_>, policy: &Policy, report: &mut Report) {
    let (spec, namespace) = (&policy.spec, &policy.meta.namespace);
    let target = &spec.target_ref;
    if policy.is_broken(target.at) {
        return;
    }
    if !is_server(spec) {
        let message = format!("a limit is attached to a Server, not to a `{}`", target.kind);
        report.rejected(policy.origin_at(target.at), message);
        return;
    }
    if target.group.as_deref().unwrap_or_default().is_empty() {
        policy_report::inferred(policy, target.at, "Server", report);
    }
    let key = ObjectKey::new(GROUP, "Server", namespace, &target.name);
    let Some(AnyObject::Server(server)) = reader.object(&key) else {
        let message =
            format!("no Server `{}` is in the namespace: nothing is limited", target.name);
        report.warning(codes::UNKNOWN_REFERENCE, policy.origin_of(target.at, "name"), message);
        return;
    };
    if matches!(server::protocol(&server.spec), Some(Protocol::Tcp | Protocol::Tls)) {
        let message = "requests are not seen on the port, so none is counted";
        report.warning(codes::UNLIMITED, policy.origin_at(target.at), message);
    }
    let policies = of_server(reader, &server);
    if let Some(first) = policies.first().filter(|first| !Arc::ptr_eq(first, policy)) {
        let origin = policy.origin_at(target.at);
        let message = format!("the older policy `{}` limits the Server", first.meta.name);
        report.error(codes::SECOND_LIMIT, origin.clone(), message.clone());
        report.conflict(origin, message);
    }
    if spec.total.is_none() && spec.identity.is_none() && spec.overrides.is_empty() {
        let message = "neither `total` nor `identity` nor `overrides` is there: nothing is limited";
        report.warning(codes::UNLIMITED, policy.origin().clone(), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_what_comes_in_a_second() {
        for (rate, capacity, refill, interval) in [
            (1, 1, 1, Duration::from_secs(1)),
            (50, 50, 1, Duration::from_millis(20)),
            (3_000_000, 3_000_000, 3000, Duration::from_millis(1)),
            (i64::MAX, u32::MAX, 4_294_967, Duration::from_millis(1)),
        ] {
            assert_eq!(bucket(rate), Some(TokenBucket { capacity, refill, interval }), "{rate}");
        }
        assert_eq!(bucket(0), None);
        assert_eq!(bucket(-5), None);
    }
}
