//! `istio.v1.auth`: how a workload's proxy gets its certificate signed.
//!
//! The API of Istio's `security/v1alpha1/ca.proto`, so that istio-csr and its like can stand in for the control
//! plane. Who asks is told by the channel, never by the message.

/// The path of the one call, `CreateCertificate`.
pub const CREATE_CERTIFICATE_PATH: &str =
    "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// The full name of the service.
pub const SERVICE_NAME: &str = "istio.v1.auth.IstioCertificateService";

/// The path of heddle's own call beside it, `Installed`.
pub const INSTALLED_PATH: &str = "/heddle.certificate.v1.InstallationService/Installed";

/// A proxy says which certificate it proves itself with from now on: its older ones are gone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InstalledCertificate {
    /// The leaf, in DER.
    #[prost(bytes = "vec", tag = "1")]
    pub leaf: Vec<u8>,
}

/// The answer: noted.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct InstalledResponse {}

/// A signing request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CertificateRequest {
    /// PKCS #10 request in PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Wished lifetime in seconds; 0: the authority's default. The authority may give less.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Heddle's own: the key is the application's, not its proxy's, so that neither's certificate takes the place of the
    /// other's. Other authorities do not know it and need not.
    #[prost(bool, tag = "1000")]
    pub for_application: bool,
}

/// The signed certificate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CertificateResponse {
    /// PEM, leaf first, root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// The path of heddle's call for machines that have a token and nothing else yet, `Join`.
pub const JOIN_PATH: &str = "/heddle.certificate.v1.JoinService/Join";

/// The path of heddle's call for machines that have joined, `Refresh`.
pub const REFRESH_PATH: &str = "/heddle.certificate.v1.JoinService/Refresh";

/// A machine proves itself with a one-time token and asks for its first certificate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinRequest {
    /// The token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// PKCS #10 request in PEM; it names the identity that the token is for.
    #[prost(string, tag = "2")]
    pub csr: String,
    /// What it runs for the mesh; absent: nothing, it wants the certificate only.
    #[prost(message, optional, tag = "3")]
    pub machine: Option<Machine>,
}

/// What a machine is in the mesh. Labels, ports and the identity are those of the object that it names: a machine cannot
/// say them of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Machine {
    /// The WorkloadGroup that it is an instance of, in the namespace of its identity; empty: none.
    #[prost(string, tag = "1")]
    pub workload_group: String,
    /// The WorkloadEntry that it is, in the namespace of its identity; empty: none. One of the two is given.
    #[prost(string, tag = "2")]
    pub workload_entry: String,
    /// The address at which the mesh reaches it; empty: that of its WorkloadEntry.
    #[prost(string, tag = "3")]
    pub address: String,
}

/// A certificate of a machine, and whom it trusts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinResponse {
    /// PEM, leaf first, root last; empty where none was asked for.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
    /// The mesh's trust domain.
    #[prost(string, tag = "2")]
    pub trust_domain: String,
    /// The roots of the mesh's trust domain, in DER.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub roots: Vec<Vec<u8>>,
    /// The generation of the trust bundle that the roots are of.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// The workload that the machine is, as an id; empty: it named none.
    #[prost(string, tag = "5")]
    pub workload: String,
    /// Ranges of addresses inside of the mesh, which are reached through the control plane's port.
    #[prost(string, repeated, tag = "6")]
    pub workload_ranges: Vec<String>,
    /// The address at which the mesh reaches the machine.
    #[prost(string, tag = "7")]
    pub address: String,
    /// The SHA-256, in hexadecimal digits, of the root that signs: another one asks for renewal.
    #[prost(string, tag = "8")]
    pub signer: String,
}

/// A machine that has joined asks whom it trusts, and for its next certificate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshRequest {
    /// PKCS #10 request in PEM; empty: no certificate is due.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// The generation of the trust bundle that it verifies the control plane with.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// The leaf that it proves itself with, in DER.
    #[prost(bytes = "vec", tag = "3")]
    pub leaf: Vec<u8>,
}

/// The path of heddle's call for tokens that prove an identity, `CreateToken`.
pub const CREATE_TOKEN_PATH: &str = "/heddle.certificate.v1.TokenService/CreateToken";

/// A proxy asks for a token for its application, and for the keys that tokens are validated with.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenRequest {
    /// Whom the token is for; none: only the keys are asked for.
    #[prost(string, repeated, tag = "1")]
    pub audiences: Vec<String>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenResponse {
    /// The token (SPIFFE JWT-SVID); empty: none was asked for.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Whose it is, as a SPIFFE id.
    #[prost(string, tag = "2")]
    pub identity: String,
    /// When it ends, in milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub expires_ms: u64,
    /// By trust domain, the JWK set (RFC 7517) that tokens of its identities are validated with.
    #[prost(btree_map = "string, string", tag = "4")]
    pub key_sets: std::collections::BTreeMap<String, String>,
}
