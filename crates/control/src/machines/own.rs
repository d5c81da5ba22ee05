//! The control plane's own certificate, with which it proves itself to machines: signed by its authority like any other.

use std::sync::Arc;
use std::time::SystemTime;

use heddle_cert::{HolderId, Issuance, IssuancePolicy, Issued, Step};
use heddle_diag::error_chain;
use heddle_ident::SpiffeId;
use heddle_store::Store;
use heddle_tls::{
    CryptoProvider, Identity, Keys, MeshServer, SystemClock, WorkloadKey, certificates_from_pem,
    control_identity, root_from_der, serial_of,
};

use crate::authority::CertificateAuthority;

/// Requests to the authority at one step: one for a new certificate, and room for a change of the root.
const STEPS_MAX: usize = 4;

/// The identity and what connections are accepted with.
pub(crate) struct OwnIdentity {
    identity: Arc<Identity>,
    keys: Keys,
    issuance: Option<(SpiffeId, Issuance<WorkloadKey>)>,
    /// Made of the certificate and the bundle in effect.
    server: Option<(u64, Arc<MeshServer>)>,
}

impl OwnIdentity {
    /// Without a certificate yet.
    pub(crate) fn new(provider: Arc<CryptoProvider>) -> Self {
        let identity = Arc::new(Identity::new(provider.clone(), Arc::new(SystemClock)));
        Self { identity, keys: Keys::new(provider), issuance: None, server: None }
    }

    /// What to accept machines with; none: there is no certificate.
    pub(crate) fn server(&self) -> Option<Arc<MeshServer>> {
        self.identity.current()?;
        self.server.as_ref().map(|(_, server)| server.clone())
    }

    /// The holder of the certificate, for whoever asks about revocation.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Does what is due, and says when something is due next.
    pub(crate) fn step(
        &mut self,
        authority: &mut CertificateAuthority,
        store: &Store,
        now: SystemTime,
    ) -> Result<SystemTime, String> {
        let bundle = Arc::new(authority.trust_bundle().map_err(|error| error_chain(&error))?);
        let id = control_identity(bundle.domain()).map_err(|error| error.to_string())?;
        let holder = HolderId::new("control-plane");
        if self.issuance.as_ref().is_none_or(|(known, _)| *known != id) {
            self.issuance =
                Some((id.clone(), Issuance::new(id.clone(), IssuancePolicy::default(), 0)));
        }
        let Some((_, issuance)) = &mut self.issuance else { return Ok(now) };
        issuance.handle_bundle(now, bundle.clone());
        authority.handle_acknowledged(now, &holder, bundle.generation());
        let mut until = now;
        for _ in 0..STEPS_MAX {
            match issuance.poll(now, &self.keys) {
                Step::Wait { until: at } => {
                    until = at;
                    break;
                }
                Step::Request { attempt, csr } => {
                    let answer = authority.sign(store, now, &holder, &id, &csr);
                    let answer = answer.map_err(|error| error_chain(&error))?;
                    let pem = answer.cert_chain.join("");
                    let chain =
                        certificates_from_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
                    let mut chain: Vec<Arc<[u8]>> =
                        chain.iter().map(|der| Arc::from(der.as_ref())).collect();
                    let root = chain.pop().ok_or("the authority gave no certificate")?;
                    let root = root_from_der(self.keys.provider(), &root)
                        .map_err(|error| error.to_string())?;
                    let issued = Issued { chain, root: root.id, bundle: bundle.clone() };
                    issuance
                        .handle_issued(now, &self.keys, attempt, issued)
                        .map_err(|error| error_chain(&error))?;
                }
            }
        }
        let svid = issuance.current(now).cloned().ok_or("no certificate is valid now")?;
        let generation =
            self.identity.install(svid.clone(), &bundle).map_err(|error| error_chain(&error))?;
        if self.server.as_ref().is_none_or(|(made_of, _)| *made_of != generation) {
            let roots = bundle.roots(bundle.domain());
            let root = roots.iter().find(|root| root.id == svid.root);
            let root = root.ok_or("the root of the certificate is not in the bundle")?;
            let current = self.identity.current().ok_or("no certificate is valid now")?;
            let server = current.machine_server(&root.der).map_err(|error| error_chain(&error))?;
            self.server = Some((generation, Arc::new(server)));
            if let Some(Ok(Some(serial))) = svid.chain.first().map(|leaf| serial_of(leaf)) {
                authority
                    .handle_installed(store, &holder, &id, serial)
                    .map_err(|error| error_chain(&error))?;
            }
        }
        Ok(until)
    }
}
