//! The control thread: one loop over the stream, the certificate, and what the data plane asks for.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::discovery::{DeltaDiscoveryResponse, Node};
use heddle_sync::{Backoff, Client, Effect, Effects, Holdings};
use tokio::sync::mpsc;

use super::certificate::Certificates;
use super::compile::Compiler;
use super::dial::Dial;
use super::link::{Event, Link};
use super::{Options, Shared};

/// Destinations held on demand; beyond that the one unused for longest goes.
const ON_DEMAND_MAX: usize = 20_000;

/// Everything of the control thread.
pub(super) struct Task {
    options: Options,
    client: Client,
    holdings: Holdings,
    compiler: Compiler,
    certificates: Certificates,
    shared: Weak<Shared>,
    wants: mpsc::Receiver<ResourceName>,
    /// Held on demand, and when each was last seen to be used.
    on_demand: HashMap<ResourceName, Instant>,
    dial: Option<Box<dyn Dial>>,
}

impl Task {
    pub(super) fn new(
        options: Options,
        dial: Box<dyn Dial>,
        certificates: Certificates,
        shared: Weak<Shared>,
        wants: mpsc::Receiver<ResourceName>,
    ) -> Self {
        let started = shared.upgrade().map_or_else(Instant::now, |shared| shared.started);
        let node = Node {
            id: options.workload.to_string(),
            user_agent_name: "heddle".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Node::default()
        };
        Self {
            client: Client::new(node),
            holdings: Holdings::new(),
            compiler: Compiler::new(options.seed, started),
            certificates,
            shared,
            wants,
            on_demand: HashMap::new(),
            dial: Some(dial),
            options,
        }
    }

    /// Runs until nobody holds the configuration any more.
    pub(super) async fn run(mut self) {
        let Some(dial) = self.dial.take() else { return };
        let (first, longest) = (self.options.reconnect_min, self.options.reconnect_max);
        let mut link = Link::new(dial, Backoff::new(first, longest, self.options.seed));
        for name in [
            ResourceName::TrustBundle,
            ResourceName::Proxy(self.options.workload.clone()),
            ResourceName::Inbound(self.options.workload.clone()),
        ] {
            let effects = self.holdings.want(&name);
            self.follow(&effects);
        }
        let mut sweep_at = None;
        loop {
            self.certificates.poll(link.open().map(|open| &open.connection));
            while link.can_send()
                && let Some(request) = self.client.poll_transmit()
            {
                link.send(request);
            }
            let blocked = if link.can_send() { None } else { link.requests() };
            let sweep = async {
                match sweep_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = Link::sendable(blocked) => {}
                () = sweep => {
                    self.let_go_of_idle();
                    sweep_at = None;
                }
                () = self.certificates.wait() => self.publish_certificate(),
                event = link.next() => self.handle(event),
                name = self.wants.recv() => match name {
                    Some(name) => self.want(name),
                    None => return,
                },
            }
            if sweep_at.is_none() && !self.on_demand.is_empty() {
                // Half the time, so that something idle goes after at most one and a half times of it.
                sweep_at = Some(tokio::time::Instant::now() + self.options.idle_timeout / 2);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to the control plane");
                self.client.handle_connect();
            }
            Event::Lost(reason) => {
                tracing::warn!(reason, "connection to the control plane lost");
                self.client.handle_disconnect();
            }
            Event::Response(response) => self.handle_response(*response),
        }
    }

    fn handle_response(&mut self, response: DeltaDiscoveryResponse) {
        let updates = match self.client.handle_response(response, |_, _| Ok(())) {
            Ok(updates) => updates,
            Err(reason) => {
                tracing::error!(reason, "configuration refused; what was held stays");
                return;
            }
        };
        let absent: Vec<_> = updates
            .iter()
            .filter(|update| update.resource.is_none())
            .map(|update| update.name.clone())
            .collect();
        let effects = self.holdings.apply(updates);
        self.follow(&effects);
        for name in absent {
            if self.holdings.is_absent(&name) {
                self.compiler.set_absent(&name);
            }
        }
        self.publish();
    }

    /// Carries out what follows from a change of holdings.
    fn follow(&mut self, effects: &Effects) {
        effects.unwant.iter().for_each(|name| self.client.unwant(name));
        effects.want.iter().for_each(|name| self.client.want(name));
        for effect in &effects.effects {
            match effect {
                Effect::Set(_, Resource::Proxy(settings)) => {
                    self.certificates.set_identity(&settings.workload.identity);
                }
                Effect::Set(_, Resource::TrustBundle(bundle)) => {
                    self.certificates.set_bundle(bundle);
                }
                Effect::Set(..) | Effect::Unset(_) => {}
            }
        }
        self.compiler.apply(&effects.effects);
    }

    /// The data plane asks for a resource.
    fn want(&mut self, name: ResourceName) {
        if self.on_demand.contains_key(&name) {
            return;
        }
        if self.on_demand.len() >= ON_DEMAND_MAX {
            let oldest = self.on_demand.iter().min_by_key(|(_, used)| **used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.let_go(&oldest);
            }
        }
        let effects = self.holdings.want(&name);
        self.follow(&effects);
        // It may have been held already, as something that another resource refers to.
        if let Some(resource) = self.holdings.effective(&name).cloned() {
            self.compiler.set(&name, &resource);
        }
        self.on_demand.insert(name, Instant::now());
        self.publish();
    }

    /// Lets go of whatever nobody has used for a while.
    fn let_go_of_idle(&mut self) {
        let now = Instant::now();
        let mut idle = Vec::new();
        for (name, used_at) in &mut self.on_demand {
            if self.compiler.take_used(name) {
                *used_at = now;
            } else if now.duration_since(*used_at) >= self.options.idle_timeout {
                idle.push(name.clone());
            }
        }
        if idle.is_empty() {
            return;
        }
        for name in &idle {
            self.let_go(name);
        }
        tracing::debug!(count = idle.len(), "idle destinations let go");
        self.publish();
    }

    fn let_go(&mut self, name: &ResourceName) {
        self.on_demand.remove(name);
        let effects = self.holdings.unwant(name);
        self.follow(&effects);
        // What something else refers to stays.
        if self.holdings.effective(name).is_none() {
            self.compiler.forget(name);
        }
    }

    fn publish(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.publish(self.compiler.snapshot());
        }
        self.publish_certificate();
    }

    fn publish_certificate(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.certificate.store(Arc::new(self.certificates.status()));
            // Wakes whoever waits for the proxy to become ready.
            shared.generation.send_modify(|_| {});
        }
    }
}
