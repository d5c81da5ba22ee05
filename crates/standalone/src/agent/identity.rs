//! The machine's own key and certificate, in memory and in its file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{
    Crypto as _, Issuance, IssuancePolicy, Issued, Root, RootId, Step, Svid, TrustBundle,
};
use heddle_diag::error_chain;
use heddle_ident::{SpiffeId, TrustDomain, WorkloadId};
use heddle_proto::certificate::{JoinResponse, RefreshRequest};
use heddle_tls::{
    ApplicationKey, ApplicationKeys, CryptoProvider, Expected, Identity, Keys, SystemClock,
    certificates_from_pem, control_identity, pem_of, root_from_der, root_from_pem,
};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::{AgentOptions, MachineObject};

/// A root that is replaced waits for every machine: they are few.
const SIGNER_CHANGE_SPREAD: Duration = Duration::from_secs(5);
/// A certificate that has less left is not worth coming back with.
const LEFT_MIN: Duration = Duration::from_secs(5);

/// What the control plane said about the machine when it joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Joined {
    pub(super) workload: String,
    pub(super) address: String,
    pub(super) ranges: Vec<String>,
    control_plane: String,
    account: (String, String),
    group: String,
    entry: String,
}

impl Joined {
    pub(super) fn new(options: &AgentOptions, answer: &JoinResponse) -> Self {
        let (group, entry) = match &options.object {
            MachineObject::Group(name) => (name.clone(), String::new()),
            MachineObject::Entry(name) => (String::new(), name.clone()),
        };
        Self {
            workload: answer.workload.clone(),
            address: answer.address.clone(),
            ranges: answer.workload_ranges.clone(),
            control_plane: options.control_plane.clone(),
            account: options.account.clone(),
            group,
            entry,
        }
    }

    /// Whether the same machine is meant.
    pub(super) fn is_of(&self, options: &AgentOptions) -> bool {
        let same_object = match &options.object {
            MachineObject::Group(name) => self.group == *name && self.entry.is_empty(),
            MachineObject::Entry(name) => self.entry == *name && self.group.is_empty(),
        };
        let same_address =
            options.address.is_none_or(|address| address.to_string() == self.address);
        same_object && same_address && self.account == options.account
    }

    /// Whether the same control plane is meant.
    pub(super) fn answers(&self, options: &AgentOptions) -> bool {
        self.control_plane == options.control_plane
    }
}

/// The file. Its key is the machine's.
#[derive(Serialize, Deserialize)]
struct Stored {
    joined: Joined,
    identity: String,
    generation: u64,
    roots: Vec<String>,
    chain: Vec<String>,
    key: String,
}

/// The key and certificate in use, and their renewal.
pub(super) struct Held {
    id: SpiffeId,
    provider: Arc<CryptoProvider>,
    keys: ApplicationKeys,
    issuance: Issuance<ApplicationKey>,
    identity: Identity,
    bundle: Option<Arc<TrustBundle>>,
    /// What the identity was made of.
    svid: Option<InUse>,
    attempt: u64,
}

struct InUse {
    chain: Vec<Arc<[u8]>>,
    key: zeroize::Zeroizing<Vec<u8>>,
    not_after: SystemTime,
}

impl Held {
    pub(super) fn new(id: SpiffeId, provider: Arc<CryptoProvider>) -> Self {
        let policy = IssuancePolicy {
            signer_change_spread: SIGNER_CHANGE_SPREAD,
            ..IssuancePolicy::default()
        };
        let issuance = Issuance::new(id.clone(), policy, u64::from(std::process::id()));
        let identity = Identity::new(provider.clone(), Arc::new(SystemClock));
        let keys = ApplicationKeys::new(provider.clone());
        Self { id, provider, keys, issuance, identity, bundle: None, svid: None, attempt: 0 }
    }

    pub(super) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// How long the certificate may still be used.
    pub(super) fn left(&self, now: SystemTime) -> Duration {
        let end = self.svid.as_ref().map_or(now, |svid| svid.not_after);
        end.duration_since(now).unwrap_or_default()
    }

    /// The request that a token goes along with.
    pub(super) fn first_request(&mut self) -> Result<String, String> {
        match self.due(SystemTime::now()) {
            Some(csr) => Ok(csr),
            None => Err("no key can be made".to_owned()),
        }
    }

    fn due(&mut self, now: SystemTime) -> Option<String> {
        match self.issuance.poll(now, &self.keys) {
            Step::Request { attempt, csr } => {
                self.attempt = attempt;
                Some(pem_of("CERTIFICATE REQUEST", &csr))
            }
            Step::Wait { .. } => None,
        }
    }

    /// What to ask the control plane now.
    pub(super) fn request(&mut self, now: SystemTime) -> RefreshRequest {
        let leaf = self.svid.as_ref().and_then(|svid| svid.chain.first());
        let leaf = leaf.map(|leaf| leaf.to_vec()).unwrap_or_default();
        let generation = self.bundle.as_ref().map_or(0, |bundle| bundle.generation());
        RefreshRequest { csr: self.due(now).unwrap_or_default(), generation, leaf }
    }

    /// No answer, or a refusal.
    pub(super) fn failed(&mut self, now: SystemTime, why: &str) {
        self.issuance.handle_failure(now, self.attempt, why.to_owned());
    }

    /// Takes an answer in. True: something is new.
    pub(super) fn take(&mut self, answer: &JoinResponse) -> Result<bool, String> {
        let now = SystemTime::now();
        let domain = TrustDomain::parse(&answer.trust_domain).map_err(|error| error.to_string())?;
        let roots: Vec<Root> = answer
            .roots
            .iter()
            .map(|der| root_from_der(&self.provider, der).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        let known = self.bundle.as_ref().map(|bundle| bundle.generation());
        let is_new = known.is_none_or(|known| known < answer.generation);
        if is_new {
            let signer = RootId::new(answer.signer.as_str());
            let bundle = TrustBundle::new(answer.generation, domain, signer, roots)
                .map_err(|error| error.to_string())?;
            let bundle = Arc::new(bundle);
            self.issuance.handle_bundle(now, bundle.clone());
            self.bundle = Some(bundle);
        }
        if !answer.cert_chain.is_empty() {
            let issued = self.read_chain(answer)?;
            self.issuance
                .handle_issued(now, &self.keys, self.attempt, issued)
                .map_err(|error| error_chain(&error))?;
        }
        self.install(now)?;
        Ok(is_new || !answer.cert_chain.is_empty())
    }

    fn read_chain(&self, answer: &JoinResponse) -> Result<Issued, String> {
        let pem = answer.cert_chain.join("\n");
        let chain = certificates_from_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let mut chain: Vec<Arc<[u8]>> = chain.iter().map(|der| Arc::from(der.as_ref())).collect();
        let root = chain.pop().ok_or("it has no certificate")?;
        let root = root_from_der(&self.provider, &root).map_err(|error| error.to_string())?;
        let bundle = self.bundle.clone().ok_or("it names no root")?;
        Ok(Issued { chain, root: root.id, bundle })
    }

    /// Puts what is held in effect for new connections.
    fn install(&mut self, now: SystemTime) -> Result<(), String> {
        let Some(bundle) = self.bundle.clone() else { return Ok(()) };
        if let Some(svid) = self.issuance.current(now) {
            self.svid = Some(InUse {
                chain: svid.chain.clone(),
                key: zeroize::Zeroizing::new(svid.key.pkcs8().to_vec()),
                not_after: svid.validity.not_after,
            });
        }
        let Some(svid) = &self.svid else { return Ok(()) };
        let keys = Keys::new(self.provider.clone());
        let key = keys.read(&svid.key).map_err(|error| error.to_string())?;
        let validity = keys
            .check_chain(&key, &self.id, &svid.chain, &bundle)
            .map_err(|error| error.to_string())?;
        let own = Svid {
            identity: self.id.clone(),
            key,
            chain: svid.chain.clone(),
            validity,
            root: bundle.signer().clone(),
        };
        self.identity.install(Arc::new(own), &bundle).map_err(|error| error_chain(&error))?;
        Ok(())
    }

    /// What to connect with, and the name to say.
    pub(super) fn client(
        &self,
        workload: &WorkloadId,
        protocol: &'static [u8],
    ) -> Result<(Arc<ClientConfig>, String), String> {
        let current = self.identity.current().ok_or("this machine's certificate has expired")?;
        let control =
            control_identity(self.id.trust_domain()).map_err(|error| error.to_string())?;
        let client = current.client(&[protocol], Expected::identities([control]));
        let client = client.map_err(|error| error.to_string())?;
        let name = workload.as_str().rsplit('/').next().unwrap_or_default();
        Ok((client.config().clone(), format!("{name}.machine.heddle.internal")))
    }
}

/// Reads the file; none: there is none, or its certificate is over.
pub(super) fn read(
    path: &Path,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> io::Result<Option<(Joined, Held)>> {
    let text = match fs::read(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let stored: Stored = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let id = SpiffeId::parse(&stored.identity).map_err(|error| bad(error.to_string()))?;
    let mut held = Held::new(id.clone(), provider.clone());
    let roots = root_from_pem(provider, &stored.roots.join("\n"));
    let roots = roots.map_err(|error| bad(error.to_string()))?;
    let signer: RootId =
        roots.first().map(|root| root.id.clone()).ok_or_else(|| bad("no root".into()))?;
    let bundle = TrustBundle::new(stored.generation, id.trust_domain().clone(), signer, roots);
    let bundle = Arc::new(bundle.map_err(|error| bad(error.to_string()))?);
    held.issuance.handle_bundle(now, bundle.clone());
    held.bundle = Some(bundle.clone());
    let chain = certificates_from_pem(stored.chain.join("\n").as_bytes());
    let chain = chain.map_err(|error| bad(error.to_string()))?;
    let chain: Vec<Arc<[u8]>> = chain.iter().map(|der| Arc::from(der.as_ref())).collect();
    let key = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(&stored.key)
    };
    let key = zeroize::Zeroizing::new(key.map_err(|error| bad(error.to_string()))?);
    let keys = Keys::new(provider.clone());
    let own = keys.read(&key).map_err(|error| bad(error.to_string()))?;
    let Ok(validity) = keys.check_chain(&own, &id, &chain, &bundle) else { return Ok(None) };
    if validity.not_after < now + LEFT_MIN {
        return Ok(None);
    }
    held.svid = Some(InUse { chain, key, not_after: validity.not_after });
    held.install(now).map_err(bad)?;
    Ok(Some((stored.joined, held)))
}

/// Writes the file.
pub(super) fn write(path: &Path, joined: &Joined, held: &Held) -> io::Result<()> {
    let (Some(svid), Some(bundle)) = (&held.svid, &held.bundle) else { return Ok(()) };
    let key = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&*svid.key)
    };
    let stored = Stored {
        joined: joined.clone(),
        identity: held.id.to_string(),
        generation: bundle.generation(),
        roots: bundle
            .roots(bundle.domain())
            .iter()
            .map(|root| pem_of("CERTIFICATE", &root.der))
            .collect(),
        chain: svid.chain.iter().map(|der| pem_of("CERTIFICATE", der)).collect(),
        key,
    };
    let text = zeroize::Zeroizing::new(serde_json::to_vec(&stored)?);
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Writes what is new into the file.
pub(super) fn update(path: &Path, held: &Held) -> io::Result<()> {
    let text = zeroize::Zeroizing::new(fs::read(path)?);
    let stored: Stored = serde_json::from_slice(&text)?;
    write(path, &stored.joined, held)
}
