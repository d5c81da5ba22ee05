//! A mesh whose proxies get their identities from somebody else: a server of the SPIFFE Workload API, as SPIRE's agent is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{Crypto as _, Validity};
use heddle_ident::{SpiffeId, TrustDomain};
use heddle_proto::workload_api::{X509BundlesResponse, X509Svid, X509SvidResponse};
use heddle_rpc::workload_api::{Answers, Source, View, serve};
use heddle_testkit::{has, wait};
use heddle_tls::{ApplicationKeys, SigningRoot, default_provider};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{client, mesh, sample};

/// A Workload API that gives whoever asks the same identities.
struct Server {
    views: watch::Sender<View>,
    root: SigningRoot,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(socket: &Path, accounts: &[&str]) -> Self {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let (now, year) = (SystemTime::now(), Duration::from_hours(24 * 365));
        let root = SigningRoot::generate(default_provider(), &domain, now, year).unwrap();
        let (views, receiver) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let path = socket.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(path).unwrap();
                let (asked, _is_asked) = mpsc::channel(1);
                let source = Source { views: receiver, asked, tokens: mpsc::channel(1).0 };
                // Cut off, as by a crash: whoever follows it would hold an orderly end up.
                tokio::select! {
                    served = serve(source, listener, std::future::pending()) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let server = Self { views, root, stop: Some(stop), thread: Some(thread) };
        server.give(accounts);
        server
    }

    /// Gives these identities from now on, with new keys.
    fn give(&self, accounts: &[&str]) {
        let svids = accounts.iter().map(|account| self.svid(account)).collect();
        let svids = X509SvidResponse { svids, ..X509SvidResponse::default() };
        let bundles = X509BundlesResponse::default();
        self.views.send_replace(Some(Arc::new(Answers { svids, bundles })));
    }

    fn svid(&self, account: &str) -> X509Svid {
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}"));
        let id = id.unwrap();
        let (key, request) = ApplicationKeys::new(default_provider()).make_key(&id).unwrap();
        let now = SystemTime::now();
        let not_before = now - Duration::from_mins(1);
        let validity = Validity { not_before, not_after: now + Duration::from_hours(1) };
        let serial = self.root.new_serial().unwrap();
        let chain = self.root.sign(&request, &id, validity, serial).unwrap();
        X509Svid {
            spiffe_id: id.to_string(),
            x509_svid: chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().concat(),
            x509_svid_key: key.pkcs8().to_vec(),
            bundle: self.root.root().der.to_vec(),
            hint: String::new(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings}
spec:
  selector: {matchLabels: {app: ratings}}
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: outsider, labels: {sidecar.istio.io/inject: \"false\"}}
spec: {containers: [{name: outsider, command: [sleep, infinity]}]}
---
";

#[test]
fn proxies_take_the_identities_of_a_workload_api_and_its_roots() {
    if !has(&["openssl"]) {
        return;
    }
    let mesh = mesh();
    let socket = mesh.folder().join("agent.sock");
    let server = Server::start(&socket, &["client", "ratings", "someone-else"]);
    let address = format!("unix://{}", socket.display());
    let objects = [sample("ratings", "ratings", "v1", 1), client("client"), STRICT.into()].concat();
    let words = ["up", "-d", "--spiffe-endpoint-socket", &address, "-f", "-"];
    mesh.run_with(&words, &objects).success();
    let load = ["--count", "20", "http://ratings:9080/ratings/0"];
    assert_eq!(mesh.load("client", &load)["statuses"]["200"], 20);
    // What is presented is the agent's, and not of the mesh's own authority.
    let presented = || {
        let script = "openssl s_client -connect ratings:9080 -alpn istio -showcerts </dev/null 2>/dev/null; true";
        mesh.exec("outsider", &["sh", "-c", script]).stdout
    };
    let root = mesh.folder().join("root.pem");
    std::fs::write(&root, server.root.chain_pem()).unwrap();
    let leaf = mesh.folder().join("leaf.pem");
    let vouches = |shown: &str| {
        std::fs::write(&leaf, shown).unwrap();
        let mut command = std::process::Command::new("openssl");
        command.args(["verify", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(&root).arg(&leaf);
        command.output().unwrap().status.success()
    };
    let first = presented();
    assert!(vouches(&first), "{first}");
    // Renewed by the agent, while requests go on.
    let running = mesh.start_load("client", &["--rate", "50", "http://ratings:9080/ratings/0"]);
    server.give(&["client", "ratings"]);
    wait("the renewed certificate is presented", || {
        let now = presented();
        vouches(&now) && leaf_of(&now) != leaf_of(&first)
    });
    running.signal(rustix::process::Signal::INT);
    let summary = running.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
    // An identity that is not given any more does not become another one.
    server.give(&["someone-else"]);
    wait("the proxy says what it is not given", || {
        let log = mesh.must(&["logs", "ratings", "-c", "proxy"]);
        log.contains("what the Workload API gives cannot be used")
    });
    assert_eq!(mesh.load("client", &load)["statuses"]["200"], 20, "what was given stays in use");
    // Gone: the same.
    drop(server);
    assert_eq!(mesh.load("client", &load)["statuses"]["200"], 20);
}

fn leaf_of(shown: &str) -> String {
    let begin = "-----BEGIN CERTIFICATE-----";
    shown.split(begin).nth(1).unwrap_or_default().to_owned()
}
