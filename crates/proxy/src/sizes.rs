//! What a connection costs in memory, so that an innocent `await` that doubles it fails a test.

use std::rc::Rc;

use crate::forward::client::Client;
use crate::worker::Worker;
use crate::{inbound, outbound};

/// Never called: only the type of what `make` returns counts.
fn size_of_made<F>(_make: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

fn any<T>() -> T {
    unreachable!("only types are looked at")
}

#[track_caller]
fn check(bytes: usize, most: usize) {
    assert!(bytes <= most, "{bytes} bytes, more than {most}");
}

#[test]
fn an_idle_connection_is_small() {
    let worker = any::<&Rc<Worker>>;
    check(size_of_made(|| outbound::http1::serve(worker(), any(), any(), any(), any())), 1024);
    check(size_of_made(|| inbound::http1::serve(worker(), any(), any(), any())), 1024);
    check(size_of::<Client>(), 256);
    check(size_of::<heddle_http::TlsStream>(), 1280);
}

#[test]
fn a_request_under_way_is_small() {
    let worker = any::<&Rc<Worker>>;
    let request = || outbound::http1::serve_request(worker(), any(), any(), any(), any());
    check(size_of_made(request), 4096);
    let request = || inbound::http1::serve_request(worker(), any(), any(), any());
    check(size_of_made(request), 4096);
}

#[test]
fn a_request_of_http2_under_way_is_small() {
    let request = || outbound::http2::serve_request(any(), any(), any(), any(), any(), any());
    check(size_of_made(request), 4896);
    let worker = any::<&Rc<Worker>>;
    let request = || inbound::http2::serve_request(worker(), any(), any(), any(), any());
    check(size_of_made(request), 4096);
}
