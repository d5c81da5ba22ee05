//! Requests about certificates: revocation, other trust domains, tokens of machines.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use heddle_diag::error_chain;
use heddle_ident::TrustDomain;
use heddle_tls::roots_from_bundle;
use serde::Deserialize;
use serde_json::json;

use super::routes::{Answer, Failure};
use crate::state::trust::Revoke;
use crate::timestamp::{millis, text};
use crate::{ControlError, Shared};

fn bad(error: &(dyn Error + 'static)) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, error_chain(error))
}

pub(super) async fn revoke(State(shared): State<Arc<Shared>>, Json(what): Json<Revoke>) -> Answer {
    let revoked = shared.state().revoke(&what, SystemTime::now()).map_err(|error| bad(&error))?;
    Ok(Json(json!({"revoked": revoked.iter().map(ToString::to_string).collect::<Vec<_>>()})))
}

/// `POST /v1/authority/federate`.
#[derive(Deserialize)]
pub(super) struct FederateRequest {
    domain: String,
    /// Certificates in PEM, or a SPIFFE bundle in JSON; empty: the domain is not trusted any more.
    pem: String,
}

pub(super) async fn federate(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<FederateRequest>,
) -> Answer {
    let domain = TrustDomain::parse(&request.domain).map_err(|error| bad(&error))?;
    let mut state = shared.state();
    let roots = match request.pem.trim() {
        "" => Vec::new(),
        text => roots_from_bundle(state.provider(), text).map_err(|error| bad(&error))?,
    };
    let names: Vec<String> = roots.iter().map(|root| root.id.as_str().to_owned()).collect();
    state.federate(&domain, roots).map_err(ControlError::from)?;
    Ok(Json(json!({"domain": domain.to_string(), "roots": names})))
}

/// `POST /v1/authority/token`.
#[derive(Deserialize)]
pub(super) struct TokenRequest {
    r#for: String,
    lifetime_ms: u64,
}

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<TokenRequest>,
) -> Answer {
    let lifetime = Duration::from_millis(request.lifetime_ms);
    let mut state = shared.state();
    let made = state.make_token(&request.r#for, lifetime, SystemTime::now());
    let (secret, token) = made.map_err(|error| bad(&error))?;
    Ok(Json(json!({
        "token": secret.as_str(),
        "identity": token.identity.to_string(),
        "expires": text(millis(token.expires_at)),
        // What a machine knows the control plane by.
        "root": state.signing_root(),
        "port": state.machines_port(),
    })))
}
