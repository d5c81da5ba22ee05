//! What a request is hashed by, and the cookie that keeps a client at its endpoint.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_ir::destination::{HashKey, LoadBalancing};
use heddle_ir::request::RequestHead;

use crate::hash::xxh64;

/// The hash of a request, and the cookie to set if one was made up for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashedRequest<'a> {
    /// For [`crate::Pick::hash`]; none where the policy asks for none or the request lacks what is hashed.
    pub hash: Option<u64>,
    /// To be sent with the response as `set-cookie`.
    pub set_cookie: Option<NewCookie<'a>>,
}

/// A cookie that was made up for a request without one. Displays as the value of `set-cookie`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewCookie<'a> {
    name: &'a str,
    path: &'a str,
    ttl: Duration,
    attributes: &'a [(Arc<str>, Arc<str>)],
    value: [u8; 16],
}

impl fmt::Display for NewCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = std::str::from_utf8(&self.value).unwrap_or_default();
        write!(f, "{}=\"{value}\"", self.name)?;
        if !self.ttl.is_zero() {
            write!(f, "; Max-Age={}", self.ttl.as_secs())?;
        }
        if !self.path.is_empty() {
            write!(f, "; Path={}", self.path)?;
        }
        for (name, value) in self.attributes {
            match &**value {
                "" => write!(f, "; {name}")?,
                value => write!(f, "; {name}={value}")?,
            }
        }
        f.write_str("; HttpOnly")
    }
}

impl<'a> HashedRequest<'a> {
    /// Hashes a request as `policy` says. `random` makes the value of a new cookie.
    pub fn new(
        policy: &'a LoadBalancing,
        request: &impl RequestHead,
        source: IpAddr,
        random: u64,
    ) -> Self {
        let LoadBalancing::ConsistentHash { key, .. } = policy else { return Self::none() };
        let hash = match key {
            HashKey::Cookie { name, path, ttl, attributes } => {
                let value = request.header("cookie").and_then(|cookies| {
                    cookie(&cookies, name.as_bytes()).map(|value| xxh64(value, 0))
                });
                match (value, ttl) {
                    (None, Some(ttl)) => {
                        let value = new_value(random);
                        let ttl = *ttl;
                        let cookie = NewCookie { name, path, ttl, attributes, value };
                        let hash = Some(xxh64(&value, 0));
                        return Self { hash, set_cookie: Some(cookie) };
                    }
                    (value, _) => value,
                }
            }
            HashKey::Header(name) => request.header(name).map(|value| xxh64(&value, 0)),
            HashKey::Query(name) => request
                .query()
                .and_then(|query| query_parameter(query, name))
                .map(|value| xxh64(value.as_bytes(), 0)),
            HashKey::SourceAddress => Some(hash_address(source)),
        };
        Self { hash, set_cookie: None }
    }

    /// Hashes a stream that is not HTTP, of which only the source address is known.
    pub fn of_stream(policy: &LoadBalancing, source: IpAddr) -> Option<u64> {
        match policy {
            LoadBalancing::ConsistentHash { key: HashKey::SourceAddress, .. } => {
                Some(hash_address(source))
            }
            _ => None,
        }
    }

    fn none() -> Self {
        Self { hash: None, set_cookie: None }
    }
}

fn new_value(random: u64) -> [u8; 16] {
    let mut value = [0; 16];
    for (digit, shift) in value.iter_mut().zip((0..64).step_by(4).rev()) {
        *digit = b"0123456789abcdef"[(random >> shift & 0xf) as usize];
    }
    value
}

fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => xxh64(&address.octets(), 0),
        IpAddr::V6(address) => xxh64(&address.octets(), 0),
    }
}

/// The value of a cookie in a `Cookie` header (RFC 6265 section 4.2.1), without quotes. Header lines joined with commas,
/// which HTTP/2 should not but some proxies do, are taken apart too.
pub(crate) fn cookie<'c>(cookies: &'c [u8], name: &[u8]) -> Option<&'c [u8]> {
    cookies.split(|b| matches!(b, b';' | b',')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let split = pair.iter().position(|b| *b == b'=')?;
        let value = &pair[split + 1..];
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (pair[..split] == *name).then(|| unquoted.unwrap_or(value))
    })
}

/// The value of the first parameter of that name, as sent.
fn query_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests;
