//! Ending in order: tell everybody to finish, wait until they have, or until it takes too long.
//!
//! One [`Drain`] is held by whoever decides to end. Every listener and connection holds a
//! [`DrainWatch`] for as long as it has work; dropping it says that the work is done.

use std::time::Duration;

use tokio::sync::watch;

/// The deciding end.
#[derive(Debug)]
pub struct Drain {
    sender: watch::Sender<bool>,
}

/// The end of one listener or connection; cloned for what it starts.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    receiver: watch::Receiver<bool>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everybody has finished.
    Finished,
    /// The time was up; so many had not finished, and must be cut.
    Remaining(usize),
}

impl Drain {
    /// A drain nobody watches yet.
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(false) }
    }

    /// A watch for one more listener or connection. Also after the signal, which it then has already.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { receiver: self.sender.subscribe() }
    }

    /// Tells every watch, without waiting. Once told, it stays told.
    pub fn signal(&self) {
        self.sender.send_replace(true);
    }

    /// How many watches there are.
    pub fn watching(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Tells every watch and waits until all are dropped, `deadline` at most. Cancel safe: the signal
    /// stays given.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.signal();
        match tokio::time::timeout(deadline, self.sender.closed()).await {
            Ok(()) => Drained::Finished,
            Err(_) => match self.watching() {
                0 => Drained::Finished,
                remaining => Drained::Remaining(remaining),
            },
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainWatch {
    /// Whether the signal has been given.
    pub fn is_draining(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits for the signal; also ends when the deciding end is gone. Cancel safe.
    pub async fn signaled(&mut self) {
        // An error says that the sender is gone, and with it everybody who could ask to go on.
        let _ = self.receiver.wait_for(|draining| *draining).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_all_and_no_longer() {
        let drain = Drain::new();
        assert_eq!(drain.drain(Duration::ZERO).await, Drained::Finished);

        let drain = Drain::new();
        let mut listener = drain.watch();
        let connection = listener.clone();
        assert!(!connection.is_draining());
        let work = tokio::spawn(async move {
            listener.signaled().await;
            assert!(connection.is_draining());
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(connection);
        });
        let before = tokio::time::Instant::now();
        assert_eq!(drain.drain(Duration::from_secs(10)).await, Drained::Finished);
        assert_eq!(before.elapsed().as_secs(), 3);
        work.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_is_counted_at_the_deadline() {
        let drain = Drain::new();
        let slow = [drain.watch(), drain.watch()];
        assert_eq!(drain.drain(Duration::from_secs(1)).await, Drained::Remaining(2));
        // A late watch knows, and a dropped decider counts as the signal.
        let mut late = drain.watch();
        late.signaled().await;
        drop(slow);
        let other = Drain::new();
        let mut orphan = other.watch();
        drop(other);
        orphan.signaled().await;
    }
}
