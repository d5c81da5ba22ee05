//! Arguments of `agent`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// Where the control plane listens, as Istio's.
pub(crate) const CONTROL_PORT: u16 = 15012;

#[derive(Args)]
#[command(group(ArgGroup::new("object").required(true)), group(ArgGroup::new("trust")))]
pub(crate) struct AgentArguments {
    /// The mesh's control plane: what `heddle up --join-listen` listens on; the port is 15012 when left out
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) control_plane: String,
    /// Who this machine is: what its token was made for
    #[arg(long = "for", value_name = "NAMESPACE/SERVICE-ACCOUNT")]
    pub(crate) account: String,
    /// The WorkloadGroup that it is an instance of, in the same namespace
    #[arg(long, value_name = "NAME", group = "object")]
    pub(crate) workload_group: Option<String>,
    /// The WorkloadEntry that it is, in the same namespace
    #[arg(long, value_name = "NAME", group = "object")]
    pub(crate) workload_entry: Option<String>,
    /// The address of this machine at which the mesh reaches it; that of the WorkloadEntry when left out
    #[arg(long, value_name = "ADDRESS", required_unless_present = "workload_entry")]
    pub(crate) address: Option<IpAddr>,
    /// A file with the token of `heddle certs token create`; - is standard input. Not needed by a machine that has joined
    /// before, as long as its certificate lasts
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the mesh's root certificates in PEM
    #[arg(long, value_name = "FILE", group = "trust")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The SHA-256 of the mesh's root, as `heddle certs token create` says it
    #[arg(long, value_name = "HEX", group = "trust")]
    pub(crate) ca_sha256: Option<String>,
    /// A port of this machine that leads to the application; may be repeated. All that services use when left out
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<u16>,
    /// A variable for the application, NAME=VALUE; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The application and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}
