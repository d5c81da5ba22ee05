//! Session persistence.

use super::rules;
use crate::value::Duration;

object! {
    /// Binds a client to the endpoint that it got first.
    SessionPersistence {
        /// After this the binding ends, used or not.
        "absoluteTimeout" => absolute_timeout: Option<Duration> [check(rules::duration)],
        /// The cookie, for the type `Cookie`.
        "cookie" => cookie: Option<SessionCookie>,
        /// The former spelling of `cookie`, without name.
        "cookieConfig" => cookie_config: Option<CookieSettings>,
        /// The header, for the type `Header`.
        "header" => header: Option<SessionHeader>,
        /// Removed upstream: after this without request the binding ended.
        "idleTimeout" => idle_timeout: Option<Duration> [check(rules::duration)],
        /// The former place of the cookie's or header's name.
        "sessionName" => session_name: Option<String> [len(1, 128)],
        /// By what the client is known; absent means `Cookie`.
        "type" => kind: Option<SessionType>,
    }
    check rules::session_persistence
}

impl SessionPersistence {
    /// The type with its default.
    pub fn kind(&self) -> SessionType {
        self.kind.unwrap_or(SessionType::Cookie)
    }
}

object! {
    /// A cookie that binds.
    SessionCookie {
        /// How long it lives; absent means `Session`.
        "lifetimeType" => lifetime: Option<CookieLifetime>,
        /// Its name; absent means a generated one.
        "name" => name: Option<String> [len(1, 256), check(rules::token)],
        /// Its path; absent means `/`.
        "path" => path: Option<String> [len(0, 1024)],
    }
}

object! {
    /// The former spelling of a cookie's settings.
    CookieSettings {
        /// How long it lives; absent means `Session`.
        "lifetimeType" => lifetime: Option<CookieLifetime>,
    }
}

object! {
    /// A header that binds.
    SessionHeader {
        /// Its name.
        "name" => name: String [required, len(1, 256), check(rules::token)],
    }
}

choice! {
    /// By what a client is known.
    SessionType {
        "Cookie" => Cookie,
        "Header" => Header,
    }
}

choice! {
    /// How long a cookie lives.
    CookieLifetime {
        /// Until `absoluteTimeout`, also beyond the browser's end.
        "Permanent" => Permanent,
        /// Until the browser ends.
        "Session" => Session,
    }
}
