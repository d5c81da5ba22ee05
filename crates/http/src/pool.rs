//! Connections to endpoints that are kept for the next request.
//!
//! A pool belongs to one endpoint, one protocol and one generation of TLS configuration, and to one thread.
//! While a connection is idle, the thread's [`Keeper`] is woken when its peer closes it, and drops it at once;
//! nobody finds out by failing. Idle connections cost no timer of their own.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::Connection;

/// Idle connections that one pool keeps at most.
const IDLE_MAX: usize = 4096;

/// What a pool keeps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolLimits {
    /// A connection is closed when it has been idle for so long; none: never.
    pub idle_timeout: Option<Duration>,
    /// Requests on one connection; 0: unlimited.
    pub requests_max: u32,
    /// A connection is not used again when it is older than this; none: however old.
    pub age_max: Option<Duration>,
}

/// A connection to an endpoint. `G` is whatever must live as long as the connection does, as the unit of a limit.
#[derive(Debug)]
pub struct Upstream<G> {
    /// The connection.
    pub connection: Connection,
    /// Requests sent on it, the present one included.
    pub requests: u32,
    opened: Instant,
    _guard: G,
}

impl<G> Upstream<G> {
    /// A connection that has just been opened, for its first request.
    pub fn new(connection: Connection, guard: G) -> Self {
        Self { connection, requests: 1, opened: Instant::now(), _guard: guard }
    }

    /// Whether another request went over it before the present one.
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }
}

struct Idle<G> {
    upstream: Upstream<G>,
    since: Instant,
}

/// The idle connections to one endpoint.
pub struct EndpointPool<G> {
    keeper: Rc<Keeper>,
    limits: PoolLimits,
    idle: RefCell<Vec<Idle<G>>>,
    evicted: Cell<bool>,
}

impl<G: 'static> EndpointPool<G> {
    /// A pool that `keeper` watches.
    pub fn new(keeper: &Rc<Keeper>, limits: PoolLimits) -> Rc<Self> {
        let pool = Rc::new(Self {
            keeper: keeper.clone(),
            limits,
            idle: RefCell::default(),
            evicted: Cell::new(false),
        });
        let weak: Weak<dyn Sweep> = Rc::downgrade(&(pool.clone() as Rc<dyn Sweep>));
        keeper.pools.borrow_mut().push(weak);
        pool
    }

    /// The connection used last that is still good, counted for one more request. The longest unused ones can so
    /// reach their idle timeout.
    pub fn take(&self) -> Option<Upstream<G>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            let young = self.limits.age_max.is_none_or(|age| idle.upstream.opened.elapsed() < age);
            if young && idle.upstream.connection.transport.is_quiet() {
                idle.upstream.requests = idle.upstream.requests.saturating_add(1);
                return Some(idle.upstream);
            }
        }
    }

    /// Keeps a connection whose last response is complete, unless a limit or an eviction forbids it.
    pub fn put(&self, mut upstream: Upstream<G>, now: Instant) {
        let spent = self.limits.requests_max > 0 && upstream.requests >= self.limits.requests_max;
        // Bytes that nobody asked for: whatever they are, they are not the next response.
        let clean = upstream.connection.buffer.is_empty();
        let mut idle = self.idle.borrow_mut();
        if self.evicted.get() || spent || !clean || idle.len() >= IDLE_MAX {
            return;
        }
        upstream.connection.buffer.release();
        if self.keeper.watch(&upstream.connection, now, self.limits.idle_timeout) {
            idle.push(Idle { upstream, since: now });
        }
    }

    /// Whether the present request is the last one that the limit lets this connection have; the server is then
    /// asked to close.
    pub fn is_last_request(&self, upstream: &Upstream<G>) -> bool {
        self.limits.requests_max > 0 && upstream.requests >= self.limits.requests_max
    }

    /// Closes idle connections, and those in use once they are put back: the endpoint is gone.
    pub fn evict(&self) {
        self.evicted.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Idle connections.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// What the keeper does with a pool, whatever guards its connections.
trait Sweep {
    /// Drops what was closed or has been idle for too long; answers when the next one will have been.
    fn sweep(&self, cx: &mut Context<'_>, now: Instant) -> Option<Instant>;
}

impl<G> Sweep for EndpointPool<G> {
    fn sweep(&self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let timeout = self.limits.idle_timeout;
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            let expired = timeout.is_some_and(|timeout| idle.since + timeout <= now);
            let transport = &mut idle.upstream.connection.transport;
            // Where something has come it may have been a session ticket, which `is_quiet` reads; the waker must
            // then be put in place again.
            !expired
                && (transport.poll_readable(cx).is_pending()
                    || (transport.is_quiet() && transport.poll_readable(cx).is_pending()))
        });
        let oldest = idle.iter().map(|idle| idle.since).min()?;
        timeout.map(|timeout| oldest + timeout)
    }
}

/// Watches the idle connections of all pools of a thread.
#[derive(Default)]
pub struct Keeper {
    pools: RefCell<Vec<Weak<dyn Sweep>>>,
    waker: RefCell<Option<Waker>>,
    /// When the timer is set to fire.
    due: Cell<Option<Instant>>,
}

impl Keeper {
    /// A keeper of no pools.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Runs for as long as the thread works; never ends. One task per thread.
    pub async fn run(self: Rc<Self>) {
        let mut sleep: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| -> Poll<()> {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            loop {
                let due = self.sweep(cx);
                self.due.set(due);
                let Some(due) = due else {
                    sleep = None;
                    return Poll::Pending;
                };
                let timer = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                timer.as_mut().reset(due);
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn sweep(&self, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        self.pools.borrow_mut().retain(|pool| {
            let Some(pool) = pool.upgrade() else { return false };
            if let Some(due) = pool.sweep(cx, now) {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            true
        });
        next
    }

    /// Has the keeper's task woken when something comes on the connection. False where something has come.
    fn watch(&self, connection: &Connection, now: Instant, timeout: Option<Duration>) -> bool {
        let waker = self.waker.borrow();
        let Some(waker) = &*waker else { return true };
        if self.due.get().is_none() && timeout.is_some() {
            self.due.set(timeout.map(|timeout| now + timeout));
            waker.wake_by_ref();
        }
        connection.transport.poll_readable(&mut Context::from_waker(waker)).is_pending()
    }
}
