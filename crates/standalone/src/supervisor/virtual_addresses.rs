//! Virtual addresses in the namespaces of workloads without a proxy.

use std::sync::{Arc, Mutex, PoisonError};

use heddle_net::interception::{VirtualAddress, serve_virtual_addresses};
use heddle_net::namespace::NetworkNamespace;
use heddle_proto::node;

use super::Services;
use super::probes::chain;

/// The addresses of all services, as the control plane told last.
#[derive(Debug, Default)]
pub(crate) struct VirtualAddresses {
    current: Mutex<Arc<Vec<VirtualAddress>>>,
}

impl VirtualAddresses {
    /// The list; two equal ones told one after the other are the same.
    pub(crate) fn current(&self) -> Arc<Vec<VirtualAddress>> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, told: &[node::VirtualAddress]) {
        let read = |one: &node::VirtualAddress| {
            let endpoints = one.endpoints.iter().filter_map(|text| text.parse().ok()).collect();
            Some(VirtualAddress { address: one.address.parse().ok()?, endpoints })
        };
        let new: Vec<VirtualAddress> = told.iter().filter_map(read).collect();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if **current != new {
            *current = Arc::new(new);
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
        if given.as_ref().is_some_and(|given| Arc::ptr_eq(given, list)) {
            return;
        }
        match serve_virtual_addresses(list, namespace) {
            Ok(()) => *given = Some(Arc::clone(list)),
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%error, "a workload without a proxy does not reach services");
            }
        }
    }
}

/// Takes a new list, and gives it to every running workload without a proxy that has another one.
pub(super) async fn follow(services: &Arc<Services>, told: &[node::VirtualAddress]) {
    services.virtual_addresses.set(told);
    let list = services.virtual_addresses.current();
    let plain: Vec<_> =
        services.contexts().into_iter().filter(|context| !context.desired.meshed).collect();
    if plain.is_empty() {
        return;
    }
    let work = move || plain.iter().for_each(|context| context.give_addresses(&list));
    // An error means that it panicked, which is told where it happens.
    let _ = tokio::task::spawn_blocking(work).await;
}
