//! When a proxy gives memory back: once it has started, and when a load is over. How is `heddle_net::memory`'s.
//!
//! Nothing here looks at traffic; it counts connections, and a proxy under steady load is left alone.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::worker::Worker;

/// How often it is looked whether a load is over.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Fewer connections than this leave nothing behind that is worth the work.
const CONNECTIONS_MIN: usize = 64;

/// Gives memory back at its times. Never ends; to be started behind everything else that the start does.
pub(crate) async fn keep(worker: Rc<Worker>) {
    let mut changes = worker.shared.configuration.changes();
    while worker.shared.configuration.snapshot().inbound.is_none() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    heddle_net::memory::give_back();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fall = Fall::default();
    loop {
        look.tick().await;
        if fall.is_over(worker.drain().take_most(), worker.drain().live()) {
            heddle_net::memory::give_back();
        }
    }
}

/// Tells when a load is over.
#[derive(Default)]
struct Fall {
    most: usize,
}

impl Fall {
    /// Whether, of the most connections since the last time, half are gone. `most` is that of the period that
    /// ends, `live` the present count.
    fn is_over(&mut self, most: usize, live: usize) -> bool {
        self.most = self.most.max(most);
        let over = self.most >= CONNECTIONS_MIN && live <= self.most / 2;
        if over {
            self.most = live;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_over_once_when_half_of_it_is_gone() {
        let mut fall = Fall::default();
        // (most in the period, live at its end, over)
        for (number, (most, live, over)) in [
            (10, 0, false),
            (1000, 1000, false),
            (1000, 501, false),
            (501, 500, true),
            (500, 500, false),
            (500, 251, false),
            (251, 250, true),
            (250, 60, true),
            (60, 0, false),
            (0, 0, false),
            (5000, 0, true),
            (20, 0, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(fall.is_over(most, live), over, "period {number}");
        }
    }
}
