//! The directory of one mesh: where its sockets, logs and files are, and the lock that makes it one mesh's.
//!
//! Nothing here starts or stops anything.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use thiserror::Error;

/// The longest path of a Unix socket in bytes (`sun_path` without its final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long the processes of a mesh that was killed may take to be gone.
const END_OF_KILLED_MAX: Duration = Duration::from_secs(10);

/// The state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another mesh runs there.
    #[error("a mesh runs already in {} (process {pid})", directory.display())]
    AlreadyRunning {
        /// The state directory.
        directory: PathBuf,
        /// The process that holds the lock, as it wrote it down; 0 when it could not be read.
        pid: u32,
    },
    /// A file or folder in it could not be made, opened or removed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The path is so long that no socket fits below it.
    #[error("the path of the socket {} is longer than {SOCKET_PATH_BYTES_MAX} bytes", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path is not absolute.
    #[error("the state directory {} is not an absolute path", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
}

impl StateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyRunning { .. } => {
                Some("stop it with `heddle down`, or give this mesh another state directory")
            }
            Self::PathTooLong { .. } => Some("choose a state directory with a shorter path"),
            Self::File { .. } | Self::Relative { .. } => None,
        }
    }

    fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// The paths of one mesh. Cheap to clone; makes nothing by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateDirectory {
    root: PathBuf,
}

impl StateDirectory {
    /// Takes an absolute path; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, StateError> {
        let root = root.into();
        if !root.is_absolute() {
            return Err(StateError::Relative { path: root });
        }
        let state = Self { root };
        let longest = state.supervisor_socket();
        if longest.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(StateError::PathTooLong { path: longest });
        }
        Ok(state)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Sockets and the lock.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The supervisor's HTTP API.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run().join("supervisor.sock")
    }

    /// Where commands to run inside workloads are handed over with their descriptors.
    pub fn exec_socket(&self) -> PathBuf {
        self.run().join("exec.sock")
    }

    /// The control plane's API for people and tools.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// The control plane's stream for proxies and for the supervisor.
    pub fn stream_socket(&self) -> PathBuf {
        self.run().join("stream.sock")
    }

    /// The lock file; holds the id of the process that runs the mesh.
    pub fn lock_file(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// What processes print.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What the supervisor itself has to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisor.log")
    }

    /// Files and volumes of running workloads; emptied at every start.
    pub fn workloads(&self) -> PathBuf {
        self.root.join("workloads")
    }

    /// Makes the directories (0700) and takes the lock. Of a mesh that was killed a moment ago the last
    /// processes may still be ending: they are waited for. Leftovers of earlier runs are removed.
    pub fn lock(&self) -> Result<Lock, StateError> {
        for directory in [self.root.clone(), self.run(), self.logs()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(StateError::file("make the directory", &directory))?;
            // Others may have made it, and less private.
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
                .map_err(StateError::file("make private", &directory))?;
        }
        let path = self.lock_file();
        let error = |source| StateError::File { action: "lock", path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(error)?;
        wait_for_lock(&mut file).map_err(|failure| match failure {
            LockFailure::Held(pid) => {
                StateError::AlreadyRunning { directory: self.root.clone(), pid }
            }
            LockFailure::Io(source) => error(source),
        })?;
        file.set_len(0).map_err(error)?;
        file.rewind().map_err(error)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(error)?;
        self.remove_leftovers()?;
        Ok(Lock { file, state: self.clone() })
    }

    /// Removes sockets and workload files that a killed mesh could not remove.
    fn remove_leftovers(&self) -> Result<(), StateError> {
        let workloads = self.workloads();
        match fs::remove_dir_all(&workloads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::file("remove", &workloads)(error));
            }
            _ => {}
        }
        let run = self.run();
        let entries = fs::read_dir(&run).map_err(StateError::file("read", &run))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "sock") {
                fs::remove_file(&path).map_err(StateError::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The process that runs the mesh; none when nothing runs.
    pub fn running(&self) -> Option<u32> {
        let mut file = File::open(self.lock_file()).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => Some(read_pid(&mut file).unwrap_or(0)),
        }
    }
}

fn wait_for_lock(file: &mut File) -> Result<(), LockFailure> {
    let deadline = Instant::now() + END_OF_KILLED_MAX;
    loop {
        match rustix::fs::flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(LockFailure::Io(errno.into())),
        }
        let pid = read_pid(file).unwrap_or(0);
        let holder_lives = Path::new("/proc").join(pid.to_string()).exists();
        if pid == 0 || holder_lives || Instant::now() >= deadline {
            return Err(LockFailure::Held(pid));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

enum LockFailure {
    Held(u32),
    Io(io::Error),
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Holds the state directory for one mesh. The lock belongs to the open file: a process that inherits the
/// descriptor holds it too, so that it is free only when all of them are gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
    state: StateDirectory,
}

impl Lock {
    /// Removes what a mesh that has ended leaves in the directory and the next one does not need. What cannot be
    /// removed goes at the next start.
    pub fn clean_up(&self) {
        let _ = self.state.remove_leftovers();
    }

    /// A second descriptor of the same lock, to be inherited.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_state_directory_is_for_one_mesh() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(folder.path().join("mesh")).unwrap();
        assert_eq!(state.running(), None);
        fs::create_dir_all(state.logs()).unwrap();
        let lock = state.lock().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(state.root()), mode(&state.logs()), mode(&state.run())], [0o700; 3]);
        let Err(StateError::AlreadyRunning { pid, .. }) = state.lock() else { panic!() };
        assert_eq!(pid, std::process::id());
        assert_eq!(state.running(), Some(pid));
        let shared = lock.share().unwrap();
        drop(lock);
        assert!(state.lock().is_err(), "the inherited descriptor holds the lock");
        drop(shared);
        state.lock().unwrap();
    }

    #[test]
    fn leftovers_of_a_killed_mesh_go_and_logs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(folder.path()).unwrap();
        drop(state.lock().unwrap());
        fs::write(state.supervisor_socket(), "").unwrap();
        fs::write(state.logs().join("kept"), "").unwrap();
        fs::create_dir_all(state.workloads().join("a/b")).unwrap();
        let _lock = state.lock().unwrap();
        assert!(!state.supervisor_socket().exists());
        assert!(!state.workloads().exists());
        assert!(state.logs().join("kept").exists());
    }

    #[test]
    fn paths_that_cannot_hold_a_socket_are_refused() {
        assert!(matches!(StateDirectory::new("x"), Err(StateError::Relative { .. })));
        let long = format!("/{}", "x".repeat(100));
        assert!(matches!(StateDirectory::new(long), Err(StateError::PathTooLong { .. })));
    }
}
