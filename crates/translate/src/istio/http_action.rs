//! What a rule of a VirtualService does besides forwarding: redirect, respond, rewrite, CORS, faults.

use std::sync::Arc;

use heddle_api::istio::{
    CorsPolicy as WrittenCors, DerivePort, DirectResponse as WrittenResponse, FaultInjection,
    HttpRedirect, HttpRewrite, HttpRoute, Percent, UnmatchedPreflights, VirtualService,
};
use heddle_api::{At, Base64, Object};
use heddle_ir::http_route::{
    AbortStatus, CorsPolicy, DirectResponse, Fault, FaultAbort, FaultDelay, PathRewrite, Redirect,
    RedirectPort, Rewrite,
};
use heddle_ir::matching::TextMatch;

use crate::codes;
use crate::istio::http_match::string_match;
use crate::istio::{grpc_status, regex};
use crate::report::Report;

/// The longest body of a fixed response, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// From here on Istio warns.
const BODY_BYTES_WARN: usize = 100 << 10;

type Vs = Object<VirtualService>;

pub(super) fn redirect(
    object: &Vs,
    rule: &HttpRoute,
    written: &HttpRedirect,
    report: &mut Report,
) -> Option<Redirect> {
    let mut sound = !object.is_broken(written.at);
    let mut reject = |report: &mut Report, field: &str, message: &str| {
        report.rejected(object.origin_of(written.at, field), message);
        sound = false;
    };
    let status = written.redirect_code.filter(|code| *code != 0).unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        reject(
            report,
            "redirectCode",
            "a redirection has one of the codes 301, 302, 303, 307 and 308",
        );
    }
    let scheme = written.scheme.as_deref().filter(|scheme| !scheme.is_empty());
    if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
        reject(report, "scheme", "the scheme of a redirection is `http` or `https`");
    }
    let uri = written.uri.as_deref().filter(|uri| !uri.is_empty());
    let prefix = written.prefix_rewrite.as_deref().filter(|prefix| !prefix.is_empty());
    let authority = written.authority.as_deref().filter(|authority| !authority.is_empty());
    if uri.is_some() && prefix.is_some() {
        reject(report, "prefixRewrite", "`uri` and `prefixRewrite` exclude each other");
    }
    let by_prefix = |matched: &heddle_api::istio::HttpMatch| {
        matched.uri.as_ref().is_some_and(|uri| uri.prefix.is_some())
    };
    if prefix.is_some() && (rule.matches.is_empty() || !rule.matches.iter().all(by_prefix)) {
        reject(
            report,
            "prefixRewrite",
            "`prefixRewrite` needs `uri.prefix` in every match of the rule",
        );
    }
    let nothing = uri.is_none()
        && prefix.is_none()
        && authority.is_none()
        && scheme.is_none()
        && written.port.is_none()
        && written.derive_port.is_none();
    if nothing {
        reject(report, "uri", "the redirection changes nothing, so it would never end");
    }
    let port = match (written.port, written.derive_port) {
        (Some(port), _) => RedirectPort::Fixed(port),
        (None, Some(DerivePort::FromProtocolDefault)) => RedirectPort::FromScheme,
        (None, Some(DerivePort::FromRequestPort)) => RedirectPort::Listener,
        (None, None) => RedirectPort::FromAuthority,
    };
    let path = match (uri, prefix) {
        (Some(uri), _) => Some(PathRewrite::Full(uri.into())),
        (None, Some(prefix)) => Some(PathRewrite::Prefix(prefix.into())),
        (None, None) => None,
    };
    sound.then(|| Redirect {
        status: u16::try_from(status).unwrap_or(301),
        scheme: scheme.map(Into::into),
        host: authority.map(Into::into),
        port,
        path,
    })
}

pub(super) fn direct_response(
    object: &Vs,
    written: &WrittenResponse,
    report: &mut Report,
) -> Option<DirectResponse> {
    if object.is_broken(written.at) {
        return None;
    }
    let status = u16::try_from(written.status).ok().filter(|status| (200..600).contains(status));
    if status.is_none() {
        let origin = object.origin_of(written.at, "status");
        report.rejected(origin, format!("{} is not a status from 200 to 599", written.status));
    }
    let body = written.body.as_ref();
    let body: Vec<u8> = match body.map(|body| (&body.string, &body.bytes)) {
        Some((Some(text), _)) => text.clone().into_bytes(),
        Some((None, Some(text))) => {
            if let Some(bytes) = Base64::parse(text) {
                bytes.0
            } else {
                report.rejected(object.origin_of(written.at, "body"), "`bytes` is not base64");
                return None;
            }
        }
        Some((None, None)) | None => Vec::new(),
    };
    if body.len() > BODY_BYTES_MAX {
        let message = format!("the body has {} bytes, 1 MiB is allowed", body.len());
        report.rejected(object.origin_of(written.at, "body"), message);
        return None;
    }
    if body.len() > BODY_BYTES_WARN {
        let message = format!("the body has {} bytes and is sent to every proxy", body.len());
        report.warning(codes::UPSTREAM_WARNING, object.origin_of(written.at, "body"), message);
    }
    status.map(|status| DirectResponse { status, body: body.into() })
}

/// The rewrite of a rule; `authority` is what its header operations set. None where it is not valid.
pub(super) fn rewrite(
    object: &Vs,
    written: Option<&HttpRewrite>,
    authority: Option<Arc<str>>,
    report: &mut Report,
) -> Option<Rewrite> {
    let Some(written) = written else { return Some(Rewrite { path: None, authority }) };
    if object.is_broken(written.at) {
        return None;
    }
    let uri = written.uri.as_deref().filter(|uri| !uri.is_empty());
    let own = written.authority.as_deref().filter(|authority| !authority.is_empty());
    let path = match (uri, &written.uri_regex_rewrite) {
        (Some(_), Some(_)) => {
            let origin = object.origin_of(written.at, "uriRegexRewrite");
            report.rejected(origin, "`uri` and `uriRegexRewrite` exclude each other");
            return None;
        }
        (Some(uri), None) => Some(PathRewrite::Prefix(uri.into())),
        (None, Some(regex_rewrite)) => {
            let pattern = regex_rewrite.matches.as_deref().unwrap_or_default();
            let substitution = regex_rewrite.rewrite.as_deref().unwrap_or_default();
            if substitution.is_empty() {
                report.rejected(
                    object.origin_of(regex_rewrite.at, "rewrite"),
                    "the replacement is missing",
                );
                return None;
            }
            if let Err(problem) = regex::check(pattern) {
                report.rejected(object.origin_of(regex_rewrite.at, "match"), problem);
                return None;
            }
            Some(PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() })
        }
        (None, None) if own.is_none() => {
            report.rejected(object.origin_at(written.at), "the rewrite changes nothing");
            None
        }
        (None, None) => None,
    };
    Some(Rewrite { path, authority: own.map(Into::into).or(authority) })
}

pub(super) fn cors(object: &Vs, written: &WrittenCors, report: &mut Report) -> Option<CorsPolicy> {
    if object.is_broken(written.at) {
        return None;
    }
    let mut origins: Vec<TextMatch> = Vec::new();
    for allowed in &written.allow_origins {
        if let Some(prefix) = allowed.prefix.as_deref().filter(|prefix| prefix.contains('*')) {
            let message = format!("no origin begins with `{prefix}`: the star stands for itself");
            let pattern = prefix.replace('.', "\\.").replace('*', ".*");
            report.push(
                heddle_diag::Diagnostic::warning(
                    codes::CORS_WILDCARD,
                    object.origin_of(allowed.at, "prefix"),
                    message,
                )
                .hint(format!("write `regex: {pattern}`")),
            );
        }
        origins.extend(string_match(object, allowed, "allowOrigins", report));
    }
    // The old form: exact texts, or a star for every origin.
    origins.extend(written.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => TextMatch::Present,
        origin => TextMatch::Exact(origin.into()),
    }));
    let origins = origins
        .into_iter()
        .map(
            |origin| {
                if origin == TextMatch::Exact("*".into()) { TextMatch::Present } else { origin }
            },
        )
        .collect();
    for (field, names) in
        [("allowHeaders", &written.allow_headers), ("exposeHeaders", &written.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() || !name.bytes().all(super::http_match::is_token_byte) {
                let origin = object.origin_of_item(written.at, field, index);
                report.rejected(origin, format!("`{name}` is not a header name"));
            }
        }
    }
    let max_age = written.max_age;
    if max_age.is_some_and(|age| age.as_nanos() % 1_000_000_000 != 0) {
        let origin = object.origin_of(written.at, "maxAge");
        report.rejected(origin, "the age of a preflight answer is in whole seconds");
    }
    let texts = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    Some(CorsPolicy {
        origin: object.origin_at(written.at),
        allow_origins: origins,
        allow_methods: texts(&written.allow_methods),
        allow_headers: texts(&written.allow_headers),
        expose_headers: texts(&written.expose_headers),
        max_age: max_age.map(|age| std::time::Duration::from_secs(age.as_std().as_secs())),
        allow_credentials: written.allow_credentials.unwrap_or(false),
        forward_unmatched_preflights: written.unmatched_preflights
            != Some(UnmatchedPreflights::Ignore),
    })
}

pub(super) fn fault(object: &Vs, written: &FaultInjection, report: &mut Report) -> Option<Fault> {
    if object.is_broken(written.at) {
        return None;
    }
    if written.delay.is_none() && written.abort.is_none() {
        report.rejected(object.origin_at(written.at), "a fault needs `delay` or `abort`");
        return None;
    }
    let delay = written.delay.as_ref().and_then(|delay| {
        if delay.exponential_delay.is_some() {
            let origin = object.origin_of(delay.at, "exponentialDelay");
            report.rejected(origin, "`exponentialDelay` does not exist in any data plane");
            return None;
        }
        report.precise(delay.fixed_delay, || object.origin_of(delay.at, "fixedDelay"));
        let Some(duration) = delay.fixed_delay else {
            report.rejected(object.origin_at(delay.at), "a delay needs `fixedDelay`");
            return None;
        };
        let share_ppm = match (&delay.percentage, delay.percent) {
            (Some(percentage), _) => share(object, percentage, report)?,
            (None, Some(percent)) => match u32::try_from(percent) {
                Ok(percent) if percent <= 100 => percent * 10_000,
                _ => {
                    report.rejected(
                        object.origin_of(delay.at, "percent"),
                        "a percentage is 0 to 100",
                    );
                    return None;
                }
            },
            (None, None) => no_share(object, delay.at, report),
        };
        Some(FaultDelay { share_ppm, duration: duration.as_std() })
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let status = abort_status(object, abort, report)?;
        let share_ppm = match &abort.percentage {
            Some(percentage) => share(object, percentage, report)?,
            None => no_share(object, abort.at, report),
        };
        Some(FaultAbort { share_ppm, status })
    });
    (delay.is_some() || abort.is_some()).then(|| Fault {
        origin: object.origin_at(written.at),
        delay,
        abort,
    })
}

fn abort_status(
    object: &Vs,
    abort: &heddle_api::istio::FaultAbort,
    report: &mut Report,
) -> Option<AbortStatus> {
    if abort.http2_error.is_some() {
        report.rejected(
            object.origin_of(abort.at, "http2Error"),
            "`http2Error` does not exist in any data plane",
        );
        return None;
    }
    if let Some(name) = &abort.grpc_status {
        let code = grpc_status::parse(name);
        if code.is_none() {
            report.rejected(
                object.origin_of(abort.at, "grpcStatus"),
                format!("`{name}` is not a gRPC status"),
            );
        }
        return code.map(AbortStatus::Grpc);
    }
    let status = abort.http_status.and_then(|status| u16::try_from(status).ok());
    if let Some(status) = status.filter(|status| (200..600).contains(status)) {
        Some(AbortStatus::Http(status))
    } else {
        report.rejected(
            object.origin_of(abort.at, "httpStatus"),
            "an abort needs a status from 200 to 599",
        );
        None
    }
}

/// The share of an absent percentage.
fn no_share(object: &Vs, at: At, report: &mut Report) -> u32 {
    let message = "without a percentage the fault concerns no request";
    report.warning(codes::UPSTREAM_WARNING, object.origin_of(at, "percentage"), message);
    0
}

/// A percentage in parts per million.
pub(super) fn share(object: &Vs, percentage: &Percent, report: &mut Report) -> Option<u32> {
    let value = percentage.value.unwrap_or(0.0);
    let valid = (0.0..=100.0).contains(&value) && (value == 0.0 || value >= 0.0001);
    if !valid {
        let origin = object.origin_of(percentage.at, "value");
        report.rejected(origin, format!("{value} is not a percentage: 0, or 0.0001 to 100"));
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is between 0 and 100"
    )]
    Some((value * 10_000.0).round() as u32)
}
