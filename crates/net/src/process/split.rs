//! Splitting a process in two: one goes on inside namespaces of its own, under an init, the other
//! stays in the host's.
//!
//! The supervisor of a standalone mesh lives inside; the one outside keeps the terminal and opens what
//! only the host's namespaces have, and hands it in over the channel between them.

use std::io;

use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::child::Child;
use super::confine;
use super::fork::{self, Side};
use super::init;
use super::plan::Capabilities;
use crate::namespace::{self, EnterError, Forbidden, Namespaces};
use crate::socket::DescriptorChannel;

/// Which of the two this is.
#[derive(Debug)]
pub enum Split {
    /// Inside the namespaces, as user 0 of them, with the channel to the outside.
    Inside(DescriptorChannel),
    /// In the namespaces of before.
    Outside(Outside),
}

/// What the one outside holds.
#[derive(Debug)]
pub struct Outside {
    /// The init (or the inside process itself, without a PID namespace). It ends when the inside
    /// process ends, and with it everything inside; if the outside process dies, it is killed.
    pub init: Child,
    /// The channel to the inside.
    pub channel: DescriptorChannel,
}

/// The process was not split; it goes on as before.
#[derive(Debug, Error)]
pub enum SplitError {
    /// The host does not let this user make user namespaces.
    #[error("this host forbids user namespaces: {}", forbidden.reason())]
    Forbidden {
        /// Why; [`Forbidden::hint`] says what to do.
        forbidden: Forbidden,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried, in words.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The process inside ended without a word.
    #[error("the process inside the new namespaces ended early")]
    Ended,
}

impl SplitError {
    /// What to do about it, when something can be done on this host.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden { forbidden, .. } => Some(forbidden.hint()),
            Self::Step { step, .. } if step.contains("/proc") => Some(
                "a container hides parts of /proc; run outside it, or give it `--security-opt systempaths=unconfined`",
            ),
            Self::Step { .. } | Self::Ended => None,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Continues { pid: i32 },
    Failed { step: String, errno: i32 },
    Forbidden { forbidden: Forbidden, errno: i32 },
    Ready,
}

/// Splits this process, which must have one thread. Returns twice: inside and outside.
///
/// Where user namespaces are forbidden, root goes on without one. With a mount namespace, mounts are
/// private inside; with a PID namespace as well, `/proc` shows the inside only (with a PID namespace
/// alone it goes on showing the outside, and [`super::spawn()`] does not work).
pub fn split(namespaces: Namespaces) -> Result<Split, SplitError> {
    let pair = || DescriptorChannel::pair().map_err(step("open a channel"));
    let ((outside, inside), (reports, reporter)) = (pair()?, pair()?);
    match fork::fork().map_err(step("fork"))? {
        Side::Child => {
            drop((outside, reports));
            match go_inside(namespaces, &reporter) {
                Ok(()) => {
                    send(&reporter, &Report::Ready);
                    Ok(Split::Inside(inside))
                }
                Err(report) => {
                    send(&reporter, &report);
                    fork::exit_now(1)
                }
            }
        }
        Side::Parent(pid) => {
            drop((inside, reporter));
            let first = Child::adopt(pid).map_err(step("watch the new process"))?;
            let init = follow(first, &reports)?;
            Ok(Split::Outside(Outside { init, channel: outside }))
        }
    }
}

fn follow(mut child: Child, reports: &DescriptorChannel) -> Result<Child, SplitError> {
    let end = |mut child: Child| {
        let _ = child.kill();
        let _ = child.wait();
    };
    loop {
        let report = match reports.receive() {
            Ok(Some(message)) => serde_json::from_slice(&message.payload).ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(None) | Err(_) => None,
        };
        match report {
            Some(Report::Ready) => return Ok(child),
            Some(Report::Continues { pid }) => {
                let adopted = Child::adopt(pid);
                let _ = child.wait();
                child = adopted.map_err(step("watch the init"))?;
            }
            Some(Report::Failed { step, errno }) => {
                end(child);
                return Err(SplitError::Step { step, source: io::Error::from_raw_os_error(errno) });
            }
            Some(Report::Forbidden { forbidden, errno }) => {
                end(child);
                let source = io::Error::from_raw_os_error(errno);
                return Err(SplitError::Forbidden { forbidden, source });
            }
            None => {
                end(child);
                return Err(SplitError::Ended);
            }
        }
    }
}

/// Everything between the fork and the return inside.
fn go_inside(namespaces: Namespaces, reporter: &DescriptorChannel) -> Result<(), Report> {
    die_with_parent()?;
    enter_user_namespace()?;
    namespace::enter(namespaces).map_err(|error| failed("make the namespaces", &error))?;
    if namespaces.pid {
        let told = |pid| try_send(reporter, &Report::Continues { pid });
        fork::continue_as_sibling(told)
            .map_err(|error| failed_io("fork into the PID namespace", &error))?;
        die_with_parent()?;
    }
    if namespaces.mount {
        namespace::make_mounts_private().map_err(|error| mount_failed(&error))?;
        if namespaces.pid {
            namespace::mount_proc("/proc".as_ref()).map_err(|error| mount_failed(&error))?;
        }
    }
    if namespaces.pid {
        init::become_init(|| {
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
            if confine::keep_capabilities(Capabilities::NONE).is_err() {
                fork::exit_now(1);
            }
            fork::close_all();
        })
        .map_err(|error| failed_io("fork from init", &error))?;
    }
    Ok(())
}

fn die_with_parent() -> Result<(), Report> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| failed_io("ask to die with the parent", &errno.into()))
}

fn enter_user_namespace() -> Result<(), Report> {
    match namespace::enter_user_namespace() {
        Ok(()) => Ok(()),
        Err(EnterError::Forbidden { .. }) if is_privileged() => Ok(()),
        Err(EnterError::Forbidden { forbidden, source }) => {
            let errno = source.raw_os_error().unwrap_or(libc::EPERM);
            Err(Report::Forbidden { forbidden, errno })
        }
        // AppArmor allows the namespace and refuses what is done in it.
        Err(EnterError::Map { source, .. }) => {
            let errno = source.raw_os_error().unwrap_or(libc::EPERM);
            Err(Report::Forbidden { forbidden: Forbidden::AppArmor, errno })
        }
        Err(error) => Err(failed("enter a user namespace", &error)),
    }
}

fn is_privileged() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn try_send(channel: &DescriptorChannel, report: &Report) -> io::Result<()> {
    channel.send(&serde_json::to_vec(report)?, &[])
}

fn send(channel: &DescriptorChannel, report: &Report) {
    if try_send(channel, report).is_err() {
        // The one outside is gone: then nothing may go on inside.
        fork::exit_now(1);
    }
}

fn failed(step: &str, error: &dyn std::error::Error) -> Report {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let errno = source.and_then(io::Error::raw_os_error).unwrap_or(libc::EIO);
    Report::Failed { step: step.to_owned(), errno }
}

fn failed_io(step: &str, error: &io::Error) -> Report {
    Report::Failed { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

fn mount_failed(error: &namespace::MountError) -> Report {
    failed_io(error.to_string().trim_start_matches("cannot "), &error.source)
}

fn step(step: &str) -> impl FnOnce(io::Error) -> SplitError {
    let step = step.to_owned();
    move |source| SplitError::Step { step, source }
}
