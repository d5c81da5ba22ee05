//! What the processes of a workload may do and see.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use heddle_net::namespace::Namespaces;
use heddle_net::process::{Capabilities, Isolation, Mount, Plan};
use heddle_proto::node;

use super::Context;
use super::setup::exists;
use crate::supervisor::launch::{OWN_PROGRAM, environment};

/// The number under which a proxy finds its socket pair.
pub(super) const CONTROL_DESCRIPTOR: i32 = 3;
/// What hides the state directory holds nothing but links.
const HIDING_BYTES_MAX: u64 = 64 * 1024;
/// `/dev/shm` of a container, as container runtimes give it.
const SHARED_MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where the name service cache daemon listens: it would answer with the host's view.
const NAME_CACHES: [&str; 2] = ["/run/nscd", "/var/run/nscd"];

impl Context {
    /// The plan of an application's process.
    pub(super) fn container_plan(&self, container: &node::Container) -> Result<Plan, String> {
        let (program, arguments) =
            container.command.split_first().ok_or("the container has no command")?;
        let mut plan = Plan::new(self.program(program));
        plan.arguments = arguments.iter().map(OsString::from).collect();
        plan.environment = self.environment(container);
        plan.working_directory = Some(working_directory(container));
        plan.isolation = Isolation::New(Namespaces { network: false, ..Namespaces::ALL });
        plan.network = Some(self.port.namespace().clone());
        plan.hostname = Some(self.desired.hostname.clone());
        plan.mounts = self.mounts(container)?;
        plan.capabilities = Capabilities::NONE;
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
        let mut plan = Plan::new(self.program(program));
        plan.arguments = arguments.iter().map(OsString::from).collect();
        plan.environment = self.environment(container);
        plan.working_directory = Some(working_directory(container));
        plan.isolation = Isolation::Join(pid);
        plan.stdout = heddle_net::process::Stream::Null;
        plan.stderr = heddle_net::process::Stream::Null;
        Ok(plan)
    }

    /// The plan of the proxy: in the workload's network, able to mark its sockets, and with nothing of the
    /// mesh's state in sight.
    pub(super) fn proxy_plan(&self, link: OwnedFd) -> Plan {
        let services = &self.services;
        let mut plan = Plan::new(OWN_PROGRAM);
        let own = ["--control-fd", "3", "--workload", &self.desired.id];
        plan.arguments = services
            .options
            .proxy_arguments
            .iter()
            .map(String::as_str)
            .chain(own)
            .map(OsString::from)
            .collect();
        plan.environment = services.own_environment();
        plan.working_directory = Some(PathBuf::from("/"));
        plan.isolation = Isolation::New(Namespaces { mount: true, ..Namespaces::NONE });
        plan.network = Some(self.port.namespace().clone());
        plan.mounts = vec![self.hide_state()];
        plan.capabilities = Capabilities::NET_ADMIN;
        plan.descriptors = vec![(link, CONTROL_DESCRIPTOR)];
        plan
    }

    /// `heddle` is this program, wherever it lies.
    fn program(&self, name: &str) -> PathBuf {
        if name == "heddle" { OWN_PROGRAM.into() } else { name.into() }
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
        let absent = |name: &str| !given.iter().any(|(given, _)| *given == name);
        let defaults = defaults.into_iter().filter(|(name, _)| absent(name));
        environment(given.iter().copied().chain(defaults))
    }

    /// In an order in which every source is still visible when it is bound.
    fn mounts(&self, container: &node::Container) -> Result<Vec<Mount>, String> {
        let mut mounts = vec![Mount::Proc { target: "/proc".into() }];
        for name in ["resolv.conf", "hosts", "hostname", "nsswitch.conf"] {
            let target = Path::new("/etc").join(name);
            if exists(&target) {
                mounts.push(Mount::Bind { source: self.files.etc(name), target, read_only: true });
            }
        }
        for cache in NAME_CACHES.map(Path::new) {
            if exists(cache) && !cache.is_symlink() {
                mounts.push(Mount::Tmpfs { target: cache.into(), bytes_max: HIDING_BYTES_MAX });
            }
        }
        let shared_memory = Path::new("/dev/shm");
        if exists(shared_memory) {
            let bytes_max = SHARED_MEMORY_BYTES_MAX;
            mounts.push(Mount::Tmpfs { target: shared_memory.into(), bytes_max });
        }
        for directory in &container.directories {
            mounts.push(self.directory(directory)?);
        }
        mounts.push(self.hide_state());
        Ok(mounts)
    }

    fn directory(&self, directory: &node::MountedDirectory) -> Result<Mount, String> {
        let source = if directory.host_path.is_empty() {
            self.files
                .volume(&directory.volume)
                .map_err(|error| format!("cannot make the volume {}: {error}", directory.volume))?
        } else {
            PathBuf::from(&directory.host_path)
        };
        if !exists(&source) {
            return Err(format!("{} does not exist on this machine", source.display()));
        }
        Ok(Mount::Bind {
            source,
            target: PathBuf::from(&directory.path),
            read_only: directory.read_only,
        })
    }

    fn hide_state(&self) -> Mount {
        let target = self.services.state.root().to_owned();
        Mount::Tmpfs { target, bytes_max: HIDING_BYTES_MAX }
    }
}

fn working_directory(container: &node::Container) -> PathBuf {
    if container.working_dir.is_empty() {
        "/".into()
    } else {
        PathBuf::from(&container.working_dir)
    }
}
