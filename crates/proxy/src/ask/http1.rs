//! Asking over HTTP/1.

use std::io;
use std::rc::Rc;

use heddle_http::Connection;
use heddle_wire::http1::{
    BodyLength, ChunkPiece, ChunkedScanner, HeadLimits, Parsed, ResponseIndex, is_field_name,
    is_field_value,
};

use super::{AskError, Asking, Place, Reply, pick};
use crate::upstream::{self, UpstreamProtocol};
use crate::worker::Worker;

/// Interim responses before the final one.
const INTERIM_MAX: u32 = 8;

pub(super) async fn ask(
    worker: &Rc<Worker>,
    place: &Place,
    asking: &Asking<'_>,
) -> Result<Reply, AskError> {
    let request = written(asking)?;
    loop {
        let target = pick(worker, &place.state)?;
        let endpoint =
            upstream::endpoint_of(worker, &place.state, &target, UpstreamProtocol::Http1)?;
        let mut upstream =
            upstream::connect_http1(worker, &place.state, &endpoint, &place.permit).await?;
        let reused = upstream.is_reused();
        match exchange(&mut upstream.connection, &request, asking).await {
            Ok((reply, keep)) => {
                if keep {
                    upstream::put_back(&place.state, &endpoint, upstream);
                }
                return Ok(reply);
            }
            // It had been closed meanwhile. Each such failure uses up a kept connection, so that this ends.
            Err(AskError::Broken(_)) if reused => {}
            Err(error) => return Err(error),
        }
    }
}

fn written(asking: &Asking<'_>) -> Result<Vec<u8>, AskError> {
    let Asking { method, target, authority, headers, body, .. } = asking;
    let is_text = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_text(target) || !is_text(authority) || !is_field_name(method.as_bytes()) {
        return Err(AskError::Unwritable);
    }
    let mut out = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    for (name, value) in headers {
        if !is_field_name(name.as_bytes()) || !is_field_value(value) {
            return Err(AskError::Unwritable);
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    let has_body = !body.is_empty() || !matches!(*method, "GET" | "HEAD" | "OPTIONS" | "DELETE");
    if has_body {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Ok(out)
}

async fn more(connection: &mut Connection) -> Result<bool, AskError> {
    Ok(connection.fill().await? > 0)
}

fn ended() -> AskError {
    AskError::Broken(io::ErrorKind::UnexpectedEof.into())
}

/// The answer, and whether the connection takes another request.
async fn exchange(
    connection: &mut Connection,
    request: &[u8],
    asking: &Asking<'_>,
) -> Result<(Reply, bool), AskError> {
    connection.transport.send_all(request).await?;
    let mut reply = Reply::default();
    let mut interim = 0;
    let (length, keeps_alive) = loop {
        let (head_bytes, index) = head(connection).await?;
        let head = index.head(connection.buffer.filled(), head_bytes);
        if head.is_interim() {
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(AskError::NotHttp);
            }
            connection.buffer.consume(head_bytes);
            continue;
        }
        reply.status = head.status();
        let bytes = head.bytes();
        reply.headers = head
            .fields()
            .map(|field| {
                let name = String::from_utf8_lossy(field.name.of(bytes)).to_ascii_lowercase();
                (name, field.value.of(bytes).to_vec())
            })
            .collect();
        let found = (head.body(asking.method.as_bytes()), head.keeps_alive());
        connection.buffer.consume(head_bytes);
        break found;
    };
    if reply.status == 101 {
        return Err(AskError::NotHttp);
    }
    // What is left in the buffer then nobody asked for, and the connection is not kept.
    body(connection, length, asking.reply_bytes_max, &mut reply.body).await?;
    Ok((reply, keeps_alive && length != BodyLength::UntilClose))
}

async fn head(connection: &mut Connection) -> Result<(usize, ResponseIndex), AskError> {
    let mut index = ResponseIndex::default();
    let mut seen = 0;
    loop {
        let bytes = connection.buffer.filled();
        match index.parse(bytes, seen, &HeadLimits::default()) {
            Ok(Parsed::Complete(head_bytes)) => return Ok((head_bytes, index)),
            Ok(Parsed::Incomplete) => seen = bytes.len(),
            Err(_) => return Err(AskError::NotHttp),
        }
        if !more(connection).await? {
            return Err(ended());
        }
    }
}

async fn body(
    connection: &mut Connection,
    length: BodyLength,
    bytes_max: usize,
    body: &mut Vec<u8>,
) -> Result<(), AskError> {
    let mut chunked = ChunkedScanner::new();
    loop {
        let bytes = connection.buffer.filled();
        match length {
            BodyLength::None => return Ok(()),
            BodyLength::Length(total) => {
                let total = usize::try_from(total).map_err(|_| AskError::TooLong)?;
                if total > bytes_max {
                    return Err(AskError::TooLong);
                }
                if bytes.len() >= total {
                    body.extend_from_slice(&bytes[..total]);
                    connection.buffer.consume(total);
                    return Ok(());
                }
            }
            BodyLength::UntilClose => {
                body.extend_from_slice(bytes);
                let count = bytes.len();
                connection.buffer.consume(count);
            }
            BodyLength::Chunked => {
                let mut at = 0;
                while at < bytes.len() && !chunked.is_done() {
                    let piece = chunked.next(&bytes[at..]).map_err(|_| AskError::NotHttp)?;
                    match piece {
                        ChunkPiece::Data(count) => {
                            body.extend_from_slice(&bytes[at..at + count]);
                            at += count;
                        }
                        ChunkPiece::End(count) | ChunkPiece::Framing(count) => at += count,
                    }
                }
                connection.buffer.consume(at);
                if chunked.is_done() {
                    return if body.len() > bytes_max { Err(AskError::TooLong) } else { Ok(()) };
                }
            }
        }
        if body.len() > bytes_max {
            return Err(AskError::TooLong);
        }
        if !more(connection).await? {
            return if length == BodyLength::UntilClose { Ok(()) } else { Err(ended()) };
        }
    }
}
