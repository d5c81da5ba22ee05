//! The trust bundle: for every trust domain the roots that vouch for its identities.
//!
//! A bundle is a value: it never changes, a change is a new bundle with a higher generation. The proxy
//! gives it to `tls`, which turns the roots into trust anchors; here a root is bytes with a name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ident::TrustDomain;

use crate::Serial;

/// Roots of one trust domain; a rotation needs two, a botched one a few more.
const ROOTS_MAX: usize = 16;
/// Trust domains of one bundle.
const DOMAINS_MAX: usize = 64;
/// Bytes of one root in DER; a root with a 4096-bit RSA key takes about 1.5 KB.
const ROOT_BYTES_MAX: usize = 16 * 1024;
/// Revoked leaves that are named one by one; whoever has to revoke more replaces the root.
const REVOKED_MAX: usize = 10_000;
/// Revocation lists of authorities above the mesh's.
const REVOCATION_LISTS_MAX: usize = 16;
/// Bytes of one revocation list in DER: some 30,000 entries.
const REVOCATION_LIST_BYTES_MAX: usize = 1 << 20;

/// The name of a root: the SHA-256 of its DER in lower-case hex. `tls` computes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(Arc<str>);

impl RootId {
    /// Takes the text as it is.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RootId {
    /// The first 16 characters, which is what people compare; [`RootId::as_str`] has all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..16).unwrap_or(&self.0))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A root certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its name.
    pub id: RootId,
    /// The certificate in DER.
    pub der: Arc<[u8]>,
    /// When it may sign and vouch.
    pub validity: super::Validity,
}

impl Root {
    /// The last moment of its validity.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }
}

/// The roots of every trust domain a proxy accepts, with the generation that orders bundles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustBundle {
    generation: u64,
    domain: TrustDomain,
    signer: RootId,
    roots: BTreeMap<TrustDomain, Arc<[Root]>>,
    revoked: Arc<[Serial]>,
    revocation_lists: Arc<[Arc<[u8]>]>,
}

impl TrustBundle {
    /// A bundle of the mesh's own trust domain. `signer` is the root that vouches for newly issued leaves; a
    /// proxy whose leaf comes from another one renews early.
    pub fn new(
        generation: u64,
        domain: TrustDomain,
        signer: RootId,
        roots: Vec<Root>,
    ) -> Result<Self, BundleError> {
        if !roots.iter().any(|root| root.id == signer) {
            return Err(BundleError::SignerNotARoot { domain, signer });
        }
        let roots = BTreeMap::from([(domain.clone(), check_roots(&domain, roots)?)]);
        let (revoked, revocation_lists) = (Arc::default(), Arc::default());
        Ok(Self { generation, domain, signer, roots, revoked, revocation_lists })
    }

    /// Adds a trust domain of others (federation), or an alias of the own one.
    pub fn federate(mut self, domain: TrustDomain, roots: Vec<Root>) -> Result<Self, BundleError> {
        if self.roots.contains_key(&domain) {
            return Err(BundleError::DomainTwice { domain });
        }
        if self.roots.len() >= DOMAINS_MAX {
            return Err(BundleError::TooManyDomains { max: DOMAINS_MAX });
        }
        let roots = check_roots(&domain, roots)?;
        self.roots.insert(domain, roots);
        Ok(self)
    }

    /// Names what is not accepted although a root vouches for it: leaves by serial number, and revocation lists in
    /// DER (RFC 5280 section 5), each of which counts for what its issuer has signed.
    pub fn revoke(
        self,
        revoked: Vec<Serial>,
        revocation_lists: Vec<Arc<[u8]>>,
    ) -> Result<Self, BundleError> {
        if revoked.len() > REVOKED_MAX {
            return Err(BundleError::TooManyRevoked { count: revoked.len(), max: REVOKED_MAX });
        }
        let bytes = revocation_lists.iter().map(|list| list.len()).max().unwrap_or(0);
        if revocation_lists.len() > REVOCATION_LISTS_MAX || bytes > REVOCATION_LIST_BYTES_MAX {
            return Err(BundleError::RevocationListsTooLarge {
                count: revocation_lists.len(),
                bytes,
            });
        }
        Ok(Self { revoked: revoked.into(), revocation_lists: revocation_lists.into(), ..self })
    }

    /// Leaves that are not accepted, by serial number.
    pub fn revoked(&self) -> &[Serial] {
        &self.revoked
    }

    /// Revocation lists in DER.
    pub fn revocation_lists(&self) -> &[Arc<[u8]>] {
        &self.revocation_lists
    }

    /// The order of bundles of one authority: a higher one is newer.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The mesh's own trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root that vouches for leaves issued now.
    pub fn signer(&self) -> &RootId {
        &self.signer
    }

    /// The roots that vouch for identities of `domain`; empty for a domain that is not trusted.
    pub fn roots(&self, domain: &TrustDomain) -> &[Root] {
        self.roots.get(domain).map_or(&[], AsRef::as_ref)
    }

    /// Every trusted domain with its roots, in order of name.
    pub fn domains(&self) -> impl Iterator<Item = (&TrustDomain, &[Root])> {
        self.roots.iter().map(|(domain, roots)| (domain, roots.as_ref()))
    }
}

/// Why roots do not make a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The trust domain has roots already.
    #[error("trust domain {domain} is in the bundle already")]
    DomainTwice {
        /// The domain.
        domain: TrustDomain,
    },
    /// The trust domain has no root, so nobody of it could ever be verified.
    #[error("trust domain {domain} has no root")]
    NoRoot {
        /// The domain.
        domain: TrustDomain,
    },
    /// A root is larger than a certificate may be.
    #[error("root {root} of {domain} has {bytes} bytes, at most {max} are accepted")]
    RootTooLarge {
        /// The domain.
        domain: TrustDomain,
        /// The root.
        root: RootId,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Revocation lists are too many or too large.
    #[error(
        "{count} revocation lists, the largest of {bytes} bytes: at most {REVOCATION_LISTS_MAX} of \
         {REVOCATION_LIST_BYTES_MAX} bytes are accepted"
    )]
    RevocationListsTooLarge {
        /// How many.
        count: usize,
        /// The size of the largest.
        bytes: usize,
    },
    /// The root named as signer is not among the roots.
    #[error("signer {signer} is not a root of {domain}")]
    SignerNotARoot {
        /// The domain.
        domain: TrustDomain,
        /// The signer.
        signer: RootId,
    },
    /// Too many leaves are revoked one by one.
    #[error("{count} revoked certificates, at most {max} can be named: replace the root instead")]
    TooManyRevoked {
        /// How many.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// The bundle would hold too many trust domains.
    #[error("more than {max} trust domains")]
    TooManyDomains {
        /// The bound.
        max: usize,
    },
    /// A trust domain has too many roots.
    #[error("trust domain {domain} has {count} roots, at most {max} are accepted")]
    TooManyRoots {
        /// The domain.
        domain: TrustDomain,
        /// How many.
        count: usize,
        /// The bound.
        max: usize,
    },
}

fn check_roots(domain: &TrustDomain, roots: Vec<Root>) -> Result<Arc<[Root]>, BundleError> {
    let domain = || domain.clone();
    if roots.is_empty() {
        return Err(BundleError::NoRoot { domain: domain() });
    }
    if roots.len() > ROOTS_MAX {
        return Err(BundleError::TooManyRoots {
            domain: domain(),
            count: roots.len(),
            max: ROOTS_MAX,
        });
    }
    if let Some(root) = roots.iter().find(|root| root.der.len() > ROOT_BYTES_MAX) {
        return Err(BundleError::RootTooLarge {
            domain: domain(),
            root: root.id.clone(),
            bytes: root.der.len(),
            max: ROOT_BYTES_MAX,
        });
    }
    Ok(roots.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Validity;

    fn root(name: &str, bytes: usize) -> Root {
        Root {
            id: RootId::new(name),
            der: vec![0; bytes].into(),
            validity: Validity {
                not_before: SystemTime::UNIX_EPOCH,
                not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
            },
        }
    }

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    #[test]
    fn a_bundle_keeps_roots_apart_by_domain() {
        let bundle = TrustBundle::new(3, domain("own"), RootId::new("a"), vec![root("a", 1)])
            .and_then(|bundle| bundle.federate(domain("other"), vec![root("b", 1), root("c", 1)]))
            .unwrap();
        assert_eq!(bundle.roots(&domain("own")).len(), 1);
        assert_eq!(bundle.roots(&domain("other")).len(), 2);
        assert!(bundle.roots(&domain("stranger")).is_empty());
        assert_eq!(bundle.domains().count(), 2);
    }

    #[test]
    fn a_federated_domain_cannot_replace_the_own_one() {
        let bundle =
            TrustBundle::new(1, domain("own"), RootId::new("a"), vec![root("a", 1)]).unwrap();
        assert_eq!(
            bundle.federate(domain("own"), vec![root("evil", 1)]),
            Err(BundleError::DomainTwice { domain: domain("own") })
        );
    }

    #[test]
    fn every_bound_is_enforced() {
        let own = |roots| TrustBundle::new(1, domain("own"), RootId::new("a"), roots);
        assert!(matches!(own(vec![root("b", 1)]), Err(BundleError::SignerNotARoot { .. })));
        assert!(matches!(
            own(vec![root("a", 1); ROOTS_MAX + 1]),
            Err(BundleError::TooManyRoots { .. })
        ));
        assert!(matches!(
            own(vec![root("a", ROOT_BYTES_MAX + 1)]),
            Err(BundleError::RootTooLarge { .. })
        ));
        let mut bundle = own(vec![root("a", 1)]).unwrap();
        for index in 1..DOMAINS_MAX {
            bundle = bundle.federate(domain(&format!("d{index}")), vec![root("x", 1)]).unwrap();
        }
        assert!(matches!(
            bundle.clone().federate(domain("last"), vec![root("x", 1)]),
            Err(BundleError::TooManyDomains { .. })
        ));
        assert!(matches!(
            own(vec![root("a", 1)]).unwrap().federate(domain("x"), vec![]),
            Err(BundleError::NoRoot { .. })
        ));
    }
}
