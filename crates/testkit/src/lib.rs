//! The harness of the live tests. Layer 6.
//!
//! A [`Mesh`] is the built program, run as a person runs it: by its commands and files, in a state directory of its
//! own. Nothing here knows how the program works inside. Everything has an end: commands are killed when they take
//! too long, and a mesh is taken down when its value goes, also when the test panics.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "a harness of tests says by a panic what is not as it should be"
)]

mod command;
mod mesh;
mod processes;

pub use command::{Completed, Running};
pub use mesh::Mesh;
pub use processes::{Process, user_namespace_members};

use std::time::{Duration, Instant};

/// Longer than anything takes, also on a loaded machine.
pub const LONG: Duration = Duration::from_mins(1);
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// Waits until a condition holds; panics with `what` when it does not within [`LONG`].
#[track_caller]
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let found = wait_for(LONG, || condition().then_some(()));
    assert!(found.is_some(), "{what}: not within {} s", LONG.as_secs());
}

/// Asks again and again until there is an answer; none when there was none in time.
pub fn wait_for<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL_PERIOD);
    }
}

/// Whether this machine has the programs that a test needs. Where one is missing the test says so and passes; with
/// `HEDDLE_TEST_NO_SKIPS` in the environment it fails.
#[track_caller]
pub fn has(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().filter(|name| find(name).is_none()).copied().collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("this machine has no {}", missing.join(", no ")));
    false
}

/// Says why a test is skipped, or fails it where nothing may be skipped.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("HEDDLE_TEST_NO_SKIPS").is_none(), "not to be skipped, but {why}");
    // Past the capture of the test harness: a skip that nobody sees is a gap that nobody sees.
    let line = format!("skipped: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Where workloads and tests look for programs: not in what a developer has added to `PATH`, so that a run is the
/// same everywhere.
pub const PROGRAM_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn find(program: &str) -> Option<std::path::PathBuf> {
    let folders = PROGRAM_FOLDERS.split(':');
    folders.map(|folder| std::path::Path::new(folder).join(program)).find(|path| path.is_file())
}
