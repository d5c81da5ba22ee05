//! What a mesh on this machine is started with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the processes of a mesh are told at their start. Libraries read no environment: what they
/// need of it stands here.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory, absolute.
    pub state: PathBuf,
    /// The node's name towards the control plane.
    pub node: String,
    /// Arguments with which this program becomes the control plane of the mesh.
    pub control_arguments: Vec<String>,
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
