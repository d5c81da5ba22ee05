//! Framing that two parsers may read differently, sent as raw bytes through a real proxy: what is let through arrives once,
//! as one request, and everything else is refused and the connection closed.

use std::time::Duration;

use heddle_ir::authorization::{Attribute, Condition, ValueMatch};
use heddle_ir::inbound::MutualTlsMode::Permissive;
use heddle_ir::matching::TextMatch;
use tokio::net::TcpStream;

use crate::harness::{Pair, Peer, application, run};
use crate::http1::allow;
use crate::recorder::{Arrived, Recorder};

/// What becomes of bytes.
#[derive(Clone, Copy, Debug)]
enum Becomes {
    /// The status of the refusal; the server gets nothing that is a request.
    Refused(u16),
    /// The request line and the body that the server gets, once.
    Once(&'static str, &'static str),
    /// The same of several requests, of which none is part of another.
    Each(&'static [(&'static str, &'static str)]),
}

use Becomes::{Each, Once, Refused};

const LINE: &str = "POST / HTTP/1.1";

/// Fields of a POST, its body, and what becomes of them.
const FIELDS: &[(&str, &str, Becomes)] = &[
    // Two lengths.
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n", Refused(400)),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("Content-Length: 4\r\nContent-Length: 4", "body", Refused(400)),
    ("Content-Length: 4\r\nContent-Length: 0", "body", Refused(400)),
    ("Content-Length: 4, 4", "body", Refused(400)),
    // What is no length.
    ("Content-Length: +4", "body", Refused(400)),
    ("Content-Length: -4", "body", Refused(400)),
    ("Content-Length: 0x4", "body", Refused(400)),
    ("Content-Length: 4 4", "body", Refused(400)),
    ("Content-Length: 4;", "body", Refused(400)),
    ("Content-Length: \"4\"", "body", Refused(400)),
    ("Content-Length: 4.0", "body", Refused(400)),
    ("Content-Length:", "body", Refused(400)),
    ("Content-Length: 00000000000000000004", "body", Refused(400)),
    ("Content-Length: 18446744073709551620", "body", Refused(400)),
    // Codings.
    ("Transfer-Encoding: xchunked", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: identity", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n", Refused(501)),
    ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding:", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: ,", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: \u{b}chunked", "0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\u{0}", "0\r\n\r\n", Refused(400)),
    // Names and lines.
    ("Transfer-Encoding : chunked", "0\r\n\r\n", Refused(400)),
    ("Transfer Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("Content-Length\u{0}: 4", "body", Refused(400)),
    ("Cont\u{e9}nt-Length: 4", "body", Refused(400)),
    (": 4", "body", Refused(400)),
    ("Content-Length", "body", Refused(400)),
    ("X: a\r\n\tContent-Length: 4", "body", Refused(400)),
    (" X: a", "", Refused(400)),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n", Refused(400)),
    ("X: a\nTransfer-Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("X: a\rTransfer-Encoding: chunked", "0\r\n\r\n", Refused(400)),
    ("X: a\r\r\nContent-Length: 4", "body", Refused(400)),
    ("X: a\u{7f}", "", Refused(400)),
    ("Host: b", "", Refused(400)),
    // Chunks.
    ("Transfer-Encoding: chunked", "0x3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "+3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "-3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", " 3\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3g\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "10000000000000003\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3\rXabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3\r\nabcd\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3\r\nabc\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3;a\nb\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "3;\u{0}\r\nabc\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\n\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nX\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nX : a\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nX: a\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nX: a\r\n b\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nContent-Length: 30\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nTransfer-Encoding: chunked\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked", "0\r\nHost: b\r\n\r\n", Refused(400)),
    // What is valid, and what of it may mislead.
    ("Content-Length: 4", "body", Once(LINE, "body")),
    ("Content-Length: 0004", "body", Once(LINE, "body")),
    ("content-length:4", "body", Once(LINE, "body")),
    ("Content-Length: 4\r\nConnection: content-length", "body", Once(LINE, "body")),
    ("Content-Length: 4\r\nConnection: host", "body", Once(LINE, "body")),
    ("Transfer-Encoding: CHUNKED", "4\r\nbody\r\n0\r\n\r\n", Once(LINE, "body")),
    ("Transfer-Encoding: chunked", "4;a=\"b\"\r\nbody\r\n0;c\r\n\r\n", Once(LINE, "body")),
    ("Transfer-Encoding: chunked", "0004\r\nbody\r\n000\r\n\r\n", Once(LINE, "body")),
    ("Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n", Once(LINE, "body")),
    (
        "Transfer-Encoding: chunked\r\nConnection: transfer-encoding",
        "4\r\nbody\r\n0\r\n\r\n",
        Once(LINE, "body"),
    ),
    ("Expect: 100-continue\r\nContent-Length: 4", "body", Once(LINE, "body")),
    ("Expect: something\r\nContent-Length: 4", "body", Once(LINE, "body")),
    (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "",
        Once(LINE, ""),
    ),
    ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4", "body", Once(LINE, "body")),
    ("X-Transfer-Encoding: chunked\r\nContent-Length: 4", "body", Once(LINE, "body")),
    (
        "Content-Length: 4",
        "bodyGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        Each(&[(LINE, "body"), ("GET /x HTTP/1.1", "")]),
    ),
    (
        "Transfer-Encoding: chunked",
        "0\r\n\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        Each(&[(LINE, ""), ("GET /x HTTP/1.1", "")]),
    ),
];

/// Whole heads without a body, and what becomes of them.
const HEADS: &[(&str, Becomes)] = &[
    ("GET / HTTP/1.1\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\nHost: a\n\n", Refused(400)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refused(400)),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("GET /\r\n\r\n", Refused(400)),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refused(505)),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505)),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", Refused(400)),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Refused(405)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Once("GET / HTTP/1.1", "")),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Once("GET / HTTP/1.1", "")),
    ("GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n", Once("GET /x?y HTTP/1.1", "")),
    ("GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n", Once("GET /?y HTTP/1.1", "")),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Once("OPTIONS * HTTP/1.1", "")),
    ("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", Once("HEAD /x HTTP/1.1", "")),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", Once("GET / HTTP/1.1", "body")),
    ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Once("GET / HTTP/1.1", "")),
    (
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        Each(&[("GET /1 HTTP/1.1", ""), ("GET /2 HTTP/1.1", "")]),
    ),
];

/// A client of either end of the mesh: before a proxy alone, and before two.
async fn client(pair: &Pair, is_outside: bool) -> Peer {
    let address = if is_outside { pair.inbound } else { pair.outbound };
    Peer::new(TcpStream::connect(address).await.unwrap())
}

/// The next final response: its status, its body, and whether the connection ends with it.
async fn answer(client: &mut Peer, to_head: bool) -> (u16, String, bool) {
    loop {
        let head = client.head().await;
        let status: u16 = head[9..12].parse().unwrap();
        if status < 200 {
            continue;
        }
        let value = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let length = value("content-length").filter(|_| !to_head && !matches!(status, 204 | 304));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let closes = value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let body = client.exactly(length).await;
        return (status, String::from_utf8(body).unwrap(), closes);
    }
}

fn seen(arrived: &[Arrived]) -> Vec<(&str, &str)> {
    arrived.iter().map(|own| (own.line.as_str(), own.body.as_str())).collect()
}

fn path(line: &str) -> &str {
    line.split(' ').nth(1).unwrap()
}

async fn check(pair: &Pair, recorder: &Recorder, is_outside: bool, bytes: &str, becomes: Becomes) {
    let case = format!("{bytes:?} ({})", if is_outside { "one proxy" } else { "two" });
    let mut peer = client(pair, is_outside).await;
    // Bytes as they stand: what is beyond ASCII is one byte.
    let raw: Vec<u8> = bytes.chars().map(|own| u8::try_from(own).unwrap()).collect();
    peer.send(&raw).await;
    let single;
    let requests = match becomes {
        Refused(status) => {
            let (got, _, closes) = answer(&mut peer, false).await;
            assert_eq!((got, closes), (status, true), "{case}");
            assert_eq!(peer.rest().await, b"", "{case}");
            assert_eq!(seen(&recorder.take()), [], "{case}");
            &[][..]
        }
        Once(line, body) => {
            single = [(line, body)];
            &single[..]
        }
        Each(requests) => requests,
    };
    for (line, _) in requests {
        let (status, body, closes) = answer(&mut peer, line.starts_with("HEAD ")).await;
        let expected = if line.starts_with("HEAD ") { "" } else { path(line) };
        assert_eq!((status, &*body, closes), (200, expected, false), "{case}");
    }
    assert_eq!(seen(&recorder.take()), requests, "{case}");
    assert_eq!(recorder.rest(), "", "{case}");
    // Whoever comes next is answered what it asked, on this connection and on another one.
    let mut others = vec![client(pair, is_outside).await];
    others.extend((!requests.is_empty()).then_some(peer));
    for mut next in others {
        next.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer(&mut next, false).await, (200, "/next".to_owned(), false), "{case}");
        assert_eq!(seen(&recorder.take()), [("GET /next HTTP/1.1", "")], "{case}");
    }
}

#[test]
fn framing_that_may_be_read_in_two_ways_is_refused_and_all_else_arrives_once() {
    run(async {
        let (app, recorder) = Recorder::new().await;
        let pair = Pair::with(app, |_| {}, |server| server.mode = Permissive).await;
        for is_outside in [true, false] {
            for (fields, body, becomes) in FIELDS {
                let bytes = format!("{LINE}\r\nHost: a\r\n{fields}\r\n\r\n{body}");
                check(&pair, &recorder, is_outside, &bytes, *becomes).await;
            }
            for (head, becomes) in HEADS {
                check(&pair, &recorder, is_outside, head, *becomes).await;
            }
        }
    });
}

#[test]
fn a_body_that_goes_wrong_on_its_way_is_refused_and_never_whole() {
    run(async {
        let (app, recorder) = Recorder::new().await;
        let pair = Pair::with(app, |_| {}, |server| server.mode = Permissive).await;
        let wrong = ["X\r\n", "4\r\nbodyX", "4\nbody", "0\r\nHost: b\r\n\r\n", "-4\r\nbody\r\n"];
        for is_outside in [true, false] {
            for late in wrong {
                let mut peer = client(&pair, is_outside).await;
                let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.send(format!("{head}4\r\nbody\r\n")).await;
                while !recorder.rest().ends_with("body\r\n") {
                    tokio::task::yield_now().await;
                }
                peer.send(late).await;
                let (status, _, closes) = answer(&mut peer, false).await;
                assert_eq!((status, closes), (400, true), "{late:?} {is_outside}");
                assert_eq!(peer.rest().await, b"", "{late:?}");
                // The server is told of the end, and has no whole request.
                while !recorder.rest().is_empty() {
                    tokio::task::yield_now().await;
                }
                assert_eq!(seen(&recorder.take()), [], "{late:?}");
            }
        }
        let parts = ["response_code=\"400\"", "response_flags=\"DPE\""];
        let count = wrong.len() as u64;
        Pair::counts(&pair.client_registry, "istio_requests_total", &parts, count).await;
    });
}

#[test]
fn a_header_that_is_not_forwarded_counts_for_nothing() {
    run(async {
        let present = ValueMatch::Text(TextMatch::Exact("yes".into()));
        let (app, recorder) = Recorder::new().await;
        let server = |server: &mut crate::support::ServerSide| {
            server.mode = Permissive;
            let attribute = Attribute::RequestHeader("x-token".into());
            server.authorization =
                allow(Condition { attribute, values: vec![present], negate: false });
        };
        let pair = Pair::with(app, |_| {}, server).await;
        for (connection, status) in [("keep-alive", 200), ("x-other", 200), ("X-Token", 403)] {
            let mut peer = client(&pair, true).await;
            let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Token: yes";
            peer.send(format!("{head}\r\nConnection: {connection}\r\n\r\n")).await;
            assert_eq!(answer(&mut peer, false).await.0, status, "{connection}");
            for request in recorder.take() {
                assert_eq!(request.values("x-token"), ["yes"], "{connection}");
            }
        }
    });
}

/// A method, what a server sends in answer, and the status and body that the client gets; 0: the end of the connection.
const ANSWERS: &[(&str, &str, u16, &str)] = &[
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, ""),
    ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, ""),
    ("GET", "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, ""),
    // A server that says more than it was asked: what is more is nobody's answer.
    (
        "GET",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
        204,
        "",
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", 200, ""),
    ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nno", 304, ""),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", 200, "ok"),
    // What is no response, or one that may be read in two ways.
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        502,
        "",
    ),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 502, ""),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 502, ""),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", 502, ""),
    ("GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, ""),
    ("GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 502, ""),
    ("GET", "HTTP/1.1 200 OK\r\n Folded: a\r\n\r\n", 502, ""),
    ("GET", "HTTP/1.1 99 No\r\n\r\n", 502, ""),
    ("GET", "HTTP/2.0 200 OK\r\n\r\n", 502, ""),
    ("GET", "ok", 503, ""),
    (
        "GET",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        502,
        "",
    ),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n", 0, ""),
];

async fn check_answer(is_outside: bool, method: &str, said: &'static str, status: u16, body: &str) {
    let app = application(move |mut peer| async move {
        while let Some(head) = peer.try_head().await {
            if head.contains(" /next ") {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await;
                continue;
            }
            peer.send(said).await;
            if said == "ok" {
                return;
            }
        }
    })
    .await;
    let pair = Pair::with(app, |_| {}, |server| server.mode = Permissive).await;
    let mut peer = client(&pair, is_outside).await;
    peer.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    if status == 0 && is_outside {
        let rest = String::from_utf8(peer.rest().await).unwrap();
        assert!(!rest.contains("X\r\n"), "{said:?}: {rest}");
    } else {
        let (got, text, _) = answer(&mut peer, method == "HEAD").await;
        // The end of the connection, as the proxy before the other one sees it.
        let status = if status == 0 { 503 } else { status };
        assert_eq!(got, status, "{said:?}");
        assert!(got >= 500 || text == body, "{said:?}: {text}");
    }
    let mut next = client(&pair, is_outside).await;
    next.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer(&mut next, false).await, (200, "next".to_owned(), false), "{said:?}");
}

#[test]
fn what_a_server_says_beyond_its_answer_reaches_nobody() {
    run(async {
        for is_outside in [true, false] {
            for (method, said, status, body) in ANSWERS {
                let checking = check_answer(is_outside, method, said, *status, body);
                let checked = tokio::time::timeout(Duration::from_secs(5), checking).await;
                assert!(checked.is_ok(), "no answer to {method}, where the server says {said:?}");
            }
        }
    });
}
