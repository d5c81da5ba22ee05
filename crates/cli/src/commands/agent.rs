//! `agent`: an application on this machine as part of a mesh elsewhere.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use heddle_standalone::agent::{Agent, AgentError, AgentOptions, MachineObject};
use heddle_standalone::{Application, Ended, LocalWorkload, Options, StateDirectory};
use heddle_tls::{JoinTrust, default_provider, root_from_pem};
use tokio::net::UnixListener;

use super::internal::{AUDIT_VARIABLE, LOG_VARIABLE, start_log};
use super::print::out;
use super::signals::stop_signal;
use super::state::{directory, runtime};
use super::up::start_with;
use crate::arguments::{AgentArguments, CONTROL_PORT, MeshArguments};
use crate::failure::hinted;

/// Set in the process that only joins.
const JOIN_VARIABLE: &str = "HEDDLE_INTERNAL_JOIN";
/// The machine's key and certificate, in its state directory.
const IDENTITY_FILE: &str = "machine.json";

pub(crate) fn run(mesh: &MeshArguments, arguments: &AgentArguments) -> Result<ExitCode> {
    let directory = directory(mesh)?;
    let state = StateDirectory::new(&directory).context("cannot use the state directory")?;
    if let Some(pid) = state.running() {
        let error =
            anyhow::anyhow!("something runs in {} already (process {pid})", directory.display());
        return Err(hinted(error, "give this machine's part another name with --mesh"));
    }
    let application = application(arguments)?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make the folder {}", directory.display()))?;
    let options = agent_options(arguments, &directory)?;
    let provider = default_provider();
    if std::env::var_os(JOIN_VARIABLE).is_some() {
        let joined = runtime()?.block_on(Agent::join(&options, provider));
        return joined.map_err(told).map(|()| ExitCode::SUCCESS);
    }
    let agent = if let Some(agent) = Agent::known(&options, &provider).map_err(told)? {
        agent
    } else {
        let ended = join_apart(options.token.as_deref())?;
        if !ended.success() {
            // It has said why.
            return Ok(ExitCode::FAILURE);
        }
        let known = Agent::known(&options, &provider).map_err(told)?;
        known.context("this machine has joined and its identity cannot be read again")?
    };
    let local = LocalWorkload {
        id: agent.workload().to_string(),
        address: agent.address(),
        application,
        ports: (!arguments.ports.is_empty()).then(|| arguments.ports.clone()),
    };
    let started = start_with(machine_options(&directory, local))?.with_agent(agent.clone());
    let _log = start_log()?;
    runtime()?.block_on(async {
        let socket = state.stream_socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", socket.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = heddle_net::socket::listen_unix(&socket).and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let listener =
            listener.with_context(|| format!("cannot listen on {}", socket.display()))?;
        let (identity, workload) = (agent.identity(), agent.workload().clone());
        out(&format!(
            "this machine is {workload} of the mesh, as {identity}, at {}\nthe application's output is in {}; Ctrl-C stops it\n",
            agent.address(),
            state.logs().display(),
        ))?;
        let keeping = tokio::spawn(agent.run(listener));
        let ended = started.run(stop_signal()?).await;
        keeping.abort();
        match ended? {
            Ended::Stopped => Ok(ExitCode::SUCCESS),
            Ended::Failed(status) => bail!("the supervisor ended: {status:?}"),
        }
    })
}

/// Joins in a process of its own, of the same command line. In this one no event loop may have been made before it is split:
/// both halves would read each other's signals from the one socket that the library keeps for them.
fn join_apart(token: Option<&str>) -> Result<ExitStatus> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(JOIN_VARIABLE, "1").stdin(Stdio::piped());
    let mut process = command.spawn().context("cannot start the process that joins")?;
    if let (Some(mut input), Some(token)) = (process.stdin.take(), token) {
        // Where the token is a file it is read from there, and this goes nowhere.
        let _ = writeln!(input, "{token}");
    }
    process.wait().context("cannot wait for the process that joins")
}

fn told(error: AgentError) -> anyhow::Error {
    let hint = error.hint();
    let error = anyhow::Error::new(error).context("this machine is not part of the mesh");
    match hint {
        Some(hint) => hinted(error, hint),
        None => error,
    }
}

fn agent_options(arguments: &AgentArguments, directory: &Path) -> Result<AgentOptions> {
    let (namespace, account) = arguments
        .account
        .split_once('/')
        .with_context(|| format!("{:?} is not NAMESPACE/SERVICE-ACCOUNT", arguments.account))?;
    let trust = match (&arguments.ca_file, &arguments.ca_sha256) {
        (Some(file), _) => {
            let pem = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let roots = root_from_pem(&default_provider(), &pem)
                .with_context(|| format!("{} holds no root", file.display()))?;
            Some(JoinTrust::Roots(roots))
        }
        (None, Some(hash)) => {
            let trust = JoinTrust::hash(hash);
            Some(trust.context("--ca-sha256 is not a SHA-256: 64 hexadecimal digits")?)
        }
        (None, None) => None,
    };
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    let object = match (&arguments.workload_group, &arguments.workload_entry) {
        (Some(group), _) => MachineObject::Group(group.clone()),
        (None, entry) => MachineObject::Entry(entry.clone().unwrap_or_default()),
    };
    Ok(AgentOptions {
        control_plane: with_port(&arguments.control_plane),
        account: (namespace.to_owned(), account.to_owned()),
        object,
        address: arguments.address,
        trust,
        token,
        identity_file: directory.join(IDENTITY_FILE),
    })
}

fn read_token(file: &Path) -> Result<String> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    Ok(text.trim().to_owned())
}

/// The control plane's host with its port: an address of IPv6 has colons too, and brackets where a port follows.
fn with_port(text: &str) -> String {
    let is_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    if is_v6 {
        format!("[{text}]:{CONTROL_PORT}")
    } else if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        text.to_owned()
    } else {
        format!("{text}:{CONTROL_PORT}")
    }
}

fn application(arguments: &AgentArguments) -> Result<Application> {
    let folder = std::env::current_dir().context("cannot find this directory")?;
    let environment = arguments.env.iter().map(|text| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("{text:?} is not NAME=VALUE"),
    });
    let environment = environment.collect::<Result<_>>()?;
    Ok(Application { command: arguments.command.clone(), environment, folder })
}

fn machine_options(directory: &Path, local: LocalWorkload) -> Options {
    let mut options = Options::new(directory);
    options.publish_address = local.address;
    options.control_arguments = Vec::new();
    options.proxy_arguments = vec!["proxy".to_owned(), "--outside".to_owned()];
    options.local = Some(local);
    for name in [LOG_VARIABLE, AUDIT_VARIABLE] {
        if let Ok(value) = std::env::var(name) {
            options.own_environment.push((name.to_owned(), value));
        }
    }
    if let Ok(path) = std::env::var("PATH") {
        options.path = path;
    }
    if let Ok(home) = std::env::var("HOME") {
        options.home = home;
    }
    options
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn the_port_of_the_control_plane_may_be_left_out() {
        for (given, whole) in [
            ("mesh.example", "mesh.example:15012"),
            ("mesh.example:1", "mesh.example:1"),
            ("192.0.2.1", "192.0.2.1:15012"),
            ("fd00::1", "[fd00::1]:15012"),
            ("[fd00::1]:7", "[fd00::1]:7"),
        ] {
            assert_eq!(with_port(given), whole);
        }
    }
}
