//! Sessions: which endpoint a client belongs to (Gateway API's `sessionPersistence`).
//!
//! The token names the backend and the endpoint by hashes, the same in every proxy, and when the session began and was last
//! used. It is not secret and proves nothing: who makes one up chooses an endpoint that he may be sent to anyway.

use std::fmt::Write;
use std::time::Duration;

use heddle_ir::destination::DestinationId;
use heddle_ir::http_route::{SessionLocation, SessionPersistence};
use heddle_ir::request::RequestHead;

use crate::hash::xxh64;
use crate::key::cookie;

/// Digits of a token: twice 16 and twice 8.
const DIGITS: usize = 48;

/// What a client's session says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The backend; [`backend_of`].
    pub backend: u64,
    /// The endpoint; [`crate::Slot::session`].
    pub endpoint: u64,
    /// When it began, in seconds since 1970.
    pub began_s: u32,
    /// When it was last used, in seconds since 1970.
    pub used_s: u32,
}

/// A backend's name in sessions.
pub fn backend_of(id: &DestinationId) -> u64 {
    xxh64(format!("{}:{}/{}", id.host, id.port, id.subset).as_bytes(), 0)
}

impl Session {
    /// The session of a request, unless it has none or it is over.
    pub fn of(policy: &SessionPersistence, request: &impl RequestHead, now_s: u32) -> Option<Self> {
        let session = match &policy.location {
            SessionLocation::Cookie { .. } => {
                let cookies = request.header("cookie")?;
                Self::parse(cookie(&cookies, policy.name.as_bytes())?)?
            }
            SessionLocation::Header => Self::parse(&request.header(&policy.name)?)?,
        };
        let is_over = |since_s: u32, timeout: Option<Duration>| {
            timeout.is_some_and(|timeout| {
                u64::from(now_s.saturating_sub(since_s)) >= timeout.as_secs().max(1)
            })
        };
        let over = is_over(session.began_s, policy.absolute_timeout)
            || is_over(session.used_s, policy.idle_timeout);
        (!over).then_some(session)
    }

    /// The session after a request that went to this endpoint; none when the client's says the same already.
    pub fn after(
        policy: &SessionPersistence,
        before: Option<Self>,
        backend: u64,
        endpoint: u64,
        now_s: u32,
    ) -> Option<Self> {
        let same =
            before.filter(|session| (session.backend, session.endpoint) == (backend, endpoint));
        match same {
            Some(_) if policy.idle_timeout.is_none() => None,
            Some(session) if session.used_s == now_s => None,
            Some(session) => Some(Self { used_s: now_s, ..session }),
            None => Some(Self { backend, endpoint, began_s: now_s, used_s: now_s }),
        }
    }

    /// The name and value of the response header that tells the client.
    pub fn header(self, policy: &SessionPersistence, now_s: u32) -> (String, String) {
        let mut value = String::with_capacity(2 * DIGITS);
        match &policy.location {
            SessionLocation::Header => {
                self.write(&mut value);
                (policy.name.to_string(), value)
            }
            SessionLocation::Cookie { path, permanent } => {
                let _ = write!(value, "{}=", policy.name);
                self.write(&mut value);
                if let (true, Some(timeout)) = (permanent, policy.absolute_timeout) {
                    let gone = u64::from(now_s.saturating_sub(self.began_s));
                    let _ = write!(value, "; Max-Age={}", timeout.as_secs().saturating_sub(gone));
                }
                let path = if path.is_empty() { "/" } else { path };
                let _ = write!(value, "; Path={path}; HttpOnly");
                ("set-cookie".to_owned(), value)
            }
        }
    }

    fn write(self, out: &mut String) {
        let Self { backend, endpoint, began_s, used_s } = self;
        let _ = write!(out, "{backend:016x}{endpoint:016x}{began_s:08x}{used_s:08x}");
    }

    fn parse(token: &[u8]) -> Option<Self> {
        let token = std::str::from_utf8(token).ok()?;
        let is_token = token.len() == DIGITS && token.bytes().all(|b| b.is_ascii_hexdigit());
        let part = |from: usize, to: usize| u64::from_str_radix(token.get(from..to)?, 16).ok();
        let seconds = |from, to| u32::try_from(part(from, to)?).ok();
        is_token.then_some(())?;
        Some(Self {
            backend: part(0, 16)?,
            endpoint: part(16, 32)?,
            began_s: seconds(32, 40)?,
            used_s: seconds(40, 48)?,
        })
    }
}

#[cfg(test)]
mod tests;
