//! What a process is to be: a value, checked and carried out elsewhere.

use std::ffi::OsString;
use std::ops::BitOr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::namespace::{Namespaces, NetworkNamespace};

/// A process to be started.
///
/// [`Plan::new`] confines as much as a plain program bears: no capabilities, no way to new ones, a
/// session of its own, no inherited descriptor. Namespaces and mounts are added by the caller.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a plan are independent")]
pub struct Plan {
    /// The program: a path, or a name looked up in the PATH of `environment`.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts, seen after the mounts; none is where the caller is.
    pub working_directory: Option<PathBuf>,
    /// Whose namespaces it is in, but for the network.
    pub isolation: Isolation,
    /// Its network namespace; none is what `isolation` says.
    pub network: Option<NetworkNamespace>,
    /// The host name it sees; needs a UTS namespace of its own.
    pub hostname: Option<String>,
    /// Mounts, in this order; needs a mount namespace of its own.
    pub mounts: Vec<Mount>,
    /// The user and the group that it sees itself as, in a user namespace of its own; none: those that the caller sees.
    /// It stays the caller's user to everybody else. Capabilities that it keeps are then good within that namespace only.
    pub user: Option<(u32, u32)>,
    /// What it keeps of its capabilities, also over later program changes.
    pub capabilities: Capabilities,
    /// Whether it can ever gain privileges by starting a program (set-user-id files, file capabilities).
    pub new_privileges: bool,
    /// Whether it is killed when the process that called [`super::spawn()`] ends.
    pub die_with_parent: bool,
    /// Whether it leads a session of its own, away from the caller's terminal.
    pub new_session: bool,
    /// Whether its standard input is a terminal that it shall control, in a session of its own: what an
    /// interactive shell needs.
    pub controlling_terminal: bool,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Its standard input.
    pub stdin: Stream,
    /// Its standard output.
    pub stdout: Stream,
    /// Its standard error.
    pub stderr: Stream,
    /// Further descriptors and the numbers, from 3 to 63, they have in it. All others are closed.
    pub descriptors: Vec<(OwnedFd, i32)>,
}

impl Plan {
    /// A confined process in the caller's namespaces, with an empty environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            isolation: Isolation::New(Namespaces::NONE),
            network: None,
            hostname: None,
            mounts: Vec::new(),
            user: None,
            capabilities: Capabilities::NONE,
            new_privileges: false,
            die_with_parent: true,
            new_session: true,
            controlling_terminal: false,
            limits: Vec::new(),
            stdin: Stream::Null,
            stdout: Stream::Inherit,
            stderr: Stream::Inherit,
            descriptors: Vec::new(),
        }
    }
}

/// Whose namespaces a process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of a running process (its id in the caller's PID namespace), to run a command beside it.
    /// Mounts and host name of the plan are not applied then.
    Join(u32),
    /// New ones of these kinds, the caller's for the rest. With a PID namespace the process runs under
    /// an init, and when it ends, everything it started is killed.
    New(Namespaces),
}

/// One mount. Mounts are private to the process and what it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// Shows a file or folder at another place, which must be there.
    Bind {
        /// What is shown.
        source: PathBuf,
        /// Where.
        target: PathBuf,
        /// Whether writing is refused there.
        read_only: bool,
    },
    /// Writes a file, at a place below an opened or covered folder.
    File {
        /// Where; its parents are made.
        target: PathBuf,
        /// What it holds.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a folder (with its parents), for a later mount inside a tmpfs.
    Folder {
        /// Where.
        target: PathBuf,
    },
    /// Makes a symbolic link, at a place below an opened or covered folder.
    Link {
        /// Where; its parents are made.
        target: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Opens a folder for new entries: it is covered in memory, and all that is in it shown again.
    Open {
        /// Which; also `/`.
        folder: PathBuf,
    },
    /// Mounts proc for the PID namespace the process is in. Usually `/proc`.
    Proc {
        /// Where.
        target: PathBuf,
    },
    /// Covers a folder with an empty one in memory.
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// How much it holds.
        bytes_max: u64,
    },
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(pub(super) u64);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// Everything the caller has is left as it is.
    pub const KEEP: Self = Self(u64::MAX);
    /// Ports below 1024.
    pub const NET_BIND_SERVICE: Self = Self(1 << 10);
    /// Interfaces, routes, rules, socket marks, transparent sockets.
    pub const NET_ADMIN: Self = Self(1 << 12);
    /// Raw and packet sockets, socket marks, transparent sockets.
    pub const NET_RAW: Self = Self(1 << 13);
    /// Mounts, namespaces and much else.
    pub const SYS_ADMIN: Self = Self(1 << 21);
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub of: Limited,
    /// The limit in force; raised by the process itself up to `hard`.
    pub soft: u64,
    /// The highest it may ever be.
    pub hard: u64,
}

/// What a limit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limited {
    /// Bytes of address space.
    AddressSpaceBytes,
    /// Bytes of a core dump.
    CoreBytes,
    /// Bytes of a file it writes.
    FileBytes,
    /// Bytes of memory it locks.
    LockedBytes,
    /// Open descriptors.
    OpenFiles,
    /// Processes of the user, on the whole host.
    Processes,
}

/// One of the three standard streams.
#[derive(Debug)]
pub enum Stream {
    /// This descriptor.
    Descriptor(OwnedFd),
    /// The caller's own.
    Inherit,
    /// `/dev/null`.
    Null,
}
