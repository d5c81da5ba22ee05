//! An HTTP GET, plain or over TLS that verifies nobody.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use heddle_proto::node::HttpAction;

use super::{chain, insecure};

/// The longest page.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The body of an answer of 200.
pub(super) async fn page(stream: TcpStream, path: &str) -> Result<Bytes, String> {
    let authority = stream.peer_addr().map_err(|error| error.to_string())?.to_string();
    let request = http::Request::get(path)
        .header("Host", authority)
        .body(Empty::<&'static [u8]>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(format!("HTTP status {status}"));
        }
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    };
    tokio::pin!(exchange);
    tokio::select! {
        page = &mut exchange => page,
        // The connection may end with the answer already parsed.
        _ = connection => exchange.await,
    }
}

/// Success is a status of 200 to 399, as for Kubernetes.
pub(super) async fn get(stream: TcpStream, action: &HttpAction) -> Result<(), String> {
    let authority = stream.peer_addr().map_err(|error| error.to_string())?.to_string();
    if action.https {
        let host = action.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
        let stream = insecure::connect(stream, host.map(|header| header.value.as_str())).await?;
        exchange(stream, action, &authority).await
    } else {
        exchange(stream, action, &authority).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    action: &HttpAction,
    authority: &str,
) -> Result<(), String> {
    let request = request(action, authority)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let response = sender.send_request(request);
    tokio::pin!(response);
    tokio::pin!(connection);
    let response = tokio::select! {
        response = &mut response => response,
        // The connection may end with the response already parsed.
        _ = &mut connection => response.await,
    };
    let status = response.map_err(|error| chain(&error))?.status().as_u16();
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP status {status}")) }
}

fn request(
    action: &HttpAction,
    authority: &str,
) -> Result<http::Request<Empty<&'static [u8]>>, String> {
    let path = if action.path.is_empty() { "/" } else { &action.path };
    let mut builder = http::Request::get(path);
    let has = |name: &str| action.headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    if !has("host") {
        builder = builder.header("Host", authority);
    }
    if !has("user-agent") {
        builder = builder.header("User-Agent", "heddle-probe");
    }
    builder = builder.header("Connection", "close");
    for header in &action.headers {
        builder = builder.header(&header.name, &header.value);
    }
    builder.body(Empty::new()).map_err(|error| format!("the probe's request is not valid: {error}"))
}
