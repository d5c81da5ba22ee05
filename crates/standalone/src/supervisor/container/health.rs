//! Probing one run of a container.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use heddle_proto::node;

use super::Container;
use crate::probe::{Action, Health, Kind, Thresholds};

/// A container that is not ready yet is asked this often, whatever its probe's period: periods are made for
/// clusters, and somebody waits here. Only a success of these extra tries counts.
const EAGER_FIRST: Duration = Duration::from_millis(100);
/// Extra tries become rarer, by doubling, up to this.
const EAGER_LONGEST: Duration = Duration::from_secs(2);

/// The probes of one run.
struct Watch<'a> {
    container: &'a Container,
    health: Mutex<Health>,
    /// Becomes true when there is no startup probe, or when it has succeeded.
    started: watch::Sender<bool>,
    begun: Instant,
}

impl Container {
    /// Runs the `postStart` hook and the probes, and keeps the board's readiness in step. Ends only when the
    /// container must be started again, with the sentence that says why.
    pub(super) async fn watch_health(&self) -> String {
        let of = |probe: &Option<node::Probe>| {
            probe.as_ref().map(|probe| Thresholds {
                success: probe.success_threshold,
                failure: probe.failure_threshold,
            })
        };
        let description = &self.description;
        let health = Health::new(
            of(&description.startup_probe),
            of(&description.readiness_probe),
            of(&description.liveness_probe),
        );
        if health.is_ready() {
            self.update(|status| status.ready = true);
        }
        let watch = Watch {
            container: self,
            started: watch::Sender::new(description.startup_probe.is_none()),
            health: Mutex::new(health),
            begun: Instant::now(),
        };
        tokio::select! {
            why = watch.post_start() => why,
            why = watch.repeat(Kind::Startup, description.startup_probe.as_ref()) => why,
            why = watch.repeat(Kind::Readiness, description.readiness_probe.as_ref()) => why,
            why = watch.repeat(Kind::Liveness, description.liveness_probe.as_ref()) => why,
        }
    }
}

impl Watch<'_> {
    async fn post_start(&self) -> String {
        if let Some(hook) = &self.container.description.post_start {
            let limit = Duration::from_mins(2);
            if let Err(error) =
                self.container.context.attempt(Some(hook), limit, self.container).await
            {
                return format!("the postStart hook failed: {error}");
            }
        }
        std::future::pending().await
    }

    async fn repeat(&self, kind: Kind, probe: Option<&node::Probe>) -> String {
        let Some(probe) = probe else { return std::future::pending().await };
        if kind != Kind::Startup {
            // The sender lives as long as this future.
            let _ = self.started.subscribe().wait_for(|started| *started).await;
        }
        let period = Duration::from_millis(probe.period_ms.max(1));
        tokio::time::sleep_until(self.begun + Duration::from_millis(probe.initial_delay_ms)).await;
        let mut next_counted = Instant::now();
        let mut eager = EAGER_FIRST;
        loop {
            let counted = Instant::now() >= next_counted;
            if counted {
                next_counted = Instant::now() + period;
            }
            match self.attempt(kind, probe, counted).await {
                Outcome::Done => return std::future::pending().await,
                Outcome::Restart(why) => return why,
                Outcome::GoOn => {}
            }
            if self.waits_for(kind) && Instant::now() + eager < next_counted {
                tokio::time::sleep(eager).await;
                eager = (eager * 2).min(EAGER_LONGEST);
            } else {
                tokio::time::sleep_until(next_counted).await;
            }
        }
    }

    /// Whether everything waits for the first success of this probe.
    fn waits_for(&self, kind: Kind) -> bool {
        kind != Kind::Liveness && !self.lock().is_ready()
    }

    async fn attempt(&self, kind: Kind, probe: &node::Probe, counted: bool) -> Outcome {
        let limit = Duration::from_millis(probe.timeout_ms.max(1));
        let context = &self.container.context;
        let result = context.attempt(probe.handler.as_ref(), limit, self.container).await;
        if result.is_err() && !counted {
            return Outcome::GoOn;
        }
        let action = self.lock().record(kind, result.is_ok());
        match action {
            Action::Nothing => {}
            Action::TellReady(ready) => self.container.update(|status| {
                status.ready = ready;
                status.message.clear();
                if let (false, Err(error)) = (ready, &result) {
                    status.message = format!("readiness probe: {error}");
                }
            }),
            Action::Restart => {
                let error = result.err().unwrap_or_default();
                return Outcome::Restart(format!("{} probe failed: {error}", kind.as_str()));
            }
        }
        if kind == Kind::Startup && !self.lock().wants(Kind::Startup) {
            self.started.send_replace(true);
            return Outcome::Done;
        }
        Outcome::GoOn
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Outcome {
    /// The probe is not needed any more.
    Done,
    /// It shall be repeated.
    GoOn,
    /// The container must be started again; the sentence says why.
    Restart(String),
}
