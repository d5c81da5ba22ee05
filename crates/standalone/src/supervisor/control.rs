//! The control plane's process: started, started again when it dies, stopped last.
//!
//! Workloads and proxies do not notice its absence: the supervisor changes nothing while it is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::watch;

use heddle_net::process::{Capabilities, Plan};

use super::launch::{OWN_PROGRAM, Process, Signal};
use super::{Services, until};
use crate::backoff::{Backoff, Limits};
use crate::status::{Phase, ProcessStatus};

/// The folder of its logs.
pub(crate) const LOG_NAME: &str = "control";
/// Between two questions whether it is ready.
const READY_PERIOD: Duration = Duration::from_millis(20);

/// The number under which it finds the port for machines.
const MACHINES_DESCRIPTOR: i32 = 3;

/// What it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Order {
    /// Grows with every wish to kill it.
    pub(super) kills: u64,
    /// Whether the mesh stops.
    pub(super) stop: bool,
}

/// Keeps the control plane running until the mesh stops.
pub(super) async fn run(services: Arc<Services>, mut orders: watch::Receiver<Order>) {
    let mut backoff = Backoff::new(Limits::OWN);
    let log = services.logs.sink(&[LOG_NAME]);
    loop {
        let begun = Instant::now();
        let ended = match services.launcher.start_logged(plan(&services), &log).await {
            Ok(process) => attend(&services, process, &mut orders).await,
            Err(message) => message,
        };
        let pause = backoff.after_run(begun.elapsed());
        let stops = orders.borrow_and_update().stop;
        update(&services, |status| {
            status.phase = if stops { Phase::Stopped } else { Phase::BackOff };
            status.ready = false;
            status.pid = None;
            status.message = format!("{ended}; started again in {pause:?}");
        });
        if stops {
            return;
        }
        tracing::warn!(reason = %ended, "the control plane ended and is started again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = until(&mut orders, |order| order.stop) => return,
        }
        update(&services, |status| status.restarts += 1);
    }
}

fn plan(services: &Services) -> Plan {
    let mut plan = Plan::new(OWN_PROGRAM);
    plan.arguments = services.options.control_arguments.iter().map(Into::into).collect();
    plan.environment = services.own_environment();
    plan.working_directory = Some(PathBuf::from("/"));
    plan.capabilities = Capabilities::NONE;
    if let Some(machines) = &services.options.machines {
        match machines.try_clone() {
            Ok(machines) => {
                plan.arguments
                    .extend(["--machines-fd".into(), MACHINES_DESCRIPTOR.to_string().into()]);
                plan.descriptors = vec![(machines.into(), MACHINES_DESCRIPTOR)];
            }
            Err(error) => tracing::error!(%error, "no machine can reach the control plane"),
        }
    }
    plan
}

/// Stays with the running process; how it ended.
async fn attend(
    services: &Services,
    mut process: Process,
    orders: &mut watch::Receiver<Order>,
) -> String {
    update(services, |status| {
        status.phase = Phase::Running;
        status.pid = Some(process.pid());
        status.message.clear();
    });
    let kills = orders.borrow().kills;
    let code = tokio::select! {
        code = process.wait() => code,
        () = tell_ready(services) => -1,
        () = until(orders, |order| order.stop || order.kills != kills) => {
            let stops = orders.borrow().stop;
            process.signal(if stops { Signal::Terminate } else { Signal::Kill });
            process.wait().await
        }
    };
    update(services, |status| status.exit_code = Some(code));
    format!("the control plane exited with {code}; see its log")
}

/// Waits until its stream answers, and tells so. Never ends.
async fn tell_ready(services: &Services) {
    while UnixStream::connect(services.state.stream_socket()).await.is_err() {
        tokio::time::sleep(READY_PERIOD).await;
    }
    update(services, |status| status.ready = true);
    std::future::pending::<()>().await;
}

fn update(services: &Services, change: impl FnOnce(&mut ProcessStatus)) {
    services.board.update_mesh(|mesh| change(&mut mesh.control));
}
