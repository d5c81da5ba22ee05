//! The person's terminal, lent to a command inside a workload through a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::signal::unix::{SignalKind, signal};

/// A pseudo-terminal whose near end is joined to the person's terminal, which is raw for as long as this lives.
pub(crate) struct Terminal {
    far: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Joins both terminals. Must be called inside a runtime.
    pub(crate) fn open() -> Result<Self> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("cannot make a pseudo-terminal")?;
        grantpt(&near).and_then(|()| unlockpt(&near)).context("cannot use the pseudo-terminal")?;
        let name = ptsname(&near, Vec::new()).context("the pseudo-terminal has no name")?;
        let far = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .context("cannot open the pseudo-terminal")?;
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
        copy_size(&near);
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("cannot set the terminal")?;
        let terminal = Self { far, before };
        join(near)?;
        Ok(terminal)
    }

    /// The end that the command gets.
    pub(crate) fn far(&self) -> BorrowedFd<'_> {
        self.far.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is nobody left to tell if the terminal is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn copy_size(near: &OwnedFd) {
    // A terminal without a size has none to pass on.
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = tcsetwinsize(near, size);
    }
}

/// Copies both ways, and sizes as they change, until the process ends.
fn join(near: OwnedFd) -> Result<()> {
    let mut output = File::from(near.try_clone().context("cannot copy a descriptor")?);
    let mut input = File::from(near.try_clone().context("cannot copy a descriptor")?);
    let mut sizes = signal(SignalKind::window_change()).context("cannot watch the window")?;
    tokio::spawn(async move {
        while sizes.recv().await.is_some() {
            copy_size(&near);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut stdout = std::io::stdout();
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut stdin = std::io::stdin();
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if input.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    Ok(())
}
