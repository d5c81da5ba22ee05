//! Fetching a key set, or first the metadata that say where it is.

use std::rc::Rc;

use bytes::Bytes;
use heddle_ident::Host;
use heddle_ir::authentication::{JwtKeys, JwtRule};
use heddle_tls::jwt::{KeySet, KeySetError};

use crate::ask::{self, AskError, Asking, Reply};
use crate::worker::Worker;

/// The longest answer in bytes.
const REPLY_BYTES_MAX: usize = 512 * 1024;

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The URL is none of `http` or `https`.
    #[error("{0:?} is not a URL of http or https")]
    Url(String),
    /// No answer.
    #[error("no answer from {0}")]
    Ask(String, #[source] AskError),
    /// Another status than 200.
    #[error("{0} answered with status {1}")]
    Status(String, u16),
    /// What came is no key set.
    #[error("what {0} sent cannot be used")]
    KeySet(String, #[source] KeySetError),
    /// The metadata name no key set.
    #[error("the metadata at {0} have no `jwks_uri`")]
    Metadata(String),
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

pub(super) async fn fetch(worker: &Rc<Worker>, rule: &JwtRule) -> Result<KeySet, FetchError> {
    let url = match &rule.keys {
        JwtKeys::Url(url) => url.to_string(),
        JwtKeys::Discovery(metadata) => {
            let reply = get(worker, metadata, rule).await?;
            let value = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
            let url = value.as_ref().and_then(|value| value.get("jwks_uri")?.as_str());
            url.ok_or_else(|| FetchError::Metadata(metadata.to_string()))?.to_owned()
        }
        JwtKeys::Inline(_) | JwtKeys::Unusable => {
            return Err(FetchError::KeySet("nobody".to_owned(), KeySetError::NoKeys));
        }
    };
    let reply = get(worker, &url, rule).await?;
    KeySet::parse(&String::from_utf8_lossy(&reply.body))
        .map_err(|error| FetchError::KeySet(url, error))
}

async fn get(worker: &Rc<Worker>, url: &str, rule: &JwtRule) -> Result<Reply, FetchError> {
    let parts = parse(url).ok_or_else(|| FetchError::Url(url.chars().take(200).collect()))?;
    let failed = |error| FetchError::Ask(url.to_owned(), error);
    // A service of the mesh answers by the mesh's rules; TLS of its own is for servers outside.
    let inside = if parts.tls {
        Err(AskError::Unknown(parts.host.clone(), parts.port))
    } else {
        ask::service(worker, &parts.host, parts.port).await
    };
    let place = match inside {
        Ok(place) => place,
        Err(AskError::Unknown(..)) => {
            ask::outside(worker, &parts.host, parts.port, parts.tls).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let asking = Asking {
        method: "GET",
        target: parts.target,
        authority: parts.authority,
        headers: vec![
            ("accept".to_owned(), b"application/json".to_vec()),
            ("user-agent".to_owned(), b"heddle".to_vec()),
        ],
        body: Bytes::new(),
        reply_bytes_max: REPLY_BYTES_MAX,
    };
    let reply =
        ask::over_http1(worker, &place, &asking, rule.fetch_timeout).await.map_err(failed)?;
    if reply.status == 200 {
        Ok(reply)
    } else {
        Err(FetchError::Status(url.to_owned(), reply.status))
    }
}

struct Parts<'a> {
    tls: bool,
    host: Host,
    port: u16,
    authority: &'a str,
    target: &'a str,
}

fn parse(url: &str) -> Option<Parts<'_>> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return None,
    };
    let rest = rest.split('#').next()?;
    let (authority, target) = match rest.find('/') {
        Some(place) => rest.split_at(place),
        None => (rest, "/"),
    };
    if authority.contains(['@', '?']) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some(Parts { tls, host: Host::parse(&host).ok()?, port, authority, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let of = |url: &'static str| {
            parse(url).map(|parts| {
                (parts.tls, parts.host.to_string(), parts.port, parts.authority, parts.target)
            })
        };
        assert_eq!(of("http://A.b/c?d#e"), Some((false, "a.b".to_owned(), 80, "A.b", "/c?d")));
        assert_eq!(of("https://a:8443"), Some((true, "a".to_owned(), 8443, "a:8443", "/")));
        assert_eq!(of("http://[::1]:8/x"), Some((false, "::1".to_owned(), 8, "[::1]:8", "/x")));
        for url in ["", "ftp://a", "http://", "http://u@a/", "http://a:b/", "file:///etc/passwd"] {
            assert!(of(url).is_none(), "{url}");
        }
    }
}
