//! SPIFFE ids and trust domains (SPIFFE-ID specification, sections 2.1 to 2.3).
//!
//! Parsing is strict: what is not a valid id is an error and never "almost" a peer. Matching of policy
//! strings against ids is `authz`'s business, not this module's.

use std::fmt;
use std::sync::Arc;

/// The longest SPIFFE id in bytes (SPIFFE-ID section 2.3: implementations must support up to 2048 and
/// must not generate longer ones).
const ID_BYTES_MAX: usize = 2048;
/// The longest trust domain name in bytes (SPIFFE-ID section 2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// The name of a trust domain: the authority of a SPIFFE id, for example `cluster.local`.
///
/// Lower-case letters, digits, dots, dashes and underscores, 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a trust domain name, without the `spiffe://` scheme.
    pub fn parse(text: &str) -> Result<Self, ParseSpiffeIdError> {
        let valid =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > TRUST_DOMAIN_BYTES_MAX || !text.bytes().all(valid) {
            return Err(ParseSpiffeIdError::TrustDomain(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The name as written, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A SPIFFE id, for example `spiffe://cluster.local/ns/default/sa/reviews`.
///
/// Any valid path is accepted, since peers of other systems use other schemes;
/// [`SpiffeId::service_account`] tells whether it has the Kubernetes form that Istio uses.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Everything after the trust domain, with its leading slash; empty for a trust domain's own id.
    path: Arc<str>,
}

impl SpiffeId {
    /// Parses `spiffe://<trust domain>/<path>`.
    pub fn parse(text: &str) -> Result<Self, ParseSpiffeIdError> {
        if text.len() > ID_BYTES_MAX {
            return Err(ParseSpiffeIdError::TooLong(text.len()));
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| ParseSpiffeIdError::Scheme(text.to_owned()))?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = TrustDomain::parse(domain)?;
        let segment_valid = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if !path.is_empty() && !path.split('/').skip(1).all(segment_valid) {
            return Err(ParseSpiffeIdError::Path(path.to_owned()));
        }
        Ok(Self { trust_domain, path: path.into() })
    }

    /// The id of a Kubernetes service account: `spiffe://<trust domain>/ns/<namespace>/sa/<name>`.
    pub fn for_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, ParseSpiffeIdError> {
        Self::parse(&format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// The trust domain that vouches for this id.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for a trust domain's own id.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Namespace and service account, where the path is exactly `/ns/<namespace>/sa/<name>`.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.path.strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !name.contains('/')).then_some((namespace, name))
    }

    /// The namespace of a service-account id.
    pub fn namespace(&self) -> Option<&str> {
        self.service_account().map(|(namespace, _)| namespace)
    }

    /// The id as Istio writes principals: without `spiffe://`.
    pub fn principal(&self) -> String {
        format!("{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is not a SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseSpiffeIdError {
    /// The path is not a sequence of non-empty segments of letters, digits, `.`, `-` and `_`.
    Path(String),
    /// The text does not begin with `spiffe://`.
    Scheme(String),
    /// The id is longer than 2048 bytes; holds its length.
    TooLong(usize),
    /// The trust domain is empty, too long or has a character that is not allowed.
    TrustDomain(String),
}

impl fmt::Display for ParseSpiffeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path {path:?} is not a valid SPIFFE path"),
            Self::Scheme(text) => write!(f, "{text:?} does not begin with spiffe://"),
            Self::TooLong(bytes) => {
                write!(f, "id of {bytes} bytes is longer than {ID_BYTES_MAX}")
            }
            Self::TrustDomain(text) => write!(f, "{text:?} is not a valid trust domain"),
        }
    }
}

impl std::error::Error for ParseSpiffeIdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_was_parsed() {
        for text in [
            "spiffe://cluster.local/ns/default/sa/reviews",
            "spiffe://td",
            "spiffe://td/identity/4242",
            "spiffe://a-b_c.1/x.y_z",
        ] {
            assert_eq!(SpiffeId::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "cluster.local/ns/a/sa/b",
            "SPIFFE://td/a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://TD/a",
            "spiffe://td/",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/a/../b",
            "spiffe://td/a%2fb",
            "spiffe://td:80/a",
            "spiffe://u@td/a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn only_the_exact_kubernetes_form_names_a_service_account() {
        let account = |text| {
            SpiffeId::parse(text)
                .unwrap()
                .service_account()
                .map(|(n, a)| (n.to_owned(), a.to_owned()))
        };
        assert_eq!(account("spiffe://td/ns/shop/sa/web"), Some(("shop".into(), "web".into())));
        assert_eq!(account("spiffe://td/ns/shop/sa/web/extra"), None);
        assert_eq!(account("spiffe://td/ns/a/b/sa/web"), None);
        assert_eq!(account("spiffe://td/x/ns/shop/sa/web"), None);
        assert_eq!(account("spiffe://td/identity/1"), None);
    }
}
