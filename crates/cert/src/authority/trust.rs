//! Whom the mesh trusts beside the root that signs: other trust domains, aliases, further roots; and what it does not
//! trust any more although a root vouches for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ident::TrustDomain;

use super::{Authority, AuthorityChange, AuthorityError, Serial};
use crate::{BundleError, Root, TrustBundle};

impl Authority {
    /// The bundle to distribute, also with every issued leaf.
    ///
    /// Each trust domain has its own roots only, so that a foreign authority cannot vouch for the mesh's identities;
    /// an alias is the mesh's own domain under another name and has the own roots beside those it was given.
    pub fn bundle(&self) -> Result<TrustBundle, BundleError> {
        let mut own = self.roots.clone();
        add_missing(&mut own, self.trusted.get(&self.domain));
        let (generation, signer) = (self.generation, self.signer.clone());
        let mut bundle = TrustBundle::new(generation, self.domain.clone(), signer, own.clone())?;
        let others: BTreeSet<&TrustDomain> =
            self.federated.keys().chain(self.trusted.keys()).chain(&self.aliases).collect();
        for domain in others.into_iter().filter(|domain| **domain != self.domain) {
            let mut roots = self.federated.get(domain).cloned().unwrap_or_default();
            add_missing(&mut roots, self.trusted.get(domain));
            if self.aliases.contains(domain) {
                add_missing(&mut roots, Some(&own));
            }
            bundle = bundle.federate(domain.clone(), roots)?;
        }
        bundle.revoke(self.revoked.keys().copied().collect(), self.revocation_lists.clone())
    }

    /// Other trust domains with roots of their own.
    pub fn federated(&self) -> impl Iterator<Item = (&TrustDomain, &[Root])> {
        self.federated.iter().map(|(domain, roots)| (domain, roots.as_slice()))
    }

    /// Sets the roots of another trust domain; none removes it. None: it was so before.
    pub fn federate(
        &mut self,
        domain: TrustDomain,
        roots: Vec<Root>,
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        let before = self.federated.clone();
        if domain == self.domain {
            return Err(BundleError::DomainTwice { domain }.into());
        }
        if roots.is_empty() {
            self.federated.remove(&domain);
        } else {
            self.federated.insert(domain, roots);
        }
        if self.federated == before {
            return Ok(None);
        }
        self.keep_if_whole(|own| own.federated = before)
    }

    /// Sets the other names of the own trust domain. None: they were the same before.
    pub fn set_aliases(
        &mut self,
        mut aliases: Vec<TrustDomain>,
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        aliases.sort();
        aliases.dedup();
        if self.aliases == aliases {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.aliases, aliases);
        self.keep_if_whole(|own| own.aliases = before)
    }

    /// Sets the roots that are configured: with those of the own domain this authority never signs (those beside a
    /// plugged-in one, and those of `MeshConfig.caCertificates`). None: they were the same before.
    pub fn set_trusted(
        &mut self,
        trusted: BTreeMap<TrustDomain, Vec<Root>>,
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        if self.trusted == trusted {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.trusted, trusted);
        self.keep_if_whole(|own| own.trusted = before)
    }

    /// Sets the revocation lists of authorities above the own one. None: they were the same before.
    pub fn set_revocation_lists(
        &mut self,
        lists: Vec<Arc<[u8]>>,
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        if self.revocation_lists == lists {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.revocation_lists, lists);
        self.keep_if_whole(|own| own.revocation_lists = before)
    }

    /// The leaf of this serial number is accepted by nobody from the next bundle on; its holder, when it is still
    /// there, asks for another one with another key. None: it is revoked already.
    pub fn revoke(
        &mut self,
        now: SystemTime,
        serial: Serial,
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        if self.revoked.contains_key(&serial) {
            return Ok(None);
        }
        let leaves = self.holders.values().flat_map(|holder| holder.live(now));
        let listed = leaves.filter(|leaf| leaf.serial == serial).map(|leaf| leaf.not_after).max();
        let until = listed.or_else(|| self.unlisted_end(now, None));
        let until = until.ok_or(AuthorityError::UnknownLeaf { serial })?;
        self.revoked.insert(serial, until);
        self.keep_if_whole(|own| {
            own.revoked.remove(&serial);
        })
    }

    /// Leaves that were revoked and have not expired yet, and until when they would be valid.
    pub fn revoked(&self) -> impl Iterator<Item = (Serial, SystemTime)> {
        self.revoked.iter().map(|(serial, until)| (*serial, *until))
    }

    /// What has expired need not be named any more.
    pub(super) fn drop_expired_revocations(&mut self, now: SystemTime) -> Vec<AuthorityChange> {
        let before = self.revoked.len();
        self.revoked.retain(|_, until| *until >= now);
        if self.revoked.len() == before { Vec::new() } else { vec![self.next_generation()] }
    }

    /// The next generation, or the former state where no bundle can be made of the new one.
    fn keep_if_whole(
        &mut self,
        undo: impl FnOnce(&mut Self),
    ) -> Result<Option<AuthorityChange>, AuthorityError> {
        if let Err(error) = self.bundle() {
            undo(self);
            return Err(error.into());
        }
        Ok(Some(self.next_generation()))
    }
}

fn add_missing(roots: &mut Vec<Root>, others: Option<&Vec<Root>>) {
    for root in others.into_iter().flatten() {
        if !roots.iter().any(|held| held.id == root.id) {
            roots.push(root.clone());
        }
    }
}

#[cfg(test)]
mod tests;
