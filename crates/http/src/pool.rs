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

/// Idle connections that one pool keeps at most. Tests have a smaller one: many machines let a process open 1,024 files.
const IDLE_MAX: usize = if cfg!(test) { 128 } else { 4096 };

/// What a pool keeps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolLimits {
    /// A connection is closed when it has been idle for so long; none: never.
    pub idle_timeout: Option<Duration>,
    /// Requests on one connection; 0: unlimited.
    pub requests_max: u32,
    /// A connection that is older than this is closed once its request has ended; none: however old.
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
    /// What lives as long as the connection does.
    pub guard: G,
}

impl<G> Upstream<G> {
    /// A connection that has just been opened, for its first request.
    pub fn new(connection: Connection, guard: G) -> Self {
        Self { connection, requests: 1, opened: Instant::now(), guard }
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

impl PoolLimits {
    /// When an idle connection is closed; none: never.
    fn due<G>(&self, idle: &Idle<G>) -> Option<Instant> {
        let expires = self.idle_timeout.map(|timeout| idle.since + timeout);
        let old = self.age_max.map(|age| idle.upstream.opened + age);
        expires.into_iter().chain(old).min()
    }
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
        keeper.enter(weak);
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

    /// Keeps a connection whose last response is complete, unless a limit, its age or an eviction forbids it.
    pub fn put(&self, mut upstream: Upstream<G>, now: Instant) {
        let spent = self.limits.requests_max > 0 && upstream.requests >= self.limits.requests_max;
        let old = self.limits.age_max.is_some_and(|age| upstream.opened + age <= now);
        // Bytes that nobody asked for: whatever they are, they are not the next response.
        let clean = upstream.connection.buffer.is_empty();
        let mut idle = self.idle.borrow_mut();
        if self.evicted.get() || spent || old || !clean || idle.len() >= IDLE_MAX {
            return;
        }
        upstream.connection.buffer.release();
        let kept = Idle { upstream, since: now };
        if self.keeper.watch(&kept.upstream.connection, self.limits.due(&kept)) {
            idle.push(kept);
        }
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
    /// Drops what was closed, has been idle for too long or is too old; answers when the next one will be.
    fn sweep(&self, cx: &mut Context<'_>, now: Instant) -> Option<Instant>;
}

impl<G> Sweep for EndpointPool<G> {
    fn sweep(&self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            let expired = self.limits.due(idle).is_some_and(|due| due <= now);
            let transport = &mut idle.upstream.connection.transport;
            // Where something has come it may have been a session ticket, which `is_quiet` reads; the waker must
            // then be put in place again.
            !expired
                && (transport.poll_readable(cx).is_pending()
                    || (transport.is_quiet() && transport.poll_readable(cx).is_pending()))
        });
        idle.iter().filter_map(|idle| self.limits.due(idle)).min()
    }
}

/// Watches the idle connections of all pools of a thread.
#[derive(Default)]
pub struct Keeper {
    pools: RefCell<Vec<Weak<dyn Sweep>>>,
    waker: RefCell<Option<Waker>>,
    /// When the timer is set to fire.
    due: Cell<Option<Instant>>,
    /// With so many pools the list is rid of those that are gone.
    pools_max: Cell<usize>,
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

    /// Pools of one connection come and go faster than sweeps.
    fn enter(&self, pool: Weak<dyn Sweep>) {
        const POOLS_MIN: usize = 64;
        let mut pools = self.pools.borrow_mut();
        if pools.len() >= self.pools_max.get().max(POOLS_MIN) {
            pools.retain(|pool| pool.strong_count() > 0);
            self.pools_max.set(pools.len() * 2);
        }
        pools.push(pool);
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

    /// Has the keeper's task woken when something comes on the connection, or at `due`. False where something has come.
    fn watch(&self, connection: &Connection, due: Option<Instant>) -> bool {
        let waker = self.waker.borrow();
        let Some(waker) = &*waker else { return true };
        if let Some(due) = due
            && self.due.get().is_none_or(|known| due < known)
        {
            self.due.set(Some(due));
            waker.wake_by_ref();
        }
        connection.transport.poll_readable(&mut Context::from_waker(waker)).is_pending()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::Transport;

    async fn connected() -> (Upstream<()>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Upstream::new(Connection::new(Transport::Plain(client)), ()), server)
    }

    fn limits(idle_seconds: u64, age_seconds: Option<u64>) -> PoolLimits {
        PoolLimits {
            idle_timeout: Some(Duration::from_secs(idle_seconds)),
            requests_max: 0,
            age_max: age_seconds.map(Duration::from_secs),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_pool_closes_its_connections_in_its_own_time() {
        let keeper = Keeper::new();
        let pools = [limits(3600, None), limits(10, None), limits(3600, Some(20))];
        let pools = pools.map(|limits| EndpointPool::new(&keeper, limits));
        let mut servers = Vec::new();
        let idle = || pools.each_ref().map(|pool| pool.idle_count());
        let test = async {
            tokio::task::yield_now().await;
            // The one with the latest end first, so that those that come later end sooner.
            for pool in &pools {
                let (upstream, server) = connected().await;
                pool.put(upstream, Instant::now());
                servers.push(server);
            }
            for (seconds, expected) in [(9, [1, 1, 1]), (2, [1, 0, 1]), (10, [1, 0, 0])] {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                assert_eq!(idle(), expected);
            }
        };
        tokio::select! {
            () = keeper.clone().run() => {}
            () = test => {}
        }
    }

    #[tokio::test]
    async fn so_many_idle_connections_are_kept() {
        let keeper = Keeper::new();
        let pool = EndpointPool::new(&keeper, limits(3600, None));
        let mut listeners = Vec::new();
        for number in 0..=IDLE_MAX {
            // Connections that nobody takes wait in the kernel, whose queue for a listener holds some.
            if number % 100 == 0 {
                listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
            }
            let listener = listeners.last().unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            pool.put(Upstream::new(Connection::new(Transport::Plain(client)), ()), Instant::now());
        }
        assert_eq!(pool.idle_count(), IDLE_MAX);
    }
}
