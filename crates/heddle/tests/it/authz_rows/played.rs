//! The parts that this program plays inside of a mesh: a server of all four protocols, a client that sends rows, and an
//! authoriser as Istio's test has it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_proto::external_authorization::{CheckRequest, CheckResponse, RpcStatus};
use http::{HeaderMap, Request, Response};
use prost::Message as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Which part is played.
pub(super) const PART: &str = "HEDDLE_TEST_PART";
/// The file of the rows that a client sends.
pub(super) const ROWS: &str = "HEDDLE_TEST_ROWS";

/// The keys that the part `keys` tells.
pub(super) const KEYS: &str = "HEDDLE_TEST_KEYS";

/// How this program is started as a part.
pub(super) fn command() -> Vec<String> {
    let own = std::env::current_exe().unwrap().display().to_string();
    let test = "authz_rows::played::a_part".to_owned();
    vec![own, "--exact".to_owned(), test, "--ignored".to_owned(), "--nocapture".to_owned()]
}

/// No test: what the mesh starts.
#[test]
#[ignore = "a part that the mesh starts"]
fn a_part() {
    let Ok(part) = std::env::var(PART) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match part.as_str() {
            "authorizer" => serve_http2(9000, check).await,
            "client" => client().await,
            "keys" => serve(8000, keys).await,
            "server" => {
                tokio::join!(
                    serve(18080, http1),
                    serve_http2(18085, ok),
                    serve_http2(17070, ok),
                    serve(19090, echo)
                );
            }
            _ => std::future::pending().await,
        }
    });
}

async fn serve<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    port: u16,
    serve: impl Fn(TcpStream) -> F,
) {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

async fn serve_http2(port: u16, answer: fn(&HeaderMap, &[u8]) -> Bytes) {
    serve(port, move |stream| async move {
        let mut connection = h2::server::handshake(stream).await.map_err(std::io::Error::other)?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let (head, mut stream) = request.into_parts();
                let mut body = Vec::new();
                while let Some(Ok(piece)) = stream.data().await {
                    let _ = stream.flow_control().release_capacity(piece.len());
                    body.extend_from_slice(&piece);
                }
                let response = Response::builder().header("content-type", "application/grpc");
                let response = response.body(()).unwrap();
                let Ok(mut sink) = respond.send_response(response, false) else { return };
                let _ = sink.send_data(answer(&head.headers, &body), false);
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                let _ = sink.send_trailers(HeaderMap::from_iter(trailers));
            });
        }
        Ok(())
    })
    .await;
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

fn ok(_: &HeaderMap, _: &[u8]) -> Bytes {
    framed(b"")
}

/// Leave by a header of the request; for streams by the caller's account.
fn check(_: &HeaderMap, body: &[u8]) -> Bytes {
    let asked = CheckRequest::decode(body.get(5..).unwrap_or_default()).unwrap();
    let attributes = asked.attributes.unwrap();
    let http = attributes.request.and_then(|request| request.http);
    let leave = match http {
        Some(http) => http.headers.get("x-ext-authz").is_some_and(|value| value == "allow"),
        None => attributes.source.is_some_and(|source| source.principal.ends_with("/sa/a")),
    };
    let status = RpcStatus { code: if leave { 0 } else { 7 }, message: String::new() };
    framed(&CheckResponse { status: Some(status), http_response: None }.encode_to_vec())
}

async fn http1(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
}

/// The keys of the issuers of tokens.
async fn keys(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let keys = std::env::var(KEYS).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", keys.len());
    stream.write_all(format!("{head}connection: close\r\n\r\n{keys}").as_bytes()).await
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

#[expect(clippy::print_stdout, reason = "this is how a client tells")]
async fn client() {
    let rows = std::fs::read(std::env::var(ROWS).unwrap()).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    println!();
    for row in &rows {
        let asking = tokio::time::timeout(Duration::from_secs(10), ask(row));
        let told = asking.await.unwrap_or_else(|_| Err("no answer".to_owned()));
        println!("ROW {}", told.unwrap_or_else(|error| error.replace('\n', " ")));
    }
}

pub(super) async fn ask(row: &Value) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(row["address"].as_str().unwrap()).await;
    let stream = stream.map_err(|error| text(&error))?;
    let answer = match row["protocol"].as_str().unwrap() {
        "HTTP" => over_http1(stream, row).await.map_err(|error| text(&error))?,
        "TCP" => over_tcp(stream).await.map_err(|error| text(&error))?,
        _ => over_http2(stream, row).await.map_err(|error| text(&error))?,
    };
    Ok(answer)
}

fn headers(row: &Value) -> impl Iterator<Item = (&str, &str)> {
    let own = row["headers"].as_object().into_iter().flatten();
    own.map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
}

fn by_status(status: u16) -> String {
    match status {
        200 => "allow".to_owned(),
        403 => "deny".to_owned(),
        other => format!("status {other}"),
    }
}

async fn over_http1(mut stream: TcpStream, row: &Value) -> std::io::Result<String> {
    let (method, path) = (row["method"].as_str().unwrap(), row["path"].as_str().unwrap());
    let address = row["address"].as_str().unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
        row["host"].as_str().unwrap_or(address)
    );
    for (name, value) in headers(row) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(status.map_or_else(|| format!("not HTTP: {answer}"), by_status))
}

async fn over_tcp(mut stream: TcpStream) -> std::io::Result<String> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    Ok(match stream.read_exact(&mut answer).await {
        Ok(_) if answer == *b"hello" => "allow".to_owned(),
        Ok(_) => "something else came back".to_owned(),
        Err(_) => "deny".to_owned(),
    })
}

async fn over_http2(stream: TcpStream, row: &Value) -> Result<String, h2::Error> {
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut sender = sender.ready().await?;
    let is_grpc = row["protocol"] == "GRPC";
    let (address, path) = (row["address"].as_str().unwrap(), row["path"].as_str().unwrap());
    let mut request = Request::builder()
        .method(row["method"].as_str().unwrap())
        .uri(format!("http://{address}{path}"));
    if is_grpc {
        request = request.header("content-type", "application/grpc").header("te", "trailers");
    }
    for (name, value) in headers(row) {
        request = request.header(name, value);
    }
    let (response, mut sink) = sender.send_request(request.body(()).unwrap(), !is_grpc)?;
    if is_grpc {
        sink.send_data(framed(b""), true)?;
    }
    let response = response.await?;
    let status = response.status().as_u16();
    if !is_grpc {
        return Ok(by_status(status));
    }
    let mut grpc = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let _ = body.flow_control().release_capacity(piece?.len());
    }
    if let Some(trailers) = body.trailers().await? {
        grpc = trailers.get("grpc-status").cloned().or(grpc);
    }
    Ok(match grpc.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") => "allow".to_owned(),
        Some("7") => "deny".to_owned(),
        other => format!("status {status}, gRPC status {other:?}"),
    })
}
