//! The end of a thread's connections, in order: those that wait for a request are woken and end, those that are
//! busy end after the request.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// All connections of a thread. They are told once that the thread drains; asking costs a look at a flag.
#[derive(Debug, Default)]
pub struct LocalDrain {
    draining: Cell<bool>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    live: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl LocalDrain {
    /// A thread without connections.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Counts a connection, for as long as the guard lives.
    pub fn enter(self: &Rc<Self>) -> DrainGuard {
        self.live.set(self.live.get() + 1);
        let mut guard = self.watch();
        guard.counted = true;
        guard
    }

    /// Is told like a connection, and not counted: for listeners.
    pub fn watch(self: &Rc<Self>) -> DrainGuard {
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = self.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        DrainGuard { drain: self.clone(), place, counted: false }
    }

    /// Connections that live.
    pub fn live(&self) -> usize {
        self.live.get()
    }

    /// Whether the thread drains.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Begins to drain.
    pub fn begin(&self) {
        self.draining.set(true);
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Waits until no connection lives.
    pub async fn finished(&self) {
        self.below(1).await;
    }

    /// Waits until fewer than `count` connections live.
    pub async fn below(&self, count: usize) {
        poll_fn(|cx| {
            if self.live.get() < count {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// One connection of a [`LocalDrain`].
#[derive(Debug)]
pub struct DrainGuard {
    drain: Rc<LocalDrain>,
    place: usize,
    counted: bool,
}

impl DrainGuard {
    /// Whether the thread drains; the task is woken when it begins to.
    pub fn poll_draining(&self, cx: &mut Context<'_>) -> bool {
        if self.drain.draining.get() {
            return true;
        }
        let mut wakers = self.drain.wakers.borrow_mut();
        if let Some(place) = wakers.get_mut(self.place)
            && !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *place = Some(cx.waker().clone());
        }
        false
    }

    /// Whether the thread drains.
    pub fn is_draining(&self) -> bool {
        self.drain.draining.get()
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if let Some(place) = self.drain.wakers.borrow_mut().get_mut(self.place) {
            *place = None;
        }
        self.drain.free.borrow_mut().push(self.place);
        if self.counted {
            self.drain.live.set(self.drain.live.get() - 1);
        }
        for waker in self.drain.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_connections_are_woken_and_counted_down() {
        let drain = LocalDrain::new();
        let local = tokio::task::LocalSet::new();
        for _ in 0..3 {
            let guard = drain.enter();
            local.spawn_local(async move {
                poll_fn(|cx| if guard.poll_draining(cx) { Poll::Ready(()) } else { Poll::Pending })
                    .await;
            });
        }
        local
            .run_until(async {
                tokio::task::yield_now().await;
                assert_eq!(drain.live(), 3);
                drain.begin();
                drain.finished().await;
            })
            .await;
        assert_eq!(drain.live(), 0);
        drop(drain.enter());
        assert_eq!(drain.wakers.borrow().len(), 3);
    }
}
