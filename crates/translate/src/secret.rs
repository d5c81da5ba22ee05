//! Secrets that gateways and destinations refer to, out of Kubernetes' Secrets and ConfigMaps.
//!
//! Who may refer to which is decided where the reference is made, not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ir::secret::{Secret, SecretKey, SecretKind};

use crate::engine::{Derivation, Reader};
use crate::object::ObjectKey;

/// A secret, by its object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SecretQuery(pub(crate) SecretKey);

/// The names under which a certificate is found: Istio's, then Kubernetes'.
const CERTIFICATE: [&str; 2] = ["cert", "tls.crt"];
const PRIVATE_KEY: [&str; 2] = ["key", "tls.key"];
const AUTHORITY: [&str; 2] = ["cacert", "ca.crt"];
const REVOCATIONS: [&str; 2] = ["crl", "ca.crl"];

impl Derivation for SecretQuery {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Secret>> {
        let key = &self.0;
        let kind = match key.kind {
            SecretKind::ConfigMap => "ConfigMap",
            SecretKind::Secret => "Secret",
        };
        let object = reader.object(&ObjectKey::new("", kind, &key.namespace, &key.name))?;
        let entries = entries(&object)?;
        let one = |names: [&str; 2]| -> Arc<[u8]> {
            let found = names.into_iter().find_map(|name| entries.get(name));
            found.map(|bytes| Arc::from(*bytes)).unwrap_or_default()
        };
        Some(Arc::new(Secret {
            key: key.clone(),
            certificate_chain: one(CERTIFICATE),
            private_key: one(PRIVATE_KEY),
            authority: one(AUTHORITY),
            revocations: one(REVOCATIONS),
        }))
    }
}

/// What an object holds; texts win over bytes, as in the Kubernetes API.
fn entries(object: &AnyObject) -> Option<BTreeMap<&str, &[u8]>> {
    let mut entries: BTreeMap<&str, &[u8]> = BTreeMap::new();
    match object {
        AnyObject::ConfigMap(map) => {
            let binary = map.spec.binary_data.iter();
            entries.extend(binary.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())));
            let texts = map.spec.data.iter();
            entries.extend(texts.map(|(name, text)| (name.as_str(), text.as_bytes())));
        }
        AnyObject::Secret(secret) => {
            let data = secret.spec.data.iter();
            entries.extend(data.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())));
            let texts = secret.spec.string_data.iter();
            entries.extend(texts.map(|(name, text)| (name.as_str(), text.as_bytes())));
        }
        _ => return None,
    }
    Some(entries)
}
