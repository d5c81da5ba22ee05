//! An authority that others made: an intermediate with its key, plugged in as Istio's `cacerts` are.
//!
//! The files and their names are Istio's (`ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`,
//! `ca-crl.pem`), or those of a Secret of type `kubernetes.io/tls`. Whether they fit together is found out by doing
//! what they are for: a leaf is signed, and verified as a peer would.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use heddle_cert::{Crypto, CryptoError, Root, TrustBundle, Validity};
use heddle_ident::{SpiffeId, TrustDomain};

use super::{SignError, SigningRoot};
use crate::certificate::{
    CertificateError, certificates_from_pem, may_sign_certificates, pem_of,
    revocation_lists_from_pem, root_from_pem, validity_of,
};
use crate::keys::Keys;

/// The names of the files; the second of each pair is that of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: [&str; 2] = ["ca-cert.pem", "tls.crt"];
const KEY: [&str; 2] = ["ca-key.pem", "tls.key"];
const CHAIN: [&str; 1] = ["cert-chain.pem"];
const ROOTS: [&str; 2] = ["root-cert.pem", "ca.crt"];
const REVOCATIONS: [&str; 2] = ["ca-crl.pem", "ca.crl"];

/// Why files make no authority. Each says which file, and what is to be done.
#[derive(Debug, thiserror::Error)]
pub enum PluggedInError {
    /// The signing certificate may not sign certificates.
    #[error(
        "{file}: its first certificate is not an authority's: it needs the basic constraint CA:TRUE and the key usage \
         keyCertSign"
    )]
    NotAnAuthority {
        /// The file.
        file: &'static str,
    },
    /// The chain does not begin with the signing certificate.
    #[error("{file}: its first certificate is not that of ca-cert.pem")]
    ChainBeginsElsewhere {
        /// The file.
        file: &'static str,
    },
    /// What is signed would be refused by peers.
    #[error(
        "certificates that it signs would be refused: {detail}; does cert-chain.pem lead to root-cert.pem?"
    )]
    Refused {
        /// Why.
        detail: String,
    },
    /// It is not valid now.
    #[error("{file}: the certificate {}", when(*.validity, *.now))]
    NotValid {
        /// The file.
        file: &'static str,
        /// When it is.
        validity: Validity,
        /// The present moment.
        now: SystemTime,
    },
    /// A file is not there.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: &'static str,
    },
    /// A file cannot be read as what it should be.
    #[error("{file} cannot be used")]
    File {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// With the revocation lists nothing that it signs is accepted.
    #[error(
        "{file}: with it nothing that is signed would be accepted: {detail}; is it signed by another key, or does it name \
         an authority of the chain?"
    )]
    Lists {
        /// The file.
        file: &'static str,
        /// Why.
        detail: String,
    },
    /// The key cannot be used with the certificate.
    #[error("{file} cannot be used")]
    Key {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: SignError,
    },
}

/// Files by name, as they lie in a folder or a Secret.
pub trait PluggedFiles {
    /// What is in the file; none: there is no such file.
    fn content(&self, name: &str) -> Option<Zeroizing<Vec<u8>>>;
}

impl PluggedFiles for std::collections::BTreeMap<String, Zeroizing<Vec<u8>>> {
    fn content(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.get(name).cloned()
    }
}

/// An authority out of files.
#[derive(Debug)]
pub struct PluggedIn {
    /// What signs.
    pub signer: SigningRoot,
    /// Everything in the file of roots: more than one while a root is being replaced.
    pub roots: Vec<Root>,
    /// Revocation lists of the chain's authorities, in DER.
    pub revocation_lists: Vec<Arc<[u8]>>,
}

impl PluggedIn {
    /// Reads and checks the files, for leaves of a trust domain.
    pub fn read(
        provider: &Arc<CryptoProvider>,
        files: &dyn PluggedFiles,
        domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, PluggedInError> {
        let find = |names: &[&'static str]| {
            let mut found = names.iter();
            found.find_map(|name| files.content(name).map(|content| (*name, content)))
        };
        let must = |names: &[&'static str]| {
            find(names)
                .ok_or(PluggedInError::Missing { file: names.first().copied().unwrap_or("") })
        };
        let ((file, own), (key_file, key)) = (must(&CERTIFICATE)?, must(&KEY)?);
        let (roots_file, roots) = must(&ROOTS)?;
        let failed = |file| move |source| PluggedInError::File { file, source };
        let own = certificates_from_pem(&own).map_err(failed(file))?;
        let signer = own.first().ok_or(PluggedInError::Missing { file })?;
        if !may_sign_certificates(signer).map_err(failed(file))? {
            return Err(PluggedInError::NotAnAuthority { file });
        }
        check_time(file, validity_of(signer).map_err(failed(file))?, now)?;
        let (chain_file, chain) = match find(&CHAIN) {
            None => (file, own.clone()),
            Some((chain_file, text)) => {
                (chain_file, certificates_from_pem(&text).map_err(failed(chain_file))?)
            }
        };
        if chain.first() != Some(signer) {
            return Err(PluggedInError::ChainBeginsElsewhere { file: chain_file });
        }
        let text = String::from_utf8_lossy(&roots);
        let roots = root_from_pem(provider, &text).map_err(failed(roots_file))?;
        // Some put the root at the chain's end; peers have it, so it is not sent.
        let is_root = |der: &[u8]| roots.iter().any(|root| *root.der == *der);
        let above: Vec<&[u8]> =
            chain.iter().map(AsRef::as_ref).filter(|der: &&[u8]| !is_root(der)).collect();
        for der in &above {
            check_time(chain_file, validity_of(der).map_err(failed(chain_file))?, now)?;
        }
        let key = Zeroizing::new(String::from_utf8_lossy(&key).into_owned());
        let key_failed = |source| PluggedInError::Key { file: key_file, source };
        let mut refusal = None;
        let mut found = None;
        for root in &roots {
            // A root that signs itself is its whole chain.
            let own_chain = above.iter().copied().chain([&*root.der]);
            let pem: String = own_chain.map(|der| pem_of("CERTIFICATE", der)).collect();
            if above.is_empty() && *root.der != **signer {
                continue;
            }
            let signing =
                SigningRoot::from_pem(provider.clone(), &pem, &key).map_err(key_failed)?;
            match try_out(provider, &signing, domain, &[], now) {
                Ok(()) => {
                    check_time(roots_file, root.validity, now)?;
                    found = Some(signing);
                    break;
                }
                Err(error) => refusal = Some(error),
            }
        }
        let signer = found.ok_or_else(|| {
            let detail = refusal.map_or("no root".to_owned(), |error| error.to_string());
            PluggedInError::Refused { detail }
        })?;
        let revocation_lists = match find(&REVOCATIONS) {
            None => Vec::new(),
            Some((file, text)) => {
                let lists = revocation_lists_from_pem(&text).map_err(failed(file))?;
                // A list of the right name and the wrong key would make peers refuse everything.
                try_out(provider, &signer, domain, &lists, now)
                    .map_err(|error| PluggedInError::Lists { file, detail: error.to_string() })?;
                lists
            }
        };
        Ok(Self { signer, roots, revocation_lists })
    }
}

fn check_time(
    file: &'static str,
    validity: Validity,
    now: SystemTime,
) -> Result<(), PluggedInError> {
    if validity.contains(now) {
        return Ok(());
    }
    Err(PluggedInError::NotValid { file, validity, now })
}

fn when(validity: Validity, now: SystemTime) -> String {
    let days = |later: SystemTime, earlier| {
        later.duration_since(earlier).unwrap_or_default().as_secs() / 86_400
    };
    if now < validity.not_before {
        format!("becomes valid only in {} days", days(validity.not_before, now))
    } else {
        format!("expired {} days ago", days(now, validity.not_after))
    }
}

/// Signs a leaf and verifies it as a peer would: signatures, constraints of path and names, uses of keys.
fn try_out(
    provider: &Arc<CryptoProvider>,
    signing: &SigningRoot,
    domain: &TrustDomain,
    lists: &[Arc<[u8]>],
    now: SystemTime,
) -> Result<(), CryptoError> {
    let failed = |error: &dyn std::error::Error| CryptoError(error.to_string());
    let keys = Keys::new(provider.clone());
    let identity =
        SpiffeId::for_service_account(domain, "heddle", "trial").map_err(|e| failed(&e))?;
    let (key, request) = keys.make_key(&identity)?;
    let validity = Validity { not_before: now, not_after: now + Duration::from_mins(1) };
    let serial = signing.new_serial().map_err(|error| failed(&error))?;
    let chain =
        signing.sign(&request, &identity, validity, serial).map_err(|error| failed(&error))?;
    let root = signing.root().clone();
    let bundle = TrustBundle::new(1, domain.clone(), root.id.clone(), vec![root])
        .and_then(|bundle| bundle.revoke(Vec::new(), lists.to_vec()))
        .map_err(|error| failed(&error))?;
    keys.check_chain(&key, &identity, &chain, &bundle).map(|_| ())
}

#[cfg(test)]
mod tests;
