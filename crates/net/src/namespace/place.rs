//! Making places for mounts and files where the host has none.
//!
//! A folder of the host cannot be written to, and need not: it is covered by an empty one in memory, in which
//! everything that was there is shown again, and which then takes new entries. For the root itself that is a
//! new root. All of it is seen in the calling thread's mount namespace only, which must be private.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::mount::{MountError, mount_tmpfs};

/// The most entries of a folder that is opened.
const ENTRIES_MAX: usize = 4096;
/// What a cover holds beside its mounts: small files.
const COVER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What was at a place before it was covered.
enum Entry {
    Folder(OwnedFd),
    File(OwnedFd),
    Link(PathBuf),
}

/// Covers a folder such that everything in it is seen as before, and new entries can be made in it.
pub fn open_folder(folder: &Path) -> Result<(), MountError> {
    let failed =
        |source| MountError { action: "open the folder", target: folder.to_owned(), source };
    let entries = entries(folder).map_err(failed)?;
    if folder == Path::new("/") {
        return open_root(entries);
    }
    mount_tmpfs(folder, COVER_BYTES_MAX)?;
    show(folder, entries).map_err(failed)
}

/// Writes a file at a place in an opened folder; what is shown there is taken away first.
pub fn write_file(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // Only a mount can be taken away; a plain entry is replaced below.
    let _ = rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    match fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(target)?;
    io::Write::write_all(&mut file, content)?;
    // Whatever the umask is.
    fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777))
}

/// Makes a symbolic link at a place in an opened folder.
pub fn link(target: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(to, target)
}

fn entries(folder: &Path) -> io::Result<Vec<(OsString, Entry)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entries.len() == ENTRIES_MAX {
            let text = format!("it has more than {ENTRIES_MAX} entries");
            return Err(io::Error::other(text));
        }
        let kind = entry.file_type()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let held = if kind.is_symlink() {
            Entry::Link(fs::read_link(entry.path())?)
        } else {
            match rustix::mount::open_tree(CWD, entry.path(), flags) {
                Ok(tree) if kind.is_dir() => Entry::Folder(tree),
                Ok(tree) => Entry::File(tree),
                // Gone since it was listed, or not this user's to see.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => continue,
                Err(errno) => return Err(errno.into()),
            }
        };
        entries.push((entry.file_name(), held));
    }
    Ok(entries)
}

fn show(folder: &Path, entries: Vec<(OsString, Entry)>) -> io::Result<()> {
    for (name, entry) in entries {
        let place = folder.join(name);
        let tree = match entry {
            Entry::Link(to) => {
                symlink(to, place)?;
                continue;
            }
            Entry::Folder(tree) => {
                fs::create_dir(&place)?;
                tree
            }
            Entry::File(tree) => {
                fs::File::create_new(&place)?;
                tree
            }
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(tree.as_fd(), "", CWD, &place, flags)?;
    }
    Ok(())
}

/// The root cannot be covered for a process that stands on it: it gets a new one.
fn open_root(entries: Vec<(OsString, Entry)>) -> Result<(), MountError> {
    let root = Path::new("/");
    let failed = |source| MountError { action: "open the folder", target: root.to_owned(), source };
    // Any folder serves as the place of the new root until it is the root.
    let place = entries
        .iter()
        .find(|(_, entry)| matches!(entry, Entry::Folder(_)))
        .map(|(name, _)| root.join(name))
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    mount_tmpfs(&place, COVER_BYTES_MAX)?;
    show(&place, entries).map_err(failed)?;
    let here = std::env::current_dir().ok();
    let enter = || -> io::Result<()> {
        std::env::set_current_dir(&place)?;
        // The old root ends up over the new one, from where it is taken away.
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        std::env::set_current_dir(root)
    };
    enter().map_err(failed)?;
    if let Some(here) = here {
        // The folder of before is seen at the same path; where it is not, the root serves.
        let _ = std::env::set_current_dir(here);
    }
    Ok(())
}
