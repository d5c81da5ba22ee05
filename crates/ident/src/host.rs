//! DNS host names and the patterns that configuration writes for them.
//!
//! Hosts are compared case-insensitively (RFC 4343), so they are lower-cased once when parsed. A trailing
//! dot is dropped. Short names are expanded by `translate`, which knows the namespace; here a name is a name.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The longest DNS name in bytes (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// The longest DNS label in bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A host name without wildcard, lower case, without port or trailing dot; an IP address is written as its
/// text form (IPv6 without brackets).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// Parses a host name or an IP address.
    pub fn parse(text: &str) -> Result<Self, ParseHostError> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self(address.to_string().into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if !is_dns_name(text) {
            return Err(ParseHostError(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The host that an address is.
    pub fn of_address(address: std::net::IpAddr) -> Self {
        Self(address.to_string().into())
    }

    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where the host is an IP address.
    pub fn as_ip(&self) -> Option<std::net::IpAddr> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A host as configuration writes it: exact, `*.suffix`, or `*`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// One host.
    Exact(Host),
    /// `*.suffix`: every host that ends with `.suffix`, at any depth, but not `suffix` itself. Holds `suffix`.
    Suffix(Host),
}

impl HostPattern {
    /// Parses `*`, `*.suffix` or a host. A star anywhere else is an error.
    pub fn parse(text: &str) -> Result<Self, ParseHostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => Host::parse(suffix).map(Self::Suffix),
            None => Host::parse(text).map(Self::Exact),
        }
    }

    /// Whether `host`, already lower case, is one of the hosts this pattern names.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_str() == host,
            Self::Suffix(suffix) => host
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }

    /// Whether every host of `other` is one of this pattern's.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::Exact(_), Self::Suffix(_)) => false,
            (_, Self::Exact(host)) => self.matches(host.as_str()),
            (Self::Suffix(own), Self::Suffix(suffix)) => {
                own == suffix || self.matches(suffix.as_str())
            }
        }
    }

    /// Orders by how much a pattern says: exact before longer suffixes before shorter ones before `*`.
    /// Patterns that say equally much are ordered by name, so that a sort is total.
    pub fn cmp_specificity(&self, other: &Self) -> Ordering {
        let rank = |pattern: &Self| match pattern {
            Self::Exact(_) => (0, 0),
            Self::Suffix(suffix) => (1, usize::MAX - suffix.as_str().len()),
            Self::Any => (2, 0),
        };
        rank(self).cmp(&rank(other)).then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => write!(f, "{host}"),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// The text is neither a DNS name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseHostError(String);

impl fmt::Display for ParseHostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a host name", self.0)
    }
}

impl std::error::Error for ParseHostError {}

/// Letters, digits, dashes and underscores (which services in the field do use) in labels of 1 to 63 bytes.
fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= HOST_BYTES_MAX
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= LABEL_BYTES_MAX
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn hosts_are_lower_cased_and_lose_the_trailing_dot() {
        assert_eq!(Host::parse("Reviews.Default.").unwrap().as_str(), "reviews.default");
        assert_eq!(Host::parse("::1").unwrap().as_str(), "::1");
        for text in ["", ".", "a..b", "a b", "*.x", "a:80", "a/b", "[::1]"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_matches_below_its_suffix_only() {
        assert!(pattern("*.example.com").matches("a.example.com"));
        assert!(pattern("*.example.com").matches("a.b.example.com"));
        assert!(!pattern("*.example.com").matches("example.com"));
        assert!(!pattern("*.example.com").matches(".example.com"));
        assert!(!pattern("*.example.com").matches("aexample.com"));
        assert!(HostPattern::parse("a.*.com").is_err());
        assert!(HostPattern::parse("*com").is_err());
    }

    #[test]
    fn covering_is_matching_of_every_host() {
        assert!(pattern("*").covers(&pattern("*.a")));
        assert!(pattern("*.a").covers(&pattern("*.b.a")));
        assert!(pattern("*.a").covers(&pattern("*.a")));
        assert!(!pattern("*.b.a").covers(&pattern("*.a")));
        assert!(!pattern("x.a").covers(&pattern("*.a")));
        assert!(!pattern("*.a").covers(&pattern("*")));
    }

    #[test]
    fn the_most_specific_pattern_sorts_first() {
        let mut patterns = ["*", "*.com", "a.com", "*.a.com"].map(pattern).to_vec();
        patterns.sort_by(HostPattern::cmp_specificity);
        let texts: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a.com", "*.a.com", "*.com", "*"]);
    }
}
