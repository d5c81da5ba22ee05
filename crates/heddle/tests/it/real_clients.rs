//! gRPC, WebSocket and mail, spoken by the libraries that people use.

use heddle_testkit::{Mesh, skip};

use crate::{client, mesh};

const FILE: &str = include_str!("real_clients.yaml");
/// Where `cargo xtask test` puts the packages of `requirements.txt`.
pub(crate) const PYTHON: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-venv/bin/python3");

/// Runs a Python program inside the client, which must succeed.
fn python(mesh: &Mesh, program: &str) -> String {
    let path = std::path::absolute(PYTHON).unwrap().display().to_string();
    mesh.exec("client", &[&path, "-c", program]).success().stdout
}

#[test]
fn of_python_speak_through_the_mesh() {
    if !std::path::Path::new(PYTHON).is_file() {
        skip("there is no target/test-venv with the packages of requirements.txt");
        return;
    }
    let mesh = mesh();
    let path = std::path::absolute(PYTHON).unwrap().display().to_string();
    mesh.up(&[FILE.replace("PYTHON", &path), client("client")].join("---\n"));
    grpc(&mesh);
    websocket(&mesh);
    mail(&mesh);
}

fn grpc(mesh: &Mesh) {
    const CLIENT: &str = "
import sys, time, grpc
channel = grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else 'TARGET')
echo = '/test.Echo/'
unary = channel.unary_unary(echo + 'Unary')
answer, call = unary.with_call(b'hello', timeout=20)
assert answer == b'hello' and ('served-by', 'python') in call.initial_metadata(), call.initial_metadata()
big = bytes(3_000_000)
assert unary(big, timeout=30) == big
try:
    unary(b'fail', timeout=20)
    assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == 'as asked: \\u00fc', error.details()
    assert ('reason', 'asked for') in error.trailing_metadata(), error.trailing_metadata()
begun = time.monotonic()
try:
    unary(b'slow', timeout=0.5)
    assert False
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
assert time.monotonic() - begun < 4
many = list(channel.unary_stream(echo + 'ServerStream')(b'500', timeout=20))
assert len(many) == 500 and many[7] == b'7' * 100
parts = (b'x' * 1000 for _ in range(300))
assert channel.stream_unary(echo + 'ClientStream')(parts, timeout=20) == b'300000'
# Each word is sent when the answer to the one before is there: nothing in between may hold anything back.
import queue
words = queue.Queue()
answers = channel.stream_stream(echo + 'Both')(iter(words.get, None), timeout=20)
for word in ['one', 'two', 'three']:
    words.put(word.encode())
    assert next(answers) == word.upper().encode()
words.put(None)
assert list(answers) == [] and answers.code() == grpc.StatusCode.OK
print('fine')
";
    for target in ["echo:5000", "echo.default.svc.cluster.local:5001"] {
        assert_eq!(python(mesh, &CLIENT.replace("TARGET", target)), "fine\n", "{target}");
    }
    let labels = [
        ("reporter", "destination"),
        ("request_protocol", "grpc"),
        ("grpc_response_status", "9"),
        ("connection_security_policy", "mutual_tls"),
    ];
    assert_eq!(mesh.metric("echo", "istio_requests_total", &labels), 2, "both failures");
}

fn websocket(mesh: &Mesh) {
    const CLIENT: &str = "
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed
with connect('ws://echo/path', subprotocols=['echo'], max_size=None) as connection:
    assert connection.subprotocol == 'echo'
    for message in ['text', b'bytes', 'x' * 1_000_000, b'\\0' * 2_000_000]:
        connection.send(message)
        assert connection.recv(timeout=20) == message
    assert connection.ping().wait(20)
    connection.send('close')
    try:
        connection.recv(timeout=20)
        assert False
    except ConnectionClosed as closed:
        assert (closed.rcvd.code, closed.rcvd.reason) == (4001, 'as asked'), closed
print('fine')
";
    assert_eq!(python(mesh, CLIENT), "fine\n");
}

/// The server speaks first, on a port that does not say so.
fn mail(mesh: &Mesh) {
    const CLIENT: &str = "
import smtplib
for number in range(3):
    with smtplib.SMTP('echo', 25, timeout=20) as server:
        server.sendmail('a@example.org', ['b@example.org'], 'Subject: x\\r\\n\\r\\n' + 'line\\r\\n' * 10_000)
print('fine')
";
    assert_eq!(python(mesh, CLIENT), "fine\n");
    let log = mesh.must(&["logs", "echo", "-c", "mail"]);
    assert_eq!(log.lines().filter(|line| line.starts_with("a@example.org")).count(), 3, "{log}");
}
