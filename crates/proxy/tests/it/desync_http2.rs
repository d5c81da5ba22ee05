//! HTTP/2 requests as raw frames, through a gateway that sends them on as HTTP/1: what is let through arrives once, as one
//! request, and everything else reaches nobody.

use crate::gateway::{Edge, connect, free_port, http, listener, server};
use crate::harness::{Peer, run};
use crate::raw_http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Reply, frame, literals, preface};
use crate::recorder::{Arrived, Recorder};
use crate::support::rule;

type Fields = &'static [(&'static str, &'static str)];

/// A request in parts.
#[derive(Clone, Copy)]
struct Case {
    /// In place of the pseudo-headers of a POST to `/` of `server`.
    pseudo: Option<Fields>,
    fields: Fields,
    /// Frames of data, each with its text; none: the head ends the stream.
    data: &'static [&'static str],
    trailers: Option<Fields>,
    becomes: Becomes,
}

#[derive(Clone, Copy)]
enum Becomes {
    /// The stream or the connection is reset, or answered with 400.
    Refused,
    /// The request line, the host and the body that the server gets, once.
    Once(&'static str, &'static str, &'static str),
}

use Becomes::{Once, Refused};

const POST: Case = Case {
    pseudo: None,
    fields: &[],
    data: &["body"],
    trailers: None,
    becomes: Once("POST / HTTP/1.1", "server", "body"),
};
const BAD: Case = Case { becomes: Refused, ..POST };

const fn head(pseudo: Fields, becomes: Becomes) -> Case {
    Case { pseudo: Some(pseudo), fields: &[], data: &[], trailers: None, becomes }
}

const CASES: &[Case] = &[
    POST,
    Case { fields: &[("content-length", "4")], ..POST },
    Case { fields: &[("content-length", "4"), ("content-length", "4")], ..POST },
    Case { fields: &[("te", "trailers"), ("expect", "100-continue")], ..POST },
    Case { data: &["bo", "dy"], ..POST },
    // An empty frame is no end.
    Case { data: &["bo", "", "", "dy"], ..POST },
    Case { data: &["", "body"], ..POST },
    Case { data: &["body", ""], ..POST },
    Case {
        data: &["0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"],
        becomes: Once("POST / HTTP/1.1", "server", "0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ..POST
    },
    Case { trailers: Some(&[("x-sum", "1")]), ..POST },
    // What frames a message of HTTP/1 is no trailer.
    Case { trailers: Some(&[("content-length", "30")]), ..POST },
    Case { trailers: Some(&[("host", "b"), ("expect", "100-continue")]), ..POST },
    // Malformed, and passed over.
    Case { trailers: Some(&[(":path", "/x")]), ..POST },
    Case { fields: &[("host", "b")], ..POST },
    Case { fields: &[("cookie", "a=1"), ("cookie", "b=2")], ..POST },
    // Lengths that are not true.
    Case { fields: &[("content-length", "3")], ..BAD },
    Case { fields: &[("content-length", "5")], ..BAD },
    Case { fields: &[("content-length", "0")], ..BAD },
    Case { fields: &[("content-length", "4"), ("content-length", "5")], ..BAD },
    Case { fields: &[("content-length", "4, 4")], ..BAD },
    Case { fields: &[("content-length", "+4")], ..BAD },
    Case { fields: &[("content-length", "")], ..BAD },
    Case { fields: &[("content-length", "4")], data: &[], ..BAD },
    // What HTTP/2 does not have.
    Case { fields: &[("transfer-encoding", "chunked")], ..BAD },
    Case { fields: &[("connection", "x-a"), ("x-a", "b")], ..BAD },
    Case { fields: &[("keep-alive", "1")], ..BAD },
    Case { fields: &[("upgrade", "websocket")], ..BAD },
    Case { fields: &[("proxy-connection", "close")], ..BAD },
    Case { fields: &[("te", "gzip")], ..BAD },
    Case { trailers: Some(&[("transfer-encoding", "chunked")]), ..BAD },
    // Lines within lines.
    Case { fields: &[("x", "a\r\ntransfer-encoding: chunked")], ..BAD },
    Case { fields: &[("x", "a\nb: c")], ..BAD },
    Case { fields: &[("x", "a\0b")], ..BAD },
    Case { fields: &[("x: y\r\nz", "a")], ..BAD },
    Case { fields: &[("x y", "a")], ..BAD },
    Case { fields: &[("X", "a")], ..BAD },
    Case { fields: &[("", "a")], ..BAD },
    Case { fields: &[(":path", "/x")], ..BAD },
    Case { fields: &[(":other", "/x")], ..BAD },
    // Pseudo-headers.
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/x?y"), (":authority", "server")],
        Once("GET /x?y HTTP/1.1", "server", ""),
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/x"), ("host", "server")],
        Once("GET /x HTTP/1.1", "server", ""),
    ),
    head(
        &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "server")],
        Once("OPTIONS * HTTP/1.1", "server", ""),
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "server")],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "?x"), (":authority", "server")],
        Refused,
    ),
    head(
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "http://b/x"),
            (":authority", "server"),
        ],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "x"), (":authority", "server")],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "server")],
        Refused,
    ),
    head(&[(":method", "GET"), (":scheme", "http"), (":authority", "server")], Refused),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/a b"), (":authority", "server")],
        Refused,
    ),
    head(
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/ HTTP/1.1\r\nX: "),
            (":authority", "server"),
        ],
        Refused,
    ),
    head(
        &[
            (":method", "GET /x HTTP/1.1\r\nX: "),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "server"),
        ],
        Refused,
    ),
    head(
        &[(":method", ""), (":scheme", "http"), (":path", "/"), (":authority", "server")],
        Refused,
    ),
    head(
        &[
            (":method", "GET"),
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "server"),
        ],
        Refused,
    ),
    head(&[(":method", "GET"), (":path", "/"), (":authority", "server")], Refused),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "b\r\nX: a")],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "b@server")],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "ser ver")],
        Refused,
    ),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")], Refused),
    head(&[(":method", "GET"), (":scheme", "http"), (":path", "/")], Refused),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/x/../y"), ("host", "ser ver")],
        Refused,
    ),
    head(
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")],
        Refused,
    ),
    head(&[(":method", "CONNECT"), (":authority", "server:80")], Refused),
];

impl Case {
    fn frames(&self) -> Vec<u8> {
        let post: Fields =
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "server")];
        let mut block = literals(self.pseudo.unwrap_or(post));
        block.extend(literals(self.fields));
        let ends = |is_last: bool| if is_last { END_STREAM } else { 0 };
        let is_alone = self.data.is_empty() && self.trailers.is_none();
        let mut bytes = preface();
        bytes.extend(frame(HEADERS, END_HEADERS | ends(is_alone), 1, &block));
        for (place, text) in self.data.iter().enumerate() {
            let is_last = place + 1 == self.data.len() && self.trailers.is_none();
            bytes.extend(frame(DATA, ends(is_last), 1, text.as_bytes()));
        }
        if let Some(trailers) = self.trailers {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &literals(trailers)));
        }
        bytes
    }

    fn says(&self) -> String {
        let Self { pseudo, fields, data, trailers, .. } = self;
        format!("{pseudo:?} {fields:?} {data:?} {trailers:?}")
    }
}

fn seen(arrived: &[Arrived]) -> Vec<(&str, Vec<&str>, &str)> {
    arrived.iter().map(|own| (own.line.as_str(), own.values("host"), own.body.as_str())).collect()
}

#[test]
fn frames_that_make_no_single_request_of_http1_reach_nobody() {
    run(async {
        let (app, recorder) = Recorder::new().await;
        let port = free_port().await;
        let plain = server(&["*"], None, http(&["*"], vec![rule()]));
        let _edge = Edge::new(app, vec![listener(port, vec![plain])], |_| {}).await;
        for case in CASES {
            let says = case.says();
            let mut client = Peer::new(connect(port).await);
            client.send(case.frames()).await;
            let reply = Reply::of(&mut client, 1).await;
            let arrived = recorder.take();
            match case.becomes {
                Once(line, host, body) => {
                    assert_eq!(reply, Reply::Status(200), "{says}");
                    assert_eq!(seen(&arrived), [(line, vec![host], body)], "{says}");
                    let cookies = arrived[0].values("cookie");
                    assert!(cookies.len() < 2, "{says}: {cookies:?}");
                }
                Refused => {
                    let refused = matches!(reply, Reply::Ended | Reply::Status(400 | 404 | 405));
                    assert!(refused, "{says}: {reply:?}");
                    assert_eq!(seen(&arrived), [], "{says}");
                }
            }
            // Whoever comes next is answered what it asked.
            let mut next = Peer::new(connect(port).await);
            next.send("GET /next HTTP/1.1\r\nHost: server\r\n\r\n").await;
            assert_eq!(next.message().await.text(), "/next", "{says}");
            let arrived = recorder.take();
            assert_eq!(seen(&arrived), [("GET /next HTTP/1.1", vec!["server"], "")], "{says}");
            assert_eq!(recorder.rest(), "", "{says}");
        }
    });
}
