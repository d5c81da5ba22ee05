//! What is known of a connection, prepared once, and which transports are accepted.

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

/// A connection to the local workload, with everything that policies look at worked out once.
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
        let server_name = facts.server_name.take().map(|mut name| {
            name.make_ascii_lowercase();
            if name.ends_with('.') {
                name.pop();
            }
            name
        });
        Self { transport, facts, server_name, principal, service_account }
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
