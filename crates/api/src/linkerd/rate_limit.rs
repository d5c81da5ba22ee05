//! HTTPLocalRateLimitPolicy (`policy.linkerd.io`).

use super::authentication::LocalTargetRef;
use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::tree::At;

object! {
    /// How many requests the port of a Server takes. Each pod counts for itself.
    HttpLocalRateLimitPolicy {
        /// The Server, of the same namespace.
        "targetRef" => target_ref: LocalTargetRef [required],
        /// All requests together.
        "total" => total: Option<RateLimit>,
        /// Requests of each client identity; clients without one share one.
        "identity" => identity: Option<RateLimit>,
        /// Limits of particular clients, in place of `identity`.
        "overrides" => overrides: Vec<RateLimitOverride>,
    }
    check limits_fit
}

object! {
    /// A rate.
    RateLimit {
        /// Requests a second.
        "requestsPerSecond" => requests_per_second: i64 [required],
    }
}

object! {
    /// A rate that some clients share.
    RateLimitOverride {
        /// Requests a second, of all these clients together.
        "requestsPerSecond" => requests_per_second: i64 [required],
        /// The clients.
        "clientRefs" => client_refs: Vec<ClientRef> [required],
    }
}

object! {
    /// A service account.
    ClientRef {
        /// Its API group; empty for the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// `ServiceAccount`.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its namespace; absent means the policy's own.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
    }
}

fn limits_fit(decoder: &mut Decoder<'_>, policy: &HttpLocalRateLimitPolicy) {
    let total = policy.total.as_ref().map(|limit| limit.requests_per_second);
    if let Some(limit) = &policy.total {
        positive(decoder, limit.at, limit.requests_per_second);
    }
    if let Some(limit) = &policy.identity {
        positive(decoder, limit.at, limit.requests_per_second);
        within(decoder, limit.at, limit.requests_per_second, total);
    }
    for limit in &policy.overrides {
        positive(decoder, limit.at, limit.requests_per_second);
        within(decoder, limit.at, limit.requests_per_second, total);
        for client in &limit.client_refs {
            let account = client.kind == "ServiceAccount"
                && client.group.as_deref().is_none_or(|group| group.is_empty() || group == "core");
            if !account && !client.kind.is_empty() {
                let message = "clients are ServiceAccounts of the core group";
                decoder.error(codes::RULE, client.at, message, None);
            }
        }
    }
}

fn rate_place(decoder: &Decoder<'_>, at: At) -> Option<At> {
    decoder.tree().field(at, "requestsPerSecond")
}

fn positive(decoder: &mut Decoder<'_>, at: At, rate: i64) {
    if let (true, Some(place)) = (rate <= 0, rate_place(decoder, at)) {
        decoder.value_error(codes::OUT_OF_RANGE, place, "must be greater than 0", None);
    }
}

fn within(decoder: &mut Decoder<'_>, at: At, rate: i64, total: Option<i64>) {
    let Some(total) = total.filter(|total| *total > 0) else { return };
    if let (true, Some(place)) = (rate > total, rate_place(decoder, at)) {
        let message = format!("{rate} is more than the total of {total}");
        decoder.value_error(codes::OUT_OF_RANGE, place, message, None);
    }
}
