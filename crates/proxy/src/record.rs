//! What is told of a request or stream once it is over.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::SpiffeId;
use heddle_ir::destination::Destination;
use heddle_ir::endpoint::Endpoint;

/// Takes note of requests and streams. Called on the forwarding path: must neither block nor wait.
pub trait Recorder: Send + Sync + 'static {
    /// A request is over, whatever became of it.
    fn request(&self, record: &RequestRecord<'_>);
    /// A stream that is not HTTP was opened.
    fn stream_opened(&self, record: &StreamRecord<'_>);
    /// A stream that is not HTTP has ended.
    fn stream_closed(&self, record: &StreamRecord<'_>);
}

/// Which side of a request a proxy stands on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// To the proxy's workload.
    Inbound,
    /// From the proxy's workload.
    Outbound,
}

/// What was spoken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestProtocol {
    /// gRPC.
    Grpc,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Who is at the other side of a connection, or a destination, where that is known.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// Which side the proxy stands on.
    pub direction: Direction,
    /// The peer's identity: of the client inbound, of the server outbound. None on plaintext.
    pub peer: Option<&'a SpiffeId>,
    /// The client's address.
    pub client_address: SocketAddr,
    /// The address that the client connected to.
    pub destination_address: SocketAddr,
    /// Where it was sent, outbound; none where it was not sent anywhere.
    pub destination: Option<&'a Arc<Destination>>,
    /// The endpoint that was picked, outbound.
    pub endpoint: Option<&'a Arc<Endpoint>>,
    /// Whether the connection was mutual TLS.
    pub mutual_tls: bool,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// Between whom.
    pub parties: Parties<'a>,
    /// What was spoken.
    pub protocol: RequestProtocol,
    /// Status of the response; 0 where the client got none.
    pub status: u16,
    /// Of gRPC, where it is known.
    pub grpc_status: Option<u32>,
    /// What went wrong.
    pub flags: Flags,
    /// From the first byte of the request head to the last of the response.
    pub duration: Duration,
    /// Head and body.
    pub request_bytes: u64,
    /// Head and body.
    pub response_bytes: u64,
    /// Name of the route, outbound.
    pub route: Option<&'a str>,
}

/// A stream that is not HTTP.
#[derive(Clone, Copy, Debug)]
pub struct StreamRecord<'a> {
    /// Between whom.
    pub parties: Parties<'a>,
    /// What went wrong.
    pub flags: Flags,
    /// How long it was open.
    pub duration: Duration,
    /// Bytes from the client.
    pub received_bytes: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
}

/// What went wrong with a request, with Envoy's names. Several may hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$meta:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl Flags {
            $($(#[$meta])* pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &'static [(u32, &'static str)] = &[$((1 << $bit, $text)),*];
        }
    };
}

flags! {
    /// The client closed or reset before the response was complete.
    DOWNSTREAM_TERMINATED = 0, "DC";
    /// The client did not speak the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 1, "DPE";
    /// A delay was injected.
    DELAY_INJECTED = 2, "DI";
    /// The stream or request was longer than it may last.
    DURATION_TIMEOUT = 3, "DT";
    /// An abort was injected.
    FAULT_INJECTED = 4, "FI";
    /// There is no destination of that name.
    NO_CLUSTER = 5, "NC";
    /// No endpoint is there to be picked.
    NO_HEALTHY_UPSTREAM = 6, "UH";
    /// No route matched.
    NO_ROUTE = 7, "NR";
    /// Nothing moved for too long.
    STREAM_IDLE_TIMEOUT = 8, "SI";
    /// The endpoint could not be connected to.
    UPSTREAM_CONNECTION_FAILURE = 9, "UF";
    /// The endpoint closed before the response was complete.
    UPSTREAM_CONNECTION_TERMINATION = 10, "UC";
    /// A limit was reached.
    UPSTREAM_OVERFLOW = 11, "UO";
    /// The endpoint did not speak the protocol.
    UPSTREAM_PROTOCOL_ERROR = 12, "UPE";
    /// The endpoint reset the stream.
    UPSTREAM_REMOTE_RESET = 13, "UR";
    /// Every retry failed.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 14, "URX";
    /// The response did not come in time.
    UPSTREAM_TIMEOUT = 15, "UT";
    /// The name of the endpoint could not be resolved.
    DNS_FAILURE = 16, "DF";
}

impl Flags {
    /// Nothing went wrong.
    pub const NONE: Self = Self(0);

    /// Whether nothing went wrong.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` hold.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Flags {
    /// Comma-separated; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let names = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit != 0);
        for (place, (_, name)) in names.enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A recorder that forgets everything.
#[derive(Debug, Default)]
pub struct NoRecorder;

impl Recorder for NoRecorder {
    fn request(&self, _: &RequestRecord<'_>) {}
    fn stream_opened(&self, _: &StreamRecord<'_>) {}
    fn stream_closed(&self, _: &StreamRecord<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_envoy_prints_them() {
        assert_eq!(Flags::NONE.to_string(), "-");
        let both = Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED.with(Flags::UPSTREAM_CONNECTION_FAILURE);
        assert_eq!(both.to_string(), "UF,URX");
        assert!(both.contains(Flags::UPSTREAM_CONNECTION_FAILURE) && !both.contains(Flags::NO_ROUTE));
    }
}
