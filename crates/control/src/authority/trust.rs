//! What the authority trusts beside its own root, and what it does not accept any more.

use std::collections::BTreeMap;
use std::time::SystemTime;

use heddle_cert::{Root, Serial};
use heddle_ident::TrustDomain;
use heddle_store::Store;
use heddle_tls::root_from_pem;
use heddle_translate::{MeshAuthority, TrustSettings};

use super::{CertificateAuthority, CertificateAuthorityError};

impl CertificateAuthority {
    /// Follows the mesh configuration. True: the bundle is another one.
    pub(crate) fn follow_settings(
        &mut self,
        store: &Store,
        settings: &TrustSettings,
    ) -> Result<bool, CertificateAuthorityError> {
        let mut trusted: BTreeMap<TrustDomain, Vec<Root>> = BTreeMap::new();
        let own = self.domain().clone();
        trusted.entry(own.clone()).or_default().extend(self.plugged_roots.iter().cloned());
        for authority in &settings.authorities {
            let Some(roots) = self.readable(authority) else { continue };
            let domains = match authority.trust_domains.as_slice() {
                [] => std::slice::from_ref(&own),
                domains => domains,
            };
            for domain in domains {
                let known = trusted.entry(domain.clone()).or_default();
                for root in &roots {
                    if !known.iter().any(|held| held.id == root.id) {
                        known.push(root.clone());
                    }
                }
            }
        }
        trusted.retain(|_, roots| !roots.is_empty());
        let aliases = settings.aliases.clone();
        let changed = self.authority.set_aliases(aliases)?.is_some()
            | self.authority.set_trusted(trusted)?.is_some();
        if changed {
            self.store(store)?;
        }
        Ok(changed)
    }

    /// What cannot be read is trusted by nobody, and told.
    fn readable(&self, authority: &MeshAuthority) -> Option<Vec<Root>> {
        match root_from_pem(&self.provider, &authority.pem) {
            Ok(roots) => Some(roots),
            Err(error) => {
                let hint = "certificates in PEM that may sign are needed; until then nobody they vouch for is accepted";
                tracing::error!(at = %authority.origin, %error, hint, "an authority cannot be read");
                None
            }
        }
    }

    /// Sets the roots of another trust domain; none ends the federation. True: the bundle is another one.
    pub(crate) fn federate(
        &mut self,
        store: &Store,
        domain: &TrustDomain,
        roots: Vec<Root>,
    ) -> Result<bool, CertificateAuthorityError> {
        let changed = self.authority.federate(domain.clone(), roots)?.is_some();
        if changed {
            self.store(store)?;
        }
        Ok(changed)
    }

    /// Nobody accepts the certificate of this number any more. True: the bundle is another one.
    pub(crate) fn revoke(
        &mut self,
        store: &Store,
        serial: Serial,
        now: SystemTime,
    ) -> Result<bool, CertificateAuthorityError> {
        let changed = self.authority.revoke(now, serial)?.is_some();
        if changed {
            tracing::info!(%serial, "a certificate is revoked");
            self.store(store)?;
        }
        Ok(changed)
    }

    /// Roots of other trust domains, and those that are configured.
    pub(crate) fn other_roots(&self) -> Vec<(TrustDomain, Root)> {
        let Ok(bundle) = self.authority.bundle() else { return Vec::new() };
        let own: Vec<_> = self.authority.roots().iter().map(|root| root.id.clone()).collect();
        let all = bundle.domains().flat_map(|(domain, roots)| {
            roots.iter().map(move |root| (domain.clone(), root.clone()))
        });
        all.filter(|(_, root)| !own.contains(&root.id)).collect()
    }

    /// Revocation lists, counted from 1, and when each should be replaced at the latest.
    pub(crate) fn aging_lists(&self) -> Vec<(usize, SystemTime)> {
        let Ok(bundle) = self.authority.bundle() else { return Vec::new() };
        let lists = bundle.revocation_lists().iter().enumerate();
        let due = |(index, list): (usize, &std::sync::Arc<[u8]>)| {
            Some((index + 1, heddle_tls::revocation_list_due(list).ok()??))
        };
        lists.filter_map(due).collect()
    }

    /// What is revoked, and until when it would be valid.
    pub(crate) fn revoked(&self) -> impl Iterator<Item = (Serial, SystemTime)> {
        self.authority.revoked()
    }
}
