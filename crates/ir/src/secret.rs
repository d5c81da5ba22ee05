//! Secrets: certificates and keys that users bring.
//!
//! A proxy is sent a secret only when its own gateway or destination refers to it, and it never prints one.

use std::fmt;
use std::sync::Arc;

/// Names a [`Secret`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SecretKey {
    /// What kind of object holds it.
    pub kind: SecretKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What kind of object holds a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SecretKind {
    /// A ConfigMap; authorities and revocation lists only.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A certificate with its key, an authority, or both. What is absent is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Which.
    pub key: SecretKey,
    /// Certificate chain in PEM, leaf first.
    pub certificate_chain: Arc<[u8]>,
    /// Private key in PEM.
    pub private_key: Arc<[u8]>,
    /// Certificates of an authority in PEM.
    pub authority: Arc<[u8]>,
    /// Certificate revocation list in PEM.
    pub revocations: Arc<[u8]>,
}

impl fmt::Debug for Secret {
    /// Name only: contents never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("key", &self.key).finish_non_exhaustive()
    }
}
