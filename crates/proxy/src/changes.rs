//! Tells what is under way on a thread that the workload's policy has changed, so that it is decided again.
//!
//! Thread-local, since every request listens: listening costs a place in a list, and a change wakes each listener once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// The changes that a thread has seen.
#[derive(Debug, Default)]
pub(crate) struct LocalChanges {
    /// Grows with each change.
    count: Cell<u64>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl LocalChanges {
    /// Something has changed: whoever listens is woken.
    pub(crate) fn note(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Listens from now on.
    pub(crate) fn listen(self: &Rc<Self>) -> Listener {
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = self.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Listener { changes: self.clone(), place, seen: Cell::new(self.count.get()) }
    }
}

/// One that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    changes: Rc<LocalChanges>,
    place: usize,
    seen: Cell<u64>,
}

impl Listener {
    /// Whether something has changed since it was asked last; if not, the task is woken when it does.
    pub(crate) fn poll_changed(&self, cx: &mut Context<'_>) -> bool {
        let mut wakers = self.changes.wakers.borrow_mut();
        if let Some(place) = wakers.get_mut(self.place)
            && !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *place = Some(cx.waker().clone());
        }
        let count = self.changes.count.get();
        self.seen.replace(count) != count
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(place) = self.changes.wakers.borrow_mut().get_mut(self.place) {
            *place = None;
        }
        self.changes.free.borrow_mut().push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_and_places_are_used_again() {
        let changes = Rc::new(LocalChanges::default());
        let mut cx = Context::from_waker(Waker::noop());
        changes.note();
        let (first, second) = (changes.listen(), changes.listen());
        assert!(!first.poll_changed(&mut cx), "a change before it listened");
        changes.note();
        assert!(first.poll_changed(&mut cx) && !first.poll_changed(&mut cx));
        assert!(second.poll_changed(&mut cx));
        drop(first);
        let _third = changes.listen();
        assert_eq!(changes.wakers.borrow().len(), 2);
    }
}
