//! A gRPC health check (`grpc.health.v1.Health/Check`): one call on a connection of its own.

use bytes::Bytes;
use http::{Method, Request};
use prost::Message;
use tokio::net::TcpStream;

use super::chain;

/// A health answer is a few bytes; more is none.
const ANSWER_BYTES_MAX: usize = 4096;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Success is `SERVING`.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let authority = stream.peer_addr().map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        h2::client::handshake(stream).await.map_err(|error| chain(&error))?;
    let call = async {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        let (response, mut body) =
            sender.send_request(request, false).map_err(|error| chain(&error))?;
        let question = HealthCheckRequest { service: service.to_owned() };
        body.send_data(frame(&question), true).map_err(|error| chain(&error))?;
        read(response.await.map_err(|error| chain(&error))?).await
    };
    tokio::select! {
        result = call => result,
        ended = connection => match ended {
            Ok(()) => Err("the connection was closed".to_owned()),
            Err(error) => Err(chain(&error)),
        },
    }
}

async fn read(response: http::Response<h2::RecvStream>) -> Result<(), String> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        return Err(format!("HTTP status {}", head.status.as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| chain(&error))?;
        body.flow_control().release_capacity(chunk.len()).map_err(|error| chain(&error))?;
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too long".to_owned());
        }
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(|error| chain(&error))?.unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    match status.and_then(|status| status.to_str().ok()) {
        Some("0") => {}
        Some(code) => return Err(format!("gRPC status {code}")),
        None => return Err("no gRPC status".to_owned()),
    }
    let answer = bytes.get(5..).and_then(|message| HealthCheckResponse::decode(message).ok());
    match answer {
        Some(answer) if answer.status == SERVING => Ok(()),
        Some(answer) => Err(format!("health status {}", answer.status)),
        None => Err("no health status".to_owned()),
    }
}

/// A message with gRPC's five bytes before it: not compressed, its length.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&encoded);
    bytes.into()
}
