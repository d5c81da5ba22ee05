//! An authority that others made, out of a folder or the Secret `cacerts` of the root namespace.
//!
//! It takes the place of the one in use as any new root does: distributed first, then signed with, and the former one
//! retired when nobody needs it. Where it vouches by the same root, its intermediate is just replaced.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ident::TrustDomain;
use heddle_store::Store;
use heddle_tls::{CryptoProvider, PluggedIn, PluggedInError};
use zeroize::Zeroizing;

use super::{CertificateAuthority, CertificateAuthorityError};

/// Files that are looked for, and no others.
pub(crate) const FILES: [&str; 9] = [
    "ca-cert.pem",
    "ca-key.pem",
    "cert-chain.pem",
    "root-cert.pem",
    "ca-crl.pem",
    "tls.crt",
    "tls.key",
    "ca.crt",
    "ca.crl",
];
/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The contents of the files of an authority.
pub(crate) type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PluggedFolderError {
    /// A file cannot be opened or read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is larger than any certificate.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// What is in the files makes no authority.
    #[error("the authority in {path} cannot be used", path = path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: PluggedInError,
    },
}

/// Reads the files of a folder.
pub(crate) fn read_folder(folder: &Path) -> Result<Files, PluggedFolderError> {
    let mut files = Files::new();
    for name in FILES {
        let path = folder.join(name);
        let failed = |source| PluggedFolderError::Read { path: path.clone(), source };
        let about = match std::fs::metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => {
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if about.len() > FILE_BYTES_MAX {
            return Err(PluggedFolderError::TooLarge { path });
        }
        if name.ends_with("key.pem") && about.permissions().mode() & 0o077 != 0 {
            let hint = "chmod 600: whoever reads it can be anybody in the mesh";
            tracing::warn!(path = %path.display(), hint, "the authority's key is readable by others");
        }
        files.insert(name.to_owned(), Zeroizing::new(std::fs::read(&path).map_err(failed)?));
    }
    Ok(files)
}

/// Checks an authority before anything is started with it.
pub fn check_folder(
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    domain: &TrustDomain,
    now: SystemTime,
) -> Result<(), PluggedFolderError> {
    read(folder, provider, domain, now).map(|_| ())
}

pub(crate) fn read(
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    domain: &TrustDomain,
    now: SystemTime,
) -> Result<PluggedIn, PluggedFolderError> {
    let unusable = |source| PluggedFolderError::Unusable { path: folder.to_owned(), source };
    PluggedIn::read(provider, &read_folder(folder)?, domain, now).map_err(unusable)
}

impl CertificateAuthority {
    /// Signs with this from now on, or as soon as everybody can verify it. True: the bundle is another one.
    pub(crate) fn plug_in(
        &mut self,
        store: &Store,
        plugged: PluggedIn,
    ) -> Result<bool, CertificateAuthorityError> {
        let PluggedIn { signer, roots, revocation_lists } = plugged;
        let root = signer.root().clone();
        let mut changed = self.authority.set_revocation_lists(revocation_lists)?.is_some();
        self.plugged = Some(root.id.clone());
        self.plugged_roots = roots;
        if !self.authority.roots().iter().any(|held| held.id == root.id) {
            self.authority.begin_rotation(root.clone())?;
            tracing::info!(root = %root.id, "another authority was plugged in; it is distributed now");
            changed = true;
        }
        let is_same = |held: &heddle_tls::SigningRoot| held.chain_pem() == signer.chain_pem();
        if changed || !self.signers.get(&root.id).is_some_and(is_same) {
            self.signers.insert(root.id.clone(), signer);
            // The key first: a state that names a root without key would be of no use after a crash.
            self.store_key(store, &root.id)?;
            self.store(store)?;
        }
        Ok(changed)
    }

    /// Nothing is plugged in any more: what was stays in use until it is replaced.
    pub(crate) fn unplug(&mut self) {
        self.plugged = None;
        self.plugged_roots.clear();
    }

    /// Whether others made the authority, and others replace it.
    pub(crate) fn is_plugged(&self) -> bool {
        self.plugged.is_some()
    }
}
