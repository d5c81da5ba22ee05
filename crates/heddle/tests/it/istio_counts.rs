//! What Istio's routes say in numbers, counted at the servers: shares, copies, faults, retries, and changes of versions.

use std::collections::BTreeMap;

use heddle_testkit::{Mesh, has, wait};
use serde_json::{Value, json};

use crate::{client, mesh};

/// A replica of a version that counts what it is asked, and the Service of its name.
fn server(service: &str, version: &str) -> String {
    let script = include_str!("istio_counts_server.py").replace('\n', "\n    ");
    let name = format!("{service}-{version}");
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  server.py: |
    {script}
---
apiVersion: v1
kind: Service
metadata: {{name: {service}}}
spec:
  selector: {{app: {service}}}
  ports: [{{name: http, port: 80, targetPort: 8000}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {service}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {service}, version: {version}}}}}
    spec:
      containers:
        - name: server
          command: [python3, -u, /srv/heddle-test/server.py, {name}]
          ports: [{{containerPort: 8000}}]
          readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
          volumeMounts: [{{name: script, mountPath: /srv/heddle-test}}]
      volumes:
        - name: script
          configMap: {{name: {name}}}
---
"
    )
}

const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets:
    - {name: blue, labels: {version: v1}}
    - {name: green, labels: {version: v2}}
---
";

fn routes(http: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop]
  http:
{http}"
    )
}

/// Asks from the client's workload: `requests` are `[method, path, body, headers]`, `repeat` times each in turn. Gives how
/// often each answer came, as `status body`, and how long all took.
fn ask(mesh: &Mesh, host: &str, requests: &Value, repeat: u32) -> (BTreeMap<String, u64>, f64) {
    const CLIENT: &str = "
import collections, http.client, json, sys, time
asked = json.load(sys.stdin)
seen, begun = collections.Counter(), time.monotonic()
connection = http.client.HTTPConnection(asked['host'], 80, timeout=30)
for _ in range(asked['repeat']):
    for method, path, body, headers in asked['requests']:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        seen['%d %s' % (response.status, text[:20])] += 1
print(json.dumps([seen, time.monotonic() - begun]))
";
    let input = json!({"host": host, "requests": requests, "repeat": repeat}).to_string();
    let told = mesh.run_with(&["exec", "client", "--", "python3", "-c", CLIENT], &input);
    let told = told.success().json();
    let seen = told[0].as_object().unwrap().iter();
    let seen = seen.map(|(key, count)| (key.clone(), count.as_u64().unwrap())).collect();
    (seen, told[1].as_f64().unwrap())
}

fn get(path: &str) -> Value {
    json!([["GET", path, null, {}]])
}

/// What a replica has counted, by `host path`, asked past all proxies.
fn counted(mesh: &Mesh, replica: &str) -> BTreeMap<String, u64> {
    const CLIENT: &str = "
import urllib.request
print(urllib.request.urlopen('http://127.0.0.1:8000/counts').read().decode())
";
    let told = mesh.exec(replica, &["python3", "-c", CLIENT]).success().json();
    let counts = told.as_object().unwrap().iter();
    counts.map(|(key, count)| (key.clone(), count.as_u64().unwrap())).collect()
}

/// How often a replica was asked for a path, and of which hosts.
fn asked_for(mesh: &Mesh, replica: &str, path: &str) -> (u64, Vec<String>) {
    let counts = counted(mesh, replica);
    let of_path: Vec<(String, u64)> = counts
        .into_iter()
        .filter_map(|(key, count)| {
            let (host, own) = key.split_once(' ')?;
            (own == path && host != "bytes").then(|| (host.to_owned(), count))
        })
        .collect();
    let hosts = of_path.iter().map(|(host, _)| host.clone()).collect();
    (of_path.iter().map(|(_, count)| count).sum(), hosts)
}

/// Five standard deviations of a binomial distribution, each way.
fn assert_share(count: u64, of: u32, percent: f64, what: &str) {
    let (of, share) = (f64::from(of), percent / 100.0);
    let (mean, deviation) = (of * share, (of * share * (1.0 - share)).sqrt());
    #[expect(clippy::cast_precision_loss, reason = "the counts of a test are small")]
    let distance = (count as f64 - mean).abs();
    assert!(distance <= 5.0 * deviation + 0.5, "{what}: {count} of {of}, not {percent} %");
}

#[test]
fn come_out_as_they_are_written() {
    if !has(&["python3"]) {
        return;
    }
    let mesh = mesh();
    let servers = [server("shop", "v1"), server("shop", "v2"), server("copy", "v1")];
    mesh.up(&[&servers.concat(), &server("other", "v1"), &client("client")[..]].concat());
    mesh.apply(SUBSETS);
    shares(&mesh);
    copies(&mesh);
    faults(&mesh);
    retries(&mesh);
    time_limits(&mesh);
    versions_change(&mesh);
}

fn shares(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - match: [{uri: {exact: /none}}]
      route:
        - {destination: {host: shop, subset: blue}, weight: 100}
        - {destination: {host: shop, subset: green}, weight: 0}
    - match: [{uri: {exact: /alone}}]
      route: [{destination: {host: shop, subset: green}, weight: 0}]
    - match: [{uri: {exact: /odd}}]
      route:
        - {destination: {host: shop, subset: blue}, weight: 1}
        - {destination: {host: shop, subset: green}, weight: 3}
        - {destination: {host: other}, weight: 4}
    - route:
        - {destination: {host: shop, subset: blue}, weight: 90}
        - {destination: {host: shop, subset: green}, weight: 10}
",
    ));
    let (seen, _) = ask(mesh, "shop", &get("/weights"), 1500);
    assert_eq!(seen.values().sum::<u64>(), 1500);
    assert_share(seen["200 shop-v2"], 1500, 10.0, "10 of 100");
    assert_eq!(asked_for(mesh, "shop-v2", "/weights").0, seen["200 shop-v2"]);
    assert_eq!(asked_for(mesh, "shop-v1", "/weights").0, seen["200 shop-v1"]);
    let (seen, _) = ask(mesh, "shop", &get("/odd"), 800);
    for (name, percent) in [("shop-v1", 12.5), ("shop-v2", 37.5), ("other-v1", 50.0)] {
        assert_share(seen[&format!("200 {name}")], 800, percent, name);
    }
    assert_eq!(ask(mesh, "shop", &get("/none"), 60).0, [("200 shop-v1".into(), 60)].into());
    // The weight of an only destination counts for nothing.
    assert_eq!(ask(mesh, "shop", &get("/alone"), 10).0, [("200 shop-v2".into(), 10)].into());
}

fn copies(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - match: [{uri: {exact: /two}}]
      route: [{destination: {host: shop, subset: blue}}]
      mirrors:
        - {destination: {host: copy}, percentage: {value: 25}}
        - {destination: {host: other}}
    - match: [{uri: {exact: /all}}]
      rewrite: {authority: rewritten.example, uri: /changed}
      headers: {request: {set: {x-set: set}}}
      route: [{destination: {host: shop, subset: blue}}]
      mirror: {host: copy}
    - match: [{uri: {exact: /none}}]
      route: [{destination: {host: shop, subset: blue}}]
      mirror: {host: copy}
      mirrorPercentage: {value: 0}
    - match: [{uri: {prefix: /status}}]
      route: [{destination: {host: shop, subset: blue}}]
      mirror: {host: copy, subset: nothing}
    - route: [{destination: {host: shop, subset: blue}}]
      mirror: {host: copy}
      mirror_percent: 50
",
    ));
    let until = |replica: &str, path: &str, count: u64| {
        wait(&format!("no {count} copies of {path} at {replica}"), || {
            asked_for(mesh, replica, path).0 >= count
        });
        asked_for(mesh, replica, path)
    };
    let (seen, _) = ask(mesh, "shop", &get("/two"), 1000);
    assert_eq!(seen, [("200 shop-v1".into(), 1000)].into());
    assert_eq!(until("other-v1", "/two", 1000), (1000, vec!["shop-shadow".into()]));
    let (count, hosts) = asked_for(mesh, "copy-v1", "/two");
    assert_share(count, 1000, 25.0, "a quarter is copied");
    assert_eq!(hosts, ["shop-shadow"]);
    // A copy is of the request as it goes on, with its body; its answer is nobody's.
    let post = json!([["POST", "/all", "a body", {}]]);
    assert_eq!(ask(mesh, "shop", &post, 20).0, [("200 shop-v1".into(), 20)].into());
    assert_eq!(until("copy-v1", "/changed", 20), (20, vec!["rewritten.example-shadow".into()]));
    assert_eq!(counted(mesh, "copy-v1")["bytes /changed"], 120);
    assert_eq!(asked_for(mesh, "shop-v1", "/changed"), (20, vec!["rewritten.example".into()]));
    ask(mesh, "shop", &get("/none"), 50);
    // Copies that go nowhere harm nobody.
    assert_eq!(ask(mesh, "shop", &get("/status/200"), 20).0, [("200 shop-v1".into(), 20)].into());
    ask(mesh, "shop", &get("/half"), 600);
    wait("no copies", || asked_for(mesh, "copy-v1", "/half").0 > 200);
    ask(mesh, "shop", &get("/all"), 1);
    until("copy-v1", "/changed", 21);
    assert_share(asked_for(mesh, "copy-v1", "/half").0, 600, 50.0, "half is copied");
    assert_eq!(asked_for(mesh, "copy-v1", "/none").0, 0);
}

fn faults(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - match: [{uri: {exact: /abort}}]
      fault: {abort: {httpStatus: 555, percentage: {value: 30}}}
      retries: {attempts: 5, retryOn: 5xx}
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /delay}}]
      fault: {delay: {fixedDelay: 800ms, percentage: {value: 25}}}
      timeout: 700ms
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /both}}]
      fault:
        delay: {fixedDelay: 20ms, percentage: {value: 100}}
        abort: {httpStatus: 400, percentage: {value: 50}}
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /absent}}]
      fault: {abort: {httpStatus: 500}}
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /rare}}]
      fault: {abort: {httpStatus: 500, percentage: {value: 0.0001}}}
      route: [{destination: {host: shop, subset: blue}}]
    - route: [{destination: {host: shop, subset: blue}}]
",
    ));
    // Nothing is tried again that was injected.
    let (seen, _) = ask(mesh, "shop", &get("/abort"), 1000);
    let passed = seen["200 shop-v1"];
    assert_share(1000 - passed, 1000, 30.0, "aborted");
    assert_eq!(asked_for(mesh, "shop-v1", "/abort").0, passed);
    assert!(seen.keys().any(|key| key.starts_with("555 ")), "{seen:?}");
    // Nor does the time limit hold for it.
    let (seen, seconds) = ask(mesh, "shop", &get("/delay"), 40);
    assert_eq!(seen, [("200 shop-v1".into(), 40)].into());
    assert!(seconds > 0.8, "{seconds} s for 10 delays or so of 0.8 s");
    let (seen, seconds) = ask(mesh, "shop", &get("/both"), 100);
    assert_share(seen["200 shop-v1"], 100, 50.0, "aborted after a delay");
    assert!(seconds >= 2.0, "each is delayed: {seconds} s");
    for path in ["/absent", "/rare"] {
        assert_eq!(ask(mesh, "shop", &get(path), 100).0, [("200 shop-v1".into(), 100)].into());
    }
}

/// Tries at the server of one request under each condition, with two retries.
fn retries(mesh: &Mesh) {
    let rows: &[(&str, &str, u64)] = &[
        ("5xx", "/status/500", 3),
        ("5xx", "/status/503", 3),
        ("5xx", "/status/404", 1),
        ("5xx", "/reset", 3),
        ("gateway-error", "/status/500", 1),
        ("gateway-error", "/status/502", 3),
        ("gateway-error", "/status/503", 3),
        ("gateway-error", "/status/504", 3),
        ("gateway-error", "/status/505", 1),
        ("retriable-4xx", "/status/409", 3),
        ("retriable-4xx", "/status/404", 1),
        // The server's own proxy answers 503 for an application that hangs up, so that its caller sees no reset.
        ("reset", "/reset", 1),
        ("reset", "/status/503", 1),
        ("reset-before-request", "/reset", 1),
        ("connect-failure", "/reset", 1),
        ("connect-failure,refused-stream", "/status/503", 1),
        ("503", "/status/503", 3),
        ("503", "/status/502", 1),
        ("503", "/reset", 3),
        ("retriable-status-codes,418", "/status/418", 3),
        ("envoy-ratelimited", "/limited", 3),
        ("envoy-ratelimited", "/status/429", 1),
        ("cancelled", "/grpc/1", 3),
        ("deadline-exceeded", "/grpc/4", 3),
        ("internal", "/grpc/13", 3),
        ("resource-exhausted", "/grpc/8", 3),
        ("unavailable", "/grpc/14", 3),
        ("unavailable", "/grpc/13", 1),
        ("gateway-error,409", "/first/409/1", 2),
    ];
    let mut rules = String::new();
    for (index, (on, _, _)) in rows.iter().enumerate() {
        rules.push_str(&format!(
            "    - match: [{{queryParams: {{row: {{exact: \"{index}\"}}}}}}]
      retries: {{attempts: 2, retryOn: \"{on}\", backoff: 1ms}}
      route: [{{destination: {{host: shop, subset: blue}}}}]
"
        ));
    }
    rules.push_str(
        "    - match: [{uri: {prefix: /status/}, queryParams: {row: {exact: never}}}]
      retries: {attempts: 0}
      route: [{destination: {host: shop, subset: blue}}]
    - route: [{destination: {host: shop, subset: blue}}]
",
    );
    mesh.apply(&routes(&rules));
    let requests: Vec<Value> = rows
        .iter()
        .enumerate()
        .map(|(row, (_, path, _))| json!(["POST", format!("{path}?row={row}"), "body", {}]))
        .chain(
            ["/status/503?row=never", "/status/503?row=default", "/grpc/14?row=default"]
                .map(|path| json!(["POST", path, "body", {}])),
        )
        .collect();
    ask(mesh, "shop", &requests.into(), 1);
    let counts = counted(mesh, "shop-v1");
    let wrong: Vec<String> = rows
        .iter()
        .enumerate()
        .filter_map(|(row, (on, path, wanted))| {
            let count = counts.get(&format!("shop {path}?row={row}"));
            (count != Some(wanted)).then(|| format!("{on} {path}: {count:?}, not {wanted}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Without a word: connections that fail, and gRPC's own words for it; never a mere 503.
    for (path, wanted) in
        [("/status/503?row=never", 1), ("/status/503?row=default", 1), ("/grpc/14?row=default", 3)]
    {
        assert_eq!(counts[&format!("shop {path}")], wanted, "{path}");
    }
}

fn time_limits(mesh: &Mesh) {
    mesh.apply(&routes(
        "    - match: [{uri: {exact: /slow/5000}}]
      retries: {attempts: 2, perTryTimeout: 300ms, retryOn: 5xx, backoff: 1ms}
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /slow/5001}}]
      timeout: 750ms
      retries: {attempts: 9, perTryTimeout: 300ms, retryOn: reset, backoff: 1ms}
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /slow/5002}}]
      timeout: 100ms
      route: [{destination: {host: shop, subset: blue}}]
    - match: [{uri: {exact: /slow/50}}]
      retries: {attempts: 2, perTryTimeout: 5s, retryOn: 5xx}
      route: [{destination: {host: shop, subset: blue}}]
    - route: [{destination: {host: shop, subset: blue}}]
",
    ));
    for (path, tries) in [("/slow/5000", 3), ("/slow/5001", 3), ("/slow/5002", 1)] {
        let (seen, seconds) = ask(mesh, "shop", &get(path), 1);
        assert!(seen.keys().all(|key| key.starts_with("504 ")), "{path}: {seen:?}");
        assert!(seconds < 4.0, "{path} took {seconds} s");
        assert_eq!(asked_for(mesh, "shop-v1", path).0, tries, "{path}");
    }
    let (seen, _) = ask(mesh, "shop", &get("/slow/50"), 3);
    assert_eq!(seen, [("200 shop-v1".into(), 3)].into());
    assert_eq!(asked_for(mesh, "shop-v1", "/slow/50").0, 3);
}

/// Blue and green, a shift step by step, and A/B by header and cookie: no request fails, and after each step everyone is
/// where the step says.
fn versions_change(mesh: &Mesh) {
    let split = |blue: u32, green: u32| {
        routes(&format!(
            "    - match:
        - {{headers: {{x-variant: {{exact: b}}}}}}
        - {{headers: {{cookie: {{regex: \"^(.*; ?)?variant=b(;.*)?$\"}}}}}}
      route: [{{destination: {{host: shop, subset: green}}}}]
    - route:
        - {{destination: {{host: shop, subset: blue}}, weight: {blue}}}
        - {{destination: {{host: shop, subset: green}}, weight: {green}}}
"
        ))
    };
    mesh.apply(&split(100, 0));
    let load =
        mesh.start_load("client", &["--rate", "100", "--connections", "4", "http://shop/steady"]);
    wait("no traffic", || asked_for(mesh, "shop-v1", "/steady").0 > 20);
    for (green, count) in [(0, 60), (10, 400), (50, 400), (100, 60), (0, 60)] {
        mesh.apply(&split(100 - green, green));
        let (seen, _) = ask(mesh, "shop", &get("/step"), count);
        let of_green = seen.get("200 shop-v2").copied().unwrap_or(0);
        let of_blue = seen.get("200 shop-v1").copied().unwrap_or(0);
        assert_eq!(of_green + of_blue, u64::from(count), "{seen:?}");
        assert_share(of_green, count, f64::from(green), "a step");
        let variant = json!([
            ["GET", "/ab", null, {"x-variant": "b"}],
            ["GET", "/ab", null, {"cookie": "a=1; variant=b"}],
            ["GET", "/ab", null, {"Cookie": "variant=b; z=2"}]
        ]);
        assert_eq!(ask(mesh, "shop", &variant, 5).0, [("200 shop-v2".into(), 15)].into());
    }
    load.signal(rustix::process::Signal::INT);
    let summary = load.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
}

/// The application listens on the loopback address and on another port than its Service leads to; its caller's proxy
/// upgrades requests, which the application does not know.
#[test]
fn applications_are_reached_as_their_sidecar_and_their_callers_say() {
    if !has(&["python3"]) {
        return;
    }
    let mesh = mesh();
    let elsewhere =
        server("shop", "v1").replace("tcpSocket: {port: 8000}", "exec: {command: ['true']}");
    let elsewhere = elsewhere.replace("(\"\", 8000)", "(\"127.0.0.1\", 8001)");
    mesh.up(&[&elsewhere, &client("client")[..]].concat());
    mesh.apply(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: shop}
spec:
  workloadSelector: {labels: {app: shop}}
  ingress:
    - port: {number: 8000, protocol: HTTP, name: http}
      defaultEndpoint: 127.0.0.1:8001
      connectionPool: {http: {http1MaxPendingRequests: 100}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
",
    );
    let post = json!([["POST", "/upgraded", "a body", {}], ["GET", "/upgraded", null, {}]]);
    let (seen, _) = ask(&mesh, "shop", &post, 30);
    assert_eq!(seen, [("200 shop-v1".into(), 60)].into());
}
