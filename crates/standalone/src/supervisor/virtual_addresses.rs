//! Virtual addresses in the namespaces of workloads: all where there is no proxy, those of UDP where there is one.

use std::sync::{Arc, Mutex, PoisonError};

use heddle_net::interception::{VirtualAddress, serve_virtual_addresses};
use heddle_net::namespace::NetworkNamespace;
use heddle_proto::node;

use super::Services;
use super::probes::chain;

/// The addresses of all services, as the control plane told last.
#[derive(Debug, Default)]
pub(crate) struct VirtualAddresses {
    current: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    all: Arc<Vec<VirtualAddress>>,
    /// Those of UDP among them.
    datagrams: Arc<Vec<VirtualAddress>>,
}

impl VirtualAddresses {
    /// The list for a workload; two equal ones told one after the other are the same.
    pub(crate) fn current(&self, meshed: bool) -> Arc<Vec<VirtualAddress>> {
        let lists = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(if meshed { &lists.datagrams } else { &lists.all })
    }

    fn set(&self, told: &[node::VirtualAddress]) {
        let read = |one: &node::VirtualAddress| {
            let endpoints = one.endpoints.iter().filter_map(|text| text.parse().ok()).collect();
            Some(VirtualAddress { address: one.address.parse().ok()?, endpoints, udp: one.udp })
        };
        let new: Vec<VirtualAddress> = told.iter().filter_map(read).collect();
        let mut lists = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let datagrams: Vec<VirtualAddress> = new.iter().filter(|one| one.udp).cloned().collect();
        if *lists.datagrams != datagrams {
            lists.datagrams = Arc::new(datagrams);
        }
        if *lists.all != new {
            lists.all = Arc::new(new);
        }
    }
}

/// What a namespace has been given.
#[derive(Debug, Default)]
pub(crate) struct Given(Mutex<Option<Arc<Vec<VirtualAddress>>>>);

impl Given {
    /// Gives a namespace the addresses, unless it has these very ones. Blocks for some milliseconds.
    pub(crate) fn give(&self, list: &Arc<Vec<VirtualAddress>>, namespace: &NetworkNamespace) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = given.as_ref().is_some_and(|given| Arc::ptr_eq(given, list));
        if same || (given.is_none() && list.is_empty()) {
            return;
        }
        match serve_virtual_addresses(list, namespace) {
            Ok(()) => *given = Some(Arc::clone(list)),
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%error, "a workload does not reach services that the kernel leads to");
            }
        }
    }
}

/// Takes a new list, and gives it to every running workload that has another one.
pub(super) async fn follow(services: &Arc<Services>, told: &[node::VirtualAddress]) {
    services.virtual_addresses.set(told);
    let contexts = services.contexts();
    if contexts.is_empty() {
        return;
    }
    let all = services.virtual_addresses.current(false);
    let datagrams = services.virtual_addresses.current(true);
    let work = move || {
        for context in &contexts {
            context.give_addresses(if context.desired.meshed { &datagrams } else { &all });
        }
    };
    // An error means that it panicked, which is told where it happens.
    let _ = tokio::task::spawn_blocking(work).await;
}
