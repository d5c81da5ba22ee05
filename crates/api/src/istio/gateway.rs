//! Gateway (`networking.istio.io`).

use std::collections::BTreeMap;

object! {
    /// Listeners of gateway workloads.
    Gateway {
        /// Labels of the gateway workloads, in any namespace.
        "selector" => selector: BTreeMap<String, String>,
        /// The listeners.
        "servers" => servers: Vec<Server>,
    }
}

object! {
    /// A listener.
    Server {
        /// Address or Unix socket to listen on.
        "bind" => bind: Option<String>,
        /// Never implemented upstream.
        "defaultEndpoint" => default_endpoint: Option<String>,
        /// Hosts it serves, as `namespace/host` or `host`.
        "hosts" => hosts: Vec<String> [required],
        /// Its name.
        "name" => name: Option<String>,
        /// Where it listens.
        "port" => port: ServerPort [required],
        /// TLS of these connections.
        "tls" => tls: Option<ServerTlsSettings>,
    }
}

object! {
    /// Where a listener listens.
    ServerPort {
        /// Its name, unique in the Gateway.
        "name" => name: String [required],
        /// Its number.
        "number" => number: u16 [required],
        /// `HTTP`, `HTTPS`, `GRPC`, `GRPC-WEB`, `HTTP2`, `MONGO`, `TCP` or `TLS`.
        "protocol" => protocol: String [required],
        /// Long without effect.
        "targetPort" => target_port: Option<u16>,
    }
}

object! {
    /// TLS of a listener.
    ServerTlsSettings {
        /// Secret or ConfigMap with the authorities for clients.
        "caCertCredentialName" => ca_cert_credential_name: Option<String>,
        /// File with the authorities for clients.
        "caCertificates" => ca_certificates: Option<String>,
        /// File with revoked certificates.
        "caCrl" => ca_crl: Option<String>,
        /// Cipher suites that are allowed.
        "cipherSuites" => cipher_suites: Vec<String>,
        /// Secret with key and certificates.
        "credentialName" => credential_name: Option<String>,
        /// Secrets of an RSA and an ECDSA certificate.
        "credentialNames" => credential_names: Vec<String> [count(1, 2)],
        /// Key exchange groups that are allowed.
        "ecdhCurves" => ecdh_curves: Vec<String>,
        /// Whether plain HTTP is redirected.
        "httpsRedirect" => https_redirect: Option<bool>,
        /// Whether the peer is not verified.
        "insecureSkipVerify" => insecure_skip_verify: Option<bool> [nullable],
        /// Highest TLS version.
        "maxProtocolVersion" => max_protocol_version: Option<TlsVersion>,
        /// Lowest TLS version; absent means 1.2.
        "minProtocolVersion" => min_protocol_version: Option<TlsVersion>,
        /// Which kind of TLS.
        "mode" => mode: Option<ServerTlsMode>,
        /// File with the key.
        "privateKey" => private_key: Option<String>,
        /// File with the certificate.
        "serverCertificate" => server_certificate: Option<String>,
        /// Names the peer's certificate may have.
        "subjectAltNames" => subject_alt_names: Vec<String>,
        /// Several certificates.
        "tlsCertificates" => tls_certificates: Vec<TlsCertificate> [count(1, 2)],
        /// SHA-256 digests of client certificates that are accepted.
        "verifyCertificateHash" => verify_certificate_hash: Vec<String>,
        /// SHA-256 digests of client keys that are accepted.
        "verifyCertificateSpki" => verify_certificate_spki: Vec<String>,
    }
    at_most_one ["tlsCertificates", "credentialNames"]
    at_most_one ["credentialName", "credentialNames"]
    at_most_one ["credentialNames", "tlsCertificates"]
}

object! {
    /// A certificate by files.
    TlsCertificate {
        /// File with authorities.
        "caCertificates" => ca_certificates: Option<String>,
        /// File with the key.
        "privateKey" => private_key: Option<String>,
        /// File with the certificate.
        "serverCertificate" => server_certificate: Option<String>,
    }
}

choice! {
    /// Versions of TLS.
    TlsVersion {
        "TLS_AUTO" => TlsAuto,
        "TLSV1_0" => Tlsv10,
        "TLSV1_1" => Tlsv11,
        "TLSV1_2" => Tlsv12,
        "TLSV1_3" => Tlsv13,
    }
}

choice! {
    /// Kinds of TLS of a listener.
    ServerTlsMode {
        /// Passed through by SNI, as VirtualServices say.
        "PASSTHROUGH" => Passthrough,
        /// The server has a certificate.
        "SIMPLE" => Simple,
        /// Both have.
        "MUTUAL" => Mutual,
        /// Passed through by SNI that encodes the destination.
        "AUTO_PASSTHROUGH" => AutoPassthrough,
        /// Both have the mesh's.
        "ISTIO_MUTUAL" => IstioMutual,
        /// The client may have one.
        "OPTIONAL_MUTUAL" => OptionalMutual,
    }
}
