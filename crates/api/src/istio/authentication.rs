//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    PeerAuthentication {
        "mtls" => mtls: Option<MutualTls>,
        "portLevelMtls" => port_level_mtls: BTreeMap<String, MutualTls> [count(1, usize::MAX)],
        "selector" => selector: Option<WorkloadSelector>,
    }
    // CEL has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true
}

object! {
    /// TODO.
    MutualTls {
        "mode" => mode: Option<MutualTlsMode>,
    }
}

object! {
    /// TODO.
    RequestAuthentication {
        "jwtRules" => jwt_rules: Vec<JwtRule> [count(0, 4096)],
        "selector" => selector: Option<WorkloadSelector>,
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// TODO.
    JwtRule {
        "audiences" => audiences: Vec<String> [item_len(1, usize::MAX)],
        "forwardOriginalToken" => forward_original_token: Option<bool>,
        "fromCookies" => from_cookies: Vec<String> [item_len(1, usize::MAX)],
        "fromHeaders" => from_headers: Vec<JwtHeader>,
        "fromParams" => from_params: Vec<String> [item_len(1, usize::MAX)],
        "issuer" => issuer: Option<String> [len(1, usize::MAX)],
        "jwks" => jwks: Option<String>,
        "jwks_uri" => jwks_uri_old: Option<String> [len(1, 2048)],
        "jwksUri" => jwks_uri: Option<String> [len(1, 2048)],
        "outputClaimToHeaders" => output_claim_to_headers: Vec<ClaimToHeader>,
        "outputPayloadToHeader" => output_payload_to_header: Option<String>,
        "presence" => presence: Option<JwtPresence>,
        "spaceDelimitedClaims" => space_delimited_claims: Vec<String> [count(0, 64), item_len(1, usize::MAX)],
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
    at_most_one ["jwksUri", "jwks_uri", "jwks"]
}

object! {
    /// TODO.
    JwtHeader {
        "name" => name: String [required, len(1, usize::MAX)],
        "prefix" => prefix: Option<String>,
    }
}

object! {
    /// TODO.
    ClaimToHeader {
        "claim" => claim: String [required, len(1, usize::MAX)],
        "header" => header: String [required, len(1, usize::MAX), check(check::header_name)],
    }
}

choice! {
    /// TODO.
    MutualTlsMode {
        "UNSET" => Unset,
        "DISABLE" => Disable,
        "PERMISSIVE" => Permissive,
        "STRICT" => Strict,
    }
}

choice! {
    /// TODO.
    JwtPresence {
        "OPTIONAL" => Optional,
        "REQUIRED" => Required,
    }
}
