//! A point in time that moves with every request, and a timer that does not.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// A deadline that is usually put off before it is reached. Its timer is left where it is when the deadline moves
/// later, and looks again when it fires, so that a request costs no change of a timer.
#[derive(Debug)]
pub struct Deadline {
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    /// A deadline.
    pub fn new(due: Instant) -> Self {
        Self { due, timer: Box::pin(tokio::time::sleep_until(due)) }
    }

    /// Moves the deadline.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_it_was_last_set_to() {
        let start = Instant::now();
        let mut deadline = Deadline::new(start + Duration::from_secs(10));
        for (moved, passes) in [(20, 20), (40, 40), (45, 45), (50, 50)] {
            deadline.set(start + Duration::from_secs(moved));
            poll_fn(|cx| deadline.poll(cx)).await;
            assert_eq!((Instant::now() - start).as_secs(), passes);
        }
        deadline.set(start + Duration::from_secs(100));
        deadline.set(start + Duration::from_mins(1));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!((Instant::now() - start).as_secs(), 60);
    }
}
