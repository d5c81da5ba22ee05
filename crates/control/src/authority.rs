//! The mesh's certificate authority: its keys, its state in the store, and the certificates it signs.
//!
//! `cert` decides which root signs and when a root may go, `tls` signs. Here both are kept together with the store.
//! What is signed is known to the store before the answer goes out, since a root may be retired only when no leaf of
//! it lives. With short lifetimes a write per certificate would be too many, so the store then keeps a time instead, up
//! to which leaves may live, and which is moved ahead by more than needed.

pub(crate) mod plugged;
mod record;
pub(crate) mod tokens;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{
    Authority, AuthorityChange, AuthorityError, HolderId, HolderRecord, Root, RootId,
    RotationPhase, RotationStatus, Serial, Validity,
};
use heddle_ident::{SpiffeId, TrustDomain};
use heddle_ir::trust::{TrustBundle, TrustedDomain};
use heddle_proto::certificate::CertificateResponse;
use heddle_store::{Store, StoreError};
use heddle_tls::{CertificateError, CryptoProvider, PluggedIn, SignError, SigningRoot};

use record::Record;

/// What the names of documents with an authority's state begin with; its trust domain follows.
const DOCUMENT_PREFIX: &str = "authority/";
/// What the names of secrets begin with; the id of the root follows.
const KEY_PREFIX: &str = "authority-key/";

/// Leaves that live shorter are not stored one by one.
const LISTED_LIFETIME_MIN: Duration = Duration::from_mins(10);

/// Lifetimes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// Of a workload's certificate.
    pub leaf: Duration,
    /// Of a root.
    pub root: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { leaf: heddle_cert::LEAF_LIFETIME_DEFAULT, root: Duration::from_hours(24 * 365 * 10) }
    }
}

/// The authority cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CertificateAuthorityError {
    /// It would hurt somebody, or makes no sense now.
    #[error("the authority refuses")]
    Authority(#[from] AuthorityError),
    /// Others made its root, and others replace it.
    #[error(
        "the authority is plugged in: put the new one's files where the present ones are, and it is replaced in stages"
    )]
    PluggedIn,
    /// Its stored state cannot be read.
    #[error("the authority's stored state cannot be read: {0}")]
    Record(String),
    /// A key or certificate cannot be used.
    #[error("the authority cannot sign")]
    Sign(#[from] SignError),
    /// The store failed.
    #[error("the authority's state cannot be stored")]
    Store(#[from] StoreError),
}

/// The authority with its keys.
pub(crate) struct CertificateAuthority {
    provider: Arc<CryptoProvider>,
    lifetimes: Lifetimes,
    authority: Authority,
    signers: BTreeMap<RootId, SigningRoot>,
    /// As stored: for each root, until when leaves may live.
    reserved_until: BTreeMap<RootId, SystemTime>,
    /// Leaves signed since the start.
    issued: u64,
    /// The root of a plugged-in authority; none: the authority makes its own.
    plugged: Option<RootId>,
    /// The roots that came with it.
    plugged_roots: Vec<Root>,
}

impl CertificateAuthority {
    /// Reads the authority from the store, or makes one.
    pub(crate) fn open(
        store: &Store,
        provider: Arc<CryptoProvider>,
        domain: &TrustDomain,
        lifetimes: Lifetimes,
        plugged: Option<PluggedIn>,
        now: SystemTime,
    ) -> Result<Self, CertificateAuthorityError> {
        if let Some(document) = store.document(&format!("{DOCUMENT_PREFIX}{domain}"))? {
            let record = Record::parse(&document).map_err(CertificateAuthorityError::Record)?;
            let mut own = Self::restore(store, provider, record, lifetimes)?;
            if let Some(plugged) = plugged {
                own.plug_in(store, plugged)?;
            }
            return Ok(own);
        }
        let (signer, plugged) = match plugged {
            Some(PluggedIn { signer, roots, revocation_lists }) => {
                (signer, Some((roots, revocation_lists)))
            }
            None => (SigningRoot::generate(provider.clone(), domain, now, lifetimes.root)?, None),
        };
        let authority = Authority::new(domain.clone(), signer.root().clone(), now);
        let id = signer.root().id.clone();
        let mut own = Self {
            provider,
            lifetimes,
            authority,
            signers: BTreeMap::from([(id.clone(), signer)]),
            reserved_until: BTreeMap::new(),
            issued: 0,
            plugged: None,
            plugged_roots: Vec::new(),
        };
        if let Some((roots, revocation_lists)) = plugged {
            own.plugged = Some(id.clone());
            own.plugged_roots = roots;
            own.authority.set_revocation_lists(revocation_lists)?;
        }
        own.store_key(store, &id)?;
        own.store(store)?;
        Ok(own)
    }

    fn restore(
        store: &Store,
        provider: Arc<CryptoProvider>,
        record: Record,
        lifetimes: Lifetimes,
    ) -> Result<Self, CertificateAuthorityError> {
        let secrets = store.secrets()?;
        let mut signers = BTreeMap::new();
        for (id, chain) in &record.chains {
            let missing = || CertificateAuthorityError::Record(format!("key of {id} is missing"));
            // Of a root that was retired, as stores of before may name it; the one that signs is asked for below.
            let Some(key) = secrets.get(&format!("{KEY_PREFIX}{id}")) else { continue };
            let key = std::str::from_utf8(key).map_err(|_| missing())?;
            let signer = SigningRoot::from_pem(provider.clone(), chain, key)?;
            signers.insert(signer.root().id.clone(), signer);
        }
        let record = record
            .into_authority(|pem| {
                heddle_tls::root_from_pem(&provider, pem)
                    .map_err(|e: CertificateError| e.to_string())
            })
            .map_err(CertificateAuthorityError::Record)?;
        let reserved_until = record.unlisted_until.clone();
        let authority = Authority::restore(record);
        if !signers.contains_key(authority.signer()) {
            let detail = format!("key of the signing root {} is missing", authority.signer());
            return Err(CertificateAuthorityError::Record(detail));
        }
        Ok(Self {
            provider,
            lifetimes,
            authority,
            signers,
            reserved_until,
            issued: 0,
            plugged: None,
            plugged_roots: Vec::new(),
        })
    }

    /// The trust domain.
    pub(crate) fn domain(&self) -> &TrustDomain {
        self.authority.domain()
    }

    /// Takes the place of the authority of another trust domain: its roots stay in the bundle, so that workloads that
    /// still prove an identity of that domain are understood.
    pub(crate) fn succeed(
        &mut self,
        store: &Store,
        other: &Self,
    ) -> Result<(), CertificateAuthorityError> {
        self.authority.federate(other.domain().clone(), other.authority.roots().to_vec())?;
        self.store(store)
    }

    /// Signs a request for exactly this identity. `holder` names one run of a workload.
    pub(crate) fn sign(
        &mut self,
        store: &Store,
        now: SystemTime,
        holder: &HolderId,
        identity: &SpiffeId,
        request: &[u8],
    ) -> Result<CertificateResponse, CertificateAuthorityError> {
        let signer = self.signer()?;
        let serial = signer.new_serial()?;
        // Also not longer than an intermediate of the chain.
        let left = signer.not_after().duration_since(now).unwrap_or_default();
        let lifetime = self.lifetimes.leaf.min(left);
        let plan = self.authority.issue(now, holder, identity, lifetime, serial)?;
        self.reserve(store, &plan.root, plan.validity.not_after)?;
        let signer = self.signer()?;
        let chain = signer.sign(request, identity, plan.validity, plan.serial)?;
        let mut cert_chain: Vec<String> = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        cert_chain.push(pem("CERTIFICATE", &signer.root().der));
        self.issued += 1;
        Ok(CertificateResponse { cert_chain })
    }

    /// Begins to replace the root. Proxies notice nothing.
    pub(crate) fn rotate(
        &mut self,
        store: &Store,
        now: SystemTime,
    ) -> Result<RootId, CertificateAuthorityError> {
        if self.is_plugged() {
            return Err(CertificateAuthorityError::PluggedIn);
        }
        let provider = self.provider.clone();
        let root_lifetime = self.lifetimes.root;
        let signer = SigningRoot::generate(provider, self.domain(), now, root_lifetime)?;
        let id = signer.root().id.clone();
        self.authority.begin_rotation(signer.root().clone())?;
        self.signers.insert(id.clone(), signer);
        // The key first: a state that names a root without key would be of no use after a crash.
        self.store_key(store, &id)?;
        self.store(store)?;
        Ok(id)
    }

    /// A proxy verifies with the bundle of this generation.
    pub(crate) fn handle_acknowledged(
        &mut self,
        now: SystemTime,
        holder: &HolderId,
        generation: u64,
    ) {
        self.authority.handle_acknowledged(now, holder, generation);
    }

    /// A proxy proves itself with this leaf from now on.
    pub(crate) fn handle_installed(
        &mut self,
        store: &Store,
        holder: &HolderId,
        identity: &SpiffeId,
        serial: Serial,
    ) -> Result<(), CertificateAuthorityError> {
        // Stored, or a restart would wait for the older leaves to expire.
        if self.authority.handle_installed(holder, identity, serial) && self.lists_leaves() {
            self.store(store)?;
        }
        Ok(())
    }

    /// Removes a root that nobody needs any more, or says who does.
    pub(crate) fn retire(
        &mut self,
        store: &Store,
        now: SystemTime,
        root: &RootId,
    ) -> Result<(), CertificateAuthorityError> {
        let changes = self.authority.retire(now, root)?;
        self.follow(store, &changes)
    }

    /// Whether anything is known of a holder.
    pub(crate) fn holds(&self, holder: &HolderId) -> bool {
        self.authority.knows(holder)
    }

    /// Who holds which certificates.
    pub(crate) fn holders(&self) -> Vec<HolderRecord> {
        self.authority.record().holders
    }

    /// The workload's run is over, and its key is gone with it.
    pub(crate) fn forget_holder(&mut self, holder: &HolderId) {
        self.authority.forget_holder(holder);
    }

    /// Goes on with a rotation where nobody would be hurt, and begins one when the root grows old. True: the bundle
    /// is another one.
    pub(crate) fn advance(
        &mut self,
        store: &Store,
        now: SystemTime,
    ) -> Result<bool, CertificateAuthorityError> {
        let mut changed = false;
        if !self.is_plugged() && self.authority.rotation_due(now) {
            self.rotate(store, now)?;
            changed = true;
        }
        let changes = self.authority.advance(now);
        if changes.is_empty() {
            return Ok(changed);
        }
        self.follow(store, &changes)?;
        Ok(true)
    }

    /// Stores what changed, and destroys keys that are not needed any more.
    fn follow(
        &mut self,
        store: &Store,
        changes: &[AuthorityChange],
    ) -> Result<(), CertificateAuthorityError> {
        // What is stored names no root that is gone: its key is removed after that, so that a crash in between leaves a key
        // that nobody needs, and never a root without its key.
        for change in changes {
            if let AuthorityChange::RootRetired { root } = change {
                self.signers.remove(root);
                self.reserved_until.remove(root);
            }
        }
        self.store(store)?;
        for change in changes {
            match change {
                AuthorityChange::Bundle { generation } => {
                    tracing::info!(generation, "trust bundle changed");
                }
                AuthorityChange::RootRetired { root } => {
                    tracing::info!(%root, "root retired");
                    store.remove_secret(&format!("{KEY_PREFIX}{}", root.as_str()))?;
                }
                AuthorityChange::SignerSwitched { root } => {
                    tracing::info!(%root, "certificates are signed by another root from now on");
                }
            }
        }
        Ok(())
    }

    /// Whether a rotation runs.
    pub(crate) fn is_rotating(&self, now: SystemTime) -> bool {
        self.status(now).phase != RotationPhase::Steady
    }

    /// Where a rotation stands.
    pub(crate) fn status(&self, now: SystemTime) -> RotationStatus {
        self.authority.status(now)
    }

    /// The roots as certificates are verified with them.
    pub(crate) fn trust_bundle(
        &self,
    ) -> Result<heddle_cert::TrustBundle, CertificateAuthorityError> {
        Ok(self.authority.bundle().map_err(AuthorityError::from)?)
    }

    /// The roots as proxies get them.
    pub(crate) fn bundle(&self) -> Result<TrustBundle, CertificateAuthorityError> {
        let bundle = self.authority.bundle().map_err(AuthorityError::from)?;
        let domains = bundle.domains().map(|(domain, roots)| TrustedDomain {
            trust_domain: domain.clone(),
            roots: roots.iter().map(|root| root.der.clone()).collect(),
        });
        Ok(TrustBundle {
            generation: bundle.generation(),
            trust_domain: bundle.domain().clone(),
            signer: bundle.signer().as_str().into(),
            domains: domains.collect(),
            revoked: bundle.revoked().iter().map(|serial| Arc::from(serial.0)).collect(),
            revocation_lists: bundle.revocation_lists().to_vec(),
        })
    }

    /// Roots of the own domain, oldest first, and whether each signs.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&Root, bool)> {
        let signer = self.authority.signer();
        self.authority.roots().iter().map(move |root| (root, root.id == *signer))
    }

    /// What stands between the signing root and what it signs; nothing where it signs itself.
    pub(crate) fn intermediates(&self) -> Vec<(RootId, Validity)> {
        self.signer().map(|signer| signer.intermediates().collect()).unwrap_or_default()
    }

    /// Certificates signed since the start.
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    fn signer(&self) -> Result<&SigningRoot, CertificateAuthorityError> {
        let id = self.authority.signer();
        let missing = || CertificateAuthorityError::Record(format!("key of root {id} is missing"));
        self.signers.get(id).ok_or_else(missing)
    }

    /// Makes sure the store knows that leaves of the root may live until then.
    fn reserve(
        &mut self,
        store: &Store,
        root: &RootId,
        until: SystemTime,
    ) -> Result<(), CertificateAuthorityError> {
        if self.lists_leaves() {
            return self.store(store);
        }
        if self.reserved_until.get(root).is_some_and(|reserved| *reserved >= until) {
            return Ok(());
        }
        // Ahead by a quarter of a lifetime, so that not every certificate costs a write.
        let ahead = (self.lifetimes.leaf / 4).max(Duration::from_secs(10));
        self.reserved_until.insert(root.clone(), until + ahead);
        self.store(store)
    }

    fn lists_leaves(&self) -> bool {
        self.lifetimes.leaf >= LISTED_LIFETIME_MIN
    }

    fn store(&self, store: &Store) -> Result<(), CertificateAuthorityError> {
        let chains = self
            .signers
            .iter()
            .map(|(id, signer)| (id.as_str().to_owned(), signer.chain_pem()))
            .collect();
        let mut record = self.authority.record();
        if !self.lists_leaves() {
            record.holders.clear();
        }
        let record = Record::new(record, &self.reserved_until, chains);
        store.put_document(&format!("{DOCUMENT_PREFIX}{}", self.domain()), &record.format())?;
        Ok(())
    }

    fn store_key(&self, store: &Store, id: &RootId) -> Result<(), CertificateAuthorityError> {
        if let Some(signer) = self.signers.get(id) {
            let name = format!("{KEY_PREFIX}{}", id.as_str());
            store.put_secret(&name, signer.key_pem().as_bytes())?;
        }
        Ok(())
    }
}

/// DER in PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// The DER of a signing request in PEM.
pub(crate) fn request_from_pem(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    const LABELS: [(&str, &str); 2] = [
        ("-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"),
        ("-----BEGIN NEW CERTIFICATE REQUEST-----", "-----END NEW CERTIFICATE REQUEST-----"),
    ];
    let body = LABELS
        .iter()
        .find_map(|(begin, end)| text.split_once(begin)?.1.split_once(end).map(|(body, _)| body))?;
    let body: String = body.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}
