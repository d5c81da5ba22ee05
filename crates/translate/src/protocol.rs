//! What is spoken on a port, as Services and ServiceEntries declare it (API.md 5.3).

use heddle_ir::protocol::Protocol;

/// Ports that are plain TCP where nothing is declared, since the server speaks first there.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// What a name declares; none for one that declares nothing.
pub(crate) fn parse(text: &str) -> Option<Protocol> {
    Some(match text.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => Protocol::Http1,
        "http2" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" | "grpc-web" => Protocol::Grpc,
        "https" | "tls" | "kubernetes.io/wss" => Protocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" | "linkerd.io/opaque" | "linkerd.io/tcp" => {
            Protocol::Tcp
        }
        "udp" => Protocol::Udp,
        _ => return None,
    })
}

/// What a port's name declares: its beginning, up to the first dash.
pub(crate) fn of_port_name(name: &str) -> Option<Protocol> {
    // `grpc-web` is a protocol with a dash of its own.
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return Some(Protocol::Grpc);
    }
    parse(name.split_once('-').map_or(name, |(prefix, _)| prefix))
}

/// What is spoken on a port of a Service.
pub(crate) fn of_port(app_protocol: Option<&str>, name: Option<&str>, port: u16) -> Protocol {
    app_protocol.and_then(parse).or_else(|| name.and_then(of_port_name)).unwrap_or(
        if SERVER_FIRST_PORTS.contains(&port) { Protocol::Tcp } else { Protocol::Detect },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_protocol_wins_over_the_name() {
        assert_eq!(of_port(Some("grpc"), Some("http-web"), 80), Protocol::Grpc);
        assert_eq!(of_port(Some("kubernetes.io/h2c"), None, 80), Protocol::Http2);
        assert_eq!(of_port(Some("example.com/own"), Some("http"), 80), Protocol::Http1);
        assert_eq!(of_port(None, Some("http-web"), 80), Protocol::Http1);
        assert_eq!(of_port(None, Some("grpc-web"), 80), Protocol::Grpc);
        assert_eq!(of_port(None, Some("httpx"), 80), Protocol::Detect);
        assert_eq!(of_port(None, None, 3306), Protocol::Tcp);
        assert_eq!(of_port(None, Some("https"), 443), Protocol::Tls);
        assert_eq!(of_port(None, None, 443), Protocol::Detect);
    }
}
