//! The identity of the workload's application: its proxy makes a key for it, has it certified, and gives both out over the
//! SPIFFE Workload API. The proxy's own key is another one, and stays where it is.
//!
//! Nothing is made before an application asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::{Issuance, Svid, TrustBundle};
use heddle_diag::error_chain;
use heddle_ident::SpiffeId;
use heddle_proto::certificate::{CertificateResponse, InstalledCertificate};
use heddle_proto::workload_api::{X509BundlesResponse, X509Svid, X509SvidResponse};
use heddle_rpc::workload_api::{Answers, Source, TokenCall, View};
use heddle_tls::{ApplicationKey, ApplicationKeys, CryptoProvider, Identity};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::issue::{REST, SigningRequest, own_is_revoked, policy, read_chain, signing_request};

/// Questions about tokens that wait for the control thread.
const TOKEN_CALLS_MAX: usize = 16;

/// Issuance for one application.
pub(super) struct ApplicationIssuer {
    identity: Arc<Identity>,
    provider: Arc<CryptoProvider>,
    keys: ApplicationKeys,
    seed: u64,
    spiffe_id: Option<SpiffeId>,
    issuance: Option<Issuance<ApplicationKey>>,
    bundle: Option<Arc<TrustBundle>>,
    /// The leaf that was given out last, until the authority is told of it.
    unconfirmed: Option<Arc<[u8]>>,
    given: Option<Arc<[u8]>>,
    views: watch::Sender<View>,
    asked: mpsc::Receiver<()>,
}

impl ApplicationIssuer {
    /// Nothing is issued yet; the other end is for [`heddle_rpc::workload_api::serve`].
    pub(super) fn new(
        identity: Arc<Identity>,
        provider: Arc<CryptoProvider>,
        seed: u64,
    ) -> (Self, Source, mpsc::Receiver<TokenCall>) {
        let (views, receiver) = watch::channel(None);
        let (tokens, token_calls) = mpsc::channel(TOKEN_CALLS_MAX);
        let (asked, is_asked) = mpsc::channel(1);
        let keys = ApplicationKeys::new(provider.clone());
        let own = Self {
            identity,
            provider,
            keys,
            // Not in step with the proxy's own certificate.
            seed: seed ^ 0x5bd1_e995,
            spiffe_id: None,
            issuance: None,
            bundle: None,
            unconfirmed: None,
            given: None,
            views,
            asked: is_asked,
        };
        (own, Source { views: receiver, asked, tokens }, token_calls)
    }

    fn now(&self) -> SystemTime {
        self.identity.clock().now()
    }

    /// Waits until an application asks; safe to drop and call again.
    pub(super) async fn asked(&mut self) {
        if self.issuance.is_some() || self.asked.recv().await.is_none() {
            // It is known already, or nobody serves: what is issued is renewed by itself.
            std::future::pending::<()>().await;
        }
    }

    /// Begins, where it is known who the workload is.
    pub(super) fn begin(&mut self) {
        let Some(spiffe_id) = &self.spiffe_id else { return };
        if self.issuance.is_none() {
            info!(identity = %spiffe_id, "the application asks for its identity");
            let mut issuance = Issuance::new(spiffe_id.clone(), policy(), self.seed);
            if let Some(bundle) = &self.bundle {
                issuance.handle_bundle(self.identity.clock().now(), bundle.clone());
            }
            self.issuance = Some(issuance);
        }
    }

    pub(super) fn set_identity(&mut self, spiffe_id: &SpiffeId) {
        if self.spiffe_id.as_ref() == Some(spiffe_id) {
            return;
        }
        let is_wanted = self.issuance.take().is_some() || self.asked.try_recv().is_ok();
        self.spiffe_id = Some(spiffe_id.clone());
        if is_wanted {
            self.begin();
        }
    }

    pub(super) fn set_bundle(&mut self, bundle: &Arc<TrustBundle>) {
        let now = self.now();
        if let Some(issuance) = &mut self.issuance {
            issuance.handle_bundle(now, bundle.clone());
            let svid = issuance.current(now);
            if own_is_revoked(svid.and_then(|svid| svid.chain.first()), bundle) {
                issuance.renew_within(now, Duration::ZERO);
            }
        }
        self.bundle = Some(bundle.clone());
        self.publish();
    }

    /// What is due now, and how long until something is due next.
    pub(super) fn poll(&mut self) -> (Option<SigningRequest>, Duration) {
        let now = self.now();
        let (Some(issuance), Some(_)) = (&mut self.issuance, &self.bundle) else {
            return (None, REST);
        };
        let step = issuance.poll(now, &self.keys);
        self.publish();
        signing_request(step, now, true)
    }

    pub(super) fn handle_answer(
        &mut self,
        attempt: u64,
        answer: Result<CertificateResponse, String>,
    ) {
        let now = self.now();
        let bundle = self.bundle.clone();
        let issued = answer.and_then(|answer| read_chain(&self.provider, bundle, &answer));
        let Some(issuance) = &mut self.issuance else { return };
        let taken = match issued {
            Ok(issued) => issuance
                .handle_issued(now, &self.keys, attempt, issued)
                .map(|_| ())
                .map_err(|error| error_chain(&error)),
            Err(reason) => {
                issuance.handle_failure(now, attempt, reason.clone());
                Err(reason)
            }
        };
        if let Err(why) = taken {
            let hint = "tried again by itself; the former certificate stays while it is valid";
            warn!(why, hint, "no certificate for the application");
        }
        self.publish();
    }

    /// The leaf that was given out, when the authority is to be told of it.
    pub(super) fn take_confirmation(&mut self) -> Option<InstalledCertificate> {
        self.unconfirmed.take().map(|leaf| InstalledCertificate { leaf: leaf.to_vec() })
    }

    /// Another connection: what was said on the former one may be lost.
    pub(super) fn confirm_again(&mut self) {
        self.unconfirmed.clone_from(&self.given);
    }

    /// Tells everyone who listens what holds now.
    fn publish(&mut self) {
        let Some(issuance) = &self.issuance else { return };
        let svid = issuance.current(self.identity.clock().now());
        let view = svid.zip(issuance.bundle()).map(|(svid, bundle)| {
            let leaf = svid.chain.first();
            if leaf != self.given.as_ref() {
                self.given = leaf.cloned();
                self.unconfirmed = leaf.cloned();
            }
            Arc::new(answers(svid, bundle))
        });
        self.views.send_if_modified(|current| {
            let changed = *current != view;
            *current = view;
            changed
        });
    }
}

/// What the Workload API says of an identity and the roots of its peers.
fn answers(svid: &Svid<ApplicationKey>, bundle: &TrustBundle) -> Answers {
    let joined = |parts: &mut dyn Iterator<Item = &[u8]>| parts.collect::<Vec<_>>().concat();
    let mut bundles: BTreeMap<String, Vec<u8>> = bundle
        .domains()
        .map(|(domain, roots)| {
            (format!("spiffe://{domain}"), joined(&mut roots.iter().map(|root| &*root.der)))
        })
        .collect();
    let crl: Vec<Vec<u8>> = bundle.revocation_lists().iter().map(|list| list.to_vec()).collect();
    let all = X509BundlesResponse { crl: crl.clone(), bundles: bundles.clone() };
    let own = bundles.remove(&format!("spiffe://{}", svid.identity.trust_domain()));
    let one = X509Svid {
        spiffe_id: svid.identity.to_string(),
        x509_svid: joined(&mut svid.chain.iter().map(AsRef::as_ref)),
        x509_svid_key: svid.key.pkcs8().to_vec(),
        bundle: own.unwrap_or_default(),
        hint: String::new(),
    };
    let svids = X509SvidResponse { svids: vec![one], crl, federated_bundles: bundles };
    Answers { svids, bundles: all }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heddle_cert::Validity;
    use heddle_ident::TrustDomain;
    use heddle_proto::certificate::CertificateRequest;
    use heddle_tls::{
        Keys, ManualClock, SigningRoot, certificates_from_der, default_provider, pem_of,
    };

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn root(domain: &str) -> SigningRoot {
        let domain = TrustDomain::parse(domain).unwrap();
        SigningRoot::generate(default_provider(), &domain, start(), DAY * 365).unwrap()
    }

    fn sign(
        root: &SigningRoot,
        request: &CertificateRequest,
        now: SystemTime,
    ) -> CertificateResponse {
        assert!(request.for_application);
        let der = &certificate_request(&request.csr);
        let id = heddle_tls::requested_identity(der).unwrap();
        let validity = Validity { not_before: now, not_after: now + DAY };
        let chain = root.sign(der, &id, validity, root.new_serial().unwrap()).unwrap();
        let mut cert_chain: Vec<_> = chain.iter().map(|der| pem_of("CERTIFICATE", der)).collect();
        cert_chain.push(root.chain_pem());
        CertificateResponse { cert_chain }
    }

    fn certificate_request(pem: &str) -> Vec<u8> {
        use rustls_pki_types::CertificateSigningRequestDer;
        use rustls_pki_types::pem::PemObject;
        CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    #[test]
    fn an_application_gets_an_identity_of_its_own_key_once_it_asks_and_again_when_it_is_renewed() {
        let clock = Arc::new(ManualClock::new(start()));
        let identity = Arc::new(Identity::new(default_provider(), clock.clone()));
        let (mut issuer, source, _tokens) = ApplicationIssuer::new(identity, default_provider(), 1);
        let (own, other) = (root("td"), root("partner"));
        let domain = TrustDomain::parse("td").unwrap();
        let bundle =
            TrustBundle::new(1, domain, own.root().id.clone(), vec![own.root().clone()]).unwrap();
        let partner = TrustDomain::parse("partner").unwrap();
        let bundle = Arc::new(bundle.federate(partner, vec![other.root().clone()]).unwrap());
        let id = SpiffeId::parse("spiffe://td/ns/shop/sa/web").unwrap();
        issuer.set_identity(&id);
        issuer.set_bundle(&bundle);
        assert!(issuer.poll().0.is_none(), "nobody has asked");
        issuer.begin();
        let mut keys_given = Vec::new();
        for day in 0..2 {
            clock.set(start() + DAY * day * 9 / 10);
            let (request, _) = issuer.poll();
            let SigningRequest { attempt, message } = request.unwrap();
            issuer
                .handle_answer(attempt, Ok(sign(&own, &message, heddle_tls::Clock::now(&*clock))));
            let view = source.views.borrow().clone().unwrap();
            let svid = &view.svids.svids[0];
            assert_eq!(svid.spiffe_id, id.to_string());
            assert_eq!(certificates_from_der(&svid.bundle).unwrap(), [own.root().der.clone()]);
            let federated = &view.svids.federated_bundles["spiffe://partner"];
            assert_eq!(certificates_from_der(federated).unwrap(), [other.root().der.clone()]);
            assert_eq!(view.bundles.bundles.len(), 2);
            // The key belongs to the certificate.
            let key = Keys::new(default_provider()).read(&svid.x509_svid_key).unwrap();
            let chain = certificates_from_der(&svid.x509_svid).unwrap();
            let keys = Keys::new(default_provider());
            heddle_cert::Crypto::check_chain(&keys, &key, &id, &chain, &bundle).unwrap();
            keys_given.push(svid.x509_svid_key.clone());
            assert_eq!(issuer.take_confirmation().unwrap().leaf, *chain[0]);
            assert!(issuer.take_confirmation().is_none());
        }
        assert_ne!(keys_given[0], keys_given[1], "renewal is with another key");
        clock.set(start() + DAY * 9);
        issuer.poll();
        assert!(source.views.borrow().is_none(), "what has expired is not given out");
    }
}
