//! The servers of the suite: HTTP/1.1 and HTTP/2 that tell what they got, started by the mesh as this program itself.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Which part is played: `http`, `grpc`, both as `mesh`, HTTP with and without TLS as `streams`, `datagrams`, or the
/// `client` of rows.
pub(super) const PART: &str = "HEDDLE_TEST_PART";
/// The name that answers carry.
pub(super) const NAME: &str = "HEDDLE_TEST_NAME";

/// The file of the rows that a client sends.
pub(super) const ROWS: &str = "HEDDLE_TEST_ROWS";

/// How this program is started as a part.
pub(super) fn command() -> Vec<String> {
    let own = std::env::current_exe().unwrap().display().to_string();
    let test = "gateway_rows::played::a_part".to_owned();
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
            "grpc" => serve(3000, http2).await,
            "mesh" => {
                tokio::join!(serve(8080, http1), serve(7070, http2));
            }
            "client" => client().await,
            "streams" => {
                tokio::join!(serve(3000, http1), serve(8443, within_tls));
            }
            "datagrams" => tell_datagrams().await,
            _ => {
                tokio::join!(serve(3000, http1), serve(3001, http2));
            }
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

#[expect(clippy::print_stdout, reason = "this is how a client tells")]
async fn client() {
    let rows = std::fs::read(std::env::var(ROWS).unwrap()).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    println!();
    for row in &rows {
        let address = row["address"].as_str().unwrap();
        let found = tokio::net::lookup_host(address).await.ok().and_then(|mut all| all.next());
        let told = match found {
            Some(address) => super::ask(address, row).await,
            None => Err(format!("no address of {address}")),
        };
        println!("ROW {}", told.map_or_else(|error| json!({"error": error}), |got| got.write()));
    }
}

fn name() -> String {
    std::env::var(NAME).unwrap_or_default()
}

/// Answers each request with what it was; `delay=` in the query holds the answer back.
async fn http1(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<Value> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| json!([name.to_ascii_lowercase(), value.trim()]))
            .collect();
        if path.contains("delay=1s") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let told = json!({"name": name(), "method": method, "path": path, "headers": &headers});
        let body = if method == "HEAD" { String::new() } else { told.to_string() };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
        if headers.contains(&json!(["connection", "close"])) {
            return stream.shutdown().await;
        }
    }
}

/// Says OK in gRPC's way, and who says so.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(std::io::Error::other)?;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut stream = request.into_body();
            while let Some(Ok(piece)) = stream.data().await {
                let _ = stream.flow_control().release_capacity(piece.len());
            }
            let response = Response::builder().header("content-type", "application/grpc");
            let response = response.header("x-name", name()).body(()).unwrap();
            let Ok(mut sink) = respond.send_response(response, false) else { return };
            let _ = sink.send_data(framed(), false);
            let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            let _ = sink.send_trailers(HeaderMap::from_iter(trailers));
        });
    }
    Ok(())
}

/// The folder of the certificate that is presented, and the port of datagrams.
pub(super) const CERTIFICATES: &str = "HEDDLE_TEST_CERTIFICATES";
pub(super) const PORT: &str = "HEDDLE_TEST_PORT";

/// HTTP of either version inside of TLS.
async fn within_tls(stream: TcpStream) -> std::io::Result<()> {
    let folder = std::env::var(CERTIFICATES).unwrap();
    let stream = super::tls::accept(stream, std::path::Path::new(&folder)).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return http2(stream).await;
    }
    http1(stream).await
}

/// Sends datagrams back with the name before them.
async fn tell_datagrams() {
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let socket = UdpSocket::bind(("0.0.0.0", port)).await.unwrap();
    let mut buffer = vec![0; 65_535];
    while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
        let answer = [name().as_bytes(), b" ", &buffer[..bytes]].concat();
        let _ = socket.send_to(&answer, from).await;
    }
}

/// An empty message in gRPC's frame.
pub(super) fn framed() -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(0);
    framed.freeze()
}
