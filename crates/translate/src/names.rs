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

#[cfg(test)]
mod tests {
    use super::*;

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
