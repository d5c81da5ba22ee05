//! Machines and control planes, in memory.

use super::*;
use crate::Identity;
use crate::testing::{Fixture, Pair, Refusal, TestRoot, bundle, connect_with};

const CONTROL: &str = "spiffe://td/ns/heddle-system/sa/control-plane";

fn join(fixture: &Fixture, control: &Identity, trust: JoinTrust) -> Result<Pair, Refusal> {
    let clock: Arc<dyn Clock> = fixture.clock.clone();
    let client = join_client(fixture.provider.clone(), clock, trust).unwrap();
    let server = control.current().unwrap().machine_server(&fixture.root.root.der).unwrap();
    connect_with(client, server.config().clone())
}

fn refusal(result: Result<Pair, Refusal>) -> String {
    match result.unwrap_err() {
        Refusal::Client(error) | Refusal::Server(error) => error.to_string(),
    }
}

#[test]
fn whoever_knows_the_root_or_its_hash_joins_and_is_a_guest() {
    let fixture = Fixture::new();
    let control = fixture.identity(CONTROL);
    let root = fixture.root.root.clone();
    let hash = root.id.as_str().to_uppercase();
    for trust in [JoinTrust::Roots(vec![root]), JoinTrust::hash(&hash).unwrap()] {
        let pair = join(&fixture, &control, trust).unwrap();
        assert!(pair.server.peer_certificates().is_none());
        assert_eq!(pair.server.alpn_protocol(), Some(CONTROL_PROTOCOL));
    }
    assert!(JoinTrust::hash("00").is_none());
    let colons = vec!["ab"; 32].join(":");
    assert!(JoinTrust::hash(&colons).is_some());
}

#[test]
fn another_authority_is_refused_by_root_and_by_hash() {
    let fixture = Fixture::new();
    let control = fixture.identity(CONTROL);
    let other = TestRoot::new(&fixture.provider, "other").root;
    let why = refusal(join(&fixture, &control, JoinTrust::Roots(vec![other.clone()])));
    assert!(why.contains("no root of trust domain td"), "{why}");
    let why = refusal(join(&fixture, &control, JoinTrust::Hash(other.id)));
    assert!(why.contains("no root of the hash"), "{why}");
}

#[test]
fn a_workload_of_the_mesh_is_no_control_plane() {
    let fixture = Fixture::new();
    let thief = fixture.identity("spiffe://td/ns/shop/sa/web");
    let trust = JoinTrust::Roots(vec![fixture.root.root.clone()]);
    let why = refusal(join(&fixture, &thief, trust));
    assert!(why.contains("spiffe://td/ns/shop/sa/web"), "{why}");
}

#[test]
fn a_machine_is_known_by_its_certificate_and_a_foreign_one_is_refused() {
    let fixture = Fixture::new();
    let control = fixture.identity(CONTROL);
    let server = control.current().unwrap().machine_server(&fixture.root.root.der).unwrap();
    let expected = Expected::identities([SpiffeId::parse(CONTROL).unwrap()]);
    let machine = fixture.identity("spiffe://td/ns/shop/sa/vm");
    let client = machine.current().unwrap().client(&[RELAY_PROTOCOL], expected.clone()).unwrap();
    let pair = connect_with(client.config().clone(), server.config().clone()).unwrap();
    let peer = server.peer(&pair.server).unwrap();
    assert_eq!(peer.identity.to_string(), "spiffe://td/ns/shop/sa/vm");
    assert_eq!(pair.server.alpn_protocol(), Some(RELAY_PROTOCOL));

    let foreign = TestRoot::new(&fixture.provider, "foreign");
    let leaf = foreign.leaf(&fixture.provider, "spiffe://elsewhere/ns/shop/sa/vm", |_| {});
    let own = bundle(1, "td", &[&fixture.root]);
    let stranger = fixture.identity_of(leaf, &own);
    let client = stranger.current().unwrap().client(&[CONTROL_PROTOCOL], expected).unwrap();
    let why = refusal(connect_with(client.config().clone(), server.config().clone()));
    assert!(why.contains("elsewhere"), "{why}");
}
