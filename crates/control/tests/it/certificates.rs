//! Certificates and roots.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use heddle_cert::{Crypto as _, RootId, TrustBundle};
use heddle_control::Lifetimes;
use heddle_ident::SpiffeId;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::certificate::{CertificateRequest, InstalledCertificate};
use heddle_rpc::Code;
use heddle_tls::Keys;
use serde_json::json;

use crate::harness::{Mesh, Proxy};
use crate::lifecycle::running;

pub(crate) fn request(csr: &[u8]) -> CertificateRequest {
    let text = base64::engine::general_purpose::STANDARD.encode(csr);
    let csr =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    CertificateRequest { csr, validity_duration: 0, for_application: false }
}

/// The bundle that the proxy holds, as certificates are checked with it.
pub(crate) fn bundle(proxy: &Proxy, keys: &Keys) -> TrustBundle {
    let Some(Resource::TrustBundle(bundle)) = proxy.resource(&ResourceName::TrustBundle) else {
        panic!("the roots have come")
    };
    let _ = keys;
    let provider = heddle_tls::default_provider();
    let own = bundle.domains.iter().find(|domain| domain.trust_domain == bundle.trust_domain);
    let roots = own.unwrap().roots.iter();
    let roots = roots.map(|der| heddle_tls::root_from_der(&provider, der).unwrap()).collect();
    let signer = RootId::new(bundle.signer.clone());
    TrustBundle::new(bundle.generation, bundle.trust_domain.clone(), signer, roots).unwrap()
}

/// [`issue`], and says that the certificate is in use.
pub(crate) async fn issue_and_confirm(proxy: &Proxy, keys: &Keys) -> RootId {
    let (root, leaf) = issue_leaf(proxy, keys).await;
    let connection = proxy.connection.as_ref().unwrap();
    connection.installed(InstalledCertificate { leaf: leaf.to_vec() }).await.unwrap();
    root
}

/// Asks for a certificate for an identity and checks what comes; the id of its root.
pub(crate) async fn issue(proxy: &Proxy, keys: &Keys) -> RootId {
    issue_leaf(proxy, keys).await.0
}

pub(crate) async fn issue_leaf(proxy: &Proxy, keys: &Keys) -> (RootId, Arc<[u8]>) {
    let identity = proxy.settings().workload.identity.clone();
    let (key, csr) = keys.make_key(&identity).unwrap();
    let connection = proxy.connection.as_ref().unwrap();
    let answer = connection.create_certificate(request(&csr)).await.unwrap();
    let mut chain: Vec<Arc<[u8]>> =
        heddle_tls::certificates_from_pem(answer.cert_chain.join("").as_bytes())
            .unwrap()
            .iter()
            .map(|der| Arc::from(der.as_ref()))
            .collect();
    let root = chain.pop().unwrap();
    let validity = keys.check_chain(&key, &identity, &chain, &bundle(proxy, keys)).unwrap();
    assert!(validity.contains(SystemTime::now()));
    let root = heddle_tls::root_from_der(&heddle_tls::default_provider(), &root).unwrap().id;
    (root, chain[0].clone())
}

#[tokio::test]
async fn a_proxy_gets_a_certificate_for_its_own_identity_only() {
    let mesh = Mesh::start().await;
    let (_supervisor, proxy) = running(&mesh).await;
    let keys = Keys::new(heddle_tls::default_provider());
    let root = issue(&proxy, &keys).await;
    let certs = mesh.get("/v1/certs").await;
    assert_eq!((&certs["roots"][0]["id"], &certs["issued"]), (&root.as_str().into(), &1.into()));

    let other = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/other").unwrap();
    let (_, csr) = keys.make_key(&other).unwrap();
    let connection = proxy.connection.as_ref().unwrap();
    let refused = connection.create_certificate(request(&csr)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let nonsense =
        CertificateRequest { csr: "x".into(), validity_duration: 0, for_application: false };
    let refused = connection.create_certificate(nonsense).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_authority_survives_a_restart() {
    let mut mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(heddle_tls::default_provider());
    let before = issue(&proxy, &keys).await;
    proxy.disconnect();
    mesh.restart().await;
    proxy.connect(&mesh).await;
    assert_eq!(issue(&proxy, &keys).await, before);
}

#[tokio::test]
async fn a_root_is_replaced_in_stages_that_leave_nobody_behind() {
    let lifetimes = Lifetimes { leaf: Duration::from_secs(3), root: Duration::from_hours(1) };
    let mesh = Mesh::start_with(lifetimes).await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(heddle_tls::default_provider());
    let old = issue(&proxy, &keys).await;
    let generation = bundle(&proxy, &keys).generation();
    let (status, answer) = mesh.request("POST", "/v1/authority/rotate", None).await;
    assert_eq!(status, 200);
    let new = RootId::new(answer["root"].as_str().unwrap());
    let (status, again) = mesh.request("POST", "/v1/authority/rotate", None).await;
    assert_eq!(status, 500, "{again}");

    // Nothing is signed by the new root before the proxy has confirmed it.
    let provider = heddle_tls::default_provider();
    let roots = |proxy: &Proxy| {
        bundle(proxy, &Keys::new(provider.clone())).roots(&"cluster.local".parse_domain()).len()
    };
    while bundle(&proxy, &keys).generation() == generation {
        proxy.receive().await.unwrap();
    }
    assert_eq!(roots(&proxy), 2);
    assert_eq!(issue(&proxy, &keys).await, old);
    // It confirms; the new root signs, and the old one goes when its last leaf is over.
    proxy.until(|proxy| *bundle(proxy, &keys).signer() == new).await;
    assert_eq!(issue(&proxy, &keys).await, new);
    proxy.until(|proxy| roots(proxy) == 1).await;
    assert_eq!(issue(&proxy, &keys).await, new);
    let certs = mesh.get("/v1/certs").await;
    assert_eq!(certs["rotation"]["stage"], "steady");
}

#[tokio::test]
async fn rotations_follow_each_other_as_soon_as_every_proxy_has_confirmed() {
    let mut mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(heddle_tls::default_provider());
    let mut former = issue_and_confirm(&proxy, &keys).await;
    for _ in 0..2 {
        let (status, answer) = mesh.request("POST", "/v1/authority/rotate", None).await;
        assert_eq!(status, 200, "{answer}");
        let new = RootId::new(answer["root"].as_str().unwrap());
        proxy.until(|proxy| *bundle(proxy, &keys).signer() == new).await;
        // The leaf of the former root lives for a day: its root stays until another one is in its place.
        let retire = json!({"root": former.as_str()});
        let (status, refusal) =
            mesh.request("POST", "/v1/authority/retire", Some(retire.clone())).await;
        assert_eq!(status, 500, "{refusal}");
        assert_eq!(issue(&proxy, &keys).await, new);
        let (status, _) = mesh.request("POST", "/v1/authority/retire", Some(retire)).await;
        assert_eq!(status, 500, "issued, and not confirmed");
        // Whom it waits for is known after a restart too.
        proxy.disconnect();
        mesh.restart().await;
        proxy.connect(&mesh).await;
        former = issue_and_confirm(&proxy, &keys).await;
        assert_eq!(former, new);
        let retired =
            |proxy: &Proxy| bundle(proxy, &keys).roots(&"cluster.local".parse_domain()).len() == 1;
        proxy.until(retired).await;
        // The retired root's key is gone; the next start asks for it no more.
        proxy.disconnect();
        mesh.restart().await;
        proxy.connect(&mesh).await;
    }
    let certs = mesh.get("/v1/certs").await;
    let leaves = certs["certificates"].as_array().unwrap();
    assert_eq!(leaves.len(), 1, "{certs}");
    assert_eq!(leaves[0]["issuer"], former.as_str());
    assert_eq!(leaves[0]["workload"], crate::lifecycle::CLIENT);
    assert_eq!(leaves[0]["serial"].as_str().unwrap().len(), 32);
    assert_eq!((certs["roots"].as_array().unwrap().len(), &certs["warnings"]), (1, &json!([])));
}

#[tokio::test]
async fn another_trust_domain_has_an_authority_of_its_own_and_the_former_one_is_understood() {
    let mut mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let keys = Keys::new(heddle_tls::default_provider());
    let old = issue(&proxy, &keys).await;
    mesh.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
         data:\n  mesh: |\n    trustDomain: example.org\n",
    )
    .await;
    let other = "example.org".parse_domain();
    proxy.until(|proxy| *proxy.settings().workload.identity.trust_domain() == other).await;
    proxy.until(|proxy| *bundle(proxy, &keys).domain() == other).await;
    let new = issue(&proxy, &keys).await;
    assert_ne!(new, old);
    let Some(Resource::TrustBundle(held)) = proxy.resource(&ResourceName::TrustBundle) else {
        panic!("the roots have come")
    };
    assert_eq!(held.domains.len(), 2);
    proxy.disconnect();
    mesh.restart().await;
    proxy.connect(&mesh).await;
    assert_eq!(issue(&proxy, &keys).await, new);
}

pub(crate) trait ParseDomain {
    fn parse_domain(&self) -> heddle_ident::TrustDomain;
}

impl ParseDomain for str {
    fn parse_domain(&self) -> heddle_ident::TrustDomain {
        heddle_ident::TrustDomain::parse(self).unwrap()
    }
}
