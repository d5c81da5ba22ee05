//! What a proxy has, and what of it is in effect.
//!
//! A resource takes effect only when everything it refers to is held or known not to exist, and what it replaces
//! stays in effect until then (make before break). What nothing wants and nothing refers to is let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_ir::destination::{ClientTls, Destination, EndpointSource};
use heddle_ir::gateway::{AuthoritySource, CertificateSource, Gateway, ServerTls};
use heddle_ir::proxy::ProxyRole;
use heddle_ir::resource::{Resource, ResourceName};

use crate::client::Update;

/// A change of what is in effect.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// The resource is in effect from now on.
    Set(ResourceName, Resource),
    /// The resource is not there any more.
    Unset(ResourceName),
}

/// What follows from a change.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// In order.
    pub effects: Vec<Effect>,
    /// To be unsubscribed from.
    pub unwant: Vec<ResourceName>,
    /// To be subscribed to, after the former: a name in both was let go and is needed anew.
    pub want: Vec<ResourceName>,
}

/// Everything a proxy has.
#[derive(Debug, Default)]
pub struct Holdings {
    entries: BTreeMap<ResourceName, Entry>,
    /// Those of which something waits.
    waiting: BTreeSet<ResourceName>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Wanted for itself.
    wanted: bool,
    /// How many resources, in effect or waiting, refer to it.
    referrers: usize,
    /// The server has said something about it.
    answered: bool,
    effective: Option<Resource>,
    /// Came, but does not have all it refers to yet.
    waiting: Option<Resource>,
}

/// The resources that must be held for this one to take effect.
pub fn references(resource: &Resource) -> Vec<ResourceName> {
    let mut names = match resource {
        Resource::Gateway(gateway) => gateway_references(gateway),
        Resource::Outbound(outbound) => destination_references(&outbound.destinations).collect(),
        Resource::Proxy(settings) => {
            let mut names = vec![ResourceName::Index(settings.scope.clone())];
            if settings.role == ProxyRole::Gateway {
                names.push(ResourceName::Gateway(settings.workload.id.clone()));
            }
            names
        }
        // Whoever counts limits is looked for when asked.
        Resource::Endpoints(_)
        | Resource::Inbound(_)
        | Resource::Index(_)
        | Resource::Secret(_)
        | Resource::TrustBundle(_)
        | Resource::Workload(_) => Vec::new(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

fn destination_references<'a>(
    destinations: impl IntoIterator<Item = &'a Arc<Destination>>,
) -> impl Iterator<Item = ResourceName> {
    destinations.into_iter().flat_map(|destination| {
        let endpoints = match &destination.endpoints {
            EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => None,
            EndpointSource::Set(key) => Some(ResourceName::Endpoints(key.clone())),
        };
        let secrets = match &destination.tls {
            ClientTls::Originate(tls) => {
                tls.credential.iter().chain(&tls.ca_certificates).cloned().collect()
            }
            ClientTls::Auto | ClientTls::Disable | ClientTls::Mesh => Vec::new(),
        };
        endpoints.into_iter().chain(secrets.into_iter().map(ResourceName::Secret))
    })
}

fn gateway_references(gateway: &Gateway) -> Vec<ResourceName> {
    let mut names: Vec<ResourceName> = destination_references(&gateway.destinations).collect();
    for server in gateway.listeners.iter().flat_map(|listener| &listener.servers) {
        let Some(ServerTls::Terminate(tls)) = &server.tls else { continue };
        let certificates = tls.certificates.iter().filter_map(|source| match source {
            CertificateSource::Secret(key) => Some(key),
            CertificateSource::Files { .. } | CertificateSource::Mesh => None,
        });
        let authorities = match &tls.client_authority {
            Some(AuthoritySource::Secrets(keys)) => keys.as_slice(),
            Some(AuthoritySource::File(_) | AuthoritySource::Mesh) | None => &[],
        };
        names.extend(certificates.chain(authorities).cloned().map(ResourceName::Secret));
    }
    names
}

impl Holdings {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the resource is wanted for itself.
    pub fn want(&mut self, name: &ResourceName) -> Effects {
        let mut effects = Effects::default();
        if !self.entries.contains_key(name) {
            effects.want.push(name.clone());
        }
        self.entries.entry(name.clone()).or_default().wanted = true;
        effects
    }

    /// The resource is no longer wanted for itself; it goes unless something refers to it.
    pub fn unwant(&mut self, name: &ResourceName) -> Effects {
        let mut effects = Effects::default();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.wanted = false;
            self.let_go_if_unused(name, &mut effects);
        }
        effects
    }

    /// Takes in what the server said.
    pub fn apply(&mut self, updates: Vec<Update>) -> Effects {
        let mut effects = Effects::default();
        for Update { name, resource } in updates {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.answered = true;
            match resource {
                Some(resource) => {
                    let replaced = entry.waiting.replace(resource.clone());
                    self.waiting.insert(name);
                    self.retain(&references(&resource), &mut effects);
                    self.release(replaced.as_ref(), &mut effects);
                }
                None => self.remove(&name, &mut effects),
            }
        }
        self.promote(&mut effects);
        effects
    }

    /// The resource as it is in effect.
    pub fn effective(&self, name: &ResourceName) -> Option<&Resource> {
        self.entries.get(name)?.effective.as_ref()
    }

    /// Whether the server has said that the resource does not exist.
    pub fn is_absent(&self, name: &ResourceName) -> bool {
        self.entries.get(name).is_some_and(|entry| {
            entry.answered && entry.effective.is_none() && entry.waiting.is_none()
        })
    }

    /// Everything in effect.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &Resource)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name, entry.effective.as_ref()?)))
    }

    /// Puts into effect whatever has all it refers to. What has no references goes first, so that whatever refers
    /// to it comes after it.
    fn promote(&mut self, effects: &mut Effects) {
        while let Some(name) = self.waiting.iter().find(|name| self.is_ready(name)).cloned() {
            self.waiting.remove(&name);
            let Some(entry) = self.entries.get_mut(&name) else { return };
            let Some(resource) = entry.waiting.take() else { return };
            let replaced = entry.effective.replace(resource.clone());
            effects.effects.push(Effect::Set(name, resource));
            self.release(replaced.as_ref(), effects);
        }
    }

    fn is_ready(&self, name: &ResourceName) -> bool {
        let held = |name: &ResourceName| {
            self.entries.get(name).is_some_and(|entry| entry.answered && entry.waiting.is_none())
        };
        let waiting = self.entries.get(name).and_then(|entry| entry.waiting.as_ref());
        waiting.is_some_and(|resource| references(resource).iter().all(held))
    }

    fn remove(&mut self, name: &ResourceName, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let (waiting, effective) = (entry.waiting.take(), entry.effective.take());
        self.waiting.remove(name);
        if effective.is_some() {
            effects.effects.push(Effect::Unset(name.clone()));
        }
        self.release(waiting.as_ref(), effects);
        self.release(effective.as_ref(), effects);
    }

    fn retain(&mut self, names: &[ResourceName], effects: &mut Effects) {
        for name in names {
            if !self.entries.contains_key(name) {
                effects.want.push(name.clone());
            }
            self.entries.entry(name.clone()).or_default().referrers += 1;
        }
    }

    fn release(&mut self, resource: Option<&Resource>, effects: &mut Effects) {
        for name in resource.map(references).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.referrers -= 1;
                self.let_go_if_unused(&name, effects);
            }
        }
    }

    fn let_go_if_unused(&mut self, name: &ResourceName, effects: &mut Effects) {
        let unused =
            self.entries.get(name).is_some_and(|entry| !entry.wanted && entry.referrers == 0);
        if !unused {
            return;
        }
        self.remove(name, effects);
        self.entries.remove(name);
        // Wanted and let go by the same change: the server need not hear of it.
        match effects.want.iter().position(|wanted| wanted == name) {
            Some(position) => drop(effects.want.remove(position)),
            None => effects.unwant.push(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
