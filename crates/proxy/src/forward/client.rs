//! The client's side of HTTP/1: one request head after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use heddle_http::deadline::Deadline;
use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Output};
use heddle_ir::proxy::Limits;
use heddle_wire::http1::{
    self, BodyLength, HeadError, HeadLimits, Parsed, RequestHead, RequestIndex, ResponseIndex,
};
use tokio::time::Instant;

use crate::forward::answer::Answer;
use crate::forward::exchange::Asked;

/// Indices that a thread keeps for the next heads.
const FREE_MAX: usize = 64;
/// After an answer that came early so much of what the client still sends is read, so that it sees the answer and not a
/// reset: more than what two sockets hold between them.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// And for so long.
const LINGER_MAX: Duration = Duration::from_secs(1);

#[expect(clippy::vec_box, reason = "an index is lent as it is, and large to move")]
mod free {
    use super::{RefCell, RequestIndex, ResponseIndex};

    thread_local! {
        pub(super) static REQUESTS: RefCell<Vec<Box<RequestIndex>>> =
            const { RefCell::new(Vec::new()) };
        pub(super) static RESPONSES: RefCell<Vec<Box<ResponseIndex>>> =
            const { RefCell::new(Vec::new()) };
    }
}

/// The index of a request head, lent by the thread.
pub(crate) struct LentRequestIndex(Option<Box<RequestIndex>>);

/// The index of a response head, lent by the thread.
pub(crate) struct LentResponseIndex(Option<Box<ResponseIndex>>);

macro_rules! lent {
    ($lent:ident, $index:ident, $free:path) => {
        impl $lent {
            pub(crate) fn new(fields_max: usize) -> Self {
                let free = $free.with_borrow_mut(Vec::pop);
                Self(Some(free.unwrap_or_else(|| Box::new($index::with_capacity(fields_max)))))
            }

            pub(crate) fn index(&mut self) -> &mut $index {
                self.0.get_or_insert_default()
            }
        }

        impl Drop for $lent {
            fn drop(&mut self) {
                let Some(index) = self.0.take() else { return };
                let _ = $free.try_with(|free| {
                    let mut free = free.borrow_mut();
                    if free.len() < FREE_MAX {
                        free.push(index);
                    }
                });
            }
        }
    };
}

lent!(LentRequestIndex, RequestIndex, free::REQUESTS);
lent!(LentResponseIndex, ResponseIndex, free::RESPONSES);

/// A connection that a client sends HTTP/1 requests on.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) limits: ClientLimits,
    guard: DrainGuard,
    deadline: Deadline,
    /// When the head that is being read must be whole; none while the connection waits for its first byte.
    head_due: Option<Instant>,
}

/// What a client may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    pub(crate) head: HeadLimits,
    pub(crate) idle_timeout: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) retry_body_bytes_max: usize,
}

impl ClientLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        let head_bytes_max = limits.head_bytes_max as usize;
        Self {
            head: HeadLimits {
                head_bytes_max,
                fields_max: limits.headers_max as usize,
                target_bytes_max: head_bytes_max,
            },
            idle_timeout: limits.idle_timeout,
            head_timeout: limits.head_timeout,
            retry_body_bytes_max: limits.retry_body_bytes_max as usize,
        }
    }
}

/// A request whose head has come; its bytes are in the client's buffer.
pub(crate) struct Request {
    index: LentRequestIndex,
    head_bytes: usize,
    /// When its head was whole.
    pub(crate) started: Instant,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The head is not valid.
    #[error("the request head is not valid")]
    Head(#[from] HeadError),
    /// The head did not come in time.
    #[error("the request head was not complete in time")]
    HeadTimeout,
    /// The connection broke or ended within a head.
    #[error("the connection broke")]
    Connection(#[from] io::Error),
}

impl Request {
    /// The head, over the client's buffer, which must not have been used up.
    pub(crate) fn head<'a>(&'a mut self, client: &'a Connection) -> RequestHead<'a> {
        self.index.index().head(client.buffer.filled(), self.head_bytes)
    }

    /// Bytes of the head.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head_bytes
    }
}

impl Client {
    pub(crate) fn new(connection: Connection, limits: ClientLimits, guard: DrainGuard) -> Self {
        let deadline = Deadline::new(Instant::now() + limits.idle_timeout);
        Self { connection, limits, guard, deadline, head_due: None }
    }

    /// Waits for the next request. None at the end: the client has closed, was idle for too long, or the proxy drains.
    pub(crate) async fn next_request(&mut self) -> Result<Option<Request>, ClientError> {
        let mut seen = 0;
        let mut index: Option<LentRequestIndex> = None;
        let fields_max = self.limits.head.fields_max;
        poll_fn(|cx| {
            loop {
                let skipped = http1::skip_empty_lines(self.connection.buffer.filled());
                if seen == 0 && skipped > 0 {
                    self.connection.buffer.consume(skipped);
                }
                let length = self.connection.buffer.len();
                if length > seen {
                    let lent = index.get_or_insert_with(|| LentRequestIndex::new(fields_max));
                    let bytes = self.connection.buffer.filled();
                    match lent.index().parse(bytes, seen, &self.limits.head) {
                        Ok(Parsed::Complete(head_bytes)) => {
                            let Some(index) = index.take() else { return Poll::Ready(Ok(None)) };
                            self.head_due = None;
                            let started = Instant::now();
                            return Poll::Ready(Ok(Some(Request { index, head_bytes, started })));
                        }
                        Ok(Parsed::Incomplete) => seen = length,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                    self.begin_head();
                } else if length == 0 && self.guard.poll_draining(cx) {
                    return Poll::Ready(Ok(None));
                }
                match self.connection.poll_fill(cx) {
                    // Many peers close TLS without saying so; between requests that harms nobody.
                    Poll::Ready(Ok(0) | Err(_)) if length == 0 => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(0)) => {
                        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                        return Poll::Ready(Err(error.into()));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {
                        if self.deadline.poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                        return Poll::Ready(match self.head_due {
                            Some(_) => Err(ClientError::HeadTimeout),
                            None => Ok(None),
                        });
                    }
                }
            }
        })
        .await
    }

    fn begin_head(&mut self) {
        if self.head_due.is_none() {
            let due = Instant::now() + self.limits.head_timeout;
            self.head_due = Some(due);
            self.deadline.set(due);
        }
    }

    /// Puts the idle timeout off: a request has just ended.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.head_due = None;
        self.deadline.set(now + self.limits.idle_timeout);
    }

    /// Whether the connection is to end after the present request.
    pub(crate) fn is_draining(&self) -> bool {
        self.guard.is_draining()
    }

    /// Answers a request that there is no request of, and closes.
    pub(crate) async fn refuse(&mut self, error: &ClientError) {
        let answer = match error {
            ClientError::Head(error) => Answer::bad_request(error.status()),
            ClientError::HeadTimeout => Answer::bad_request(408),
            ClientError::Connection(_) => return,
        };
        let mut out = Output::new();
        answer.write_http1("GET", false, true, &mut out);
        if self.connection.transport.send_all(&out).await.is_ok() {
            self.linger().await;
        }
    }

    /// Answers the request itself. Answers whether the connection can take another request.
    pub(crate) async fn answer(
        &mut self,
        request: &mut Request,
        answer: &Answer,
    ) -> io::Result<bool> {
        let mut out = Output::new();
        let head = request.head(&self.connection);
        let is_grpc =
            head.values("content-type").any(|value| value.starts_with(b"application/grpc"));
        // A body that has come whole is passed over; what is still to come would be taken for the next request.
        let length = head.body();
        let mut scanner = http1::BodyScanner::new(length);
        let rest = &self.connection.buffer.filled()[request.head_bytes()..];
        let body = scanner.take(rest).ok().filter(|_| scanner.is_done());
        let head = request.head(&self.connection);
        let keep = head.keeps_alive()
            && !self.guard.is_draining()
            && body.is_some()
            && length != BodyLength::UntilClose;
        answer.write_http1(head.method_text(), is_grpc, !keep, &mut out);
        self.connection.transport.send_all(&out).await?;
        if keep {
            self.connection.buffer.consume(request.head_bytes() + body.unwrap_or(0));
        } else {
            self.linger().await;
        }
        Ok(keep)
    }

    /// Answers a request that was on its way already, when nothing of a response has been sent. Answers whether the
    /// connection can take another request.
    pub(crate) async fn answer_instead(
        &mut self,
        asked: Asked,
        answer: &Answer,
        has_whole_body: bool,
    ) -> io::Result<bool> {
        let mut out = Output::new();
        let keep = asked.keep_alive && has_whole_body;
        answer.write_http1(asked.method.as_str(), asked.is_grpc, !keep, &mut out);
        self.connection.transport.send_all(&out).await?;
        if !keep {
            self.linger().await;
        }
        Ok(keep)
    }

    /// Ends the connection after a response: in order, so that a body which lasts until then is known to be whole.
    pub(crate) async fn end(&mut self, has_whole_body: bool) {
        if has_whole_body {
            let finishing = self.connection.transport.finish();
            let _ = tokio::time::timeout(LINGER_MAX, finishing).await;
        } else {
            self.linger().await;
        }
    }

    /// Closes after an answer, in such a way that the client gets to read it: unread bytes would turn the close into a
    /// reset that overtakes the answer.
    pub(crate) async fn linger(&mut self) {
        let drain = async {
            self.connection.transport.finish().await?;
            let mut read = 0;
            while read < LINGER_BYTES_MAX {
                self.connection.buffer.release();
                match self.connection.fill().await? {
                    0 => break,
                    count => read += count,
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER_MAX, Box::pin(drain)).await;
    }
}
