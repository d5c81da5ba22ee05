//! Whom the mesh trusts: plugged-in authorities, other trust domains, revocations, join tokens.

use std::path::Path;
use std::time::{Duration, SystemTime};

use heddle_cert::{Crypto as _, Root};
use heddle_ident::SpiffeId;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::trust::TrustBundle;
use heddle_proto::certificate::{CertificateRequest, JoinRequest};
use heddle_rpc::client::Connection;
use heddle_rpc::{Code, Peer};
use heddle_tls::{Keys, SigningRoot, default_provider};
use serde_json::json;

use crate::certificates::{ParseDomain, bundle, issue, issue_and_confirm, issue_leaf, request};
use crate::harness::{Mesh, Proxy};
use crate::lifecycle::{CLIENT, running};

fn new_root(days: u32) -> SigningRoot {
    let domain = "cluster.local".parse_domain();
    let life = Duration::from_hours(24) * days;
    SigningRoot::generate(default_provider(), &domain, SystemTime::now(), life).unwrap()
}

fn write_authority(folder: &Path, root: &SigningRoot) {
    // The key last: in between, the folder makes no sense, and what was in use stays.
    std::fs::write(folder.join("root-cert.pem"), root.chain_pem()).unwrap();
    std::fs::write(folder.join("ca-cert.pem"), root.chain_pem()).unwrap();
    std::fs::write(folder.join("ca-key.pem"), root.key_pem().as_bytes()).unwrap();
}

fn held(proxy: &Proxy) -> TrustBundle {
    match proxy.resource(&ResourceName::TrustBundle) {
        Some(Resource::TrustBundle(bundle)) => TrustBundle::clone(bundle),
        _ => panic!("the roots have come"),
    }
}

fn roots_of(bundle: &TrustBundle, domain: &str) -> usize {
    let domain = domain.parse_domain();
    let mut domains = bundle.domains.iter();
    domains.find(|trusted| trusted.trust_domain == domain).map_or(0, |found| found.roots.len())
}

#[tokio::test]
async fn an_authority_out_of_a_folder_signs_and_is_replaced_in_stages() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (new_root(365), new_root(20));
    write_authority(folder.path(), &first);
    let mut mesh = Mesh::start_with_authority(folder.path().to_owned()).await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(default_provider());
    assert_eq!(issue_and_confirm(&proxy, &keys).await, first.root().id);
    let (status, refused) = mesh.request("POST", "/v1/authority/rotate", None).await;
    assert_eq!(status, 500);
    assert!(refused.to_string().contains("plugged in"), "{refused}");

    proxy.disconnect();
    mesh.restart().await;
    proxy.connect(&mesh).await;
    assert_eq!(issue_and_confirm(&proxy, &keys).await, first.root().id);

    write_authority(folder.path(), &second);
    proxy.until(|proxy| *bundle(proxy, &keys).signer() == second.root().id).await;
    assert_eq!(issue_and_confirm(&proxy, &keys).await, second.root().id);
    let only_second =
        |proxy: &Proxy| bundle(proxy, &keys).roots(&"cluster.local".parse_domain()).len() == 1;
    proxy.until(only_second).await;
    let certs = mesh.get("/v1/certs").await;
    assert_eq!((&certs["plugged_in"], certs["roots"].as_array().unwrap().len()), (&json!(true), 1));
    let warnings = certs["warnings"].to_string();
    assert!(warnings.contains("expires in less than 30 days"), "{warnings}");
}

#[tokio::test]
async fn a_secret_named_cacerts_plugs_an_authority_in_and_a_wrong_one_changes_nothing() {
    let mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(default_provider());
    let own = issue_and_confirm(&proxy, &keys).await;
    let (other, key_of_another) = (new_root(365), new_root(365));
    let secret = |key: &SigningRoot| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {
                "ca-cert.pem": other.chain_pem(), "ca-key.pem": key.key_pem().as_str(),
                "root-cert.pem": other.chain_pem(),
            },
        })
    };
    mesh.apply(&secret(&key_of_another).to_string()).await;
    assert_eq!(issue(&proxy, &keys).await, own);
    let warnings = mesh.get("/v1/certs").await["warnings"].to_string();
    assert!(warnings.contains("ca-key.pem cannot be used"), "{warnings}");

    mesh.apply(&secret(&other).to_string()).await;
    proxy.until(|proxy| *bundle(proxy, &keys).signer() == other.root().id).await;
    assert_eq!(issue_and_confirm(&proxy, &keys).await, other.root().id);
    assert_eq!(mesh.get("/v1/certs").await["warnings"], json!([]));
}

#[tokio::test]
async fn other_trust_domains_have_their_own_roots_and_aliases_the_meshs() {
    let mut mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let (theirs, more, bridge) = (new_root(365), new_root(365), new_root(365));
    let body = json!({"domain": "partner.org", "pem": theirs.chain_pem()});
    let (status, answer) = mesh.request("POST", "/v1/authority/federate", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    let config = json!({
        "trustDomainAliases": ["old.example.org"],
        "caCertificates": [
            {"pem": more.chain_pem(), "trustDomains": ["partner.org", "third.org"]},
            {"pem": bridge.chain_pem()},
            {"pem": "nonsense", "trustDomains": ["fourth.org"]},
        ],
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": config.to_string()},
    });
    mesh.apply(&map.to_string()).await;
    let counts = |bundle: &TrustBundle| {
        ["cluster.local", "old.example.org", "partner.org", "third.org", "fourth.org"]
            .map(|domain| roots_of(bundle, domain))
    };
    proxy.until(|proxy| counts(&held(proxy)) == [2, 2, 2, 1, 0]).await;
    // A restart changes nothing.
    proxy.disconnect();
    mesh.restart().await;
    proxy.connect(&mesh).await;
    assert_eq!(counts(&held(&proxy)), [2, 2, 2, 1, 0]);
    mesh.delete_in("ConfigMap", "istio-system", "istio").await;
    let body = json!({"domain": "partner.org", "pem": ""});
    mesh.request("POST", "/v1/authority/federate", Some(body)).await;
    proxy.until(|proxy| counts(&held(proxy)) == [1, 0, 0, 0, 0]).await;

    let own = json!({"domain": "cluster.local", "pem": theirs.chain_pem()});
    let (status, _) = mesh.request("POST", "/v1/authority/federate", Some(own)).await;
    assert_eq!(status, 500, "nobody else's root vouches for the own domain");
}

#[tokio::test]
async fn a_revoked_certificate_is_named_to_every_proxy() {
    let mut mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(default_provider());
    let (_, leaf) = issue_leaf(&proxy, &keys).await;
    let serial = heddle_tls::serial_of(&leaf).unwrap().unwrap();
    for wrong in [json!({"serial": "41"}), json!({"workload": "default/nobody"})] {
        let (status, answer) = mesh.request("POST", "/v1/authority/revoke", Some(wrong)).await;
        assert_eq!(status, 400, "{answer}");
    }
    let (_, name) = CLIENT.split_once("/Pod/").unwrap();
    let body = json!({"workload": name});
    let (status, answer) = mesh.request("POST", "/v1/authority/revoke", Some(body)).await;
    assert_eq!((status, &answer["revoked"]), (200, &json!([serial.to_string()])));
    proxy.until(|proxy| !held(proxy).revoked.is_empty()).await;
    assert_eq!(*held(&proxy).revoked[0], serial.0);
    proxy.disconnect();
    mesh.restart().await;
    let certs = mesh.get("/v1/certs").await;
    assert_eq!(certs["revoked"][0]["serial"], serial.to_string());
}

/// A machine that has nothing but a token.
struct Machine {
    keys: Keys,
    connection: Connection,
}

impl Machine {
    async fn new(mesh: &Mesh) -> Self {
        let connection = Connection::open(&mesh.stream_socket(), &Peer::Guest).await.unwrap();
        Self { keys: Keys::new(default_provider()), connection }
    }

    /// Asks for an identity; what is wrong, where it is refused.
    async fn join(&self, token: &str, account: &str) -> Result<(), String> {
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/vms/sa/{account}")).unwrap();
        let (key, csr) = self.keys.make_key(&id).unwrap();
        let csr = request(&csr).csr;
        let asked = JoinRequest { token: token.to_owned(), csr, machine: None };
        let answer = self.connection.join(asked).await.map_err(|e| e.message().to_owned())?;
        let provider = default_provider();
        let mut chain = heddle_tls::certificates_from_pem(answer.cert_chain.join("").as_bytes())
            .unwrap()
            .iter()
            .map(|der| std::sync::Arc::from(der.as_ref()))
            .collect::<Vec<std::sync::Arc<[u8]>>>();
        chain.pop();
        let roots: Vec<Root> = answer
            .roots
            .iter()
            .map(|der| heddle_tls::root_from_der(&provider, der).unwrap())
            .collect();
        let domain = answer.trust_domain.as_str().parse_domain();
        let signer = roots[0].id.clone();
        let bundle = heddle_cert::TrustBundle::new(1, domain, signer, roots).unwrap();
        let validity = self.keys.check_chain(&key, &id, &chain, &bundle).unwrap();
        assert!(validity.contains(SystemTime::now()));
        Ok(())
    }
}

async fn token(mesh: &Mesh, account: &str, lifetime_ms: u64) -> String {
    let body = json!({"for": format!("vms/{account}"), "lifetime_ms": lifetime_ms});
    let (status, answer) = mesh.request("POST", "/v1/authority/token", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_gives_one_certificate_of_one_identity_and_nothing_else() {
    let mut mesh = Mesh::start().await;
    let secret = token(&mesh, "db", 60_000).await;
    let machine = Machine::new(&mesh).await;
    let other = machine.join(&secret, "admin").await.unwrap_err();
    assert!(other.contains("is for spiffe://cluster.local/ns/vms/sa/db, not for"), "{other}");
    let unknown = machine.join("heddle-join-AAAA", "db").await.unwrap_err();
    assert!(unknown.contains("not known"), "{unknown}");
    machine.join(&secret, "db").await.unwrap();
    let again = machine.join(&secret, "db").await.unwrap_err();
    assert!(again.contains("was used before"), "{again}");
    // Nothing else is open to a guest, before and after.
    let more = machine.connection.create_certificate(CertificateRequest::default()).await;
    assert_eq!(more.unwrap_err().code(), Code::Unauthenticated);

    mesh.restart().await;
    let machine = Machine::new(&mesh).await;
    let again = machine.join(&secret, "db").await.unwrap_err();
    assert!(again.contains("was used before"), "after a restart: {again}");
    let certs = mesh.get("/v1/certs").await;
    assert_eq!(certs["tokens"][0]["state"], "used");
    assert!(!certs.to_string().contains(&secret), "no text of it is kept");
}

#[tokio::test]
async fn a_token_expires() {
    let mesh = Mesh::start().await;
    let secret = token(&mesh, "db", 1_000).await;
    let machine = Machine::new(&mesh).await;
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while mesh.get("/v1/certs").await["tokens"][0]["state"] != "expired" {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
    let refused = machine.join(&secret, "db").await.unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    for (name, lifetime_ms) in [("db", 0_u64), ("db", 2_592_000_000_u64), ("a/b/c", 1_000)] {
        let body = json!({"for": format!("vms/{name}"), "lifetime_ms": lifetime_ms});
        let (status, _) = mesh.request("POST", "/v1/authority/token", Some(body)).await;
        assert_eq!(status, 400);
    }
}
