//! TLS settings towards servers outside of the mesh, made of what is configured and the files it names.

use std::fs;
use std::sync::Arc;

use heddle_ir::destination::TlsOrigination;
use heddle_ir::secret::{Secret, SecretKey};
use heddle_tls::{ClientTls, ClientTlsMode, OriginationConfig, default_provider};

use crate::upstream::UpstreamProtocol;
use crate::worker::Worker;

/// The largest certificate or key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the files and makes the configuration; the error is a sentence for the operator. Done once for an endpoint
/// and generation of its policy, not for a request. `secrets` are those that the settings refer to and that exist.
pub(crate) fn config(
    worker: &Worker,
    settings: &TlsOrigination,
    secrets: &[Arc<Secret>],
    protocol: UpstreamProtocol,
) -> Result<OriginationConfig, String> {
    let credential = settings.credential.as_ref().map(|key| secret(secrets, key)).transpose()?;
    let mut authorities: Vec<&Arc<Secret>> = credential.into_iter().collect();
    // One of several places may have it.
    authorities.extend(secrets.iter().filter(|own| settings.ca_certificates.contains(&own.key)));
    let (roots_pem, revocations_pem) = if settings.insecure_skip_verify {
        Default::default()
    } else {
        (roots(settings, &authorities)?, revocations(settings, &authorities)?)
    };
    let own = credential.filter(|own| !own.private_key.is_empty());
    let mode = match (own, &settings.client_certificate_paths) {
        (Some(own), _) => ClientTlsMode::Mutual {
            chain_pem: own.certificate_chain.clone(),
            key_pem: own.private_key.clone(),
        },
        (None, Some((chain, key))) => {
            ClientTlsMode::Mutual { chain_pem: read(chain)?, key_pem: read(key)? }
        }
        (None, None) => ClientTlsMode::Simple,
    };
    let protocols: &[&[u8]] = match protocol {
        UpstreamProtocol::Http1 => &[b"http/1.1"],
        UpstreamProtocol::Http2 => &[b"h2"],
        UpstreamProtocol::Tcp => &[],
    };
    let settings = ClientTls {
        mode,
        roots_pem,
        revocations_pem,
        subject_alt_names: settings.subject_alt_names.iter().map(ToString::to_string).collect(),
        server_name: (!settings.server_name.is_empty()).then(|| settings.server_name.to_string()),
        skip_verification: settings.insecure_skip_verify,
        protocols: protocols.iter().map(|name| name.to_vec()).collect(),
    };
    let clock = worker.shared.identity.clock().clone();
    OriginationConfig::new(default_provider(), clock, &settings).map_err(|error| error.to_string())
}

/// What is named and not there is no reason to go without it.
fn secret<'s>(secrets: &'s [Arc<Secret>], key: &SecretKey) -> Result<&'s Arc<Secret>, String> {
    let found = secrets.iter().find(|secret| secret.key == *key);
    found.ok_or_else(|| format!("there is no secret {}/{}", key.namespace, key.name))
}

/// The authorities of the secrets; where they have none, those of the file; without one those of the system.
fn roots(settings: &TlsOrigination, secrets: &[&Arc<Secret>]) -> Result<Arc<[u8]>, String> {
    let found = joined(secrets.iter().map(|secret| &secret.authority));
    if !found.is_empty() {
        return Ok(found);
    }
    if !settings.ca_certificates.is_empty() {
        let names = settings.ca_certificates.iter();
        let names = names.map(|key| format!("{}/{}", key.namespace, key.name));
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(format!("no authority is in the secrets {names}"));
    }
    match &settings.ca_certificates_path {
        Some(path) => read(path),
        None => system_roots(),
    }
}

fn revocations(settings: &TlsOrigination, secrets: &[&Arc<Secret>]) -> Result<Arc<[u8]>, String> {
    let found = joined(secrets.iter().map(|secret| &secret.revocations));
    match &settings.revocations_path {
        Some(path) if found.is_empty() => read(path),
        _ => Ok(found),
    }
}

/// PEM texts one after the other.
fn joined<'s>(texts: impl Iterator<Item = &'s Arc<[u8]>>) -> Arc<[u8]> {
    let mut all = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        all.extend_from_slice(text);
        all.push(b'\n');
    }
    all.into()
}

fn system_roots() -> Result<Arc<[u8]>, String> {
    let mut files = heddle_tls::SYSTEM_ROOT_FILES.iter();
    let file = files.find(|file| fs::metadata(file).is_ok());
    read(file.ok_or("this system has no file of certificate authorities")?)
}

pub(crate) fn read(path: &str) -> Result<Arc<[u8]>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {path}: {error}");
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{path} is larger than {FILE_BYTES_MAX} bytes"));
    }
    fs::read(path).map(Into::into).map_err(unreadable)
}
