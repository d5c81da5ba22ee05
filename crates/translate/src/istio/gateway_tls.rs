//! TLS of a Gateway's server: what is presented, and who may connect (API.md 2.3).

use std::sync::Arc;

use heddle_api::istio::{Gateway, ServerTlsMode, ServerTlsSettings, TlsVersion as WrittenVersion};
use heddle_api::{Base64, Object};
use heddle_ir::gateway::{
    AuthoritySource, CertificatePin, CertificateSource, ClientCertificate, TlsTermination,
    TlsVersion,
};
use heddle_ir::secret::{SecretKey, SecretKind};

use crate::engine::Reader;
use crate::object::ObjectKey;

/// Suffix of the Secret that holds the authority for clients beside the one with the certificate.
pub(super) const AUTHORITY_SUFFIX: &str = "-cacert";
/// A SHA-256 digest has this many bytes.
const DIGEST_BYTES: usize = 32;

/// How TLS is taken off. `namespace` is that of the gateway workload, where its Secrets are.
pub(super) fn termination(
    reader: &Reader<'_>,
    gateway: &Object<Gateway>,
    tls: &ServerTlsSettings,
    namespace: &str,
) -> TlsTermination {
    let mode = tls.mode.unwrap_or(ServerTlsMode::Passthrough);
    let mesh = mode == ServerTlsMode::IstioMutual;
    let (client_certificate, client_authority) = match mode {
        ServerTlsMode::IstioMutual => (ClientCertificate::Require, Some(AuthoritySource::Mesh)),
        ServerTlsMode::Mutual if tls.insecure_skip_verify == Some(true) => {
            (ClientCertificate::Unverified, authority(reader, tls, namespace))
        }
        ServerTlsMode::Mutual => (ClientCertificate::Require, authority(reader, tls, namespace)),
        ServerTlsMode::OptionalMutual => {
            (ClientCertificate::Optional, authority(reader, tls, namespace))
        }
        _ => (ClientCertificate::Ignore, None),
    };
    let broken = gateway.is_broken(tls.at);
    TlsTermination {
        certificates: if broken {
            Vec::new()
        } else if mesh {
            vec![CertificateSource::Mesh]
        } else {
            certificates(tls, namespace)
        },
        client_certificate,
        // A Secret excludes files.
        revocations_path: set(tls.ca_crl.as_ref())
            .filter(|_| matches!(client_authority, Some(AuthoritySource::File(_))))
            .map(Into::into),
        client_authority,
        subject_alt_names: tls.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
        certificate_pins: pins(tls),
        version_min: version(tls.min_protocol_version).unwrap_or(TlsVersion::V1_2),
        version_max: version(tls.max_protocol_version).unwrap_or(TlsVersion::V1_3),
        cipher_suites: tls.cipher_suites.iter().map(|name| name.as_str().into()).collect(),
    }
}

/// The version of a bound; none where none is set. What is older than 1.2 is not spoken, so 1.2 stands for it.
pub(super) fn version(written: Option<WrittenVersion>) -> Option<TlsVersion> {
    match written? {
        WrittenVersion::TlsAuto => None,
        WrittenVersion::Tlsv10 | WrittenVersion::Tlsv11 | WrittenVersion::Tlsv12 => {
            Some(TlsVersion::V1_2)
        }
        WrittenVersion::Tlsv13 => Some(TlsVersion::V1_3),
    }
}

fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The names of the credentials of a server.
pub(super) fn credentials(tls: &ServerTlsSettings) -> Vec<&str> {
    match set(tls.credential_name.as_ref()) {
        Some(name) => vec![name],
        None => tls.credential_names.iter().map(String::as_str).collect(),
    }
}

fn certificates(tls: &ServerTlsSettings, namespace: &str) -> Vec<CertificateSource> {
    let names = credentials(tls);
    if !names.is_empty() {
        let keys = names.into_iter().map(|name| secret_key(name, namespace));
        return keys.map(CertificateSource::Secret).collect();
    }
    let own = set(tls.server_certificate.as_ref()).zip(set(tls.private_key.as_ref()));
    let listed = tls.tls_certificates.iter().filter_map(|pair| {
        set(pair.server_certificate.as_ref()).zip(set(pair.private_key.as_ref()))
    });
    own.into_iter()
        .chain(listed)
        .map(|(chain, key)| CertificateSource::Files {
            chain_path: chain.into(),
            key_path: key.into(),
        })
        .collect()
}

/// Who vouches for clients: the named authority, else what stands beside the certificate, else a file. A Secret wins
/// over files (API.md 11.2 row 19).
fn authority(
    reader: &Reader<'_>,
    tls: &ServerTlsSettings,
    namespace: &str,
) -> Option<AuthoritySource> {
    if let Some(name) = set(tls.ca_cert_credential_name.as_ref()) {
        let secret = secret_key(name, namespace);
        let map = SecretKey { kind: SecretKind::ConfigMap, ..secret.clone() };
        let is_map = !exists(reader, &secret) && exists(reader, &map);
        return Some(AuthoritySource::Secrets(vec![if is_map { map } else { secret }]));
    }
    let names = credentials(tls);
    if names.is_empty() {
        let listed =
            tls.tls_certificates.iter().find_map(|pair| set(pair.ca_certificates.as_ref()));
        let file = set(tls.ca_certificates.as_ref()).or(listed);
        return file.map(|path| AuthoritySource::File(path.into()));
    }
    let keys = names.into_iter().flat_map(|name| {
        let beside = secret_key(&format!("{name}{AUTHORITY_SUFFIX}"), namespace);
        [Some(beside.clone()).filter(|key| exists(reader, key)), Some(secret_key(name, namespace))]
    });
    Some(AuthoritySource::Secrets(keys.flatten().collect()))
}

fn exists(reader: &Reader<'_>, key: &SecretKey) -> bool {
    reader.object(&object_key(key)).is_some()
}

/// The object of a secret.
pub(super) fn object_key(key: &SecretKey) -> ObjectKey {
    let kind = match key.kind {
        SecretKind::ConfigMap => "ConfigMap",
        SecretKind::Secret => "Secret",
    };
    ObjectKey::new("", kind, &key.namespace, &key.name)
}

/// The Secret of a credential: a name, or `kubernetes://name`; `configmap://name` for authorities.
pub(crate) fn secret_key(name: &str, namespace: &str) -> SecretKey {
    let (kind, name) = match (name.strip_prefix("configmap://"), name.strip_prefix("kubernetes://"))
    {
        (Some(name), _) => (SecretKind::ConfigMap, name),
        (None, Some(name)) => (SecretKind::Secret, name),
        (None, None) => (SecretKind::Secret, name),
    };
    SecretKey { kind, namespace: namespace.into(), name: name.into() }
}

/// Digests of which a client's certificate must have one: of its key in base64, or of itself in hexadecimal, with colons
/// between the bytes or without. One that cannot be read matches nothing, so that the list stays a list.
fn pins(tls: &ServerTlsSettings) -> Vec<CertificatePin> {
    let keys = tls
        .verify_certificate_spki
        .iter()
        .map(|text| CertificatePin::PublicKey(spki_digest(text).unwrap_or_default()));
    let hashes = tls
        .verify_certificate_hash
        .iter()
        .map(|text| CertificatePin::Certificate(certificate_digest(text).unwrap_or_default()));
    keys.chain(hashes).collect()
}

/// A digest in base64; none where it is none.
pub(super) fn spki_digest(text: &str) -> Option<Arc<[u8]>> {
    let bytes = Base64::parse(text)?.0;
    (bytes.len() == DIGEST_BYTES).then(|| bytes.into())
}

/// A digest in hexadecimal; none where it is none.
pub(super) fn certificate_digest(text: &str) -> Option<Arc<[u8]>> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    if digits.len() != DIGEST_BYTES * 2 || !digits.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..DIGEST_BYTES)
        .map(|index| u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok())
        .collect();
    bytes.map(Into::into)
}
