//! A mesh under test.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heddle_proto::node::handler::Action;
use heddle_proto::node::{
    Container, DesiredState, DesiredWorkload, DnsSettings, Handler, NameRecord, NodeReport, Probe,
    TcpAction,
};
use heddle_standalone::status::{MeshStatus, Phase, WorkloadStatus};
use heddle_standalone::{Client, ClientError, ExecRequest, StateDirectory};
use prost::Message;

use crate::control::{desired_file, report_file};

/// Longer than anything takes, also on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// `nobody`.
const ORDINARY: u32 = 65534;

/// As whom a mesh runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Caller,
    Ordinary,
}

impl User {
    pub(crate) fn all() -> Vec<Self> {
        let root = rustix::process::geteuid().is_root();
        if root { vec![Self::Caller, Self::Ordinary] } else { vec![Self::Caller] }
    }

    pub(crate) fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments);
        if self == Self::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller if rustix::process::geteuid().is_root() => f.write_str("root"),
            Self::Caller => f.write_str("the caller"),
            Self::Ordinary => f.write_str("an ordinary user"),
        }
    }
}

/// Why no mesh can run on this host; none when one can.
pub(crate) fn forbidden() -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    let mut broker = User::Caller
        .command(&["broker", &state])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    broker.kill().unwrap();
    let code = broker.wait().unwrap().code();
    let mut text = String::new();
    broker.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (code == Some(3)).then_some(text)
}

/// A running mesh; killed when dropped.
pub(crate) struct Mesh {
    pub(crate) user: User,
    pub(crate) broker: Child,
    pub(crate) client: Client,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Mesh {
    pub(crate) fn start(user: User) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if user == User::Ordinary {
            std::os::unix::fs::chown(folder.path(), Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        Self::start_in(user, folder)
    }

    pub(crate) fn start_in(user: User, folder: tempfile::TempDir) -> Self {
        let root = folder.path().join("mesh");
        let state = StateDirectory::new(&root).unwrap();
        let broker = user
            .command(&["broker", root.to_str().unwrap()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mesh = Self { user, broker, client: Client::new(state), folder, runtime };
        mesh.block(async |client| client.wait_ready(LONG).await.unwrap());
        mesh
    }

    pub(crate) fn block<T>(&self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(work(&self.client))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("mesh")
    }

    /// Says what shall run.
    pub(crate) fn want(&self, workloads: Vec<DesiredWorkload>) {
        let names = workloads.iter().map(|workload| NameRecord {
            name: format!("{}.{}.svc.cluster.local", workload.name, workload.namespace),
            addresses: workload.addresses.clone(),
        });
        let state = DesiredState {
            version: "1".into(),
            names: names.collect(),
            virtual_addresses: Vec::new(),
            workloads,
            trust_domain: "cluster.local".into(),
            workload_ranges: vec!["10.244.0.0/16".into(), "fd00:244::/64".into()],
            service_ranges: vec!["10.96.0.0/12".into()],
        };
        let file = desired_file(&self.root());
        let new = file.with_extension("new");
        fs::write(&new, state.encode_to_vec()).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// Waits until the mesh is as it should be.
    pub(crate) fn until(&self, what: &'static str, is: impl Fn(&MeshStatus) -> bool) -> MeshStatus {
        self.block(async |client| match client.wait_until(LONG, what, is).await {
            Ok(status) => status,
            Err(error) => panic!("{error}: {:#?}", client.status().await),
        })
    }

    /// Waits until a workload is as it should be.
    pub(crate) fn until_workload(
        &self,
        name: &str,
        what: &'static str,
        is: impl Fn(&WorkloadStatus) -> bool,
    ) -> WorkloadStatus {
        let find = |status: &MeshStatus| {
            status.workloads.iter().find(|workload| workload.name == name).cloned()
        };
        find(&self.until(what, |status| find(status).is_some_and(|found| is(&found)))).unwrap()
    }

    pub(crate) fn until_ready(&self, name: &str) -> WorkloadStatus {
        self.until_workload(name, "the workload is not ready", |workload| {
            workload.ready && workload.phase == Phase::Running
        })
    }

    /// Runs a command inside a workload: its exit code and what it printed.
    pub(crate) fn exec(&self, workload: &str, command: &[&str]) -> (i32, String) {
        match self.try_exec(workload, command) {
            Ok(done) => done,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same where it may not be started.
    pub(crate) fn try_exec(
        &self,
        workload: &str,
        command: &[&str],
    ) -> Result<(i32, String), ClientError> {
        let (reader, writer) = std::io::pipe().unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let request = ExecRequest {
            workload: workload.to_owned(),
            container: None,
            command: command.iter().map(ToString::to_string).collect(),
            terminal: false,
            environment: Vec::new(),
        };
        let output = std::thread::spawn(move || {
            let mut reader = reader;
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let result = self.block(async |client| {
            let streams = [null.as_fd(), writer.as_fd(), writer.as_fd()];
            client.exec(&request, streams, std::future::pending()).await
        });
        drop(writer);
        let text = output.join().unwrap();
        Ok((result?, text))
    }

    /// Runs a command with a terminal of its own.
    pub(crate) fn exec_in_terminal(&self, workload: &str, command: &[&str]) -> (i32, String) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let far = fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap())
            .open(name.to_str().unwrap())
            .unwrap();
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&far, size).unwrap();
        let request = ExecRequest {
            workload: workload.to_owned(),
            container: None,
            command: command.iter().map(ToString::to_string).collect(),
            terminal: true,
            environment: vec![("TERM".into(), "xterm-test".into())],
        };
        let code = self.block(async |client| {
            let streams = [far.as_fd(), far.as_fd(), far.as_fd()];
            client.exec(&request, streams, std::future::pending()).await.unwrap()
        });
        drop(far);
        let mut text = Vec::new();
        // Reading a pseudo-terminal whose far end is closed fails at its end.
        let _ = fs::File::from(near).read_to_end(&mut text);
        (code, String::from_utf8(text).unwrap())
    }

    /// Kills what is left of the mesh and starts it again in the same directory.
    pub(crate) fn restart(mut self) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let user = self.user;
        drop(self);
        Self::start_in(user, folder)
    }

    /// Waits for the broker's end: its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        // Waiting would close standard input, which is a wish to stop.
        let _input = self.broker.stdin.take();
        self.broker.wait().unwrap().code()
    }

    /// The supervisor's process on the host: the child of the init, which is the broker's child.
    pub(crate) fn supervisor_pid(&self) -> u32 {
        children_of(children_of(self.broker.id())[0])[0]
    }

    /// The last report to the control plane.
    pub(crate) fn report(&self) -> NodeReport {
        let bytes = fs::read(report_file(&self.root())).unwrap_or_default();
        NodeReport::decode(bytes.as_slice()).unwrap()
    }

    /// The log of a workload's container.
    pub(crate) fn log(&self, request: &heddle_standalone::LogRequest) -> String {
        let mut text = Vec::new();
        self.block(async |client| {
            let take = |bytes: &[u8]| {
                text.extend_from_slice(bytes);
                Ok(())
            };
            client.logs(request, take).await.unwrap();
        });
        String::from_utf8(text).unwrap()
    }

    /// The mesh's user namespace, as `/proc` names it.
    pub(crate) fn user_namespace(&self) -> String {
        children_of(self.broker.id()).iter().find_map(|pid| user_namespace(*pid)).unwrap()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
        // The folder can be removed only when nothing writes there any more.
        let lock = self.client.state().clone();
        wait("the mesh is still there", || lock.running().is_none());
    }
}

/// Waits until a condition holds.
pub(crate) fn wait(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn user_namespace(pid: u32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/user")).ok()?.display().to_string())
}

/// Ids of all processes in a user namespace.
pub(crate) fn processes_in(namespace: &str) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| user_namespace(*pid).as_deref() == Some(namespace))
        .collect()
}

/// A workload without a proxy that runs one command.
pub(crate) fn workload(name: &str, address: u8, command: &[&str]) -> DesiredWorkload {
    DesiredWorkload {
        id: format!("standalone/Pod/default/{name}"),
        namespace: "default".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        addresses: vec![format!("10.244.0.{address}"), format!("fd00:244::{address:x}")],
        termination_grace_ms: 5000,
        hostname: name.into(),
        containers: vec![container("app", command)],
        dns: Some(DnsSettings {
            search: ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
                .map(String::from)
                .to_vec(),
            ndots: 5,
            host_aliases: Vec::new(),
        }),
        ..DesiredWorkload::default()
    }
}

/// The same, ready when its port answers.
pub(crate) fn server(name: &str, address: u8, port: u16, text: &str) -> DesiredWorkload {
    let port_text = port.to_string();
    let mut server = workload(name, address, &["heddle", "serve", &port_text, text]);
    server.containers[0].readiness_probe =
        Some(probe(Action::Tcp(TcpAction { port: port.into(), ..TcpAction::default() })));
    server
}

pub(crate) fn probe(action: Action) -> Probe {
    Probe {
        handler: Some(Handler { action: Some(action) }),
        period_ms: 100,
        timeout_ms: 5000,
        success_threshold: 1,
        failure_threshold: 3,
        ..Probe::default()
    }
}

pub(crate) fn container(name: &str, command: &[&str]) -> Container {
    Container {
        name: name.into(),
        command: command.iter().map(ToString::to_string).collect(),
        ..Container::default()
    }
}
