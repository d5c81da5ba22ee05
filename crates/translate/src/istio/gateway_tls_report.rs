//! What there is to say about TLS of a Gateway's server.

use std::sync::Arc;

use heddle_api::istio::{Gateway, Server, ServerTlsMode, ServerTlsSettings, TlsVersion};
use heddle_api::{Object, Resource as AnyObject};

use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::gateway_tls::{
    certificate_digest, credentials, object_key, secret_key, spki_digest,
};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::secret::SecretQuery;
use crate::workload::WorkloadKey;

fn set(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

/// What there is to say about the TLS settings of a server.
pub(super) fn check(
    reader: &Reader<'_>,
    object: &Arc<Object<Gateway>>,
    server: &Server,
    report: &mut Report,
) {
    let Some(tls) = &server.tls else { return };
    if object.is_broken(tls.at) {
        return;
    }
    let mode = tls.mode.unwrap_or(ServerTlsMode::Passthrough);
    let terminates = !matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
    if terminates {
        check_certificates(object, tls, mode, report);
        check_client(object, tls, mode, report);
        check_versions(object, tls, report);
        check_secrets(reader, object, tls, mode, report);
        check_duplicates(reader, object, server, report);
    } else {
        check_passthrough(object, tls, report);
    }
    check_pins(object, tls, report);
}

/// What is passed on is not looked at, so nothing of this has an effect.
fn check_passthrough(object: &Object<Gateway>, tls: &ServerTlsSettings, report: &mut Report) {
    let fields = [
        ("serverCertificate", set(tls.server_certificate.as_ref())),
        ("privateKey", set(tls.private_key.as_ref())),
        ("caCertificates", set(tls.ca_certificates.as_ref())),
        ("caCrl", set(tls.ca_crl.as_ref())),
        ("credentialName", set(tls.credential_name.as_ref())),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("minProtocolVersion", tls.min_protocol_version.is_some()),
        ("maxProtocolVersion", tls.max_protocol_version.is_some()),
        ("cipherSuites", !tls.cipher_suites.is_empty()),
    ];
    for (field, _) in fields.iter().filter(|(_, set)| *set) {
        let message = format!("TLS is passed through, so `{field}` has no effect");
        let origin = object.origin_of(tls.at, field);
        report.warning(codes::UPSTREAM_WARNING, origin.clone(), message.clone());
        report.ignored(origin, message);
    }
}

/// Where the certificate comes from: exactly one source.
fn check_certificates(
    object: &Object<Gateway>,
    tls: &ServerTlsSettings,
    mode: ServerTlsMode,
    report: &mut Report,
) {
    let of = |field: &str| object.origin_of(tls.at, field);
    let by_secret = set(tls.credential_name.as_ref());
    let by_secrets = !tls.credential_names.is_empty();
    if mode == ServerTlsMode::IstioMutual {
        for (field, set) in [
            ("serverCertificate", set(tls.server_certificate.as_ref())),
            ("privateKey", set(tls.private_key.as_ref())),
            ("caCertificates", set(tls.ca_certificates.as_ref())),
            ("credentialName", by_secret),
            ("credentialNames", by_secrets),
            ("tlsCertificates", !tls.tls_certificates.is_empty()),
            ("caCertCredentialName", set(tls.ca_cert_credential_name.as_ref())),
            ("caCrl", set(tls.ca_crl.as_ref())),
        ] {
            if set {
                report.rejected(of(field), "with ISTIO_MUTUAL the mesh's certificates are used");
            }
        }
        return;
    }
    let sources = [
        ("credentialName", by_secret),
        ("credentialNames", by_secrets),
        ("serverCertificate", set(tls.server_certificate.as_ref())),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    let used: Vec<&str> = sources.iter().filter(|(_, set)| *set).map(|(field, _)| *field).collect();
    if let [first, second, ..] = used.as_slice() {
        report.rejected(of(second), format!("`{first}` and `{second}` exclude each other"));
    }
    if by_secret || by_secrets {
        return;
    }
    if tls.tls_certificates.is_empty() {
        for (field, set) in [
            ("serverCertificate", set(tls.server_certificate.as_ref())),
            ("privateKey", set(tls.private_key.as_ref())),
        ] {
            if !set {
                report.rejected(of(field), format!("this mode needs `{field}` or a credential"));
            }
        }
    }
    for pair in &tls.tls_certificates {
        for (field, set) in [
            ("serverCertificate", set(pair.server_certificate.as_ref())),
            ("privateKey", set(pair.private_key.as_ref())),
        ] {
            if !set && !object.is_broken(pair.at) {
                report.rejected(
                    object.origin_of(pair.at, field),
                    format!("a certificate needs `{field}`"),
                );
            }
        }
    }
}

/// Who vouches for clients.
fn check_client(
    object: &Object<Gateway>,
    tls: &ServerTlsSettings,
    mode: ServerTlsMode,
    report: &mut Report,
) {
    let of = |field: &str| object.origin_of(tls.at, field);
    let by_secret = !credentials(tls).is_empty() || set(tls.ca_cert_credential_name.as_ref());
    let mutual = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let listed = tls.tls_certificates.iter().any(|pair| set(pair.ca_certificates.as_ref()));
    if mutual && !by_secret && !set(tls.ca_certificates.as_ref()) && !listed {
        report.rejected(of("caCertificates"), "clients need an authority that vouches for them");
    }
    if mutual && by_secret && set(tls.ca_certificates.as_ref()) {
        let message = "the authority comes from the Secret; the file is not read";
        report.warning(codes::UPSTREAM_WARNING, of("caCertificates"), message);
        report.ignored(of("caCertificates"), message);
    }
    if set(tls.ca_crl.as_ref()) {
        if mode == ServerTlsMode::Simple && !by_secret {
            report.rejected(of("caCrl"), "clients have no certificate that could be revoked");
        } else if by_secret {
            let why = "revocation lists come from the key `ca.crl` of the Secret, not from a file";
            report.unsupported(of("caCrl"), why);
        }
    }
    let about_clients = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
        ("insecureSkipVerify", tls.insecure_skip_verify == Some(true)),
    ];
    for (field, _) in about_clients.iter().filter(|(_, set)| *set && mode == ServerTlsMode::Simple)
    {
        report.ignored(of(field), "clients present no certificate");
    }
}

fn check_versions(object: &Object<Gateway>, tls: &ServerTlsSettings, report: &mut Report) {
    for (field, version) in [
        ("minProtocolVersion", tls.min_protocol_version),
        ("maxProtocolVersion", tls.max_protocol_version),
    ] {
        if matches!(version, Some(TlsVersion::Tlsv10 | TlsVersion::Tlsv11)) {
            let origin = object.origin_of(tls.at, field);
            let message = "TLS before 1.2 is not spoken (RFC 8996); 1.2 is used";
            report.warning(codes::UPSTREAM_WARNING, origin.clone(), message);
            report.translated(origin, message);
        }
    }
    if !tls.ecdh_curves.is_empty() {
        let why = "key exchange groups are the TLS library's: X25519 and the NIST curves";
        report.unsupported(object.origin_of(tls.at, "ecdhCurves"), why);
    }
    for (index, suite) in tls.cipher_suites.iter().enumerate() {
        if !CIPHER_SUITES.contains(&suite.as_str()) {
            let origin = object.origin_of_item(tls.at, "cipherSuites", index);
            let message =
                format!("`{suite}` is not spoken: only suites with forward secrecy and AEAD are");
            report.warning(codes::UPSTREAM_WARNING, origin.clone(), message.clone());
            report.ignored(origin, message);
        }
    }
}

/// OpenSSL names of the suites of TLS 1.2 that are spoken.
const CIPHER_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

fn check_pins(object: &Object<Gateway>, tls: &ServerTlsSettings, report: &mut Report) {
    for (index, text) in tls.verify_certificate_spki.iter().enumerate() {
        if spki_digest(text).is_none() {
            let origin = object.origin_of_item(tls.at, "verifyCertificateSpki", index);
            report.rejected(origin, "this is not a SHA-256 digest in base64");
        }
    }
    for (index, text) in tls.verify_certificate_hash.iter().enumerate() {
        if certificate_digest(text).is_none() {
            let origin = object.origin_of_item(tls.at, "verifyCertificateHash", index);
            report.rejected(origin, "this is not a SHA-256 digest in hexadecimal");
        }
    }
}

/// Whether the Secrets are there, in the namespaces of the workloads that serve the Gateway, and hold what is needed.
fn check_secrets(
    reader: &Reader<'_>,
    object: &Object<Gateway>,
    tls: &ServerTlsSettings,
    mode: ServerTlsMode,
    report: &mut Report,
) {
    let names = credentials(tls);
    if names.is_empty() && !set(tls.ca_cert_credential_name.as_ref()) {
        return;
    }
    let field =
        if set(tls.credential_name.as_ref()) { "credentialName" } else { "credentialNames" };
    let mut namespaces: Vec<Arc<str>> = Vec::new();
    for pod in reader.objects(Topic::Kind(Kind::Pod)) {
        let labels = &pod.meta().labels;
        let pairs = &object.spec.selector;
        if pairs.is_empty() || pairs.iter().any(|(key, value)| labels.get(key) != Some(value)) {
            continue;
        }
        if let Some(facts) = reader.read(&WorkloadKey(ObjectKey::of(&pod)))
            && !namespaces.contains(&facts.namespace)
        {
            namespaces.push(facts.namespace.clone());
        }
    }
    // A mesh on one machine makes a gateway beside the object when no workload is selected.
    if namespaces.is_empty() {
        namespaces.push(object.meta.namespace.as_str().into());
    }
    for namespace in &namespaces {
        for name in &names {
            let key = secret_key(name, namespace);
            let origin = || object.origin_of(tls.at, field);
            if reader.object(&object_key(&key)).is_none() {
                let message = format!("no Secret `{namespace}/{}`: handshakes fail", key.name);
                report.error(codes::NO_SECRET, origin(), message);
                continue;
            }
            let Some(secret) = reader.read(&SecretQuery(key.clone())) else { continue };
            let missing =
                |bytes: &[u8], header: &str| !String::from_utf8_lossy(bytes).contains(header);
            let what = if missing(&secret.certificate_chain, "-----BEGIN CERTIFICATE-----") {
                Some("a certificate (`tls.crt` or `cert`)")
            } else if missing(&secret.private_key, "PRIVATE KEY-----") {
                Some("a private key (`tls.key` or `key`)")
            } else {
                None
            };
            if let Some(what) = what {
                let message =
                    format!("the Secret `{namespace}/{}` holds no {}", key.name, &what[2..]);
                report.error(codes::SECRET_CONTENT, origin(), message);
            }
        }
        let mutual = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
        if let (Some(name), true) =
            (tls.ca_cert_credential_name.as_deref().filter(|name| !name.is_empty()), mutual)
        {
            let secret = secret_key(name, namespace);
            let map = ObjectKey::new("", "ConfigMap", namespace, &secret.name);
            if reader.object(&object_key(&secret)).is_none() && reader.object(&map).is_none() {
                let origin = object.origin_of(tls.at, "caCertCredentialName");
                let message = format!(
                    "no Secret or ConfigMap `{namespace}/{}`: no client is valid",
                    secret.name
                );
                report.error(codes::NO_SECRET, origin, message);
            }
        }
    }
}

/// Two Gateways with one certificate: browsers reuse a connection for every host that its certificate names, and then
/// ask the wrong Gateway.
fn check_duplicates(
    reader: &Reader<'_>,
    object: &Arc<Object<Gateway>>,
    server: &Server,
    report: &mut Report,
) {
    let source = |tls: &ServerTlsSettings| {
        let files = (tls.server_certificate.clone(), tls.private_key.clone());
        match tls.credential_name.clone().filter(|name| !name.is_empty()) {
            Some(name) => Some((Some(name), None)),
            None if set(files.0.as_ref()) => Some(files),
            None => None,
        }
    };
    let Some(own) = server.tls.as_ref().and_then(source) else { return };
    for other in reader.objects(Topic::Kind(Kind::Gateway)) {
        let AnyObject::Gateway(other) = other else { continue };
        // Whoever serves the other one serves this one too.
        let pairs = &object.spec.selector;
        let covered = pairs.iter().all(|(key, value)| other.spec.selector.get(key) == Some(value));
        if Arc::ptr_eq(&other, object) || !covered {
            continue;
        }
        let same = other
            .spec
            .servers
            .iter()
            .filter_map(|server| server.tls.as_ref())
            .filter_map(source)
            .any(|theirs| theirs == own);
        if same {
            let message = format!(
                "the Gateway `{}/{}` has the same certificate: a browser that reuses its connection asks the wrong one",
                other.meta.namespace, other.meta.name
            );
            let origin = object.origin_of(server.at, "tls");
            report.warning(codes::SAME_CERTIFICATE, origin, message);
            return;
        }
    }
}
