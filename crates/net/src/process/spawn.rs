//! The first step of a start: hand the plan to a fresh process of this program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags};
use socket2::SockRef;
use thiserror::Error;

use super::child::{Child, ExitStatus};
use super::plan::{Isolation, Plan, Stream};
use super::run::{Order, RUN_PLAN, Report, TARGET_MAX};
use crate::namespace::Namespaces;
use crate::socket::{DESCRIPTORS_MAX, DescriptorChannel};

/// Longer than any start takes, also on a loaded machine; a start that hangs is killed then.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Descriptors beside the plan's own: the plan, a process to join, a namespace, three streams.
const OWN_DESCRIPTORS: usize = 6;

/// A process was not started; nothing of it is left.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The plan contradicts itself or exceeds a bound.
    #[error("the plan of {} is not usable: {reason}", program.display())]
    Plan {
        /// The program.
        program: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// This program could not be run again to carry the plan out.
    #[error("cannot prepare a process for {}", program.display())]
    Prepare {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The new process could not do one of the steps.
    #[error("cannot start {}: cannot {step}", program.display())]
    Step {
        /// The program.
        program: PathBuf,
        /// What was tried, in words.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The new process ended without a word.
    #[error("cannot start {}: the process ended early ({status})", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// The new process took too long.
    #[error("cannot start {}: not done after {} s", program.display(), START_TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        program: PathBuf,
    },
}

impl SpawnError {
    /// Why the program itself could not be run, where that is what failed: it is not there, or may not be executed.
    pub fn program_error(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Step { program, step, source }
                if *step == super::run::step_of_program(program) =>
            {
                Some(source.kind())
            }
            _ => None,
        }
    }
}

/// Starts a process and waits until its program runs. Blocks for some milliseconds.
///
/// The running program must pass [`RUN_PLAN`] to [`super::run_plan`]. It may be called from any thread
/// of any runtime: the children's parent is a thread that lives as long as this process.
pub fn spawn(plan: Plan) -> Result<Child, SpawnError> {
    spawn_with(Path::new("/proc/self/exe"), plan)
}

/// The same by another program that understands [`RUN_PLAN`], for callers that are not the binary.
pub fn spawn_with(runner: &Path, plan: Plan) -> Result<Child, SpawnError> {
    let program = plan.program.clone();
    check(&plan).map_err(|reason| SpawnError::Plan { program: program.clone(), reason })?;
    let prepare_error = |source| SpawnError::Prepare { program: program.clone(), source };
    let (order, descriptors) = order(plan).map_err(prepare_error)?;
    let order = serde_json::to_vec(&order).map_err(|error| SpawnError::Plan {
        program: program.clone(),
        reason: error.to_string(),
    })?;
    let (channel, theirs) = DescriptorChannel::pair().map_err(prepare_error)?;
    let mut command = Command::new(runner);
    command.arg(RUN_PLAN).env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    let helper = spawn_from_lasting_thread(command).map_err(prepare_error)?;
    let child = i32::try_from(helper.id())
        .map_err(|_| io::ErrorKind::InvalidData.into())
        .and_then(Child::adopt)
        .map_err(prepare_error)?;
    let sent = send_order(&channel, &order, &descriptors);
    drop(descriptors);
    let sent = sent.and_then(|()| SockRef::from(&channel).set_read_timeout(Some(START_TIMEOUT)));
    match sent {
        Ok(()) => follow(child, &channel, program),
        Err(source) => {
            end(child);
            Err(SpawnError::Prepare { program, source })
        }
    }
}

fn check(plan: &Plan) -> Result<(), String> {
    let namespaces = match plan.isolation {
        Isolation::New(namespaces) => namespaces,
        Isolation::Join(_) => Namespaces::NONE,
    };
    if !plan.mounts.is_empty() && !namespaces.mount {
        return Err("mounts need a mount namespace of their own".to_owned());
    }
    if plan.hostname.is_some() && !namespaces.uts {
        return Err("a host name needs a UTS namespace of its own".to_owned());
    }
    if plan.descriptors.len() > DESCRIPTORS_MAX - OWN_DESCRIPTORS {
        let most = DESCRIPTORS_MAX - OWN_DESCRIPTORS;
        return Err(format!("at most {most} descriptors can be passed on"));
    }
    let mut targets: Vec<i32> = plan.descriptors.iter().map(|(_, target)| *target).collect();
    if let Some(target) = targets.iter().find(|target| !(3..=TARGET_MAX).contains(*target)) {
        return Err(format!("descriptor number {target} is not in 3 to {TARGET_MAX}"));
    }
    targets.sort_unstable();
    if targets.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two descriptors have the same number".to_owned());
    }
    Ok(())
}

/// Splits a plan into what is written and what is passed on.
fn order(plan: Plan) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let (joins, namespaces) = match plan.isolation {
        Isolation::Join(pid) => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
            descriptors.push(rustix::process::pidfd_open(pid, PidfdFlags::empty())?);
            (true, Namespaces::NONE)
        }
        Isolation::New(namespaces) => (false, namespaces),
    };
    let has_network = plan.network.is_some();
    if let Some(network) = &plan.network {
        descriptors.push(network.as_fd().try_clone_to_owned()?);
    }
    descriptors.push(stream(plan.stdin, io::stdin().as_fd(), false)?);
    descriptors.push(stream(plan.stdout, io::stdout().as_fd(), true)?);
    descriptors.push(stream(plan.stderr, io::stderr().as_fd(), true)?);
    let mut targets = vec![0, 1, 2];
    for (descriptor, target) in plan.descriptors {
        descriptors.push(descriptor);
        targets.push(target);
    }
    let order = Order {
        program: plan.program,
        arguments: plan.arguments,
        environment: plan.environment,
        working_directory: plan.working_directory,
        joins,
        has_network,
        namespaces,
        hostname: plan.hostname,
        mounts: plan.mounts,
        user: plan.user,
        capabilities: plan.capabilities,
        new_privileges: plan.new_privileges,
        die_with_parent: plan.die_with_parent,
        new_session: plan.new_session,
        controlling_terminal: plan.controlling_terminal,
        limits: plan.limits,
        targets,
    };
    Ok((order, descriptors))
}

fn stream(stream: Stream, own: BorrowedFd<'_>, output: bool) -> io::Result<OwnedFd> {
    match stream {
        Stream::Descriptor(descriptor) => Ok(descriptor),
        Stream::Inherit => own.try_clone_to_owned(),
        Stream::Null => {
            let null = File::options().read(!output).write(output).open("/dev/null")?;
            Ok(null.into())
        }
    }
}

/// The plan goes as a file in memory, since it may be larger than a message.
fn send_order(
    channel: &DescriptorChannel,
    order: &[u8],
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let mut file = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?);
    file.write_all(order)?;
    let mut borrowed = vec![file.as_fd()];
    borrowed.extend(descriptors.iter().map(AsFd::as_fd));
    channel.send(b"plan", &borrowed)
}

/// Listens to the new process until its program runs, or it has failed.
fn follow(
    mut child: Child,
    channel: &DescriptorChannel,
    program: PathBuf,
) -> Result<Child, SpawnError> {
    let mut ready = false;
    loop {
        let message = match channel.receive() {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                end(child);
                return Err(if error.kind() == io::ErrorKind::WouldBlock {
                    SpawnError::Timeout { program }
                } else {
                    SpawnError::Prepare { program, source: error }
                });
            }
        };
        let Some(message) = message else {
            // The channel closes when the program is started, or when all processes have ended.
            return if ready {
                Ok(child)
            } else {
                let _ = child.kill();
                let status = child.wait().unwrap_or(ExitStatus::Code(1));
                Err(SpawnError::Ended { program, status })
            };
        };
        match serde_json::from_slice(&message.payload) {
            Ok(Report::Ready) => ready = true,
            Ok(Report::Continues { pid }) => {
                // The first process only handed over; the new one is ours by then, and not waited for.
                let adopted = Child::adopt(pid);
                let _ = child.wait();
                match adopted {
                    Ok(adopted) => child = adopted,
                    Err(source) => return Err(SpawnError::Prepare { program, source }),
                }
            }
            Ok(Report::Failed { step, errno }) => {
                end(child);
                let source = io::Error::from_raw_os_error(errno);
                return Err(SpawnError::Step { program, step, source });
            }
            Err(error) => {
                end(child);
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(SpawnError::Prepare { program, source });
            }
        }
    }
}

fn end(mut child: Child) {
    // It may have ended already; then only its status is collected.
    let _ = child.kill();
    let _ = child.wait();
}

type Job = (Command, SyncSender<io::Result<std::process::Child>>);

/// Runs a command from a thread that never ends: "die with the parent" means the parent's thread, and
/// threads of a runtime come and go.
fn spawn_from_lasting_thread(command: Command) -> io::Result<std::process::Child> {
    static SPAWNER: OnceLock<Mutex<Option<mpsc::Sender<Job>>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(Mutex::default);
    let (answer, answered) = mpsc::sync_channel(1);
    {
        let mut sender = spawner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if sender.is_none() {
            let (jobs, queue) = mpsc::channel::<Job>();
            std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
                for (mut command, answer) in queue {
                    let result = command.spawn();
                    // Dropped first: it holds the child's end of the channel open.
                    drop(command);
                    let _ = answer.send(result);
                }
            })?;
            *sender = Some(jobs);
        }
        let gone = |_| io::Error::other("the spawning thread is gone");
        sender.as_ref().map_or(Ok(()), |jobs| jobs.send((command, answer)).map_err(gone))?;
    }
    answered.recv().map_err(io::Error::other)?
}
