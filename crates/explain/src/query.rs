//! What is asked.

use std::net::IpAddr;

use crate::head::Speaks;

/// A request to explain. Only `from` and `to` must be there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Query {
    /// `namespace/workload`, `sa:namespace/name`, `outside`, or `gateway:namespace/name`.
    pub from: String,
    /// A host as the client writes it, an address, or `namespace/workload`, each with an optional port.
    pub to: String,
    /// What the client speaks; none: what fits the port.
    pub protocol: Option<String>,
    /// The method; none: `GET`, and `POST` for gRPC.
    pub method: Option<String>,
    /// Path with query; none: `/`.
    pub path: Option<String>,
    /// `Host` or `:authority`; none: what `to` says.
    pub authority: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The client's address; none: the workload's.
    pub source_ip: Option<IpAddr>,
    /// A token, which is sent as `authorization: Bearer`.
    pub jwt: Option<String>,
}

/// Why a question cannot be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// `from` has no form that is known.
    #[error(
        "cannot read the client {0:?}: NAMESPACE/WORKLOAD, sa:NAMESPACE/NAME, outside or gateway:NAMESPACE/NAME"
    )]
    From(String),
    /// `to` has no form that is known.
    #[error(
        "cannot read the destination {0:?}: HOST[:PORT], ADDRESS[:PORT] or NAMESPACE/WORKLOAD[:PORT]"
    )]
    To(String),
    /// The protocol is not known.
    #[error("no protocol is called {0:?}: http1, http2, grpc, tcp, tls or udp")]
    Protocol(String),
    /// No workload has the name.
    #[error("no workload is called {name}; {known}")]
    NoWorkload {
        /// As it was asked for.
        name: String,
        /// Those that there are, in a sentence.
        known: String,
    },
    /// No gateway has the name.
    #[error("no gateway is called {name}; {known}")]
    NoGateway {
        /// As it was asked for.
        name: String,
        /// Those that there are, in a sentence.
        known: String,
    },
    /// A workload was asked for without a port, and has none by itself.
    #[error("{0} has no port of its own; write one behind a colon")]
    NoPort(String),
}

impl Query {
    /// What the client is said to speak; none where nothing is said.
    pub(crate) fn speaks(&self) -> Result<Option<Speaks>, QueryError> {
        let Some(text) = self.protocol.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(match text.to_ascii_lowercase().as_str() {
            "http" | "http1" | "http/1" | "http/1.1" | "http/1.0" | "http1.1" | "ws" => {
                Speaks::Http1
            }
            "http2" | "http/2" | "h2" | "h2c" => Speaks::Http2,
            "grpc" | "grpc-web" => Speaks::Grpc,
            "tcp" | "mongo" | "mysql" | "redis" => Speaks::Tcp,
            "tls" | "https" => Speaks::Tls,
            "udp" => Speaks::Udp,
            _ => return Err(QueryError::Protocol(text.to_owned())),
        }))
    }
}
