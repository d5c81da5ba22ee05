//! The few mounts a workload's namespace needs.
//!
//! All of them act on the mount namespace of the calling thread and need CAP_SYS_ADMIN in the user
//! namespace that owns it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};
use thiserror::Error;

/// A mount was refused.
#[derive(Debug, Error)]
#[error("cannot {action} {}", target.display())]
pub struct MountError {
    /// What was tried, in words.
    pub action: &'static str,
    /// Where.
    pub target: PathBuf,
    /// What the kernel answered.
    pub source: io::Error,
}

impl MountError {
    fn at(action: &'static str, target: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let target = target.to_owned();
        move |errno| Self { action, target, source: errno.into() }
    }
}

/// Cuts this mount namespace off: nothing mounted here is seen elsewhere, and the other way round.
pub fn make_mounts_private() -> Result<(), MountError> {
    let flags = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", flags)
        .map_err(MountError::at("make mounts private under", Path::new("/")))
}

/// Shows `source` (a file or folder) at `target` (of the same sort, already there), with what is
/// mounted below it. Read-only mounts keep the flags the kernel has locked on the source.
pub fn bind_mount(source: &Path, target: &Path, read_only: bool) -> Result<(), MountError> {
    rustix::mount::mount_bind_recursive(source, target)
        .map_err(MountError::at("bind a path at", target))?;
    if !read_only {
        return Ok(());
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | locked_flags(target);
    rustix::mount::mount_remount(target, flags, c"")
        .map_err(MountError::at("make read-only", target))
}

/// Covers a folder with an empty file system in memory of at most `bytes_max` bytes.
pub fn mount_tmpfs(target: &Path, bytes_max: u64) -> Result<(), MountError> {
    let options = std::ffi::CString::new(format!("mode=0755,size={bytes_max}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(MountError::at("mount tmpfs over", target))
}

/// Mounts the proc file system of the calling process's PID namespace, so that only its own processes
/// are seen.
pub fn mount_proc(target: &Path) -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", target, "proc", flags, None::<&std::ffi::CStr>)
        .map_err(MountError::at("mount proc over", target))
}

/// Flags a remount in a user namespace must repeat, since the kernel does not let it drop them.
fn locked_flags(target: &Path) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Stat;
    let Ok(stat) = rustix::fs::statvfs(target) else { return MountFlags::empty() };
    [
        (Stat::NOSUID, MountFlags::NOSUID),
        (Stat::NODEV, MountFlags::NODEV),
        (Stat::NOEXEC, MountFlags::NOEXEC),
        (Stat::NOATIME, MountFlags::NOATIME),
        (Stat::NODIRATIME, MountFlags::NODIRATIME),
        (Stat::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(set, _)| stat.f_flag.contains(*set))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}
