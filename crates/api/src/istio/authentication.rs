//! PeerAuthentication and RequestAuthentication (`security.istio.io`).

use std::collections::BTreeMap;

use super::common::{PolicyTargetReference, WorkloadSelector};
use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::value::Duration;

object! {
    /// Whether callers must use mutual TLS.
    PeerAuthentication {
        /// What holds for all ports.
        "mtls" => mtls: Option<MutualTls>,
        /// What holds for single ports of the workload, by number.
        "portLevelMtls" => port_level_mtls: BTreeMap<String, MutualTls> [count(1, usize::MAX), key_check(check::port_number)],
        /// Workloads it applies to; absent means the namespace, or the mesh in the root namespace.
        "selector" => selector: Option<WorkloadSelector>,
    }
    check ports_need_a_selector
}

object! {
    /// Whether callers must use mutual TLS.
    MutualTls {
        /// Absent and `UNSET` take over what the level above says.
        "mode" => mode: Option<MutualTlsMode>,
    }
}

object! {
    /// Which tokens are accepted. A request without token passes.
    RequestAuthentication {
        /// The issuers that are accepted.
        "jwtRules" => jwt_rules: Vec<JwtRule> [count(0, 4096)],
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
        /// The former form of `targetRefs`.
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// Tokens of one issuer.
    JwtRule {
        /// Any of these must be among the token's audiences; empty means it is not checked.
        "audiences" => audiences: Vec<String> [item_len(1, usize::MAX)],
        /// Whether the token is passed on.
        "forwardOriginalToken" => forward_original_token: Option<bool>,
        /// Cookies that hold tokens.
        "fromCookies" => from_cookies: Vec<String> [item_len(1, usize::MAX)],
        /// Headers that hold tokens.
        "fromHeaders" => from_headers: Vec<JwtHeader>,
        /// Query parameters that hold tokens.
        "fromParams" => from_params: Vec<String> [item_len(1, usize::MAX)],
        /// The issuer.
        "issuer" => issuer: Option<String> [len(1, usize::MAX)],
        /// Keys, inline.
        "jwks" => jwks: Option<String>,
        /// The former spelling of `jwksUri`.
        "jwks_uri" => jwks_uri_old: Option<String> [len(1, 2048), check(check::http_url)],
        /// Where the keys are.
        "jwksUri" => jwks_uri: Option<String> [len(1, 2048), check(check::http_url)],
        /// Claims passed on as headers.
        "outputClaimToHeaders" => output_claim_to_headers: Vec<ClaimToHeader>,
        /// Header that gets the whole payload.
        "outputPayloadToHeader" => output_payload_to_header: Option<String>,
        /// Whether a token must be there.
        "presence" => presence: Option<JwtPresence>,
        /// Claims that are split at spaces.
        "spaceDelimitedClaims" => space_delimited_claims: Vec<String> [count(0, 64), item_len(1, usize::MAX)],
        /// Time to fetch the keys; absent means 5 s.
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
    at_most_one ["jwksUri", "jwks_uri", "jwks"]
}

object! {
    /// A header that holds tokens.
    JwtHeader {
        /// Its name.
        "name" => name: String [required, len(1, usize::MAX)],
        /// What stands before the token.
        "prefix" => prefix: Option<String>,
    }
}

object! {
    /// A claim that is passed on.
    ClaimToHeader {
        /// The claim.
        "claim" => claim: String [required, len(1, usize::MAX)],
        /// The header.
        "header" => header: String [required, len(1, usize::MAX), check(check::header_name)],
    }
}

choice! {
    /// Whether a workload takes plaintext.
    MutualTlsMode {
        /// As the level above says; `PERMISSIVE` at the top.
        "UNSET" => Unset,
        /// Plaintext only.
        "DISABLE" => Disable,
        /// Both.
        "PERMISSIVE" => Permissive,
        /// Mutual TLS only.
        "STRICT" => Strict,
    }
}

choice! {
    /// Whether a token must be there.
    JwtPresence {
        "OPTIONAL" => Optional,
        "REQUIRED" => Required,
    }
}

/// A port belongs to a workload, so a policy for a whole namespace cannot name one.
fn ports_need_a_selector(decoder: &mut Decoder<'_>, policy: &PeerAuthentication) {
    let selects =
        policy.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    if let (false, Some(ports)) = (selects, decoder.tree().field(policy.at, "portLevelMtls")) {
        let hint = "add a selector with labels: ports belong to workloads".to_owned();
        decoder.error(codes::RULE, ports, "`portLevelMtls` needs a `selector`", Some(hint));
    }
}
