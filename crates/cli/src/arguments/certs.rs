//! Arguments of `certs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{OutputArguments, duration};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CertsArguments {
    #[command(subcommand)]
    pub(crate) command: Option<CertsCommand>,
    /// Replace the root: distribute the new one, wait until every proxy has it, switch, retire the old one
    #[arg(long)]
    pub(crate) rotate_root: bool,
    /// Remove a root that is not needed any more, or say who needs it; a rotation does this by itself
    #[arg(long, value_name = "ID", conflicts_with = "rotate_root")]
    pub(crate) retire_root: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Subcommand)]
pub(crate) enum CertsCommand {
    /// Trust another trust domain, or no longer
    Federate(FederateArguments),
    /// Make every proxy refuse certificates that may have been stolen; their workload gets others by itself
    Revoke(RevokeArguments),
    /// One-time tokens for machines outside of the mesh
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Args)]
pub(crate) struct FederateArguments {
    /// The other trust domain
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: String,
    /// Its roots: certificates in PEM, or a SPIFFE bundle in JSON; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "remove")]
    pub(crate) file: Option<PathBuf>,
    /// Trust it no longer
    #[arg(long, conflicts_with = "file")]
    pub(crate) remove: bool,
}

#[derive(Args)]
pub(crate) struct RevokeArguments {
    /// The serial number, as `heddle certs` shows it
    #[arg(value_name = "SERIAL", required_unless_present = "workload")]
    pub(crate) serial: Option<String>,
    /// Every certificate of this workload
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "serial")]
    pub(crate) workload: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown once and stored nowhere
    Create(TokenArguments),
}

#[derive(Args)]
pub(crate) struct TokenArguments {
    /// The service account that the machine is
    #[arg(long = "for", value_name = "NAMESPACE/SERVICE-ACCOUNT")]
    pub(crate) account: String,
    /// How long the token may be used, at most 7 days
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub(crate) ttl: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}
