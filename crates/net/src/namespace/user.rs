//! Entering a user namespace of one's own, and what to say where the host forbids it.
//!
//! Without privilege exactly one user can be mapped: the caller's own, here to 0, so that it owns every
//! namespace it makes afterwards. Must be called while the process has one thread: the kernel refuses
//! a user namespace to a process with more.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use thiserror::Error;

/// Which namespaces to make for the calling process, beside the user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "one flag for each kind of namespace")]
pub struct Namespaces {
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Mounts. Propagation to the host is not cut by this alone: see [`super::make_mounts_private`].
    pub mount: bool,
    /// Interfaces, routes, rules, ports.
    pub network: bool,
    /// Process ids: the next child becomes its init, the caller itself stays outside.
    pub pid: bool,
    /// Host name.
    pub uts: bool,
}

impl Namespaces {
    /// No namespace at all.
    pub const NONE: Self =
        Self { ipc: false, mount: false, network: false, pid: false, uts: false };
    /// Every namespace this type knows.
    pub const ALL: Self = Self { ipc: true, mount: true, network: true, pid: true, uts: true };

    fn flags(self) -> UnshareFlags {
        [
            (self.ipc, UnshareFlags::NEWIPC),
            (self.mount, UnshareFlags::NEWNS),
            (self.network, UnshareFlags::NEWNET),
            (self.pid, UnshareFlags::NEWPID),
            (self.uts, UnshareFlags::NEWUTS),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(UnshareFlags::empty(), |flags, (_, flag)| flags | flag)
    }
}

/// Why a host does not let this user make a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Forbidden {
    /// AppArmor restricts unprivileged user namespaces (Ubuntu 23.10 and later).
    AppArmor,
    /// The per-user limit `user.max_user_namespaces` is used up.
    LimitReached,
    /// `user.max_user_namespaces` is 0 (some Red Hat hosts, hardened hosts).
    LimitZero,
    /// A seccomp filter refuses the call, as container runtimes do by default.
    Seccomp,
    /// `kernel.unprivileged_userns_clone` is 0 (older Debian, hardened kernels).
    UnprivilegedClone,
    /// The kernel refuses for a reason none of its settings tells.
    Unknown,
    /// The kernel is built without user namespaces.
    Unsupported,
}

impl Forbidden {
    /// What somebody with root on this host can do about it, one sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::AppArmor => {
                "run with `sudo`, allow it with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or add an AppArmor profile for this program with the rule `userns,`"
            }
            Self::LimitReached => {
                "end other sandboxes of this user, run with `sudo`, or raise it with `sudo sysctl user.max_user_namespaces=15000`"
            }
            Self::LimitZero => {
                "run with `sudo`, or allow it with `sudo sysctl user.max_user_namespaces=15000`"
            }
            Self::Seccomp => {
                "run outside the container, or give the container a seccomp profile that allows `unshare` (Docker: `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`)"
            }
            Self::UnprivilegedClone => {
                "run with `sudo`, or allow it with `sudo sysctl kernel.unprivileged_userns_clone=1`"
            }
            Self::Unknown => "run with `sudo`; the security module's log (`dmesg`) may tell more",
            Self::Unsupported => "run with `sudo`, or use a kernel with CONFIG_USER_NS",
        }
    }

    /// Which setting or filter it is, a clause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::AppArmor => {
                "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)"
            }
            Self::LimitReached => "this user has as many as user.max_user_namespaces allows",
            Self::LimitZero => "user.max_user_namespaces is 0",
            Self::Seccomp => "a seccomp filter refuses the call",
            Self::UnprivilegedClone => "kernel.unprivileged_userns_clone is 0",
            Self::Unknown => "the kernel does not say why",
            Self::Unsupported => "the kernel is built without them",
        }
    }
}

/// Namespaces could not be made.
#[derive(Debug, Error)]
pub enum EnterError {
    /// The host does not let this user make user namespaces.
    #[error("this host forbids user namespaces: {}", forbidden.reason())]
    Forbidden {
        /// Why; [`Forbidden::hint`] says what to do.
        forbidden: Forbidden,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The process has more than one thread.
    #[error("a process with {threads} threads cannot enter a user namespace")]
    Threads {
        /// How many threads there are.
        threads: usize,
    },
    /// The user namespace is there, but the other namespaces were refused.
    #[error("cannot make the namespaces {wanted:?}")]
    Unshare {
        /// What was asked for.
        wanted: Namespaces,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The mapping of the user's own ids was refused.
    #[error("cannot write {path} in the new user namespace")]
    Map {
        /// The file that could not be written.
        path: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl EnterError {
    /// What to do about it, when something can be done on this host.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden { forbidden, .. } => Some(forbidden.hint()),
            Self::Map { .. } => Some(Forbidden::AppArmor.hint()),
            Self::Threads { .. } | Self::Unshare { .. } => None,
        }
    }
}

/// Enters a new user namespace in which the caller is user 0, and nothing else.
pub fn enter_user_namespace() -> Result<(), EnterError> {
    enter_user_namespace_as(0, 0)
}

/// Enters a new user namespace in which the caller is this user and this group, and nothing else. What it may do to
/// files and processes outside does not change, only the numbers under which it sees itself and what it owns.
pub fn enter_user_namespace_as(user: u32, group: u32) -> Result<(), EnterError> {
    let threads = thread_count();
    if threads != 1 {
        return Err(EnterError::Threads { threads });
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(UnshareFlags::NEWUSER).map_err(|errno| EnterError::Forbidden {
        forbidden: forbidden_reason(errno),
        source: errno.into(),
    })?;
    // Order matters: an unprivileged writer of gid_map must have given up setgroups before.
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("{user} {uid} 1"))?;
    write_map("/proc/self/gid_map", &format!("{group} {gid} 1"))
}

/// Enters new namespaces of the given kinds. The caller needs CAP_SYS_ADMIN in its user namespace,
/// which it has after [`enter_user_namespace`].
pub fn enter(wanted: Namespaces) -> Result<(), EnterError> {
    unshare(wanted.flags()).map_err(|errno| EnterError::Unshare { wanted, source: errno.into() })
}

#[expect(unsafe_code, reason = "unshare(2)")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the call is unsafe only with CLONE_FILES, which would take the descriptor table from the
    // other threads; no caller in this module passes it.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn write_map(path: &'static str, text: &str) -> Result<(), EnterError> {
    // One write call: the kernel takes each of these files in one piece.
    fs::write(path, text).map_err(|source| EnterError::Map { path, source })
}

/// How many threads this process has; 1 when it cannot be read, so that the kernel has the last word.
pub(crate) fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

fn forbidden_reason(errno: Errno) -> Forbidden {
    decide_reason(errno, &HostSettings::read())
}

/// The settings that decide whether user namespaces are allowed; none where the kernel has no such file.
#[derive(Debug, Default)]
struct HostSettings {
    apparmor_restricts: Option<bool>,
    max_user_namespaces: Option<u64>,
    unprivileged_clone: Option<bool>,
    seccomp_filter: bool,
}

impl HostSettings {
    fn read() -> Self {
        let number = |path: &str| {
            fs::read_to_string(Path::new(path)).ok().and_then(|text| text.trim().parse().ok())
        };
        Self {
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                .map(|value| value != 0),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_clone: number("/proc/sys/kernel/unprivileged_userns_clone")
                .map(|value| value != 0),
            seccomp_filter: fs::read_to_string("/proc/self/status").is_ok_and(|status| {
                status.lines().any(|line| {
                    line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")
                })
            }),
        }
    }
}

fn decide_reason(errno: Errno, settings: &HostSettings) -> Forbidden {
    if settings.max_user_namespaces == Some(0) {
        return Forbidden::LimitZero;
    }
    if errno == Errno::NOSPC || errno == Errno::USERS {
        return Forbidden::LimitReached;
    }
    if errno == Errno::INVAL || errno == Errno::NOSYS {
        return Forbidden::Unsupported;
    }
    if settings.unprivileged_clone == Some(false) {
        return Forbidden::UnprivilegedClone;
    }
    if settings.apparmor_restricts == Some(true) {
        return Forbidden::AppArmor;
    }
    if settings.seccomp_filter { Forbidden::Seccomp } else { Forbidden::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_follows_the_host_settings() {
        let none = HostSettings::default;
        let cases = [
            (
                Errno::NOSPC,
                HostSettings { max_user_namespaces: Some(0), ..none() },
                Forbidden::LimitZero,
            ),
            (
                Errno::NOSPC,
                HostSettings { max_user_namespaces: Some(9), ..none() },
                Forbidden::LimitReached,
            ),
            (Errno::USERS, none(), Forbidden::LimitReached),
            (Errno::INVAL, none(), Forbidden::Unsupported),
            (
                Errno::PERM,
                HostSettings { unprivileged_clone: Some(false), ..none() },
                Forbidden::UnprivilegedClone,
            ),
            (
                Errno::PERM,
                HostSettings { unprivileged_clone: Some(true), seccomp_filter: true, ..none() },
                Forbidden::Seccomp,
            ),
            (
                Errno::PERM,
                HostSettings { apparmor_restricts: Some(true), ..none() },
                Forbidden::AppArmor,
            ),
            (
                Errno::ACCESS,
                HostSettings { apparmor_restricts: Some(true), ..none() },
                Forbidden::AppArmor,
            ),
            (Errno::PERM, none(), Forbidden::Unknown),
        ];
        for (errno, settings, expected) in cases {
            assert_eq!(decide_reason(errno, &settings), expected, "{errno:?} {settings:?}");
        }
    }

    #[test]
    fn a_process_with_threads_is_refused_before_the_kernel_is_asked() {
        // The test runner's own threads make this process a multithreaded one.
        let error = std::thread::spawn(enter_user_namespace).join().unwrap().unwrap_err();
        assert!(matches!(error, EnterError::Threads { threads } if threads >= 2), "{error}");
    }
}
