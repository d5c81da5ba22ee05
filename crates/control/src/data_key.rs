//! The key that texts and secrets of the store are sealed with: a file beside the store, readable by its owner only.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use heddle_store::{Seal, StoreError};
use heddle_tls::{DATA_KEY_BYTES, DataKey};
use zeroize::Zeroizing;

struct Sealing(DataKey);

impl Seal for Sealing {
    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        self.0.seal(name, plain).map_err(|error| error.to_string())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.0.open(name, sealed).map_err(|error| error.to_string())
    }
}

/// Reads the key of a store, or makes one where there is none.
pub(crate) fn open(store: &Path) -> Result<Box<dyn Seal>, StoreError> {
    let path = store.with_extension("key");
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let damaged = |detail: String| StoreError::Damaged { path: path.clone(), detail };
    let mut bytes = Zeroizing::new([0; DATA_KEY_BYTES]);
    match std::fs::File::open(&path) {
        Ok(mut file) => file
            .read_exact(&mut *bytes)
            .map_err(|error| damaged(format!("it holds no key: {error}")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bytes = DataKey::generate().map_err(|error| damaged(error.to_string()))?;
            // Whole or not at all, also when the process is killed meanwhile.
            let new = store.with_extension("key.new");
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&new).map_err(failed)?;
            file.write_all(&*bytes).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&new, &path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let key = DataKey::new(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok(Box::new(Sealing(key)))
}
