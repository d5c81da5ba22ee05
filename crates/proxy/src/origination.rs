//! TLS settings towards servers outside of the mesh, made of what is configured and the files it names.

use std::fs;
use std::sync::Arc;

use heddle_ir::destination::TlsOrigination;
use heddle_tls::{ClientTls, ClientTlsMode, OriginationConfig, default_provider};

use crate::upstream::UpstreamProtocol;
use crate::worker::Worker;

/// The largest certificate or key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads the files and makes the configuration; the error is a sentence for the operator. Done once for an endpoint
/// and generation of its policy, not for a request.
pub(crate) fn config(
    worker: &Worker,
    settings: &TlsOrigination,
    protocol: UpstreamProtocol,
) -> Result<OriginationConfig, String> {
    let roots_pem = match &settings.ca_certificates_path {
        _ if settings.insecure_skip_verify => Arc::default(),
        Some(path) => read(path)?,
        None => system_roots()?,
    };
    let revocations_pem = match &settings.revocations_path {
        Some(path) if !settings.insecure_skip_verify => read(path)?,
        _ => Arc::default(),
    };
    let mode = match &settings.client_certificate_paths {
        Some((chain, key)) => {
            ClientTlsMode::Mutual { chain_pem: read(chain)?, key_pem: read(key)? }
        }
        None => ClientTlsMode::Simple,
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
