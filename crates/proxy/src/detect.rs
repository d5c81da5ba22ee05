//! What a connection speaks: told from its first bytes, of whichever side speaks first.
//!
//! On a port that declares its protocol nothing is waited for. On an undeclared one the server is connected to while
//! the client is listened to, so that a server that speaks first (MySQL, SMTP) is heard without delay; the
//! verdict is remembered for the port, so that clients that speak first do not cost a connection each time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use heddle_http::Connection;
use heddle_http::drain::DrainGuard;
use heddle_wire::sniff::{ClientHello, Sniffed, read_client_hello, sniff};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::kept;

/// Verdicts that a thread remembers; beyond, it begins anew.
const REMEMBERED_MAX: usize = 1024;

/// What the client said first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    /// The client closed without a word.
    Ended,
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else, or too little for too long.
    Opaque,
    /// TLS.
    Tls(ClientHello),
}

/// Which of two spoke first, and what.
pub(crate) enum First<O, E> {
    /// The client; with the connection to the server if there is one already.
    Client(Spoken, Option<O>),
    /// No connection to the server could be had while the client was silent.
    Failed(E),
    /// The server.
    Server(O),
}

/// How long is listened.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    /// A verdict about bytes that have come takes no longer.
    pub(crate) verdict: Duration,
    /// But a TLS hello, which is told by its first byte, may take so long to come whole.
    pub(crate) hello: Duration,
    /// A connection on which nobody says anything is closed after this.
    pub(crate) idle: Duration,
    /// And when the proxy drains.
    pub(crate) guard: &'a DrainGuard,
}

/// Tells what the client says first.
pub(crate) async fn client_speaks(client: &mut Connection, patience: Patience<'_>) -> Spoken {
    let mut listening = Listening::default();
    let mut waiting = Waiting::new(patience);
    poll_fn(|cx| {
        if let Poll::Ready(spoken) = listening.poll(cx, client) {
            return Poll::Ready(spoken);
        }
        waiting.poll(cx, client.buffer.filled())
    })
    .await
}

/// The end of patience.
struct Waiting<'a> {
    patience: Patience<'a>,
    timer: Pin<Box<Sleep>>,
    heard: bool,
}

impl<'a> Waiting<'a> {
    fn new(patience: Patience<'a>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + patience.idle));
        Self { patience, timer, heard: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>, heard: &[u8]) -> Poll<Spoken> {
        let is_silent = heard.is_empty();
        if is_silent && self.patience.guard.poll_draining(cx) {
            return Poll::Ready(Spoken::Ended);
        }
        if !is_silent && !self.heard {
            self.heard = true;
            let is_tls = heard.first() == Some(&0x16);
            let wait = if is_tls { self.patience.hello } else { self.patience.verdict };
            self.timer.as_mut().reset(Instant::now() + wait);
        }
        let spoken = if is_silent { Spoken::Ended } else { Spoken::Opaque };
        self.timer.as_mut().poll(cx).map(|()| spoken)
    }
}

/// Listens to the client while the server is connected to, and to the server then.
pub(crate) async fn first_of_both<O, E>(
    client: &mut Connection,
    opening: impl Future<Output = Result<O, E>>,
    server_of: impl Fn(&mut O) -> &mut Connection,
    patience: Patience<'_>,
) -> First<O, E> {
    // Most clients speak at once; what they said is there after one turn of the event loop.
    tokio::task::yield_now().await;
    let mut opening = pin!(opening);
    let mut opened: Option<O> = None;
    let mut listening = Listening::default();
    let mut waiting = Waiting::new(patience);
    poll_fn(|cx| {
        if let Poll::Ready(spoken) = listening.poll(cx, client) {
            return Poll::Ready(First::Client(spoken, opened.take()));
        }
        let is_silent = client.buffer.is_empty();
        if let Poll::Ready(spoken) = waiting.poll(cx, client.buffer.filled()) {
            return Poll::Ready(First::Client(spoken, opened.take()));
        }
        if !is_silent {
            return Poll::Pending;
        }
        if opened.is_none() {
            match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(server)) => opened = Some(server),
                Poll::Ready(Err(error)) => return Poll::Ready(First::Failed(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(mut server) = opened.take() else { return Poll::Pending };
        // Its end is a word as well: the copy passes it on.
        if server_of(&mut server).poll_fill(cx).is_ready() {
            return Poll::Ready(First::Server(server));
        }
        opened = Some(server);
        Poll::Pending
    })
    .await
}

/// The state of listening to a client.
#[derive(Default)]
struct Listening {
    /// Bytes that there is no verdict about.
    seen: usize,
}

impl Listening {
    fn poll(&mut self, cx: &mut Context<'_>, client: &mut Connection) -> Poll<Spoken> {
        loop {
            let filled = client.buffer.filled();
            if filled.len() > self.seen {
                self.seen = filled.len();
                if let Some(spoken) = verdict(filled) {
                    return Poll::Ready(spoken);
                }
            }
            match client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) if self.seen == 0 => return Poll::Ready(Spoken::Ended),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Spoken::Opaque),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn verdict(prefix: &[u8]) -> Option<Spoken> {
    match sniff(prefix) {
        Sniffed::Http1 => Some(Spoken::Http1),
        Sniffed::Http2 => Some(Spoken::Http2),
        Sniffed::NeedMore => None,
        Sniffed::Opaque => Some(Spoken::Opaque),
        Sniffed::Tls => match read_client_hello(prefix) {
            Ok(Some(hello)) => Some(Spoken::Tls(hello)),
            Ok(None) => None,
            Err(_) => Some(Spoken::Opaque),
        },
    }
}

/// Whether the client speaks first on an undeclared port, as earlier connections showed.
#[derive(Default)]
pub(crate) struct Remembered(RefCell<HashMap<SocketAddr, bool>>);

impl Remembered {
    /// None when no connection has shown it yet.
    pub(crate) fn client_first(&self, destination: SocketAddr) -> Option<bool> {
        self.0.borrow().get(&destination).copied()
    }

    pub(crate) fn note(&self, destination: SocketAddr, client_first: bool) {
        kept::put(&mut self.0.borrow_mut(), REMEMBERED_MAX, destination, client_first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_verdicts_are_remembered() {
        let remembered = Remembered::default();
        let of = |port: usize| SocketAddr::from(([10, 0, 0, 1], u16::try_from(port).unwrap()));
        for port in 0..=REMEMBERED_MAX {
            remembered.note(of(port), true);
            assert!(remembered.0.borrow().len() <= REMEMBERED_MAX);
            assert_eq!(remembered.client_first(of(port)), Some(true));
        }
        assert_eq!(remembered.client_first(of(0)), None);
    }
}
