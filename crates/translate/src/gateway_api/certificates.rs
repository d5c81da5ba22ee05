//! References to certificates, keys and authorities.

use heddle_api::Base64;
use heddle_api::gateway_api::{GROUP, SecretObjectReference};
use heddle_ir::secret::{Secret, SecretKey, SecretKind};

use crate::engine::Reader;
use crate::gateway_api::grants::{self, From, To};
use crate::secret::SecretQuery;

/// Why a reference leads to nothing usable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unresolved {
    /// One word for a condition.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Unresolved {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Who refers: the kind and namespace of an object of the Gateway API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referrer<'a> {
    pub(crate) kind: &'static str,
    pub(crate) namespace: &'a str,
}

impl<'a> Referrer<'a> {
    fn from(self) -> From<'a> {
        From { group: GROUP, kind: self.kind, namespace: self.namespace }
    }
}

/// The secret with certificate and key that a reference means; `reason` is what a condition says of an invalid one.
pub(crate) fn key_pair(
    reader: &Reader<'_>,
    referrer: Referrer<'_>,
    reference: &SecretObjectReference,
    reason: &'static str,
) -> Result<SecretKey, Unresolved> {
    if !reference.is_secret() {
        let kind = reference.kind.as_deref().unwrap_or("Secret");
        let group = reference.group.as_deref().unwrap_or_default();
        let message = format!("certificates are in Secrets, not in `{kind}` of `{group}`");
        return Err(Unresolved::new(reason, message));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
    let to = To { group: "", kind: "Secret", namespace, name: &reference.name };
    permitted(reader, referrer, to)?;
    let key = SecretKey {
        kind: SecretKind::Secret,
        namespace: namespace.into(),
        name: reference.name.as_str().into(),
    };
    let place = format!("the Secret `{namespace}/{}`", reference.name);
    let Some(secret) = reader.read(&SecretQuery(key.clone())) else {
        return Err(Unresolved::new(reason, format!("{place} does not exist")));
    };
    let Secret { certificate_chain, private_key, .. } = &*secret;
    if !has_block(certificate_chain, &["CERTIFICATE"]) {
        return Err(Unresolved::new(reason, format!("{place} has no certificate in `tls.crt`")));
    }
    let keys = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    if !has_block(private_key, &keys) {
        return Err(Unresolved::new(reason, format!("{place} has no key in `tls.key`")));
    }
    Ok(key)
}

/// The roots that a reference means: a ConfigMap (or a Secret) with `ca.crt`.
pub(crate) fn authority(
    reader: &Reader<'_>,
    referrer: Referrer<'_>,
    group: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<SecretKey, Unresolved> {
    let secret_kind = match (group, kind) {
        ("", "ConfigMap") => SecretKind::ConfigMap,
        ("", "Secret") => SecretKind::Secret,
        _ => {
            let message = format!("roots are in ConfigMaps, not in `{kind}` of `{group}`");
            return Err(Unresolved::new("InvalidKind", message));
        }
    };
    permitted(reader, referrer, To { group, kind, namespace, name })?;
    let key = SecretKey { kind: secret_kind, namespace: namespace.into(), name: name.into() };
    let place = format!("the {kind} `{namespace}/{name}`");
    let invalid = |message: String| Unresolved::new("InvalidCACertificateRef", message);
    let secret = reader
        .read(&SecretQuery(key.clone()))
        .ok_or_else(|| invalid(format!("{place} does not exist")))?;
    if !has_block(&secret.authority, &["CERTIFICATE"]) {
        return Err(invalid(format!("{place} has no certificate in `ca.crt`")));
    }
    Ok(key)
}

fn permitted(reader: &Reader<'_>, referrer: Referrer<'_>, to: To<'_>) -> Result<(), Unresolved> {
    if grants::permits(reader, referrer.from(), to) {
        return Ok(());
    }
    let message = format!(
        "no ReferenceGrant in `{}` lets a {} of `{}` refer to the {} `{}`",
        to.namespace, referrer.kind, referrer.namespace, to.kind, to.name
    );
    Err(Unresolved::new("RefNotPermitted", message))
}

/// Whether a PEM text has a complete block with one of these labels, whose content is a DER sequence. The proxy reads the
/// rest: this crate knows no certificates.
fn has_block(pem: &[u8], labels: &[&str]) -> bool {
    let Ok(text) = std::str::from_utf8(pem) else { return false };
    labels.iter().any(|label| {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let body = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let Some((body, _)) = body else { return false };
        let compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        Base64::parse(&compact).is_some_and(|bytes| is_sequence(&bytes.0))
    })
}

/// Whether bytes are one DER sequence (X.690 section 8.1) and nothing else.
fn is_sequence(bytes: &[u8]) -> bool {
    let Some((0x30, rest)) = bytes.split_first().map(|(tag, rest)| (*tag, rest)) else {
        return false;
    };
    let Some((first, rest)) = rest.split_first() else { return false };
    let short = usize::from(*first);
    if short < 0x80 {
        return rest.len() == short;
    }
    let count = short & 0x7f;
    let Some((length, content)) = rest.split_at_checked(count) else { return false };
    if count == 0 || count > 4 {
        return false;
    }
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    content.len() == length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_looked_into_as_far_as_its_frame() {
        let certificate = |body: &str| {
            format!("text\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        let is = |text: &str| has_block(text.as_bytes(), &["CERTIFICATE"]);
        assert!(is(&certificate("MAMC\nAQE=")));
        assert!(!is(&certificate("MAMCAQ==")), "cut off");
        assert!(!is(&certificate("Hello world")), "not base64");
        assert!(!is(&certificate("AgEB")), "no sequence");
        assert!(!is("MAMCAQE="), "no frame");
        assert!(!has_block(certificate("MAMCAQE=").as_bytes(), &["PRIVATE KEY"]));
    }
}
