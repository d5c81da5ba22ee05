//! A proxy whose configuration comes from files and never changes: for benches, and for looking at one proxy alone.
//!
//! Everything but the config stream and interception is the sidecar's: the same snapshot, the same pipelines, the same
//! certificates, which an authority in the files signs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::Validity;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_net::socket::{ListenOptions, SocketFactory};
use heddle_proto::certificate::CertificateResponse;
use heddle_proto::resource::{
    ResourceType, decode, encode as encode_resource, name_text, parse_name,
};
use heddle_sync::Effect;
use heddle_telemetry::audit::AuditLog;
use heddle_telemetry::istio::StandardMetrics;
use heddle_telemetry::mesh::MeshMetrics;
use heddle_telemetry::metrics::{Registry, RegistrySettings};
use heddle_tls::{Identity, SigningRoot, SystemClock, default_provider, pem_of};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::config::{Demands, FixedIssuer};
use crate::configuration::Configuration;
use crate::run::{ProxyError, runtime};
use crate::snapshot::Snapshot;
use crate::worker::{Overrides, Shared, Worker};
use crate::{inbound, memory, outbound};

/// The configuration, as [`encode`] writes it.
pub const RESOURCES_FILE: &str = "resources";
/// The authority's certificate in PEM.
pub const AUTHORITY_FILE: &str = "authority.pem";
/// The authority's key in PEM.
pub const AUTHORITY_KEY_FILE: &str = "authority-key.pem";

/// How such a proxy is started.
pub struct FixedOptions {
    /// The folder with the files.
    pub folder: PathBuf,
    /// Where inbound connections are taken, and which address they count as made to.
    pub inbound: Option<(SocketAddr, SocketAddr)>,
    /// Where outbound connections are taken, and which address they count as made to.
    pub outbound: Option<(SocketAddr, SocketAddr)>,
}

/// Writes resources: for each its type's URL, its name and its content, each with its length in four bytes before it.
pub fn encode(resources: &BTreeMap<ResourceName, Resource>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, resource) in resources {
        let content = encode_resource(resource).bytes;
        let url = ResourceType::of(name).url();
        for part in [url.as_bytes(), name_text(name).as_bytes(), &content] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn read(mut bytes: &[u8]) -> io::Result<Vec<(ResourceName, Resource)>> {
    let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut resources = Vec::new();
    while !bytes.is_empty() {
        let mut part = || -> io::Result<&[u8]> {
            let cut = || broken("the file is cut off".to_owned());
            let (length, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (part, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
            bytes = rest;
            Ok(part)
        };
        let url = String::from_utf8_lossy(part()?).into_owned();
        let name = String::from_utf8_lossy(part()?).into_owned();
        let content = part()?.to_vec();
        let kind = ResourceType::parse(&url).ok_or_else(|| broken(format!("no type {url}")))?;
        let name = parse_name(kind, &name).map_err(|error| broken(error.to_string()))?;
        let resource =
            decode(&name, &content).map_err(|error| broken(format!("{name}: {error}")))?;
        resources.push((name, resource));
    }
    // Endpoints before what refers to them.
    resources.sort_by_key(|(name, _)| !matches!(name, ResourceName::Endpoints(_)));
    Ok(resources)
}

/// Runs until it is killed.
pub fn run_fixed(options: &FixedOptions) -> Result<(), ProxyError> {
    let started = Instant::now();
    let file = |name: &str| {
        let read = std::fs::read(options.folder.join(name));
        read.map_err(|error| ProxyError::System("cannot read the proxy's files", error))
    };
    let resources = read(&file(RESOURCES_FILE)?)
        .map_err(|error| ProxyError::System("cannot read the resources", error))?;
    let provider = default_provider();
    let chain = String::from_utf8_lossy(&file(AUTHORITY_FILE)?).into_owned();
    let key = String::from_utf8_lossy(&file(AUTHORITY_KEY_FILE)?).into_owned();
    let root = SigningRoot::from_pem(provider.clone(), &chain, &key).map_err(|error| {
        ProxyError::System("cannot read the authority", io::Error::other(error))
    })?;
    let identity = Arc::new(Identity::new(provider.clone(), Arc::new(SystemClock)));
    let mut issuer = FixedIssuer::new(identity.clone(), provider);
    for (_, resource) in &resources {
        match resource {
            Resource::Proxy(settings) => issuer.set_identity(&settings.workload.identity),
            Resource::TrustBundle(bundle) => issuer.set_bundle(bundle).map_err(|error| {
                ProxyError::System("cannot read the trust bundle", io::Error::other(error))
            })?,
            _ => {}
        }
    }
    issuer
        .issue(|request, id| {
            let now = SystemTime::now();
            let validity = Validity {
                not_before: now - Duration::from_mins(1),
                not_after: now + Duration::from_hours(12),
            };
            let chain =
                root.sign(request, id, validity, root.new_serial().map_err(|e| e.to_string())?);
            let mut pem: Vec<String> = chain
                .map_err(|e| e.to_string())?
                .iter()
                .map(|der| pem_of("CERTIFICATE", der))
                .collect();
            pem.push(pem_of("CERTIFICATE", &root.root().der));
            Ok(CertificateResponse { cert_chain: pem })
        })
        .map_err(|error| {
            ProxyError::System("cannot issue a certificate", io::Error::other(error))
        })?;
    let effects: Vec<Effect> =
        resources.into_iter().map(|(name, resource)| Effect::Set(name, resource)).collect();
    let (snapshot, _) = Snapshot::default().with(&effects, 1, 0);
    let (demands, _wanted) = Demands::new();
    let (configuration, _publisher) = Configuration::new(snapshot, Arc::new(demands));
    let registry = Registry::new(RegistrySettings::default());
    let overrides = Overrides {
        outbound_destination: options.outbound.map(|(_, destination)| destination),
        inbound_destination: options.inbound.map(|(_, destination)| destination),
        application: options.inbound.map(|(_, destination)| destination.ip()),
    };
    let shared = Shared {
        configuration,
        identity,
        sockets: SocketFactory::here(),
        application_sockets: SocketFactory::here(),
        outside: None,
        is_outside: false,
        metrics: Some(StandardMetrics::new(&registry)),
        mesh_metrics: Some(MeshMetrics::new(&registry)),
        names: Arc::default(),
        audit: AuditLog::default(),
        token_keys: Arc::default(),
        control_plane: crate::rate_limits::ControlPlane::default(),
        started,
        overrides,
    };
    let runtime = runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let worker = Worker::new(shared.clone(), 1);
        tokio::task::spawn_local(worker.clone().run());
        let listen = |address: SocketAddr| {
            let listener = shared.sockets.listen(address, ListenOptions::default());
            listener.map_err(|error| ProxyError::Listen(address, error))
        };
        if let Some((address, _)) = options.outbound {
            tokio::task::spawn_local(outbound::serve(worker.clone(), listen(address)?));
        }
        if let Some((address, _)) = options.inbound {
            tokio::task::spawn_local(inbound::serve(worker.clone(), listen(address)?));
        }
        tokio::task::spawn_local(memory::keep(worker));
        std::future::pending::<Result<(), ProxyError>>().await
    })
}
