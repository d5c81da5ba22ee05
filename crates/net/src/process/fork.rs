//! The system calls of process creation that have no safe form, each with the condition it needs.
//!
//! All of them are for processes with one thread: in such a process fork copies a consistent world, and
//! everything is allowed afterwards.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::namespace;

/// Which side of a fork this is.
pub(super) enum Side {
    Child,
    /// With the child's id in the parent's PID namespace.
    Parent(i32),
}

/// Copies the process; refused when it has more than one thread.
#[expect(unsafe_code, reason = "fork(2)")]
pub(super) fn fork() -> io::Result<Side> {
    require_one_thread()?;
    // SAFETY: there is one thread, so no lock and no half-done change of another thread is copied.
    side(unsafe { libc::fork() }.into())
}

/// Goes on in a copy of this process that is a child of its parent and in the PID namespace meant for
/// children; the caller itself ends. `report` tells the parent the copy's id.
///
/// The copy waits until that is done: nothing it says can come before its id is known.
pub(super) fn continue_as_sibling(report: impl FnOnce(i32) -> io::Result<()>) -> io::Result<()> {
    let (wait, go_on) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork_sibling()? {
        Side::Child => {
            drop(go_on);
            let mut byte = [0];
            match rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut byte)) {
                Ok(1) => Ok(()),
                // Nobody knows of this process, so it must not go on.
                Ok(_) | Err(_) => exit_now(1),
            }
        }
        Side::Parent(pid) => {
            let told = report(pid).and_then(|()| Ok(rustix::io::write(&go_on, &[1])?));
            exit_now(i32::from(told.is_err()));
        }
    }
}

/// Copies the process such that the copy is a child of this process's parent, which outlives it.
#[expect(unsafe_code, reason = "clone(2)")]
fn fork_sibling() -> io::Result<Side> {
    require_one_thread()?;
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM and without a stack this is fork: the child has a copy of the memory, and
    // there is one thread. The C library does not learn of the copy; it then only has a stale thread id,
    // which matters for recursive locks and `abort`, and these processes take no lock across the call.
    side(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })
}

fn side(result: libc::c_long) -> io::Result<Side> {
    match i32::try_from(result) {
        Ok(0) => Ok(Side::Child),
        Ok(pid) if pid > 0 => Ok(Side::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn require_one_thread() -> io::Result<()> {
    match namespace::thread_count() {
        0 | 1 => Ok(()),
        threads => Err(io::Error::other(format!("the process has {threads} threads, not one"))),
    }
}

/// Takes ownership of a descriptor this process was started with.
#[expect(unsafe_code, reason = "a number becomes an owned descriptor")]
pub(super) fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads; a closed number is an error.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller takes it once, before anything else in this process
    // owns it: numbers 0 to 2 are not owned by the standard library.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that this process was started with under a number agreed with its parent, such as
/// [`super::Plan::descriptors`] gives.
///
/// What is returned is a copy that is not inherited further. The number itself stays open until the process ends,
/// and is not inherited further either.
#[expect(unsafe_code, reason = "fcntl(2) on a number")]
pub fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: duplicating only reads the descriptor table; a closed number is an error.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number was just made by the kernel for this call, so nothing else owns it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    // SAFETY: the flag has no effect on this process's own use of the number, whoever owns it.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok(copy)
}

/// Makes `number` name the same open file; it is inherited over exec. What it named is closed.
#[expect(unsafe_code, reason = "dup2(2)")]
pub(super) fn place(descriptor: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: called only right before exec by a process that uses no owner of `number` afterwards.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if result == number { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sees to it that every descriptor from `first` on is closed at exec. Linux 5.11 and later.
#[expect(unsafe_code, reason = "close_range(2)")]
pub(super) fn close_at_exec_from(first: u32) -> io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or(4);
    // SAFETY: with this flag nothing is closed now; descriptors stay with their owners until exec.
    let result = unsafe { libc::close_range(first, u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor, for an init that uses none.
#[expect(unsafe_code, reason = "close_range(2)")]
pub(super) fn close_all() {
    // SAFETY: called only by a process that from then on makes no call with a descriptor and drops no
    // owner of one: it waits for signals and leaves by `_exit`.
    unsafe { libc::close_range(0, u32::MAX, 0) };
}

/// A set of blocked signals.
pub(super) struct SignalMask(libc::sigset_t);

/// Holds every signal back until it is asked for; gives what was blocked before.
#[expect(unsafe_code, reason = "sigprocmask(2)")]
pub(super) fn block_signals() -> SignalMask {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigfillset` and `pthread_sigmask` fill the two sets in completely before they are read;
    // neither can fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        SignalMask(before.assume_init())
    }
}

/// Blocks exactly what was blocked when the mask was taken.
#[expect(unsafe_code, reason = "sigprocmask(2)")]
pub(super) fn restore_signals(mask: &SignalMask) {
    // SAFETY: the set is a whole one, made by `block_signals`; the old set is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut()) };
}

/// Waits for the next held-back signal.
#[expect(unsafe_code, reason = "sigwait(3)")]
pub(super) fn next_signal() -> i32 {
    let mut all = MaybeUninit::uninit();
    let mut signal = 0;
    // SAFETY: the set is filled in before it is read; `signal` is a live local value.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigwait(all.as_ptr(), &raw mut signal);
    }
    signal
}

/// Ends this process without running what its parent's copy registered for its own end.
#[expect(unsafe_code, reason = "_exit(2)")]
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let result = std::thread::spawn(|| fork().is_err() && fork_sibling().is_err()).join();
        assert!(result.unwrap());
    }

    #[test]
    fn a_closed_number_is_no_descriptor() {
        assert!(inherited(1_000_000).is_err());
        assert!(inherited_descriptor(1_000_000).is_err());
    }

    #[test]
    fn an_inherited_number_is_copied_and_stays_open() {
        use std::io::{Read, Write};
        let (one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
        let copy = inherited_descriptor(one.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), one.as_raw_fd());
        std::os::unix::net::UnixStream::from(copy).write_all(b"x").unwrap();
        (&one).write_all(b"y").unwrap();
        let mut bytes = [0; 2];
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"xy");
    }
}
