//! `rate_limits` of Envoy's routes and virtual hosts, as EnvoyFilters write them: what a rate limit service is told of a
//! request. An action that is not understood takes its descriptor with it, and is reported where it stands.

use std::sync::Arc;

use heddle_api::At;
use heddle_ir::matching::TextMatch;
use heddle_ir::rate_limit::{
    DescriptorAction, DescriptorLevel, RateLimitDescriptor, ValueCondition,
};

use crate::istio::envoy_value::Read;
use crate::report::Report;

/// A descriptor, and the filters that it is for.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    /// Where it stands.
    pub(super) at: At,
    pub(super) stage: u64,
    pub(super) descriptor: RateLimitDescriptor,
}

/// Where actions stand.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The name of the proxy's own cluster (`source_cluster`); none: it is not known yet.
    pub(super) own_cluster: Option<&'a str>,
    /// Requests arrive at their workload there.
    pub(super) inbound: bool,
}

/// The descriptors of a list of rate limits.
pub(super) fn descriptors(
    read: Read<'_>,
    list: Option<At>,
    place: Place<'_>,
    level: DescriptorLevel,
    report: &mut Report,
) -> Vec<Staged> {
    let one = |at: At| staged(read, at, place, level, report);
    read.children(list).into_iter().filter_map(one).collect()
}

fn staged(
    read: Read<'_>,
    at: At,
    place: Place<'_>,
    level: DescriptorLevel,
    report: &mut Report,
) -> Option<Staged> {
    let mut whole = true;
    let mut hits = None;
    for (name, field) in read.keys(at) {
        let why = match &*name {
            "actions" | "stage" => continue,
            "disable_key" => {
                let why = "there is no runtime to set the key in";
                report.ignored(read.written.origin_at(field), why);
                continue;
            }
            "hits_addend" => {
                hits = read.number(field, "number").and_then(|number| u32::try_from(number).ok());
                if hits.is_some() {
                    continue;
                }
                "how much a request counts is not computed: a number is taken"
            }
            "limit" => "limits are those of the service: requests bring none of their own",
            "apply_on_stream_done" => "requests are counted when they begin, not when they end",
            _ => "this part of a rate limit is not acted on",
        };
        report.unsupported(read.written.origin_at(field), why);
        whole = false;
    }
    let mut actions = Vec::new();
    for step in read.children(read.field(at, "actions")) {
        match action(read, step, place) {
            Ok(action) => actions.push(action),
            Err((at, why)) => {
                report.unsupported(read.written.origin_at(at), why);
                whole = false;
            }
        }
    }
    if !whole || actions.is_empty() {
        return None;
    }
    let descriptor = RateLimitDescriptor {
        actions,
        port: None,
        matches: Vec::new(),
        routes: Vec::new(),
        level,
        hits,
    };
    Some(Staged { at, stage: read.number(at, "stage").unwrap_or(0), descriptor })
}

type Refused = (At, &'static str);

fn action(read: Read<'_>, step: At, place: Place<'_>) -> Result<DescriptorAction, Refused> {
    const UNKNOWN: &str = "this action is not understood, so that its descriptor is not made";
    let (kind, at) = read.keys(step).into_iter().next().ok_or((step, UNKNOWN))?;
    let text = |name: &str| read.text(at, name).filter(|text| !text.is_empty());
    let key = |default: &str| Arc::<str>::from(text("descriptor_key").unwrap_or(default));
    let need = |name: &'static str| {
        text(name).map(Arc::<str>::from).ok_or((at, "the action lacks a field"))
    };
    let skip_if_absent = read.is_true(at, "skip_if_absent");
    match &*kind {
        "generic_key" => {
            let value = need("descriptor_value")?;
            Ok(DescriptorAction::Generic { key: key("generic_key"), value })
        }
        "request_headers" => {
            let header = need("header_name")?.to_ascii_lowercase().into();
            let default = text("default_value").map(Arc::from);
            let key = need("descriptor_key")?;
            Ok(DescriptorAction::RequestHeader { key, header, skip_if_absent, default })
        }
        "query_parameters" => Ok(DescriptorAction::QueryParameter {
            key: need("descriptor_key")?,
            parameter: need("query_parameter_name")?,
            skip_if_absent,
        }),
        "header_value_match" => Ok(DescriptorAction::HeaderMatch {
            key: key("header_match"),
            value: need("descriptor_value")?,
            conditions: conditions(read, at, "headers", true)?,
            invert: read.text(at, "expect_match") == Some("false"),
        }),
        "query_parameter_value_match" => Ok(DescriptorAction::QueryMatch {
            key: key("query_match"),
            value: need("descriptor_value")?,
            conditions: conditions(read, at, "query_parameters", false)?,
            invert: read.text(at, "expect_match") == Some("false"),
        }),
        "remote_address" => Ok(DescriptorAction::RemoteAddress),
        "masked_remote_address" => {
            let bits = |name: &str, all: u8| {
                let written = read.field(at, name).map(|at| {
                    let nested = read.text(at, "value");
                    nested.unwrap_or_else(|| read.text_at(at)).parse::<u8>()
                });
                match written {
                    None => Ok(all),
                    Some(Ok(bits)) if bits <= all => Ok(bits),
                    Some(_) => Err((at, "the address has fewer bits")),
                }
            };
            let (v4_bits, v6_bits) =
                (bits("v4_prefix_mask_len", 32)?, bits("v6_prefix_mask_len", 128)?);
            Ok(DescriptorAction::MaskedRemoteAddress { v4_bits, v6_bits })
        }
        "source_cluster" => {
            let value = place.own_cluster.unwrap_or_default().into();
            Ok(DescriptorAction::Generic { key: "source_cluster".into(), value })
        }
        "destination_cluster" if place.inbound => Ok(DescriptorAction::Destination),
        "destination_cluster" => {
            Err((at, "limits are asked for before one of several destinations is drawn"))
        }
        "metadata" => metadata(read, at),
        "dynamic_metadata" => Err((at, "`metadata` is read, its older form is not")),
        "extension" => extension(read, at),
        _ => Err((at, UNKNOWN)),
    }
}

/// What tokens and certificates prove, under the names that Istio gives it.
fn metadata(read: Read<'_>, at: At) -> Result<DescriptorAction, Refused> {
    let of_request = matches!(read.text(at, "source"), None | Some("DYNAMIC"));
    if !of_request {
        return Err((at, "routes carry no metadata of Envoy's"));
    }
    let key = read.text(at, "descriptor_key").filter(|key| !key.is_empty());
    let key: Arc<str> = key.ok_or((at, "the action lacks a field"))?.into();
    let namespace = read.below(at, &["metadata_key", "key"]).map(|at| read.text_at(at));
    let steps = read.children(read.below(at, &["metadata_key", "path"]));
    let names = steps.iter().map(|step| read.text(*step, "key"));
    let names: Vec<&str> = names.collect::<Option<_>>().ok_or((at, "a path is made of keys"))?;
    let claim = |names: &[&str]| DescriptorAction::Claim {
        key: key.clone(),
        path: names.iter().map(|name| Arc::from(*name)).collect(),
        default: read.text(at, "default_value").filter(|text| !text.is_empty()).map(Arc::from),
        skip_if_absent: read.is_true(at, "skip_if_absent"),
    };
    match (namespace, &*names) {
        (Some("envoy.filters.http.jwt_authn"), ["payload", rest @ ..])
        | (Some("istio_authn"), ["request.auth.claims", rest @ ..])
            if !rest.is_empty() =>
        {
            Ok(claim(rest))
        }
        (Some("istio_authn"), ["source.principal"]) => {
            Ok(DescriptorAction::SourceIdentity { key, as_uri: false })
        }
        _ => Err((
            at,
            "of metadata the claims of tokens (`envoy.filters.http.jwt_authn`, `payload`) and the peer's identity \
             (`istio_authn`, `source.principal`) are known",
        )),
    }
}

/// Of expressions the peer's identity.
fn extension(read: Read<'_>, at: At) -> Result<DescriptorAction, Refused> {
    const ONLY: &str = "of expressions only `connection.uri_san_peer_certificate` is understood";
    let typed = read.field(at, "typed_config").ok_or((at, ONLY))?;
    let settings = read.settings(typed, "rate_limit_descriptors.expr.v3.Descriptor");
    let settings = settings.ok_or((at, ONLY))?;
    let key = read.text(settings, "descriptor_key").filter(|key| !key.is_empty());
    match (key, read.text(settings, "text").map(str::trim)) {
        (Some(key), Some("connection.uri_san_peer_certificate")) => {
            Ok(DescriptorAction::SourceIdentity { key: key.into(), as_uri: true })
        }
        _ => Err((at, ONLY)),
    }
}

fn conditions(
    read: Read<'_>,
    at: At,
    field: &str,
    of_headers: bool,
) -> Result<Vec<ValueCondition>, Refused> {
    let list = read.children(read.field(at, field));
    if list.is_empty() {
        return Err((at, "the action lacks its conditions"));
    }
    list.into_iter().map(|one| condition(read, one, of_headers)).collect()
}

/// A matcher of a header, or of a parameter of the query.
fn condition(read: Read<'_>, at: At, of_headers: bool) -> Result<ValueCondition, Refused> {
    let name = read.text(at, "name").ok_or((at, "a condition needs a name"))?;
    let mut invert = read.is_true(at, "invert_match");
    let nested = read.field(at, "string_match");
    let place = nested.unwrap_or(at);
    let ignores_case = nested.is_some_and(|at| read.is_true(at, "ignore_case"));
    let pick = |short: &str, long: &str| read.text(place, short).or_else(|| read.text(at, long));
    let literal = |begin: &str, text: &str, end: &str| {
        let text = regex_literal(text);
        TextMatch::Regex(format!("(?is){begin}{text}{end}").into())
    };
    let regex = read
        .below(place, &["safe_regex", "regex"])
        .or_else(|| read.below(at, &["safe_regex_match", "regex"]));
    let value = match (
        pick("exact", "exact_match"),
        pick("prefix", "prefix_match"),
        pick("suffix", "suffix_match"),
        pick("contains", "contains_match"),
    ) {
        (Some(text), ..) if ignores_case => literal("", text, ""),
        (Some(text), ..) => TextMatch::Exact(text.into()),
        (_, Some(text), ..) if ignores_case => literal("", text, ".*"),
        (_, Some(text), ..) => TextMatch::Prefix(text.into()),
        (.., Some(text), _) if ignores_case => literal(".*", text, ""),
        (.., Some(text), _) => TextMatch::Suffix(text.into()),
        (.., Some(text)) => {
            let case = if ignores_case { "i" } else { "" };
            TextMatch::Regex(format!("(?s{case}).*{}.*", regex_literal(text)).into())
        }
        _ => match regex {
            Some(regex) => TextMatch::Regex(read.text_at(regex).into()),
            None if nested.is_some() || read.field(at, "range_match").is_some() => {
                return Err((at, "this kind of condition is not understood"));
            }
            None => {
                invert ^= read.text(at, "present_match") == Some("false");
                TextMatch::Present
            }
        },
    };
    let name = if of_headers { name.to_ascii_lowercase() } else { name.to_owned() };
    let absent_is_empty = read.is_true(at, "treat_missing_header_as_empty");
    Ok(ValueCondition { name: name.into(), value, invert, absent_is_empty })
}

/// A text as a regular expression that takes it and nothing else.
fn regex_literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}
