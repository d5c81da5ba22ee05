//! Application protocols as ports declare them.

/// The protocol spoken on a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Protocol {
    /// Nothing was declared: told from the first bytes, of whichever side speaks first.
    Detect,
    /// gRPC, that is HTTP/2 with gRPC's retry and error conventions.
    Grpc,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// TLS that the proxy does not terminate; routed by server name.
    Tls,
    /// Datagrams; never proxied.
    Udp,
}

impl Protocol {
    /// Whether requests of this protocol can be routed at layer 7.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Grpc | Self::Http1 | Self::Http2)
    }
}
