use std::sync::Arc;

use rcgen::{CertificateParams, SanType};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::*;
use crate::testing::{DAY, Fixture, Pair, Refusal, set_times, start};

struct Web {
    fixture: Fixture,
    roots_pem: Arc<[u8]>,
}

impl Web {
    fn new() -> Self {
        let fixture = Fixture::new();
        let roots_pem = pem(&fixture.root.root.der).into_bytes().into();
        Self { fixture, roots_pem }
    }

    fn settings(&self) -> ClientTls {
        ClientTls {
            mode: ClientTlsMode::Simple,
            roots_pem: self.roots_pem.clone(),
            revocations_pem: Arc::default(),
            subject_alt_names: Vec::new(),
            server_name: None,
            skip_verification: false,
            protocols: vec![b"h2".to_vec()],
        }
    }

    fn server(
        &self,
        with_clients: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let leaf = self.fixture.root.leaf(&self.fixture.provider, "https://unused", change);
        let chain = leaf.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let certified = rustls::sign::CertifiedKey::new(chain, leaf.key.signing());
        let provider = self.fixture.provider.clone();
        let clock = Arc::new(RustlsClock(self.fixture.clock.clone()));
        let builder = ServerConfig::builder_with_details(provider.clone(), clock)
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if with_clients {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(self.fixture.root.root.der.to_vec())).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let resolver = rustls::sign::SingleCertAndKey::from(certified);
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn connect(
        &self,
        settings: &ClientTls,
        host: &str,
        server: ServerConfig,
    ) -> Result<Pair, Refusal> {
        let provider = self.fixture.provider.clone();
        let config =
            OriginationConfig::new(provider, self.fixture.clock.clone(), settings).unwrap();
        let name = config.server_name(host).unwrap();
        let mut pair = Pair {
            client: ClientConnection::new(config.config().clone(), name).unwrap(),
            server: ServerConnection::new(Arc::new(server)).unwrap(),
        };
        pair.exchange().map(|()| pair)
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn dns(name: &str) -> impl FnOnce(&mut CertificateParams) {
    let name = SanType::DnsName(name.try_into().unwrap());
    move |params| params.subject_alt_names.push(name)
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn without_names_the_host_that_was_connected_to_must_be_in_the_certificate() {
    let web = Web::new();
    let settings = web.settings();
    let pair = web.connect(&settings, "api.example.com", web.server(false, dns("*.example.com")));
    let pair = pair.unwrap();
    assert_eq!(pair.server.server_name(), Some("api.example.com"));
    assert_eq!(pair.client.alpn_protocol(), Some(b"h2".as_slice()));
    let error = web.connect(&settings, "api.example.org", web.server(false, dns("*.example.com")));
    assert!(matches!(error, Err(Refusal::Client(Error::InvalidCertificate(_)))));
}

#[test]
fn given_names_replace_the_host_and_one_of_them_must_match() {
    let web = Web::new();
    let mut settings = web.settings();
    settings.server_name = Some("front.example.com".to_owned());
    for (expected, accepted) in [
        (names(&["other.example", "api.example.com"]), true),
        (names(&["https://unused"]), true),
        (names(&["spiffe://td/x"]), false),
        (names(&["front.example.com"]), false),
        (names(&["10.0.0.1"]), false),
    ] {
        settings.subject_alt_names = expected.clone();
        let result = web.connect(&settings, "host", web.server(false, dns("api.example.com")));
        assert_eq!(result.is_ok(), accepted, "{expected:?}");
        match result {
            Ok(pair) => assert_eq!(pair.server.server_name(), Some("front.example.com")),
            Err(Refusal::Client(Error::InvalidCertificate(RustlsCertificateError::Other(
                other,
            )))) => {
                let mismatch = other.0.downcast_ref::<NameMismatch>().unwrap();
                assert_eq!(mismatch.expected, expected);
                assert!(mismatch.presented.iter().any(|name| name.contains("api.example.com")));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn an_unknown_root_and_an_expired_leaf_are_refused_unless_verification_is_off() {
    let web = Web::new();
    let stranger = Web::new();
    let mut settings = web.settings();
    settings.roots_pem = stranger.roots_pem.clone();
    let host = "api.example.com";
    let expired = |params: &mut CertificateParams| {
        dns(host)(params);
        set_times(params, start() - DAY, start());
    };
    assert!(web.connect(&settings, host, web.server(false, dns(host))).is_err());
    assert!(web.connect(&web.settings(), host, web.server(false, expired)).is_err());
    settings.skip_verification = true;
    settings.roots_pem = Arc::default();
    web.connect(&settings, "whatever.else", web.server(false, expired)).unwrap();
}

#[test]
fn mutual_shows_the_clients_certificate() {
    let web = Web::new();
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    set_times(&mut params, start(), start() + DAY);
    let leaf = params.signed_by(&pair, web.fixture.root.issuer()).unwrap();
    let host = "api.example.com";
    let mut settings = web.settings();
    assert!(web.connect(&settings, host, web.server(true, dns(host))).is_err());
    settings.mode = ClientTlsMode::Mutual {
        chain_pem: leaf.pem().into_bytes().into(),
        key_pem: pair.serialize_pem().into_bytes().into(),
    };
    let pair = web.connect(&settings, host, web.server(true, dns(host))).unwrap();
    assert_eq!(pair.server.peer_certificates().unwrap()[0], *leaf.der());
    assert!(!format!("{settings:?}").contains("PRIVATE"));
}

#[test]
fn settings_that_cannot_work_are_told_apart() {
    let web = Web::new();
    let make = |settings: &ClientTls| {
        OriginationConfig::new(web.fixture.provider.clone(), web.fixture.clock.clone(), settings)
    };
    let mut settings = web.settings();
    settings.roots_pem = Arc::default();
    assert!(matches!(make(&settings), Err(OriginationError::Roots(_))));
    settings = web.settings();
    settings.server_name = Some("a b".to_owned());
    assert!(matches!(make(&settings), Err(OriginationError::ServerName { .. })));
    settings = web.settings();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let pair = rcgen::KeyPair::generate().unwrap();
    let leaf = CertificateParams::default().signed_by(&pair, web.fixture.root.issuer()).unwrap();
    for key in ["", &other] {
        settings.mode = ClientTlsMode::Mutual {
            chain_pem: leaf.pem().into_bytes().into(),
            key_pem: key.as_bytes().into(),
        };
        assert!(matches!(make(&settings), Err(OriginationError::ClientKey { .. })), "{key:?}");
    }
    settings.mode =
        ClientTlsMode::Mutual { chain_pem: Arc::default(), key_pem: other.into_bytes().into() };
    assert!(matches!(make(&settings), Err(OriginationError::ClientCertificate(_))));
}

/// A list of the fixture's root, valid until then, with these serial numbers.
fn list(web: &Web, serials: &[u64], until: std::time::SystemTime) -> Arc<[u8]> {
    let der = web.fixture.root.revocation_list(serials, until);
    crate::pem_of("X509 CRL", &der).into_bytes().into()
}

#[test]
fn a_server_is_refused_when_a_list_names_it_or_is_overdue() {
    let web = Web::new();
    let connect = |revocations_pem| {
        let settings = ClientTls { revocations_pem, ..web.settings() };
        let server = web.server(false, |params| {
            dns("api.example.com")(params);
            params.serial_number = Some(rcgen::SerialNumber::from(7));
        });
        match web.connect(&settings, "api.example.com", server) {
            Ok(_) => None,
            Err(Refusal::Client(Error::InvalidCertificate(error))) => Some(error),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(connect(list(&web, &[8], start() + DAY)), None);
    let revoked = Some(RustlsCertificateError::Revoked);
    assert_eq!(connect(list(&web, &[7, 8], start() + DAY)), revoked);
    assert!(connect(list(&web, &[8], start())).is_some(), "a list that is overdue says nothing");
    let stranger = Web::new();
    assert!(connect(list(&stranger, &[8], start() + DAY)).is_some(), "another signed it");
}

#[test]
fn what_is_no_revocation_list_makes_no_configuration() {
    let web = Web::new();
    for text in ["nothing", &*crate::pem_of("X509 CRL", b"nothing")] {
        let revocations_pem = Arc::from(text.as_bytes());
        let settings = ClientTls { revocations_pem, ..web.settings() };
        let provider = web.fixture.provider.clone();
        let made = OriginationConfig::new(provider, web.fixture.clock.clone(), &settings);
        assert!(matches!(made, Err(OriginationError::Revocations(_))));
    }
}
