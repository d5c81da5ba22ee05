//! Values of an AuthorizationPolicy: what each attribute takes, and how its texts match.

use std::sync::Arc;

use heddle_api::istio::{Action, AuthorizationPolicy, Condition as Written};
use heddle_api::{At, Object};
use heddle_ident::Cidr;
use heddle_ir::authorization::{Attribute, Condition, ValueMatch};
use heddle_ir::matching::TextMatch;

use crate::codes;
use crate::mesh::Mesh;
use crate::report::Report;

/// What a policy is translated with.
pub(super) struct Context<'a> {
    pub(super) object: &'a Object<AuthorizationPolicy>,
    pub(super) mesh: &'a Mesh,
}

/// A condition that cannot be checked.
pub(super) fn poisoned(attribute: Attribute) -> Condition {
    Condition { attribute, values: vec![ValueMatch::Poisoned], negate: false }
}

/// A condition on the texts of a field.
pub(super) fn condition(
    context: &Context<'_>,
    at: At,
    field: &str,
    attribute: &Attribute,
    texts: &[String],
    negate: bool,
    report: &mut Report,
) -> Condition {
    if context.object.written.field(at, field).is_some_and(|at| context.object.is_broken(at)) {
        return poisoned(attribute.clone());
    }
    let mut values = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match value(context, attribute, text) {
            Ok(matches) => values.extend(matches),
            Err(problem) => {
                let origin = context.object.origin_of_item(at, field, index);
                report.rejected(origin, format!("{problem}: {}", closed(context)));
                values.push(ValueMatch::Poisoned);
            }
        }
    }
    Condition { attribute: attribute.clone(), values, negate }
}

/// What becomes of a rule that cannot be checked.
fn closed(context: &Context<'_>) -> &'static str {
    match context.object.spec.action {
        Some(Action::Custom) => "the rule asks about whatever its other conditions describe",
        Some(Action::Deny) => "the rule denies whatever its other conditions describe",
        Some(Action::Audit) => "the rule marks nothing",
        Some(Action::Allow) | None => "the rule never matches",
    }
}

/// The matchers of one text: more than one where a principal has several trust domains.
fn value(
    context: &Context<'_>,
    attribute: &Attribute,
    text: &str,
) -> Result<Vec<ValueMatch>, String> {
    if text.is_empty() {
        return Err("an empty value".to_owned());
    }
    let one = |value| Ok(vec![value]);
    match attribute {
        Attribute::DestinationPort => match text.parse::<u16>() {
            Ok(port) if port > 0 => one(ValueMatch::Port(port)),
            _ => Err(format!("`{text}` is not a port")),
        },
        Attribute::SourceAddress | Attribute::RemoteAddress | Attribute::DestinationAddress => {
            Cidr::parse(text)
                .map(|range| vec![ValueMatch::Range(range)])
                .map_err(|error| error.to_string())
        }
        Attribute::SourcePrincipal => Ok(principals(context.mesh, text)
            .iter()
            .map(|principal| ValueMatch::Text(text_match(principal)))
            .collect()),
        Attribute::SourceNamespace => one(if text == "*" {
            ValueMatch::Text(TextMatch::Present)
        } else if text.contains('*') {
            ValueMatch::Glob(text.into())
        } else {
            ValueMatch::Text(TextMatch::Exact(text.into()))
        }),
        Attribute::SourceServiceAccount => {
            if text.contains('*') || text.matches('/').count() > 1 {
                return Err(format!(
                    "`{text}` is not a service account (`namespace/name` or `name`)"
                ));
            }
            let full = match text.split_once('/') {
                Some(_) => text.to_owned(),
                None => format!("{}/{text}", context.object.meta.namespace),
            };
            one(ValueMatch::Text(TextMatch::Exact(full.into())))
        }
        Attribute::RequestPrincipal => one(request_principal(text)),
        Attribute::Path if text.contains("{*}") || text.contains("{**}") => template(text),
        Attribute::Host => one(ValueMatch::Text(text_match(&text.to_ascii_lowercase()))),
        _ => one(ValueMatch::Text(text_match(text))),
    }
}

/// `issuer/subject`, of which each is matched by itself: an issuer with slashes is never taken for another one.
fn request_principal(text: &str) -> ValueMatch {
    match text.rsplit_once('/') {
        Some((issuer, subject)) => {
            ValueMatch::IssuerAndSubject(text_match(issuer), text_match(subject))
        }
        None => ValueMatch::Text(text_match(text)),
    }
}

/// Istio's rules for path templates: an operator fills a whole segment, and `{**}` is the last one.
fn template(text: &str) -> Result<Vec<ValueMatch>, String> {
    let mut last = false;
    for segment in text.split('/') {
        let operator = matches!(segment, "{*}" | "{**}");
        if (!operator && segment.contains(['{', '}', '*'])) || (operator && last) {
            return Err(format!("`{text}` is not a path template"));
        }
        last |= segment == "{**}";
    }
    Ok(vec![ValueMatch::PathTemplate(text.into())])
}

/// `v` exact, `v*` prefix, `*v` suffix, `*` present.
fn text_match(text: &str) -> TextMatch {
    if text == "*" {
        return TextMatch::Present;
    }
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(suffix), _) => TextMatch::Suffix(suffix.into()),
        (None, Some(prefix)) => TextMatch::Prefix(prefix.into()),
        (None, None) => TextMatch::Exact(text.into()),
    }
}

/// A principal in the mesh's own trust domain, by whichever of its names, is meant in all of them.
fn principals(mesh: &Mesh, text: &str) -> Vec<String> {
    let Some((domain, rest)) = text.split_once('/') else { return vec![text.to_owned()] };
    let own = || {
        std::iter::once(mesh.trust_domain.as_str())
            .chain(mesh.trust_domain_aliases.iter().map(heddle_ident::TrustDomain::as_str))
    };
    // Istio takes `cluster.local` for the local trust domain, whatever that is called.
    if domain != "cluster.local" && !own().any(|own| own == domain) {
        return vec![text.to_owned()];
    }
    own().map(|domain| format!("{domain}/{rest}")).collect()
}

/// A condition of `when`.
pub(super) fn when(
    context: &Context<'_>,
    written: &Written,
    report: &mut Report,
) -> Vec<Condition> {
    let object = context.object;
    let of_key = || object.origin_of(written.at, "key");
    if object.is_broken(written.at) {
        return vec![poisoned(Attribute::DestinationPort)];
    }
    let attribute = match attribute(&written.key) {
        Ok(attribute) => attribute,
        Err(Unknown::Envoy) => {
            let why = format!(
                "`{}` is an attribute of an Envoy filter: {}",
                written.key,
                closed(context)
            );
            report.unsupported(of_key(), why);
            return vec![poisoned(Attribute::DestinationPort)];
        }
        Err(Unknown::Nonsense) => {
            let message = format!("`{}` is not an attribute: {}", written.key, closed(context));
            report.push(
                heddle_diag::Diagnostic::error(codes::UNKNOWN_ATTRIBUTE, of_key(), message)
                    .hint("for conditions of your own use an external authoriser (action CUSTOM)"),
            );
            return vec![poisoned(Attribute::DestinationPort)];
        }
    };
    let mut conditions = Vec::new();
    for (field, texts, negate) in
        [("values", &written.values, false), ("notValues", &written.not_values, true)]
    {
        if !texts.is_empty() {
            conditions
                .push(condition(context, written.at, field, &attribute, texts, negate, report));
        }
    }
    if conditions.is_empty() {
        report.rejected(object.origin_at(written.at), "a condition needs `values` or `notValues`");
        conditions.push(poisoned(attribute));
    }
    conditions
}

enum Unknown {
    Envoy,
    Nonsense,
}

fn attribute(key: &str) -> Result<Attribute, Unknown> {
    let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
    if let Some(name) = header.filter(|name| !name.is_empty()) {
        // Others are nothing that a request of every version has.
        let is_known = matches!(name, ":authority" | ":method" | ":path");
        if name.starts_with(':') && !is_known {
            return Err(Unknown::Nonsense);
        }
        return Ok(Attribute::RequestHeader(name.to_ascii_lowercase().into()));
    }
    if let Some(path) = key.strip_prefix("request.auth.claims") {
        return claim_path(path).map(Attribute::RequestClaim).ok_or(Unknown::Nonsense);
    }
    Ok(match key {
        "source.ip" => Attribute::SourceAddress,
        "remote.ip" => Attribute::RemoteAddress,
        "source.namespace" => Attribute::SourceNamespace,
        "source.principal" => Attribute::SourcePrincipal,
        "source.serviceAccount" => Attribute::SourceServiceAccount,
        "source.trustDomain" => Attribute::SourceTrustDomain,
        "destination.ip" => Attribute::DestinationAddress,
        "destination.port" => Attribute::DestinationPort,
        "connection.sni" => Attribute::ServerName,
        "request.auth.principal" => Attribute::RequestPrincipal,
        "request.auth.audiences" => Attribute::RequestAudience,
        "request.auth.presenter" => Attribute::RequestPresenter,
        _ if key.starts_with("experimental.envoy.filters.") => return Err(Unknown::Envoy),
        _ => return Err(Unknown::Nonsense),
    })
}

/// `[a][b]`: the claim `b` inside of the claim `a`.
fn claim_path(text: &str) -> Option<Vec<Arc<str>>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let path: Vec<Arc<str>> = inner.split("][").map(Into::into).collect();
    path.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(path)
}
