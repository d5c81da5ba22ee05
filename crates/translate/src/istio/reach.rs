//! Rules and matches of a VirtualService that no request reaches.

use heddle_api::istio::{HttpMatch, L4Match, StringMatch, TlsMatch, VirtualService};
use heddle_api::{At, Object};
use heddle_diag::Diagnostic;

use crate::codes;
use crate::report::Report;

/// A match as far as reach is concerned.
trait Reach {
    fn at(&self) -> At;

    /// Whether everything that `narrow` takes is taken by `self`, as far as that can be told without looking into
    /// expressions.
    fn covers(&self, narrow: &Self) -> bool;
}

/// Reports what is never reached.
pub(super) fn check(object: &Object<VirtualService>, report: &mut Report) {
    let spec = &object.spec;
    // Of a rule that delegates, the delegate says what it takes.
    let http: Vec<_> = spec
        .http
        .iter()
        .map(|rule| (rule.at, rule.matches.as_slice(), rule.delegate.is_none()))
        .collect();
    check_list(object, "http", &http, report);
    let tcp: Vec<_> =
        spec.tcp.iter().map(|rule| (rule.at, rule.matches.as_slice(), true)).collect();
    check_list(object, "tcp", &tcp, report);
    let tls: Vec<_> =
        spec.tls.iter().map(|rule| (rule.at, rule.matches.as_slice(), true)).collect();
    check_list(object, "tls", &tls, report);
}

fn check_list<M: Reach>(
    object: &Object<VirtualService>,
    list: &str,
    rules: &[(At, &[M], bool)],
    report: &mut Report,
) {
    let mut catch_all: Option<(usize, At)> = None;
    let mut earlier: Vec<(usize, &M)> = Vec::new();
    for (index, (rule, matches, whole)) in rules.iter().enumerate() {
        let origin = || object.origin_at(*rule);
        if let Some((first, first_at)) = catch_all {
            let message = format!("never reached: `{list}[{first}]` takes everything");
            report.push(
                Diagnostic::warning(codes::UNREACHABLE_RULE, origin(), message)
                    .related("this rule takes everything", object.origin_at(first_at)),
            );
            report.ignored(origin(), "a rule before it takes everything");
            continue;
        }
        let mut useless = 0;
        for one in *matches {
            if let Some((first, _)) = earlier.iter().find(|(_, wider)| wider.covers(one)) {
                useless += 1;
                let message =
                    format!("takes nothing: `{list}[{first}]` has the same or a wider match");
                report.info(codes::INEFFECTIVE_MATCH, object.origin_at(one.at()), message);
            }
            // What is broken takes no request, so it takes none away.
            if *whole && !object.is_broken(one.at()) && one.at() != At::default() {
                earlier.push((index, one));
            }
        }
        if useless > 0 && useless == matches.len() {
            let message = "never reached: the rules before it take what all its matches would take";
            report.warning(codes::UNREACHABLE_RULE, origin(), message);
        }
        if *whole && matches.is_empty() && !object.is_field_broken(*rule, "match") {
            catch_all = Some((index, *rule));
        }
    }
}

impl Reach for L4Match {
    fn at(&self) -> At {
        self.at
    }

    fn covers(&self, narrow: &Self) -> bool {
        *self == Self { at: self.at, ..narrow.clone() }
    }
}

impl Reach for TlsMatch {
    fn at(&self) -> At {
        self.at
    }

    fn covers(&self, narrow: &Self) -> bool {
        *self == Self { at: self.at, ..narrow.clone() }
    }
}

impl Reach for HttpMatch {
    fn at(&self) -> At {
        self.at
    }

    fn covers(&self, narrow: &Self) -> bool {
        let empty = Self { at: self.at, ..Self::default() };
        if *self == empty {
            return false;
        }
        if plain(self) == plain(narrow) && path_covers(self.uri.as_ref(), narrow.uri.as_ref()) {
            return true;
        }
        // A match by path alone takes whatever else the other asks for, for the same clients.
        let only_path = Self { uri: self.uri.clone(), name: self.name.clone(), ..empty };
        self.uri.is_some()
            && *self == only_path
            && narrow.ignore_uri_case != Some(true)
            && path_covers(self.uri.as_ref(), narrow.uri.as_ref())
    }
}

/// A match without its path, name and places, so that equal ones compare as equal.
fn plain(one: &HttpMatch) -> HttpMatch {
    let mut one =
        HttpMatch { at: At::default(), name: None, stat_prefix: None, uri: None, ..one.clone() };
    let texts = [&mut one.authority, &mut one.method, &mut one.scheme];
    let single = texts.into_iter().flatten();
    let many = one
        .headers
        .values_mut()
        .chain(one.without_headers.values_mut())
        .chain(one.query_params.values_mut());
    for text in single.chain(many) {
        text.at = At::default();
    }
    one
}

fn path_covers(wide: Option<&StringMatch>, narrow: Option<&StringMatch>) -> bool {
    let (Some(wide), Some(narrow)) = (wide, narrow) else { return wide.is_none() };
    if let Some(prefix) = &wide.prefix {
        let text = narrow.exact.as_ref().or(narrow.prefix.as_ref());
        return text.is_some_and(|text| text.starts_with(prefix.as_str()));
    }
    wide.exact == narrow.exact && wide.regex == narrow.regex && narrow.prefix.is_none()
}
