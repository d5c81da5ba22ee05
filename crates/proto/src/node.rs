//! `heddle.node.v1`: what a node's supervisor shall run, and what became of it.
//!
//! The service `heddle.node.v1.Node` has two calls. `Watch` sends the whole desired state at once and again after
//! every change (states are small, and a full state cannot get out of step). `Report` tells phases and readiness.
//!
//! Everything is resolved by the control plane: commands with their arguments, environment values, port names,
//! contents of mounted files. A supervisor reads no Kubernetes object. Durations are milliseconds.

use std::collections::BTreeMap;

/// The path of `Watch`.
pub const WATCH_PATH: &str = "/heddle.node.v1.Node/Watch";
/// The path of `Report`.
pub const REPORT_PATH: &str = "/heddle.node.v1.Node/Report";
/// The full name of the service.
pub const SERVICE_NAME: &str = "heddle.node.v1.Node";

/// Opens a watch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WatchRequest {
    /// Name of the node; `local` where there is one only.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Drawn at random when the supervisor starts. Another one than before: everything that ran is gone.
    #[prost(string, tag = "2")]
    pub instance: String,
}

/// Everything that shall run on the node. What is not in it shall stop.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DesiredState {
    /// Equal versions mean equal states.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The workloads, by id.
    #[prost(message, repeated, tag = "2")]
    pub workloads: Vec<DesiredWorkload>,
    /// The mesh's trust domain.
    #[prost(string, tag = "3")]
    pub trust_domain: String,
    /// Ranges that workload addresses are taken from (`10.1.0.0/16`, `fd00::/64`).
    #[prost(string, repeated, tag = "4")]
    pub workload_ranges: Vec<String>,
    /// Ranges that virtual addresses of services are taken from.
    #[prost(string, repeated, tag = "5")]
    pub service_ranges: Vec<String>,
    /// What workloads without a proxy get as answers of DNS: virtual addresses that the kernel knows
    /// ([`DesiredState::virtual_addresses`]), and ready endpoints where a service has none.
    #[prost(message, repeated, tag = "6")]
    pub names: Vec<NameRecord>,
    /// What connections of workloads without a proxy to virtual addresses get.
    #[prost(message, repeated, tag = "7")]
    pub virtual_addresses: Vec<VirtualAddress>,
}

/// A port of a service, for workloads without a proxy; one of UDP is for all.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VirtualAddress {
    /// `10.96.0.10:80`, `[fd00::a]:80`.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Ready endpoints of the same family, in the same form.
    #[prost(string, repeated, tag = "2")]
    pub endpoints: Vec<String>,
    /// UDP; else TCP.
    #[prost(bool, tag = "3")]
    pub udp: bool,
}

impl DesiredState {
    /// The same with a version that follows from everything else in it.
    #[must_use]
    pub fn with_version(mut self) -> Self {
        self.version.clear();
        self.version = crate::resource::version(&prost::Message::encode_to_vec(&self));
        self
    }
}

/// The addresses of a name, for workloads without a proxy.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NameRecord {
    /// Fully qualified, lower case, without the final dot (`reviews.default.svc.cluster.local`).
    #[prost(string, tag = "1")]
    pub name: String,
    /// Addresses as text; empty: the name exists and has none at the moment.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
}

/// One replica. Under the same `id` and `uid` only `labels` and `published_ports` ever change; another `uid`
/// is another replica, and the old one is stopped before the new one starts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DesiredWorkload {
    /// `standalone/Pod/<namespace>/<name>`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Name of the replica.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Unique among all replicas ever.
    #[prost(string, tag = "4")]
    pub uid: String,
    /// Name of the service account.
    #[prost(string, tag = "5")]
    pub service_account: String,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "6")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    /// Kind of the controlling object (`Deployment`); empty: none.
    #[prost(string, tag = "8")]
    pub owner_kind: String,
    /// Name of the controlling object; empty: none.
    #[prost(string, tag = "9")]
    pub owner_name: String,
    /// Its addresses, as text; one IPv4, one IPv6, or both.
    #[prost(string, repeated, tag = "10")]
    pub addresses: Vec<String>,
    /// Whether it gets a proxy.
    #[prost(bool, tag = "11")]
    pub meshed: bool,
    /// What happens when a container ends.
    #[prost(enumeration = "RestartPolicy", tag = "12")]
    pub restart_policy: i32,
    /// From SIGTERM to SIGKILL, `preStop` included.
    #[prost(uint64, tag = "13")]
    pub termination_grace_ms: u64,
    /// Run in order, each to its end, before the containers (but for [`Container::restart_always`]).
    #[prost(message, repeated, tag = "14")]
    pub init_containers: Vec<Container>,
    /// Run together.
    #[prost(message, repeated, tag = "15")]
    pub containers: Vec<Container>,
    /// Name resolution.
    #[prost(message, optional, tag = "16")]
    pub dns: Option<DnsSettings>,
    /// What is intercepted.
    #[prost(message, optional, tag = "17")]
    pub traffic: Option<TrafficSettings>,
    /// Ports opened on the host.
    #[prost(message, repeated, tag = "18")]
    pub published_ports: Vec<PublishedPort>,
    /// Host name inside.
    #[prost(string, tag = "19")]
    pub hostname: String,
    /// It is a gateway: a proxy alone, whose listeners take the connections from the network themselves.
    #[prost(bool, tag = "20")]
    pub gateway: bool,
}

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RestartPolicy {
    /// Started again, with back-off.
    Always = 0,
    /// Started again when it failed.
    OnFailure = 1,
    /// Left as it is.
    Never = 2,
}

/// A process with its surroundings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    /// Unique within its workload.
    #[prost(string, tag = "1")]
    pub name: String,
    /// For display; nothing is ever pulled.
    #[prost(string, tag = "2")]
    pub image: String,
    /// Program and arguments, references to variables resolved. Empty: the object names none, and the
    /// container fails with a message that says so.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Directory to start in; empty: [`Container::folder`].
    #[prost(string, tag = "4")]
    pub working_dir: String,
    /// The whole environment but for what the supervisor adds (`PATH`, `HOME`, `HOSTNAME` where absent).
    #[prost(message, repeated, tag = "5")]
    pub env: Vec<EnvironmentVariable>,
    /// Declared ports.
    #[prost(message, repeated, tag = "6")]
    pub ports: Vec<ContainerPort>,
    /// Until it succeeds, the other probes wait.
    #[prost(message, optional, tag = "7")]
    pub startup_probe: Option<Probe>,
    /// Says whether requests may come.
    #[prost(message, optional, tag = "8")]
    pub readiness_probe: Option<Probe>,
    /// Says whether the container must be started again.
    #[prost(message, optional, tag = "9")]
    pub liveness_probe: Option<Probe>,
    /// Files from ConfigMap, Secret and downward volumes.
    #[prost(message, repeated, tag = "10")]
    pub files: Vec<MountedFile>,
    /// Directories from `emptyDir` and `hostPath` volumes.
    #[prost(message, repeated, tag = "11")]
    pub directories: Vec<MountedDirectory>,
    /// Run before SIGTERM.
    #[prost(message, optional, tag = "12")]
    pub pre_stop: Option<Handler>,
    /// Run after start; a failure ends the container.
    #[prost(message, optional, tag = "13")]
    pub post_start: Option<Handler>,
    /// Of an init container: goes on running beside the containers.
    #[prost(bool, tag = "14")]
    pub restart_always: bool,
    /// Directory to start in where `working_dir` is empty: the folder of the object's file. Where it is not there
    /// any more, or none: `/`.
    #[prost(string, tag = "15")]
    pub folder: String,
    /// The user that it sees itself as; 0: the one that the mesh's processes see. To the host it is who started the mesh.
    #[prost(uint32, tag = "16")]
    pub run_as_user: u32,
    /// The same for the group.
    #[prost(uint32, tag = "17")]
    pub run_as_group: u32,
}

/// A variable of the environment.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EnvironmentVariable {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A declared port.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPort {
    /// Its name; may be empty.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// TCP or UDP.
    #[prost(enumeration = "TransportProtocol", tag = "3")]
    pub protocol: i32,
    /// `hostPort`; 0: none. Also among the published ports.
    #[prost(uint32, tag = "4")]
    pub host_port: u32,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TransportProtocol {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
}

/// A check that is repeated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probe {
    /// What is done.
    #[prost(message, optional, tag = "1")]
    pub handler: Option<Handler>,
    /// From start to the first try.
    #[prost(uint64, tag = "2")]
    pub initial_delay_ms: u64,
    /// Between tries; never 0.
    #[prost(uint64, tag = "3")]
    pub period_ms: u64,
    /// For one try; never 0.
    #[prost(uint64, tag = "4")]
    pub timeout_ms: u64,
    /// Successes in a row that count as success; at least 1.
    #[prost(uint32, tag = "5")]
    pub success_threshold: u32,
    /// Failures in a row that count as failure; at least 1.
    #[prost(uint32, tag = "6")]
    pub failure_threshold: u32,
}

/// An action of a probe or a lifecycle hook.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Handler {
    /// Which; none: unknown to the reader, which fails the action.
    #[prost(oneof = "handler::Action", tags = "1, 2, 3, 4, 5")]
    pub action: Option<handler::Action>,
}

/// The actions of a [`Handler`].
pub mod handler {
    /// What is done.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Action {
        /// A status of 200 to 399 is success.
        #[prost(message, tag = "1")]
        Http(super::HttpAction),
        /// An accepted connection is success.
        #[prost(message, tag = "2")]
        Tcp(super::TcpAction),
        /// Exit code 0 is success.
        #[prost(message, tag = "3")]
        Exec(super::ExecAction),
        /// `SERVING` is success (grpc.health.v1).
        #[prost(message, tag = "4")]
        Grpc(super::GrpcAction),
        /// Wait this many milliseconds (lifecycle hooks only).
        #[prost(uint64, tag = "5")]
        SleepMs(u64),
    }
}

/// An HTTP GET.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HttpAction {
    /// Host to connect to; empty: the workload itself.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// Path with query; begins with `/`.
    #[prost(string, tag = "3")]
    pub path: String,
    /// TLS without verification.
    #[prost(bool, tag = "4")]
    pub https: bool,
    /// Headers to send.
    #[prost(message, repeated, tag = "5")]
    pub headers: Vec<HttpHeader>,
}

/// A header.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HttpHeader {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A TCP connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TcpAction {
    /// Host to connect to; empty: the workload itself.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// A command inside the container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExecAction {
    /// Program and arguments; no shell.
    #[prost(string, repeated, tag = "1")]
    pub command: Vec<String>,
}

/// A gRPC health check.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GrpcAction {
    /// The port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// The service asked for; may be empty.
    #[prost(string, tag = "2")]
    pub service: String,
}

/// A file inside a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MountedFile {
    /// Absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What it holds.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
}

/// A directory inside a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MountedDirectory {
    /// Absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Name of the volume: containers of a workload that name the same one share it.
    #[prost(string, tag = "2")]
    pub volume: String,
    /// `hostPath`; empty: a directory of its own that is empty at first and ends with the workload.
    #[prost(string, tag = "3")]
    pub host_path: String,
    /// Mounted for reading only.
    #[prost(bool, tag = "4")]
    pub read_only: bool,
}

/// Name resolution inside a workload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DnsSettings {
    /// Search list, in order.
    #[prost(string, repeated, tag = "1")]
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the search list first.
    #[prost(uint32, tag = "2")]
    pub ndots: u32,
    /// Lines for `/etc/hosts`.
    #[prost(message, repeated, tag = "3")]
    pub host_aliases: Vec<HostAlias>,
}

/// A line of `/etc/hosts`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HostAlias {
    /// The address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Its names.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
}

/// What is intercepted: the `traffic.sidecar.istio.io/*` annotations, resolved.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TrafficSettings {
    /// Inbound ports; empty: all.
    #[prost(uint32, repeated, tag = "1")]
    pub include_inbound_ports: Vec<u32>,
    /// Inbound ports that go past the proxy.
    #[prost(uint32, repeated, tag = "2")]
    pub exclude_inbound_ports: Vec<u32>,
    /// Outbound ports that are intercepted whatever their address.
    #[prost(uint32, repeated, tag = "3")]
    pub include_outbound_ports: Vec<u32>,
    /// Outbound ports that go past the proxy.
    #[prost(uint32, repeated, tag = "4")]
    pub exclude_outbound_ports: Vec<u32>,
    /// Outbound ranges; empty: all.
    #[prost(string, repeated, tag = "5")]
    pub include_outbound_ranges: Vec<String>,
    /// Outbound ranges that go past the proxy.
    #[prost(string, repeated, tag = "6")]
    pub exclude_outbound_ranges: Vec<String>,
}

/// A port of the host that leads to a workload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishedPort {
    /// Address of the host to listen on; empty: `127.0.0.1`.
    #[prost(string, tag = "1")]
    pub host_address: String,
    /// Port of the host; 0: any free one.
    #[prost(uint32, tag = "2")]
    pub host_port: u32,
    /// The workload's port.
    #[prost(uint32, tag = "3")]
    pub workload_port: u32,
    /// TCP or UDP.
    #[prost(enumeration = "TransportProtocol", tag = "4")]
    pub protocol: i32,
    /// The Service whose port it is (`namespace/name`): its workloads share it, and where the host does not let an
    /// ordinary user have it, another port takes its place. Empty: the port of a container.
    #[prost(string, tag = "5")]
    pub service: String,
}

/// What became of workloads.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeReport {
    /// Name of the node.
    #[prost(string, tag = "1")]
    pub node: String,
    /// [`WatchRequest::instance`].
    #[prost(string, tag = "2")]
    pub instance: String,
    /// All that runs is listed: what is not in it does not run. The first report after a connect is complete.
    #[prost(bool, tag = "3")]
    pub complete: bool,
    /// The workloads whose state changed, or all.
    #[prost(message, repeated, tag = "4")]
    pub workloads: Vec<WorkloadReport>,
}

/// What became of one workload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkloadReport {
    /// [`DesiredWorkload::id`].
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`DesiredWorkload::uid`].
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Where in its life it is.
    #[prost(enumeration = "Phase", tag = "3")]
    pub phase: i32,
    /// Every container is ready, and the proxy too where there is one.
    #[prost(bool, tag = "4")]
    pub ready: bool,
    /// Restarts of all containers.
    #[prost(uint32, tag = "5")]
    pub restarts: u32,
    /// Of the container that ended last; none: none has ended. Death by a signal is 128 + its number.
    #[prost(int32, optional, tag = "6")]
    pub exit_code: Option<i32>,
    /// One sentence for the operator; may be empty.
    #[prost(string, tag = "7")]
    pub message: String,
    /// When it was started, milliseconds since 1970 UTC; 0: not yet.
    #[prost(uint64, tag = "8")]
    pub started_at_ms: u64,
    /// Each container.
    #[prost(message, repeated, tag = "9")]
    pub containers: Vec<ContainerReport>,
    /// Published ports with the port of the host filled in.
    #[prost(message, repeated, tag = "10")]
    pub published_ports: Vec<PublishedPort>,
}

/// What became of one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerReport {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where in its life it is.
    #[prost(enumeration = "Phase", tag = "2")]
    pub phase: i32,
    /// Its readiness probe holds.
    #[prost(bool, tag = "3")]
    pub ready: bool,
    /// Restarts.
    #[prost(uint32, tag = "4")]
    pub restarts: u32,
    /// Of its last end; none: it has not ended.
    #[prost(int32, optional, tag = "5")]
    pub exit_code: Option<i32>,
    /// One sentence; may be empty.
    #[prost(string, tag = "6")]
    pub message: String,
}

/// Where in its life a workload or container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Phase {
    /// Not started yet.
    Pending = 0,
    /// Runs.
    Running = 1,
    /// All containers ended well and are not started again.
    Succeeded = 2,
    /// A container failed and is not started again.
    Failed = 3,
    /// A container failed and is started again after a pause.
    BackOff = 4,
    /// Is being stopped.
    Stopping = 5,
    /// Is gone; the last report of a `uid`.
    Stopped = 6,
}

/// The answer to a report.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReportResponse {}
