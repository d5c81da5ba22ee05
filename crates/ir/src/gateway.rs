//! Gateways: what a proxy listens on for clients outside its own workload, and how their requests are routed.
//!
//! Connections are told apart by port, then by the server name of their TLS ClientHello, requests by their authority.
//! Everything else is as for the workload's own traffic: the same routes, destinations and policies.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::{HostPattern, WorkloadId};

use crate::destination::Destination;
use crate::http_route::RouteTable;
use crate::outbound::{TcpRule, TlsRule};
use crate::rate_limit::RateLimits;
use crate::secret::SecretKey;

/// The listeners of one gateway workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// Whose.
    pub workload: WorkloadId,
    /// By port, each port once per address, and once more for datagrams.
    pub listeners: Vec<Listener>,
    /// The destinations that routes refer to by index.
    pub destinations: Vec<Arc<Destination>>,
}

/// A port that a gateway listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// The port that clients call, where a Service leads from it to `port`; it is what redirections to "the same port" name.
    /// 0: `port`.
    pub client_port: u16,
    /// The address; none: all addresses, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
    /// Connections begin with a PROXY protocol header (version 1 or 2), whose source then counts as the client's.
    pub proxy_protocol: bool,
    /// Who answers there. A connection or request belongs to the server with the most specific matching host; to none:
    /// TLS is ended by an alert, HTTP gets 404.
    pub servers: Vec<Server>,
}

/// One server of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where it was written.
    pub origin: Origin,
    /// Its name, for telemetry and `sectionName`; may be empty.
    pub name: Arc<str>,
    /// The hosts it serves: server names for TLS, authorities for HTTP.
    pub hosts: Vec<HostPattern>,
    /// TLS; none: plaintext.
    pub tls: Option<ServerTls>,
    /// What is spoken, after TLS is taken off where it is.
    pub protocol: ServerProtocol,
    /// Limits on the rate of its requests.
    pub rate_limits: RateLimits,
}

/// What a server speaks and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerProtocol {
    /// HTTP/1 and HTTP/2, each to its virtual host.
    Http(Vec<VirtualHost>),
    /// HTTP that is answered with a redirection (301) to the same address under `https`.
    HttpsRedirect,
    /// Opaque bytes, by rules in order; no match: the connection is reset.
    Tcp(Vec<TcpRule>),
    /// TLS that is not terminated, by rules in order; no match: the connection is reset.
    Tls(Vec<TlsRule>),
    /// Datagrams of UDP, by rules in order: what one client address and port sends goes to one endpoint for as long as the
    /// two have something to say; no match: they are dropped. Such servers have listeners of their own.
    Udp(Vec<TcpRule>),
}

impl Listener {
    /// Whether it takes datagrams, not connections.
    pub fn is_udp(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.protocol, ServerProtocol::Udp(_)))
    }

    /// The port that clients call.
    pub fn called_port(&self) -> u16 {
        if self.client_port == 0 { self.port } else { self.client_port }
    }
}

/// Hosts that share a route table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualHost {
    /// The hosts; the most specific of a server's counts.
    pub hosts: Vec<HostPattern>,
    /// Their routes.
    pub table: RouteTable,
}

/// What a server does with TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerTls {
    /// Passed on as it is; the server name says to which service port and subset, without any route
    /// (`outbound_.<port>_.<subset>_.<host>`, as Istio's east-west gateways speak it). Only mesh TLS is taken.
    AutoPassthrough,
    /// Passed on as it is, by the rules of [`ServerProtocol::Tls`].
    Passthrough,
    /// Taken off here.
    Terminate(TlsTermination),
}

/// How TLS is taken off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsTermination {
    /// What is presented; the first whose key type the client takes. Empty: nothing valid is configured, and every
    /// handshake fails.
    pub certificates: Vec<CertificateSource>,
    /// Whether clients present a certificate.
    pub client_certificate: ClientCertificate,
    /// Who vouches for clients; none: nobody, so that no client certificate is valid.
    pub client_authority: Option<AuthoritySource>,
    /// A PEM file with revocation lists of the authorities; none: those beside an authority in its secret alone count.
    pub revocations_path: Option<Arc<str>>,
    /// Names of which a client's certificate must have one; empty: any.
    pub subject_alt_names: Vec<Arc<str>>,
    /// SHA-256 of the client's public key (SPKI) or certificate, of which one must match; empty: any.
    pub certificate_pins: Vec<CertificatePin>,
    /// Lowest version.
    pub version_min: TlsVersion,
    /// Highest version.
    pub version_max: TlsVersion,
    /// OpenSSL names of cipher suites (TLS 1.2); empty: the library's choice.
    pub cipher_suites: Vec<Arc<str>>,
}

/// Whether clients present a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientCertificate {
    /// Not asked for.
    Ignore,
    /// Asked for; one that is presented must be valid.
    Optional,
    /// Asked for; one that is not valid counts as none (`AllowInsecureFallback`).
    Unverified,
    /// Must be there and valid.
    Require,
}

/// Where a certificate and its key come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateSource {
    /// PEM files that the proxy reads.
    Files {
        /// The chain, leaf first.
        chain_path: Arc<str>,
        /// The key.
        key_path: Arc<str>,
    },
    /// The identity that the mesh gave the workload.
    Mesh,
    /// A secret that the control plane sends.
    Secret(SecretKey),
}

/// Where the certificates of an authority come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthoritySource {
    /// A PEM file that the proxy reads.
    File(Arc<str>),
    /// The mesh's trust bundle.
    Mesh,
    /// Secrets (or ConfigMaps) that the control plane sends; any one may vouch.
    Secrets(Vec<SecretKey>),
}

/// What a client's certificate is compared with.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CertificatePin {
    /// SHA-256 of the certificate in DER.
    Certificate(Arc<[u8]>),
    /// SHA-256 of the subject public key info in DER.
    PublicKey(Arc<[u8]>),
}

/// A version of TLS. Older ones are not spoken; who asks for them gets 1.2 and is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}
