//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    Gateway {
        "selector" => selector: BTreeMap<String, String>,
        "servers" => servers: Vec<Server>,
    }
}

object! {
    /// TODO.
    Server {
        "bind" => bind: Option<String>,
        "defaultEndpoint" => default_endpoint: Option<String>,
        "hosts" => hosts: Vec<String> [required],
        "name" => name: Option<String>,
        "port" => port: ServerPort [required],
        "tls" => tls: Option<ServerTlsSettings>,
    }
}

object! {
    /// TODO.
    ServerPort {
        "name" => name: String [required],
        "number" => number: u16 [required],
        "protocol" => protocol: String [required],
        "targetPort" => target_port: Option<u16>,
    }
}

object! {
    /// TODO.
    ServerTlsSettings {
        "caCertCredentialName" => ca_cert_credential_name: Option<String>,
        "caCertificates" => ca_certificates: Option<String>,
        "caCrl" => ca_crl: Option<String>,
        "cipherSuites" => cipher_suites: Vec<String>,
        "credentialName" => credential_name: Option<String>,
        "credentialNames" => credential_names: Vec<String> [count(1, 2)],
        "ecdhCurves" => ecdh_curves: Vec<String>,
        "httpsRedirect" => https_redirect: Option<bool>,
        "insecureSkipVerify" => insecure_skip_verify: Option<bool> [nullable],
        "maxProtocolVersion" => max_protocol_version: Option<TlsVersion>,
        "minProtocolVersion" => min_protocol_version: Option<TlsVersion>,
        "mode" => mode: Option<ServerTlsMode>,
        "privateKey" => private_key: Option<String>,
        "serverCertificate" => server_certificate: Option<String>,
        "subjectAltNames" => subject_alt_names: Vec<String>,
        "tlsCertificates" => tls_certificates: Vec<TlsCertificate> [count(1, 2)],
        "verifyCertificateHash" => verify_certificate_hash: Vec<String>,
        "verifyCertificateSpki" => verify_certificate_spki: Vec<String>,
    }
    at_most_one ["tlsCertificates", "credentialNames"]
    at_most_one ["credentialName", "credentialNames"]
    at_most_one ["credentialNames", "tlsCertificates"]
}

object! {
    /// TODO.
    TlsCertificate {
        "caCertificates" => ca_certificates: Option<String>,
        "privateKey" => private_key: Option<String>,
        "serverCertificate" => server_certificate: Option<String>,
    }
}

choice! {
    /// TODO.
    TlsVersion {
        "TLS_AUTO" => TlsAuto,
        "TLSV1_0" => Tlsv10,
        "TLSV1_1" => Tlsv11,
        "TLSV1_2" => Tlsv12,
        "TLSV1_3" => Tlsv13,
    }
}

choice! {
    /// TODO.
    ServerTlsMode {
        "PASSTHROUGH" => Passthrough,
        "SIMPLE" => Simple,
        "MUTUAL" => Mutual,
        "AUTO_PASSTHROUGH" => AutoPassthrough,
        "ISTIO_MUTUAL" => IstioMutual,
        "OPTIONAL_MUTUAL" => OptionalMutual,
    }
}
