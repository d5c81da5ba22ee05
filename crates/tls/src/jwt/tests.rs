//! Tokens made here, by keys made here.

use std::borrow::Cow;
use std::cell::RefCell;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_diag::Origin;
use heddle_ir::authentication::{ClaimHeader, JwtKeys, TokenLocation};
use heddle_ir::request::{ClaimValue, RequestHead};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Signer {
    Elliptic(EcdsaKeyPair, &'static str),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn p256() -> Self {
        let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::Elliptic(key, "P-256")
    }

    fn p384() -> Self {
        let key = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self::Elliptic(key, "P-384")
    }

    fn p521() -> Self {
        let key = EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        Self::Elliptic(key, "P-521")
    }

    fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    fn key(&self) -> Value {
        match self {
            Self::Elliptic(key, curve) => {
                let (x, y) = key.public_key().as_ref()[1..]
                    .split_at((key.public_key().as_ref().len() - 1) / 2);
                json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)})
            }
            Self::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key())})
            }
            Self::Rsa(key) => {
                let public = key.public_key();
                let n = encoded(public.modulus().big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": n, "e": encoded(public.exponent().big_endian_without_leading_zero())})
            }
        }
    }

    fn key_named(&self, id: &str) -> Value {
        let mut key = self.key();
        key["kid"] = id.into();
        key
    }

    fn sign(&self, algorithm: &str, content: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Elliptic(key, _) => key.sign(&random, content).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(content).as_ref().to_vec(),
            Self::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, content, &mut signature).unwrap();
                signature
            }
        }
    }

    fn token(&self, header: &Value, payload: &Value) -> String {
        let content = format!("{}.{}", encoded(header.to_string()), encoded(payload.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        let signature = encoded(self.sign(algorithm, content.as_bytes()));
        format!("{content}.{signature}")
    }
}

fn payload() -> Value {
    json!({"iss": "issuer", "sub": "subject", "aud": "here", "exp": NOW + 10})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(&json!({"keys": keys}).to_string()).unwrap()
}

fn rule(issuer: &str) -> JwtRule {
    JwtRule {
        origin: Origin::built_in("rule"),
        issuer: issuer.into(),
        audiences: Vec::new(),
        keys: JwtKeys::Url(issuer.into()),
        locations: vec![
            TokenLocation::Header("authorization".into(), "Bearer ".into()),
            TokenLocation::Query("access_token".into()),
        ],
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        space_delimited_claims: Vec::new(),
        fetch_timeout: Duration::from_secs(5),
        required: false,
    }
}

fn verify(token: &str, keys: &KeySet) -> Result<heddle_ir::request::TokenFacts, JwtError> {
    ParsedToken::parse(token)?.verify(&rule("issuer"), keys, now())
}

#[test]
fn every_algorithm_verifies_with_its_key_and_no_other() {
    let rsa = Signer::rsa();
    let signers = [
        (Signer::p256(), vec!["ES256"]),
        (Signer::p384(), vec!["ES384"]),
        (Signer::p521(), vec!["ES512"]),
        (Signer::Ed25519(Ed25519KeyPair::generate().unwrap()), vec!["EdDSA"]),
        (rsa, vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
    ];
    for (place, (signer, algorithms)) in signers.iter().enumerate() {
        for algorithm in algorithms {
            let token = signer.token(&json!({"alg": algorithm}), &payload());
            for (other, (key, _)) in signers.iter().enumerate() {
                let verified = verify(&token, &set(&[key.key()]));
                assert_eq!(verified.is_ok(), place == other, "{algorithm} {other}: {verified:?}");
            }
            let mut damaged = token.clone().into_bytes();
            let last = damaged.len() - 3;
            damaged[last] = if damaged[last] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(verify(&damaged, &set(&[signer.key()])).is_err(), "{algorithm}");
        }
    }
}

#[test]
fn the_key_says_which_algorithm_it_is_for() {
    let signer = Signer::rsa();
    let mut key = signer.key();
    key["alg"] = "PS256".into();
    let token = |algorithm: &str| signer.token(&json!({"alg": algorithm}), &payload());
    assert!(verify(&token("PS256"), &set(&[key.clone()])).is_ok());
    assert_eq!(verify(&token("RS256"), &set(&[key])), Err(JwtError::NoKey));
}

#[test]
fn tokens_without_signature_and_with_symmetric_ones_are_refused() {
    let signer = Signer::rsa();
    let keys = set(&[signer.key()]);
    for algorithm in ["none", "None", "nOnE", "HS256", "HS384", "HS512", "", "RS1", "ES256K"] {
        let token = signer.token(&json!({"alg": algorithm}), &payload());
        assert_eq!(verify(&token, &keys), Err(JwtError::Algorithm), "{algorithm}");
        let (content, _) = token.rsplit_once('.').unwrap();
        assert_eq!(verify(&format!("{content}."), &keys), Err(JwtError::Algorithm), "{algorithm}");
    }
    // The public key passed off as a secret: the set has no symmetric keys, so that nothing could confirm it.
    let secret = json!({"kty": "oct", "k": encoded("secret"), "alg": "HS256"});
    assert_eq!(set(&[signer.key(), secret.clone()]).len(), 1);
    let only = json!({"keys": [secret]}).to_string();
    assert_eq!(KeySet::parse(&only).unwrap_err(), KeySetError::NoneUsable);
    // An empty signature.
    let token = signer.token(&json!({"alg": "RS256"}), &payload());
    let (content, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{content}."), &keys), Err(JwtError::Signature));
}

#[test]
fn a_named_key_is_the_only_one_that_counts() {
    let (one, two) = (Signer::p256(), Signer::p256());
    let keys = set(&[one.key_named("1"), two.key_named("2")]);
    let token = |signer: &Signer, header: Value| signer.token(&header, &payload());
    assert!(verify(&token(&two, json!({"alg": "ES256", "kid": "2"})), &keys).is_ok());
    assert!(verify(&token(&two, json!({"alg": "ES256"})), &keys).is_ok());
    let wrong = token(&two, json!({"alg": "ES256", "kid": "1"}));
    assert_eq!(verify(&wrong, &keys), Err(JwtError::Signature));
    let unknown = token(&two, json!({"alg": "ES256", "kid": "3"}));
    assert_eq!(verify(&unknown, &keys), Err(JwtError::NoKey));
    // A key in the header is not looked at.
    let own = token(&Signer::p256(), json!({"alg": "ES256", "jwk": one.key(), "jku": "http://x"}));
    assert_eq!(verify(&own, &keys), Err(JwtError::Signature));
    let critical = token(&one, json!({"alg": "ES256", "crit": ["b64"], "b64": false}));
    assert_eq!(verify(&critical, &keys), Err(JwtError::Critical));
}

#[test]
fn times_count_with_leeway() {
    let signer = Signer::p256();
    let keys = set(&[signer.key()]);
    let check = |name: &str, value: Value| {
        let mut payload = payload();
        payload[name] = value;
        verify(&signer.token(&json!({"alg": "ES256"}), &payload), &keys).map(|_| ())
    };
    for (value, expected) in [
        (json!(NOW - 60), Ok(())),
        (json!(NOW - 61), Err(JwtError::Expired)),
        (json!(0), Err(JwtError::Expired)),
        (serde_json::from_str(&format!("{NOW}.5")).unwrap(), Ok(())),
        (json!(-1), Err(JwtError::Payload)),
        (json!("tomorrow"), Err(JwtError::Payload)),
        (json!(u64::MAX), Ok(())),
    ] {
        assert_eq!(check("exp", value.clone()), expected, "exp {value}");
    }
    assert_eq!(check("nbf", json!(NOW + 60)), Ok(()));
    assert_eq!(check("nbf", json!(NOW + 61)), Err(JwtError::NotYetValid));
}

#[test]
fn audiences_must_meet() {
    let signer = Signer::p256();
    let keys = set(&[signer.key()]);
    let check = |wanted: &[&str], own: Value| {
        let mut payload = payload();
        payload["aud"] = own;
        let token = signer.token(&json!({"alg": "ES256"}), &payload);
        let audiences = wanted.iter().map(|text| (*text).into()).collect();
        let rule = JwtRule { audiences, ..rule("issuer") };
        ParsedToken::parse(&token).unwrap().verify(&rule, &keys, now()).map(|_| ())
    };
    assert_eq!(check(&[], json!("x")), Ok(()));
    assert_eq!(check(&["a", "b"], json!("b")), Ok(()));
    assert_eq!(check(&["a", "b"], json!(["c", "a"])), Ok(()));
    assert_eq!(check(&["a"], json!(["c"])), Err(JwtError::Audience));
    assert_eq!(check(&["a"], json!([])), Err(JwtError::Audience));
    assert_eq!(check(&["https://a/"], json!("http://a")), Ok(()));
    assert_eq!(check(&["a"], json!([1])), Err(JwtError::Payload));
    assert_eq!((JwtError::Audience.status(), JwtError::Expired.status()), (403, 401));
}

#[test]
fn what_is_no_token_is_refused_without_panic() {
    let keys = set(&[Signer::p256().key()]);
    for text in
        ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30.e30.", "....", "é.é.é", "e30.W10.e30"]
    {
        assert!(verify(text, &keys).is_err(), "{text}");
    }
    assert_eq!(
        ParsedToken::parse(&"a".repeat(TOKEN_BYTES_MAX + 1)).unwrap_err(),
        JwtError::TooLong
    );
    // Deep nesting.
    let deep = format!("{}.{}.", encoded("{\"alg\":\"ES256\"}"), encoded("[".repeat(20_000)));
    assert_eq!(verify(&deep, &keys), Err(JwtError::Payload));
    for text in ["", "{}", "[]", "{\"keys\": 1}", "{\"keys\": [{\"kty\": \"EC\"}]}"] {
        assert!(KeySet::parse(text).is_err(), "{text}");
    }
    assert!(KeySet::parse("{\"keys\": []}").unwrap().is_empty());
    assert!(matches!(KeySet::parse(&" ".repeat(600_000)), Err(KeySetError::TooLong(600_000))));
}

/// A request with these headers.
struct Head<'a> {
    method: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, String)>,
}

impl RequestHead for Head<'_> {
    fn method(&self) -> &str {
        self.method
    }
    fn path(&self) -> &'static str {
        "/"
    }
    fn query(&self) -> Option<&str> {
        self.query
    }
    fn authority(&self) -> &'static str {
        "a"
    }
    fn scheme(&self) -> &'static str {
        "http"
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let own = self.headers.iter().filter(|(own, _)| *own == name);
        let values: Vec<&[u8]> = own.map(|(_, value)| value.as_bytes()).collect();
        (!values.is_empty()).then(|| values.join(&b","[..]).into())
    }
}

fn get<'a>(headers: &[(&'a str, &str)]) -> Head<'a> {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Head { method: "GET", query: None, headers }
}

/// Key sets by issuer, and of whom unknown keys were seen.
#[derive(Default)]
struct Source {
    sets: Vec<(&'static str, Arc<KeySet>)>,
    unknown: RefCell<Vec<String>>,
}

impl KeySource for Source {
    fn keys(&self, rule: &JwtRule) -> KeysNow {
        let found = self.sets.iter().find(|(issuer, _)| *issuer == &*rule.issuer);
        found.map_or(KeysNow::Missing, |(_, keys)| KeysNow::Held(keys.clone()))
    }
    fn unknown_key(&self, rule: &JwtRule) {
        self.unknown.borrow_mut().push(rule.issuer.to_string());
    }
}

struct Mesh {
    one: Signer,
    two: Signer,
    source: Source,
    rules: Vec<Arc<JwtRule>>,
}

impl Mesh {
    /// Two issuers with a key each; a third whose keys never came.
    fn new(change: impl Fn(&mut JwtRule)) -> Self {
        let (one, two) = (Signer::p256(), Signer::p256());
        let source = Source {
            sets: vec![
                ("one", set(&[one.key_named("1")]).into()),
                ("two", set(&[two.key()]).into()),
            ],
            ..Source::default()
        };
        let rules = ["one", "two", "three"].map(|issuer| {
            let mut rule = rule(issuer);
            change(&mut rule);
            Arc::new(rule)
        });
        Self { one, two, source, rules: rules.into() }
    }

    fn token(&self, issuer: &str, subject: &str) -> String {
        let signer = if issuer == "one" { &self.one } else { &self.two };
        let header = if issuer == "one" {
            json!({"alg": "ES256", "kid": "1"})
        } else {
            json!({"alg": "ES256"})
        };
        let payload = json!({"iss": issuer, "sub": subject, "n": 7, "a": {"b": "c", "d.e": true},
            "scope": "read write", "roles": "x y", "list": ["p", "q"], "evil": "x\r\ny: z"});
        signer.token(&header, &payload)
    }

    fn ask(&self, head: &Head<'_>) -> Result<Authenticated, JwtError> {
        authenticate(&self.rules, &self.source, head, now())
    }
}

#[test]
fn tokens_count_where_they_are_looked_for() {
    let mesh = Mesh::new(|_| {});
    let token = mesh.token("one", "me");
    let bearer = format!("Bearer {token}");
    let principal =
        |head: &Head<'_>| mesh.ask(head).map(|done| done.facts.and_then(|f| f.principal()));
    assert_eq!(principal(&get(&[])), Ok(None));
    assert_eq!(principal(&get(&[("authorization", &bearer)])), Ok(Some("one/me".to_owned())));
    assert_eq!(principal(&get(&[("authorization", "Basic x")])), Ok(None));
    assert_eq!(principal(&get(&[("authorization", &token)])), Ok(None));
    assert_eq!(principal(&get(&[("x-token", &token)])), Ok(None));
    assert_eq!(principal(&get(&[("authorization", "Bearer x")])), Err(JwtError::Format));
    // Two headers are one list, which is no token.
    let twice = get(&[("authorization", &bearer), ("authorization", &bearer)]);
    assert!(principal(&twice).is_err());
    let query = format!("a=b&access_token={token}");
    let head = Head { query: Some(&query), ..get(&[]) };
    assert_eq!(principal(&head), Ok(Some("one/me".to_owned())));
    let unknown = mesh.two.token(&json!({"alg": "ES256"}), &json!({"iss": "nobody", "sub": "me"}));
    let head = get(&[("authorization", &format!("Bearer {unknown}"))]);
    assert_eq!(principal(&head), Err(JwtError::Issuer));
    let fetched = mesh.token("three", "me");
    let head = get(&[("authorization", &format!("Bearer {fetched}"))]);
    assert_eq!(principal(&head), Err(JwtError::NoKeySet));
    // Signed by somebody else than it says.
    let forged = mesh.two.token(&json!({"alg": "ES256"}), &json!({"iss": "one", "sub": "me"}));
    let head = get(&[("authorization", &format!("Bearer {forged}"))]);
    assert_eq!(principal(&head), Err(JwtError::Signature));
    assert!(mesh.source.unknown.borrow().is_empty());
    let other = mesh.one.token(&json!({"alg": "ES256", "kid": "9"}), &json!({"iss": "one"}));
    let head = get(&[("authorization", &format!("Bearer {other}"))]);
    assert_eq!(principal(&head), Err(JwtError::NoKey));
    assert_eq!(*mesh.source.unknown.borrow(), ["one"]);
}

#[test]
fn of_several_tokens_all_must_be_valid_and_the_first_rule_names_the_caller() {
    let mesh = Mesh::new(|rule| {
        rule.locations.push(TokenLocation::Header("x-two".into(), "".into()));
        rule.locations.push(TokenLocation::Cookie("t".into()));
    });
    let (one, two) = (mesh.token("one", "me"), mesh.token("two", "you"));
    let bearer = format!("Bearer {two}");
    let done = mesh.ask(&get(&[("authorization", &bearer), ("x-two", &one)])).unwrap();
    assert_eq!(done.facts.unwrap().principal().unwrap(), "one/me");
    let cookie = format!("a=b; t={one}; c");
    let done = mesh.ask(&get(&[("authorization", &bearer), ("cookie", &cookie)])).unwrap();
    assert_eq!(done.facts.unwrap().principal().unwrap(), "one/me");
    let spoilt = get(&[("authorization", &bearer), ("x-two", &one[..one.len() - 4])]);
    assert!(mesh.ask(&spoilt).is_err());
    let many = format!("t={one};").repeat(9);
    assert_eq!(mesh.ask(&get(&[("cookie", &many)])), Err(JwtError::Format));
}

#[test]
fn what_a_token_says_goes_into_headers_and_nobody_else_may_say_it() {
    let mesh = Mesh::new(|rule| {
        let claim = |header: &str, path: &[&str]| ClaimHeader {
            header: header.into(),
            claim: path.iter().map(|part| (*part).into()).collect(),
        };
        rule.payload_header = Some("x-payload".into());
        rule.space_delimited_claims = vec!["roles".into()];
        rule.claim_headers = vec![
            claim("x-sub", &["sub"]),
            claim("x-n", &["n"]),
            claim("x-b", &["a", "b"]),
            claim("x-de", &["a", "d.e"]),
            claim("x-list", &["list"]),
            claim("x-evil", &["evil"]),
        ];
    });
    let anonymous = mesh.ask(&get(&[("x-sub", "root")])).unwrap();
    let removed = |done: &Authenticated, name: &str| {
        done.edits.contains(&TokenEdit::RemoveHeader(name.into()))
    };
    assert!(removed(&anonymous, "x-sub") && removed(&anonymous, "x-payload"));
    let token = mesh.token("one", "me");
    let done = mesh.ask(&get(&[("authorization", &format!("Bearer {token}"))])).unwrap();
    let set: Vec<(&str, &str)> = done
        .edits
        .iter()
        .filter_map(|edit| match edit {
            TokenEdit::SetHeader(name, value) => Some((&**name, &**value)),
            _ => None,
        })
        .collect();
    let payload = token.split('.').nth(1).unwrap();
    assert_eq!(
        set,
        [("x-payload", payload), ("x-sub", "me"), ("x-n", "7"), ("x-b", "c"), ("x-de", "true")]
    );
    assert!(removed(&done, "authorization") && removed(&done, "x-list"));
    let facts = done.facts.unwrap();
    let words = |texts: &[&str]| {
        ClaimValue::List(texts.iter().map(|text| ClaimValue::Text((*text).to_owned())).collect())
    };
    assert_eq!(facts.claim(&["scope"]), Some(&words(&["read", "write"])));
    assert_eq!(facts.claim(&["roles"]), Some(&words(&["x", "y"])));
    assert_eq!(facts.claim(&["list"]), Some(&words(&["p", "q"])));
    assert_eq!(facts.claim(&["a", "b"]), Some(&ClaimValue::Text("c".to_owned())));
    assert_eq!(facts.claim(&["a", "x"]), None);
}

#[test]
fn a_forwarded_token_stays_and_a_required_one_must_be_there() {
    let mesh = Mesh::new(|rule| rule.forward = true);
    let bearer = format!("Bearer {}", mesh.token("one", "me"));
    assert_eq!(mesh.ask(&get(&[("authorization", &bearer)])).unwrap().edits, []);
    let mesh = Mesh::new(|rule| rule.required = true);
    assert_eq!(mesh.ask(&get(&[])), Err(JwtError::Missing));
    let preflight = [("origin", "http://x"), ("access-control-request-method", "PUT")];
    let mut head = get(&preflight);
    assert_eq!(mesh.ask(&head), Err(JwtError::Missing));
    head.method = "OPTIONS";
    head.headers.push(("authorization", "Bearer x".to_owned()));
    assert_eq!(mesh.ask(&head).unwrap().facts, None);
    head.headers.remove(0);
    assert_eq!(mesh.ask(&head), Err(JwtError::Format));
}

#[test]
fn tokens_are_taken_out_of_queries_and_cookies() {
    assert_eq!(without_query("a=b&t=x&c", "t").as_deref(), Some("a=b&c"));
    assert_eq!(without_query("t=x&t=y&t", "t"), None);
    assert_eq!(without_query("tt=x", "t").as_deref(), Some("tt=x"));
    let cookie = |value: &str| {
        without_cookie(value.as_bytes(), "t").map(|left| String::from_utf8(left).unwrap())
    };
    assert_eq!(cookie("a=b; t=x;c=d").as_deref(), Some("a=b; c=d"));
    assert_eq!(cookie("t=x"), None);
}
