//! Names that mesh connections carry in their TLS hello: application protocols (RFC 7301) and server names.
//!
//! They are Istio's, so that a stock sidecar or ztunnel is a peer: a sidecar says `istio` for mesh TLS whose
//! payload is opaque, `istio-http/1.1` and `istio-h2` where the client's HTTP version is known.
//! `istio-peer-exchange` is never offered and never accepted: it would put a preface into the stream.

use rustls_pki_types::{DnsName, ServerName};

/// HTTP/2 within mesh TLS between sidecars.
pub const ISTIO_H2: &[u8] = b"istio-h2";
/// HTTP/1.1 within mesh TLS between sidecars.
pub const ISTIO_HTTP_11: &[u8] = b"istio-http/1.1";
/// HTTP/1.0 within mesh TLS, as stock sidecars may offer it; the HTTP/1 codec serves both.
pub const ISTIO_HTTP_10: &[u8] = b"istio-http/1.0";
/// Mesh TLS with an opaque payload; alone, it says that the payload's protocol is to be detected.
pub const ISTIO: &[u8] = b"istio";
/// HTTP/2; with mesh TLS on the tunnel port, HBONE.
pub const H2: &[u8] = b"h2";
/// HTTP/1.1.
pub const HTTP_11: &[u8] = b"http/1.1";

/// What a sidecar's inbound side accepts, best first.
pub const SIDECAR_SERVER: &[&[u8]] = &[ISTIO_H2, ISTIO_HTTP_11, ISTIO_HTTP_10, ISTIO, H2, HTTP_11];
/// What the tunnel port accepts and its clients offer.
pub const HBONE: &[&[u8]] = &[H2];
/// What a sidecar offers when it forwards HTTP/1.1.
pub const CLIENT_HTTP_11: &[&[u8]] = &[ISTIO_HTTP_11, ISTIO, HTTP_11];
/// What a sidecar offers when it forwards HTTP/2 or gRPC.
pub const CLIENT_H2: &[&[u8]] = &[ISTIO_H2, ISTIO, H2];
/// What a sidecar offers when it forwards an opaque stream.
pub const CLIENT_TCP: &[&[u8]] = &[ISTIO];

/// What a connection carries, by its negotiated protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// To be detected: `istio`, or nothing was negotiated.
    Detect,
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Payload {
    /// The payload of a connection that negotiated `protocol`.
    pub fn of(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(ISTIO_H2 | H2) => Self::Http2,
            Some(ISTIO_HTTP_11 | ISTIO_HTTP_10 | HTTP_11) => Self::Http1,
            Some(_) | None => Self::Detect,
        }
    }
}

/// Whether a client hello that offers this protocol means mesh TLS rather than the application's own.
pub fn is_mesh(protocol: &[u8]) -> bool {
    protocol == ISTIO || protocol.starts_with(b"istio-")
}

/// The server name a sidecar sends: `outbound_.<port>_.<subset>_.<host>`, the subset empty when there is none.
///
/// Peers need it only to route by name (east-west gateways), so where it is no DNS name (an address as host, a
/// name longer than 253 bytes) no server name is sent: the returned value then is an address, which rustls
/// leaves out.
pub fn outbound_server_name(port: u16, subset: &str, host: &str) -> ServerName<'static> {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let name = DnsName::try_from(format!("outbound_.{port}_.{subset}_.{host}"));
    match name {
        Ok(name) if !is_address => ServerName::DnsName(name),
        Ok(_) | Err(_) => no_server_name(),
    }
}

/// A name that rustls does not send.
pub fn no_server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_have_istios_form() {
        let text = |port, subset, host: &str| match outbound_server_name(port, subset, host) {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        assert_eq!(
            text(9080, "v2", "reviews.default.svc.cluster.local").as_deref(),
            Some("outbound_.9080_.v2_.reviews.default.svc.cluster.local")
        );
        assert_eq!(text(80, "", "a.b").as_deref(), Some("outbound_.80_._.a.b"));
        assert_eq!(text(80, "", "10.1.2.3"), None);
        assert_eq!(text(80, "", "::1"), None);
        assert_eq!(text(80, "", &"a.".repeat(126)), None);
        assert_eq!(text(80, "a b", "x"), None);
    }

    #[test]
    fn the_peer_exchange_is_nowhere() {
        for list in [SIDECAR_SERVER, HBONE, CLIENT_HTTP_11, CLIENT_H2, CLIENT_TCP] {
            assert!(list.iter().all(|name| *name != b"istio-peer-exchange"));
        }
        assert!(is_mesh(b"istio-peer-exchange"), "such a hello is a mesh peer's all the same");
        assert!(!is_mesh(b"h2") && !is_mesh(b"istiod"));
    }

    #[test]
    fn payload_follows_the_protocol() {
        assert_eq!(Payload::of(Some(b"istio-h2")), Payload::Http2);
        assert_eq!(Payload::of(Some(b"http/1.1")), Payload::Http1);
        assert_eq!(Payload::of(Some(b"istio")), Payload::Detect);
        assert_eq!(Payload::of(None), Payload::Detect);
    }
}
