//! Lines of the access log, of both proxies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_ir::protocol::Protocol;
use heddle_ir::proxy::AccessLog;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proxy::configuration::Publisher;
use heddle_sync::Effect;

use crate::harness::{Pair, application, mirror, run};
use crate::http1::allow_path;
use crate::http2::{client, echo, h2_application, receive, request, send_all};

/// A file of this test's own, gone with it.
struct LogFile(PathBuf);

impl LogFile {
    fn new(name: &str) -> Self {
        let own = format!("heddle-access-log-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(own))
    }

    async fn lines(&self, count: usize) -> Vec<String> {
        loop {
            let text = std::fs::read_to_string(&self.0).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                assert_eq!(text.lines().count(), count, "{text}");
                return text.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn log(publisher: &Publisher, kind: AccessLog, path: &Path, format: &[(&str, &str)]) {
    let current = publisher.current();
    let mut settings = (**current.settings.as_ref().unwrap()).clone();
    settings.access_log = kind;
    settings.access_log_path = path.to_str().unwrap().into();
    settings.access_log_format =
        format.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect();
    let name = ResourceName::Proxy(settings.workload.id.clone());
    let effect = Effect::Set(name, Resource::Proxy(Arc::new(settings)));
    publisher.publish(current.with(&[effect], 1, 0).0);
}

#[test]
fn requests_are_logged_in_istios_words_at_both_ends() {
    run(async {
        let (out, inb) = (LogFile::new("out"), LogFile::new("in"));
        let app = mirror().await;
        let pair =
            Pair::with(app, |_| {}, |server| server.authorization = allow_path("/open")).await;
        log(&pair.client_publisher, AccessLog::Text, &out.0, &[]);
        log(&pair.server_publisher, AccessLog::Text, &inb.0, &[]);
        let mut client = pair.connect().await;
        let own = client.stream.local_addr().unwrap();
        client.send("POST /open?a=b HTTP/1.1\r\nHost: server:8080\r\nUser-Agent: me\r\nContent-Length: 4\r\n\r\nbody").await;
        let answer = client.message().await;
        assert_eq!(answer.status(), 200);
        let (sent, id) = (answer.body.len(), {
            let text = answer.text();
            text.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned()
        });
        assert_eq!(client.get("/shut").await.status(), 403);
        let lines = out.lines(2).await;
        // Start, and how long it took, are not known here.
        let (_, rest) = lines[0].split_once("] ").unwrap();
        let expected = format!(
            "\"POST /open?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 4 {sent} D D \"-\" \"me\" \"{id}\" \"server:8080\" \
             \"{}\" outbound|8080||server.default.svc.cluster.local - 10.96.0.1:8080 {own} - default",
            pair.inbound
        );
        assert_eq!(without_times(rest), expected);
        let denied = lines[1].split_once("] ").unwrap().1;
        assert!(denied.starts_with("\"GET /shut HTTP/1.1\" 403 - via_upstream "), "{denied}");
        let lines = inb.lines(2).await;
        let (_, rest) = lines[0].split_once("] ").unwrap();
        let port = app.port();
        let expected = format!(
            "\"POST /open?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 4 {sent} D D \"-\" \"me\" \"{id}\" \"server:8080\" \
             \"{app}\" inbound|{port}|| - {app} "
        );
        let rest = without_times(rest);
        assert!(rest.starts_with(&expected) && rest.ends_with(" default"), "{rest}\n{expected}");
        assert!(rest.contains("outbound_.8080_._.server.default.svc.cluster.local"), "{rest}");
        let denied = lines[1].split_once("] ").unwrap().1;
        let expected = "\"GET /shut HTTP/1.1\" 403 - rbac_access_denied_matched_policy[none] - ";
        assert!(denied.starts_with(expected), "{denied}");
    });
}

/// The same line with `D` for the two durations after the two counts of bytes.
fn without_times(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for place in [10, 11] {
        assert!(words[place].parse::<u64>().is_ok(), "{line}");
        words[place] = "D";
    }
    words.join(" ")
}

#[test]
fn a_call_and_a_stream_are_logged_as_json() {
    run(async {
        let file = LogFile::new("json");
        let app = h2_application(echo).await;
        let pair = Pair::before(app).await;
        log(&pair.client_publisher, AccessLog::Json, &file.0, &[]);
        let keys = [("who", "%DOWNSTREAM_PEER_URI_SAN%"), ("grpc", "%GRPC_STATUS%")];
        let own = LogFile::new("json-own");
        log(&pair.server_publisher, AccessLog::Json, &own.0, &keys);
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        send_all(&mut sink, Bytes::from_static(b"hello"), true).await;
        let mut body = response.await.unwrap().into_body();
        while receive(&mut body).await.is_some() {}
        body.trailers().await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&file.lines(1).await[0]).unwrap();
        assert_eq!(line["protocol"], "HTTP/2");
        assert_eq!(line["path"], "/s.S/M");
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &5.into()));
        assert_eq!(line["response_code"], 200);
        assert_eq!(line["upstream_host"], pair.inbound.to_string());
        let line: serde_json::Value = serde_json::from_str(&own.lines(1).await[0]).unwrap();
        assert_eq!(line["who"], "spiffe://cluster.local/ns/default/sa/client");
        assert_eq!(line["grpc"], 0);

        let file = LogFile::new("stream");
        let app = application(|mut peer| async move {
            assert_eq!(peer.exactly(4).await, b"ping");
            peer.send("pong!").await;
        })
        .await;
        let pair = Pair::with(
            app,
            |client| client.protocol = Protocol::Tcp,
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        log(&pair.client_publisher, AccessLog::Json, &file.0, &[]);
        let mut client = pair.connect().await;
        client.send("ping").await;
        assert_eq!(client.rest().await, b"pong!");
        drop(client);
        let line: serde_json::Value = serde_json::from_str(&file.lines(1).await[0]).unwrap();
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&4.into(), &5.into()));
        assert_eq!(line["response_code"], 0);
        assert_eq!(line["method"], serde_json::Value::Null);
        assert_eq!(line["upstream_cluster"], "outbound|8080||server.default.svc.cluster.local");
    });
}

#[test]
fn what_cannot_be_written_costs_lines_and_nothing_else() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        log(&pair.client_publisher, AccessLog::Text, Path::new("/nowhere/at/all.log"), &[]);
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        // A format that is not understood gives the default one.
        let file = LogFile::new("format");
        log(&pair.client_publisher, AccessLog::Text, &file.0, &[("", "%WHAT%")]);
        assert_eq!(client.get("/").await.status(), 200);
        assert!(file.lines(1).await[0].contains("\"GET / HTTP/1.1\" 200 - via_upstream"));
        let other = LogFile::new("other");
        log(&pair.client_publisher, AccessLog::Text, &other.0, &[("", "%REQ(:METHOD)%!")]);
        assert_eq!(client.get("/").await.status(), 200);
        assert_eq!(other.lines(1).await, ["GET!"]);
        log(&pair.client_publisher, AccessLog::Off, &other.0, &[]);
        assert_eq!(client.get("/").await.status(), 200);
        assert_eq!((file.lines(1).await.len(), other.lines(1).await.len()), (1, 1));
    });
}
