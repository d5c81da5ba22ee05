//! The endpoint's side of a request that came over HTTP/2, which may be of either version.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use heddle_authz::Permit;
use heddle_balance::Observation;
use http::{HeaderMap, Request};

use crate::forward::attempts::{Decided, Ended};
use crate::forward::bridge::Bridge;
use crate::forward::http2_attempts::{Broken, Failure, poll_send, reset};
use crate::forward::http2_client::{self, Place};
use crate::forward::retries::Retries;
use crate::forward::watch::within;
use crate::upstream::{self, Target, UpstreamProtocol};

/// One try that is under way.
pub(super) struct Attempt {
    pub(super) _place: Option<Place>,
    pub(super) sink: RequestSink,
    pub(super) response: ResponseSource,
}

/// Where a request's body goes.
pub(super) enum RequestSink {
    Http2(SendStream<Bytes>),
    Http1(Bridge),
}

impl RequestSink {
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Option<Bytes>,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Self::Http2(sink) => poll_send(cx, sink, waiting).map_err(|_| Broken::Sink),
            Self::Http1(bridge) => bridge.poll_piece(cx, waiting).map_err(|_| Broken::Sink),
        }
    }

    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        let sent = match (self, trailers) {
            (Self::Http2(sink), Some(trailers)) => sink.send_trailers(trailers.clone()),
            (Self::Http2(sink), None) => sink.send_data(Bytes::new(), true),
            (Self::Http1(bridge), trailers) => {
                bridge.end(trailers);
                Ok(())
            }
        };
        sent.map_err(|_| Broken::Sink)
    }

    /// Gives the request up.
    pub(super) fn cancel(&mut self) {
        match self {
            Self::Http2(sink) => sink.send_reset(Reason::CANCEL),
            Self::Http1(bridge) => bridge.cancel(),
        }
    }
}

/// Where a response comes from.
pub(super) enum ResponseSource {
    Http2(ResponseFuture),
    Http1(Bridge),
}

/// Where its body comes from.
pub(super) enum ResponseBody {
    Http2(RecvStream),
    /// `true`: there is none.
    Http1(Bridge, bool),
}

impl ResponseSource {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(http::response::Parts, ResponseBody), Failure>> {
        match self {
            Self::Http2(response) => {
                let response = ready!(pin!(response).poll(cx));
                let response = response.map_err(|error| reset(&error, true))?;
                let (head, body) = response.into_parts();
                Poll::Ready(Ok((head, ResponseBody::Http2(body))))
            }
            Self::Http1(bridge) => {
                let response = ready!(bridge.poll_response(cx));
                let refused = bridge.was_stale();
                let response = response.map_err(|_| Failure::Reset { refused, sent: !refused });
                let (response, ends) = response?;
                let (head, ()) = response.into_parts();
                Poll::Ready(Ok((head, ResponseBody::Http1(bridge.clone(), ends))))
            }
        }
    }
}

impl ResponseBody {
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Http2(body) => body.is_end_stream(),
            Self::Http1(_, ends) => *ends,
        }
    }

    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        match self {
            Self::Http2(body) => {
                let piece = ready!(body.poll_data(cx));
                if let Some(Ok(piece)) = &piece {
                    let _ = body.flow_control().release_capacity(piece.len());
                }
                Poll::Ready(piece)
            }
            Self::Http1(bridge, _) => {
                let piece = ready!(bridge.poll_data(cx));
                Poll::Ready(piece.map(|piece| piece.map_err(|_| Reason::INTERNAL_ERROR.into())))
            }
        }
    }

    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        match self {
            Self::Http2(body) => body.poll_trailers(cx),
            Self::Http1(bridge, _) => Poll::Ready(Ok(bridge.trailers())),
        }
    }
}

/// Sends the head over HTTP/2.
pub(super) async fn begin_http2(
    retries: &Retries<'_>,
    target: &Target,
    permit: &Permit,
    request: &Request<()>,
    is_empty: bool,
    ended: &mut Ended,
) -> Result<Attempt, Failure> {
    let Decided { worker, state, extra, .. } = *retries.decided;
    let endpoint =
        upstream::endpoint_for(worker, state, target, UpstreamProtocol::Http2, extra.client)
            .map_err(Failure::Upstream)?;
    ended.mutual_tls = endpoint.is_mutual_tls();
    ended.endpoint = Some(endpoint.clone());
    let connecting = http2_client::connect(worker, state, &endpoint, permit);
    let mut place = match within(extra.standing, retries.due(), connecting).await {
        Ok(place) => place.map_err(Failure::Upstream)?,
        Err(why) => return Err(Failure::CutShort(why)),
    };
    retries.observe(target, Observation::Connected);
    poll_fn(|cx| place.sender.poll_ready(cx)).await.map_err(|error| reset(&error, false))?;
    let (response, sink) = place
        .sender
        .send_request(request.clone(), is_empty)
        .map_err(|error| reset(&error, false))?;
    let (sink, response) = (RequestSink::Http2(sink), ResponseSource::Http2(response));
    Ok(Attempt { _place: Some(place), sink, response })
}

/// Sends the head over HTTP/1.
pub(super) async fn begin_http1(
    retries: &Retries<'_>,
    target: &Target,
    permit: &Permit,
    request: &Request<()>,
    is_empty: bool,
    ended: &mut Ended,
) -> Result<Attempt, Failure> {
    let Decided { worker, state, extra, .. } = *retries.decided;
    let endpoint =
        upstream::endpoint_for(worker, state, target, UpstreamProtocol::Http1, extra.client)
            .map_err(Failure::Upstream)?;
    ended.mutual_tls = endpoint.is_mutual_tls();
    ended.endpoint = Some(endpoint.clone());
    let connecting = Box::pin(upstream::connect_http1(worker, state, &endpoint, permit));
    let upstream = match within(extra.standing, retries.due(), connecting).await {
        Ok(upstream) => upstream.map_err(Failure::Upstream)?,
        Err(why) => return Err(Failure::CutShort(why)),
    };
    retries.observe(target, Observation::Connected);
    let bridge = Bridge::begin(upstream, state.clone(), endpoint, request, is_empty);
    let response = ResponseSource::Http1(bridge.clone());
    Ok(Attempt { _place: None, sink: RequestSink::Http1(bridge), response })
}
