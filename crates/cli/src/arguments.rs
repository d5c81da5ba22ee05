//! The command line's words. Names are a contract (DESIGN section 9); this file is only their definition.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod agent;
mod certs;

pub(crate) use agent::{AgentArguments, CONTROL_PORT};
pub(crate) use certs::{
    CertsArguments, CertsCommand, FederateArguments, RevokeArguments, TokenArguments, TokenCommand,
};

/// A service mesh in one program: control plane, proxy, command line.
///
/// Takes the YAML that Istio users already have, means what it says, and runs on a laptop without a cluster and
/// without root.
#[derive(Parser)]
#[command(name = "heddle", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Start with `heddle demo`. Every command takes -h for a summary and --help for all of it."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) mesh: MeshArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which mesh a command speaks to.
#[derive(Args, Clone)]
pub(crate) struct MeshArguments {
    /// Name of the mesh on this machine; several may run side by side
    #[arg(
        long,
        global = true,
        default_value = "default",
        env = "HEDDLE_MESH",
        value_name = "NAME"
    )]
    pub(crate) mesh: String,
    /// Folder that holds the state of all meshes [default: $XDG_STATE_HOME/heddle or ~/.local/state/heddle]
    #[arg(long, global = true, env = "HEDDLE_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// See a mesh work: the sample application with live traffic
    Demo(DemoArguments),
    /// Run an application from its YAML in a mesh on this machine
    Up(UpArguments),
    /// Stop a mesh and everything in it
    Down(DownArguments),
    /// Run an application on this machine as part of a mesh elsewhere
    #[command(visible_alias = "join")]
    Agent(AgentArguments),
    /// Run a command inside a workload
    Exec(ExecArguments),
    /// Print what a workload wrote
    Logs(LogsArguments),
    /// Create or change objects
    Apply(ApplyArguments),
    /// Delete objects
    Delete(DeleteArguments),
    /// Show objects
    Get(GetArguments),
    /// Wait until a condition holds
    Wait(WaitArguments),
    /// What was changed, when and by whom
    History(HistoryArguments),
    /// Go back to an earlier revision of all objects
    Rollback(RollbackArguments),
    /// Health of the mesh and of everything in it
    Status(OutputArguments),
    /// Check files and say what would happen to every field
    Analyze(AnalyzeArguments),
    /// Show the roots and how many certificates were issued; rotate the root
    Certs(CertsArguments),
    /// Say what happens to a request and why, or what a finding's code means
    Explain(ExplainArguments),
    /// The sample services and their load generator
    #[command(subcommand)]
    Sample(SampleCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(hide = true)]
    Man,
    /// Print what a workload's proxy counts, in Prometheus' text format
    Metrics {
        /// The workload: [NAMESPACE/]NAME of a replica or of its Deployment
        workload: String,
    },
    /// A proxy; started by the mesh
    #[command(hide = true)]
    Proxy(ProxyArguments),
    /// Parts of a mesh; started by `heddle up`
    #[command(subcommand, hide = true)]
    Internal(InternalCommand),
}

#[derive(Args)]
pub(crate) struct ProxyArguments {
    /// Whose proxy
    #[arg(long)]
    pub(crate) workload: String,
    /// Number of the inherited descriptor on which the supervisor is asked
    #[arg(long)]
    pub(crate) control_fd: i32,
    /// Number of the inherited descriptor of the file that learned names are kept in
    #[arg(long)]
    pub(crate) names_fd: Option<i32>,
    /// Number of the inherited listening socket on which the application finds the SPIFFE Workload API
    #[arg(long)]
    pub(crate) workload_api_fd: Option<i32>,
    /// Take the identity from the SPIFFE Workload API of this socket (a path, or unix:///PATH)
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "SOCKET")]
    pub(crate) spiffe_endpoint_socket: Option<String>,
    /// The machine is outside of the mesh's network: workloads too are reached through the supervisor
    #[arg(long)]
    pub(crate) outside: bool,
}

#[derive(Subcommand)]
pub(crate) enum InternalCommand {
    /// The control plane of a mesh on this machine
    Control(ControlArguments),
    /// The first process of a detached mesh
    Mesh(MeshProcessArguments),
    /// Writes the reference pages of this program below a folder, for `cargo xtask gen`
    Reference(ReferenceArguments),
    /// A proxy alone, from files that `internal static` wrote
    StaticProxy(StaticProxyArguments),
    /// Writes the configuration that a workload's proxy would get, for `internal static-proxy`
    Static(StaticArguments),
}

#[derive(Args)]
pub(crate) struct ControlArguments {
    /// The mesh's state directory
    #[arg(long = "state-directory", alias = "directory")]
    pub(crate) directory: PathBuf,
    /// How long certificates of workloads live
    #[arg(long)]
    pub(crate) certificate_lifetime_ms: u64,
    /// A folder with the authority to sign with
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// Number of the inherited listening socket at which machines join
    #[arg(long)]
    pub(crate) machines_fd: Option<i32>,
}

#[derive(Args)]
pub(crate) struct MeshProcessArguments {
    /// The mesh's state directory
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// How long certificates of workloads live
    #[arg(long)]
    pub(crate) certificate_lifetime_ms: u64,
    /// A folder with the authority to sign with
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// Where ports are published that name no address
    #[arg(long)]
    pub(crate) publish_address: std::net::IpAddr,
    /// Where machines join
    #[arg(long)]
    pub(crate) join_listen: Option<std::net::SocketAddr>,
    /// Where proxies get their identities
    #[arg(long)]
    pub(crate) spiffe_endpoint_socket: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ReferenceArguments {
    /// The folder
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct StaticArguments {
    /// Files of YAML with Pods that have addresses
    #[arg(short, long = "file", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// NAMESPACE/POD
    #[arg(long)]
    pub(crate) workload: String,
    /// Folder to write to; the authority in it is made once
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct StaticProxyArguments {
    /// The folder of the workload
    #[arg(long = "static")]
    pub(crate) folder: PathBuf,
    /// LISTEN=DESTINATION: connections that count as made to DESTINATION
    #[arg(long)]
    pub(crate) inbound: Option<String>,
    /// LISTEN=DESTINATION: connections that count as made to DESTINATION
    #[arg(long)]
    pub(crate) outbound: Option<String>,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// Objects with their status
    Yaml,
}

#[derive(Args)]
pub(crate) struct OutputArguments {
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct DemoArguments {
    /// Drive every scene, print one line each, and exit
    #[arg(long)]
    pub(crate) check: bool,
    /// Only these scenes, by number
    #[arg(long, value_delimiter = ',', value_name = "N", requires = "check")]
    pub(crate) scenes: Vec<usize>,
    /// Print the table again and again instead of redrawing it
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Args)]
pub(crate) struct UpArguments {
    /// Files or folders of YAML or JSON; - is standard input
    #[arg(short, long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Return when everything is ready and leave the mesh running
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// How long everything may take to become ready
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
    /// How long certificates of workloads live
    #[arg(long, default_value = "24h", value_parser = duration, value_name = "TIME")]
    pub(crate) certificate_lifetime: std::time::Duration,
    /// Sign with your own authority: a folder with ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem and, if there
    /// is one, ca-crl.pem
    #[arg(long, value_name = "FOLDER")]
    pub(crate) ca: Option<PathBuf>,
    /// Where on this machine ports are published that name no address
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) publish_address: std::net::IpAddr,
    /// Let machines outside join, with tokens, at this address of this machine; the port is 15012 when left out
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = join_address)]
    pub(crate) join_listen: Option<std::net::SocketAddr>,
    /// Proxies take their identities from the SPIFFE Workload API of this socket (SPIRE's agent), and not from the mesh's own
    /// authority
    #[arg(long, value_name = "SOCKET")]
    pub(crate) spiffe_endpoint_socket: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DownArguments {
    /// Forget objects, certificate authority and logs as well
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Args)]
pub(crate) struct ExecArguments {
    /// The workload: [NAMESPACE/]NAME of a replica or of its Deployment
    pub(crate) workload: String,
    /// The container; the first when left out
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct LogsArguments {
    /// The workload: [NAMESPACE/]NAME of a replica or of its Deployment
    pub(crate) workload: String,
    /// The container; `proxy` for the proxy; the first when left out
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
}

#[derive(Args)]
pub(crate) struct ApplyArguments {
    /// Files or folders of YAML or JSON; - is standard input
    #[arg(short, long = "file", value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Say what would happen, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return only when every proxy concerned has acknowledged
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Args)]
pub(crate) struct DeleteArguments {
    /// Delete the objects of these files
    #[arg(short, long = "file", value_name = "FILE", num_args = 1.., conflicts_with = "kind")]
    pub(crate) files: Vec<PathBuf>,
    /// Kind, for example virtualservice or vs
    #[arg(required_unless_present = "files", requires = "names")]
    pub(crate) kind: Option<String>,
    /// Names
    pub(crate) names: Vec<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

#[derive(Args)]
pub(crate) struct GetArguments {
    /// Kind, for example virtualservice or vs; `all` for every kind
    pub(crate) kind: String,
    /// Name; all of the kind when left out
    pub(crate) name: Option<String>,
    /// Namespace; all when left out
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Args)]
pub(crate) struct WaitArguments {
    /// The condition: `applied` (every proxy concerned has acknowledged) or `ready` (every replica is ready)
    #[arg(long = "for", value_enum, default_value_t = Condition::Applied, value_name = "CONDITION")]
    pub(crate) condition: Condition,
    /// How long
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
}

#[derive(Args)]
pub(crate) struct HistoryArguments {
    /// So many changes, the newest first
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Args)]
pub(crate) struct RollbackArguments {
    /// The revision, as `heddle history` lists it; the one before the newest when left out
    pub(crate) revision: Option<u64>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long proxies may take to acknowledge
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// What `wait` waits for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Condition {
    /// Every proxy concerned has acknowledged every change
    Applied,
    /// Every replica is ready
    Ready,
}

#[derive(Args)]
pub(crate) struct AnalyzeArguments {
    /// Files or folders of YAML or JSON; - is standard input; the running mesh's objects when left out
    #[arg(short, long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Exit with 79 when there is a finding of this level or worse
    #[arg(long, value_enum, default_value_t = FailureLevel::Error, value_name = "LEVEL")]
    pub(crate) failure_threshold: FailureLevel,
    /// Print the outcome of every field, not only of those that are not applied
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// How bad a finding must be for `analyze` to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FailureLevel {
    /// Anything
    Info,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// A finding's code, or with --from and --to the request: METHOD, PATH or both
    #[arg(value_name = "CODE | METHOD PATH", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
    /// Who asks: NAMESPACE/WORKLOAD, sa:NAMESPACE/NAME, outside, or gateway:NAMESPACE/NAME
    #[arg(long, value_name = "CLIENT", requires = "to")]
    pub(crate) from: Option<String>,
    /// For what: a host or an address, with :PORT behind it where it has several, or NAMESPACE/WORKLOAD:PORT
    #[arg(long, value_name = "HOST", requires = "from")]
    pub(crate) to: Option<String>,
    /// What the client speaks: http1, http2, grpc, tcp, tls or udp; what fits the port when left out
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Option<String>,
    /// A header, `name: value`
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// The client's address, where it is not the workload's
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source_ip: Option<std::net::IpAddr>,
    /// A token to send as `authorization: Bearer`
    #[arg(long, value_name = "TOKEN")]
    pub(crate) jwt: Option<String>,
    /// Many requests at once: JSON lines with the fields from, to, protocol, method, path, authority, headers, source_ip
    /// and jwt; - is standard input. The answers are JSON lines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "words"])]
    pub(crate) requests: Option<PathBuf>,
    /// Files or folders of YAML or JSON; - is standard input; the running mesh answers when left out
    #[arg(short, long = "file", value_name = "FILE", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Whose meaning the objects get
    #[arg(long = "as", value_enum, default_value_t, value_name = "MESH", requires = "files")]
    pub(crate) profile: Meaning,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// Whose meaning objects get.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Meaning {
    /// Upstream's, and what authors mean where upstream drops it silently
    #[default]
    Heddle,
    /// Exactly what Istio with sidecars does
    IstioSidecar,
}

#[derive(Subcommand)]
pub(crate) enum SampleCommand {
    /// Serve one of the sample's services
    Serve(ServeArguments),
    /// Print the body of one answer
    Get {
        /// An http URL
        url: String,
    },
    /// Send requests and count who answered
    Load(LoadArguments),
}

#[derive(Args)]
pub(crate) struct ServeArguments {
    /// The service
    #[arg(value_enum)]
    pub(crate) service: SampleService,
    /// The version it answers with
    #[arg(long, default_value = "v1")]
    pub(crate) version: String,
    /// The port it listens on
    #[arg(long, default_value_t = 9080)]
    pub(crate) port: u16,
    /// The name of this replica in its answers
    #[arg(long, env = "HOSTNAME", default_value = "unknown")]
    pub(crate) replica: String,
    /// Where details is
    #[arg(long, default_value = "http://details:9080")]
    pub(crate) details: String,
    /// Where reviews is
    #[arg(long, default_value = "http://reviews:9080")]
    pub(crate) reviews: String,
    /// Where ratings is
    #[arg(long, default_value = "http://ratings:9080")]
    pub(crate) ratings: String,
}

/// A service of the sample.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SampleService {
    /// Facts about a book
    Details,
    /// The front: asks details and reviews
    Productpage,
    /// Stars
    Ratings,
    /// Texts, with stars from ratings in v2 and v3
    Reviews,
}

#[derive(Args)]
pub(crate) struct LoadArguments {
    /// An http URL
    pub(crate) url: String,
    /// Method
    #[arg(short = 'X', long, default_value = "GET")]
    pub(crate) method: String,
    /// A header, `name: value`
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// How many requests in all; until stopped when left out
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// How long
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Option<std::time::Duration>,
    /// Connections, each with one request at a time
    #[arg(short, long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Requests per second over all connections
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// A new connection for every request
    #[arg(long)]
    pub(crate) close: bool,
    /// Print the body of the last answer
    #[arg(long)]
    pub(crate) show_body: bool,
    /// How long an answer may take
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// An address, with Istio's port for certificates and configuration where it has none.
fn join_address(text: &str) -> Result<std::net::SocketAddr, String> {
    let with_port = text.parse().ok();
    let alone = || Some(std::net::SocketAddr::new(text.parse().ok()?, CONTROL_PORT));
    with_port
        .or_else(alone)
        .ok_or_else(|| format!("{text:?} is not an address such as 192.0.2.1:15012"))
}

/// A duration as Go writes it: `300ms`, `1h30m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let mut rest = text;
    let mut total = std::time::Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("{text:?} is not a duration such as 300ms, 5s or 1h30m")),
        };
        let number: f64 =
            number.parse().map_err(|_| format!("{text:?} is not a duration such as 5s"))?;
        total += std::time::Duration::try_from_secs_f64(number * seconds)
            .map_err(|error| error.to_string())?;
        rest = tail;
    }
    if text.is_empty() { Err("a duration such as 5s is needed".to_owned()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["", "5", "s", "5d", "-1s", "1s2", "1e9h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
