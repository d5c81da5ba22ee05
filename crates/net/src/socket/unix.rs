//! Unix sockets only their owner may use, and who is at the other end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

/// A connected pair of Unix stream sockets; neither is inherited by a child unless it is told so.
pub fn socket_pair() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

/// Listens at a path, mode 0600 from the first moment on.
///
/// A socket file whose listener is gone is replaced; one that still answers is an `AddrInUse` error.
/// The file stays when the listener is dropped.
pub fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    match bind_private(path) {
        // A file that is no socket refuses connections too, so its type is looked at first.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) => {
            match UnixStream::connect(path) {
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    bind_private(path)
                }
                Ok(_) | Err(_) => Err(error),
            }
        }
        result => result,
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the mode of the unbound socket, less the umask; changing the file
    // afterwards would leave a moment in which others may connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Who opened the other end of a Unix socket, as the kernel recorded it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id in the caller's PID namespace; 0 when the process is not visible from it.
    pub pid: i32,
    /// User id in the caller's user namespace; 65534 when it has none there.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
}

/// Asks who is at the other end of a connected Unix socket.
#[expect(unsafe_code, reason = "getsockopt(2): the safe crate cannot express a pid of 0")]
pub fn peer_credentials(stream: &impl AsFd) -> io::Result<PeerCredentials> {
    use std::os::fd::AsRawFd;
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&credentials)).unwrap_or(12);
    // SAFETY: the descriptor is borrowed for the call; the pointers describe two live local values of
    // the sizes given, and every bit pattern is a valid `ucred`.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut credentials).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let libc::ucred { pid, uid, gid } = credentials;
    Ok(PeerCredentials { pid, uid, gid })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = listen_unix(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let error = listen_unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = listen_unix(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        second.accept().unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "x").unwrap();
        listen_unix(&path).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x");
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = socket_pair().unwrap();
        let credentials = peer_credentials(&one).unwrap();
        assert_eq!(credentials.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
        assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
        let file = tempfile::tempfile().unwrap();
        peer_credentials(&file).unwrap_err();
    }
}
