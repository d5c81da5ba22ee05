//! Whom the mesh trusts: what the configuration says, a plugged-in authority, other trust domains, revocations.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_api::Resource as AnyObject;
use heddle_cert::{ParseSerialError, Root, Serial};
use heddle_diag::error_chain;
use heddle_ident::{TrustDomain, WorkloadId};
use heddle_proto::certificate::TokenResponse;
use heddle_tls::{CryptoProvider, PluggedIn};
use heddle_translate::ObjectKey;
use zeroize::Zeroizing;

use super::State;
use crate::authority::CertificateAuthorityError;
use crate::authority::plugged::{self, FILES, Files, PluggedFolderError};
use crate::authority::tokens::{TokenKeys, TokenSigningError};
use crate::timestamp::millis;
use crate::{ControlError, Options};

/// The Secret that an authority is plugged in with, as Istio names it.
const SECRET: &str = "cacerts";
/// How often the folder is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Where a plugged-in authority comes from, and what was found there last.
#[derive(Default)]
pub(super) struct Plugging {
    folder: Option<PathBuf>,
    /// What is in use, or was refused.
    files: Option<Files>,
    looked_at: Option<SystemTime>,
    /// What is wrong with it, for people; none: nothing.
    pub(super) refused: Option<String>,
}

impl Plugging {
    /// Reads the folder that the control plane was started with. What is wrong with it then is an error, so that nobody
    /// believes to run with their own authority.
    pub(super) fn open(
        options: &Options,
        provider: &Arc<CryptoProvider>,
        now: SystemTime,
    ) -> Result<(Self, Option<PluggedIn>), PluggedFolderError> {
        let Some(folder) = options.authority_folder.clone() else {
            return Ok((Self::default(), None));
        };
        let domain = &options.translation.trust_domain;
        let plugged = plugged::read(&folder, provider, domain, now)?;
        let files = Some(plugged::read_folder(&folder)?);
        let own = Self { folder: Some(folder), files, looked_at: Some(now), refused: None };
        Ok((own, Some(plugged)))
    }

    /// Another authority signs: what is plugged in must be plugged into that.
    pub(super) fn forget(&mut self) {
        self.files = None;
        self.looked_at = None;
    }

    /// When the folder is to be looked at again, in milliseconds of the wall clock.
    pub(super) fn look_again_ms(&self, now: SystemTime) -> Option<u64> {
        self.folder.as_ref().map(|_| millis(now + LOOK_PERIOD))
    }

    /// The files of the folder where it is time to look; none: they are as before, or cannot be read.
    fn look(&mut self, now: SystemTime) -> Option<Files> {
        let folder = self.folder.as_ref()?;
        let elapsed = self.looked_at.map(|at| now.duration_since(at).unwrap_or(LOOK_PERIOD));
        if elapsed.is_some_and(|elapsed| elapsed < LOOK_PERIOD) {
            return None;
        }
        self.looked_at = Some(now);
        match plugged::read_folder(folder) {
            Ok(files) => Some(files),
            Err(error) => {
                self.refuse(error_chain(&error));
                None
            }
        }
    }

    fn refuse(&mut self, why: String) {
        if self.refused.as_ref() != Some(&why) {
            let hint = "what was in use before stays";
            tracing::error!(why, hint, "the plugged-in authority cannot be used");
        }
        self.refused = Some(why);
    }
}

impl State {
    /// Follows what the configuration and the files say about trust.
    pub(super) fn follow_trust(&mut self, now: SystemTime) {
        let changed = self.follow_plugged(now);
        let settings = self.plan.translator().trust_settings();
        let followed = self.authority.follow_settings(&self.store, &settings);
        let followed = followed.unwrap_or_else(|error| {
            let why = error_chain(&error);
            tracing::error!(why, "whom the mesh configuration trusts cannot be followed");
            false
        });
        if changed || followed {
            self.publish_bundle();
        }
    }

    /// True: the bundle is another one.
    fn follow_plugged(&mut self, now: SystemTime) -> bool {
        let found = if self.plugging.folder.is_some() {
            self.plugging.look(now)
        } else {
            let files = self.secret_files();
            if files.is_none() && self.plugging.files.take().is_some() {
                self.plugging.refused = None;
                self.authority.unplug();
                tracing::info!(
                    "the Secret of the authority is gone; its key goes on signing until the root is replaced"
                );
            }
            files
        };
        let Some(files) = found else { return false };
        if self.plugging.files.as_ref() == Some(&files) {
            return false;
        }
        let read = PluggedIn::read(&self.provider, &files, self.authority.domain(), now);
        let plugged = read.map_err(|error| error_chain(&error)).and_then(|plugged| {
            let done = self.authority.plug_in(&self.store, plugged);
            done.map_err(|error| error_chain(&error))
        });
        match plugged {
            Ok(changed) => {
                self.plugging.files = Some(files);
                self.plugging.refused = None;
                changed
            }
            // Tried again: a rotation may be in the way, which ends.
            Err(why) => {
                self.plugging.refuse(why);
                false
            }
        }
    }

    /// What is in the Secret `cacerts` of the root namespace.
    fn secret_files(&self) -> Option<Files> {
        let namespace = self.plan.translator().trust_settings().root_namespace;
        let stored = self.objects.of(&ObjectKey::new("", "Secret", &namespace, SECRET))?;
        let AnyObject::Secret(secret) = &stored.candidate.object else { return None };
        let bytes = secret.spec.data.iter().map(|(name, bytes)| (name, bytes.0.as_slice()));
        let texts = secret.spec.string_data.iter().map(|(name, text)| (name, text.as_bytes()));
        let known = bytes.chain(texts).filter(|(name, _)| FILES.contains(&name.as_str()));
        Some(known.map(|(name, bytes)| (name.clone(), Zeroizing::new(bytes.to_vec()))).collect())
    }

    /// Sets the roots of another trust domain; none ends the federation.
    pub(crate) fn federate(
        &mut self,
        domain: &TrustDomain,
        roots: Vec<Root>,
    ) -> Result<(), CertificateAuthorityError> {
        if self.authority.federate(&self.store, domain, roots)? {
            self.publish_bundle();
        }
        Ok(())
    }

    /// A token for a workload's application, and the keys of tokens; none: there is no such workload.
    pub(crate) fn create_token(
        &mut self,
        workload: &WorkloadId,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<Option<TokenResponse>, TokenSigningError> {
        let Some((identity, _)) = self.identity_of(workload) else { return Ok(None) };
        let domain = identity.trust_domain();
        let keys = match self.token_keys.take() {
            Some(keys) if keys.domain() == domain => keys,
            Some(_) | None => TokenKeys::open(&self.store, domain)?,
        };
        let keys = self.token_keys.insert(keys);
        keys.answer(&self.store, &identity, audiences, now).map(Some)
    }

    /// The crypto provider, for reading what is sent.
    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Nobody accepts the certificates of a serial number, or of a workload, any more; the serial numbers.
    pub(crate) fn revoke(
        &mut self,
        what: &Revoke,
        now: SystemTime,
    ) -> Result<Vec<Serial>, RevokeError> {
        let serials = match what {
            Revoke::Serial(text) => vec![text.parse()?],
            Revoke::Workload(name) => self.serials_of(name, now),
        };
        if serials.is_empty() {
            return Err(RevokeError::NoCertificate);
        }
        for serial in &serials {
            self.authority.revoke(&self.store, *serial, now).map_err(ControlError::from)?;
        }
        self.publish_bundle();
        self.touch();
        Ok(serials)
    }

    /// Serial numbers of the live certificates of a workload (`namespace/name`, or its whole id).
    fn serials_of(&self, name: &str, now: SystemTime) -> Vec<Serial> {
        let holders = self.authority.holders();
        let entries = self.plan.pods().filter(|entry| {
            let id = entry.workload.as_str();
            id == name || id.split_once("/Pod/").is_some_and(|(_, short)| short == name)
        });
        let ids: Vec<_> = entries
            .flat_map(|entry| {
                let machine = super::machines::machine_holder(&entry.workload);
                super::holders(&entry.workload, &entry.uid).into_iter().chain([machine])
            })
            .collect();
        let held = holders.iter().filter(|holder| ids.contains(&holder.holder));
        let leaves = held.flat_map(|holder| &holder.leaves);
        leaves.filter(|leaf| leaf.not_after >= now).map(|leaf| leaf.serial).collect()
    }
}

/// Whose certificates are revoked.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Revoke {
    /// The one of this number.
    Serial(String),
    /// Those of this workload.
    Workload(String),
}

/// Nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    /// The authority or the store failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nobody of that name has one.
    #[error("no workload of that name has a certificate that is known one by one")]
    NoCertificate,
    /// The number is none.
    #[error(transparent)]
    Serial(#[from] ParseSerialError),
}
