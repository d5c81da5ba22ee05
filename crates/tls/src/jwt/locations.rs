//! Where tokens are in a request.

use std::borrow::Cow;

use heddle_ir::authentication::TokenLocation;
use heddle_ir::request::RequestHead;

/// Tokens at one place that are looked at; more make the request invalid.
pub(super) const TOKENS_MAX: usize = 8;

/// The tokens at a place; those that are no text are given as empty ones, which are no tokens.
pub(super) fn tokens_at<R: RequestHead>(location: &TokenLocation, request: &R) -> Vec<String> {
    let header = |name: &str| request.header(name).map(Cow::into_owned);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_default();
    match location {
        TokenLocation::Header(name, prefix) => {
            let Some(value) = header(name) else { return Vec::new() };
            match value.strip_prefix(prefix.as_bytes()) {
                Some(token) if !token.is_empty() => vec![text(token)],
                _ => Vec::new(),
            }
        }
        TokenLocation::Query(name) => {
            let pairs = request.query().unwrap_or_default().split('&');
            let own =
                pairs.filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == &**name);
            own.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty()).collect()
        }
        TokenLocation::Cookie(name) => {
            let Some(value) = header("cookie") else { return Vec::new() };
            let cookies = value.split(|byte| matches!(byte, b';' | b','));
            let own = cookies.filter_map(|cookie| {
                let cookie = cookie.trim_ascii();
                let place = cookie.iter().position(|byte| *byte == b'=')?;
                (cookie[..place] == *name.as_bytes()).then(|| text(&cookie[place + 1..]))
            });
            own.filter(|value| !value.is_empty()).collect()
        }
    }
}

/// A query without a parameter; none when nothing is left.
pub fn without_query(query: &str, name: &str) -> Option<String> {
    let is_own = |pair: &&str| pair.split_once('=').map_or(**pair == *name, |(key, _)| key == name);
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_own(pair)).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// The value of a `cookie` header without a cookie; none when nothing is left.
pub fn without_cookie(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let rest: Vec<&[u8]> = value
        .split(|byte| matches!(byte, b';' | b','))
        .map(<[u8]>::trim_ascii)
        .filter(|cookie| !cookie.is_empty())
        .filter(|cookie| cookie.split(|byte| *byte == b'=').next() != Some(name.as_bytes()))
        .collect();
    (!rest.is_empty()).then(|| rest.join(&b"; "[..]))
}
