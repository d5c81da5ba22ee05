//! RequestAuthentication: which tokens a workload takes (API.md 3.2).
//!
//! What cannot be read makes tokens invalid, never valid: a rule that is broken keeps its place with keys that verify
//! nothing, and an object of which nobody knows whom it is for lets no token pass anywhere in its namespace.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{
    AuthorizationPolicy, JwtPresence, JwtRule as Written, RequestAuthentication,
};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::authentication::{ClaimHeader, JwtKeys, JwtRule, TokenLocation};

use crate::codes;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::istio::targeting;
use crate::mesh::MeshKey;
use crate::object::{ObjectKey, by_age};
use crate::report::Report;
use crate::workload::Facts;

type Object_ = Object<RequestAuthentication>;

/// How long fetching keys may take where nothing is said.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The token rules of one RequestAuthentication, wherever it applies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct JwtRulesKey(pub(crate) ObjectKey);

impl Derivation for JwtRulesKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<[Arc<JwtRule>]> {
        let Some(AnyObject::RequestAuthentication(object)) = reader.object(&self.0) else {
            return Arc::default();
        };
        // What there is to say about the object is said by its own report.
        translate(&object, &mut Report::default()).into()
    }
}

/// The token rules that hold for a workload: of the root namespace, then of its own, older objects first.
pub(crate) fn rules_for(reader: &Reader<'_>, facts: &Facts) -> Vec<Arc<JwtRule>> {
    let root = reader.read(&MeshKey).root_namespace.clone();
    let mut namespaces = vec![root];
    if !namespaces.contains(&facts.namespace) {
        namespaces.push(facts.namespace.clone());
    }
    let mut rules = Vec::new();
    for namespace in namespaces {
        let objects = reader.objects(Topic::KindIn(Kind::RequestAuthentication, namespace));
        let mut objects: Vec<_> = objects
            .into_iter()
            .filter_map(|object| match object {
                AnyObject::RequestAuthentication(object) => Some(object),
                _ => None,
            })
            .filter(|object| targeting::of_tokens(object).applies(reader, facts))
            .collect();
        objects.sort_by(|left, right| by_age(&left.meta, &right.meta));
        for object in objects {
            let key = ObjectKey::of(&AnyObject::RequestAuthentication(object));
            rules.extend(reader.read(&JwtRulesKey(key)).iter().cloned());
        }
    }
    rules
}

/// The rules of an object, for every workload alike.
fn translate(object: &Object_, report: &mut Report) -> Vec<Arc<JwtRule>> {
    let spec = &object.spec;
    let all_broken =
        targeting::of_tokens(object).is_broken() || object.is_field_broken(spec.at, "jwtRules");
    let mut rules: Vec<Arc<JwtRule>> = spec
        .jwt_rules
        .iter()
        .map(|written| {
            let mut rule = rule(object, written, report);
            if all_broken || object.is_broken(written.at) {
                rule.keys = JwtKeys::Unusable;
            }
            Arc::new(rule)
        })
        .collect();
    if rules.is_empty() && all_broken {
        // Nobody knows which tokens were meant: none is valid.
        let mut unusable = unusable(object);
        unusable.origin = object.origin_of(spec.at, "jwtRules");
        rules.push(Arc::new(unusable));
    }
    rules
}

/// A rule that takes every issuer's tokens at the usual places, and finds them all invalid.
fn unusable(object: &Object_) -> JwtRule {
    JwtRule {
        origin: object.origin().clone(),
        issuer: Arc::default(),
        audiences: Vec::new(),
        keys: JwtKeys::Unusable,
        locations: default_locations(),
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        space_delimited_claims: Vec::new(),
        fetch_timeout: FETCH_TIMEOUT,
        required: false,
    }
}

fn default_locations() -> Vec<TokenLocation> {
    vec![
        TokenLocation::Header("authorization".into(), "Bearer ".into()),
        TokenLocation::Query("access_token".into()),
    ]
}

fn shared(texts: &[String]) -> Vec<Arc<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn rule(object: &Object_, written: &Written, report: &mut Report) -> JwtRule {
    let issuer = written.issuer.as_deref().unwrap_or_default();
    let mut claim_headers: Vec<ClaimHeader> = Vec::new();
    for claim in &written.output_claim_to_headers {
        let header: Arc<str> = claim.header.to_ascii_lowercase().into();
        if claim_headers.iter().any(|other| other.header == header) {
            let message = format!("two claims go into the header `{header}`");
            report.rejected(object.origin_at(claim.at), message);
            continue;
        }
        let claim = claim.claim.split('.').map(Into::into).collect();
        claim_headers.push(ClaimHeader { header, claim });
    }
    report.precise(written.timeout, || object.origin_of(written.at, "timeout"));
    let payload_header = written.output_payload_to_header.as_deref();
    JwtRule {
        origin: object.origin_at(written.at),
        issuer: issuer.into(),
        audiences: shared(&written.audiences),
        keys: keys(object, written, report),
        locations: locations(written),
        forward: written.forward_original_token.unwrap_or(false),
        payload_header: payload_header
            .filter(|name| !name.is_empty())
            .map(|name| name.to_ascii_lowercase().into()),
        claim_headers,
        space_delimited_claims: shared(&written.space_delimited_claims),
        fetch_timeout: written
            .timeout
            .filter(|timeout| timeout.as_nanos() > 0)
            .map_or(FETCH_TIMEOUT, heddle_api::Duration::as_std),
        required: written.presence == Some(JwtPresence::Required),
    }
}

fn locations(written: &Written) -> Vec<TokenLocation> {
    let headers = written.from_headers.iter().map(|header| {
        let prefix = header.prefix.as_deref().unwrap_or_default();
        TokenLocation::Header(header.name.to_ascii_lowercase().into(), prefix.into())
    });
    let params = written.from_params.iter().map(|name| TokenLocation::Query(name.as_str().into()));
    let cookies =
        written.from_cookies.iter().map(|name| TokenLocation::Cookie(name.as_str().into()));
    let locations: Vec<TokenLocation> = headers.chain(params).chain(cookies).collect();
    if locations.is_empty() { default_locations() } else { locations }
}

fn keys(object: &Object_, written: &Written, report: &mut Report) -> JwtKeys {
    if let Some(text) = written.jwks.as_deref().filter(|text| !text.is_empty()) {
        let is_set = serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| {
            value.get("keys").is_some_and(serde_json::Value::is_array) || value.get("kty").is_some()
        });
        if !is_set {
            let message = "`jwks` is not a key set in JSON: no token of the issuer is valid";
            report.rejected(object.origin_of(written.at, "jwks"), message);
            return JwtKeys::Unusable;
        }
        return JwtKeys::Inline(text.into());
    }
    let url = written.jwks_uri.as_deref().or(written.jwks_uri_old.as_deref());
    if let Some(url) = url.filter(|url| !url.is_empty()) {
        return JwtKeys::Url(url.into());
    }
    let Some(issuer) = written.issuer.as_deref().filter(|issuer| !issuer.is_empty()) else {
        let message = "a rule needs an issuer, `jwksUri` or `jwks`: no token is valid by it";
        report.rejected(object.origin_at(written.at), message);
        return JwtKeys::Unusable;
    };
    if !issuer.starts_with("http://") && !issuer.starts_with("https://") {
        let message = format!(
            "the keys of `{issuer}` cannot be found out, since it is no URL: no token of it is valid"
        );
        report.push(
            heddle_diag::Diagnostic::warning(
                codes::NO_KEYS,
                object.origin_of(written.at, "issuer"),
                message,
            )
            .hint("say where they are with `jwksUri`, or write them out with `jwks`"),
        );
        return JwtKeys::Unusable;
    }
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    JwtKeys::Discovery(format!("{base}/.well-known/openid-configuration").into())
}

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Arc<Object_>, report: &mut Report) {
    let spec = &object.spec;
    translate(object, report);
    let targeting = targeting::of_tokens(object);
    crate::istio::selector::check(&object.written, spec.at, spec.selector.as_ref(), report);
    targeting.report(reader, report);
    if spec.jwt_rules.is_empty() && object.written.is_sound() {
        let message = "without `jwtRules` no token is looked at";
        report.warning(codes::INERT, object.origin().clone(), message);
        return;
    }
    let all_required =
        spec.jwt_rules.iter().any(|rule| rule.presence == Some(JwtPresence::Required));
    if !all_required && !spec.jwt_rules.is_empty() && !is_required_by_policy(reader, object) {
        report.push(
            heddle_diag::Diagnostic::info(
                codes::TOKEN_OPTIONAL,
                object.origin().clone(),
                "accepts requests without a token",
            )
            .hint("an AuthorizationPolicy that allows `requestPrincipals: [\"*\"]` requires one"),
        );
    }
}

/// Whether some policy that may meet the same workloads asks who a token is of.
fn is_required_by_policy(reader: &Reader<'_>, object: &Object_) -> bool {
    let root = reader.read(&MeshKey).root_namespace.clone();
    let own: Arc<str> = object.meta.namespace.as_str().into();
    [own, root].into_iter().any(|namespace| {
        let objects = reader.objects(Topic::KindIn(Kind::AuthorizationPolicy, namespace));
        objects.iter().any(|policy| match policy {
            AnyObject::AuthorizationPolicy(policy) => {
                let mine = object.spec.selector.as_ref().map(|selector| &selector.match_labels);
                let theirs = policy.spec.selector.as_ref().map(|selector| &selector.match_labels);
                let may_meet = match (mine, theirs) {
                    (Some(mine), Some(theirs)) => selects_the_same(mine, theirs),
                    _ => true,
                };
                may_meet && asks_for_token(policy)
            }
            _ => false,
        })
    })
}

/// Whether two selectors can take the same workload: no label is wanted with two values.
fn selects_the_same(
    one: &std::collections::BTreeMap<String, String>,
    other: &std::collections::BTreeMap<String, String>,
) -> bool {
    one.iter().all(|(key, value)| other.get(key).is_none_or(|wanted| wanted == value))
}

fn asks_for_token(policy: &Object<AuthorizationPolicy>) -> bool {
    policy.spec.rules.iter().any(|rule| {
        let by_source = rule.from.iter().filter_map(|from| from.source.as_ref()).any(|source| {
            !source.request_principals.is_empty() || !source.not_request_principals.is_empty()
        });
        by_source || rule.when.iter().any(|condition| condition.key.starts_with("request.auth."))
    })
}
