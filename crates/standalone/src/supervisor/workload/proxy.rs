//! The proxy of a workload: started before anything else, started again when it dies, stopped last.
//!
//! Its rules stay while it is away, so that nothing goes around it: what it would have taken is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use heddle_net::broker::{self, Server};

use super::{Context, PROXY_CONTAINER};
use crate::backoff::{Backoff, Limits};
use crate::status::{Phase, ProcessStatus};
use crate::supervisor::container::Order;
use crate::supervisor::launch::{Process, Signal};
use crate::supervisor::link::Link;
use crate::supervisor::until;

/// What a proxy has after everything it served has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a gateway has to finish what its clients have begun.
pub(super) const GATEWAY_DRAIN_MAX: Duration = Duration::from_secs(5);
/// Port of the proxy's health, as Istio's.
const HEALTH_PORT: u16 = 15021;
const HEALTH_PATH: &str = "/healthz/ready";
/// Between two questions whether it is ready.
const READY_PERIOD: Duration = Duration::from_millis(20);
/// For one such question.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps the proxy running until it is told to stop.
pub(super) async fn run(
    context: Arc<Context>,
    mut orders: watch::Receiver<Order>,
    ready: watch::Sender<bool>,
) {
    let mut backoff = Backoff::new(Limits::OWN);
    loop {
        if orders.borrow_and_update().stop_by.is_some() {
            break;
        }
        let begun = Instant::now();
        // The link ends with the process: a new one gets a new pair.
        let mut link = JoinSet::new();
        let ended = match start(&context, &mut link).await {
            Ok(process) => attend(&context, process, &mut orders, &ready).await,
            Err(message) => Some(message),
        };
        let Some(message) = ended else { break };
        let pause = backoff.after_run(begun.elapsed());
        update(&context, |status| {
            status.phase = Phase::BackOff;
            status.ready = false;
            status.pid = None;
            status.message = format!("the proxy {message}; started again in {pause:?}");
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = until(&mut orders, |order| order.stop_by.is_some()) => {}
        }
        update(&context, |status| status.restarts += 1);
    }
    update(&context, |status| {
        status.phase = Phase::Stopped;
        status.ready = false;
        status.pid = None;
    });
}

async fn start(context: &Context, link: &mut JoinSet<()>) -> Result<Process, String> {
    let services = &context.services;
    let pair_error = |error| format!("has no socket pair: {error}");
    let (ours, theirs) = broker::pair().map_err(pair_error)?;
    let server = Server::new(ours).map_err(pair_error)?;
    let serving = Link {
        workload: context.desired.id.clone(),
        stream_socket: services.state.stream_socket(),
        broker: services.broker.clone(),
    };
    link.spawn(async move {
        if let Err(error) = serving.serve(server).await {
            tracing::warn!(%error, "a proxy's socket pair failed");
        }
    });
    let log = services.workload_log(&context.desired, PROXY_CONTAINER);
    let workload_api = context.files.listen_workload_api();
    let workload_api = workload_api.inspect_err(|error| {
        let workload = &context.desired.id;
        tracing::warn!(workload, %error, "no socket for the Workload API: the application gets no identity there");
    });
    let names = context.files.names();
    let names = names.map_err(|error| format!("has no file for learned names: {error}"))?;
    let plan = context.proxy_plan(theirs, names.into(), workload_api.ok());
    services.launcher.start_logged(plan, &log).await
}

/// Stays with a running proxy. None when it was told to stop, else how it ended.
async fn attend(
    context: &Context,
    mut process: Process,
    orders: &mut watch::Receiver<Order>,
    ready: &watch::Sender<bool>,
) -> Option<String> {
    update(context, |status| {
        status.phase = Phase::Running;
        status.pid = Some(process.pid());
        status.message.clear();
    });
    let kills = orders.borrow().proxy_kills;
    tokio::select! {
        code = process.wait() => return Some(ended(context, code)),
        () = until(orders, |order| order.stop_by.is_some() || order.proxy_kills != kills) => {}
        () = tell_ready(context, ready) => {}
    }
    if orders.borrow().stop_by.is_none() {
        process.signal(Signal::Kill);
        return Some(ended(context, process.wait().await));
    }
    process.signal(Signal::Terminate);
    update(context, |status| status.phase = Phase::Stopping);
    loop {
        let Some(by) = orders.borrow_and_update().stop_by else { break };
        tokio::select! {
            _ = process.wait() => return None,
            () = tokio::time::sleep_until(by.into()) => break,
            // The time to stop may be brought forward.
            changed = orders.changed() => if changed.is_err() { break },
        }
    }
    process.signal(Signal::Kill);
    process.wait().await;
    None
}

/// Asks the proxy until it is ready, and tells so. Never ends.
async fn tell_ready(context: &Context, ready: &watch::Sender<bool>) {
    while !context.prober.answers(HEALTH_PORT, HEALTH_PATH, READY_TIMEOUT).await {
        tokio::time::sleep(READY_PERIOD).await;
    }
    update(context, |status| status.ready = true);
    ready.send_replace(true);
    std::future::pending::<()>().await;
}

fn ended(context: &Context, code: i32) -> String {
    update(context, |status| status.exit_code = Some(code));
    format!("exited with {code}")
}

fn update(context: &Context, change: impl FnOnce(&mut ProcessStatus)) {
    context.update(|status| {
        if let Some(proxy) = &mut status.proxy {
            change(proxy);
        }
        status.settle();
    });
}
