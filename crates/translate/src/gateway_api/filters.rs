//! Filters: what each asks for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use heddle_api::gateway_api::{
    CorsFilter, ExternalAuthFilter, HeaderFilter, HeaderValue, HttpFilter, HttpFilterType,
    MirrorFilter, PathModifier, PathModifierType, RedirectFilter, RedirectScheme, RewriteFilter,
};
use heddle_diag::Origin;
use heddle_ir::http_route::{
    CorsPolicy, HeaderEdits, PathRewrite, Redirect, RedirectPort, Rewrite,
};
use heddle_ir::matching::TextMatch;

/// What the filters of a rule or of a backend ask for together.
#[derive(Default)]
pub(crate) struct Filtered<'a> {
    pub(crate) request_headers: HeaderEdits,
    pub(crate) response_headers: HeaderEdits,
    pub(crate) rewrite: Rewrite,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) cors: Option<CorsPolicy>,
    pub(crate) mirrors: Vec<&'a MirrorFilter>,
    pub(crate) external_auth: Option<&'a ExternalAuthFilter>,
    /// Why requests cannot be treated as asked: the filter, what a condition says, and why. They get 500.
    pub(crate) impossible: Option<(&'a HttpFilter, &'static str, String)>,
}

/// Reads filters; `place` tells where one is written, `is_broken` whether it has an error.
pub(crate) fn read<'a>(
    filters: &'a [HttpFilter],
    place: &dyn Fn(heddle_api::At) -> Origin,
    is_broken: &dyn Fn(heddle_api::At) -> bool,
) -> Filtered<'a> {
    let mut found = Filtered::default();
    for filter in filters {
        if is_broken(filter.at) {
            let why = "the filter has an error".to_owned();
            found.impossible.get_or_insert((filter, "UnsupportedValue", why));
            continue;
        }
        match filter.kind {
            Some(HttpFilterType::RequestHeaderModifier) => {
                merge(&mut found.request_headers, filter.request_header_modifier.as_ref());
            }
            Some(HttpFilterType::ResponseHeaderModifier) => {
                merge(&mut found.response_headers, filter.response_header_modifier.as_ref());
            }
            Some(HttpFilterType::RequestMirror) => found.mirrors.extend(&filter.request_mirror),
            Some(HttpFilterType::RequestRedirect) => {
                found.redirect = filter.request_redirect.as_ref().map(redirect);
            }
            Some(HttpFilterType::UrlRewrite) => {
                found.rewrite = filter.url_rewrite.as_ref().map(rewrite).unwrap_or_default();
            }
            Some(HttpFilterType::Cors) => {
                found.cors = filter.cors.as_ref().map(|cors| cors_policy(cors, place(cors.at)));
            }
            Some(HttpFilterType::ExternalAuth) => match &filter.external_auth {
                Some(auth) if !is_broken(auth.at) => found.external_auth = Some(auth),
                // Whom to ask cannot be known, so nobody may pass.
                Some(_) | None => {
                    let why = "the filter has an error".to_owned();
                    found.impossible.get_or_insert((filter, "UnsupportedValue", why));
                }
            },
            Some(HttpFilterType::ExtensionRef) => {
                let kind = filter.extension_ref.as_ref().map_or("", |one| one.kind.as_str());
                let why =
                    format!("there is no filter of the kind `{kind}`, so requests are refused");
                found.impossible.get_or_insert((filter, "InvalidKind", why));
            }
            None => {
                let why = "the filter is of no known type".to_owned();
                found.impossible.get_or_insert((filter, "UnsupportedValue", why));
            }
        }
    }
    found
}

fn merge(edits: &mut HeaderEdits, filter: Option<&HeaderFilter>) {
    let Some(filter) = filter else { return };
    edits.set.extend(pairs(&filter.set));
    edits.add.extend(pairs(&filter.add));
    edits.remove.extend(filter.remove.iter().map(|name| Arc::from(name.to_ascii_lowercase())));
}

/// Names and values; of equal names the first counts, in whatever case.
fn pairs(values: &[HeaderValue]) -> Vec<(Arc<str>, Arc<str>)> {
    let mut names = BTreeSet::new();
    let pairs = values.iter().map(|one| (one.name.to_ascii_lowercase(), one.value.as_str()));
    pairs
        .filter(|(name, _)| names.insert(name.clone()))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn redirect(filter: &RedirectFilter) -> Redirect {
    Redirect {
        status: filter.status_code.unwrap_or(302),
        scheme: filter.scheme.map(|scheme| scheme.as_str().into()),
        host: filter.hostname.as_deref().map(Into::into),
        port: match (filter.port, filter.scheme) {
            (Some(port), _) => RedirectPort::Fixed(port),
            (None, Some(RedirectScheme::Http | RedirectScheme::Https)) => RedirectPort::FromScheme,
            (None, None) => RedirectPort::Listener,
        },
        path: filter.path.as_ref().and_then(path),
    }
}

fn rewrite(filter: &RewriteFilter) -> Rewrite {
    Rewrite {
        path: filter.path.as_ref().and_then(path),
        authority: filter.hostname.as_deref().map(Into::into),
    }
}

fn path(modifier: &PathModifier) -> Option<PathRewrite> {
    Some(match modifier.kind? {
        PathModifierType::ReplaceFullPath => {
            let full = modifier.replace_full_path.as_deref().filter(|path| !path.is_empty());
            PathRewrite::Full(full.unwrap_or("/").into())
        }
        PathModifierType::ReplacePrefixMatch => {
            PathRewrite::ElementPrefix(modifier.replace_prefix_match.as_deref()?.into())
        }
    })
}

/// How long a preflight's answer may be kept where nothing is said.
const MAX_AGE: u32 = 5;

fn cors_policy(filter: &CorsFilter, origin: Origin) -> CorsPolicy {
    let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    CorsPolicy {
        origin,
        allow_origins: filter.allow_origins.iter().map(|text| allowed_origin(text)).collect(),
        allow_methods: texts(&filter.allow_methods),
        allow_headers: texts(&filter.allow_headers),
        expose_headers: texts(&filter.expose_headers),
        max_age: Some(Duration::from_secs(filter.max_age.unwrap_or(MAX_AGE).into())),
        allow_credentials: filter.allow_credentials.unwrap_or(false),
        forward_unmatched_preflights: false,
    }
}

/// A star within a host stands for any labels, one at least; alone for every origin. Browsers send hosts in lower case.
fn allowed_origin(text: &str) -> TextMatch {
    if text == "*" {
        return TextMatch::Exact("*".into());
    }
    let text = text.to_ascii_lowercase();
    if !text.contains('*') {
        return TextMatch::Exact(text.into());
    }
    let mut pattern = String::new();
    for character in text.chars() {
        match character {
            '*' => pattern.push_str("[^/:]+"),
            other => {
                if !other.is_ascii_alphanumeric() {
                    pattern.push('\\');
                }
                pattern.push(other);
            }
        }
    }
    TextMatch::Regex(pattern.into())
}

/// The share of requests that is copied, in parts per million; rounded to the nearest.
pub(crate) fn mirror_share(filter: &MirrorFilter) -> u32 {
    const WHOLE: u64 = 1_000_000;
    let share = match (&filter.fraction, filter.percent) {
        (Some(fraction), _) => {
            let denominator = u64::from(fraction.denominator.unwrap_or(100).max(1));
            (u64::from(fraction.numerator) * WHOLE + denominator / 2) / denominator
        }
        (None, Some(percent)) => u64::from(percent) * WHOLE / 100,
        (None, None) => WHOLE,
    };
    u32::try_from(share.min(WHOLE)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use heddle_api::gateway_api::Fraction;

    use super::*;

    #[test]
    fn shares_of_mirrors() {
        let share = |percent, fraction: Option<(u32, Option<u32>)>| {
            let fraction = fraction.map(|(numerator, denominator)| Fraction {
                numerator,
                denominator,
                ..Fraction::default()
            });
            mirror_share(&MirrorFilter { percent, fraction, ..MirrorFilter::default() })
        };
        assert_eq!(share(None, None), 1_000_000);
        assert_eq!(share(Some(0), None), 0);
        assert_eq!(share(Some(42), None), 420_000);
        assert_eq!(share(None, Some((1, None))), 10_000);
        assert_eq!(share(None, Some((1, Some(3)))), 333_333);
        assert_eq!(share(None, Some((2, Some(3)))), 666_667);
        assert_eq!(share(None, Some((u32::MAX, Some(1)))), 1_000_000);
    }

    #[test]
    fn stars_of_origins_are_labels() {
        let pattern = |text: &str| match allowed_origin(text) {
            TextMatch::Regex(pattern) => pattern.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(pattern("https://*.bar.com"), "https\\:\\/\\/[^/:]+\\.bar\\.com");
        assert_eq!(pattern("http://*:8080"), "http\\:\\/\\/[^/:]+\\:8080");
        assert_eq!(pattern("https://Foo.com"), "Exact(\"https://foo.com\")");
        assert_eq!(pattern("*"), "Exact(\"*\")");
    }
}
