//! What a mesh on this machine is started with.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_proto::node;

/// Everything that the processes of a mesh are told at their start. Libraries read no environment: what they
/// need of it stands here.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory, absolute.
    pub state: PathBuf,
    /// The node's name towards the control plane.
    pub node: String,
    /// Arguments with which this program becomes the control plane of the mesh; none: the control plane is somewhere else,
    /// and an agent listens on its socket.
    pub control_arguments: Vec<String>,
    /// The port at which machines outside join, listening already; the control plane gets it with `--machines-fd N`.
    pub machines: Option<Arc<TcpListener>>,
    /// What alone runs here, whatever the control plane says; none: everything it says.
    pub local: Option<LocalWorkload>,
    /// Arguments with which this program becomes a proxy; `--control-fd N --workload ID` follow them.
    pub proxy_arguments: Vec<String>,
    /// Variables of the control plane and of proxies (log levels).
    pub own_environment: Vec<(String, String)>,
    /// Where on the host ports are published that name no address.
    pub publish_address: IpAddr,
    /// `PATH` of workloads that name none.
    pub path: String,
    /// `HOME` of workloads that name none.
    pub home: String,
    /// The longest that a stop of the whole mesh waits for applications that ignore SIGTERM, whatever grace they
    /// ask for: somebody waits for it.
    pub stop_max: Duration,
}

/// The workload of a machine that has joined a mesh. Its owner says what it runs and what of it is open; the control plane
/// can change neither.
#[derive(Clone, Debug)]
pub struct LocalWorkload {
    /// Its id in the mesh.
    pub id: String,
    /// The address at which the mesh reaches it.
    pub address: IpAddr,
    /// The application.
    pub application: Application,
    /// Ports of the machine that may lead to it; none: those that the mesh reaches it at.
    pub ports: Option<Vec<u16>>,
}

/// A command as its owner gave it.
#[derive(Clone, Debug)]
pub struct Application {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables, by name.
    pub environment: Vec<(String, String)>,
    /// Where it starts.
    pub folder: PathBuf,
}

impl Application {
    /// The same as a container of a workload.
    pub(crate) fn container(&self) -> node::Container {
        let variable = |(name, value): &(String, String)| node::EnvironmentVariable {
            name: name.clone(),
            value: value.clone(),
        };
        node::Container {
            name: "application".to_owned(),
            command: self.command.clone(),
            env: self.environment.iter().map(variable).collect(),
            folder: self.folder.display().to_string(),
            ..node::Container::default()
        }
    }
}

impl Options {
    /// A mesh in a state directory, with this program's own arguments for its parts.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        let state = state.into();
        let control_arguments = ["internal", "control", "--state"]
            .map(String::from)
            .into_iter()
            .chain([state.display().to_string()]);
        Self {
            control_arguments: control_arguments.collect(),
            state,
            machines: None,
            local: None,
            node: "local".to_owned(),
            proxy_arguments: vec!["proxy".to_owned()],
            own_environment: Vec::new(),
            publish_address: Ipv4Addr::LOCALHOST.into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            home: "/".to_owned(),
            stop_max: Duration::from_secs(10),
        }
    }
}
