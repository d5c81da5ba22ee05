//! An identity that somebody else gives: a SPIFFE Workload API (SPIRE's agent, for example) on a Unix socket.
//!
//! The proxy then makes no key and asks its control plane for no certificate. It takes the identity that the control plane
//! expects of it and no other, with the roots that come along: each trust domain has its own. When the source goes away,
//! what was given stays in use until it expires.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_cert::{Crypto as _, Root, Svid, TrustBundle};
use heddle_diag::error_chain;
use heddle_ident::{SpiffeId, TrustDomain};
use heddle_proto::workload_api::{X509Svid, X509SvidResponse};
use heddle_rpc::workload_api::Client;
use heddle_sync::Backoff;
use heddle_telemetry::mesh::MeshMetrics;
use heddle_telemetry::rfc3339;
use heddle_tls::{
    CryptoProvider, Identity, Keys, WorkloadKey, certificates_from_der, root_from_der,
};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Takes identities from a Workload API.
pub(super) struct SvidSource {
    pub(super) socket: PathBuf,
    pub(super) identity: Arc<Identity>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) metrics: Option<MeshMetrics>,
    /// Who the control plane says the workload is; none: it has not said yet.
    pub(super) expected: watch::Receiver<Option<SpiffeId>>,
    pub(super) seed: u64,
}

impl SvidSource {
    /// Runs as long as the process.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, self.seed);
        let mut generation = 0;
        loop {
            let ended = self.follow(&mut generation, &mut backoff).await;
            let socket = self.socket.display().to_string();
            let hint = "tried again by itself; the identity in use stays while it is valid";
            warn!(socket, why = ended, hint, "no identity from the Workload API");
            sleep(backoff.next_wait()).await;
        }
    }

    /// Takes what one stream says; why it ended.
    async fn follow(&mut self, generation: &mut u64, backoff: &mut Backoff) -> String {
        let client = match Client::open(&self.socket).await {
            Ok(client) => client,
            Err(error) => return error_chain(&error),
        };
        let mut stream = match client.fetch_x509_svid().await {
            Ok(stream) => stream,
            Err(status) => return status.message().to_owned(),
        };
        let mut last: Option<X509SvidResponse> = None;
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(response)) => last = Some(response),
                    Ok(None) => return "the stream has ended".to_owned(),
                    Err(status) => return status.message().to_owned(),
                },
                // Another identity may be among those that were given already.
                changed = self.expected.changed() => if changed.is_err() {
                    return "the control thread has ended".to_owned();
                },
            }
            let expected = self.expected.borrow_and_update().clone();
            let (Some(response), Some(expected)) = (&last, expected) else { continue };
            *generation += 1;
            match self.install(response, &expected, *generation) {
                Ok(()) => backoff.reset(),
                Err(why) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.record_certificate_failure(&expected.to_string());
                    }
                    let hint = "register the workload there under this identity";
                    warn!(%expected, why, hint, "what the Workload API gives cannot be used");
                }
            }
        }
    }

    fn install(
        &self,
        response: &X509SvidResponse,
        expected: &SpiffeId,
        generation: u64,
    ) -> Result<(), String> {
        let (svid, bundle) = read(&self.provider, response, expected, generation)?;
        let not_after = svid.validity.not_after;
        self.identity.install(svid, &bundle).map_err(|error| error_chain(&error))?;
        if let Some(metrics) = &self.metrics {
            metrics.record_certificate(&expected.to_string(), not_after);
        }
        info!(identity = %expected, not_after = rfc3339(not_after), "identity from the Workload API");
        Ok(())
    }
}

/// The expected identity among those of a response, with the roots for its peers.
fn read(
    provider: &Arc<CryptoProvider>,
    response: &X509SvidResponse,
    expected: &SpiffeId,
    generation: u64,
) -> Result<(Arc<Svid<WorkloadKey>>, TrustBundle), String> {
    let name = expected.to_string();
    let Some(given) = response.svids.iter().find(|svid| svid.spiffe_id == name) else {
        let others: Vec<&str> =
            response.svids.iter().take(8).map(|svid| svid.spiffe_id.as_str()).collect();
        return Err(format!("it gives {others:?}, not {name}"));
    };
    let keys = Keys::new(provider.clone());
    let key = keys.read(&given.x509_svid_key).map_err(|error| error.to_string())?;
    let chain = certificates_from_der(&given.x509_svid).map_err(|error| error_chain(&error))?;
    let domain = expected.trust_domain();
    let roots = roots_of(provider, &given.bundle)?;
    // Which of the roots vouches is not said; it is found out, so that it can be shown.
    let bundle_of = |signer: &Root, roots: &[Root]| {
        TrustBundle::new(generation, domain.clone(), signer.id.clone(), roots.to_vec())
            .map_err(|error| error.to_string())
    };
    let mut why = "it gives no root".to_owned();
    for root in &roots {
        let alone = bundle_of(root, std::slice::from_ref(root))?;
        match keys.check_chain(&key, expected, &chain, &alone) {
            Ok(validity) => {
                let bundle = with_others(provider, response, given, bundle_of(root, &roots)?)?;
                let (identity, root) = (expected.clone(), root.id.clone());
                return Ok((Arc::new(Svid { identity, key, chain, validity, root }), bundle));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Adds the roots of other trust domains, and revocation lists.
fn with_others(
    provider: &CryptoProvider,
    response: &X509SvidResponse,
    given: &X509Svid,
    mut bundle: TrustBundle,
) -> Result<TrustBundle, String> {
    for (name, roots) in &response.federated_bundles {
        let domain = TrustDomain::parse(name.strip_prefix("spiffe://").unwrap_or(name))
            .map_err(|error| error.to_string())?;
        if domain == *bundle.domain() {
            return Err(format!("{} has two bundles of its own trust domain", given.spiffe_id));
        }
        let roots = roots_of(provider, roots)?;
        bundle = bundle.federate(domain, roots).map_err(|error| error.to_string())?;
    }
    let lists = response.crl.iter().map(|list| Arc::from(list.as_slice())).collect();
    bundle.revoke(Vec::new(), lists).map_err(|error| error.to_string())
}

fn roots_of(provider: &CryptoProvider, der: &[u8]) -> Result<Vec<Root>, String> {
    let certificates = certificates_from_der(der).map_err(|error| error_chain(&error))?;
    let roots = certificates.iter().map(|der| root_from_der(provider, der));
    roots.collect::<Result<_, _>>().map_err(|error| error_chain(&error))
}

#[cfg(test)]
mod tests;
