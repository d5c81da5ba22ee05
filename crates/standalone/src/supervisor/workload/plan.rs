//! What the processes of a workload may do and see.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use heddle_net::namespace::Namespaces;
use heddle_net::process::{Capabilities, Isolation, Mount, Plan};
use heddle_proto::node;
use heddle_proto::workload_api::SOCKET_VARIABLE;

use super::Context;
use super::mounts::{Mounts, hide, programs_below};
use crate::supervisor::launch::{OWN_PROGRAM, environment};

/// The number under which a proxy finds its socket pair.
pub(super) const CONTROL_DESCRIPTOR: i32 = 3;
/// The number under which it finds the listening socket of the Workload API.
const WORKLOAD_API_DESCRIPTOR: i32 = 4;
/// The number under which it finds the file of the names that its workload has learned.
const NAMES_DESCRIPTOR: i32 = 5;
/// Where an application finds the Workload API, as Istio has it.
const WORKLOAD_API_FOLDER: &str = "/var/run/secrets/workload-spiffe-uds";
const WORKLOAD_API_ADDRESS: &str = "unix:///var/run/secrets/workload-spiffe-uds/socket";

impl Context {
    /// The plan of an application's process.
    pub(super) fn container_plan(&self, container: &node::Container) -> Result<Plan, String> {
        let (program, arguments) =
            container.command.split_first().ok_or("the container has no command")?;
        let mut plan = Plan::new(self::program(program));
        plan.arguments = arguments.iter().map(OsString::from).collect();
        plan.environment = self.environment(container);
        plan.working_directory = Some(working_directory(container, self.services.state.root()));
        plan.isolation = Isolation::New(Namespaces { network: false, ..Namespaces::ALL });
        plan.network = Some(self.port.namespace().clone());
        plan.hostname = Some(self.desired.hostname.clone());
        plan.mounts = self.mounts(container)?;
        plan.capabilities = Capabilities::NONE;
        plan.user = user(container);
        Ok(plan)
    }

    /// The plan of a command beside a running container, whose id is that of its init.
    pub(crate) fn exec_plan(
        &self,
        container: &node::Container,
        pid: u32,
        command: &[String],
    ) -> Result<Plan, String> {
        let (program, arguments) = command.split_first().ok_or("no command is given")?;
        let mut plan = Plan::new(self::program(program));
        plan.arguments = arguments.iter().map(OsString::from).collect();
        plan.environment = self.environment(container);
        plan.working_directory = Some(working_directory(container, self.services.state.root()));
        plan.isolation = Isolation::Join(pid);
        plan.user = user(container);
        plan.stdout = heddle_net::process::Stream::Null;
        plan.stderr = heddle_net::process::Stream::Null;
        Ok(plan)
    }

    /// The plan of the proxy: in the workload's network, able to mark its sockets, and with nothing of the
    /// mesh's state in sight.
    pub(super) fn proxy_plan(
        &self,
        link: OwnedFd,
        names: OwnedFd,
        workload_api: Option<OwnedFd>,
    ) -> Plan {
        let services = &self.services;
        let mut plan = Plan::new(OWN_PROGRAM);
        let own = ["--control-fd", "3", "--names-fd", "5", "--workload", &self.desired.id];
        let listening = workload_api.iter().flat_map(|_| ["--workload-api-fd", "4"]);
        plan.arguments = services
            .options
            .proxy_arguments
            .iter()
            .map(String::as_str)
            .chain(own)
            .chain(listening)
            .map(OsString::from)
            .collect();
        plan.environment = services.own_environment();
        plan.working_directory = Some(PathBuf::from("/"));
        plan.isolation = Isolation::New(Namespaces { mount: true, ..Namespaces::NONE });
        plan.network = Some(self.port.namespace().clone());
        plan.mounts = vec![hide(services.state.root())];
        plan.capabilities = Capabilities::NET_ADMIN;
        plan.descriptors = vec![(link, CONTROL_DESCRIPTOR), (names, NAMES_DESCRIPTOR)];
        plan.descriptors.extend(workload_api.map(|socket| (socket, WORKLOAD_API_DESCRIPTOR)));
        plan
    }

    fn environment(&self, container: &node::Container) -> Vec<(OsString, OsString)> {
        let given = container.env.iter().map(|variable| (&*variable.name, &*variable.value));
        let given: Vec<_> =
            given.filter(|(name, _)| !name.is_empty() && !name.contains('=')).collect();
        let defaults = [
            ("PATH", self.services.options.path.as_str()),
            ("HOME", self.services.options.home.as_str()),
            ("HOSTNAME", self.desired.hostname.as_str()),
        ];
        let workload_api = (SOCKET_VARIABLE, WORKLOAD_API_ADDRESS);
        let defaults = defaults.into_iter().chain(self.desired.meshed.then_some(workload_api));
        let absent = |name: &str| !given.iter().any(|(given, _)| *given == name);
        let defaults = defaults.filter(|(name, _)| absent(name));
        let mut all = environment(given.iter().copied().chain(defaults));
        for (_, path) in all.iter_mut().filter(|(name, _)| name == "PATH") {
            path.push(":");
            path.push(programs_below(self.services.state.root()));
        }
        all
    }

    fn mounts(&self, container: &node::Container) -> Result<Vec<Mount>, String> {
        let mut mounts = Mounts::new();
        for name in ["resolv.conf", "hosts", "hostname", "nsswitch.conf"] {
            mounts.replace(&Path::new("/etc").join(name), self.files.etc(name));
        }
        if self.desired.meshed {
            let target = Path::new(WORKLOAD_API_FOLDER);
            mounts.folder(target, self.files.workload_api(), true, false)?;
        }
        for directory in &container.directories {
            let own = directory.host_path.is_empty();
            let source = self.directory_source(directory)?;
            mounts.folder(Path::new(&directory.path), source, directory.read_only, own)?;
        }
        for file in &container.files {
            mounts.file(file)?;
        }
        let services = &self.services;
        Ok(mounts.finish(services.state.root(), services.program.as_deref()))
    }

    fn directory_source(&self, directory: &node::MountedDirectory) -> Result<PathBuf, String> {
        if directory.host_path.is_empty() {
            let volume = self.files.volume(&directory.volume);
            return volume
                .map_err(|error| format!("cannot make the volume {}: {error}", directory.volume));
        }
        let source = PathBuf::from(&directory.host_path);
        if source.is_dir() {
            Ok(source)
        } else {
            Err(format!("{} is not a folder of this machine", source.display()))
        }
    }
}

/// `heddle` is this program, wherever it lies.
fn program(name: &str) -> PathBuf {
    if name == "heddle" { OWN_PROGRAM.into() } else { name.into() }
}

/// Where a container starts: where it says, else in the folder of its file, unless that is gone or out of sight.
fn working_directory(container: &node::Container, state: &Path) -> PathBuf {
    let folder = Path::new(&container.folder);
    if !container.working_dir.is_empty() {
        PathBuf::from(&container.working_dir)
    } else if folder.is_absolute() && folder.is_dir() && !folder.starts_with(state) {
        folder.to_owned()
    } else {
        "/".into()
    }
}

/// The user and the group that a container sees itself as; none: as every process of the mesh.
fn user(container: &node::Container) -> Option<(u32, u32)> {
    let numbers = (container.run_as_user, container.run_as_group);
    (numbers != (0, 0)).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_starts_in_the_folder_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for (working_dir, given, expected) in [
            ("", &*path, folder.path()),
            ("/usr", &*path, Path::new("/usr")),
            ("", "", Path::new("/")),
            ("", "/nowhere/at/all", Path::new("/")),
            ("", "relative", Path::new("/")),
        ] {
            let container = node::Container {
                working_dir: working_dir.into(),
                folder: given.into(),
                ..node::Container::default()
            };
            assert_eq!(working_directory(&container, Path::new("/state")), expected);
        }
        let container = node::Container { folder: path, ..node::Container::default() };
        assert_eq!(working_directory(&container, folder.path()), Path::new("/"));
    }
}
