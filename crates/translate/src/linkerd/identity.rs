//! Identities as Linkerd writes them, as the one identity that the mesh has (API.md hazard 21).
//!
//! `web.shop.serviceaccount.identity.linkerd.cluster.local` is the service account `web` of the namespace `shop` in the
//! trust domain `cluster.local`; the namespace of Linkerd's control plane, here `linkerd`, is no part of it.

use std::sync::Arc;

use heddle_ident::TrustDomain;
use heddle_ir::authorization::ValueMatch;
use heddle_ir::matching::TextMatch;

/// What stands between a service account with its namespace and the rest.
const MIDDLE: &str = "serviceaccount.identity";

/// What a text means: tests on a principal (the identity without `spiffe://`), any one of which must hold. The error says
/// why no client can have the identity.
pub(crate) fn tests(text: &str, domains: &[TrustDomain]) -> Result<Vec<ValueMatch>, String> {
    if text == "*" {
        return Ok(vec![ValueMatch::Text(TextMatch::Present)]);
    }
    if let Some(principal) = text.strip_prefix("spiffe://") {
        return Ok(vec![exact(principal.to_owned())]);
    }
    match text.strip_prefix("*.") {
        Some(suffix) => below(suffix, domains),
        None => one(text, domains).map(|test| vec![test]),
    }
}

/// The identity of one service account.
fn one(text: &str, domains: &[TrustDomain]) -> Result<ValueMatch, String> {
    let middle = format!(".{MIDDLE}.");
    let parts = text.split_once(&*middle).and_then(|(account, rest)| {
        let (name, namespace) = account.rsplit_once('.')?;
        let (_, domain) = rest.split_once('.')?;
        Some((name, namespace, domain))
    });
    let Some((name, namespace, domain)) = parts else {
        return Err(format!(
            "`{text}` is not of the form `<account>.<namespace>.{MIDDLE}.<linkerd>.<trust domain>`: no client has it"
        ));
    };
    known(domain, domains)?;
    Ok(exact(format!("{domain}/ns/{namespace}/sa/{name}")))
}

/// Every identity whose name ends so.
fn below(suffix: &str, domains: &[TrustDomain]) -> Result<Vec<ValueMatch>, String> {
    // The whole of a namespace: `shop.serviceaccount.identity.linkerd.cluster.local`.
    if let Some((namespace, rest)) = suffix.split_once(&*format!(".{MIDDLE}.")) {
        let Some((_, domain)) = rest.split_once('.') else {
            return Err(format!(
                "`*.{suffix}` names no trust domain: no client has such an identity"
            ));
        };
        if namespace.contains('.') {
            return Err(format!(
                "`*.{suffix}` is more than a namespace: no client has such an identity"
            ));
        }
        known(domain, domains)?;
        return Ok(vec![prefix(format!("{domain}/ns/{namespace}/sa/"))]);
    }
    // All of a trust domain, as far as its name is told: what the suffix leaves out may be anything.
    let rest = suffix.strip_prefix(MIDDLE).or_else(|| suffix.strip_prefix("identity"));
    let ends: Vec<&str> = match rest {
        Some(rest) => rest
            .strip_prefix('.')
            .and_then(|rest| rest.split_once('.'))
            .map(|(_, domain)| domain)
            .into_iter()
            .collect(),
        // `linkerd.cluster.local`, `cluster.local` or `local`.
        None => suffix.split_once('.').map(|(_, rest)| rest).into_iter().chain([suffix]).collect(),
    };
    let found: Vec<ValueMatch> = domains
        .iter()
        .map(TrustDomain::as_str)
        .filter(|domain| {
            ends.iter().any(|end| {
                let ends_so = || domain.strip_suffix(end).is_some_and(|head| head.ends_with('.'));
                domain == end || rest.is_none() && ends_so()
            })
        })
        .map(|domain| prefix(format!("{domain}/ns/")))
        .collect();
    if found.is_empty() {
        return Err(format!("no trust domain of the mesh is meant by `*.{suffix}`"));
    }
    Ok(found)
}

fn known(domain: &str, domains: &[TrustDomain]) -> Result<(), String> {
    if domains.iter().any(|own| own.as_str() == domain) {
        return Ok(());
    }
    let own: Vec<&str> = domains.iter().map(TrustDomain::as_str).collect();
    Err(format!(
        "`{domain}` is not the trust domain of the mesh, which is `{}`: no client has the identity",
        own.join("`, `")
    ))
}

/// The identities of a service account, in every name that the trust domain has.
pub(crate) fn of_account(namespace: &str, name: &str, domains: &[TrustDomain]) -> Vec<ValueMatch> {
    domains.iter().map(|domain| exact(format!("{domain}/ns/{namespace}/sa/{name}"))).collect()
}

/// The identities of all service accounts of a namespace.
pub(crate) fn of_namespace(namespace: &str, domains: &[TrustDomain]) -> Vec<ValueMatch> {
    domains.iter().map(|domain| prefix(format!("{domain}/ns/{namespace}/sa/"))).collect()
}

fn exact(principal: String) -> ValueMatch {
    ValueMatch::Text(TextMatch::Exact(Arc::from(principal)))
}

fn prefix(principal: String) -> ValueMatch {
    ValueMatch::Text(TextMatch::Prefix(Arc::from(principal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let domains =
            ["cluster.local", "old.example"].map(|name| TrustDomain::parse(name).unwrap());
        match tests(text, &domains) {
            Ok(values) => values
                .iter()
                .map(|value| match value {
                    ValueMatch::Text(TextMatch::Exact(text)) => text.to_string(),
                    ValueMatch::Text(TextMatch::Prefix(text)) => format!("{text}*"),
                    ValueMatch::Text(TextMatch::Present) => "present".to_owned(),
                    other => format!("{other:?}"),
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(_) => "none".to_owned(),
        }
    }

    /// API.md hazards 4 and 21.
    #[test]
    fn names_of_linkerd_are_identities_of_the_mesh() {
        for (text, expected) in [
            ("*", "present"),
            (
                "web.shop.serviceaccount.identity.linkerd.cluster.local",
                "cluster.local/ns/shop/sa/web",
            ),
            ("a.b.shop.serviceaccount.identity.l5d.old.example", "old.example/ns/shop/sa/a.b"),
            ("*.shop.serviceaccount.identity.linkerd.cluster.local", "cluster.local/ns/shop/sa/*"),
            ("*.serviceaccount.identity.linkerd.cluster.local", "cluster.local/ns/*"),
            ("*.identity.linkerd.cluster.local", "cluster.local/ns/*"),
            ("*.linkerd.cluster.local", "cluster.local/ns/*"),
            ("*.cluster.local", "cluster.local/ns/*"),
            ("*.local", "cluster.local/ns/*"),
            ("*.example", "old.example/ns/*"),
            ("spiffe://cluster.local/vm/1", "cluster.local/vm/1"),
            ("web.shop.serviceaccount.identity.linkerd.local", "none"),
            ("*.shop.serviceaccount.identity.linkerd.other", "none"),
            ("*.a.shop.serviceaccount.identity.linkerd.cluster.local", "none"),
            ("*.identity.linkerd.local", "none"),
            ("*.other", "none"),
            ("web.example.com", "none"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
