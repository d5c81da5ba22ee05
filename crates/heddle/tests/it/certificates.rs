//! Certificates as others see them: OpenSSL verifies what workloads present, and a client library of SPIFFE's takes what
//! applications are given.

use std::path::{Path, PathBuf};
use std::process::Command;

use heddle_testkit::{Mesh, has, skip, wait};

use crate::real_clients::PYTHON;
use crate::{client, mesh, sample};

/// A workload without a proxy, from which TLS is spoken by hand.
const OUTSIDER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: outsider, labels: {sidecar.istio.io/inject: \"false\"}}
spec: {containers: [{name: outsider, command: [sleep, infinity]}]}
---
";

/// A root and an intermediate below it, as people make them.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf, name: &str) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let own = Self { folder };
        let root = format!("/O=Example/CN={name} root");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let middle = format!("/O=Example/CN={name} intermediate");
        let words = ["req", "-x509", "-days", "30", "-keyout", "root-key.pem", "-out"];
        let more = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        own.openssl(&[&words[..], &["root-cert.pem", "-subj", &root], &key, &more].concat());
        let words = ["req", "-keyout", "ca-key.pem", "-out", "request.pem", "-subj", &*middle];
        own.openssl(&[&words[..], &key].concat());
        let extensions =
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n";
        std::fs::write(own.folder.join("extensions"), extensions).unwrap();
        let words = ["x509", "-req", "-in", "request.pem", "-CA", "root-cert.pem", "-CAkey"];
        let more = ["root-key.pem", "-CAcreateserial", "-days", "20", "-extfile", "extensions"];
        own.openssl(&[&words[..], &more, &["-out", "ca-cert.pem"]].concat());
        std::fs::copy(own.folder.join("ca-cert.pem"), own.folder.join("cert-chain.pem")).unwrap();
        own
    }

    fn openssl(&self, words: &[&str]) {
        let done = Command::new("openssl").args(words).current_dir(&self.folder).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// Whether OpenSSL verifies a chain, leaf first, up to this root alone.
    fn vouches_for(&self, chain: &[String]) -> bool {
        let [leaf, above @ ..] = chain else { return false };
        std::fs::write(self.folder.join("leaf.pem"), leaf).unwrap();
        std::fs::write(self.folder.join("above.pem"), above.concat()).unwrap();
        let words = ["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile"];
        let files = ["root-cert.pem", "-untrusted", "above.pem", "leaf.pem"];
        let mut command = Command::new("openssl");
        command.args(words).args(files).current_dir(&self.folder);
        command.output().unwrap().status.success()
    }
}

/// The chain that the proxy of `ratings` presents to whoever begins a handshake as a sidecar does.
fn presented(mesh: &Mesh) -> Vec<String> {
    let script = "openssl s_client -connect ratings:9080 -alpn istio -showcerts </dev/null 2>/dev/null; true";
    let shown = mesh.exec("outsider", &["sh", "-c", script]).stdout;
    let end = "-----END CERTIFICATE-----\n";
    let mut rest = shown.as_str();
    let mut chain = Vec::new();
    while let Some((_, from)) = rest.split_once("-----BEGIN CERTIFICATE-----\n") {
        let Some((body, after)) = from.split_once(end) else { break };
        let one = format!("-----BEGIN CERTIFICATE-----\n{body}{end}");
        // The leaf is shown a second time at the end.
        if !chain.contains(&one) {
            chain.push(one);
        }
        rest = after;
    }
    chain
}

fn subject_alternative_names(folder: &Path, leaf: &str) -> String {
    let file = folder.join("shown.pem");
    std::fs::write(&file, leaf).unwrap();
    let words = ["x509", "-noout", "-ext", "subjectAltName", "-in"];
    let shown = Command::new("openssl").args(words).arg(&file).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn openssl_verifies_what_workloads_present_under_an_authority_of_ones_own() {
    if !has(&["openssl"]) {
        return;
    }
    let mesh = mesh();
    let own = Authority::new(mesh.folder().join("own"), "own");
    let other = Authority::new(mesh.folder().join("other"), "other");
    let objects =
        [sample("ratings", "ratings", "v1", 1), client("client"), OUTSIDER.into()].concat();
    let folder = own.folder.display().to_string();
    // A key of another certificate is found before anything runs.
    std::fs::copy(own.folder.join("ca-key.pem"), own.folder.join("kept.pem")).unwrap();
    std::fs::copy(other.folder.join("ca-key.pem"), own.folder.join("ca-key.pem")).unwrap();
    let refused = mesh.run_with(&["up", "-d", "--ca", &folder, "-f", "-"], &objects);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("ca-key.pem"), "{refused:#?}");
    std::fs::copy(own.folder.join("kept.pem"), own.folder.join("ca-key.pem")).unwrap();

    mesh.run_with(&["up", "-d", "--ca", &folder, "-f", "-"], &objects).success();
    let chain = presented(&mesh);
    assert_eq!(chain.len(), 2, "leaf and intermediate, without the root: {chain:#?}");
    assert!(own.vouches_for(&chain) && !other.vouches_for(&chain));
    assert!(!own.vouches_for(&chain[..1]), "without the intermediate it is nobody's");
    let names = subject_alternative_names(mesh.folder(), &chain[0]);
    assert!(names.contains("URI:spiffe://cluster.local/ns/default/sa/ratings"), "{names}");
    let load = ["--count", "20", "http://ratings:9080/ratings/0"];
    assert_eq!(mesh.load("client", &load)["statuses"]["200"], 20);
}

#[test]
fn a_secret_named_cacerts_takes_over_while_requests_go_on() {
    if !has(&["openssl"]) {
        return;
    }
    let mesh = mesh();
    let own = Authority::new(mesh.folder().join("own"), "own");
    mesh.up(&[sample("ratings", "ratings", "v1", 1), client("client"), OUTSIDER.into()].concat());
    assert!(!own.vouches_for(&presented(&mesh)), "the mesh's own authority signs");
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cacerts", "namespace": "istio-system"},
        "stringData": {
            "ca-cert.pem": own.text("ca-cert.pem"), "ca-key.pem": own.text("ca-key.pem"),
            "cert-chain.pem": own.text("cert-chain.pem"), "root-cert.pem": own.text("root-cert.pem"),
        },
    });
    let load = mesh.start_load("client", &["--rate", "50", "http://ratings:9080/ratings/0"]);
    mesh.apply(&secret.to_string());
    wait("the workload presents a certificate of the Secret's authority", || {
        own.vouches_for(&presented(&mesh))
    });
    load.signal(rustix::process::Signal::INT);
    let summary = load.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
    // What is close to its end is said: the intermediate lives for 20 days.
    let certs = mesh.must(&["certs"]);
    assert!(certs.contains("expires in less than 30 days"), "{certs}");
}

#[test]
fn a_library_of_spiffes_takes_what_applications_are_given() {
    const PROGRAM: &str = "
from spiffe import WorkloadApiClient, JwtSvid
from spiffe.errors import *
api = WorkloadApiClient()
own = 'spiffe://cluster.local/ns/default/sa/client'
svid = api.fetch_x509_svid()
assert str(svid.spiffe_id) == own, svid.spiffe_id
bundles = api.fetch_x509_bundles()
domain = svid.spiffe_id.trust_domain
roots = bundles.get_bundle_for_trust_domain(domain).x509_authorities
assert len(roots) == 1, roots
chain = svid.cert_chain
chain[0].verify_directly_issued_by(list(roots)[0])
jwt = api.fetch_jwt_svid({'db', 'cache'})
assert str(jwt.spiffe_id) == own
seen = api.validate_jwt_svid(jwt.token, 'cache')
assert str(seen.spiffe_id) == own, seen
keys = api.fetch_jwt_bundles().get_bundle_for_trust_domain(domain)
offline = JwtSvid.parse_and_validate(jwt.token, keys, {'db'})
assert str(offline.spiffe_id) == own
for token, audience in [(jwt.token, 'other'), (jwt.token[:-8] + 'AAAAAAAA', 'db'), ('x.y.z', 'db')]:
    try:
        api.validate_jwt_svid(token, audience)
    except Exception as error:
        print(type(error).__name__)
    else:
        raise SystemExit('accepted for ' + audience)
print('fine')
";
    if !Path::new(PYTHON).is_file() {
        skip("there is no target/test-venv with the packages of requirements.txt");
        return;
    }
    let mesh = mesh();
    mesh.up(&client("client"));
    let python = std::path::absolute(PYTHON).unwrap().display().to_string();
    let done = mesh.exec("client", &[&python, "-c", PROGRAM]).success();
    assert!(done.stdout.ends_with("fine\n"), "{done:#?}");
}
