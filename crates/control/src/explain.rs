//! Explaining requests to the mesh as it is: the objects that are in force, with their addresses and ages.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_api::Resource as AnyObject;
use heddle_explain::{Head, HeadEdit, Query, TokenVerdict, Tokens, World};
use heddle_ir::authentication::{JwtKeys, JwtRule};
use heddle_tls::jwt::{KeySet, KeySource, KeysNow, TokenEdit, authenticate};
use heddle_translate::Options;
use serde_json::{Value, json};

use crate::state::State;

/// Requests of one call.
pub(crate) const REQUESTS_MAX: usize = 100_000;

/// Verifies tokens as proxies do, with the keys that configuration itself has. Where keys are to be fetched from somewhere,
/// tokens are taken for signed, and the answer depends on that.
pub struct TokenVerifier {
    now: SystemTime,
    /// Key sets by their texts.
    read: RefCell<HashMap<Arc<str>, KeysNow>>,
    /// What was taken for granted while one request was looked at.
    assumed: RefCell<Vec<String>>,
}

impl TokenVerifier {
    /// Verifies at this time.
    pub fn new(now: SystemTime) -> Self {
        Self { now, read: RefCell::default(), assumed: RefCell::default() }
    }
}

impl KeySource for TokenVerifier {
    fn keys(&self, rule: &JwtRule) -> KeysNow {
        match &rule.keys {
            JwtKeys::Inline(text) => {
                let mut read = self.read.borrow_mut();
                let parse = || match KeySet::parse(text) {
                    Ok(keys) => KeysNow::Held(Arc::new(keys)),
                    Err(_) => KeysNow::Missing,
                };
                read.entry(text.clone()).or_insert_with(parse).clone()
            }
            JwtKeys::Discovery(url) | JwtKeys::Url(url) => {
                let what = format!("the keys of {} at {url}", rule.issuer);
                self.assumed.borrow_mut().push(what);
                KeysNow::Held(Arc::new(KeySet::assumed()))
            }
            JwtKeys::Unusable => KeysNow::Missing,
        }
    }

    fn unknown_key(&self, _rule: &JwtRule) {}
}

impl Tokens for TokenVerifier {
    fn verify(&self, rules: &[Arc<JwtRule>], head: &Head) -> TokenVerdict {
        self.assumed.borrow_mut().clear();
        match authenticate(rules, self, head, self.now) {
            Ok(authenticated) => TokenVerdict::Accepted {
                facts: authenticated.facts,
                edits: authenticated.edits.into_iter().map(head_edit).collect(),
                depends_on: self.assumed.take(),
            },
            Err(error) => {
                TokenVerdict::Refused { status: error.status(), reason: error.to_string() }
            }
        }
    }
}

fn head_edit(edit: TokenEdit) -> HeadEdit {
    match edit {
        TokenEdit::RemoveCookie(name) => HeadEdit::RemoveCookie(name),
        TokenEdit::RemoveHeader(name) => HeadEdit::RemoveHeader(name),
        TokenEdit::RemoveQuery(name) => HeadEdit::RemoveQuery(name),
        TokenEdit::SetHeader(name, value) => HeadEdit::SetHeader(name, value),
    }
}

/// The mesh at one moment.
pub(crate) struct Moment {
    objects: Vec<AnyObject>,
    options: Options,
    /// Texts of files by their paths, for excerpts.
    sources: HashMap<String, String>,
}

impl Moment {
    /// Cheap: objects are shared.
    pub(crate) fn of(state: &State) -> Self {
        let translator = state.plan().translator();
        let objects = translator.objects().filter_map(|key| translator.object(key)).collect();
        let stored = state.objects().iter();
        let sources = stored.map(|own| (own.source.path.clone(), own.source.text.clone()));
        Self { objects, options: translator.options().clone(), sources: sources.collect() }
    }

    /// Explains every request: `{"answers": [… | {"error"}], "texts": [… | null]}`.
    pub(crate) fn explain(self, requests: &[Value]) -> Value {
        let Self { objects, options, sources } = self;
        let tokens = Box::new(TokenVerifier::new(SystemTime::now()));
        let world = World::running(objects, options).with_tokens(tokens);
        let mut answers = Vec::new();
        let mut texts = Vec::new();
        for request in requests {
            let answer = read_query(request)
                .and_then(|query| world.explain(&query).map_err(|error| error.to_string()));
            match answer {
                Ok(answer) => {
                    answers.push(serde_json::from_str(&answer.json()).unwrap_or_default());
                    // Only a person reads it, and a person asks for one.
                    texts.push(
                        (requests.len() == 1)
                            .then(|| answer.text(|path| sources.get(path).map(String::as_str))),
                    );
                }
                Err(error) => {
                    answers.push(json!({ "error": error }));
                    texts.push(None);
                }
            }
        }
        json!({"answers": answers, "texts": texts})
    }
}

/// Reads a request from JSON: `{"from", "to", "protocol", "method", "path", "authority", "headers", "source_ip", "jwt"}`, of
/// which only the first two must be there. The error is a sentence.
pub fn read_query(value: &Value) -> Result<Query, String> {
    let fields = value.as_object().ok_or("a request is an object of JSON")?;
    let mut query = Query::default();
    for (key, value) in fields {
        if value.is_null() {
            continue;
        }
        let text = || {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| format!("`{key}` is a text"))
        };
        match key.as_str() {
            "from" => query.from = text()?,
            "to" => query.to = text()?,
            "protocol" => query.protocol = Some(text()?),
            "method" => query.method = Some(text()?),
            "path" => query.path = Some(text()?),
            "authority" => query.authority = Some(text()?),
            "jwt" => query.jwt = Some(text()?),
            "source_ip" => {
                let address = text()?;
                let parsed: Result<IpAddr, _> = address.parse();
                query.source_ip =
                    Some(parsed.map_err(|_| format!("`source_ip` is an address, not {address}"))?);
            }
            "headers" => query.headers = read_headers(value)?,
            // Whoever writes such files has fields of their own in them.
            _ => {}
        }
    }
    for (name, text) in [("from", &query.from), ("to", &query.to)] {
        if text.is_empty() {
            return Err(format!("`{name}` is missing"));
        }
    }
    Ok(query)
}

fn read_headers(value: &Value) -> Result<Vec<(String, String)>, String> {
    let what = "`headers` is an object of texts, or of lists of texts";
    let fields = value.as_object().ok_or(what)?;
    let mut headers = Vec::new();
    for (name, value) in fields {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(set) => set.to_string(),
                _ => return Err(what.to_owned()),
            };
            headers.push((name.clone(), text));
        }
    }
    Ok(headers)
}
