//! One call of gRPC: a message there, a message back.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_ident::Host;
use prost::Message;

use super::{AskError, Asking, Place, Reply};
use crate::worker::Worker;

/// The longest answer in bytes.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Why there is no message back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// No answer.
    #[error("it could not be asked")]
    Ask(#[from] AskError),
    /// An answer that is not gRPC's.
    #[error("it answers {0}")]
    Status(u16),
    /// An answer without message.
    #[error("it answers with status {0}: {1}")]
    Grpc(String, String),
    /// An answer that cannot be read.
    #[error("its answer cannot be read")]
    Message,
}

/// Calls a method by its path.
pub(crate) async fn call<R: Message + Default>(
    worker: &Rc<Worker>,
    place: &Place,
    host: &Host,
    path: &str,
    message: &impl Message,
    timeout: Duration,
) -> Result<R, GrpcError> {
    let text = |text: &str| text.as_bytes().to_vec();
    // A gRPC timeout has at most eight digits.
    let millis = timeout.as_millis().clamp(1, 99_999_999);
    let asking = Asking {
        method: "POST",
        target: path,
        authority: host.as_str(),
        headers: vec![
            ("content-type".to_owned(), text("application/grpc")),
            ("te".to_owned(), text("trailers")),
            ("grpc-timeout".to_owned(), text(&format!("{millis}m"))),
        ],
        body: framed(&message.encode_to_vec()),
        reply_bytes_max: REPLY_BYTES_MAX,
    };
    response_of(&super::over_http2(worker, place, &asking, timeout).await?)
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn response_of<R: Message + Default>(reply: &Reply) -> Result<R, GrpcError> {
    let header = |name: &str| {
        let found = reply.headers.iter().rev().find(|(own, _)| own == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).chars().take(200).collect::<String>())
    };
    if reply.status != 200 {
        return Err(GrpcError::Status(reply.status));
    }
    match header("grpc-status") {
        Some(status) if status == "0" => {}
        Some(status) => {
            let message = header("grpc-message").unwrap_or_default();
            return Err(GrpcError::Grpc(status, message));
        }
        None => return Err(GrpcError::Message),
    }
    let Some((&[compressed, a, b, c, d], message)) = reply.body.split_first_chunk::<5>() else {
        return Err(GrpcError::Message);
    };
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(GrpcError::Message);
    }
    R::decode(message).map_err(|_| GrpcError::Message)
}

#[cfg(test)]
mod tests {
    use heddle_proto::external_authorization::{CheckResponse, RpcStatus};

    use super::*;

    fn reply(body: Vec<u8>, status: &str) -> Reply {
        let headers = vec![("grpc-status".to_owned(), status.as_bytes().to_vec())];
        Reply { status: 200, headers, body }
    }

    #[test]
    fn only_a_whole_answer_of_status_0_counts() {
        let message = CheckResponse {
            status: Some(RpcStatus { code: 0, message: String::new() }),
            http_response: None,
        };
        let bytes = framed(&message.encode_to_vec()).to_vec();
        assert_eq!(response_of::<CheckResponse>(&reply(bytes.clone(), "0")).unwrap(), message);
        let cases = [
            reply(bytes.clone(), "14"),
            reply(bytes[..bytes.len() - 1].to_vec(), "0"),
            reply(Vec::new(), "0"),
            reply([&[1], &bytes[1..]].concat(), "0"),
            Reply { status: 503, ..reply(bytes.clone(), "0") },
            Reply { headers: Vec::new(), ..reply(bytes, "0") },
        ];
        for case in cases {
            assert!(response_of::<CheckResponse>(&case).is_err(), "{case:?}");
        }
    }
}
