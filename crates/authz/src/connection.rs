//! What is known of a connection, prepared once, and which transports are accepted.

use std::borrow::Cow;
use std::net::IpAddr;

use heddle_ident::SpiffeId;
use heddle_ir::inbound::MutualTls;
use heddle_ir::request::ConnectionFacts;

/// How a connection arrived.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Mutual TLS that the proxy terminated, the peer's certificate verified against the mesh's roots.
    MutualTls,
    /// TLS that the proxy does not terminate: the application's own.
    OpaqueTls,
    /// No TLS.
    Plaintext,
}

impl Transport {
    /// As `explain` and policies call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual-tls",
            Self::OpaqueTls => "tls",
            Self::Plaintext => "plaintext",
        }
    }
}

/// A connection to or from the local workload, with everything that policies look at worked out once.
#[derive(Clone, Debug)]
pub struct Connection {
    transport: Transport,
    facts: ConnectionFacts,
    /// Lower case, without trailing dot.
    server_name: Option<String>,
    /// The peer's identity without `spiffe://`.
    principal: Option<String>,
    /// `namespace/name`.
    service_account: Option<String>,
    protocol: Cow<'static, str>,
    icmp_type: Option<u16>,
    /// Lower case, without trailing dot.
    destination_names: Vec<String>,
    /// Lower case, without trailing dot.
    queried_name: Option<String>,
}

/// As names are compared: lower case, without the dot that makes them absolute.
fn canonical_name(mut name: String) -> String {
    name.make_ascii_lowercase();
    if name.ends_with('.') {
        name.pop();
    }
    name
}

impl Connection {
    /// Prepares the facts of a connection. An identity counts only when it was proven by mutual TLS.
    pub fn new(transport: Transport, mut facts: ConnectionFacts) -> Self {
        if transport != Transport::MutualTls {
            facts.peer_identity = None;
        }
        let identity = facts.peer_identity.as_ref();
        let principal = identity.map(SpiffeId::principal);
        let service_account = identity
            .and_then(SpiffeId::service_account)
            .map(|(namespace, name)| format!("{namespace}/{name}"));
        let server_name = facts.server_name.take().map(canonical_name);
        Self {
            transport,
            facts,
            server_name,
            principal,
            service_account,
            protocol: Cow::Borrowed("tcp"),
            icmp_type: None,
            destination_names: Vec::new(),
            queried_name: None,
        }
    }

    /// The same towards an address that was found under these names.
    #[must_use]
    pub fn with_destination_names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.destination_names = names.into_iter().map(canonical_name).collect();
        self
    }

    /// The same, but a DNS query for a name.
    #[must_use]
    pub fn with_queried_name(mut self, name: String) -> Self {
        self.queried_name = Some(canonical_name(name));
        self
    }

    /// The same, but not TCP: `udp`, `sctp`, `icmp`, `icmpv6`, the last two with the type of the message.
    #[must_use]
    pub fn with_protocol(
        mut self,
        protocol: impl Into<Cow<'static, str>>,
        icmp_type: Option<u16>,
    ) -> Self {
        self.protocol = protocol.into();
        self.icmp_type = icmp_type;
        self
    }

    /// What is spoken above IP.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The type of an ICMP message.
    pub fn icmp_type(&self) -> Option<u16> {
        self.icmp_type
    }

    /// The names that the destination's address was found under; outbound only.
    pub fn destination_names(&self) -> &[String] {
        &self.destination_names
    }

    /// The name that a DNS query asks for.
    pub fn queried_name(&self) -> Option<&str> {
        self.queried_name.as_deref()
    }

    /// How it arrived.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The identity that the peer has proven; none without mutual TLS.
    pub fn peer_identity(&self) -> Option<&SpiffeId> {
        self.facts.peer_identity.as_ref()
    }

    /// The peer's identity as principals are written, without `spiffe://`.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// `namespace/name` of the peer's service account; none where its identity is of another form.
    pub fn service_account(&self) -> Option<&str> {
        self.service_account.as_deref()
    }

    /// The server name of the TLS ClientHello, lower case.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The address that the connection came from.
    pub fn source(&self) -> IpAddr {
        self.facts.source.ip().to_canonical()
    }

    /// The address that the connection was made to.
    pub fn destination(&self) -> IpAddr {
        self.facts.destination.ip().to_canonical()
    }

    /// The port that the connection was made to.
    pub fn destination_port(&self) -> u16 {
        self.facts.destination.port()
    }
}

/// Whether the transport of a connection is accepted. The same is asked again by every decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acceptance<'a> {
    /// It is; policies decide the rest.
    Accept,
    /// It is plaintext where mutual TLS is required, but comes from where health checks come from: requests for a probe
    /// path are served, everything else is refused.
    ProbesOnly(&'a MutualTls),
    /// It is not, by this setting. The connection is closed without a byte of answer.
    Refuse(&'a MutualTls),
}
