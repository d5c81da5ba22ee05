//! Host names as objects write them, and what they stand for.

use std::sync::Arc;

use heddle_ident::{Host, HostPattern};

/// Completes a host as Istio does: a name without dot gets the namespace of the object it stands in; everything else,
/// addresses and wildcards too, is taken as it is.
pub(crate) fn full_name(text: &str, namespace: &str, cluster_domain: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower == "*" || lower.contains(['.', ':']) || lower.is_empty() {
        return lower;
    }
    format!("{lower}.{namespace}.svc.{cluster_domain}")
}

/// The full name of a Kubernetes Service; none where the object's name is not valid.
pub(crate) fn service_host(name: &str, namespace: &str, cluster_domain: &str) -> Option<Host> {
    Host::parse(&format!("{name}.{namespace}.svc.{cluster_domain}")).ok()
}

/// The texts under which an object that names `host` may be found: the host itself, then every wildcard that covers
/// it, the most specific first.
pub(crate) fn covering_texts(host: &HostPattern) -> Vec<Arc<str>> {
    let text: Arc<str> = host.to_string().into();
    let mut texts = vec![text.clone()];
    let is_address = matches!(host, HostPattern::Exact(host) if host.as_ip().is_some());
    if *host != HostPattern::Any {
        let mut rest = text.strip_prefix("*.").unwrap_or(&text);
        while let (false, Some((_, suffix))) = (is_address, rest.split_once('.')) {
            texts.push(format!("*.{suffix}").into());
            rest = suffix;
        }
        texts.push("*".into());
    }
    texts
}

/// How a client in `client_namespace` may write the name of a Kubernetes Service, besides its full name.
pub(crate) fn short_names(
    host: &Host,
    client_namespace: &str,
    cluster_domain: &str,
) -> Vec<HostPattern> {
    let Some(prefix) =
        host.as_str().strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc."))
    else {
        return Vec::new();
    };
    let Some((name, namespace)) = prefix.split_once('.') else { return Vec::new() };
    let mut names = vec![format!("{prefix}.svc"), prefix.to_owned()];
    if namespace == client_namespace {
        names.push(name.to_owned());
    }
    names.iter().filter_map(|name| Host::parse(name).ok()).map(HostPattern::Exact).collect()
}

/// How many letters must be put in, left out, exchanged or swapped with their neighbour to make one text of the other
/// (optimal string alignment); only whether it is at most 2 matters.
pub(crate) fn is_near(left: &str, right: &str) -> bool {
    const DISTANCE_MAX: usize = 2;
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > DISTANCE_MAX
        || left.len().min(right.len()) <= DISTANCE_MAX
    {
        return false;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, own) in left.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let at =
                |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX - 1);
            let exchanged = at(&last, column) + usize::from(own != other);
            let mut best = exchanged.min(at(&last, column + 1) + 1).min(at(&next, column) + 1);
            let swapped = row > 0
                && column > 0
                && left.get(row - 1) == Some(other)
                && right.get(column - 1) == Some(own);
            if swapped {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            next.push(best);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last.last().is_some_and(|distance| *distance <= DISTANCE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_two_slips_at_most() {
        for (left, right) in
            [("reviews", "reveiws"), ("reviews", "review"), ("wbe", "web"), ("ratings", "ratngs")]
        {
            assert!(is_near(left, right), "{left} {right}");
        }
        for (left, right) in
            [("a", "b"), ("reviews", "ratings"), ("details", "tails-of"), ("", "ab")]
        {
            assert!(!is_near(left, right), "{left} {right}");
        }
    }

    #[test]
    fn only_names_without_dot_are_completed() {
        let full = |text| full_name(text, "shop", "cluster.local");
        assert_eq!(full("web"), "web.shop.svc.cluster.local");
        assert_eq!(full("Web"), "web.shop.svc.cluster.local");
        for text in ["web.shop", "*", "*.x", "10.0.0.1", "::1", "web.shop.svc.cluster.local", ""] {
            assert_eq!(full(text), text);
        }
    }

    #[test]
    fn a_host_is_found_under_itself_and_every_wildcard_above() {
        let texts = |text: &str| {
            covering_texts(&HostPattern::parse(text).unwrap())
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("a.b.c"), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(texts("*.b.c"), ["*.b.c", "*.c", "*"]);
        assert_eq!(texts("10.0.0.1"), ["10.0.0.1", "*"]);
        assert_eq!(texts("*"), ["*"]);
    }

    #[test]
    fn short_names_depend_on_the_client() {
        let names = |host: &str, namespace| {
            short_names(&Host::parse(host).unwrap(), namespace, "cluster.local")
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let host = "web.shop.svc.cluster.local";
        assert_eq!(names(host, "shop"), ["web.shop.svc", "web.shop", "web"]);
        assert_eq!(names(host, "other"), ["web.shop.svc", "web.shop"]);
        assert!(names("example.com", "shop").is_empty());
    }
}
