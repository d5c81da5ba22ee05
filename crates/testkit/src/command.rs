//! Commands that end.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{LONG, wait_for};

/// What a command left.
#[derive(Debug)]
pub struct Completed {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Completed {
    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.stdout.trim())
            .unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// Itself, when it succeeded.
    #[track_caller]
    #[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "an assertion")]
    pub fn success(self) -> Self {
        assert!(self.code == Some(0), "{self:#?}");
        self
    }
}

/// A command under way; killed when dropped. It writes to files, so that nothing has to read while it runs.
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    begun: Instant,
    words: String,
}

impl Running {
    /// Starts it; `input` is its standard input.
    #[track_caller]
    pub fn start(mut command: Command, input: &str) -> Self {
        let words = format!("{command:?}");
        let file = || tempfile::tempfile().expect("a temporary file");
        let (stdout, stderr, mut stdin) = (file(), file(), file());
        stdin.write_all(input.as_bytes()).expect("a temporary file can be written");
        stdin.rewind().expect("a file can be read from its start");
        let copy = |file: &File| Stdio::from(file.try_clone().expect("a second descriptor"));
        command.stdin(Stdio::from(stdin)).stdout(copy(&stdout)).stderr(copy(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{words}: {error}"));
        Self { child, stdout, stderr, begun: Instant::now(), words }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to its standard output.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it has written to its standard error.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a signal to an own child");
    }

    /// Waits for its end; panics when it takes longer.
    #[track_caller]
    pub fn end_within(mut self, timeout: Duration) -> Completed {
        let ended = wait_for(timeout, || self.child.try_wait().ok().flatten());
        match ended {
            Some(status) => self.completed(status),
            None => panic!(
                "not ended within {} s: {}\n{}\n{}",
                timeout.as_secs(),
                self.words,
                self.stdout(),
                self.stderr()
            ),
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Completed {
        self.end_within(2 * LONG)
    }

    fn completed(&self, status: ExitStatus) -> Completed {
        Completed {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: self.begun.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a file holds; bytes that are no text are replaced.
fn text(file: &File) -> String {
    let mut bytes = Vec::new();
    let read = |file: &File| -> std::io::Result<Vec<u8>> {
        // A descriptor of its own place: the writer's must not move.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read(file).unwrap_or_default()).into_owned()
}
