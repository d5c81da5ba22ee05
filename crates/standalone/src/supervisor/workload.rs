//! The life of one workload: its network, its proxy, its containers, in this order; and the way back.

mod mounts;
mod plan;
mod proxy;
mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use heddle_net::interception::VirtualAddress;
use heddle_proto::node;

use crate::backoff::{Backoff, Limits};
use crate::status::{ContainerKind, ContainerStatus, Phase, ProcessStatus, WorkloadStatus};
use crate::supervisor::container::{Container, Ended, Order};
use crate::supervisor::fabric::Port;
use crate::supervisor::launch::Process;
use crate::supervisor::probes::{Exec, Prober};
use crate::supervisor::virtual_addresses::Given;
use crate::supervisor::{Services, until};
use crate::timestamp::epoch_ms;

pub(crate) use setup::WorkloadFiles;

/// Between the first sign that a workload stops and SIGTERM to its application: others learn meanwhile that
/// it takes no more requests, and its proxy says so on open connections.
const DRAIN_AHEAD: Duration = Duration::from_millis(300);

/// The name of the proxy among a workload's containers, in logs and commands.
pub(crate) const PROXY_CONTAINER: &str = "proxy";

/// What a workload's tasks share.
pub(crate) struct Context {
    pub(crate) services: Arc<Services>,
    pub(crate) desired: node::DesiredWorkload,
    port: Port,
    prober: Prober,
    files: WorkloadFiles,
    given: Given,
}

impl Context {
    /// Makes virtual addresses of services lead somewhere. Blocks for some milliseconds.
    pub(crate) fn give_addresses(&self, list: &Arc<Vec<VirtualAddress>>) {
        self.given.give(list, self.port.namespace());
    }

    /// From SIGTERM to SIGKILL.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.desired.termination_grace_ms)
    }

    /// The description of a container by its name.
    pub(crate) fn container(&self, name: &str) -> Option<&node::Container> {
        let mut all = self.desired.init_containers.iter().chain(&self.desired.containers);
        all.find(|container| container.name == name)
    }

    /// Starts a container's process, with its outputs going to its log.
    pub(crate) async fn start_container(&self, container: &Container) -> Result<Process, String> {
        let plan = self.container_plan(&container.description)?;
        let log = self.services.workload_log(&self.desired, &container.description.name);
        self.services.launcher.start_logged(plan, &log).await
    }

    /// Carries out the action of a probe or a hook.
    pub(crate) async fn attempt(
        &self,
        handler: Option<&node::Handler>,
        limit: Duration,
        container: &Container,
    ) -> Result<(), String> {
        self.prober.attempt(handler, limit, container).await
    }

    /// Changes the entry of a container on the board, and what follows from it for the workload.
    pub(crate) fn update_container(&self, name: &str, change: impl FnOnce(&mut ProcessStatus)) {
        self.update(|status| {
            if let Some(container) = status.containers.iter_mut().find(|c| c.name == name) {
                change(&mut container.process);
            }
            status.settle();
        });
    }

    fn update(&self, change: impl FnOnce(&mut WorkloadStatus)) {
        self.services.board.update(&self.desired.id, &self.desired.uid, change);
    }
}

impl Exec for Container {
    async fn exec(&self, command: &[String]) -> Result<i32, String> {
        let id = &self.context.desired.id;
        let status = self.context.services.board.workload(id);
        let container = status.as_ref().and_then(|status| status.container(&self.description.name));
        let pid = container.and_then(|container| container.process.pid);
        let pid = pid.ok_or("the container does not run")?;
        let plan = self.context.exec_plan(&self.description, pid, command)?;
        let mut process = self.context.services.launcher.start(plan).await?;
        Ok(process.wait().await)
    }
}

/// Runs a workload from its set-up until it is told to stop and everything of it has ended.
pub(crate) async fn run(
    services: Arc<Services>,
    desired: node::DesiredWorkload,
    mut orders: watch::Receiver<Order>,
) {
    let (id, uid) = (desired.id.clone(), desired.uid.clone());
    services.board.enter(first_status(&desired));
    if let Some(context) = set_up(&services, desired, &mut orders).await {
        let context = Arc::new(context);
        services.enter_context(&id, &context);
        live(context, &mut orders).await;
    }
    services.board.leave(&id, &uid);
}

/// Makes what the containers need; tries again until it succeeds. None when told to stop first.
async fn set_up(
    services: &Arc<Services>,
    desired: node::DesiredWorkload,
    orders: &mut watch::Receiver<Order>,
) -> Option<Context> {
    let mut backoff = Backoff::new(Limits::CONTAINER);
    loop {
        if orders.borrow().stop_by.is_some() {
            return None;
        }
        match setup::set_up(services, &desired).await {
            Ok(context) => return Some(context),
            Err(message) => {
                let pause = backoff.after_run(Duration::ZERO);
                services.board.update(&desired.id, &desired.uid, |status| {
                    status.phase = Phase::BackOff;
                    status.message = format!("{message}; tried again in {pause:?}");
                });
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = until(orders, |order| order.stop_by.is_some()) => return None,
                }
            }
        }
    }
}

async fn live(context: Arc<Context>, orders: &mut watch::Receiver<Order>) {
    context.update(|status| {
        status.phase = Phase::Pending;
        status.message.clear();
        status.started_at_ms = epoch_ms(SystemTime::now());
        status.network_namespace = context.port.namespace().inode();
    });
    let mut parts = Parts::new(Arc::clone(&context));
    let relayed = [&parts.applications, &parts.sidecars, &parts.proxy].map(Clone::clone);
    // What the operator wants of the containers reaches them while the workload lives.
    let stop = async {
        loop {
            let order = *orders.borrow_and_update();
            if let Some(by) = order.stop_by {
                return by;
            }
            for sender in &relayed {
                sender.send_if_modified(|own| {
                    let before = std::mem::replace(own, Order { stop_by: own.stop_by, ..order });
                    *own != before
                });
            }
            if orders.changed().await.is_err() {
                return Instant::now();
            }
        }
    };
    let ended_by_itself = tokio::select! {
        by = stop => {
            context.update(|status| {
                status.phase = Phase::Stopping;
                status.ready = false;
            });
            parts.stop(by, true).await;
            false
        }
        () = parts.run() => true,
    };
    if ended_by_itself {
        parts.stop(Instant::now() + context.grace(), false).await;
        // Its end stays to be seen until nobody wants it any longer.
        until(orders, |order| order.stop_by.is_some()).await;
    }
}

/// The running parts of a workload.
struct Parts {
    context: Arc<Context>,
    applications: watch::Sender<Order>,
    sidecars: watch::Sender<Order>,
    proxy: watch::Sender<Order>,
    application_tasks: JoinSet<Ended>,
    sidecar_tasks: JoinSet<Ended>,
    proxy_task: JoinSet<()>,
}

impl Parts {
    fn new(context: Arc<Context>) -> Self {
        let order = || watch::Sender::new(Order::default());
        Self {
            context,
            applications: order(),
            sidecars: order(),
            proxy: order(),
            application_tasks: JoinSet::new(),
            sidecar_tasks: JoinSet::new(),
            proxy_task: JoinSet::new(),
        }
    }

    /// Starts everything in order, and ends when the application has ended for good. Dropping the future
    /// stops nothing: [`Parts::stop`] does.
    async fn run(&mut self) {
        if self.context.desired.meshed {
            let ready = watch::Sender::new(false);
            let mut is_ready = ready.subscribe();
            let proxy = proxy::run(Arc::clone(&self.context), self.proxy.subscribe(), ready);
            self.proxy_task.spawn(proxy);
            let _ = is_ready.wait_for(|ready| *ready).await;
        }
        let context = Arc::clone(&self.context);
        for description in &context.desired.init_containers {
            if description.restart_always {
                let task = self.container(description, ContainerKind::Sidecar);
                let orders = self.sidecars.subscribe();
                self.sidecar_tasks.spawn(async move { task.run(orders).await });
                self.wait_started(&description.name).await;
                continue;
            }
            let task = self.container(description, ContainerKind::Init);
            let orders = self.applications.subscribe();
            self.application_tasks.spawn(async move { task.run(orders).await });
            if !matches!(self.application_tasks.join_next().await, Some(Ok(Ended::Succeeded))) {
                return;
            }
        }
        for description in &context.desired.containers {
            let task = self.container(description, ContainerKind::Application);
            let orders = self.applications.subscribe();
            self.application_tasks.spawn(async move { task.run(orders).await });
        }
        if context.desired.gateway && context.desired.containers.is_empty() {
            // Its proxy is all there is, and is started again for as long as it is wanted.
            while self.proxy_task.join_next().await.is_some() {}
        }
        while self.application_tasks.join_next().await.is_some() {}
    }

    /// Stops everything in the reverse order, at the latest by then.
    async fn stop(&mut self, by: Instant, serving: bool) {
        let order = |own: &mut Order| own.stop_by = Some(by);
        let drains = serving && self.context.desired.meshed;
        if drains {
            self.proxy.send_modify(order);
            tokio::time::sleep(DRAIN_AHEAD.min(self.context.grace())).await;
        }
        self.applications.send_modify(order);
        while self.application_tasks.join_next().await.is_some() {}
        self.sidecars.send_modify(order);
        while self.sidecar_tasks.join_next().await.is_some() {}
        // Nobody is left whom the proxy could serve.
        let last_words = if self.context.desired.gateway && serving {
            // It is what clients are connected to.
            by.min(Instant::now() + proxy::GATEWAY_DRAIN_MAX)
        } else {
            Instant::now() + proxy::LAST_WORDS
        };
        self.proxy.send_modify(|own| own.stop_by = Some(last_words));
        while self.proxy_task.join_next().await.is_some() {}
    }

    /// Waits until a sidecar has started: it runs, and its startup probe, where it has one, has succeeded.
    async fn wait_started(&self, name: &str) {
        let mut changed = self.context.services.board.changed();
        loop {
            changed.mark_unchanged();
            let status = self.context.services.board.workload(&self.context.desired.id);
            let container = status.as_ref().and_then(|status| status.container(name));
            if container.is_none_or(|c| c.process.phase == Phase::Running && c.process.ready) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn container(&self, description: &node::Container, kind: ContainerKind) -> Container {
        Container {
            context: Arc::clone(&self.context),
            description: description.clone(),
            kind,
            policy: self.context.desired.restart_policy(),
        }
    }
}

fn first_status(desired: &node::DesiredWorkload) -> WorkloadStatus {
    let container = |description: &node::Container, kind| ContainerStatus {
        name: description.name.clone(),
        kind,
        command: description.command.clone(),
        process: ProcessStatus::default(),
    };
    let init = desired.init_containers.iter().map(|description| {
        let sidecar = description.restart_always;
        container(description, if sidecar { ContainerKind::Sidecar } else { ContainerKind::Init })
    });
    let applications = desired.containers.iter();
    let applications = applications.map(|c| container(c, ContainerKind::Application));
    WorkloadStatus {
        id: desired.id.clone(),
        uid: desired.uid.clone(),
        namespace: desired.namespace.clone(),
        name: desired.name.clone(),
        owner: desired.owner_name.clone(),
        addresses: desired.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        meshed: desired.meshed,
        gateway: desired.gateway,
        proxy: desired.meshed.then(ProcessStatus::default),
        containers: init.chain(applications).collect(),
        ..WorkloadStatus::default()
    }
}
