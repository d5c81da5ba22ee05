//! The body of an HTTP/2 request on its way up.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use heddle_wire::grpc::MessageCounter;
use http::HeaderMap;

use super::{Broken, RequestSink};
use crate::admission::http2::Received;
use crate::forward::copies::{BODY_BYTES_MAX, Copies};
use crate::forward::upgraded::Http1Client;
use crate::forward::watch::Watch;

/// A request body on its way, and what has been kept of it for another try.
pub(crate) struct Upload<'c> {
    body: Source<'c>,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    keep_bytes_max: usize,
    /// Not all that was sent is kept.
    dropped: bool,
    /// All data have come.
    ended: Option<End>,
    /// What of `kept` the present try has sent.
    replayed: usize,
    /// A piece that waits for the sink's window.
    waiting: Option<Bytes>,
    pub(super) finished: bool,
    pub(crate) bytes: u64,
    /// The messages of a gRPC call.
    pub(crate) messages: Option<MessageCounter>,
    /// Those of its response.
    pub(crate) response_messages: u64,
    pub(super) watch: Watch,
    tee: Option<Tee>,
}

/// Where a body comes from.
enum Source<'c> {
    Http2(RecvStream),
    Http1(Http1Client<'c>),
}

/// A body as it passed, for copies of its request.
struct Tee {
    copies: Rc<Copies>,
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// The end of a body.
enum End {
    Plain,
    Trailers(HeaderMap),
}

impl<'c> Upload<'c> {
    pub(crate) fn new(body: Received, keep_bytes_max: usize, is_grpc: bool) -> Self {
        let Received { stream, front } = body;
        let is_end = stream.is_end_stream();
        Self::of(Source::Http2(stream), is_end, front, keep_bytes_max, is_grpc)
    }

    /// The body of a request that came over HTTP/1.
    pub(crate) fn of_http1(client: Http1Client<'c>, keep_bytes_max: usize, is_grpc: bool) -> Self {
        let is_end = client.is_end();
        Self::of(Source::Http1(client), is_end, Vec::new(), keep_bytes_max, is_grpc)
    }

    fn of(
        body: Source<'c>,
        is_end: bool,
        front: Vec<Bytes>,
        keep_bytes_max: usize,
        is_grpc: bool,
    ) -> Self {
        let ended = is_end.then_some(End::Plain);
        let front_bytes = front.iter().map(Bytes::len).sum();
        let mut messages = is_grpc.then(MessageCounter::default);
        if let Some(messages) = &mut messages {
            for piece in &front {
                messages.take(piece);
            }
        }
        Self {
            body,
            kept: front,
            kept_bytes: front_bytes,
            keep_bytes_max,
            dropped: false,
            ended,
            replayed: 0,
            waiting: None,
            finished: false,
            bytes: front_bytes as u64,
            messages,
            response_messages: 0,
            watch: Watch::default(),
            tee: None,
        }
    }

    /// Sends copies of the request once its body is known whole.
    pub(super) fn copy_to(&mut self, copies: &Rc<Copies>) {
        self.tee = Some(Tee { copies: copies.clone(), pieces: Vec::new(), bytes: 0 });
        self.send_copies();
    }

    fn send_copies(&mut self) {
        let Some(end) = &self.ended else { return };
        let Some(tee) = self.tee.take() else { return };
        let trailers = match end {
            End::Plain => None,
            End::Trailers(trailers) => Some(trailers),
        };
        tee.copies.send(&tee.pieces, trailers);
    }

    fn note_piece(&mut self, piece: &Bytes) {
        let Some(tee) = &mut self.tee else { return };
        tee.bytes += piece.len();
        if tee.bytes > BODY_BYTES_MAX {
            self.tee = None;
        } else {
            tee.pieces.push(piece.clone());
        }
    }

    /// Whether there is no body at all.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.ended, Some(End::Plain)) && self.kept.is_empty() && !self.dropped
    }

    pub(super) fn restart(&mut self) -> bool {
        if !self.dropped {
            self.replayed = 0;
            self.waiting = None;
            self.finished = false;
            if let Some(progress) = self.watch.progress() {
                progress.restart();
            }
        }
        !self.dropped
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
        if let Some(progress) = self.watch.progress() {
            progress.note();
            progress.note_request_end();
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut RequestSink,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.waiting.is_some() {
                ready!(sink.poll_piece(cx, &mut self.waiting))?;
                continue;
            }
            if let Some(piece) = self.kept.get(self.replayed) {
                self.waiting = Some(piece.clone());
                self.replayed += 1;
                continue;
            }
            if let Some(end) = &self.ended {
                sink.end(match end {
                    End::Trailers(trailers) => Some(trailers),
                    End::Plain => None,
                })?;
                self.finish();
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    if let Some(progress) = self.watch.progress() {
                        progress.note();
                    }
                    // An empty piece only carried the end, for which no window is waited.
                    if !piece.is_empty() {
                        self.bytes += piece.len() as u64;
                        self.messages.iter_mut().for_each(|messages| messages.take(&piece));
                        self.keep(&piece);
                        self.note_piece(&piece);
                        self.waiting = Some(piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(Broken::Source)?;
                    self.ended = Some(trailers.map_or(End::Plain, End::Trailers));
                    self.send_copies();
                }
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes += piece.len();
        if self.dropped || self.kept_bytes > self.keep_bytes_max {
            self.dropped = true;
            self.kept = Vec::new();
            self.replayed = 0;
        } else {
            self.kept.push(piece.clone());
            self.replayed = self.kept.len();
        }
    }

    /// Keeps no more of it.
    pub(super) fn forget(&mut self) {
        self.keep_bytes_max = 0;
    }
}

impl Source<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        match self {
            Self::Http2(body) => {
                let piece = ready!(body.poll_data(cx));
                if let Some(Ok(piece)) = &piece {
                    let _ = body.flow_control().release_capacity(piece.len());
                }
                Poll::Ready(piece)
            }
            Self::Http1(client) => client.poll_data(cx),
        }
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        match self {
            Self::Http2(body) => body.poll_trailers(cx),
            Self::Http1(_) => Poll::Ready(Ok(None)),
        }
    }
}
