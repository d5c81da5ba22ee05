//! Servers and clients that know nothing of a mesh.

use std::path::Path;

use heddle_testkit::{Mesh, has, skip};

use crate::mesh;

const FILE: &str = include_str!("real_servers.yaml");
/// What is detected by waiting takes longer than this; what is not takes much less.
const GREETING_MS_MAX: u64 = 150;

#[test]
fn are_reached_by_real_clients_over_mutual_tls() {
    if !has(&["nginx", "redis-server", "redis-cli", "curl", "python3", "psql"]) {
        return;
    }
    if !Path::new("/usr/lib/postgresql").is_dir() {
        skip("this machine has no PostgreSQL server");
        return;
    }
    let mesh = mesh();
    mesh.up(FILE);
    nginx(&mesh);
    redis(&mesh);
    python(&mesh);
    greeter(&mesh);
    database(&mesh);
}

fn database(mesh: &Mesh) {
    let ask = |port: &str, statement: &str| {
        let to =
            format!("host=database port={port} user=heddle dbname=postgres connect_timeout=20");
        mesh.exec("client", &["psql", "-X", "-A", "-t", &to, "-c", statement]).success().stdout
    };
    for port in ["5432", "5433"] {
        assert_eq!(ask(port, "select 6 * 7"), "42\n", "port {port}");
        let rows = ask(port, "select repeat('x', 1000) from generate_series(1, 2000)");
        assert_eq!((rows.lines().count(), rows.len()), (2000, 2000 * 1001), "port {port}");
    }
    ask("5432", "create table kept (a int); insert into kept select generate_series(1, 1000)");
    assert_eq!(ask("5433", "select sum(a) from kept"), "500500\n");
    let secured = [("reporter", "destination"), ("connection_security_policy", "mutual_tls")];
    let opened = mesh.metric("database", "istio_tcp_connections_opened_total", &secured);
    assert_eq!(opened, 6, "connections over mutual TLS");
}

fn curl(mesh: &Mesh, url: &str) -> String {
    mesh.exec("client", &["curl", "-sS", "--fail", "--max-time", "20", url]).success().stdout
}

fn nginx(mesh: &Mesh) {
    for host in ["nginx", "nginx.default", "nginx.default.svc", "nginx.default.svc.cluster.local"] {
        assert_eq!(
            curl(mesh, &format!("http://{host}:8080/answer")),
            "nginx says hello\n",
            "{host}"
        );
        let page = curl(mesh, &format!("http://{host}:8080/"));
        assert_eq!(page, "<h1>a page from a ConfigMap</h1>\n", "{host}");
    }
    let labels = [
        ("reporter", "destination"),
        ("source_principal", "spiffe://cluster.local/ns/default/sa/client"),
        ("destination_service", "nginx.default.svc.cluster.local"),
        ("response_code", "200"),
        ("connection_security_policy", "mutual_tls"),
    ];
    let replicas = mesh.workloads("nginx");
    let names = replicas.iter().filter_map(|replica| replica["name"].as_str());
    let counts: Vec<u64> =
        names.map(|name| mesh.metric(name, "istio_requests_total", &labels)).collect();
    assert_eq!(counts.iter().sum::<u64>(), 8, "over mutual TLS: {counts:?}");
    assert!(counts.len() == 2 && counts.iter().all(|count| *count > 0), "both: {counts:?}");
}

fn redis(mesh: &Mesh) {
    let ask = |host: &str, port: &str, words: &[&str]| {
        let start = ["redis-cli", "-h", host, "-p", port];
        let words: Vec<&str> = start.iter().chain(words).copied().collect();
        mesh.exec("client", &words).success().stdout
    };
    assert_eq!(ask("redis", "6379", &["set", "key", "value"]), "OK\n");
    let long = "redis.default.svc.cluster.local";
    assert_eq!(ask(long, "6379", &["get", "key"]), "value\n");
    assert_eq!(ask("redis-undeclared", "6380", &["get", "key"]), "value\n");
    let secured = [("reporter", "destination"), ("connection_security_policy", "mutual_tls")];
    let opened = mesh.metric("redis", "istio_tcp_connections_opened_total", &secured);
    assert_eq!(opened, 3, "connections over mutual TLS");
    // A big value, both ways, through one connection.
    let big = "x".repeat(100_000);
    let set = ["exec", "client", "--", "redis-cli", "-h", "redis", "-x", "set", "big"];
    assert_eq!(mesh.run_with(&set, &big).success().stdout, "OK\n");
    assert_eq!(ask("redis", "6379", &["get", "big"]).trim().len(), big.len());
}

fn python(mesh: &Mesh) {
    assert_eq!(curl(mesh, "http://files/"), "<h1>a page from a ConfigMap</h1>\n");
    let missing = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://files/absent"];
    assert_eq!(mesh.exec("client", &missing).success().stdout, "404");
}

/// A server that speaks first, on a port that does not say so.
fn greeter(mesh: &Mesh) {
    const CLIENT: &str = "
import socket, time
for attempt in range(5):
    begun = time.monotonic()
    with socket.create_connection(('greeter', 25), timeout=20) as connection:
        stream = connection.makefile('rwb', buffering=0)
        assert stream.readline() == b'220 greeter ready\\r\\n'
        print(int((time.monotonic() - begun) * 1000))
        stream.write(b'helo\\r\\n')
        assert stream.readline() == b'250 HELO\\r\\n'
";
    let output = mesh.exec("client", &["python3", "-c", CLIENT]).success().stdout;
    let times: Vec<u64> = output.lines().map(|line| line.parse().unwrap()).collect();
    // The first also pays for learning of the destination; on a loaded machine any one may be late.
    let fastest = times.iter().min().unwrap();
    assert!(
        times.len() == 5 && *fastest < GREETING_MS_MAX,
        "waited for the greeting: {times:?} ms"
    );
}
