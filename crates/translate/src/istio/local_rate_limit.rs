//! Envoy's local rate limit as EnvoyFilters write it (`envoy.filters.http.local_ratelimit`), read into limits of heddle's
//! own. Only what is enforced as Envoy enforces it is taken; the rest is reported where it stands.

use std::sync::Arc;

use heddle_api::At;
use heddle_ir::http_route::{HeaderMatch, HttpMatch};
use heddle_ir::matching::{PathMatch, TextMatch};
use heddle_ir::rate_limit::{LocalRateLimit, RateLimitScope, TokenBucket};

use crate::istio::envoy_value::{ALL_PPM, Read, duration, headers, share, status};
use crate::report::Report;

/// The name of the filter, which is also the key of its settings on routes.
pub(super) const FILTER: &str = "envoy.filters.http.local_ratelimit";
/// The end of its type's URL.
pub(super) const TYPE: &str = "LocalRateLimit";

/// Fields that change nothing here: names of statistics and of settings that can be changed while running.
const WITHOUT_EFFECT: [&str; 4] = ["@type", "stat_prefix", "stage", "vh_rate_limits"];

/// The limits of one configuration: its own bucket, and one for each descriptor. `actions` are the `rate_limits` of the
/// route that it stands on. None where it limits nothing.
pub(super) fn limits(
    read: Read<'_>,
    settings: At,
    actions: Option<At>,
    report: &mut Report,
) -> Vec<LocalRateLimit> {
    let of = |name: &str| read.written.origin_of(settings, name);
    let known = [
        "token_bucket",
        "filter_enabled",
        "filter_enforced",
        "status",
        "response_headers_to_add",
        "descriptors",
        "local_rate_limit_per_downstream_connection",
        "always_consume_default_token_bucket",
    ];
    for (name, at) in read.keys(settings) {
        if !known.contains(&&*name) && !WITHOUT_EFFECT.contains(&&*name) {
            let why = format!("`{name}` of the local rate limit is not acted on");
            report.unsupported(read.written.origin_at(at), why);
        }
    }
    let has = |name| read.field(settings, name).is_some();
    if !has("token_bucket") && !has("descriptors") {
        return Vec::new();
    }
    // Envoy limits nothing unless told for which share of the requests.
    let enabled = share(read, settings, "filter_enabled").unwrap_or(0);
    let enforced = share(read, settings, "filter_enforced").unwrap_or(0);
    if enabled == 0 {
        report.ignored(of("filter_enabled"), "without a share of requests nothing is limited");
        return Vec::new();
    }
    if enabled < ALL_PPM {
        let how = "the share of requests that is looked at is refused less often instead";
        report.translated(of("filter_enabled"), how);
    }
    let frame = LocalRateLimit {
        origin: read.written.origin_at(settings),
        port: None,
        matches: Vec::new(),
        scope: if read.is_true(settings, "local_rate_limit_per_downstream_connection") {
            RateLimitScope::Connection
        } else {
            RateLimitScope::Total
        },
        bucket: None,
        overrides: Vec::new(),
        enforced_ppm: u32::try_from(enabled * enforced / ALL_PPM).unwrap_or(u32::MAX),
        status: status(read, settings, "status"),
        response_headers: headers(read, settings),
    };
    let mut limits = Vec::new();
    for descriptor in read.children(read.field(settings, "descriptors")) {
        let bucket = read.field(descriptor, "token_bucket").and_then(|at| bucket(read, at));
        let matches = matches(read, descriptor, actions, report);
        let origin = read.written.origin_at(descriptor);
        match (bucket, matches) {
            (Some(bucket), Some(matches)) => {
                limits.push(LocalRateLimit {
                    origin,
                    matches,
                    bucket: Some(bucket),
                    ..frame.clone()
                });
            }
            (None, Some(_)) => report.unsupported(origin, "the descriptor has no bucket"),
            (_, None) => {}
        }
    }
    let consumes = read.text(settings, "always_consume_default_token_bucket") != Some("false");
    if !consumes && !limits.is_empty() {
        let why = "requests that a descriptor takes count for the common bucket too";
        report.unsupported(of("always_consume_default_token_bucket"), why);
    }
    if let Some(at) = read.field(settings, "token_bucket") {
        if let Some(bucket) = bucket(read, at) {
            limits.push(LocalRateLimit { bucket: Some(bucket), ..frame });
        } else {
            let message = "a bucket needs `max_tokens` and `fill_interval`";
            report.unsupported(of("token_bucket"), message);
        }
    }
    limits
}

fn bucket(read: Read<'_>, at: At) -> Option<TokenBucket> {
    let number = |name| read.number(at, name).and_then(|number| u32::try_from(number).ok());
    let capacity = number("max_tokens")?;
    let refill = number("tokens_per_fill").unwrap_or(1).max(1);
    let interval = duration(read.text(at, "fill_interval")?)?;
    Some(TokenBucket { capacity, refill, interval })
}

/// The requests that a descriptor stands for: those for which the actions of a rate limit of the route give its entries.
/// None, and a finding, where that cannot be told from the request's head.
fn matches(
    read: Read<'_>,
    descriptor: At,
    actions: Option<At>,
    report: &mut Report,
) -> Option<Vec<HttpMatch>> {
    let mut wanted: Vec<(String, String)> = Vec::new();
    for entry in read.children(read.field(descriptor, "entries")) {
        let key = read.text(entry, "key").unwrap_or_default().to_owned();
        wanted.push((key, read.text(entry, "value").unwrap_or_default().to_owned()));
    }
    let mut found: Vec<HttpMatch> = Vec::new();
    for rate_limit in read.children(actions) {
        let steps = read.children(read.field(rate_limit, "actions"));
        if steps.len() != wanted.len() {
            continue;
        }
        let origin = read.written.origin_at(descriptor);
        let mut matched = any_match(origin);
        let all = steps
            .iter()
            .zip(&wanted)
            .all(|(step, (key, value))| action(read, *step, key, value, &mut matched).is_some());
        if all {
            found.push(matched);
        }
    }
    if found.is_empty() {
        let why = "no action of a route gives these entries in a way that a request's head tells";
        report.unsupported(read.written.origin_at(descriptor), why);
        return None;
    }
    Some(found)
}

/// A match that takes every request.
pub(super) fn any_match(origin: heddle_diag::Origin) -> HttpMatch {
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

/// Adds what a request must be for an action to give the wanted entry; none where no request does, or it cannot be told.
fn action(read: Read<'_>, step: At, key: &str, value: &str, into: &mut HttpMatch) -> Option<()> {
    let (kind, at) = read.keys(step).into_iter().next()?;
    match &*kind {
        "generic_key" => {
            let own = read.text(at, "descriptor_key").unwrap_or("generic_key");
            (own == key && read.text(at, "descriptor_value") == Some(value)).then_some(())
        }
        "header_value_match" => {
            let own = read.text(at, "descriptor_key").unwrap_or("header_match");
            if own != key || read.text(at, "descriptor_value") != Some(value) {
                return None;
            }
            let expected = read.text(at, "expect_match") != Some("false");
            let headers = read.children(read.field(at, "headers"));
            // Turned around, any one that does not match suffices, which one condition alone can say.
            if !expected && headers.len() != 1 {
                return None;
            }
            headers.into_iter().try_for_each(|header| condition(read, header, !expected, into))
        }
        "request_headers" => {
            let own = read.text(at, "descriptor_key")?;
            let name = read.text(at, "header_name")?;
            if own != key || value.is_empty() {
                return None;
            }
            set(into, name, TextMatch::Exact(value.into()), false, false)
        }
        _ => None,
    }
}

/// A header matcher of Envoy.
fn condition(read: Read<'_>, header: At, invert: bool, into: &mut HttpMatch) -> Option<()> {
    let name = read.text(header, "name")?;
    let invert = invert != read.is_true(header, "invert_match");
    let nested = read.field(header, "string_match");
    let at = nested.unwrap_or(header);
    let pick = |short: &str, long: &str| {
        read.text(at, short).or_else(|| read.text(header, long)).map(Arc::<str>::from)
    };
    let regex = read
        .field(at, "safe_regex")
        .or_else(|| read.field(header, "safe_regex_match"))
        .and_then(|at| read.text(at, "regex"));
    let value = if let Some(exact) = pick("exact", "exact_match") {
        TextMatch::Exact(exact)
    } else if let Some(prefix) = pick("prefix", "prefix_match") {
        TextMatch::Prefix(prefix)
    } else if let Some(suffix) = pick("suffix", "suffix_match") {
        TextMatch::Suffix(suffix)
    } else if let Some(regex) = regex {
        TextMatch::Regex(regex.into())
    } else if nested.is_none() {
        TextMatch::Present
    } else {
        return None;
    };
    let ignore_case = nested.is_some_and(|at| read.is_true(at, "ignore_case"));
    set(into, name, value, invert, ignore_case)
}

/// Asks for a header, or for the part of the head that a pseudo-header stands for.
fn set(
    into: &mut HttpMatch,
    name: &str,
    value: TextMatch,
    invert: bool,
    ignore_case: bool,
) -> Option<()> {
    match name {
        ":path" if !invert && into.path.is_none() => {
            into.path = Some(match value {
                TextMatch::Exact(path) => PathMatch::Exact(path),
                TextMatch::Prefix(prefix) => PathMatch::TextPrefix(prefix),
                TextMatch::Regex(pattern) => PathMatch::Regex(pattern),
                TextMatch::Present | TextMatch::Suffix(_) => return None,
            });
            into.ignore_path_case = ignore_case;
        }
        ":method" if !invert && into.method.is_none() => into.method = Some(value),
        ":authority" | "host" if !invert && into.authority.is_none() => {
            into.authority = Some(value);
        }
        name if name.starts_with(':') || ignore_case => return None,
        name => {
            into.headers.push(HeaderMatch {
                name: name.to_ascii_lowercase().into(),
                value,
                invert,
            });
        }
    }
    Some(())
}
