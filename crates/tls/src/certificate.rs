//! Reading certificates: the facts that the mesh asks of a leaf and of a root, and PEM.
//!
//! Signatures are not checked here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use heddle_cert::{Root, RootId, Serial, Validity};

use crate::provider::sha256_hex;

/// Certificates read from one PEM text; a system's roots are about 150.
const PEM_CERTIFICATES_MAX: usize = 1_024;
/// Other names of a leaf that an error repeats.
const NAMES_IN_ERROR_MAX: usize = 8;

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not an X.509 certificate.
    #[error("not an X.509 certificate: {detail}")]
    Malformed {
        /// What the parser says.
        detail: String,
    },
    /// The bytes are not a revocation list that can be used.
    #[error("not a certificate revocation list: {detail}")]
    MalformedList {
        /// What the parser says.
        detail: String,
    },
    /// A text has no certificate in it.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// A root is not allowed to sign certificates.
    #[error("certificate {subject:?} is not an authority's and cannot be a root")]
    NotAnAuthority {
        /// Its subject.
        subject: String,
    },
    /// A PEM text has too many certificates.
    #[error("more than {max} certificates in the PEM text")]
    TooMany {
        /// The bound.
        max: usize,
    },
}

/// What a leaf says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafFacts {
    pub(crate) uri_names: Vec<String>,
    /// Names of other kinds, for error texts.
    pub(crate) other_names: Vec<String>,
    pub(crate) validity: Validity,
    pub(crate) serial: Option<Serial>,
    pub(crate) is_authority: bool,
    /// Key usage allows what TLS 1.3 needs; true where the extension is absent.
    pub(crate) may_sign: bool,
}

impl LeafFacts {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let (mut uri_names, mut other_names) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().map_err(malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uri_names.push((*uri).to_owned()),
                // Not UTF-8; kept so that it counts.
                GeneralName::Invalid(tag, _) if tag.0 == 6 => uri_names.push(String::new()),
                other if other_names.len() < NAMES_IN_ERROR_MAX => {
                    other_names.push(other.to_string());
                }
                _ => {}
            }
        }
        let key_usage = certificate.key_usage().map_err(malformed)?;
        let constraints = certificate.basic_constraints().map_err(malformed)?;
        let signs_certificates = key_usage
            .as_ref()
            .is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
        Ok(Self {
            uri_names,
            other_names,
            validity: validity(&certificate),
            serial: serial(&certificate),
            is_authority: constraints.is_some_and(|constraints| constraints.value.ca)
                || signs_certificates,
            may_sign: key_usage.is_none_or(|usage| usage.value.digital_signature()),
        })
    }
}

/// The names of a leaf, for those who are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafNames {
    /// The subject as RFC 4514 writes it: most specific part first.
    pub subject: String,
    /// URIs among the alternative names.
    pub uris: Vec<String>,
    /// DNS names among the alternative names.
    pub dns: Vec<String>,
}

impl LeafNames {
    /// Reads the names of the certificate `der`.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().map_err(malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                _ => {}
            }
        }
        let mut parts: Vec<String> = certificate
            .subject()
            .iter_attributes()
            .map(|attribute| {
                let registry = x509_parser::objects::oid_registry();
                let kind = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry);
                let kind =
                    kind.map_or_else(|_| attribute.attr_type().to_string(), ToOwned::to_owned);
                format!("{kind}={}", attribute.as_str().unwrap_or_default())
            })
            .collect();
        parts.reverse();
        Ok(Self { subject: parts.join(","), uris, dns })
    }
}

/// The serial number of the certificate `der`; none where it is longer than any that an authority of ours gives.
pub fn serial_of(der: &[u8]) -> Result<Option<Serial>, CertificateError> {
    parse(der).map(|certificate| serial(&certificate))
}

fn serial(certificate: &X509Certificate<'_>) -> Option<Serial> {
    let bytes = certificate.raw_serial();
    // DER writes as many bytes as are needed, and one more where the first bit is set.
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let significant = bytes.get(start..).unwrap_or_default();
    let mut serial = [0; 16];
    let from = serial.len().checked_sub(significant.len())?;
    serial[from..].copy_from_slice(significant);
    Some(Serial(serial))
}

/// When the certificate `der` may be used.
pub(crate) fn validity_of(der: &[u8]) -> Result<Validity, CertificateError> {
    parse(der).map(|certificate| validity(&certificate))
}

/// When the first of the certificates of a PEM text expires.
pub fn expiry_from_pem(pem: &[u8]) -> Result<SystemTime, CertificateError> {
    let ends = certificates_from_pem(pem)?.into_iter().map(|der| Ok(validity_of(&der)?.not_after));
    let ends = ends.collect::<Result<Vec<_>, _>>()?;
    ends.into_iter().min().ok_or(CertificateError::NoCertificate)
}

/// The public key of the certificate `der` (`SubjectPublicKeyInfo`).
pub(crate) fn public_key_of(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    parse(der).map(|certificate| certificate.public_key().raw.to_vec())
}

/// Whether the certificate `der` may sign others: constraint CA:TRUE, and its key usage, where it has one, says so too.
pub(crate) fn may_sign_certificates(der: &[u8]) -> Result<bool, CertificateError> {
    let certificate = parse(der)?;
    let usage = certificate.key_usage().map_err(malformed)?;
    Ok(certificate.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// A root of a trust bundle, from DER. It must be a certificate that may sign certificates.
pub fn root_from_der(provider: &CryptoProvider, der: &[u8]) -> Result<Root, CertificateError> {
    let certificate = parse(der)?;
    if !certificate.is_ca() {
        let subject = certificate.subject().to_string();
        return Err(CertificateError::NotAnAuthority { subject });
    }
    let id = sha256_hex(provider, der)
        .ok_or_else(|| malformed("the crypto provider has no SHA-256 to name it with"))?;
    Ok(Root { id: RootId::new(id), der: Arc::from(der), validity: validity(&certificate) })
}

/// The roots of a PEM text, at least one.
pub fn root_from_pem(provider: &CryptoProvider, pem: &str) -> Result<Vec<Root>, CertificateError> {
    certificates_from_pem(pem.as_bytes())?
        .iter()
        .map(|certificate| root_from_der(provider, certificate))
        .collect()
}

/// The revocation lists of a PEM text (label `X509 CRL`), in DER, each of which can be read; none when the text has
/// nothing but white space.
pub fn revocation_lists_from_pem(pem: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(pem) {
        let list = list.map_err(malformed_list)?;
        revocation_list(&list)?;
        lists.push(Arc::from(list.as_ref()));
    }
    if lists.is_empty() && !pem.trim_ascii().is_empty() {
        return Err(malformed_list("no revocation list in the PEM text"));
    }
    Ok(lists)
}

/// Reads a revocation list.
pub(crate) fn revocation_list(der: &[u8]) -> Result<CertRevocationList<'static>, CertificateError> {
    OwnedCertRevocationList::from_der(der).map(Into::into).map_err(malformed_list)
}

/// When the issuer of a revocation list is going to replace it, or should have.
pub fn revocation_list_due(der: &[u8]) -> Result<Option<SystemTime>, CertificateError> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(malformed_list)?;
    Ok(list.next_update().map(|time| from_unix_seconds(time.timestamp())))
}

/// The roots of another trust domain, as people have them: certificates in PEM, or a bundle in JSON (SPIFFE Trust
/// Domain and Bundle, section 4: a JWK set whose keys of use `x509-svid` have a certificate in `x5c`). At least one.
pub fn roots_from_bundle(
    provider: &CryptoProvider,
    text: &str,
) -> Result<Vec<Root>, CertificateError> {
    use base64::Engine as _;
    if !text.trim_start().starts_with('{') {
        return root_from_pem(provider, text);
    }
    let bundle: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
    let keys = bundle.get("keys").and_then(serde_json::Value::as_array);
    let of_x509 = |key: &&serde_json::Value| key["use"] == "x509-svid";
    let mut roots = Vec::new();
    for key in keys.into_iter().flatten().filter(of_x509) {
        let certificate = key["x5c"].get(0).and_then(serde_json::Value::as_str);
        let certificate = certificate.ok_or_else(|| malformed("a key without x5c"))?;
        let der = base64::engine::general_purpose::STANDARD.decode(certificate);
        roots.push(root_from_der(provider, &der.map_err(malformed)?)?);
    }
    if roots.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(roots) }
}

/// Writes DER in PEM (RFC 7468): `label` is `CERTIFICATE` or `CERTIFICATE REQUEST`.
pub fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    // Section 2: lines of 64 characters.
    while let Some((line, after)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The certificates of a PEM text, in order, at least one and at most 1,024.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if certificates.len() >= PEM_CERTIFICATES_MAX {
            return Err(CertificateError::TooMany { max: PEM_CERTIFICATES_MAX });
        }
        certificates.push(certificate.map_err(malformed)?);
    }
    if certificates.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    Ok(certificates)
}

/// Certificates in DER that stand one after the other, as the SPIFFE Workload API gives them; at least one.
pub fn certificates_from_der(der: &[u8]) -> Result<Vec<Arc<[u8]>>, CertificateError> {
    let mut certificates = Vec::new();
    let mut rest = der;
    while !rest.is_empty() {
        if certificates.len() >= PEM_CERTIFICATES_MAX {
            return Err(CertificateError::TooMany { max: PEM_CERTIFICATES_MAX });
        }
        let (after, _) = X509Certificate::from_der(rest).map_err(malformed)?;
        let (one, _) = rest.split_at(rest.len() - after.len());
        certificates.push(Arc::from(one));
        rest = after;
    }
    if certificates.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(certificates) }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(malformed)?;
    if rest.is_empty() { Ok(certificate) } else { Err(malformed("bytes after its end")) }
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity {
        not_before: from_unix_seconds(validity.not_before.timestamp()),
        not_after: from_unix_seconds(validity.not_after.timestamp()),
    }
}

/// Times before 1970 become 1970: nothing that old is in use.
fn from_unix_seconds(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn malformed(detail: impl fmt::Display) -> CertificateError {
    CertificateError::Malformed { detail: detail.to_string() }
}

fn malformed_list(detail: impl fmt::Display) -> CertificateError {
    CertificateError::MalformedList { detail: detail.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_provider;
    use crate::testing::TestRoot;

    #[test]
    fn certificates_one_after_the_other_are_told_apart() {
        let provider = default_provider();
        let (one, two) = (TestRoot::new(&provider, "1").root, TestRoot::new(&provider, "two").root);
        let both = [&*one.der, &*two.der].concat();
        assert_eq!(certificates_from_der(&both).unwrap(), [one.der.clone(), two.der]);
        assert_eq!(certificates_from_der(&[]), Err(CertificateError::NoCertificate));
        assert!(certificates_from_der(&both[..both.len() - 1]).is_err());
        assert!(certificates_from_der(&[&*one.der, b"x"].concat()).is_err());
    }

    #[test]
    fn roots_of_others_come_in_pem_and_as_a_spiffe_bundle() {
        use base64::Engine as _;
        let provider = default_provider();
        let root = TestRoot::new(&provider, "theirs").root;
        let read = |text: &str| roots_from_bundle(&provider, text);
        assert_eq!(read(&pem_of("CERTIFICATE", &root.der)).unwrap(), std::slice::from_ref(&root));
        let der = base64::engine::general_purpose::STANDARD.encode(&root.der);
        let x509 = format!(r#"{{"kty": "EC", "use": "x509-svid", "x5c": ["{der}"]}}"#);
        let jwt = r#"{"kty": "EC", "use": "jwt-svid", "kid": "a"}"#;
        let bundle = |keys: &str| format!(r#" {{"keys": [{keys}], "spiffe_sequence": 1}}"#);
        assert_eq!(read(&bundle(&format!("{jwt}, {x509}"))).unwrap(), [root]);
        assert_eq!(read(&bundle(jwt)), Err(CertificateError::NoCertificate));
        for text in ["", "{", "nothing", &bundle(r#"{"use": "x509-svid"}"#)] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
