//! What must be there before a workload's first process: its network, held or intercepted, and its files.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use heddle_ident::Cidr;
use heddle_net::interception::{InboundMode, Interception, Selection};
use heddle_proto::node;

use super::Context;
use crate::supervisor::probes::{Prober, chain};
use crate::supervisor::virtual_addresses::Given;
use crate::supervisor::{Services, files};

/// The folder of one workload; removed with it.
#[derive(Debug)]
pub(crate) struct WorkloadFiles {
    root: PathBuf,
}

impl WorkloadFiles {
    fn create(root: PathBuf) -> io::Result<Self> {
        for folder in ["etc", "volumes", "workload-api"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder))?;
        }
        Ok(Self { root })
    }

    /// The names that the workload has learned, which outlive its proxy's process. The proxy sees the file alone, nobody
    /// else sees it.
    pub(super) fn names(&self) -> io::Result<fs::File> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(self.root.join("learned-names"))
    }

    /// A file that is shown under `/etc`.
    pub(super) fn etc(&self, name: &str) -> PathBuf {
        self.root.join("etc").join(name)
    }

    /// The folder with the socket of the Workload API.
    pub(super) fn workload_api(&self) -> PathBuf {
        self.root.join("workload-api")
    }

    /// Listens on that socket anew: a proxy that died has left the former one behind.
    pub(super) fn listen_workload_api(&self) -> io::Result<OwnedFd> {
        let folder = fs::File::open(self.workload_api())?;
        // Through its descriptor: the address of a socket has room for 107 bytes, a state directory's path may be longer.
        let socket = PathBuf::from(format!("/proc/self/fd/{}/socket", folder.as_raw_fd()));
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        heddle_net::socket::listen_unix(&socket).map(OwnedFd::from)
    }

    /// The folder of a volume that belongs to the workload; made at its first use.
    pub(super) fn volume(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join("volumes").join(name.replace(['/', '\0'], "_"));
        fs::DirBuilder::new().recursive(true).mode(0o777).create(&path)?;
        Ok(path)
    }
}

impl Drop for WorkloadFiles {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Makes the network and the files; an error is one sentence.
pub(super) async fn set_up(
    services: &Arc<Services>,
    desired: &node::DesiredWorkload,
) -> Result<Context, String> {
    let services = Arc::clone(services);
    let desired = desired.clone();
    let work = move || set_up_blocking(&services, desired);
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn set_up_blocking(
    services: &Arc<Services>,
    desired: node::DesiredWorkload,
) -> Result<Context, String> {
    let addresses: Vec<IpAddr> = desired
        .addresses
        .iter()
        .map(|text| text.parse().map_err(|_| format!("{text:?} is not an address")))
        .collect::<Result<_, _>>()?;
    // Interception comes before any process and before the network can be used: there is no moment in
    // which something goes around the proxy.
    let port = services.fabric.attach(&addresses, desired.meshed).map_err(|error| chain(&error))?;
    if desired.meshed {
        let mut interception = interception(desired.traffic.as_ref())?;
        if desired.gateway {
            // Its listeners are the workload's own ports: connections from the network go to them as they are.
            interception.inbound = InboundMode::Off;
        }
        interception.install(port.namespace()).map_err(|error| chain(&error))?;
    }
    let files_error = |error: io::Error| format!("cannot write the workload's files: {error}");
    let folder = services.state.workloads().join(desired.uid.replace(['/', '\0'], "_"));
    let files = WorkloadFiles::create(folder).map_err(files_error)?;
    write_etc(services, &desired, &addresses, &files).map_err(files_error)?;
    let prober = Prober::new(port.namespace(), addresses);
    let given = Given::default();
    given.give(&services.virtual_addresses.current(desired.meshed), port.namespace());
    Ok(Context { services: Arc::clone(services), desired, port, prober, files, given })
}

fn write_etc(
    services: &Services,
    desired: &node::DesiredWorkload,
    addresses: &[IpAddr],
    files: &WorkloadFiles,
) -> io::Result<()> {
    let dns = desired.dns.clone().unwrap_or_default();
    let nameservers = services.nameservers();
    fs::write(files.etc("resolv.conf"), files::resolv_conf(&nameservers, &dns))?;
    let hosts = files::hosts(&desired.hostname, addresses, &dns.host_aliases);
    fs::write(files.etc("hosts"), hosts)?;
    fs::write(files.etc("hostname"), format!("{}\n", desired.hostname))?;
    let of_host = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    fs::write(files.etc("nsswitch.conf"), files::nsswitch_conf(&of_host))
}

/// The interception that a workload's annotations ask for.
fn interception(traffic: Option<&node::TrafficSettings>) -> Result<Interception, String> {
    let Some(traffic) = traffic else { return Ok(Interception::default()) };
    let ports = |numbers: &[u32]| -> Result<Vec<u16>, String> {
        let port = |number: &u32| u16::try_from(*number).map_err(|_| format!("port {number}"));
        numbers.iter().map(port).collect()
    };
    let ranges = |texts: &[String]| -> Result<Vec<Cidr>, String> {
        texts.iter().map(|text| Cidr::parse(text).map_err(|error| error.to_string())).collect()
    };
    let inbound = ports(&traffic.include_inbound_ports)?;
    let outbound = ranges(&traffic.include_outbound_ranges)?;
    Ok(Interception {
        inbound_ports: if inbound.is_empty() { Selection::All } else { Selection::Only(inbound) },
        inbound_ports_exclude: ports(&traffic.exclude_inbound_ports)?,
        outbound_ranges: if outbound.is_empty() {
            Selection::All
        } else {
            Selection::Only(outbound)
        },
        outbound_ranges_exclude: ranges(&traffic.exclude_outbound_ranges)?,
        outbound_ports: ports(&traffic.include_outbound_ports)?,
        outbound_ports_exclude: ports(&traffic.exclude_outbound_ports)?,
        ..Interception::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_intercept_everything() {
        let all = interception(Some(&node::TrafficSettings::default())).unwrap();
        assert_eq!(all, Interception::default());
        assert_eq!(interception(None).unwrap(), Interception::default());
        let some = node::TrafficSettings {
            include_inbound_ports: vec![80],
            exclude_outbound_ranges: vec!["10.0.0.0/8".into()],
            ..node::TrafficSettings::default()
        };
        let some = interception(Some(&some)).unwrap();
        assert_eq!(some.inbound_ports, Selection::Only(vec![80]));
        assert_eq!(some.outbound_ranges_exclude.len(), 1);
        let bad = node::TrafficSettings {
            exclude_inbound_ports: vec![70_000],
            ..node::TrafficSettings::default()
        };
        assert!(interception(Some(&bad)).is_err());
    }
}
