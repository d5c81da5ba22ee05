//! The supervisor's own log: `logs/supervisor.log`.
//!
//! The supervisor is a copy of the process that has the user's terminal, which it must leave alone: it and all that
//! it starts without a log of their own write here instead.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use heddle_telemetry::log::{LogSettings, init};
use heddle_telemetry::{Sink, SinkGuard, SinkSettings};

use crate::state::StateDirectory;

/// A log that has reached this size is put aside at the next start.
const BYTES_MAX: u64 = 10 * 1024 * 1024;
/// The variable that sets the levels of every part of a mesh.
const LEVEL_VARIABLE: &str = "HEDDLE_LOG";

/// Turns standard output and standard error of this process, and its events, into the log. The guard must live as
/// long as the process logs; without it events are lost, and nothing else.
pub(crate) fn begin(
    state: &StateDirectory,
    environment: &[(String, String)],
) -> io::Result<Option<SinkGuard>> {
    let file = open(state)?;
    rustix::stdio::dup2_stdout(&file)?;
    rustix::stdio::dup2_stderr(&file)?;
    let (sink, guard) = Sink::spawn("log", file, SinkSettings::default())?;
    let level = environment.iter().find(|(name, _)| name == LEVEL_VARIABLE);
    let mut settings = LogSettings::default();
    if let Some((_, level)) = level {
        settings.level.clone_from(level);
    }
    // Where the process had a log before it was copied, that one goes on.
    Ok(init(&settings, sink).is_ok().then_some(guard))
}

fn open(state: &StateDirectory) -> io::Result<File> {
    let path = state.supervisor_log();
    if fs::metadata(&path).is_ok_and(|file| file.len() >= BYTES_MAX) {
        fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
