//! The life of one container: started, probed, started again after a crash, stopped.

mod health;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use heddle_proto::node;

use crate::backoff::{Backoff, Limits};
use crate::status::{ContainerKind, Phase, ProcessStatus};
use crate::supervisor::launch::{Process, Signal};
use crate::supervisor::until;
use crate::supervisor::workload::Context;

/// What the workload tells its containers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Order {
    /// Stop: what still runs at this moment is killed.
    pub(crate) stop_by: Option<Instant>,
    /// Grows with every wish of the operator to start the containers again.
    pub(crate) restart: u64,
    /// Grows with every wish of the operator to kill the proxy.
    pub(crate) proxy_kills: u64,
}

/// How a container's life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// It failed and is not started again.
    Failed,
    /// It was told to stop.
    Stopped,
    /// It ended well and is not started again.
    Succeeded,
}

/// Why a run of a container ended.
enum Cause {
    /// By itself.
    Exited,
    /// A probe or hook wanted it; the sentence says which.
    Unhealthy(String),
    /// The operator wanted it.
    Wished,
    /// The workload stops.
    Stopped,
}

/// One container of a workload.
pub(crate) struct Container {
    /// What it belongs to.
    pub(crate) context: Arc<Context>,
    /// What it is.
    pub(crate) description: node::Container,
    /// What it is for.
    pub(crate) kind: ContainerKind,
    /// What happens when it ends.
    pub(crate) policy: node::RestartPolicy,
}

impl Container {
    /// Runs it until it is told to stop, or until it has ended for good.
    pub(crate) async fn run(&self, mut orders: watch::Receiver<Order>) -> Ended {
        if self.description.command.is_empty() {
            self.update(|status| {
                status.phase = Phase::Failed;
                status.message = format!(
                    "container {} has no command; images are not run here, so give it `command:` with a \
                     program of this machine",
                    self.description.name
                );
            });
            return Ended::Failed;
        }
        let mut backoff = Backoff::new(Limits::CONTAINER);
        loop {
            if orders.borrow_and_update().stop_by.is_some() {
                self.update(|status| status.phase = Phase::Stopped);
                return Ended::Stopped;
            }
            let begun = Instant::now();
            let (cause, result) = match self.context.start_container(self).await {
                Ok(process) => Box::pin(self.attend(process, &mut orders)).await,
                Err(message) => (Cause::Exited, Err(message)),
            };
            match cause {
                Cause::Stopped => {
                    self.record_end(Phase::Stopped, &result, None);
                    return Ended::Stopped;
                }
                Cause::Wished => {
                    self.record_end(Phase::Pending, &result, None);
                    self.update(|status| status.restarts += 1);
                    continue;
                }
                Cause::Exited if !self.starts_again(&result) => {
                    let succeeded = result == Ok(0);
                    let phase = if succeeded { Phase::Succeeded } else { Phase::Failed };
                    self.record_end(phase, &result, None);
                    return if succeeded { Ended::Succeeded } else { Ended::Failed };
                }
                Cause::Exited | Cause::Unhealthy(_) => {}
            }
            let pause = backoff.after_run(begun.elapsed());
            let why = if let Cause::Unhealthy(why) = cause { Some(why) } else { None };
            self.record_end(Phase::BackOff, &result, Some((why.as_deref(), pause)));
            self.pause(pause, &mut orders).await;
            self.update(|status| {
                status.phase = Phase::Pending;
                status.restarts += 1;
            });
        }
    }

    fn starts_again(&self, result: &Result<i32, String>) -> bool {
        match (self.kind, self.policy) {
            // An init container that succeeded is done whatever the policy.
            (ContainerKind::Init, node::RestartPolicy::Always)
            | (_, node::RestartPolicy::OnFailure) => *result != Ok(0),
            (ContainerKind::Sidecar, _) | (_, node::RestartPolicy::Always) => true,
            (_, node::RestartPolicy::Never) => false,
        }
    }

    /// Stays with a running process until it has ended, for whatever reason.
    async fn attend(
        &self,
        mut process: Process,
        orders: &mut watch::Receiver<Order>,
    ) -> (Cause, Result<i32, String>) {
        let restart = orders.borrow().restart;
        self.update(|status| {
            status.phase = Phase::Running;
            status.pid = Some(process.pid());
            status.message.clear();
        });
        let cause = tokio::select! {
            code = process.wait() => return (Cause::Exited, Ok(code)),
            why = self.watch_health() => Cause::Unhealthy(why),
            () = until(orders, |order| order.restart != restart || order.stop_by.is_some()) => {
                if orders.borrow().stop_by.is_some() { Cause::Stopped } else { Cause::Wished }
            }
        };
        self.update(|status| {
            status.phase = Phase::Stopping;
            status.ready = false;
        });
        let code = self.end(&mut process, orders).await;
        (cause, Ok(code))
    }

    /// Ends a process as Kubernetes does: the `preStop` hook, SIGTERM, and SIGKILL when its time is over.
    async fn end(&self, process: &mut Process, orders: &mut watch::Receiver<Order>) -> i32 {
        let own_deadline = Instant::now() + self.context.grace();
        let ask = async {
            if let Some(hook) = &self.description.pre_stop {
                let limit = self.context.grace();
                // A hook that fails does not keep the container from being stopped.
                let _ = self.context.attempt(Some(hook), limit, self).await;
            }
        };
        tokio::select! {
            () = ask => {}
            code = process.wait() => return code,
            () = deadline(orders, own_deadline) => {}
        }
        process.signal(Signal::Terminate);
        tokio::select! {
            code = process.wait() => return code,
            () = deadline(orders, own_deadline) => {}
        }
        process.signal(Signal::Kill);
        process.wait().await
    }

    /// Waits before a new start; a wish of the operator cuts it short.
    async fn pause(&self, pause: Duration, orders: &mut watch::Receiver<Order>) {
        let restart = orders.borrow().restart;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = until(orders, |order| order.restart != restart || order.stop_by.is_some()) => {}
        }
    }

    fn record_end(
        &self,
        phase: Phase,
        result: &Result<i32, String>,
        again: Option<(Option<&str>, Duration)>,
    ) {
        let ended = match result {
            Ok(code) => format!("exited with {code}{}", explain_code(*code)),
            Err(message) => message.clone(),
        };
        let message = match (&again, phase) {
            (Some((Some(why), pause)), _) => format!("{why}; started again in {pause:?}"),
            (Some((None, pause)), _) => format!("{ended}; started again in {pause:?}"),
            (None, Phase::Failed) => ended,
            (None, _) => String::new(),
        };
        self.update(|status| {
            status.phase = phase;
            status.ready = false;
            status.pid = None;
            status.exit_code = result.as_ref().ok().copied().or(status.exit_code);
            status.message = message;
        });
    }

    /// Changes this container's entry on the board.
    fn update(&self, change: impl FnOnce(&mut ProcessStatus)) {
        self.context.update_container(&self.description.name, change);
    }
}

/// Waits until the time to stop is over: the workload's, where it stops, else `own`.
async fn deadline(orders: &mut watch::Receiver<Order>, own: Instant) {
    loop {
        let stop_by = orders.borrow_and_update().stop_by;
        let by = stop_by.unwrap_or(own);
        tokio::select! {
            () = tokio::time::sleep_until(by.into()) => return,
            changed = orders.changed() => if changed.is_err() { return },
        }
    }
}

fn explain_code(code: i32) -> &'static str {
    match code {
        126 => " (the program cannot be executed)",
        127 => " (program not found)",
        137 => " (SIGKILL)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        _ => "",
    }
}
