//! A server that writes down what arrives, by a reading of its own: every request, and whatever is no request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::harness::{Peer, application};

/// A request as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Arrived {
    pub(crate) line: String,
    /// Names are lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// Without framing.
    pub(crate) body: String,
}

impl Arrived {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(own, _)| own == name);
        same.map(|(_, value)| value.as_str()).collect()
    }

    fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What has arrived on all connections.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    arrived: Rc<RefCell<Vec<Arrived>>>,
    /// What of it is no whole request, by connection, until that ends.
    rests: Rc<RefCell<Vec<String>>>,
}

impl Recorder {
    /// A server that answers each request with its path.
    pub(crate) async fn new() -> (SocketAddr, Self) {
        let own = Self::default();
        let recorder = own.clone();
        let address = application(move |peer| recorder.clone().serve(peer)).await;
        (address, own)
    }

    async fn serve(self, mut peer: Peer) {
        let place = self.rests.borrow().len();
        self.rests.borrow_mut().push(String::new());
        while peer.fill().await {
            while let Some((request, length)) = read(&peer.buffer) {
                peer.buffer.drain(..length);
                let body = if request.line.starts_with("HEAD ") { "" } else { request.path() };
                let length = request.path().len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                self.arrived.borrow_mut().push(request);
                peer.send(answer).await;
            }
            self.rests.borrow_mut()[place] = String::from_utf8_lossy(&peer.buffer).into_owned();
        }
        self.rests.borrow_mut()[place].clear();
    }

    /// Whole requests, in the order in which they arrived, which are then forgotten.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.borrow_mut())
    }

    /// Bytes that have arrived on connections that are open and are no whole request.
    pub(crate) fn rest(&self) -> String {
        self.rests.borrow().concat()
    }
}

/// The first request of these bytes, and its length. What is not as it must be is a request whose line says so.
fn read(bytes: &[u8]) -> Option<(Arrived, usize)> {
    let head_bytes = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_bytes]);
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let fields: Vec<(String, String)> = lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_ascii_lowercase(), value.trim().to_owned()),
            None => ("no field".to_owned(), line.to_owned()),
        })
        .collect();
    let mut request = Arrived { line, fields, body: String::new() };
    let lengths = request.values("content-length");
    let codings = request.values("transfer-encoding");
    let is_odd = head.replace("\r\n", "").contains(['\r', '\n', '\0'])
        || request.line.split(' ').count() != 3
        || request.values("host").len() != 1
        || lengths.len() + codings.len() > 1
        || request.fields.iter().any(|(name, _)| name.contains(' '));
    let body = &bytes[head_bytes..];
    let (content, length) = match (lengths.first(), codings.first()) {
        _ if is_odd => (Vec::new(), body.len()),
        (Some(length), _) => {
            let length: usize = length.parse().unwrap();
            (body.get(..length)?.to_vec(), length)
        }
        (None, Some(_)) => dechunked(body)?,
        (None, None) => (Vec::new(), 0),
    };
    if is_odd {
        request.line = format!("ODD {}", request.line);
    }
    request.body = String::from_utf8_lossy(&content).into_owned();
    Some((request, head_bytes + length))
}

/// The data of a chunked body, and its length with framing and trailers.
fn dechunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    let line = |from: usize| {
        let rest = bytes.get(from..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        Some((String::from_utf8_lossy(&rest[..end]).into_owned(), from + end + 2))
    };
    loop {
        let (size, next) = line(at)?;
        let size = size.split([';', ' ']).next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap();
        at = next;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(at..at + size)?);
        assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n");
        at += size + 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((data, at));
        }
    }
}
