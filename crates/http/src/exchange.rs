//! One HTTP/1 request and its response, in both directions at once, in one task.
//!
//! The caller parses heads and says what they become; here the bytes move. A request whose body has come whole
//! costs one write; the two directions are then one after the other. A body that is still coming is copied
//! while the response is awaited, since a server may answer before it has read everything (and says
//! `100 Continue` on the way).

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use heddle_wire::http1::{BodyError, BodyLength, BodyScanner};

use crate::progress::Progress;
use crate::{BUFFER_BYTES, Connection, Output, Transport};

/// Reads that fill the whole buffer, before a larger one is taken.
const FULL_READS_MAX: u8 = 4;
/// What a client may send ahead while the response to its request is awaited (pipelining); what is more waits in
/// the socket.
const PIPELINED_BYTES_MAX: usize = BUFFER_BYTES;

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The framing of the body is not valid.
    #[error("the body is not framed validly")]
    Body(#[from] BodyError),
    /// The side that the message comes from broke.
    #[error("reading failed")]
    Read(#[source] io::Error),
    /// The side that the message comes from ended before the message did.
    #[error("the connection ended within a message")]
    Truncated,
    /// The side that the message goes to broke.
    #[error("writing failed")]
    Write(#[source] io::Error),
}

/// One message on its way from a connection to another: its head, already rewritten, and its body as it comes.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact of the message")]
pub struct Pump {
    /// The head and what of the body goes with it; with `keep_bytes_max` everything, for another try.
    staged: Output,
    sent: usize,
    scanner: BodyScanner,
    /// So many bytes at the front of the source's buffer belong to the body.
    ready: usize,
    /// The message is kept for another try as long as it is no longer than this; 0: not.
    keep_bytes_max: usize,
    /// Something of the present try has been written.
    sent_any: bool,
    /// What was written is not kept any more, so that there can be no other try.
    dropped: bool,
    source_ended: bool,
    finished: bool,
    full_reads: u8,
    body_bytes: u64,
    /// Who wants to know what moves, and whether this is the request; almost always nobody.
    progress: Option<(Rc<Progress>, bool)>,
    /// The body as it passed, for whoever wants a copy; almost always nobody.
    copy: Option<Box<BodyCopy>>,
}

/// A copy of a body, framing included.
#[derive(Debug)]
struct BodyCopy {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// It was longer.
    over: bool,
}

impl BodyCopy {
    fn add(&mut self, bytes: &[u8]) {
        self.over |= self.bytes.len() + bytes.len() > self.bytes_max;
        if self.over {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl Pump {
    /// A message with this rewritten head and a body of this length, the first bytes of which may be in the
    /// buffer of `source`: they leave together with the head.
    pub fn new(
        head: Output,
        body: BodyLength,
        source: &mut Connection,
        keep_bytes_max: usize,
    ) -> Result<Self, BodyError> {
        let mut pump = Self {
            staged: head,
            sent: 0,
            scanner: BodyScanner::new(body),
            ready: 0,
            keep_bytes_max,
            sent_any: false,
            dropped: false,
            source_ended: false,
            finished: false,
            full_reads: 0,
            body_bytes: 0,
            progress: None,
            copy: None,
        };
        pump.stage(source)?;
        Ok(pump)
    }

    /// Notes what moves from now on.
    pub fn watch(&mut self, progress: &Rc<Progress>, is_request: bool) {
        self.progress = Some((progress.clone(), is_request));
    }

    /// Copies the body from now on, up to so many bytes. `head_bytes` is the length of the head that the message began with;
    /// to be asked for before anything is sent.
    pub fn copy_body(&mut self, head_bytes: usize, bytes_max: usize) {
        let mut copy = Box::new(BodyCopy { bytes: Vec::new(), bytes_max, over: false });
        copy.add(self.staged.get(head_bytes..).unwrap_or_default());
        self.copy = Some(copy);
    }

    /// The copy of the body; none where it was not asked for, is taken already, is too long or has not come to its end.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        if !self.has_whole_body() || self.ready > 0 {
            return None;
        }
        self.copy.take().filter(|copy| !copy.over).map(|copy| copy.bytes)
    }

    /// Puts what the source's buffer has of the body behind the head.
    fn stage(&mut self, source: &mut Connection) -> Result<(), BodyError> {
        let count = self.scanner.take(source.buffer.filled())?;
        self.body_bytes += count as u64;
        self.staged.extend_from_slice(&source.buffer.filled()[..count]);
        if let Some(copy) = &mut self.copy {
            copy.add(&source.buffer.filled()[..count]);
        }
        source.buffer.consume(count);
        if self.keep_bytes_max > 0 && self.staged.len() > self.keep_bytes_max {
            self.keep_bytes_max = 0;
        }
        Ok(())
    }

    /// Whether everything has been read and written.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the body has been read to its end.
    pub fn has_whole_body(&self) -> bool {
        self.source_ended || self.scanner.is_done()
    }

    /// Bytes of the body read so far, framing included.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether no byte has been written, of the present try.
    pub fn is_unsent(&self) -> bool {
        !self.sent_any
    }

    /// Begins anew, towards another connection. False where the message has not been kept.
    #[must_use]
    pub fn restart(&mut self) -> bool {
        if !self.dropped {
            self.sent = 0;
            self.sent_any = false;
            self.finished = false;
            if let Some((progress, _)) = &self.progress {
                progress.restart();
            }
        }
        !self.dropped
    }

    /// Gives up what is kept for another try.
    pub fn forget(&mut self) {
        self.keep_bytes_max = 0;
    }

    /// Moves what can be moved. Ready when the whole message has been written. Polled again after an error it
    /// gives another error.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Connection,
        sink: &mut Transport,
    ) -> Poll<Result<(), PumpError>> {
        if self.progress.is_none() {
            return self.poll_move(cx, source, sink);
        }
        let before = (self.sent, self.ready, self.body_bytes, self.finished);
        let outcome = self.poll_move(cx, source, sink);
        if let Some((progress, is_request)) = &self.progress
            && before != (self.sent, self.ready, self.body_bytes, self.finished)
        {
            progress.note();
            if *is_request && self.finished {
                progress.note_request_end();
            }
        }
        outcome
    }

    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Connection,
        sink: &mut Transport,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.sent < self.staged.len() {
                let rest = &self.staged[self.sent..];
                self.sent += ready!(sink.poll_send(cx, rest)).map_err(PumpError::Write)?;
                self.sent_any = true;
                continue;
            }
            if self.keep_bytes_max == 0 && !self.staged.is_empty() {
                self.staged.clear();
                self.sent = 0;
                self.dropped = true;
            }
            if self.ready > 0 {
                let body = &source.buffer.filled()[..self.ready];
                let count = ready!(sink.poll_send(cx, body)).map_err(PumpError::Write)?;
                if let Some(copy) = &mut self.copy {
                    copy.add(&body[..count]);
                }
                source.buffer.consume(count);
                self.ready -= count;
                continue;
            }
            if self.has_whole_body() {
                ready!(sink.poll_send_rest(cx)).map_err(PumpError::Write)?;
                self.finished = true;
                continue;
            }
            ready!(self.poll_read(cx, source, sink))?;
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Connection,
        sink: &mut Transport,
    ) -> Poll<Result<(), PumpError>> {
        // What the sink could not send yet goes on while nothing comes from the source.
        if let Poll::Ready(Err(error)) = sink.poll_send_rest(cx) {
            return Poll::Ready(Err(PumpError::Write(error)));
        }
        let count = ready!(source.poll_fill(cx)).map_err(PumpError::Read)?;
        if count == 0 {
            if !self.scanner.may_end_with_connection() {
                return Poll::Ready(Err(PumpError::Truncated));
            }
            self.source_ended = true;
            return Poll::Ready(Ok(()));
        }
        if self.keep_bytes_max > 0 {
            self.stage(source)?;
            return Poll::Ready(Ok(()));
        }
        let was_full = source.buffer.len() >= source.buffer.capacity();
        self.ready = self.scanner.take(source.buffer.filled())?;
        self.body_bytes += self.ready as u64;
        self.full_reads = if was_full { self.full_reads.saturating_add(1) } else { 0 };
        if self.full_reads >= FULL_READS_MAX {
            source.buffer.enlarge();
        }
        Poll::Ready(Ok(()))
    }
}

/// Why no response came.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The client broke, went away or sent something that is not a valid body.
    #[error("the request was not completed by the client")]
    Client(#[source] PumpError),
    /// The client closed its connection while it was waiting.
    #[error("the client closed the connection before the response")]
    ClientGone,
    /// The server closed the connection, in order, before the response.
    #[error("the server closed the connection before the response")]
    ServerEnded,
    /// The server's connection broke before the response.
    #[error("the connection to the server broke before the response")]
    Server(#[source] io::Error),
}

/// Sends the request, or what is left of it, and waits until something of the response has come into the server's
/// buffer.
pub async fn until_response(
    request: &mut Pump,
    client: &mut Connection,
    server: &mut Connection,
) -> Result<(), ExchangeError> {
    let mut write_error = None;
    let mut watch_client = true;
    poll_fn(|cx| {
        if !request.is_finished() && write_error.is_none() {
            match request.poll(cx, client, &mut server.transport) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                // A server that refuses a body closes; what it said before may still be read.
                Poll::Ready(Err(PumpError::Write(error))) => write_error = Some(error),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ExchangeError::Client(error))),
            }
        }
        match server.poll_fill(cx) {
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(match write_error.take() {
                    Some(error) => ExchangeError::Server(error),
                    None => ExchangeError::ServerEnded,
                }));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(ExchangeError::Server(error))),
            Poll::Pending => {}
        }
        if request.is_finished() && watch_client {
            ready!(poll_client_gone(cx, client, &mut watch_client));
            return Poll::Ready(Err(ExchangeError::ClientGone));
        }
        Poll::Pending
    })
    .await
}

/// Ready when the client has closed. What it sends ahead is read into its buffer, up to a bound; then it is not
/// watched any longer.
fn poll_client_gone(cx: &mut Context<'_>, client: &mut Connection, watch: &mut bool) -> Poll<()> {
    loop {
        if client.buffer.len() >= PIPELINED_BYTES_MAX {
            *watch = false;
            return Poll::Pending;
        }
        match ready!(client.poll_fill(cx)) {
            Ok(0) | Err(_) => return Poll::Ready(()),
            Ok(_) => {}
        }
    }
}

/// How an exchange ended that got as far as a response head.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The client's connection broke, or it went away.
    #[error("the response could not be delivered to the client")]
    Client(#[source] PumpError),
    /// The server's connection broke or ended within the response, or the response is not valid.
    #[error("the server did not complete the response")]
    Server(#[source] PumpError),
}

/// Delivers the response, while the rest of the request is sent. Ends when the response has been delivered, be
/// the request complete or not.
pub async fn deliver_response(
    request: &mut Pump,
    response: &mut Pump,
    client: &mut Connection,
    server: &mut Connection,
) -> Result<(), ResponseError> {
    let mut upload = !request.is_finished();
    poll_fn(|cx| {
        if upload {
            // The response says more than an error on the way up; it is delivered in any case.
            upload = request.poll(cx, client, &mut server.transport).is_pending();
        }
        match ready!(response.poll(cx, server, &mut client.transport)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error @ PumpError::Write(_)) => Poll::Ready(Err(ResponseError::Client(error))),
            Err(error) => Poll::Ready(Err(ResponseError::Server(error))),
        }
    })
    .await
}
