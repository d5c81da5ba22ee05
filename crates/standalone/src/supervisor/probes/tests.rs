use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use heddle_proto::node::{ExecAction, GrpcAction, HttpAction, TcpAction};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers with what it is told, without running anything.
struct Pretend(i32);

impl Exec for Pretend {
    async fn exec(&self, command: &[String]) -> Result<i32, String> {
        if command.is_empty() { Err("no command".into()) } else { Ok(self.0) }
    }
}

/// Without marks, so that no privilege is needed.
fn prober() -> Prober {
    let sockets = SocketFactory::here();
    let addresses = vec![IpAddr::from([127, 0, 0, 1])];
    Prober { addresses, to_self: sockets.clone(), to_others: sockets }
}

async fn attempt(action: Action) -> Result<(), String> {
    let handler = Handler { action: Some(action) };
    prober().attempt(Some(&handler), TIMEOUT, &Pretend(3)).await
}

fn http(port: u16, path: &str) -> Action {
    let path = path.to_owned();
    Action::Http(HttpAction { port: port.into(), path, ..HttpAction::default() })
}

/// Answers every connection with the same bytes after the request's head has come.
async fn answering(tasks: &mut JoinSet<()>, answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /health?a=1 HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn http_succeeds_from_200_to_399() {
    let mut tasks = JoinSet::new();
    for (answer, result) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(())),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Err("HTTP status 404".to_owned())),
        ("HTTP/1.0 503 No\r\n\r\n", Err("HTTP status 503".to_owned())),
    ] {
        let port = answering(&mut tasks, answer).await;
        assert_eq!(attempt(http(port, "/health?a=1")).await, result, "{answer}");
    }
    let port = answering(&mut tasks, "nonsense\r\n\r\n").await;
    attempt(http(port, "/health?a=1")).await.unwrap_err();
}

#[tokio::test]
async fn tcp_succeeds_when_somebody_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = |host: &str| Action::Tcp(TcpAction { host: host.into(), port: port.into() });
    for host in ["", "127.0.0.1", "localhost"] {
        attempt(tcp(host)).await.unwrap();
    }
    assert!(attempt(tcp("example.com")).await.unwrap_err().contains("not resolved"));
    drop(listener);
    assert!(attempt(tcp("")).await.unwrap_err().contains("refused"));
}

#[tokio::test]
async fn exec_succeeds_with_exit_code_zero() {
    let handler = |command: &str| Handler {
        action: Some(Action::Exec(ExecAction { command: vec![command.into()] })),
    };
    let run = async |code| prober().attempt(Some(&handler("x")), TIMEOUT, &Pretend(code)).await;
    assert_eq!(run(0).await, Ok(()));
    assert_eq!(run(7).await, Err("command exited with 7".to_owned()));
    prober().attempt(None, TIMEOUT, &Pretend(0)).await.unwrap_err();
}

#[tokio::test]
async fn an_action_that_takes_too_long_fails() {
    let handler = Handler { action: Some(Action::SleepMs(60_000)) };
    let limit = Duration::from_millis(5);
    let error = prober().attempt(Some(&handler), limit, &Pretend(0)).await.unwrap_err();
    assert_eq!(error, "no result within 5 ms");
}

#[tokio::test]
async fn grpc_succeeds_when_serving() {
    let mut tasks = JoinSet::new();
    for (status, result) in [(1, Ok(())), (2, Err("health status 2".to_owned()))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let head = ::http::Response::builder().header("content-type", "application/grpc");
                let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                let answer = grpc::HealthCheckResponse { status };
                body.send_data(grpc::frame(&answer), false).unwrap();
                let mut trailers = ::http::HeaderMap::new();
                trailers.insert("grpc-status", ::http::HeaderValue::from_static("0"));
                body.send_trailers(trailers).unwrap();
            }
        });
        let action = Action::Grpc(GrpcAction { port: port.into(), service: "s".into() });
        assert_eq!(attempt(action).await, result);
    }
}
