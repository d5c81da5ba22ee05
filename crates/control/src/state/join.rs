//! Join tokens: made for an identity, given away once, and good for one certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_cert::{HolderId, JoinError, JoinToken, JoinTokens, TokenHash};
use heddle_ident::{ParseSpiffeIdError, SpiffeId, WorkloadId};
use heddle_proto::certificate::{JoinResponse, Machine};
use heddle_store::{Store, StoreError};
use heddle_tls::{DataKeyError, NewToken, requested_identity, token_hash};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::State;
use super::machines::{MachineError, machine_holder};
use crate::ControlError;
use crate::authority::CertificateAuthorityError;
use crate::timestamp::{millis, text};

/// Where tokens are stored: their hashes, never they themselves.
const DOCUMENT: &str = "join-tokens";

/// A token as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    hash: Vec<u8>,
    identity: String,
    expires_ms: u64,
    used_ms: Option<u64>,
}

/// No token was made, or nothing was given for one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The authority refused.
    #[error("the certificate cannot be signed")]
    Authority(#[from] CertificateAuthorityError),
    /// The name is no service account's.
    #[error("{0:?} is not namespace/service-account")]
    Name(String),
    /// What was named cannot be an identity.
    #[error("the service account has no identity")]
    Identity(#[from] ParseSpiffeIdError),
    /// It is not good for what was asked.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// What the machine says it is cannot be.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It has not joined, or not any more.
    #[error("{0} is no machine that has joined; it needs a token")]
    NotAMachine(WorkloadId),
    /// The state could not be changed.
    #[error(transparent)]
    Control(#[from] Box<ControlError>),
    /// No randomness.
    #[error("no token can be drawn")]
    NoRandomness(#[from] DataKeyError),
    /// What was presented has not the form of a token.
    #[error("that is not a join token")]
    NotAToken,
    /// The request names nobody.
    #[error("the signing request does not name exactly one SPIFFE id")]
    NoIdentity,
    /// The store failed.
    #[error("the token cannot be stored")]
    Store(#[from] StoreError),
}

/// Reads tokens back.
pub(super) fn load(store: &Store) -> Result<JoinTokens, ControlError> {
    let Some(document) = store.document(DOCUMENT)? else { return Ok(JoinTokens::default()) };
    let stored: Vec<Stored> = serde_json::from_slice(&document).map_err(ControlError::Document)?;
    let time = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    // One that cannot be read any more gives nothing, which is what a token that is not known gives.
    let tokens = stored.into_iter().filter_map(|token| {
        let used_at = token.used_ms.map(time);
        let identity = SpiffeId::parse(&token.identity).ok()?;
        let known = JoinToken { identity, expires_at: time(token.expires_ms), used_at };
        Some((TokenHash(token.hash.try_into().ok()?), known))
    });
    Ok(JoinTokens::restore(tokens))
}

impl State {
    /// Makes a token for a service account (`namespace/name`); its text is nowhere else.
    pub(crate) fn make_token(
        &mut self,
        name: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(Zeroizing<String>, JoinToken), TokenError> {
        let not_a_name = || TokenError::Name(name.to_owned());
        let (namespace, account) = name
            .split_once('/')
            .filter(|(_, account)| !account.contains('/'))
            .ok_or_else(not_a_name)?;
        let domain = self.authority.domain();
        let identity = SpiffeId::for_service_account(domain, namespace, account)?;
        let NewToken { text, hash } = NewToken::generate()?;
        let token = self.joins.add(now, hash, identity, lifetime)?;
        self.store_tokens()?;
        tracing::info!(token = %hash, identity = %token.identity, "a join token was made");
        Ok((text, token))
    }

    /// Signs a machine's request for what its token is good for, and for nothing else; what it runs becomes a part of the
    /// mesh.
    pub(crate) fn join(
        &mut self,
        presented: &str,
        request: &[u8],
        machine: Option<&Machine>,
        now: SystemTime,
    ) -> Result<JoinResponse, TokenError> {
        let hash = token_hash(presented).ok_or(TokenError::NotAToken)?;
        let asked = requested_identity(request).ok_or(TokenError::NoIdentity)?;
        // Tried first: whoever has no good token learns nothing about objects, and who writes a wrong name keeps the token.
        self.joins.clone().redeem(now, hash, &asked)?;
        let machine = machine.map(|machine| self.check_machine(&asked, machine)).transpose()?;
        self.joins.redeem(now, hash, &asked)?;
        // Used up before anything is given for it, also if the process is killed in between.
        self.store_tokens()?;
        let holder = match &machine {
            Some((id, _)) => machine_holder(id),
            None => HolderId::new(Arc::from(format!("join/{hash}"))),
        };
        let response = self.authority.sign(&self.store, now, &holder, &asked, request)?;
        tracing::info!(token = %hash, identity = %asked, "a machine has joined");
        if let Some((id, record)) = &machine {
            self.admit(id, record.clone(), now).map_err(Box::new)?;
        }
        self.touch();
        self.join_response(response, machine.as_ref().map(|(id, record)| (id, record)))
    }

    /// Every token that is remembered, without its text, which nobody has.
    pub(super) fn tokens(&self, now: SystemTime) -> Vec<Value> {
        let describe = |(hash, token): (&TokenHash, &JoinToken)| {
            json!({
                "id": hash.to_string(),
                "identity": token.identity.to_string(),
                "expires": text(millis(token.expires_at)),
                "used": token.used_at.map(|at| text(millis(at))),
                "state": match token.used_at {
                    Some(_) => "used",
                    None if token.expires_at <= now => "expired",
                    None => "waiting",
                },
            })
        };
        self.joins.iter().map(describe).collect()
    }

    fn store_tokens(&self) -> Result<(), StoreError> {
        let stored = self.joins.iter().map(|(hash, token)| Stored {
            hash: hash.0.to_vec(),
            identity: token.identity.to_string(),
            expires_ms: millis(token.expires_at),
            used_ms: token.used_at.map(millis),
        });
        // Texts and numbers have no way to fail.
        let document = serde_json::to_vec(&stored.collect::<Vec<_>>()).unwrap_or_default();
        self.store.put_document(DOCUMENT, &document)
    }
}
