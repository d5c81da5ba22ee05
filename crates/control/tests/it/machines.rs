//! The port at which machines join: who gets in, who does not, and what becomes of those who have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{Crypto as _, Root, Svid, TrustBundle};
use heddle_ident::{SpiffeId, TrustDomain};
use heddle_proto::certificate::{
    CertificateRequest, JoinRequest, JoinResponse, Machine, RefreshRequest,
};
use heddle_proto::node::{NodeReport, Phase, WatchRequest, WorkloadReport};
use heddle_rpc::Code;
use heddle_rpc::client::Connection;
use heddle_tls::{
    CONTROL_PROTOCOL, Expected, Identity, JoinTrust, Keys, RELAY_PROTOCOL, SigningRoot,
    SystemClock, WorkloadKey, certificates_from_pem, control_identity, default_provider,
    join_client, root_from_der,
};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::request;
use crate::harness::Mesh;

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: vms}
spec: {selector: {app: db}, ports: [{name: tcp, port: 5432, targetPort: 5432}, {name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: vms}
spec:
  metadata: {labels: {app: db}}
  template: {serviceAccount: db, ports: {http: 8080}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: old, namespace: vms, labels: {app: old}}
spec: {address: 192.0.2.9, serviceAccount: old}
";

async fn mesh() -> Mesh {
    let mesh = Mesh::start_with_machines().await;
    mesh.apply(OBJECTS).await;
    mesh
}

async fn token(mesh: &Mesh, account: &str) -> (String, JoinTrust) {
    let body = json!({"for": format!("vms/{account}"), "lifetime_ms": 60_000});
    let (status, answer) = mesh.request("POST", "/v1/authority/token", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    let root = JoinTrust::hash(answer["root"].as_str().unwrap()).unwrap();
    (answer["token"].as_str().unwrap().to_owned(), root)
}

async fn connect(
    port: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    name: &str,
) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(port).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, tcp).await
}

async fn as_guest(mesh: &Mesh, trust: JoinTrust) -> Connection {
    let config = join_client(default_provider(), Arc::new(SystemClock), trust).unwrap();
    let tls = connect(mesh.machines_port(), config, "control.heddle.internal").await.unwrap();
    Connection::over(tls).await.unwrap()
}

fn machine(group: &str, entry: &str, address: &str) -> Option<Machine> {
    Some(Machine {
        workload_group: group.into(),
        workload_entry: entry.into(),
        address: address.into(),
    })
}

/// A machine with its certificate.
struct Joined {
    identity: Identity,
    answer: JoinResponse,
    leaf: Vec<u8>,
}

fn held(answer: &JoinResponse, id: &SpiffeId, key: WorkloadKey) -> (Identity, Vec<u8>) {
    let provider = default_provider();
    let chain = certificates_from_pem(answer.cert_chain.join("").as_bytes()).unwrap();
    let mut chain: Vec<Arc<[u8]>> = chain.iter().map(|der| Arc::from(der.as_ref())).collect();
    chain.pop();
    let roots: Vec<Root> =
        answer.roots.iter().map(|der| root_from_der(&provider, der).unwrap()).collect();
    let domain = TrustDomain::parse(&answer.trust_domain).unwrap();
    let signer = roots[0].id.clone();
    let bundle = TrustBundle::new(answer.generation, domain, signer.clone(), roots).unwrap();
    let keys = Keys::new(provider.clone());
    let validity = keys.check_chain(&key, id, &chain, &bundle).unwrap();
    let leaf = chain[0].to_vec();
    let svid = Svid { identity: id.clone(), key, chain, validity, root: signer };
    let identity = Identity::new(provider, Arc::new(SystemClock));
    identity.install(Arc::new(svid), &bundle).unwrap();
    (identity, leaf)
}

async fn join(mesh: &Mesh, account: &str, asked: Option<Machine>) -> Result<Joined, String> {
    let (token, trust) = token(mesh, account).await;
    join_with(mesh, account, asked, token, trust).await
}

async fn join_with(
    mesh: &Mesh,
    account: &str,
    asked: Option<Machine>,
    token: String,
    trust: JoinTrust,
) -> Result<Joined, String> {
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/vms/sa/{account}")).unwrap();
    let (key, csr) = Keys::new(default_provider()).make_key(&id).unwrap();
    let asked = JoinRequest { token, csr: request(&csr).csr, machine: asked };
    let answer = as_guest(mesh, trust).await.join(asked).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    let (identity, leaf) = held(&answer, &id, key);
    Ok(Joined { identity, answer, leaf })
}

impl Joined {
    fn config(&self, protocol: &'static [u8]) -> Arc<rustls::ClientConfig> {
        let domain = TrustDomain::parse(&self.answer.trust_domain).unwrap();
        let control = control_identity(&domain).unwrap();
        let current = self.identity.current().unwrap();
        let client = current.client(&[protocol], Expected::identities([control])).unwrap();
        client.config().clone()
    }

    fn name(&self) -> String {
        let name = self.answer.workload.rsplit('/').next().unwrap();
        format!("{name}.machine.heddle.internal")
    }

    async fn connect(&self, mesh: &Mesh) -> Connection {
        let config = self.config(CONTROL_PROTOCOL);
        let tls = connect(mesh.machines_port(), config, &self.name()).await.unwrap();
        Connection::over(tls).await.unwrap()
    }

    /// What is answered to the wish to be carried to an address.
    async fn carried(&self, mesh: &Mesh, target: &str) -> String {
        let config = self.config(RELAY_PROTOCOL);
        let mut tls = connect(mesh.machines_port(), config, &self.name()).await.unwrap();
        tls.write_all(format!("{target}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = tls.read_to_string(&mut answer).await;
        answer
    }

    fn report(&self, uid: &str, ready: bool) -> NodeReport {
        let told = WorkloadReport {
            id: self.answer.workload.clone(),
            uid: uid.to_owned(),
            phase: Phase::Running.into(),
            ready,
            ..WorkloadReport::default()
        };
        NodeReport {
            node: "local".into(),
            instance: "machine".into(),
            complete: true,
            workloads: vec![told],
        }
    }
}

fn is_ready(status: &Value, name: &str) -> bool {
    let workloads = status["workloads"].as_array().unwrap();
    workloads.iter().any(|w| w["name"] == name && w["ready"] == true)
}

/// Asks until the control plane says so.
async fn until(mesh: &Mesh, what: &str, is: impl Fn(&Value) -> bool) {
    let asking = async {
        loop {
            let status = mesh.get("/v1/status").await;
            if is(&status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asking).await;
    assert!(asked.is_ok(), "{what}: {}", mesh.get("/v1/status").await);
}

#[tokio::test]
async fn a_machine_joins_is_a_workload_and_comes_back_without_a_token() {
    let mut mesh = mesh().await;
    let vm = join(&mesh, "db", machine("db", "", "192.0.2.7")).await.unwrap();
    assert_eq!(vm.answer.workload, "standalone/Pod/vms/db-192.0.2.7");
    let connection = vm.connect(&mesh).await;
    let watch = WatchRequest { node: "local".into(), instance: "machine".into() };
    let mut states = connection.watch(watch.clone()).await.unwrap();
    let state = states.message().await.unwrap().unwrap();
    let [own] = state.workloads.as_slice() else { panic!("{state:?}") };
    assert_eq!(own.id, vm.answer.workload);
    assert_eq!(own.labels["app"], "db");
    assert!(own.meshed && own.init_containers.is_empty());
    let open: Vec<_> =
        own.published_ports.iter().map(|p| (p.host_address.as_str(), p.host_port)).collect();
    assert_eq!(open, [("192.0.2.7", 5432), ("192.0.2.7", 8080)], "where services find it");
    connection.report(vm.report(&own.uid, true)).await.unwrap();
    until(&mesh, "it is ready", |status| is_ready(status, "db-192.0.2.7")).await;

    // Its proxy gets certificates for the same identity and no other.
    let id = SpiffeId::parse("spiffe://cluster.local/ns/vms/sa/db").unwrap();
    let other = SpiffeId::parse("spiffe://cluster.local/ns/vms/sa/admin").unwrap();
    let keys = Keys::new(default_provider());
    for (id, accepted) in [(&id, true), (&other, false)] {
        let (_, csr) = keys.make_key(id).unwrap();
        let answer = connection.create_certificate(request(&csr)).await;
        assert_eq!(answer.is_ok(), accepted, "{id}");
        let refresh = RefreshRequest {
            csr: request(&csr).csr,
            generation: vm.answer.generation,
            leaf: vm.leaf.clone(),
        };
        assert_eq!(connection.refresh(refresh).await.is_ok(), accepted, "{id}");
    }
    drop((states, connection));

    mesh.restart().await;
    let connection = vm.connect(&mesh).await;
    let mut states = connection.watch(watch).await.unwrap();
    let state = states.message().await.unwrap().unwrap();
    assert_eq!(state.workloads[0].id, vm.answer.workload, "after a restart");
    // Its object says that it is part of the mesh.
    mesh.delete_in("WorkloadGroup", "vms", "db").await;
    let gone = async {
        while let Ok(Some(state)) = states.message().await {
            if state.workloads.is_empty() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn a_machine_is_what_its_object_says_and_nothing_else() {
    let mesh = mesh().await;
    for (account, asked, why) in [
        ("db", machine("nothing", "", "192.0.2.7"), "there is no WorkloadGroup vms/nothing"),
        ("web", machine("db", "", "192.0.2.7"), "is for the service account vms/db"),
        ("db", machine("db", "", "127.0.0.1"), "not an address"),
        ("db", machine("db", "", ""), "not an address"),
        ("db", machine("db", "old", "192.0.2.7"), "one WorkloadGroup or one WorkloadEntry"),
        ("db", machine("", "old", ""), "is for the service account vms/old"),
    ] {
        let (token, trust) = token(&mesh, account).await;
        let refused = join_with(&mesh, account, asked, token.clone(), trust.clone()).await;
        let refused = refused.err().unwrap();
        assert!(refused.contains(why), "{refused}");
        // The token is still good: nothing was given for it.
        join_with(&mesh, account, None, token, trust).await.unwrap();
    }
    let vm = join(&mesh, "old", machine("", "old", "")).await.unwrap();
    assert_eq!(vm.answer.address, "192.0.2.9");
    assert_eq!(vm.answer.workload, "standalone/Pod/vms/old");
}

#[tokio::test]
async fn tokens_are_good_once_and_for_their_identity() {
    let mesh = mesh().await;
    let (token, trust) = token(&mesh, "db").await;
    let vm = || machine("db", "", "192.0.2.7");
    let other = join_with(&mesh, "web", vm(), token.clone(), trust.clone()).await.err().unwrap();
    assert!(other.contains("is for spiffe://cluster.local/ns/vms/sa/db, not for"), "{other}");
    join_with(&mesh, "db", vm(), token.clone(), trust.clone()).await.unwrap();
    let again = join_with(&mesh, "db", vm(), token, trust).await.err().unwrap();
    assert!(again.contains("was used before"), "{again}");
}

#[tokio::test]
async fn whoever_has_no_certificate_may_join_and_nothing_else() {
    let mesh = mesh().await;
    let (_, trust) = token(&mesh, "db").await;
    let guest = as_guest(&mesh, trust.clone()).await;
    let refused = guest.create_certificate(CertificateRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = guest.delta(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = guest.watch(WatchRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = guest.refresh(RefreshRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // A request of a size that no machine needs is not read.
    let huge = JoinRequest { csr: "x".repeat(4 << 20), ..JoinRequest::default() };
    let refused = guest.join(huge).await.unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    let refused = guest.join(JoinRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_machine_must_be_of_this_mesh_and_have_joined() {
    let mesh = mesh().await;
    let vm = join(&mesh, "db", machine("db", "", "192.0.2.7")).await.unwrap();
    // Another authority says that it is the same machine.
    let provider = default_provider();
    let (now, day) = (SystemTime::now(), Duration::from_hours(24));
    for domain in ["elsewhere", "cluster.local"] {
        let foreign = TrustDomain::parse(domain).unwrap();
        let root = SigningRoot::generate(provider.clone(), &foreign, now, day).unwrap();
        let id = SpiffeId::for_service_account(&foreign, "vms", "db").unwrap();
        let keys = Keys::new(provider.clone());
        let (key, csr) = keys.make_key(&id).unwrap();
        let validity = heddle_cert::Validity { not_before: now, not_after: now + day };
        let chain = root.sign(&csr, &id, validity, root.new_serial().unwrap()).unwrap();
        let cert_chain: Vec<String> =
            chain.iter().map(|der| heddle_tls::pem_of("CERTIFICATE", der)).collect();
        let answer = JoinResponse {
            cert_chain: cert_chain.into_iter().chain([root.chain_pem()]).collect(),
            trust_domain: domain.to_owned(),
            roots: vec![root.root().der.to_vec()],
            ..vm.answer.clone()
        };
        let (identity, leaf) = held(&answer, &id, key);
        let stranger = Joined { identity, answer: vm.answer.clone(), leaf };
        // It would believe the real control plane, and is not believed itself.
        let own = stranger.identity.current().unwrap();
        let roots = JoinTrust::Roots(
            vm.answer.roots.iter().map(|der| root_from_der(&provider, der).unwrap()).collect(),
        );
        let client = own.client(&[CONTROL_PROTOCOL], Expected::AnyTrusted).unwrap();
        let mut config = rustls::ClientConfig::clone(client.config());
        let believing = join_client(provider.clone(), Arc::new(SystemClock), roots).unwrap();
        config.dangerous().set_certificate_verifier(Arc::new(Believing(believing)));
        let tls = connect(mesh.machines_port(), Arc::new(config), &stranger.name()).await;
        // In TLS 1.3 a client learns of it with the first bytes that it reads.
        let refused = match tls {
            Err(_) => true,
            Ok(mut tls) => !matches!(tls.read(&mut [0]).await, Ok(1..)),
        };
        assert!(refused, "{domain}");
    }
    // A workload of the mesh that is no machine, and a machine under another's name.
    let web = join(&mesh, "web", None).await.unwrap();
    let mut tls =
        connect(mesh.machines_port(), web.config(CONTROL_PROTOCOL), &vm.name()).await.unwrap();
    assert!(!matches!(tls.read(&mut [0]).await, Ok(1..)), "web is not db");
    let mut tls =
        connect(mesh.machines_port(), vm.config(CONTROL_PROTOCOL), "other.machine.heddle.internal")
            .await
            .unwrap();
    assert!(!matches!(tls.read(&mut [0]).await, Ok(1..)), "there is no such machine");
}

/// Takes whatever certificate is presented: the attacker of these tests does not care who is at the other end.
#[derive(Debug)]
struct Believing(Arc<rustls::ClientConfig>);

impl rustls::client::danger::ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.crypto_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_revoked_machine_is_sent_away_and_a_root_waits_for_machines() {
    let mesh = mesh().await;
    let vm = join(&mesh, "db", machine("db", "", "192.0.2.7")).await.unwrap();
    let connection = vm.connect(&mesh).await;
    let refresh =
        |generation| RefreshRequest { csr: String::new(), generation, leaf: vm.leaf.clone() };
    let before = connection.refresh(refresh(vm.answer.generation)).await.unwrap();
    assert!(before.cert_chain.is_empty());
    // The new root is in the bundle, and does not sign before the machine says that it has it.
    let (status, _) = mesh.request("POST", "/v1/authority/rotate", None).await;
    assert_eq!(status, 200);
    let stage = async || mesh.get("/v1/certs").await["rotation"]["stage"].clone();
    let after = connection.refresh(refresh(before.generation)).await.unwrap();
    assert_eq!((after.roots.len(), stage().await), (2, json!("distribute")));
    connection.refresh(refresh(after.generation)).await.unwrap();
    assert_eq!(stage().await, "renew");

    let body = json!({"workload": "vms/db-192.0.2.7"});
    let (status, answer) = mesh.request("POST", "/v1/authority/revoke", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    let ended = async {
        while connection.refresh(refresh(after.generation)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    let config = vm.config(CONTROL_PROTOCOL);
    let refused = match connect(mesh.machines_port(), config, &vm.name()).await {
        Err(_) => true,
        Ok(mut tls) => !matches!(tls.read(&mut [0]).await, Ok(1..)),
    };
    assert!(refused, "its certificate is worth nothing any more");
}

#[tokio::test]
async fn connections_are_carried_to_workloads_of_the_mesh_only() {
    let mesh = mesh().await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: vms}\n\
               spec: {containers: [{name: web, command: [web]}]}\n";
    mesh.apply(pod).await;
    let vm = join(&mesh, "db", machine("db", "", "192.0.2.7")).await.unwrap();
    for target in ["127.0.0.1:1", "10.244.0.1:53", "192.0.2.7:5432", "169.254.169.254:80"] {
        let answer = vm.carried(&mesh, target).await;
        assert!(answer.contains("is no workload of this mesh"), "{target}: {answer}");
    }
    for nonsense in ["", "web:80", &"x".repeat(1000)] {
        assert_eq!(vm.carried(&mesh, nonsense).await, "");
    }
    // The address of the pod is let through; nothing listens there in this test.
    let answer = vm.carried(&mesh, "10.244.0.10:80").await;
    assert!(!answer.contains("no workload"), "{answer}");
}

#[tokio::test]
async fn noise_and_silence_keep_no_machine_out() {
    let mesh = mesh().await;
    let vm = join(&mesh, "db", machine("db", "", "192.0.2.7")).await.unwrap();
    let connection = vm.connect(&mesh).await;
    let port = mesh.machines_port();
    // More silent connections than handshakes may be under way, and some that talk nonsense.
    let mut silent = Vec::new();
    for number in 0..600 {
        let Ok(mut tcp) = TcpStream::connect(port).await else { break };
        if number % 5 == 0 {
            let _ = tcp.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff]).await;
        } else if number % 5 == 1 {
            let _ = tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        }
        silent.push(tcp);
    }
    let refresh = RefreshRequest { generation: vm.answer.generation, ..RefreshRequest::default() };
    connection.refresh(refresh).await.unwrap();
    // Whoever says nothing is gone after some seconds, and others get in.
    let joins = async {
        loop {
            let config = vm.config(CONTROL_PROTOCOL);
            if let Ok(tls) = connect(port, config, &vm.name()).await
                && Connection::over(tls).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), joins).await.unwrap();
    drop(silent);
}
