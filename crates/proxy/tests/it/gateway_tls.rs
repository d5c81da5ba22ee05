//! TLS at a gateway: every mode of Istio's and of the Gateway API's listeners, over real sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use heddle_http::{Buffer, Connection, HandshakeError, TlsStream, Transport};
use heddle_ir::gateway::{
    AuthoritySource, CertificatePin, CertificateSource, ClientCertificate, ServerProtocol,
    ServerTls, TlsTermination, TlsVersion,
};
use heddle_ir::outbound::{TcpBackend, TlsRule};
use heddle_ir::protocol::Protocol;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_sync::Effect;
use heddle_tls::{Expected, alpn, sha256_hex};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, Leaf, bytes, key, secret};
use crate::gateway::{Edge, connect, free_port, http, listener, pattern, server, streams};
use crate::harness::{Message, application, mirror, run};
use crate::support::{identity, origin, rule};

/// TLS that presents a secret and asks clients for nothing.
fn simple(name: &str) -> TlsTermination {
    TlsTermination {
        certificates: vec![CertificateSource::Secret(key(name))],
        client_certificate: ClientCertificate::Ignore,
        client_authority: None,
        subject_alt_names: Vec::new(),
        certificate_pins: Vec::new(),
        version_min: TlsVersion::V1_2,
        version_max: TlsVersion::V1_3,
        revocations_path: None,
        cipher_suites: Vec::new(),
    }
}

/// The same that asks for certificates, which the same secret vouches for.
fn mutual(name: &str, client_certificate: ClientCertificate) -> TlsTermination {
    let client_authority = Some(AuthoritySource::Secrets(vec![key(name)]));
    TlsTermination { client_certificate, client_authority, ..simple(name) }
}

fn terminate(termination: TlsTermination) -> ServerTls {
    ServerTls::Terminate(termination)
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// A client outside of the mesh.
#[derive(Clone)]
struct Client<'a> {
    authority: &'a Authority,
    leaf: Option<&'a Leaf>,
    protocols: &'a [&'a [u8]],
    versions: &'a [&'static SupportedProtocolVersion],
}

impl<'a> Client<'a> {
    fn new(authority: &'a Authority) -> Self {
        Self { authority, leaf: None, protocols: &[], versions: BOTH }
    }

    fn with(&self, leaf: &'a Leaf) -> Self {
        Self { leaf: Some(leaf), ..self.clone() }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = vec![CertificateDer::from_pem_slice(leaf.chain.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    async fn connect(&self, port: u16, name: &str) -> Result<Connection, HandshakeError> {
        shake_hands(port, self.config(), ServerName::try_from(name.to_owned()).unwrap()).await
    }

    /// The status of a request; none where the connection is refused.
    async fn status(&self, port: u16, name: &str, host: &str) -> Option<u16> {
        let mut connection = self.connect(port, name).await.ok()?;
        get(&mut connection, host).await.ok().map(|message| message.status())
    }
}

async fn shake_hands(
    port: u16,
    config: ClientConfig,
    name: ServerName<'static>,
) -> Result<Connection, HandshakeError> {
    let mut buffer = Buffer::new();
    let tcp = connect(port).await;
    let tls = TlsStream::connect(tcp, Arc::new(config), name, &mut buffer).await?;
    Ok(Connection { transport: Transport::Tls(tls), buffer })
}

async fn get(connection: &mut Connection, host: &str) -> io::Result<Message> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    connection.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).unwrap();
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            let mut message = Message { head, body };
            while message.body.len() < length.unwrap_or(0) {
                assert!(connection.read_buf(&mut message.body).await? > 0);
            }
            return Ok(message);
        }
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[test]
fn the_server_name_tells_certificate_and_routes() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let (one, two) = (authority.leaf("a.example.com", 1), authority.leaf("*.b.example.com", 2));
        let servers = vec![
            server(&["a.example.com"], Some(terminate(simple("one"))), http(&["*"], vec![rule()])),
            server(
                &["*.b.example.com"],
                Some(terminate(simple("two"))),
                http(&["*"], vec![rule()]),
            ),
        ];
        let _edge = Edge::new(mirror().await, vec![listener(port, servers)], |side| {
            side.secrets = vec![secret("one", &one), secret("two", &two)];
        })
        .await;
        let client = Client::new(&authority);
        let mut connection = client.connect(port, "a.example.com").await.unwrap();
        let answer = get(&mut connection, "a.example.com").await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.text().contains("x-forwarded-proto: https\r\n"), "{}", answer.text());
        assert!(!answer.text().contains("Subject=\"CN"), "{}", answer.text());
        let host = "x.b.example.com";
        assert_eq!(client.status(port, host, host).await, Some(200));
        // The host of another server is that server's, one of nobody is nobody's.
        assert_eq!(client.status(port, "a.example.com", "x.b.example.com").await, Some(421));
        let refused = client.connect(port, "c.example.com").await.unwrap_err();
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName);
        assert!(matches!(&refused, HandshakeError::Tls(error) if *error == alert), "{refused:?}");
    });
}

#[test]
fn http2_is_negotiated() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let one = authority.leaf("a.example.com", 1);
        let own =
            server(&["*"], Some(terminate(simple("one"))), http(&["a.example.com"], vec![rule()]));
        let _edge = Edge::new(
            crate::http2::h2_application(crate::http2::echo).await,
            vec![listener(port, vec![own])],
            |side| {
                side.secrets = vec![secret("one", &one)];
                side.destination.protocol = Protocol::Http2;
                side.server_protocol = Protocol::Http2;
            },
        )
        .await;
        let client = Client { protocols: &[alpn::H2, alpn::HTTP_11], ..Client::new(&authority) };
        let connection = client.connect(port, "a.example.com").await.unwrap();
        let (sender, driver) = h2::client::handshake(connection).await.unwrap();
        tokio::task::spawn_local(driver);
        for (host, status) in [("a.example.com", 200), ("b.example.com", 404)] {
            let request = http::Request::get(format!("https://{host}/x")).body(()).unwrap();
            let mut ready = sender.clone().ready().await.unwrap();
            let (response, _) = ready.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status, "{host}");
        }
    });
}

#[test]
fn clients_prove_who_they_are() {
    run(async {
        let (authority, other) = (Authority::new("outside"), Authority::new("others"));
        let port = free_port().await;
        let own = authority.leaf("a.example.com", 1);
        let (good, revoked) = (authority.leaf("good", 2), authority.leaf("revoked", 3));
        let stranger = other.leaf("good", 2);
        let mut of_server = secret("one", &own);
        of_server.authority = bytes(&authority.pem());
        of_server.revocations = bytes(&authority.revocations(3));
        let both = || http(&["*"], vec![rule()]);
        // The same authority and list out of files, with a list that cannot be read, and without one.
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| -> Arc<str> {
            let path = files.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string().into()
        };
        let from_files = |list: Option<&str>| TlsTermination {
            client_certificate: ClientCertificate::Require,
            client_authority: Some(AuthoritySource::File(file("authority", &authority.pem()))),
            revocations_path: list.map(|list| file(&list.len().to_string(), list)),
            ..simple("one")
        };
        let required = mutual("one", ClientCertificate::Require);
        let digest = sha256_hex(
            &heddle_tls::default_provider(),
            &CertificateDer::from_pem_slice(good.chain.as_bytes()).unwrap(),
        );
        let digest = digest.unwrap();
        let digest: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&digest[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let pin = |digest: Vec<u8>| TlsTermination {
            certificate_pins: vec![CertificatePin::Certificate(digest.into())],
            ..required.clone()
        };
        let named = |name: &str| TlsTermination {
            subject_alt_names: vec![name.into()],
            ..required.clone()
        };
        let servers = vec![
            server(&["required"], Some(terminate(required.clone())), both()),
            server(
                &["optional"],
                Some(terminate(mutual("one", ClientCertificate::Optional))),
                both(),
            ),
            server(&["any"], Some(terminate(mutual("one", ClientCertificate::Unverified))), both()),
            server(&["named"], Some(terminate(named("spiffe://outside/good"))), both()),
            server(&["misnamed"], Some(terminate(named("other"))), both()),
            server(&["pinned"], Some(terminate(pin(digest))), both()),
            server(&["mispinned"], Some(terminate(pin(vec![1; 32]))), both()),
            server(
                &["files"],
                Some(terminate(from_files(Some(&authority.revocations(3))))),
                both(),
            ),
            server(&["unlisted"], Some(terminate(from_files(None))), both()),
            server(&["unreadable"], Some(terminate(from_files(Some("no list")))), both()),
        ];
        let _edge = Edge::new(mirror().await, vec![listener(port, servers)], |side| {
            side.secrets = vec![of_server];
        })
        .await;
        let anonymous = Client::new(&authority);
        let cases: [(&str, [bool; 4]); 10] = [
            // anonymous, good, revoked, of another authority
            ("required", [false, true, false, false]),
            ("optional", [true, true, false, false]),
            ("any", [true, true, true, true]),
            ("named", [false, true, false, false]),
            ("misnamed", [false, false, false, false]),
            ("pinned", [false, true, false, false]),
            ("mispinned", [false, false, false, false]),
            ("files", [false, true, false, false]),
            ("unlisted", [false, true, true, false]),
            ("unreadable", [false, false, false, false]),
        ];
        for (name, expected) in cases {
            let clients = [
                anonymous.clone(),
                anonymous.with(&good),
                anonymous.with(&revoked),
                anonymous.with(&stranger),
            ];
            for (place, (client, expected)) in clients.iter().zip(expected).enumerate() {
                // What the server's certificate says is not what is asked here.
                let status = match client.any_name(port, name).await {
                    Ok(mut connection) => get(&mut connection, name).await.ok(),
                    Err(_) => None,
                };
                assert_eq!(status.is_some(), expected, "{name} {place}");
                let told = status.map(|answer| answer.text().to_owned()).unwrap_or_default();
                let is_good = place == 1 && expected;
                if name == "unlisted" && place == 2 {
                    continue;
                }
                assert_eq!(
                    told.contains("Subject=\"CN=good,O=Shop\";URI=spiffe://outside/good;DNS=good"),
                    is_good,
                    "{name} {place} {told}"
                );
            }
        }
    });
}

impl Client<'_> {
    /// Connects whatever names the server's certificate has.
    async fn any_name(&self, port: u16, name: &str) -> Result<Connection, HandshakeError> {
        let mut config = self.config();
        config.dangerous().set_certificate_verifier(Arc::new(AnyServer));
        shake_hands(port, config, ServerName::try_from(name.to_owned()).unwrap()).await
    }
}

#[derive(Debug)]
pub(crate) struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[test]
fn versions_and_suites_have_bounds() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let own = authority.leaf("*.example.com", 1);
        let serve = |host: &str, termination| {
            server(&[host], Some(terminate(termination)), http(&["*"], vec![rule()]))
        };
        let servers = vec![
            serve(
                "new.example.com",
                TlsTermination { version_min: TlsVersion::V1_3, ..simple("one") },
            ),
            serve(
                "old.example.com",
                TlsTermination { version_max: TlsVersion::V1_2, ..simple("one") },
            ),
            serve(
                "suites.example.com",
                TlsTermination {
                    version_max: TlsVersion::V1_2,
                    cipher_suites: vec!["ECDHE-RSA-AES128-GCM-SHA256".into()],
                    ..simple("one")
                },
            ),
        ];
        let _edge = Edge::new(mirror().await, vec![listener(port, servers)], |side| {
            side.secrets = vec![secret("one", &own)];
        })
        .await;
        let client = |versions| Client { versions, ..Client::new(&authority) };
        let (old, new) = (client(OLD), client(NEW));
        for (host, with_old, with_new) in [
            ("new.example.com", None, Some(200)),
            ("old.example.com", Some(200), None),
            // The certificate's key is of another kind than the only suite's.
            ("suites.example.com", None, None),
        ] {
            assert_eq!(old.status(port, host, host).await, with_old, "{host}");
            assert_eq!(new.status(port, host, host).await, with_new, "{host}");
        }
    });
}

#[test]
fn the_meshs_own_tls_is_taken_too() {
    run(async {
        let port = free_port().await;
        let mesh_only = TlsTermination {
            certificates: vec![CertificateSource::Mesh],
            client_certificate: ClientCertificate::Require,
            client_authority: Some(AuthoritySource::Mesh),
            ..simple("none")
        };
        let own = server(&["*"], Some(terminate(mesh_only)), http(&["*"], vec![rule()]));
        let edge = Edge::new(mirror().await, vec![listener(port, vec![own])], |_| {}).await;
        let client = edge.mesh.identity("client").current().unwrap();
        let expected = Expected::identities([identity("gateway")]);
        let config = client.client(alpn::CLIENT_HTTP_11, expected).unwrap();
        let name = ServerName::try_from("a.example.com").unwrap();
        let config = (**config.config()).clone();
        let mut connection = shake_hands(port, config, name).await.unwrap();
        let answer = get(&mut connection, "a.example.com").await.unwrap();
        assert!(answer.text().contains("URI=spiffe://cluster.local/ns/default/sa/client"));
        let authority = Authority::new("outside");
        assert_eq!(Client::new(&authority).status(port, "a.example.com", "a").await, None);
    });
}

/// A server that answers what it gets, and begins with a greeting.
async fn echo() -> SocketAddr {
    application(|mut peer| async move {
        peer.send(b"220 ready").await;
        while peer.fill().await {
            let bytes = std::mem::take(&mut peer.buffer);
            peer.send(bytes).await;
        }
    })
    .await
}

async fn greeted(connection: &mut Connection) {
    let mut bytes = [0; 9];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"220 ready");
    connection.write_all(b"ping").await.unwrap();
    connection.flush().await.unwrap();
    connection.read_exact(&mut bytes[..4]).await.unwrap();
    assert_eq!(&bytes[..4], b"ping");
}

#[test]
fn streams_go_through_with_and_without_tls() {
    run(async {
        let (authority, secure, plain) =
            (Authority::new("outside"), free_port().await, free_port().await);
        let own = authority.leaf("a.example.com", 1);
        let listeners = vec![
            listener(plain, vec![server(&["*"], None, ServerProtocol::Tcp(streams()))]),
            listener(
                secure,
                vec![server(
                    &["*"],
                    Some(terminate(simple("one"))),
                    ServerProtocol::Tcp(streams()),
                )],
            ),
        ];
        let _edge = Edge::new(echo().await, listeners, |side| {
            side.secrets = vec![secret("one", &own)];
            side.server_protocol = Protocol::Tcp;
        })
        .await;
        let mut client = Connection::new(Transport::Plain(connect(plain).await));
        greeted(&mut client).await;
        let mut client = Client::new(&authority).connect(secure, "a.example.com").await.unwrap();
        greeted(&mut client).await;
    });
}

/// A server that answers with the first byte that it gets and how many more there are.
async fn first_byte() -> SocketAddr {
    application(|mut peer| async move {
        while peer.buffer.len() < 6 && peer.fill().await {}
        let first = peer.buffer[0];
        peer.send([first, b'!']).await;
    })
    .await
}

#[test]
fn tls_is_passed_on_by_its_server_name() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let rule = TlsRule {
            origin: origin(),
            server_names: vec![pattern("*.example.com")],
            destination_ranges: Vec::new(),
            backends: vec![TcpBackend { origin: origin(), destination: Some(0), weight: 1 }],
        };
        let own = server(&["*"], Some(ServerTls::Passthrough), ServerProtocol::Tls(vec![rule]));
        let _edge = Edge::new(first_byte().await, vec![listener(port, vec![own])], |side| {
            side.server_protocol = Protocol::Tls;
        })
        .await;
        for (name, passes) in [("a.example.com", true), ("a.example.org", false)] {
            let client = Client::new(&authority);
            let name = ServerName::try_from(name).unwrap();
            let mut session =
                rustls::ClientConnection::new(Arc::new(client.config()), name).unwrap();
            let mut hello = Vec::new();
            session.write_tls(&mut hello).unwrap();
            let mut connection = connect(port).await;
            connection.write_all(&hello).await.unwrap();
            let mut answer = [0; 2];
            let answered = connection.read_exact(&mut answer).await.is_ok();
            assert_eq!((answered, answered && answer == [0x16, b'!']), (passes, passes));
        }
    });
}

#[test]
fn tls_of_the_mesh_is_passed_on_to_the_service_it_names() {
    run(async {
        let port = free_port().await;
        let own =
            server(&["*.local"], Some(ServerTls::AutoPassthrough), ServerProtocol::Tls(Vec::new()));
        let edge = Edge::new(mirror().await, vec![listener(port, vec![own])], |_| {}).await;
        let client = edge.mesh.identity("client").current().unwrap();
        // The server's own proxy is at the other end.
        let expected = Expected::identities([identity("server")]);
        let config = client.client(alpn::CLIENT_HTTP_11, expected).unwrap();
        let host = "server.default.svc.cluster.local";
        let name = alpn::outbound_server_name(8080, "", host);
        let config = (**config.config()).clone();
        let mut connection = shake_hands(port, config.clone(), name).await.unwrap();
        assert_eq!(get(&mut connection, host).await.unwrap().status(), 200);
        let made_up = "made-up.default.svc.cluster.local";
        for (port_of_service, subset, host) in
            [(8081, "", host), (8080, "v2", host), (8080, "", made_up)]
        {
            let name = alpn::outbound_server_name(port_of_service, subset, host);
            assert!(shake_hands(port, config.clone(), name).await.is_err());
        }
        assert_eq!(edge.wanted.names(), [], "a name of nobody's is asked for");
    });
}

#[test]
fn certificates_change_under_way() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let own = server(&["*"], Some(terminate(simple("one"))), http(&["*"], vec![rule()]));
        let edge = Edge::new(mirror().await, vec![listener(port, vec![own])], |_| {}).await;
        let client = Client::new(&authority);
        let host = "a.example.com";
        // There is no secret yet.
        assert_eq!(client.status(port, host, host).await, None);
        let publish = |leaf: &Leaf| {
            let secret = secret("one", leaf);
            let name = ResourceName::Secret(secret.key.clone());
            edge.publish(Effect::Set(name, Resource::Secret(Arc::new(secret))));
        };
        publish(&authority.leaf(host, 1));
        let mut kept = client.connect(port, host).await.unwrap();
        assert_eq!(get(&mut kept, host).await.unwrap().status(), 200);
        let other = Authority::new("others");
        publish(&other.leaf(host, 2));
        assert_eq!(client.status(port, host, host).await, None);
        assert_eq!(Client::new(&other).status(port, host, host).await, Some(200));
        assert_eq!(get(&mut kept, host).await.unwrap().status(), 200);
        edge.publish(Effect::Unset(ResourceName::Secret(key("one"))));
        assert_eq!(Client::new(&other).status(port, host, host).await, None);
    });
}

#[test]
fn http2_becomes_http1_where_the_service_speaks_that() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let one = authority.leaf("a.example.com", 1);
        let own = server(&["*"], Some(terminate(simple("one"))), http(&["*"], vec![rule()]));
        // Answers with what it got: twice in chunks, else with a length.
        let application = application(|mut peer| async move {
            let mut count = 0;
            while let Some(head) = peer.try_head().await {
                count += 1;
                let mut seen = head.clone();
                if head.contains("transfer-encoding: chunked") {
                    while !peer.buffer.ends_with(b"0\r\n\r\n") && peer.fill().await {}
                    seen.push_str(&String::from_utf8(std::mem::take(&mut peer.buffer)).unwrap());
                }
                if let Some(length) =
                    head.lines().find_map(|line| line.strip_prefix("content-length: "))
                {
                    let body = peer.exactly(length.parse().unwrap()).await;
                    seen.push_str(&String::from_utf8(body).unwrap());
                }
                seen.push_str(&format!("request {count}"));
                let (left, right) = seen.split_at(seen.len() / 2);
                peer.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
                if count % 2 == 1 {
                    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nX: y\r\n\r\n").await;
                    for part in [left, right] {
                        peer.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
                    }
                    peer.send("0\r\n\r\n").await;
                } else {
                    peer.send(format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n", seen.len())).await;
                    peer.send(seen).await;
                }
            }
        })
        .await;
        let _edge = Edge::new(application, vec![listener(port, vec![own])], |side| {
            side.secrets = vec![secret("one", &one)];
        })
        .await;
        let client = Client { protocols: &[alpn::H2, alpn::HTTP_11], ..Client::new(&authority) };
        let connection = client.connect(port, "a.example.com").await.unwrap();
        let (sender, driver) = h2::client::handshake(connection).await.unwrap();
        tokio::task::spawn_local(driver);
        let request = |method: &str| {
            http::Request::builder()
                .method(method)
                .uri("https://a.example.com/x?y=1")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
        };
        let large = "0123456789".repeat(20_000);
        let cases = [
            (request("GET").body(()), "", 200, "GET /x?y=1 HTTP/1.1\r\n"),
            (request("POST").body(()), "some text", 201, "9\r\nsome text\r\n0\r\n\r\n"),
            (request("PUT").header("content-length", "4").body(()), "four", 200, "fourrequest 3"),
            (request("POST").body(()), &large, 201, "request 4"),
        ];
        for (request, body, status, expected) in cases {
            let mut ready = sender.clone().ready().await.unwrap();
            let (response, mut sink) =
                ready.send_request(request.unwrap(), body.is_empty()).unwrap();
            if !body.is_empty() {
                crate::http2::send_all(&mut sink, body.to_owned().into(), true).await;
            }
            let response = response.await.unwrap();
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("connection"));
            let mut answer = response.into_body();
            let text = crate::http2::receive_all(&mut answer).await;
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("cookie: a=1; b=2\r\n"), "{text}");
            assert!(text.contains(expected), "{expected} {}", text.len());
            assert!(text.len() > body.len());
        }
    });
}

#[test]
fn copies_of_http2_requests_become_http1_too() {
    run(async {
        let (authority, port) = (Authority::new("outside"), free_port().await);
        let one = authority.leaf("a.example.com", 1);
        let mut copied = rule();
        copied.mirrors = vec![crate::resilience::copy_to(0, 1_000_000)];
        let own = server(&["*"], Some(terminate(simple("one"))), http(&["*"], vec![copied]));
        let (seen, mut shadows) = tokio::sync::mpsc::unbounded_channel();
        let application = application(move |mut peer| {
            let seen = seen.clone();
            async move {
                while let Some(head) = peer.try_head().await {
                    let is_copy = head.contains("host: a.example.com-shadow\r\n");
                    if is_copy {
                        assert!(head.contains("content-length: 4\r\n"), "{head}");
                        seen.send(peer.exactly(4).await).unwrap();
                    } else {
                        while !peer.buffer.ends_with(b"0\r\n\r\n") && peer.fill().await {}
                        peer.buffer.clear();
                    }
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let _edge = Edge::new(application, vec![listener(port, vec![own])], |side| {
            side.secrets = vec![secret("one", &one)];
        })
        .await;
        let client = Client { protocols: &[alpn::H2], ..Client::new(&authority) };
        let connection = client.connect(port, "a.example.com").await.unwrap();
        let (mut sender, driver) = h2::client::handshake(connection).await.unwrap();
        tokio::task::spawn_local(driver);
        let request = http::Request::post("https://a.example.com/").body(()).unwrap();
        let (response, mut sink) = sender.send_request(request, false).unwrap();
        crate::http2::send_all(&mut sink, "four".into(), true).await;
        assert_eq!(response.await.unwrap().status(), 200);
        assert_eq!(shadows.recv().await.unwrap(), b"four");
    });
}
