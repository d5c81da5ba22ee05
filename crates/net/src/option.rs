//! Options and registrations of descriptors that no safe crate offers, one `unsafe` call each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sets an option whose value is a C `int`.
#[expect(unsafe_code, reason = "setsockopt(2)")]
pub(crate) fn set_int(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    const BYTES: libc::socklen_t = 4;
    let value: libc::c_int = value;
    // SAFETY: the descriptor is borrowed, so it is open for the length of the call; the pointer and
    // the length describe `value`, which outlives the call and is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            BYTES,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a descriptor within tokio; must be called in its runtime.
#[expect(unsafe_code, reason = "tokio cannot see that a descriptor stays the same one")]
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor at every call of `as_raw_fd` and closes it
    // only when it is dropped, which `AsyncFd` does after it has taken it out of the poller.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_value_and_reports_refusals() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        set_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1).unwrap();
        assert!(socket.broadcast().unwrap());
        set_int(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 0).unwrap();
        assert!(!socket.broadcast().unwrap());
        let error = set_int(&socket, libc::SOL_SOCKET, 0x7fff, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
