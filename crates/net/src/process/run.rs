//! The second step of a start: a fresh process of this program carries the plan out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::confine;
use super::fork;
use super::init;
use super::plan::{Capabilities, Limit, Mount};
use crate::namespace::{self, Namespaces, NetworkNamespace};
use crate::socket::DescriptorChannel;

/// The argument with which [`super::spawn()`] runs this program again; see [`run_plan`].
pub const RUN_PLAN: &str = "internal-run-plan";

/// The highest number a descriptor of the plan may be given.
pub(super) const TARGET_MAX: i32 = 63;

/// The plan as it travels; descriptors travel beside it, in the order of the `Option`s and `targets`.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a plan are independent")]
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) working_directory: Option<PathBuf>,
    pub(super) joins: bool,
    pub(super) has_network: bool,
    pub(super) namespaces: Namespaces,
    pub(super) hostname: Option<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) user: Option<(u32, u32)>,
    pub(super) capabilities: Capabilities,
    pub(super) new_privileges: bool,
    pub(super) die_with_parent: bool,
    pub(super) new_session: bool,
    pub(super) controlling_terminal: bool,
    pub(super) limits: Vec<Limit>,
    pub(super) targets: Vec<i32>,
}

/// What the new process tells the one that started it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// A step failed, and the process ends.
    Failed { step: String, errno: i32 },
    /// The program is started next; the end of the channel then means that it runs.
    Ready,
    /// The process goes on under this id, in the starter's PID namespace.
    Continues { pid: i32 },
}

impl Report {
    pub(super) fn send(&self, channel: &DescriptorChannel) -> io::Result<()> {
        channel.send(&serde_json::to_vec(self)?, &[])
    }
}

/// The plan could not be carried out. Where the starter still listens it has been told.
#[derive(Debug, Error)]
pub enum RunError {
    /// The process was not started by [`super::spawn()`].
    #[error("`{RUN_PLAN}` is internal: standard input brings no plan")]
    NoPlan(#[source] io::Error),
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried, in words.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Reads a plan from standard input and becomes the process it describes; returns only on failure.
///
/// For the binary to call when its first argument is [`RUN_PLAN`], before it has a second thread.
pub fn run_plan() -> RunError {
    let channel = match fork::inherited(0) {
        // Duplicated out of the way of every number the new process may want.
        Ok(stdin) => match rustix::io::fcntl_dupfd_cloexec(stdin, TARGET_MAX + 1) {
            Ok(copy) => DescriptorChannel::from(copy),
            Err(errno) => return RunError::NoPlan(errno.into()),
        },
        Err(source) => return RunError::NoPlan(source),
    };
    let (order, descriptors) = match receive(&channel) {
        Ok(received) => received,
        Err(source) => return RunError::NoPlan(source),
    };
    let error = match carry_out(&order, descriptors, &channel) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let RunError::Step { step, source } = &error {
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        // Without a listener there is nobody left to tell.
        let _ = Report::Failed { step: step.clone(), errno }.send(&channel);
    }
    error
}

fn receive(channel: &DescriptorChannel) -> io::Result<(Order, Vec<OwnedFd>)> {
    let message = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut descriptors = message.descriptors;
    if descriptors.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut plan = File::from(descriptors.remove(0));
    plan.rewind()?;
    Ok((serde_json::from_reader(io::BufReader::new(plan))?, descriptors))
}

enum Never {}

fn carry_out(
    order: &Order,
    descriptors: Vec<OwnedFd>,
    channel: &DescriptorChannel,
) -> Result<Never, RunError> {
    let mut descriptors = descriptors.into_iter();
    let mut next = |wanted: bool| {
        let absent = || failed("find the descriptors of the plan")(libc_error(libc::EBADF));
        wanted.then(|| descriptors.next().ok_or_else(absent)).transpose()
    };
    let joined = next(order.joins)?;
    let network = next(order.has_network)?;
    if order.new_session {
        // Fails only for a process that leads a group already, which then has what it needs.
        let _ = rustix::process::setsid();
    }
    if let Some(process) = &joined {
        let kinds = ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::PROCESS_ID
            | ThreadNameSpaceType::NETWORK;
        rustix::thread::move_into_thread_name_spaces(process.as_fd(), kinds)
            .map_err(|errno| failed("join the namespaces of the process")(errno.into()))?;
    }
    if let Some(network) = network {
        NetworkNamespace::from_descriptor(network)
            .map_err(failed("look at the network namespace"))?
            .enter()
            .map_err(|error| failed("enter the network namespace")(io::Error::other(error)))?;
    }
    namespace::enter(order.namespaces)
        .map_err(|error| failed("make the namespaces")(source_of(&error)))?;
    if order.namespaces.pid || joined.is_some() {
        fork::continue_as_sibling(|pid| Report::Continues { pid }.send(channel))
            .map_err(failed("fork into the PID namespace"))?;
    }
    die_with_parent(order, channel)?;
    if joined.is_none() {
        arrange(order)?;
    }
    if order.namespaces.pid {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| failed("protect the memory of init")(errno.into()))?;
        let kept: Vec<OwnedFd> = descriptors.collect();
        // Init keeps neither the program's pipes, whose ends others wait for, nor any privilege.
        init::become_init(|| {
            if confine::keep_capabilities(Capabilities::NONE).is_err() {
                fork::exit_now(1);
            }
            fork::close_all();
        })
        .map_err(failed("start the program's process"))?;
        return start(order, &kept, channel);
    }
    start(order, &descriptors.collect::<Vec<_>>(), channel)
}

fn die_with_parent(order: &Order, channel: &DescriptorChannel) -> Result<(), RunError> {
    if !order.die_with_parent {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| failed("ask to die with the parent")(errno.into()))?;
    // If the parent died before that was asked, its end of the channel is closed.
    if is_closed(channel) {
        fork::exit_now(1);
    }
    Ok(())
}

fn is_closed(channel: &DescriptorChannel) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut asked = [PollFd::new(channel, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::HUP)
}

/// Host name and mounts; in the new PID namespace already, so that proc shows it.
fn arrange(order: &Order) -> Result<(), RunError> {
    if order.namespaces.mount {
        namespace::make_mounts_private().map_err(mount_failed)?;
    }
    if let Some(hostname) = &order.hostname {
        namespace::set_hostname(hostname).map_err(failed("set the host name"))?;
    }
    for mount in &order.mounts {
        match mount {
            Mount::Bind { source, target, read_only } => {
                namespace::bind_mount(source, target, *read_only).map_err(mount_failed)?;
            }
            Mount::File { target, content, mode } => {
                namespace::write_file(target, content, *mode)
                    .map_err(failed(&format!("write the file {}", target.display())))?;
            }
            Mount::Folder { target } => std::fs::create_dir_all(target)
                .map_err(failed(&format!("make the folder {}", target.display())))?,
            Mount::Link { target, to } => namespace::link(target, to)
                .map_err(failed(&format!("make the link {}", target.display())))?,
            Mount::Open { folder } => namespace::open_folder(folder).map_err(mount_failed)?,
            Mount::Proc { target } => namespace::mount_proc(target).map_err(mount_failed)?,
            Mount::Tmpfs { target, bytes_max } => {
                namespace::mount_tmpfs(target, *bytes_max).map_err(mount_failed)?;
            }
        }
    }
    Ok(())
}

/// The last steps, in the process that becomes the program.
fn start(
    order: &Order,
    descriptors: &[OwnedFd],
    channel: &DescriptorChannel,
) -> Result<Never, RunError> {
    if let Some(folder) = &order.working_directory {
        std::env::set_current_dir(folder)
            .map_err(failed(&format!("change to the folder {}", folder.display())))?;
    }
    place_descriptors(order, descriptors).map_err(failed("pass descriptors on"))?;
    if order.controlling_terminal {
        // Again where a fork lies between: only the leader of a session gets a terminal. Fails for one that
        // leads already.
        let _ = rustix::process::setsid();
        rustix::process::ioctl_tiocsctty(io::stdin())
            .map_err(|errno| failed("take control of the terminal")(errno.into()))?;
    }
    // After the descriptors are placed, which a low limit on their number would hinder.
    for limit in &order.limits {
        confine::set_limit(*limit).map_err(failed(&format!("limit {:?}", limit.of)))?;
    }
    if let Some((user, group)) = order.user {
        // While it still may: a parent's user 0 can only be mapped by who has the right to give capabilities.
        namespace::enter_user_namespace_as(user, group)
            .map_err(|error| failed("become the user that is asked for")(source_of(&error)))?;
    }
    confine::keep_capabilities(order.capabilities).map_err(failed("drop capabilities"))?;
    if !order.new_privileges {
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| failed("give up new privileges")(errno.into()))?;
    }
    Report::Ready.send(channel).map_err(failed("report to the parent"))?;
    let error = Command::new(&order.program)
        .args(&order.arguments)
        .env_clear()
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(failed(&step_of_program(&order.program))(error))
}

/// The last step of a start, in words.
pub(super) fn step_of_program(program: &Path) -> String {
    format!("run {}", program.display())
}

fn place_descriptors(order: &Order, descriptors: &[OwnedFd]) -> io::Result<()> {
    if descriptors.len() != order.targets.len() {
        return Err(libc_error(libc::EBADF));
    }
    // Everything is moved above every target first, so that no target overwrites a descriptor that is
    // still to be placed.
    let above = order.targets.iter().max().map_or(3, |highest| highest + 1).max(3);
    let moved = descriptors
        .iter()
        .map(|descriptor| Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, above)?))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    fork::close_at_exec_from(3)?;
    for (descriptor, target) in moved.iter().zip(&order.targets) {
        fork::place(descriptor.as_fd(), *target)?;
    }
    Ok(())
}

fn failed(step: &str) -> impl FnOnce(io::Error) -> RunError {
    let step = step.to_owned();
    move |source| RunError::Step { step, source }
}

fn mount_failed(error: namespace::MountError) -> RunError {
    let step = error.to_string().trim_start_matches("cannot ").to_owned();
    RunError::Step { step, source: error.source }
}

/// The kernel's answer inside an error of this crate.
fn source_of(error: &dyn std::error::Error) -> io::Error {
    let inner = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    libc_error(inner.and_then(io::Error::raw_os_error).unwrap_or(libc::EIO))
}

fn libc_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
