//! Asks for the workload's certificate, and keeps it fresh.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use heddle_cert::{Issuance, IssuancePolicy, IssuanceStatus, Issued, Root, Step};
use heddle_ident::SpiffeId;
use heddle_ir::trust::TrustBundle;
use heddle_proto::certificate::{CertificateRequest, CertificateResponse};
use heddle_rpc::Status;
use heddle_rpc::client::Connection;
use heddle_tls::{Identity, Keys, WorkloadKey};

/// The longest wait between attempts: short, since the stream itself backs off while the control plane is gone.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where the certificate stands; none before the proxy knows who it is.
pub type CertificateStatus = Option<IssuanceStatus>;

type Answer = (u64, Result<CertificateResponse, Status>);

/// The certificate of one identity.
pub(super) struct Certificates {
    keys: Keys,
    identity: Arc<Identity>,
    issuance: Option<Issuance<WorkloadKey>>,
    bundle: Option<Arc<heddle_cert::TrustBundle>>,
    request: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    wake_at: Option<SystemTime>,
    seed: u64,
}

impl Certificates {
    pub(super) fn new(keys: Keys, identity: Arc<Identity>, seed: u64) -> Self {
        Self { keys, identity, issuance: None, bundle: None, request: None, wake_at: None, seed }
    }

    /// Says who the proxy is.
    pub(super) fn set_identity(&mut self, identity: &SpiffeId) {
        let known = self.issuance.as_ref().map(|i| i.status(SystemTime::now()).identity);
        if known.as_ref() == Some(identity) {
            return;
        }
        let policy = IssuancePolicy { back_off_max: RETRY_MAX, ..IssuancePolicy::default() };
        self.issuance = Some(Issuance::new(identity.clone(), policy, self.seed));
        self.request = None;
        self.identity.clear();
    }

    /// New roots came. One that cannot be read leaves the old ones in place.
    pub(super) fn set_bundle(&mut self, bundle: &TrustBundle) {
        match convert(&self.keys, bundle) {
            Ok(bundle) => self.bundle = Some(Arc::new(bundle)),
            Err(error) => {
                tracing::error!(%error, "trust bundle cannot be used; the one before stays");
                return;
            }
        }
        if let (Some(issuance), Some(bundle)) = (&mut self.issuance, &self.bundle) {
            issuance.handle_bundle(SystemTime::now(), bundle.clone());
            self.install();
        }
    }

    /// Does what is due. Nothing is asked without a connection: the next one does.
    pub(super) fn poll(&mut self, connection: Option<&Connection>) {
        let (Some(issuance), Some(bundle), Some(connection)) =
            (&mut self.issuance, &self.bundle, connection)
        else {
            self.wake_at = None;
            return;
        };
        let now = SystemTime::now();
        issuance.handle_bundle(now, bundle.clone());
        match issuance.poll(now, &self.keys) {
            Step::Request { attempt, csr } => {
                let request = CertificateRequest { csr: pem(&csr), validity_duration: 0 };
                let connection = connection.clone();
                self.request = Some(Box::pin(async move {
                    (attempt, connection.create_certificate(request).await)
                }));
                if let Step::Wait { until } = issuance.poll(now, &self.keys) {
                    self.wake_at = Some(until);
                }
            }
            Step::Wait { until } => self.wake_at = Some(until),
        }
    }

    /// Waits until there is something to do; then call [`Certificates::poll`]. Cancel safe.
    pub(super) async fn wait(&mut self) {
        let now = SystemTime::now();
        let sleep = self.wake_at.map(|at| at.duration_since(now).unwrap_or_default());
        let timer = async {
            match sleep {
                Some(sleep) => tokio::time::sleep(sleep).await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match &mut self.request {
                Some(request) => request.await,
                None => std::future::pending().await,
            }
        };
        let (attempt, answer) = tokio::select! {
            () = timer => return,
            answer = answer => answer,
        };
        self.request = None;
        self.handle_answer(attempt, answer);
    }

    /// Where it stands.
    pub(super) fn status(&self) -> CertificateStatus {
        self.issuance.as_ref().map(|issuance| issuance.status(SystemTime::now()))
    }

    fn handle_answer(&mut self, attempt: u64, answer: Result<CertificateResponse, Status>) {
        let (Some(issuance), Some(bundle)) = (&mut self.issuance, &self.bundle) else { return };
        let now = SystemTime::now();
        let issued = answer
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            .and_then(|answer| issued(&self.keys, &answer, bundle));
        let outcome = match issued {
            Ok(issued) => {
                let handled = issuance.handle_issued(now, &self.keys, attempt, issued);
                handled.map(drop).map_err(|error| error.to_string())
            }
            Err(reason) => {
                issuance.handle_failure(now, attempt, &*reason);
                Err(reason)
            }
        };
        match outcome {
            Ok(()) => self.install(),
            Err(reason) => tracing::warn!(reason, "no certificate was issued; trying again"),
        }
    }

    /// Gives the present certificate and roots to new connections.
    fn install(&self) {
        let (Some(issuance), Some(bundle)) = (&self.issuance, &self.bundle) else { return };
        let Some(svid) = issuance.current(SystemTime::now()) else { return };
        if let Err(error) = self.identity.install(svid.clone(), bundle) {
            tracing::error!(%error, "certificate cannot be used; the one before stays");
        }
    }
}

/// The chain of an answer, without the root, which comes last.
fn issued(
    keys: &Keys,
    answer: &CertificateResponse,
    bundle: &Arc<heddle_cert::TrustBundle>,
) -> Result<Issued, String> {
    let mut chain = Vec::new();
    for pem in &answer.cert_chain {
        let certificates = heddle_tls::certificates_from_pem(pem.as_bytes());
        chain.extend(certificates.map_err(|error| error.to_string())?);
    }
    let root = chain.pop().ok_or("the answer has no certificate")?;
    let root = heddle_tls::root_from_der(keys.provider(), &root).map_err(|e| e.to_string())?;
    let chain = chain.iter().map(|der| Arc::from(der.as_ref())).collect();
    Ok(Issued { chain, root: root.id, bundle: bundle.clone() })
}

/// The bundle of the stream as certificates need it. The first root of the first domain is the one that signs.
fn convert(keys: &Keys, bundle: &TrustBundle) -> Result<heddle_cert::TrustBundle, String> {
    let mut domains = bundle.domains.iter().map(|domain| {
        let roots = domain.roots.iter();
        let roots = roots.map(|der| heddle_tls::root_from_der(keys.provider(), der));
        let roots = roots.collect::<Result<Vec<Root>, _>>().map_err(|error| error.to_string())?;
        Ok::<_, String>((domain.trust_domain.clone(), roots))
    });
    let (own, roots) = domains.next().ok_or("the bundle has no trust domain")??;
    let signer = roots.first().map(|root| root.id.clone()).ok_or("the bundle has no root")?;
    let converted = heddle_cert::TrustBundle::new(bundle.generation, own, signer, roots);
    let mut converted = converted.map_err(|error| error.to_string())?;
    for domain in domains {
        let (domain, roots) = domain?;
        converted = converted.federate(domain, roots).map_err(|error| error.to_string())?;
    }
    Ok(converted)
}

/// A signing request in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE REQUEST-----\n");
    pem
}
