//! What keeps an HTTP/2 connection up: it moves the connection's frames, pings where that is configured, and retires the
//! connection when it has been idle for too long or is too old. A retired connection takes no further request, ends those
//! that it has and then says that it goes away (GOAWAY).

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Ping, PingPong};
use heddle_http::Connection;
use heddle_http::deadline::Deadline;
use heddle_ir::destination::{ConnectionPool, Http2Keepalive};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Usage;
use crate::upstream::UpstreamEndpoint;

/// A connection and what bounds it.
pub(super) struct Upkeep {
    connection: h2::client::Connection<Connection, Bytes>,
    usage: Rc<Usage>,
    endpoint: Weak<UpstreamEndpoint>,
    idle_timeout: Option<Duration>,
    age_max: Option<Duration>,
    pings: Option<Pings>,
}

impl Upkeep {
    pub(super) fn new(
        mut connection: h2::client::Connection<Connection, Bytes>,
        pool: &ConnectionPool,
        usage: Rc<Usage>,
        endpoint: Weak<UpstreamEndpoint>,
    ) -> Self {
        let pings = pool.http2_keepalive.and_then(|settings| {
            connection.ping_pong().map(|pinging| Pings::new(pinging, settings))
        });
        let (idle_timeout, age_max) = (pool.http_idle_timeout, pool.connection_duration_max);
        Self { connection, usage, endpoint, idle_timeout, age_max, pings }
    }

    /// Runs until the connection has ended. Requests on it see how it did.
    pub(super) async fn run(mut self) {
        let mut deadline = self.due().map(Deadline::new);
        poll_fn(|cx| {
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.pings.as_mut().is_some_and(|pings| pings.poll_lost(cx)) {
                // Nobody is there any more: what is under way ends with the connection.
                return Poll::Ready(());
            }
            while let Some(own) = &mut deadline
                && own.poll(cx).is_ready()
            {
                match self.due() {
                    Some(due) if due > Instant::now() => own.set(due),
                    Some(_) | None => {
                        deadline = None;
                        self.retire();
                    }
                }
            }
            Poll::Pending
        })
        .await;
        self.retire();
    }

    /// When it is to be looked at: it will have been idle for too long, or be too old, if nothing happens before.
    fn due(&self) -> Option<Instant> {
        let rests_since = match self.usage.active.get() {
            0 => self.usage.rests_since.get(),
            _ => Instant::now(),
        };
        let idle = self.idle_timeout.map(|timeout| rests_since + timeout);
        let old = self.age_max.map(|age| self.usage.opened + age);
        idle.into_iter().chain(old).min()
    }

    /// Takes no further request. The connection ends by itself once nobody can send on it any more.
    fn retire(&self) {
        self.usage.alive.set(false);
        let Some(endpoint) = self.endpoint.upgrade() else { return };
        endpoint.http2.borrow_mut().retain(|shared| !Rc::ptr_eq(&shared.usage, &self.usage));
    }
}

/// Pings, and whether they are answered.
struct Pings {
    pinging: PingPong,
    settings: Http2Keepalive,
    /// A ping was sent and is not answered.
    waits: bool,
    timer: Pin<Box<Sleep>>,
}

impl Pings {
    fn new(pinging: PingPong, settings: Http2Keepalive) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + settings.interval));
        Self { pinging, settings, waits: false, timer }
    }

    /// Sends a ping when one is due. True: the last one was not answered in time.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.waits {
                match self.pinging.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.waits = false;
                        self.timer.as_mut().reset(Instant::now() + self.settings.interval);
                    }
                    // The connection itself tells how it ended.
                    Poll::Ready(Err(_)) => return false,
                    Poll::Pending => {}
                }
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if self.waits || self.pinging.send_ping(Ping::opaque()).is_err() {
                return true;
            }
            self.waits = true;
            self.timer.as_mut().reset(Instant::now() + self.settings.timeout);
        }
    }
}
