//! Envoy's local rate limit as EnvoyFilters write it (`envoy.filters.http.local_ratelimit`), read into limits of heddle's
//! own. Only what is enforced as Envoy enforces it is taken; the rest is reported where it stands.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::{At, Written};
use heddle_ir::http_route::{HeaderEdits, HeaderMatch, HttpMatch};
use heddle_ir::matching::{PathMatch, TextMatch};
use heddle_ir::rate_limit::{LocalRateLimit, RateLimitScope, TokenBucket};

use crate::report::Report;

/// The name of the filter, which is also the key of its settings on routes.
pub(super) const FILTER: &str = "envoy.filters.http.local_ratelimit";
/// The end of its type's URL.
const TYPE: &str = "LocalRateLimit";
/// Everything, in parts per million.
const ALL_PPM: u64 = 1_000_000;
/// What a refused request gets.
const TOO_MANY_REQUESTS: u16 = 429;

/// Fields that change nothing here: names of statistics and of settings that can be changed while running.
const WITHOUT_EFFECT: [&str; 4] = ["@type", "stat_prefix", "stage", "vh_rate_limits"];

/// Reads a patch's value.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) written: &'a Written,
}

impl<'a> Read<'a> {
    pub(super) fn field(self, at: At, name: &str) -> Option<At> {
        self.written.field(at, name)
    }

    pub(super) fn text(self, at: At, name: &str) -> Option<&'a str> {
        self.field(at, name).map(|at| &**self.written.tree().text(at))
    }

    fn number(self, at: At, name: &str) -> Option<u64> {
        self.text(at, name)?.parse().ok()
    }

    fn children(self, at: Option<At>) -> Vec<At> {
        at.map(|at| self.written.tree().children(at).collect()).unwrap_or_default()
    }

    fn keys(self, at: At) -> Vec<(&'a str, At)> {
        let tree = self.written.tree();
        tree.children(at).filter_map(|child| Some((&**tree.key(child)?, child))).collect()
    }

    fn is_true(self, at: At, name: &str) -> bool {
        self.text(at, name) == Some("true")
    }

    /// The settings in a typed configuration, also where they are wrapped into a `TypedStruct`; none where they are of
    /// another type.
    pub(super) fn settings(self, typed: At) -> Option<At> {
        let of = |name| self.text(typed, name).unwrap_or_default();
        if of("type_url").ends_with(TYPE) {
            return self.field(typed, "value").or(Some(typed));
        }
        of("@type").ends_with(TYPE).then_some(typed)
    }
}

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
        if !known.contains(&name) && !WITHOUT_EFFECT.contains(&name) {
            let why = format!("`{name}` of the local rate limit is not acted on");
            report.unsupported(read.written.origin_at(at), why);
        }
    }
    let has = |name| read.field(settings, name).is_some();
    if !has("token_bucket") && !has("descriptors") {
        return Vec::new();
    }
    // Envoy limits nothing unless told for which share of the requests.
    let enabled = share(read, settings, "filter_enabled");
    let enforced = share(read, settings, "filter_enforced");
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
        status: status(read, settings),
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

/// Protobuf's JSON form: seconds with up to nine digits after the point, and an `s`.
fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// A share of the requests in parts per million; absent means none.
fn share(read: Read<'_>, settings: At, name: &str) -> u64 {
    let Some(value) = read.field(settings, name).and_then(|at| read.field(at, "default_value"))
    else {
        return 0;
    };
    let per_unit = match read.text(value, "denominator") {
        Some("TEN_THOUSAND") => 100,
        Some("MILLION") => 1,
        _ => 10_000,
    };
    (read.number(value, "numerator").unwrap_or(0) * per_unit).min(ALL_PPM)
}

fn status(read: Read<'_>, settings: At) -> u16 {
    let code = read.field(settings, "status").and_then(|at| read.text(at, "code"));
    let code = match code {
        Some("TooManyRequests") | None => Some(TOO_MANY_REQUESTS),
        Some("ServiceUnavailable") => Some(503),
        Some("Forbidden") => Some(403),
        Some(number) => number.parse().ok(),
    };
    // Envoy takes no status below 400 here.
    code.filter(|code| (400..600).contains(code)).unwrap_or(TOO_MANY_REQUESTS)
}

fn headers(read: Read<'_>, settings: At) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for option in read.children(read.field(settings, "response_headers_to_add")) {
        let Some(header) = read.field(option, "header") else { continue };
        let (Some(key), Some(value)) = (read.text(header, "key"), read.text(header, "value"))
        else {
            continue;
        };
        let pair: (Arc<str>, Arc<str>) = (key.to_ascii_lowercase().into(), value.into());
        let replaces = read.text(option, "append") == Some("false")
            || read
                .text(option, "append_action")
                .is_some_and(|action| action.starts_with("OVERWRITE_IF_EXISTS"));
        if replaces { edits.set.push(pair) } else { edits.add.push(pair) }
    }
    edits
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
    match kind {
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
