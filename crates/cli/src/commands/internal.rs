//! The parts of a mesh that this program becomes when a mesh starts it: proxy, control plane, first process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use heddle_control::Lifetimes;
use heddle_ident::WorkloadId;
use heddle_proxy::run::{SidecarOptions, run_sidecar};
use heddle_standalone::StateDirectory;
use heddle_telemetry::audit::AuditSettings;
use heddle_telemetry::log::{LogSettings, init};
use heddle_telemetry::{Sink, SinkGuard, SinkSettings};

use super::signals::stop_signal;
use super::state::runtime;
use super::{reference, static_files, up};
use crate::arguments::{ControlArguments, InternalCommand, ProxyArguments};

/// What is logged, for every part of a mesh: `info`, or `info,heddle_proxy=debug`.
pub(crate) const LOG_VARIABLE: &str = "HEDDLE_LOG";

/// Where proxies write their audit log: a list of `off`, `stdout`, `all` and a folder.
pub(crate) const AUDIT_VARIABLE: &str = "HEDDLE_AUDIT";

/// Makes standard error the log, through a writer that a slow reader cannot stall.
pub(crate) fn start_log() -> Result<SinkGuard> {
    let (sink, guard) = Sink::spawn("log", std::io::stderr(), SinkSettings::default())
        .context("cannot start the log")?;
    let mut settings = LogSettings::default();
    if let Ok(level) = std::env::var(LOG_VARIABLE) {
        settings.level = level;
    }
    init(&settings, sink).context("cannot start the log")?;
    Ok(guard)
}

pub(crate) fn run(command: InternalCommand) -> Result<ExitCode> {
    match command {
        InternalCommand::Control(arguments) => control(&arguments),
        InternalCommand::Mesh(arguments) => {
            let settings = up::Settings {
                certificate_lifetime: Duration::from_millis(arguments.certificate_lifetime_ms),
                ca: arguments.ca,
                publish_address: arguments.publish_address,
                join_listen: arguments.join_listen,
                svid_source: arguments.spiffe_endpoint_socket,
            };
            up::background(&arguments.directory, &settings)
        }
        InternalCommand::Reference(arguments) => reference::write(&arguments),
        InternalCommand::Static(arguments) => static_files::write(&arguments),
        InternalCommand::StaticProxy(arguments) => static_files::proxy(&arguments),
    }
}

pub(crate) fn proxy(arguments: ProxyArguments) -> Result<ExitCode> {
    let _log = start_log()?;
    let supervisor = heddle_net::process::inherited_descriptor(arguments.control_fd)
        .context("the supervisor's descriptor is not there")?;
    let names = arguments.names_fd.map(heddle_net::process::inherited_descriptor).transpose();
    let names = names.context("the descriptor for learned names is not there")?.map(Into::into);
    let workload_api = arguments.workload_api_fd.map(heddle_net::process::inherited_descriptor);
    let workload_api = workload_api
        .transpose()
        .context("the listening socket of the Workload API is not there")?;
    let workload = WorkloadId::new(arguments.workload);
    let svid_source = arguments.spiffe_endpoint_socket.map(|socket| {
        let path = socket.strip_prefix("unix://").or_else(|| socket.strip_prefix("unix:"));
        PathBuf::from(path.unwrap_or(&socket))
    });
    let audit = match std::env::var(AUDIT_VARIABLE) {
        Ok(text) => AuditSettings::parse(&text).context(AUDIT_VARIABLE)?,
        Err(_) => AuditSettings::default(),
    };
    let options = SidecarOptions {
        workload,
        supervisor,
        names,
        workload_api,
        svid_source,
        is_outside: arguments.outside,
        audit,
    };
    run_sidecar(options).context("the proxy ended")?;
    Ok(ExitCode::SUCCESS)
}

fn control(arguments: &ControlArguments) -> Result<ExitCode> {
    let _log = start_log()?;
    let lifetime = Duration::from_millis(arguments.certificate_lifetime_ms);
    let machines = arguments.machines_fd.map(heddle_net::process::inherited_descriptor).transpose();
    let machines = machines.context("the listening socket for machines is not there")?;
    let machines = machines.map(|socket| Arc::new(std::net::TcpListener::from(socket)));
    serve_control(&arguments.directory, lifetime, arguments.ca.clone(), machines)?;
    Ok(ExitCode::SUCCESS)
}

fn serve_control(
    directory: &Path,
    certificate_lifetime: Duration,
    authority_folder: Option<PathBuf>,
    machines: Option<Arc<std::net::TcpListener>>,
) -> Result<()> {
    let state = StateDirectory::new(directory).context("cannot use the state directory")?;
    let options = heddle_control::Options {
        store: directory.join("store.redb"),
        api_socket: state.control_socket(),
        stream_socket: state.stream_socket(),
        authority_folder,
        machines,
        lifetimes: Lifetimes { leaf: certificate_lifetime, ..Lifetimes::default() },
        translation: heddle_translate::Options::default(),
    };
    let provider = heddle_tls::default_provider();
    runtime()?.block_on(async {
        let stop = stop_signal()?;
        let served = heddle_control::serve(options, provider, || {}, stop).await;
        served.map_err(|error| match error.hint() {
            Some(hint) => crate::failure::hinted(error, hint),
            None => error.into(),
        })
    })
}
