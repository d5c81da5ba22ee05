//! Tokens for the workload's application (SPIFFE JWT-SVID): the control plane signs them, and says the keys with which the
//! proxy validates those of others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_proto::certificate::{TokenRequest, TokenResponse};
use heddle_proto::workload_api::{
    JwtSvid, Kind, ListValue, Struct, ValidateJwtSvidRequest, ValidateJwtSvidResponse, Value,
};
use heddle_rpc::Status;
use heddle_rpc::client::Connection;
use heddle_rpc::workload_api::TokenCall;
use heddle_tls::jwt::{JwtError, JwtSvidError, KeySet, verify_svid};
use tokio::time::Instant;
use tracing::warn;

/// Keys that are older are asked for again before they are used.
const FRESH: Duration = Duration::from_mins(5);
/// After keys were asked for since a token named an unknown one, they are not asked for again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Tokens that are remembered, to be given out again.
const REMEMBERED_MAX: usize = 64;
/// For one call to the control plane.
const CALL_MAX: Duration = Duration::from_secs(5);

/// What is known of keys and tokens. Shared by the calls under way.
#[derive(Clone, Default)]
pub(super) struct ApplicationTokens(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    texts: BTreeMap<String, String>,
    keys: BTreeMap<String, Arc<KeySet>>,
    asked_at: Option<Instant>,
    /// By audiences: a token, until when it is given out again.
    tokens: BTreeMap<Vec<String>, (JwtSvid, SystemTime)>,
}

impl ApplicationTokens {
    /// Begins to answer a call; it ends by itself.
    pub(super) fn answer(&self, call: TokenCall, connection: Option<Connection>) {
        let own = self.clone();
        tokio::spawn(async move {
            // Whoever asked may have gone: then nobody is told.
            match call {
                TokenCall::Keys(answer) => drop(answer.send(own.keys(connection.as_ref()).await)),
                TokenCall::Mint(audiences, answer) => {
                    drop(answer.send(own.mint(audiences, connection.as_ref()).await));
                }
                TokenCall::Validate(request, answer) => {
                    drop(answer.send(own.validate(&request, connection.as_ref()).await));
                }
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(
        &self,
        audiences: Vec<String>,
        connection: Option<&Connection>,
    ) -> Result<TokenResponse, Status> {
        let away = || Status::unavailable("the control plane is away; tokens are signed there");
        let connection = connection.ok_or_else(away)?;
        let call = connection.create_token(TokenRequest { audiences });
        let answer = tokio::time::timeout(CALL_MAX, call).await.map_err(|_| away())??;
        let mut keys = BTreeMap::new();
        for (domain, text) in &answer.key_sets {
            match KeySet::parse(text) {
                Ok(set) => drop(keys.insert(domain.clone(), Arc::new(set))),
                Err(error) => warn!(domain, %error, "keys of tokens cannot be read"),
            }
        }
        self.with(|known| {
            known.texts.clone_from(&answer.key_sets);
            known.keys = keys;
            known.asked_at = Some(Instant::now());
        });
        Ok(answer)
    }

    /// Asks for keys where those at hand are older than that. Without a control plane those at hand are used.
    async fn follow(
        &self,
        age_max: Duration,
        connection: Option<&Connection>,
    ) -> Result<(), Status> {
        let asked_at = self.with(|known| known.asked_at);
        if asked_at.is_some_and(|at| at.elapsed() < age_max) {
            return Ok(());
        }
        match self.ask(Vec::new(), connection).await {
            Err(status) if asked_at.is_none() => Err(status),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn keys(
        &self,
        connection: Option<&Connection>,
    ) -> Result<BTreeMap<String, String>, Status> {
        self.follow(Duration::ZERO, connection).await?;
        Ok(self.with(|known| known.texts.clone()))
    }

    async fn mint(
        &self,
        mut audiences: Vec<String>,
        connection: Option<&Connection>,
    ) -> Result<JwtSvid, Status> {
        audiences.sort();
        audiences.dedup();
        let now = SystemTime::now();
        let remembered = self.with(|known| {
            known.tokens.retain(|_, (_, until)| now < *until);
            known.tokens.get(&audiences).map(|(token, _)| token.clone())
        });
        if let Some(token) = remembered {
            return Ok(token);
        }
        let answer = self.ask(audiences.clone(), connection).await?;
        let token = JwtSvid { spiffe_id: answer.identity, svid: answer.token, hint: String::new() };
        let end = UNIX_EPOCH + Duration::from_millis(answer.expires_ms);
        let left = end.duration_since(now).unwrap_or_default();
        self.with(|known| {
            if known.tokens.len() < REMEMBERED_MAX {
                known.tokens.insert(audiences, (token.clone(), now + left / 2));
            }
        });
        Ok(token)
    }

    async fn validate(
        &self,
        request: &ValidateJwtSvidRequest,
        connection: Option<&Connection>,
    ) -> Result<ValidateJwtSvidResponse, Status> {
        self.follow(FRESH, connection).await?;
        let mut verified = self.verify(request);
        if matches!(verified, Err(JwtSvidError::Token(JwtError::NoKey))) {
            // It may be newer than the keys.
            self.follow(ASK_AGAIN, connection).await?;
            verified = self.verify(request);
        }
        verified.map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn verify(
        &self,
        request: &ValidateJwtSvidRequest,
    ) -> Result<ValidateJwtSvidResponse, JwtSvidError> {
        let keys = self.with(|known| known.keys.clone());
        let (identity, claims) =
            verify_svid(&request.svid, &request.audience, &keys, SystemTime::now())?;
        let fields = claims.iter().map(|(name, value)| (name.clone(), claim(value))).collect();
        let claims = Some(Struct { fields });
        Ok(ValidateJwtSvidResponse { spiffe_id: identity.to_string(), claims })
    }
}

/// A claim as the Workload API has it.
fn claim(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::Null(0),
        Json::Bool(flag) => Kind::Bool(*flag),
        Json::Number(number) => Kind::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::Text(text.clone()),
        Json::Array(list) => Kind::List(ListValue { values: list.iter().map(claim).collect() }),
        Json::Object(members) => {
            let fields = members.iter().map(|(name, value)| (name.clone(), claim(value)));
            Kind::Struct(Struct { fields: fields.collect() })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_keep_their_kinds() {
        let value = claim(&json!({"aud": ["db"], "exp": 1.5, "ok": true, "none": null}));
        let Some(Kind::Struct(all)) = value.kind else { panic!() };
        assert_eq!(all.fields["exp"].kind, Some(Kind::Number(1.5)));
        assert_eq!(all.fields["ok"].kind, Some(Kind::Bool(true)));
        assert_eq!(all.fields["none"].kind, Some(Kind::Null(0)));
        let Some(Kind::List(list)) = &all.fields["aud"].kind else { panic!() };
        assert_eq!(list.values[0].kind, Some(Kind::Text("db".into())));
    }

    #[tokio::test]
    async fn without_a_control_plane_nothing_is_signed_and_nothing_is_believed() {
        let tokens = ApplicationTokens::default();
        let unsigned = tokens.mint(vec!["db".into()], None).await.unwrap_err();
        assert_eq!(unsigned.code(), heddle_rpc::Code::Unavailable);
        let request = ValidateJwtSvidRequest { audience: "db".into(), svid: "x.y.z".into() };
        let unknown = tokens.validate(&request, None).await.unwrap_err();
        assert_eq!(unknown.code(), heddle_rpc::Code::Unavailable);
    }
}
