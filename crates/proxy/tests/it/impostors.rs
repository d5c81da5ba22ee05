//! Certificates of a root that is trusted and does not mind what it signs: only an identity in its place is one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{Root, RootId, Validity};
use heddle_http::{Buffer, Connection, TlsStream, Transport};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;

use crate::gateway_tls::AnyServer;
use crate::harness::{Pair, application, run};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// An authority that signs anything.
struct Careless(CertifiedIssuer<'static, KeyPair>);

impl Careless {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "careless");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> Root {
        let now = SystemTime::now();
        let validity = Validity {
            not_before: now - Duration::from_mins(1),
            not_after: now + Duration::from_hours(1),
        };
        Root { id: RootId::new("c0ffee"), der: self.0.der().as_ref().into(), validity }
    }

    /// What a client proves itself with; `change` spoils a good leaf.
    fn config(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<rustls::ClientConfig> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(CLIENT)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(Duration::from_mins(1));
        params.not_after = epoch + (now + Duration::from_mins(30));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_auth_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
        config.alpn_protocols = vec![b"istio-http/1.1".to_vec()];
        Arc::new(config)
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// What comes back for a request of such a client; empty when the connection is closed.
async fn ask(pair: &Pair, config: Arc<rustls::ClientConfig>) -> Vec<u8> {
    let tcp = TcpStream::connect(pair.inbound).await.unwrap();
    let mut buffer = Buffer::new();
    let name = ServerName::try_from("outbound_.8080_._.server").unwrap();
    let Ok(tls) = TlsStream::connect(tcp, config, name, &mut buffer).await else {
        return Vec::new();
    };
    let mut connection = Connection { transport: Transport::Tls(tls), buffer };
    let request = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n";
    if connection.transport.send_all(request).await.is_err() {
        return Vec::new();
    }
    let _ = connection.fill().await;
    connection.buffer.filled().to_vec()
}

type Change = fn(&mut CertificateParams);

#[test]
fn an_identity_in_the_wrong_place_opens_nothing_and_is_recorded() {
    run(async {
        let arrived = Rc::new(Cell::new(0));
        let count = arrived.clone();
        let app = application(move |mut peer| {
            let count = count.clone();
            async move {
                while peer.try_head().await.is_some() {
                    count.set(count.get() + 1);
                    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let careless = Careless::new();
        let server = pair.server_identity.current().unwrap();
        let bundle = pair.mesh.trusting(2, careless.root());
        pair.server_identity.install(server.svid().clone(), &bundle).unwrap();

        // A good one is served, so that what the others lack is what they are refused for.
        let answer = ask(&pair, careless.config(|_| {})).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(arrived.get(), 1);

        let attempts: [(&str, Change); 9] = [
            ("common name", |params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, CLIENT);
            }),
            ("common name beside a DNS name", |params| {
                params.subject_alt_names = vec![dns("client.default")];
                params.distinguished_name.push(DnType::CommonName, CLIENT);
            }),
            ("DNS name", |params| params.subject_alt_names = vec![dns(CLIENT)]),
            ("mail address", |params| {
                params.subject_alt_names = vec![SanType::Rfc822Name(CLIENT.try_into().unwrap())];
            }),
            ("second URI", |params| {
                params.subject_alt_names.push(uri("spiffe://cluster.local/ns/default/sa/other"));
            }),
            ("the same URI twice", |params| params.subject_alt_names.push(uri(CLIENT))),
            ("URI of another scheme", |params| {
                params.subject_alt_names = vec![uri("https://cluster.local/ns/default/sa/client")];
            }),
            ("path that leads elsewhere", |params| {
                params.subject_alt_names =
                    vec![uri("spiffe://cluster.local/ns/other/../default/sa/client")];
            }),
            ("trust domain in capitals, with a port", |params| {
                params.subject_alt_names =
                    vec![uri("spiffe://CLUSTER.LOCAL:443/ns/default/sa/client")];
            }),
        ];
        for (place, (what, change)) in attempts.into_iter().enumerate() {
            let answer = ask(&pair, careless.config(change)).await;
            assert!(answer.is_empty(), "{what}: {}", String::from_utf8_lossy(&answer));
            let record = pair.server_audit.records(place + 1).await.remove(place);
            assert_eq!(record["by"], "mutual-tls", "{what}: {record}");
            assert_eq!(record["decision"], "deny", "{what}: {record}");
            let reason = record["reason"].as_str().unwrap();
            assert!(!reason.is_empty(), "{what}: {record}");
        }
        assert_eq!(arrived.get(), 1, "something arrived");
    });
}
