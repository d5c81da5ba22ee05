//! When a proxy gives memory back: once it has started, and when a load is over. How is `heddle_net::memory`'s.
//!
//! Nothing here looks at traffic, and a proxy that is at work is left alone.

use std::rc::Rc;
use std::time::Duration;

use heddle_net::memory;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use crate::worker::Worker;

/// After a proxy has what it needs its start still has ends to tie up.
const START: Duration = Duration::from_secs(1);
/// How often it is looked whether a load is over.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Less than this is left to the allocator, which will need it again.
const SPARE_BYTES_MIN: usize = 4 * 1024 * 1024;

/// Gives memory back at its times. Never ends while there is a configuration.
pub(crate) async fn keep(worker: Rc<Worker>) {
    let mut changes = worker.shared.configuration.changes();
    while worker.shared.configuration.snapshot().inbound.is_none() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    tokio::time::sleep(START).await;
    memory::give_back();
    let metrics = Handle::current().metrics();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut spare = Spare { left_bytes: memory::free_heap_bytes(), busy: Duration::ZERO };
    loop {
        look.tick().await;
        let busy = metrics.worker_total_busy_duration(0);
        if spare.is_enough(memory::free_heap_bytes(), busy) {
            memory::give_back();
            spare.left_bytes = memory::free_heap_bytes();
        }
    }
}

/// What is free of the heap, and how busy the thread is.
struct Spare {
    /// What was free when memory was given back; it still counts as free, though no page is behind it. Less when it has been used since.
    left_bytes: usize,
    /// How long the thread had been busy in all, the last time.
    busy: Duration,
}

impl Spare {
    /// Whether enough has become free, and the thread was at rest most of the last period. `free_bytes` and `busy` (in
    /// all) are those of now.
    fn is_enough(&mut self, free_bytes: usize, busy: Duration) -> bool {
        let in_period = busy.saturating_sub(self.busy);
        self.busy = busy;
        self.left_bytes = self.left_bytes.min(free_bytes);
        free_bytes - self.left_bytes >= SPARE_BYTES_MIN && in_period < LOOK_EVERY / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_enough_is_free_and_the_thread_rests() {
        const MB: usize = 1024 * 1024;
        let mut spare = Spare { left_bytes: MB, busy: Duration::ZERO };
        // (free MB, busy seconds in the period, whether it is given back)
        let mut busy = Duration::ZERO;
        for (number, (free, seconds, given)) in [
            (1, 0, false),
            (4, 0, false),
            // Under load free memory comes and goes.
            (30, 9, false),
            (20, 9, false),
            (30, 0, true),
            // It is still free, and nothing is behind it any more.
            (30, 0, false),
            (33, 0, false),
            // Used again, and free again.
            (3, 9, false),
            (30, 0, true),
            (30, 0, false),
        ]
        .into_iter()
        .enumerate()
        {
            busy += Duration::from_secs(seconds);
            assert_eq!(spare.is_enough(free * MB, busy), given, "period {number}");
            if given {
                spare.left_bytes = free * MB;
            }
        }
    }
}
