//! Asking over HTTP/2.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::{AskError, Asking, Place, Reply, pick};
use crate::forward::http2_client;
use crate::upstream::{self, UpstreamProtocol};
use crate::worker::Worker;

pub(super) async fn ask(
    worker: &Rc<Worker>,
    place: &Place,
    asking: &Asking<'_>,
) -> Result<Reply, AskError> {
    let target = pick(worker, &place.state)?;
    let endpoint = upstream::endpoint_of(worker, &place.state, &target, UpstreamProtocol::Http2)?;
    let shared = http2_client::connect(worker, &place.state, &endpoint, &place.permit).await?;
    let request = written(asking)?;
    let mut sender = shared.sender.clone().ready().await?;
    let (response, mut sink) = sender.send_request(request, asking.body.is_empty())?;
    let mut body = asking.body.clone();
    while !body.is_empty() {
        sink.reserve_capacity(body.len());
        let capacity = std::future::poll_fn(|cx| sink.poll_capacity(cx)).await;
        let capacity = capacity.ok_or(AskError::NotHttp)??;
        let piece = body.split_to(capacity.min(body.len()));
        sink.send_data(piece, body.is_empty())?;
    }
    let (head, mut stream) = response.await?.into_parts();
    let mut reply = Reply { status: head.status.as_u16(), ..Reply::default() };
    add(&head.headers, &mut reply.headers);
    while let Some(piece) = stream.data().await {
        let piece: Bytes = piece?;
        let _ = stream.flow_control().release_capacity(piece.len());
        if reply.body.len() + piece.len() > asking.reply_bytes_max {
            return Err(AskError::TooLong);
        }
        reply.body.extend_from_slice(&piece);
    }
    if let Some(trailers) = stream.trailers().await? {
        add(&trailers, &mut reply.headers);
    }
    Ok(reply)
}

fn add(map: &HeaderMap, headers: &mut Vec<(String, Vec<u8>)>) {
    headers.extend(
        map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())),
    );
}

fn written(asking: &Asking<'_>) -> Result<Request<()>, AskError> {
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(asking.authority)
        .path_and_query(asking.target)
        .build()
        .map_err(|_| AskError::Unwritable)?;
    let mut request = Request::builder()
        .method(asking.method)
        .uri(uri)
        .body(())
        .map_err(|_| AskError::Unwritable)?;
    for (name, value) in &asking.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| AskError::Unwritable)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| AskError::Unwritable)?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}
