//! A network namespace held by a descriptor.
//!
//! Holding one keeps the namespace alive. Code runs inside it either on a thread of its own
//! ([`NetworkNamespace::run`]) or for the length of one closure on the calling thread
//! ([`NetworkNamespace::scoped`], for a few system calls such as opening a socket).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use thiserror::Error;

/// A network namespace could not be made, found or entered.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// A new namespace was refused; the caller needs CAP_SYS_ADMIN in its user namespace.
    #[error("cannot make a network namespace")]
    Create(#[source] io::Error),
    /// The namespace is not there or may not be opened.
    #[error("cannot open the network namespace {subject}")]
    Open {
        /// A path, or `of process PID`.
        subject: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// What was opened is not a network namespace, or may not be entered.
    #[error("cannot enter the network namespace {namespace}")]
    Enter {
        /// Its inode, as `ls -l /proc/PID/ns/net` shows it.
        namespace: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A network namespace; cloning shares the descriptor.
#[derive(Clone)]
pub struct NetworkNamespace {
    descriptor: Arc<OwnedFd>,
    inode: u64,
}

impl NetworkNamespace {
    /// Makes a new, empty namespace (loopback is there, and down). The caller stays where it is.
    pub fn create() -> Result<Self, NamespaceError> {
        on_thread(|| {
            unshare_network().map_err(NamespaceError::Create)?;
            Self::current()
        })?
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a process, by its id in the caller's PID namespace.
    pub fn of_process(pid: u32) -> Result<Self, NamespaceError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace behind a path: `/proc/PID/ns/net`, or a bind mount such as `/run/netns/NAME`.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let error = |source| NamespaceError::Open { subject: path.display().to_string(), source };
        let file = File::open(path).map_err(error)?;
        Self::from_descriptor(file.into()).map_err(error)
    }

    /// The namespace behind a descriptor that was received or inherited.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let inode = rustix::fs::fstat(&descriptor)?.st_ino;
        Ok(Self { descriptor: Arc::new(descriptor), inode })
    }

    /// The number the kernel names this namespace by; equal numbers are the same namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs a closure inside the namespace, on a thread that ends with it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }

    /// Runs a closure inside the namespace on the calling thread and comes back.
    ///
    /// For a few system calls: the thread must not wait in it, and what it opens stays in the namespace.
    /// Costs nothing but a comparison when the thread is in that namespace already.
    pub fn scoped<T>(&self, work: impl FnOnce() -> T) -> Result<T, NamespaceError> {
        let origin = Self::current()?;
        if origin == *self {
            return Ok(work());
        }
        self.enter()?;
        let back = ReturnTo(origin);
        let result = work();
        drop(back);
        Ok(result)
    }

    /// Moves the calling thread into the namespace for good.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        rustix::thread::move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| NamespaceError::Enter {
                namespace: self.inode.to_string(),
                source: errno.into(),
            })
    }
}

impl PartialEq for NetworkNamespace {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Eq for NetworkNamespace {}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for NetworkNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// Brings the thread back, also when the closure panics.
struct ReturnTo(NetworkNamespace);

impl Drop for ReturnTo {
    fn drop(&mut self) {
        if self.0.enter().is_err() {
            // A thread left in a workload's namespace would open later sockets there, with another
            // workload's identity. There is no safe way on.
            std::process::abort();
        }
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .map_err(NamespaceError::Thread)?;
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[expect(unsafe_code, reason = "unshare(2)")]
fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET, which changes the calling thread's network namespace and touches no
    // memory and no descriptor.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}
