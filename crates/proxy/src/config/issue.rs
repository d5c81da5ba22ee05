//! The proxy's certificate: drives [`Issuance`] and puts what comes out into [`Identity`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{Issuance, IssuancePolicy, Issued, Serial, Step, TrustBundle};
use heddle_diag::error_chain;
use heddle_ident::SpiffeId;
use heddle_proto::certificate::{CertificateRequest, CertificateResponse, InstalledCertificate};
use heddle_telemetry::mesh::MeshMetrics;
use heddle_telemetry::rfc3339;
use heddle_tls::{
    CryptoProvider, Identity, Keys, WorkloadKey, certificates_from_pem, pem_of, root_from_der,
    serial_of,
};
use tracing::{info, warn};

/// The longest sleep. Sleeps do not follow the wall clock when it is set, certificates do: a clock that jumps is noticed
/// after this time, and a certificate that is not valid on it any more is replaced.
pub(super) const REST: Duration = Duration::from_secs(5);

/// On one machine few proxies share an authority: after a change of the root all may renew within seconds.
const SIGNER_CHANGE_SPREAD: Duration = Duration::from_secs(5);

pub(super) fn policy() -> IssuancePolicy {
    IssuancePolicy { signer_change_spread: SIGNER_CHANGE_SPREAD, ..IssuancePolicy::default() }
}

/// What to send to the authority.
pub(super) struct SigningRequest {
    pub(super) attempt: u64,
    pub(super) message: CertificateRequest,
}

/// Issuance and installation for one workload.
pub(super) struct Issuer {
    identity: Arc<Identity>,
    provider: Arc<CryptoProvider>,
    keys: Keys,
    seed: u64,
    metrics: Option<MeshMetrics>,
    issuance: Option<(SpiffeId, Issuance<WorkloadKey>)>,
    bundle: Option<Arc<TrustBundle>>,
    /// The leaf in effect, and whether the authority was told of it.
    installed: Option<(Arc<[u8]>, bool)>,
}

impl Issuer {
    pub(super) fn new(
        identity: Arc<Identity>,
        provider: Arc<CryptoProvider>,
        seed: u64,
        metrics: Option<MeshMetrics>,
    ) -> Self {
        let keys = Keys::new(provider.clone());
        let (issuance, bundle, installed) = (None, None, None);
        Self { identity, provider, keys, seed, metrics, issuance, bundle, installed }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.identity.clock().now()
    }

    /// The control plane says who the proxy is.
    pub(super) fn set_identity(&mut self, identity: &SpiffeId) {
        if self.issuance.as_ref().is_none_or(|(current, _)| current != identity) {
            let mut issuance = Issuance::new(identity.clone(), policy(), self.seed);
            if let Some(bundle) = &self.bundle {
                issuance.handle_bundle(self.now(), bundle.clone());
            }
            self.issuance = Some((identity.clone(), issuance));
        }
    }

    /// The bundle held.
    pub(super) fn bundle(&self) -> Option<&Arc<TrustBundle>> {
        self.bundle.as_ref()
    }

    /// The control plane says whom to trust. What cannot be read is refused and the former bundle stays.
    pub(super) fn set_bundle(
        &mut self,
        bundle: &heddle_ir::trust::TrustBundle,
    ) -> Result<(), String> {
        let bundle = Arc::new(self.read_bundle(bundle)?);
        let now = self.now();
        if let Some((identity, issuance)) = &mut self.issuance {
            issuance.handle_bundle(now, bundle.clone());
            let current = issuance.current(now);
            if own_is_revoked(current.and_then(|svid| svid.chain.first()), &bundle) {
                let hint = "another key and certificate are asked for at once";
                warn!(%identity, hint, "this proxy's certificate is revoked: peers refuse it");
                issuance.renew_within(now, Duration::ZERO);
            }
        }
        if let Some(metrics) = &self.metrics {
            for (domain, roots) in bundle.domains() {
                if let Some(end) = roots.iter().map(heddle_cert::Root::not_after).min() {
                    metrics.record_root(domain.as_str(), end);
                }
            }
        }
        self.bundle = Some(bundle);
        // Before the snapshot of the same update is published: who is told of that looks at these roots.
        self.install();
        Ok(())
    }

    fn read_bundle(&self, bundle: &heddle_ir::trust::TrustBundle) -> Result<TrustBundle, String> {
        let mut own = Vec::new();
        let mut others = Vec::new();
        for domain in &bundle.domains {
            let roots = domain
                .roots
                .iter()
                .map(|der| root_from_der(&self.provider, der).map_err(|error| error.to_string()))
                .collect::<Result<Vec<_>, _>>()?;
            if domain.trust_domain == bundle.trust_domain {
                own = roots;
            } else {
                others.push((domain.trust_domain.clone(), roots));
            }
        }
        let signer = heddle_cert::RootId::new(bundle.signer.clone());
        let mut read =
            TrustBundle::new(bundle.generation, bundle.trust_domain.clone(), signer, own)
                .map_err(|error| error.to_string())?;
        for (domain, roots) in others {
            read = read.federate(domain, roots).map_err(|error| error.to_string())?;
        }
        let serial = |bytes: &Arc<[u8]>| <[u8; 16]>::try_from(&**bytes).map(Serial);
        let revoked = bundle.revoked.iter().map(serial).collect::<Result<_, _>>();
        let revoked = revoked.map_err(|_| "a revoked serial number has not 16 bytes".to_owned())?;
        read.revoke(revoked, bundle.revocation_lists.clone()).map_err(|error| error.to_string())
    }

    /// What is due now, and how long until something is due next.
    pub(super) fn poll(&mut self) -> (Option<SigningRequest>, Duration) {
        let now = self.now();
        let step = match (&mut self.issuance, &self.bundle) {
            (Some((_, issuance)), Some(_)) => issuance.poll(now, &self.keys),
            _ => return (None, REST),
        };
        self.install();
        signing_request(step, now, false)
    }

    /// Takes the authority's answer, or why there is none.
    pub(super) fn handle_answer(
        &mut self,
        attempt: u64,
        answer: Result<CertificateResponse, String>,
    ) {
        let now = self.now();
        let issued =
            answer.and_then(|response| read_chain(&self.provider, self.bundle.clone(), &response));
        let Some((identity, issuance)) = &mut self.issuance else { return };
        match issued {
            Ok(issued) => match issuance.handle_issued(now, &self.keys, attempt, issued) {
                Ok(svid) => {
                    let not_after = svid.validity.not_after;
                    if let Some(metrics) = &self.metrics {
                        metrics.record_certificate(&identity.to_string(), not_after);
                    }
                    let not_after = rfc3339(not_after);
                    info!(%identity, not_after, "certificate issued");
                }
                Err(error) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.record_certificate_failure(&identity.to_string());
                    }
                    let hint =
                        "the control plane's log says what it signed; the former certificate stays";
                    warn!(%identity, why = error_chain(&error), hint, "certificate refused");
                }
            },
            Err(reason) => {
                if let Some(metrics) = &self.metrics {
                    metrics.record_certificate_failure(&identity.to_string());
                }
                let hint = "tried again by itself; the former certificate stays while it is valid";
                warn!(%identity, why = reason, hint, "no certificate");
                issuance.handle_failure(now, attempt, reason);
            }
        }
        self.install();
    }

    /// The leaf in effect, when the authority is to be told of it.
    pub(super) fn take_confirmation(&mut self) -> Option<InstalledCertificate> {
        let (leaf, is_told) = self.installed.as_mut()?;
        let told_before = std::mem::replace(is_told, true);
        (!told_before).then(|| InstalledCertificate { leaf: leaf.to_vec() })
    }

    /// Another connection: what was said on the former one may be lost.
    pub(super) fn confirm_again(&mut self) {
        if let Some((_, is_told)) = &mut self.installed {
            *is_told = false;
        }
    }

    /// Puts the current certificate and bundle in effect for new connections, or takes them out.
    fn install(&mut self) {
        let Some((identity, issuance)) = &self.issuance else { return };
        if let (Some(svid), Some(bundle)) = (issuance.current(self.now()), issuance.bundle()) {
            if let Err(error) = self.identity.install(svid.clone(), bundle) {
                warn!(%error, "certificate cannot be used; the former one stays");
                return;
            }
            if let Some(leaf) = svid.chain.first()
                && self.installed.as_ref().is_none_or(|(known, _)| known != leaf)
            {
                self.installed = Some((leaf.clone(), false));
            }
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.record_no_certificate(&identity.to_string());
        }
        self.identity.clear();
    }
}

/// What an issuance asks of the authority now, and how long it rests then.
pub(super) fn signing_request(
    step: Step,
    now: SystemTime,
    for_application: bool,
) -> (Option<SigningRequest>, Duration) {
    match step {
        Step::Request { attempt, csr } => {
            let csr = pem_of("CERTIFICATE REQUEST", &csr);
            let message = CertificateRequest { csr, validity_duration: 0, for_application };
            (Some(SigningRequest { attempt, message }), Duration::ZERO)
        }
        Step::Wait { until } => (None, until.duration_since(now).unwrap_or_default().min(REST)),
    }
}

/// Leaf first, root last.
pub(super) fn read_chain(
    provider: &CryptoProvider,
    bundle: Option<Arc<TrustBundle>>,
    response: &CertificateResponse,
) -> Result<Issued, String> {
    let pem = response.cert_chain.join("\n");
    let mut chain: Vec<Arc<[u8]>> = certificates_from_pem(pem.as_bytes())
        .map_err(|error| error.to_string())?
        .iter()
        .map(|der| Arc::from(der.as_ref()))
        .collect();
    let root = chain.pop().ok_or("the answer has no certificate")?;
    let root = root_from_der(provider, &root).map_err(|error| error.to_string())?;
    let bundle = bundle.ok_or("no trust bundle has come yet")?;
    Ok(Issued { chain, root: root.id, bundle })
}

/// Whether the certificate in use is among the revoked.
pub(super) fn own_is_revoked(leaf: Option<&Arc<[u8]>>, bundle: &TrustBundle) -> bool {
    let serial = leaf.and_then(|leaf| serial_of(leaf).ok().flatten());
    serial.is_some_and(|serial| bundle.revoked().contains(&serial))
}

/// Issues once, from an authority at hand.
pub(crate) struct FixedIssuer(Issuer);

impl FixedIssuer {
    pub(crate) fn new(identity: Arc<Identity>, provider: Arc<CryptoProvider>) -> Self {
        Self(Issuer::new(identity, provider, 1, None))
    }

    pub(crate) fn set_identity(&mut self, identity: &SpiffeId) {
        self.0.set_identity(identity);
    }

    pub(crate) fn set_bundle(
        &mut self,
        bundle: &heddle_ir::trust::TrustBundle,
    ) -> Result<(), String> {
        self.0.set_bundle(bundle)
    }

    /// Asks `sign` for the certificate of the identity; the request is PKCS #10 in DER.
    pub(crate) fn issue(
        &mut self,
        sign: impl FnOnce(&[u8], &SpiffeId) -> Result<CertificateResponse, String>,
    ) -> Result<(), String> {
        let now = self.0.now();
        let Some((identity, issuance)) = &mut self.0.issuance else {
            return Err("the files say nothing about the proxy's workload".to_owned());
        };
        let Step::Request { attempt, csr } = issuance.poll(now, &self.0.keys) else {
            return Err("the proxy has a certificate already".to_owned());
        };
        let answer = sign(&csr, identity);
        self.0.handle_answer(attempt, answer);
        match self.0.identity.current() {
            Some(_) => Ok(()),
            None => Err("the authority's certificate is not accepted".to_owned()),
        }
    }
}
