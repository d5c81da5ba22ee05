use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SanType};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use heddle_cert::Svid;

use super::*;
use crate::alpn;
use crate::testing::*;

const SERVER: &str = "spiffe://td/ns/shop/sa/server";
const CLIENT: &str = "spiffe://td/ns/shop/sa/client";

fn expect_server() -> Expected {
    Expected::identities([id(SERVER)])
}

fn client_of(identity: &Identity) -> MeshClient {
    identity.current().unwrap().client(alpn::CLIENT_HTTP_11, expect_server()).unwrap()
}

/// The refusal that a client makes of a server with this leaf.
fn refused_server(fixture: &Fixture, leaf: Arc<Svid<WorkloadKey>>) -> PeerVerificationError {
    let client = fixture.identity(CLIENT);
    let server = fixture.identity_of(leaf, &bundle(1, "td", &[&fixture.root]));
    match connect(&client_of(&client), server.current().unwrap().sidecar_server()) {
        Err(Refusal::Client(error)) => PeerVerificationError::from_handshake(&error).unwrap(),
        other => panic!("client did not refuse: {other:?}"),
    }
}

/// The refusal that a server makes of a client with this leaf.
fn refused_client(fixture: &Fixture, leaf: Arc<Svid<WorkloadKey>>) -> PeerVerificationError {
    let server = fixture.identity(SERVER);
    let client = fixture.identity_of(leaf, &bundle(1, "td", &[&fixture.root]));
    match connect(&client_of(&client), server.current().unwrap().sidecar_server()) {
        Err(Refusal::Server(error)) => PeerVerificationError::from_handshake(&error).unwrap(),
        other => panic!("server did not refuse: {other:?}"),
    }
}

/// Asserts that both directions refuse a leaf, with the same reason, and returns the server's error.
#[track_caller]
fn check_refused(
    uri: &str,
    reason: &str,
    change: impl Fn(&mut CertificateParams),
) -> PeerVerificationError {
    let fixture = Fixture::new();
    let leaf = || fixture.root.leaf(&fixture.provider, uri, &change);
    assert_eq!(refused_server(&fixture, leaf()).reason(), reason, "server's leaf");
    let error = refused_client(&fixture, leaf());
    assert_eq!(error.reason(), reason, "client's leaf");
    error
}

#[test]
fn peers_know_each_other_by_spiffe_id() {
    let fixture = Fixture::new();
    let (client, server) = (fixture.identity(CLIENT), fixture.identity(SERVER));
    let (client, server) = (client_of(&client), server.current().unwrap());
    let pair = connect(&client, server.sidecar_server()).unwrap();
    assert_eq!(client.peer(&pair.client).unwrap().identity, id(SERVER));
    let peer = server.sidecar_server().peer(&pair.server).unwrap();
    assert_eq!(peer.identity, id(CLIENT));
    assert_eq!(peer.validity.not_after, start() + DAY);
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(pair.server.alpn_protocol(), Some(alpn::ISTIO_HTTP_11));
    let group = pair.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(pair.server.server_name(), Some("outbound_.80_._.a.b"));
}

#[test]
fn a_service_that_is_another_one_is_refused_with_both_names() {
    let fixture = Fixture::new();
    let other = "spiffe://td/ns/shop/sa/other";
    let leaf = fixture.root.leaf(&fixture.provider, other, |_| {});
    let error = refused_server(&fixture, leaf);
    assert_eq!(error.to_string(), format!("peer is {other}, expected {SERVER}"));
    assert_eq!(error.presented(), Some(&id(other)));
}

#[test]
fn another_trust_domain_is_refused_whoever_signed() {
    check_refused("spiffe://other/ns/shop/sa/server", "untrusted_domain", |_| {});
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_only() {
    let fixture = Fixture::new();
    let other = TestRoot::new(&fixture.provider, "other");
    let bundle = || {
        bundle(1, "td", &[&fixture.root])
            .federate(domain("other"), vec![other.root.clone()])
            .unwrap()
    };
    let server =
        fixture.identity_of(fixture.root.leaf(&fixture.provider, SERVER, |_| {}), &bundle());
    let server = server.current().unwrap();
    let leaf = |uri| other.leaf(&fixture.provider, uri, |_| {});
    let foreign = fixture.identity_of(leaf("spiffe://other/ns/x/sa/y"), &bundle());
    let pair = connect(&client_of(&foreign), server.sidecar_server()).unwrap();
    assert_eq!(
        server.sidecar_server().peer(&pair.server).unwrap().identity,
        id("spiffe://other/ns/x/sa/y")
    );
    let impostor = fixture.identity_of(leaf(CLIENT), &bundle());
    let Err(Refusal::Server(error)) = connect(&client_of(&impostor), server.sidecar_server())
    else {
        panic!("the impostor was let in")
    };
    let error = PeerVerificationError::from_handshake(&error).unwrap();
    assert_eq!(error.reason(), "unknown_authority");
    assert_eq!(error.presented(), Some(&id(CLIENT)));
}

#[test]
fn times_are_kept_to_the_second() {
    let error = check_refused(SERVER, "expired", |params| {
        set_times(params, start() - DAY, start());
    });
    assert_eq!(error.to_string(), format!("certificate of {SERVER} expired 1 s ago"));
    let error = check_refused(SERVER, "not_yet_valid", |params| {
        set_times(params, start() + Duration::from_mins(3), start() + DAY);
    });
    assert!(error.to_string().contains("becomes valid only in 2 min"), "{error}");
}

#[test]
fn an_identity_in_the_wrong_place_is_none() {
    let error = check_refused(SERVER, "spiffe_id_missing", |params| {
        params.subject_alt_names = vec![SanType::DnsName("server.shop".try_into().unwrap())];
    });
    assert!(error.to_string().contains("server.shop"), "{error}");
    check_refused(SERVER, "spiffe_id_missing", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, SERVER);
    });
    check_refused(SERVER, "spiffe_id_missing", |params| {
        params.subject_alt_names = vec![SanType::DnsName(SERVER.try_into().unwrap())];
    });
}

#[test]
fn two_uris_or_one_that_is_no_spiffe_id_are_refused() {
    check_refused(SERVER, "several_uris", |params| {
        params.subject_alt_names.push(SanType::URI(CLIENT.try_into().unwrap()));
    });
    check_refused(SERVER, "several_uris", |params| {
        params.subject_alt_names.push(SanType::URI(SERVER.try_into().unwrap()));
    });
    let error = check_refused("https://td/ns/shop/sa/server", "spiffe_id_invalid", |_| {});
    assert!(error.to_string().contains("https://td"), "{error}");
    check_refused("spiffe://td/ns/shop/../sa", "spiffe_id_invalid", |_| {});
}

#[test]
fn a_dns_name_beside_the_id_does_not_matter() {
    let fixture = Fixture::new();
    let leaf = fixture.root.leaf(&fixture.provider, SERVER, |params| {
        params.subject_alt_names.push(SanType::DnsName("server.shop".try_into().unwrap()));
    });
    let server = fixture.identity_of(leaf, &bundle(1, "td", &[&fixture.root]));
    let client = fixture.identity(CLIENT);
    connect(&client_of(&client), server.current().unwrap().sidecar_server()).unwrap();
}

#[test]
fn certificates_made_for_other_uses_are_refused() {
    check_refused(SERVER, "leaf_is_authority", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    check_refused(SERVER, "leaf_is_authority", |params| {
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    });
    check_refused(SERVER, "wrong_usage", |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    });
    check_refused(SERVER, "wrong_usage", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    });
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let fixture = Fixture::new();
    let leaf = fixture.root.leaf(&fixture.provider, CLIENT, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(refused_client(&fixture, leaf).reason(), "wrong_usage");
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let fixture = Fixture::new();
    let (client, server) = (fixture.identity(CLIENT), fixture.identity(SERVER));
    let mut config = ClientConfig::clone(client_of(&client).config());
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let server = server.current().unwrap().sidecar_server().config().clone();
    let Err(Refusal::Server(error)) = connect_with(Arc::new(config), server) else {
        panic!("let in without a certificate")
    };
    assert_eq!(
        PeerVerificationError::from_handshake(&error),
        Some(PeerVerificationError::NoCertificate)
    );
}

#[test]
fn the_typed_refusal_survives_an_io_error() {
    let fixture = Fixture::new();
    let leaf = fixture.root.leaf(&fixture.provider, "spiffe://td/x", |_| {});
    let refusal = refused_server(&fixture, leaf);
    let error =
        std::io::Error::new(std::io::ErrorKind::InvalidData, refusal.clone().into_handshake());
    assert_eq!(PeerVerificationError::from_io(&error), Some(refusal));
    assert_eq!(PeerVerificationError::from_io(&std::io::Error::other("x")), None);
}

#[test]
fn a_chain_verified_before_is_not_accepted_after_it_expired() {
    let fixture = Fixture::new();
    let (client, server) = (fixture.identity(CLIENT), fixture.identity(SERVER));
    let client = client_of(&client);
    let server = server.current().unwrap();
    connect(&client.for_endpoint(), server.sidecar_server()).unwrap();
    fixture.clock.set(start() + DAY);
    connect(&client.for_endpoint(), server.sidecar_server()).unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    let Err(Refusal::Client(error)) = connect(&client.for_endpoint(), server.sidecar_server())
    else {
        panic!("expired, and accepted")
    };
    let error = PeerVerificationError::from_handshake(&error).unwrap();
    assert_eq!(error.reason(), "expired");
}

#[test]
fn sessions_resume_within_a_generation_and_expiry_is_asked_again() {
    let fixture = Fixture::new();
    // Shorter than a ticket lives.
    let end = start() + Duration::from_hours(1);
    let holder = |uri| {
        let leaf = fixture.root.leaf(&fixture.provider, uri, |params| {
            set_times(params, start(), end);
        });
        fixture.identity_of(leaf, &bundle(1, "td", &[&fixture.root]))
    };
    let client = client_of(&holder(CLIENT));
    let server = holder(SERVER).current().unwrap();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let pair = connect(&client, server.sidecar_server()).unwrap();
        kinds.push(pair.server.handshake_kind().unwrap());
        assert_eq!(client.peer(&pair.client).unwrap().identity, id(SERVER));
        assert_eq!(server.sidecar_server().peer(&pair.server).unwrap().identity, id(CLIENT));
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    let other = connect(&client.for_endpoint(), server.sidecar_server()).unwrap();
    assert_eq!(other.client.handshake_kind(), Some(HandshakeKind::Full), "a store per endpoint");

    // rustls resumes without asking the verifier; both sides ask again.
    fixture.clock.set(end + Duration::from_secs(1));
    let pair = connect(&client, server.sidecar_server()).unwrap();
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(client.peer(&pair.client).unwrap_err().reason(), "expired");
    assert_eq!(server.sidecar_server().peer(&pair.server).unwrap_err().reason(), "expired");
}

#[test]
fn a_new_certificate_or_bundle_ends_resumption_on_either_side() {
    let fixture = Fixture::new();
    let leaf = |uri| fixture.root.leaf(&fixture.provider, uri, |_| {});
    let (client_holder, server_holder) = (fixture.identity(CLIENT), fixture.identity(SERVER));
    let resumes = |client: &MeshClient| {
        let server = server_holder.current().unwrap();
        let pair = connect(client, server.sidecar_server()).unwrap();
        pair.client.handshake_kind() == Some(HandshakeKind::Resumed)
    };
    let client = client_of(&client_holder);
    assert!(!resumes(&client) && resumes(&client));
    let before = server_holder.generation();
    server_holder.install(leaf(SERVER), &bundle(1, "td", &[&fixture.root])).unwrap();
    assert!(!resumes(&client), "server has a new certificate");
    assert!(resumes(&client));
    let held = server_holder.current().unwrap().svid().clone();
    server_holder.install(held, &bundle(2, "td", &[&fixture.root])).unwrap();
    assert!(!resumes(&client), "server has a new bundle");
    assert_eq!(server_holder.generation(), before + 2);
    // A client of the next generation that is handed the store of the last one.
    client_holder.install(leaf(CLIENT), &bundle(1, "td", &[&fixture.root])).unwrap();
    let mut config = ClientConfig::clone(client_of(&client_holder).config());
    config.resumption = client.config().resumption.clone();
    let next = MeshClient { config: Arc::new(config), ..client_of(&client_holder) };
    assert!(!resumes(&next), "client has a new certificate");
}

#[test]
fn installing_the_same_is_no_new_generation() {
    let fixture = Fixture::new();
    let leaf = fixture.root.leaf(&fixture.provider, SERVER, |_| {});
    let holder = fixture.identity_of(leaf.clone(), &bundle(1, "td", &[&fixture.root]));
    assert_eq!(holder.install(leaf, &bundle(1, "td", &[&fixture.root])).unwrap(), 1);
    assert_eq!(holder.generation(), 1);
    holder.clear();
    assert_eq!(holder.generation(), 0);
    assert!(holder.current().is_none());
}

#[test]
fn a_key_that_is_not_the_certificates_is_not_installed() {
    let fixture = Fixture::new();
    let holder = fixture.identity(SERVER);
    let mut broken = Svid::clone(&fixture.root.leaf(&fixture.provider, SERVER, |_| {}));
    broken.key = fixture.root.leaf(&fixture.provider, SERVER, |_| {}).key.clone();
    assert!(holder.install(Arc::new(broken), &bundle(2, "td", &[&fixture.root])).is_err());
    assert_eq!(holder.current().unwrap().generation(), 1, "what was there stays");
}

#[test]
fn an_expired_identity_is_not_handed_out() {
    let fixture = Fixture::new();
    let mut svid = Svid::clone(&fixture.root.leaf(&fixture.provider, SERVER, |_| {}));
    svid.validity.not_after = start() + DAY;
    let holder = fixture.identity_of(Arc::new(svid), &bundle(1, "td", &[&fixture.root]));
    fixture.clock.set(start() + DAY);
    assert!(holder.current().is_some());
    fixture.clock.advance(Duration::from_millis(1));
    assert!(holder.current().is_none());
}

#[test]
fn a_rotation_lets_old_and_new_leaves_meet_and_retirement_shuts_the_old_out() {
    let fixture = Fixture::new();
    let new = TestRoot::new(&fixture.provider, "two");
    let old = &fixture.root;
    let both = |generation| bundle(generation, "td", &[old, &new]);
    let only_new = bundle(3, "td", &[&new]);
    let old_leaf = |uri| old.leaf(&fixture.provider, uri, |_| {});
    let new_leaf = |uri| new.leaf(&fixture.provider, uri, |_| {});
    let meets = |client: &Identity, server: &Identity| {
        connect(&client_of(client), server.current().unwrap().sidecar_server())
    };
    let old_client = fixture.identity_of(old_leaf(CLIENT), &both(2));
    let new_client = fixture.identity_of(new_leaf(CLIENT), &both(2));
    let old_server = fixture.identity_of(old_leaf(SERVER), &both(2));
    let new_server = fixture.identity_of(new_leaf(SERVER), &both(2));
    for client in [&old_client, &new_client] {
        for server in [&old_server, &new_server] {
            meets(client, server).unwrap();
        }
    }
    let retired_server = fixture.identity_of(new_leaf(SERVER), &only_new);
    let retired_client = fixture.identity_of(new_leaf(CLIENT), &only_new);
    meets(&new_client, &retired_server).unwrap();
    let Err(Refusal::Server(error)) = meets(&old_client, &retired_server) else {
        panic!("a leaf of the retired root was let in")
    };
    assert_eq!(
        PeerVerificationError::from_handshake(&error).unwrap().to_string(),
        format!("no root of trust domain td in bundle 3 vouches for {CLIENT}")
    );
    assert!(matches!(meets(&retired_client, &old_server), Err(Refusal::Client(_))));
}

#[test]
fn protocols_are_istios() {
    let fixture = Fixture::new();
    let (client, server) = (fixture.identity(CLIENT), fixture.identity(SERVER));
    let (client, server) = (client.current().unwrap(), server.current().unwrap());
    let negotiate = |protocols: &[&[u8]], server: &MeshServer| {
        let client = client.client(protocols, expect_server()).unwrap();
        connect(&client, server).ok().map(|pair| pair.server.alpn_protocol().map(<[u8]>::to_vec))
    };
    let sidecar = server.sidecar_server();
    let some = |name: &[u8]| Some(Some(name.to_vec()));
    assert_eq!(negotiate(alpn::CLIENT_H2, sidecar), some(b"istio-h2"));
    assert_eq!(negotiate(alpn::CLIENT_TCP, sidecar), some(b"istio"));
    assert_eq!(negotiate(&[b"http/1.1"], sidecar), some(b"http/1.1"));
    // What a stock sidecar offers for opaque streams.
    assert_eq!(negotiate(&[b"istio-peer-exchange", b"istio"], sidecar), some(b"istio"));
    assert_eq!(negotiate(&[b"istio-peer-exchange"], sidecar), None);
    assert_eq!(negotiate(&[], sidecar), Some(None));
    assert_eq!(negotiate(alpn::HBONE, server.hbone_server()), some(b"h2"));
    assert_eq!(negotiate(alpn::CLIENT_TCP, server.hbone_server()), None);
}

#[test]
fn a_peer_without_the_hybrid_group_costs_no_round_trip() {
    use rustls::crypto::aws_lc_rs::kx_group;
    let fixture = Fixture::new();
    for group in [kx_group::X25519, kx_group::SECP256R1] {
        let mut provider = CryptoProvider::clone(&fixture.provider);
        provider.kx_groups = vec![group];
        let plain = Identity::new(Arc::new(provider), fixture.clock.clone());
        let leaf = fixture.root.leaf(&fixture.provider, SERVER, |_| {});
        plain.install(leaf, &bundle(1, "td", &[&fixture.root])).unwrap();
        let hybrid = fixture.identity(SERVER);
        let kind = |client: &Identity, server: &Identity| {
            let server = server.current().unwrap();
            let pair = connect(&client_of(client), server.sidecar_server()).unwrap();
            assert_eq!(pair.client.negotiated_key_exchange_group().unwrap().name(), group.name());
            pair.client.handshake_kind().unwrap()
        };
        assert_eq!(kind(&plain, &hybrid), HandshakeKind::Full);
        if group.name() == NamedGroup::X25519 {
            assert_eq!(kind(&hybrid, &plain), HandshakeKind::Full);
        }
    }
}

#[test]
fn keys_are_not_printed() {
    let fixture = Fixture::new();
    let holder = fixture.identity(SERVER);
    let current = holder.current().unwrap();
    for text in [format!("{holder:?}"), format!("{current:?}"), format!("{:?}", current.svid().key)]
    {
        assert!(!text.contains("key: ") || text.contains("WorkloadKey(…)"), "{text}");
        assert!(text.len() < 4_000, "{text}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_by_both_sides_and_named() {
    let fixture = Fixture::new();
    let leaf = |uri| {
        fixture.root.leaf(&fixture.provider, uri, |params| {
            params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x41; 16]));
        })
    };
    let good = |uri| fixture.root.leaf(&fixture.provider, uri, |_| {});
    let number = Serial([0x41; 16]);
    let revoking = || bundle(2, "td", &[&fixture.root]).revoke(vec![number], Vec::new()).unwrap();

    let client = fixture.identity_of(good(CLIENT), &revoking());
    let server = fixture.identity_of(leaf(SERVER), &bundle(1, "td", &[&fixture.root]));
    let refusal = connect(&client_of(&client), server.current().unwrap().sidecar_server());
    let Err(Refusal::Client(error)) = refusal else { panic!("{refusal:?}") };
    let error = PeerVerificationError::from_handshake(&error).unwrap();
    assert_eq!(error.reason(), "revoked");
    let text = format!("certificate {number} of {SERVER} is revoked");
    assert_eq!(error.to_string(), text);

    let client = fixture.identity_of(leaf(CLIENT), &bundle(1, "td", &[&fixture.root]));
    let server = fixture.identity(SERVER);
    let current = server.current().unwrap();
    let pair = connect(&client_of(&client), current.sidecar_server()).unwrap();
    let peer = current.sidecar_server().peer(&pair.server).unwrap();
    assert!(!server.revokes(peer.serial.unwrap()));
    server.install(good(SERVER), &revoking()).unwrap();
    assert!(server.revokes(peer.serial.unwrap()), "a connection that is open can be told");
    // The client has a ticket of the former generation: it helps nobody.
    let refusal = connect(&client_of(&client), server.current().unwrap().sidecar_server());
    let Err(Refusal::Server(error)) = refusal else { panic!("{refusal:?}") };
    let error = PeerVerificationError::from_handshake(&error).unwrap();
    assert_eq!((error.reason(), error.presented()), ("revoked", Some(&id(CLIENT))));
}

#[test]
fn an_authoritys_revocation_list_counts_for_what_it_has_signed() {
    let fixture = Fixture::new();
    let other = TestRoot::new(&fixture.provider, "other");
    let refused = |list: Vec<u8>| {
        let revoking = bundle(2, "td", &[&fixture.root]).revoke(vec![], vec![list.into()]).unwrap();
        let client =
            fixture.identity_of(fixture.root.leaf(&fixture.provider, CLIENT, |_| {}), &revoking);
        let leaf = fixture.root.leaf(&fixture.provider, SERVER, |params| {
            params.serial_number = Some(rcgen::SerialNumber::from(7));
        });
        let server = fixture.identity_of(leaf, &bundle(1, "td", &[&fixture.root]));
        match connect(&client_of(&client), server.current().unwrap().sidecar_server()) {
            Ok(_) => None,
            Err(Refusal::Client(e)) => {
                PeerVerificationError::from_handshake(&e).map(|e| e.reason())
            }
            Err(Refusal::Server(e)) => panic!("{e}"),
        }
    };
    let list = |root: &TestRoot, serial| root.revocation_list(&[serial], start() + DAY);
    assert_eq!(refused(list(&fixture.root, 7)), Some("revoked"));
    assert_eq!(refused(list(&fixture.root, 8)), None);
    assert_eq!(refused(list(&other, 7)), None, "a foreign list says nothing");
    let overdue = fixture.root.revocation_list(&[7], start() - DAY / 2);
    assert_eq!(refused(overdue), Some("revoked"), "what was revoked stays revoked");
    let due = crate::revocation_list_due(&list(&fixture.root, 7)).unwrap();
    assert_eq!(due, Some(start() + DAY));
}
