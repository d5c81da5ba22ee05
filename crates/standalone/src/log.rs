//! What containers print, kept in files.
//!
//! A container has a folder; each of its runs has a file `<number>.log`, rotated by size into `<number>.log.1`
//! and so on. The last two runs are kept, so that one can read what a crashed container printed. A line is
//! stored as container runtimes do (`<time> <stream> <F|P> <text>`, `P` for a piece of an overlong line).
//! Readers and the one writer share nothing but the files.

mod read;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::timestamp::rfc3339;

pub use read::{Follower, ReadOptions};

/// Bounds of the files of one run of one container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A file that has reached this many bytes is rotated before the next line.
    pub file_bytes_max: u64,
    /// Files kept per run, the current one included; at least 1.
    pub files_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes_max: 10 * 1024 * 1024, files_max: 3 }
    }
}

/// The longest piece of a line; longer lines are stored in pieces.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Runs whose files are kept.
const RUNS_KEPT: usize = 2;

/// Which of a process' outputs a line came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
        }
    }
}

/// The folder of one container's logs.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The folder need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Numbers of the runs that have files, in order; empty when the folder is not there.
    pub fn runs(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut runs: Vec<u32> = entries
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.parse().ok()
            })
            .collect();
        runs.sort_unstable();
        runs
    }

    /// Opens the file of the next run, and removes those of runs that are kept no longer.
    pub fn start_run(&self, limits: Limits) -> io::Result<Writer> {
        fs::create_dir_all(&self.path)?;
        let runs = self.runs();
        let next = runs.last().map_or(0, |run| run.wrapping_add(1));
        for run in &runs[..(runs.len() + 1).saturating_sub(RUNS_KEPT)] {
            let newest = self.file(*run);
            for index in 0..limits.files_max.max(1) {
                let _ = fs::remove_file(rotated(&newest, index));
            }
        }
        Writer::open(self.file(next), limits)
    }

    fn file(&self, run: u32) -> PathBuf {
        self.path.join(format!("{run}.log"))
    }
}

/// Appends lines to the files of one run. The only writer of its files.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
    limits: Limits,
}

impl Writer {
    /// Opens a file for appending.
    pub fn open(path: PathBuf, limits: Limits) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, limits })
    }

    /// Stores a line or, when not `full`, a piece of one. `line` has no line break.
    pub fn append(
        &mut self,
        now: SystemTime,
        stream: Stream,
        line: &[u8],
        full: bool,
    ) -> io::Result<()> {
        if self.bytes >= self.limits.file_bytes_max {
            self.rotate()?;
        }
        let head =
            format!("{} {} {} ", rfc3339(now), stream.as_str(), if full { 'F' } else { 'P' });
        let mut record = Vec::with_capacity(head.len() + line.len() + 1);
        record.extend_from_slice(head.as_bytes());
        record.extend_from_slice(line);
        record.push(b'\n');
        self.file.write_all(&record)?;
        self.bytes += record.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = self.limits.files_max.max(1);
        let _ = fs::remove_file(rotated(&self.path, kept - 1));
        for index in (0..kept - 1).rev() {
            let from = rotated(&self.path, index);
            match fs::rename(&from, rotated(&self.path, index + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

/// The file `index` rotations ago; 0 is the current one.
fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// Cuts a byte stream into lines of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they come and hands out `(line, full)`.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&window[..end]);
                take(&self.partial, true);
                self.partial.clear();
                bytes = &bytes[end + 1..];
            } else {
                self.partial.extend_from_slice(window);
                bytes = &bytes[window.len()..];
                if self.partial.len() == LINE_BYTES_MAX {
                    take(&self.partial, false);
                    self.partial.clear();
                }
            }
        }
    }

    /// The stream has ended: hands out what is left.
    pub fn finish(&mut self, mut take: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            take(&self.partial, true);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests;
