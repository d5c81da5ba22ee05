//! `up` and `down`: a mesh on this machine, from its first process to its last.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use heddle_standalone::status::{MeshStatus, Phase, WorkloadStatus};
use heddle_standalone::{Client, Ended, Options, StateDirectory};
use heddle_telemetry::audit::AuditSettings;
use tokio::process::Command;

use super::files::Sources;
use super::internal::{AUDIT_VARIABLE, LOG_VARIABLE};
use super::objects;
use super::print::out;
use super::signals::stop_signal;
use super::state::{client, directory, runtime};
use super::workload::told;
use crate::arguments::{DownArguments, MeshArguments, UpArguments};
use crate::failure::hinted;

/// How long a mesh without workloads may take to answer.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
const POLL_PERIOD: Duration = Duration::from_millis(50);
/// How long what has failed may still be replaced by what was just applied.
const CORRECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// What a mesh is started with.
pub(crate) struct Settings {
    pub(crate) certificate_lifetime: Duration,
    /// The folder of an authority of one's own.
    pub(crate) ca: Option<PathBuf>,
    /// Where ports are published that name no address.
    pub(crate) publish_address: IpAddr,
    /// Where machines join; none: nowhere.
    pub(crate) join_listen: Option<SocketAddr>,
    /// The socket of a Workload API that gives proxies their identities; none: the mesh's own authority does.
    pub(crate) svid_source: Option<PathBuf>,
}

/// The options of a mesh in a state directory.
fn options(directory: &Path, settings: &Settings) -> Options {
    let mut options = Options::new(directory);
    options.publish_address = settings.publish_address;
    options.control_arguments = vec![
        "internal".to_owned(),
        "control".to_owned(),
        "--state-directory".to_owned(),
        directory.display().to_string(),
        "--certificate-lifetime-ms".to_owned(),
        settings.certificate_lifetime.as_millis().to_string(),
    ];
    if let Some(ca) = &settings.ca {
        options.control_arguments.extend(["--ca".to_owned(), ca.display().to_string()]);
    }
    if let Some(socket) = &settings.svid_source {
        let socket = socket.display().to_string();
        options.proxy_arguments.extend(["--spiffe-endpoint-socket".to_owned(), socket]);
    }
    for name in [LOG_VARIABLE, AUDIT_VARIABLE] {
        if let Ok(value) = std::env::var(name) {
            options.own_environment.push((name.to_owned(), value));
        }
    }
    if let Ok(path) = std::env::var("PATH") {
        options.path = path;
    }
    options
}

pub(crate) fn up(mesh: &MeshArguments, arguments: &UpArguments) -> Result<ExitCode> {
    // What cannot be read is found before anything is started.
    if let Ok(text) = std::env::var(AUDIT_VARIABLE) {
        AuditSettings::parse(&text).context(AUDIT_VARIABLE)?;
    }
    let sources = Sources::read(&arguments.files)?;
    let directory = directory(mesh)?;
    let client = client(mesh)?;
    if client.state().running().is_some() {
        out("the mesh runs already; the files are applied to it\n")?;
        return runtime()?.block_on(async {
            let published = bring_up(&client, &sources, arguments.timeout).await?;
            Ok(exit_code(published))
        });
    }
    if arguments.detach {
        return runtime()?.block_on(detached(mesh, &client, &sources, arguments));
    }
    let settings = Settings {
        certificate_lifetime: arguments.certificate_lifetime,
        ca: usable_authority(arguments.ca.as_deref())?,
        publish_address: arguments.publish_address,
        join_listen: arguments.join_listen,
        svid_source: svid_source(arguments)?,
    };
    let started = start(&directory, &settings)?;
    runtime()?.block_on(async {
        let (told_to_stop, stop) = tokio::sync::oneshot::channel::<()>();
        let running = started.run(async move {
            // A sender that is dropped means the same.
            let _ = stop.await;
        });
        let signal = stop_signal()?;
        let foreground = async {
            bring_up(&client, &sources, arguments.timeout).await?;
            out("press Ctrl-C to stop; `heddle status` in another terminal shows more\n")?;
            std::future::pending::<Result<()>>().await
        };
        tokio::pin!(running);
        let outcome = tokio::select! {
            ended = &mut running => return match ended? {
                Ended::Stopped => Ok(ExitCode::SUCCESS),
                failed @ Ended::Failed(_) => Err(ended_early(failed, &client)),
            },
            () = signal => Ok(()),
            failed = foreground => failed,
        };
        out("stopping\n")?;
        drop(told_to_stop);
        running.await.context("the mesh did not stop in order")?;
        outcome.map(|()| ExitCode::SUCCESS)
    })
}

/// `heddle internal mesh`: the detached mesh's first process.
pub(crate) fn background(directory: &Path, settings: &Settings) -> Result<ExitCode> {
    let started = start(directory, settings)?;
    runtime()?.block_on(async {
        match started.run(stop_signal()?).await? {
            Ended::Stopped => Ok(ExitCode::SUCCESS),
            Ended::Failed(status) => bail!("the supervisor ended: {status:?}"),
        }
    })
}

pub(crate) fn start(directory: &Path, settings: &Settings) -> Result<heddle_standalone::Mesh> {
    let mut options = options(directory, settings);
    if let Some(address) = settings.join_listen {
        let listener = std::net::TcpListener::bind(address).map_err(|error| {
            let error = anyhow::Error::new(error)
                .context(format!("cannot listen for machines on {address}"));
            hinted(error, "--join-listen names an address of this machine and a free port")
        })?;
        options.machines = Some(Arc::new(listener));
    }
    start_with(options)
}

/// Starts a mesh, or a machine's part of one.
pub(crate) fn start_with(options: Options) -> Result<heddle_standalone::Mesh> {
    heddle_standalone::start(options).map_err(|error| {
        let hint = error.hint();
        let error = anyhow::Error::new(error).context("cannot start a mesh");
        match hint {
            Some(hint) => hinted(error, hint),
            None => error,
        }
    })
}

/// The mesh ended by itself.
pub(crate) fn ended_early(ended: Ended, client: &Client) -> anyhow::Error {
    hinted(
        anyhow::anyhow!("the mesh ended: {ended:?}"),
        format!("its log is in {}", client.state().logs().display()),
    )
}

async fn detached(
    mesh: &MeshArguments,
    client: &Client,
    sources: &Sources,
    arguments: &UpArguments,
) -> Result<ExitCode> {
    let directory = directory(mesh)?;
    let ca = usable_authority(arguments.ca.as_deref())?;
    let svids = svid_source(arguments)?;
    // Made here so that the log can be opened in it.
    StateDirectory::new(&directory).context("cannot use the state directory")?;
    let logs = client.state().logs();
    std::fs::create_dir_all(&logs).map_err(|error| {
        let what = format!("cannot make the folder {}", logs.display());
        hinted(anyhow::Error::new(error).context(what), "name another folder with --state")
    })?;
    let log = logs.join("mesh.log");
    let file =
        std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = Command::new(std::env::current_exe().context("cannot find this program")?)
        .args(["internal", "mesh", "--directory"])
        .arg(&directory)
        .arg("--certificate-lifetime-ms")
        .arg(arguments.certificate_lifetime.as_millis().to_string())
        .arg("--publish-address")
        .arg(arguments.publish_address.to_string())
        .args(
            arguments
                .join_listen
                .iter()
                .flat_map(|at| ["--join-listen".to_owned(), at.to_string()]),
        )
        .args(svids.iter().flat_map(|socket| {
            [std::ffi::OsStr::new("--spiffe-endpoint-socket"), socket.as_os_str()]
        }))
        .args(ca.iter().flat_map(|ca| [std::ffi::OsStr::new("--ca"), ca.as_os_str()]))
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("cannot copy a descriptor")?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("cannot start the mesh")?;
    let up = bring_up(client, sources, arguments.timeout);
    let result = tokio::select! {
        result = up => result,
        status = child.wait() => {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("the mesh ended at its start ({}): {}", status?, text.trim());
        }
    };
    // Whatever became of the files, there is a mesh now.
    out("the mesh runs in the background; `heddle down` stops it\n")?;
    result.map(exit_code)
}

/// The socket of `--spiffe-endpoint-socket`, absolute: a path, or `unix:///PATH` as SPIFFE writes it.
fn svid_source(arguments: &UpArguments) -> Result<Option<PathBuf>> {
    let Some(socket) = &arguments.spiffe_endpoint_socket else { return Ok(None) };
    let text = socket.to_string_lossy();
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
    let path = std::path::absolute(path.map_or(socket.as_path(), Path::new));
    path.map(Some).context("cannot use --spiffe-endpoint-socket")
}

/// The folder of `--ca`, absolute; what is wrong with it is found before anything is started.
fn usable_authority(folder: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(folder) = folder else { return Ok(None) };
    let folder = std::path::absolute(folder).context("cannot use --ca")?;
    let (provider, domain) =
        (heddle_tls::default_provider(), heddle_translate::Options::default().trust_domain);
    heddle_control::check_folder(&folder, &provider, &domain, SystemTime::now()).map_err(
        |error| {
            let hint = "the folder holds ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, as Istio's cacerts";
            hinted(anyhow::Error::new(error), hint)
        },
    )?;
    Ok(Some(folder))
}

/// A port that could not be opened is a failure, though the mesh goes on.
fn exit_code(published: bool) -> ExitCode {
    if published { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Applies the files and waits until everything is ready, saying how it goes. False: a port of this machine that leads
/// into the mesh could not be opened.
pub(crate) async fn bring_up(
    client: &Client,
    sources: &Sources,
    timeout: Duration,
) -> Result<bool> {
    client.wait_ready(CONTROL_TIMEOUT).await.map_err(told)?;
    let errors = if !sources.is_empty() {
        objects::apply_and_print(client, sources).await?
    } else if objects::is_empty(client).await? {
        out("an empty mesh runs; `heddle apply -f FILE` puts something into it\n")?;
        return Ok(true);
    } else {
        0
    };
    if errors > 0 {
        out(&format!(
            "{errors} errors: what they are about has its safe meaning, the rest goes on\n"
        ))?;
    }
    let begun = Instant::now();
    let mut shown = String::new();
    let mut hopeless_since = None;
    loop {
        // The control plane knows what shall run, the supervisor what does.
        let ready = objects::ready_within(client, POLL_PERIOD).await?;
        let status = client.status().await.map_err(told)?;
        let state = progress(&status);
        if state != shown && !status.workloads.is_empty() {
            out(&format!("{state}\n"))?;
            shown = state;
        }
        if ready {
            objects::wait_applied(client, timeout.saturating_sub(begun.elapsed())).await?;
            return print_published(&status);
        }
        if !is_hopeless(&status) {
            hopeless_since = None;
        } else if hopeless_since.get_or_insert_with(Instant::now).elapsed() > CORRECTION_TIMEOUT {
            return Err(not_ready(&status, "and will not become so"));
        }
        if begun.elapsed() > timeout {
            return Err(not_ready(&status, &format!("after {} s", timeout.as_secs())));
        }
    }
}

/// Whether all that is not ready has failed for good.
fn is_hopeless(status: &MeshStatus) -> bool {
    let mut missing = status.workloads.iter().filter(|workload| !workload.ready).peekable();
    missing.peek().is_some() && missing.all(|workload| workload.phase == Phase::Failed)
}

fn progress(status: &MeshStatus) -> String {
    let ready = status.workloads.iter().filter(|workload| workload.ready).count();
    let waiting: Vec<&str> = status
        .workloads
        .iter()
        .filter(|workload| !workload.ready)
        .map(|workload| workload.name.as_str())
        .take(4)
        .collect();
    match waiting.as_slice() {
        [] => format!("{ready} of {ready} workloads ready"),
        waiting => format!(
            "{ready} of {} workloads ready, waiting for {}",
            status.workloads.len(),
            waiting.join(", ")
        ),
    }
}

fn not_ready(status: &MeshStatus, how: &str) -> anyhow::Error {
    let waiting: Vec<String> = status
        .workloads
        .iter()
        .filter(|workload| !workload.ready)
        .map(|workload| format!("{}/{}: {}", workload.namespace, workload.name, why(workload)))
        .collect();
    hinted(
        anyhow::anyhow!("not ready {how}: {}", waiting.join("; ")),
        "`heddle logs WORKLOAD` shows what it wrote; --timeout waits longer; a corrected file can be applied with `heddle apply -f`",
    )
}

/// Why a workload is not ready, in a few words.
pub(crate) fn why(workload: &WorkloadStatus) -> String {
    if !workload.message.is_empty() {
        return workload.message.clone();
    }
    let mut parts = workload.containers.iter().filter(|container| !container.process.ready);
    match parts.find(|container| !container.process.message.is_empty()) {
        Some(container) => format!("{}: {}", container.name, container.process.message),
        None => format!("{:?}", workload.phase).to_lowercase(),
    }
}

fn print_published(status: &MeshStatus) -> Result<bool> {
    let mut open = true;
    for line in published(status) {
        match line {
            Ok(line) => out(&format!("{line}\n"))?,
            Err(line) => {
                crate::failure::print(&anyhow::anyhow!(line));
                open = false;
            }
        }
    }
    Ok(open)
}

/// A line for each port of this machine that leads into the mesh, or (the errors) should.
pub(crate) fn published(status: &MeshStatus) -> Vec<Result<String, String>> {
    let mut lines = Vec::new();
    for workload in &status.workloads {
        for port in &workload.published {
            let name = if port.service.is_empty() {
                format!("{}/{} port {}", workload.namespace, workload.name, port.workload_port)
            } else {
                format!("the Service {}, port {}", port.service, port.wanted_port)
            };
            let why = if port.wanted_port == 0 || port.wanted_port == port.host_port {
                ""
            } else if port.wanted_port < 1024 {
                " (ports below 1024 of this machine are root's)"
            } else {
                " (that port of this machine is another Service's)"
            };
            let line = match &port.error {
                None => {
                    let scheme = match port.wanted_port {
                        _ if port.udp => "udp",
                        wanted if wanted % 1000 == 443 => "https",
                        _ => "http",
                    };
                    let (host, number) = (port.host_address, port.host_port);
                    let host = SocketAddr::new(host, number);
                    Ok(format!("{scheme}://{host} leads to {name}{why}"))
                }
                Some(error) => Err(error.clone()),
            };
            // Replicas share the ports of their Service.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

pub(crate) fn down(mesh: &MeshArguments, arguments: &DownArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    if client.state().running().is_some() {
        runtime()?.block_on(client.stop(STOP_TIMEOUT)).map_err(told)?;
        out("stopped\n")?;
    } else if !arguments.purge {
        out("no mesh runs\n")?;
    }
    if arguments.purge {
        let directory = directory(mesh)?;
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.with_context(|| format!("cannot remove {}", directory.display()))?,
        }
        out("its state is removed\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
