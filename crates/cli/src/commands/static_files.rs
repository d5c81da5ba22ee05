//! A proxy from files: what `cargo xtask bench` measures, and what shows one proxy alone.
//!
//! The configuration is translated from ordinary YAML by the same code as in a mesh and goes through the same wire
//! format; only the stream and interception are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use heddle_api::Reader;
use heddle_ident::{HostPattern, WorkloadId};
use heddle_ir::index::Index;
use heddle_ir::outbound::OutboundKey;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::trust::{TrustBundle, TrustedDomain};
use heddle_proxy::fixed::{
    AUTHORITY_FILE, AUTHORITY_KEY_FILE, FixedOptions, RESOURCES_FILE, encode, run_fixed,
};
use heddle_tls::{SigningRoot, default_provider};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use super::files::Sources;
use super::print::out;
use crate::arguments::{StaticArguments, StaticProxyArguments};

/// The authority of such files is for a bench's life.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(24);

pub(crate) fn write(arguments: &StaticArguments) -> Result<ExitCode> {
    let sources = Sources::read(&arguments.files)?;
    let reader = Reader::default();
    let mut objects = Vec::new();
    for (path, bytes) in sources.iter() {
        let loaded = reader.read_file(path, bytes);
        if let Some(finding) =
            loaded.diagnostics.iter().find(|finding| finding.level == heddle_diag::Level::Error)
        {
            bail!("{path}: {}", finding.message);
        }
        objects.extend(loaded.resources);
    }
    let options = Options::default();
    let mut translator = Translator::new(options.clone());
    let expanded = expand(objects, Allocation::default(), true);
    translator.apply(expanded.objects.into_iter().map(Change::Upsert));
    let workload = WorkloadId::new(format!("{}/Pod/{}", options.cluster, arguments.workload));
    let mut resources = resources_of(&translator, &workload)?;
    std::fs::create_dir_all(&arguments.out).context("cannot make the folder")?;
    let authority = authority(&arguments.out, &options)?;
    let root = authority.root();
    resources.insert(
        ResourceName::TrustBundle,
        Resource::TrustBundle(Arc::new(TrustBundle {
            generation: 1,
            trust_domain: options.trust_domain.clone(),
            signer: root.id.as_str().into(),
            domains: vec![TrustedDomain {
                trust_domain: options.trust_domain.clone(),
                roots: vec![root.der.clone()],
            }],
            revoked: Vec::new(),
            revocation_lists: Vec::new(),
        })),
    );
    let name = arguments.workload.rsplit('/').next().unwrap_or(&arguments.workload);
    let folder = arguments.out.join(name);
    std::fs::create_dir_all(&folder).context("cannot make the folder")?;
    std::fs::write(folder.join(RESOURCES_FILE), encode(&resources)).context("cannot write")?;
    for file in [AUTHORITY_FILE, AUTHORITY_KEY_FILE] {
        private(&folder.join(file), &std::fs::read(arguments.out.join(file))?)?;
    }
    out(&format!("{} resources for {workload}\n", resources.len()))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that a workload's proxy could ask for.
fn resources_of(
    translator: &Translator,
    workload: &WorkloadId,
) -> Result<BTreeMap<ResourceName, Resource>> {
    let scope = translator
        .scope_of(workload)
        .with_context(|| format!("the files have no Pod {workload} with an address"))?;
    let mut names = BTreeSet::from([
        ResourceName::Proxy(workload.clone()),
        ResourceName::Inbound(workload.clone()),
        ResourceName::Index(scope.clone()),
    ]);
    if let Some(Resource::Index(index)) = translator.resource(&ResourceName::Index(scope.clone())) {
        let tables =
            tables(&index).map(|(host, port)| OutboundKey { scope: scope.clone(), host, port });
        names.extend(tables.map(ResourceName::Outbound));
    }
    for other in translator.workloads() {
        let addresses = other.addresses.iter();
        names.extend(
            addresses.map(|address| ResourceName::Workload(other.network.clone(), *address)),
        );
    }
    let mut resources = BTreeMap::new();
    for name in names {
        let Some(resource) = translator.resource(&name) else { continue };
        for reference in heddle_sync::references(&resource) {
            if let Some(referred) = translator.resource(&reference) {
                resources.insert(reference, referred);
            }
        }
        resources.insert(name, resource);
    }
    Ok(resources)
}

fn tables(index: &Index) -> impl Iterator<Item = (Arc<str>, u16)> {
    let frontends = index.frontends.iter().flat_map(|frontend| {
        let host: Arc<str> = match &frontend.host {
            HostPattern::Exact(host) => host.as_str().into(),
            pattern => pattern.to_string().into(),
        };
        frontend.ports.iter().map(move |port| (host.clone(), port.number))
    });
    let routed = index.routed_hosts.iter().map(|routed| (routed.table.clone(), routed.port));
    frontends.chain(routed)
}

/// The authority of the folder, made when it is not there.
fn authority(folder: &Path, options: &Options) -> Result<SigningRoot> {
    let provider = default_provider();
    let (chain, key) = (folder.join(AUTHORITY_FILE), folder.join(AUTHORITY_KEY_FILE));
    if chain.exists() {
        let (chain, key) = (std::fs::read_to_string(chain)?, std::fs::read_to_string(key)?);
        return SigningRoot::from_pem(provider, &chain, &key).context("cannot read the authority");
    }
    let now = SystemTime::now();
    let root = SigningRoot::generate(provider, &options.trust_domain, now, AUTHORITY_LIFETIME)
        .context("cannot make an authority")?;
    private(&chain, root.chain_pem().as_bytes())?;
    private(&key, root.key_pem().as_bytes())?;
    Ok(root)
}

/// A file that only its owner reads.
fn private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).and_then(|mut file| file.write_all(bytes));
    file.with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn proxy(arguments: &StaticProxyArguments) -> Result<ExitCode> {
    let pair = |text: &Option<String>| -> Result<Option<(SocketAddr, SocketAddr)>> {
        let Some(text) = text else { return Ok(None) };
        let (listen, destination) =
            text.split_once('=').context("LISTEN=DESTINATION is expected")?;
        Ok(Some((listen.parse()?, destination.parse()?)))
    };
    let options = FixedOptions {
        folder: arguments.folder.clone(),
        inbound: pair(&arguments.inbound)?,
        outbound: pair(&arguments.outbound)?,
    };
    run_fixed(&options).context("the proxy ended")?;
    Ok(ExitCode::SUCCESS)
}
