//! Routes, faults, and change under load.

use heddle_testkit::Mesh;
use rustix::process::Signal;
use serde_json::Value;

use crate::{client, mesh, sample};

const URL: &str = "http://ratings:9080/ratings/0";

/// Two versions of ratings, details beside them, and a client.
fn application(first_replicas: u32) -> String {
    let first = sample("ratings-v1", "ratings", "v1", first_replicas);
    let second = sample("ratings-v2", "ratings", "v2", 1);
    let details = sample("details", "details", "v1", 1);
    [first, second, details, client("client")].concat()
}

const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
---
";

/// A VirtualService of ratings with these routes (an item of `spec.http` each).
fn routes(http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ratings}}
spec:
  hosts: [ratings]
  http:
{http}"
    )
}

fn load(mesh: &Mesh, count: u32, options: &[&str]) -> Value {
    let count = count.to_string();
    let words: Vec<&str> =
        ["--count", &count, "--connections", "2"].iter().chain(options).copied().collect();
    mesh.load("client", &words)
}

#[test]
fn routes_mean_what_they_say() {
    let mesh = mesh();
    mesh.up(&application(1));
    mesh.apply(SUBSETS);
    shares(&mesh);
    broken_routes(&mesh);
    timeouts_and_faults(&mesh);
    retries(&mesh);
}

fn shares(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - route:
        - {destination: {host: ratings, subset: v1}, weight: 80}
        - {destination: {host: ratings, subset: v2}, weight: 20}
",
    ));
    let summary = load(mesh, 500, &[URL]);
    // 20 % of 500 within the 99.99 % interval of a binomial distribution.
    let second = summary["versions"]["ratings-v2"].as_u64().unwrap_or(0);
    assert!((67..=136).contains(&second), "{summary:#}");
    assert_eq!(summary["failed"], 0, "{summary:#}");
}

/// What is wrong answers 503; what stands beside it goes on.
fn broken_routes(mesh: &Mesh) {
    let file = mesh.folder().join("routes.yaml");
    let yaml = routes(
        "    - match: [{uri: {prefix: /status}}]
      route:
        - destination: {host: ratings, subset: v9}
    - match: [{uri: {prefix: /delay}}]
      route:
        - {destination: {host: ratings, subset: v1}, weight: 0}
        - {destination: {host: ratings, subset: v2}, weight: 0}
    - route:
        - destination: {host: ratings, subset: v1}
",
    );
    std::fs::write(&file, [SUBSETS, &yaml].concat()).unwrap();
    let path = file.display().to_string();
    let told = mesh.run(&["analyze", "-f", &path]);
    let place = |field: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        let line = text.lines().position(|line| line.contains(field)).unwrap() + 1;
        format!("{path}:{line}:")
    };
    assert!(told.stdout.contains(&place("subset: v9")), "{told:#?}");
    let zero = told.stdout.split("HED0211").nth(1).unwrap_or_default();
    assert!(zero.contains(&format!("{path}:")), "weights of sum 0: {told:#?}");
    mesh.must(&["apply", "--wait", "-f", &path]);
    let missing = load(mesh, 10, &["http://ratings:9080/status/200"]);
    assert_eq!(missing["statuses"]["503"], 10, "{missing:#}");
    let nobody = load(mesh, 10, &["http://ratings:9080/delay/1"]);
    assert_eq!(nobody["statuses"]["503"], 10, "weights of sum 0: {nobody:#}");
    let rest = load(mesh, 10, &[URL]);
    assert_eq!(rest["versions"]["ratings-v1"], 10, "{rest:#}");
    let other = load(mesh, 10, &["http://details:9080/details/0"]);
    assert_eq!(other["statuses"]["200"], 10, "{other:#}");
}

fn timeouts_and_faults(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - match: [{uri: {prefix: /delay}}]
      timeout: 300ms
      route: [{destination: {host: ratings}}]
    - match: [{headers: {fault: {exact: abort}}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      route: [{destination: {host: ratings}}]
    - match: [{headers: {fault: {exact: delay}}}]
      fault: {delay: {fixedDelay: 400ms, percentage: {value: 100}}}
      route: [{destination: {host: ratings}}]
    - route: [{destination: {host: ratings}}]
",
    ));
    let late = load(mesh, 4, &["http://ratings:9080/delay/5000"]);
    assert_eq!(late["statuses"]["504"], 4, "{late:#}");
    assert!(late["elapsed_ms"].as_u64().unwrap() < 4000, "{late:#}");
    let early = load(mesh, 4, &["http://ratings:9080/delay/1"]);
    assert_eq!(early["statuses"]["200"], 4, "{early:#}");
    assert_eq!(load(mesh, 4, &["-H", "fault: abort", URL])["statuses"]["418"], 4);
    let delayed = load(mesh, 4, &["-H", "fault: delay", URL]);
    assert_eq!(delayed["statuses"]["200"], 4, "{delayed:#}");
    assert!(delayed["elapsed_ms"].as_u64().unwrap() >= 800, "{delayed:#}");
    assert_eq!(load(mesh, 4, &[URL])["statuses"]["200"], 4);
}

/// One of two replicas fails every request; a retry goes to the other.
fn retries(mesh: &Mesh) {
    let tell = |code: u32| {
        let url = format!("http://127.0.0.1:9080/failing/{code}");
        let told = mesh.load("ratings-v2", &["--count", "1", "-X", "PUT", &url]);
        assert_eq!(told["statuses"]["200"], 1, "{told:#}");
    };
    tell(500);
    let with = |attempts: &str| {
        mesh.apply(&routes(&format!(
            "    - retries: {{{attempts}}}
      route: [{{destination: {{host: ratings}}}}]
"
        )));
        load(mesh, 40, &[URL])
    };
    let none = with("attempts: 0");
    assert!(none["failed"].as_u64().unwrap() > 0, "one of two fails: {none:#}");
    let some = with("attempts: 1, retryOn: 5xx, backoff: 1ms");
    assert_eq!(some["failed"], 0, "a retry avoids the one that has failed: {some:#}");
    tell(0);
}

#[test]
fn fewer_replicas_under_load_fail_no_request() {
    let mesh = mesh();
    let application =
        |replicas| [sample("ratings-v1", "ratings", "v1", replicas), client("client")].concat();
    mesh.up(&application(2));
    let traffic = mesh.start_load("client", &["--rate", "200", "--connections", "4", URL]);
    let of_both = |mesh: &Mesh| {
        let labels = [("reporter", "destination"), ("response_code", "200")];
        mesh.metric("ratings-v1-1", "istio_requests_total", &labels) > 20
    };
    heddle_testkit::wait("no traffic at the second replica", || of_both(&mesh));
    mesh.apply(&application(1));
    mesh.until("ratings-v1", "still two replicas", |all| all.len() == 1);
    let before = mesh.load("client", &["--count", "20", URL]);
    assert_eq!(before["replicas"].as_object().unwrap().len(), 1, "{before:#}");
    traffic.signal(Signal::INT);
    let summary = traffic.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
    assert!(summary["replicas"].as_object().unwrap().len() == 2, "{summary:#}");
}
