//! Reading the files back: the last lines, and following.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Directory, rotated};

/// More rotated files than any [`super::Limits`] keeps.
const ROTATIONS_MAX: u32 = 100;

/// What to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// The run before the last instead of the last.
    pub previous: bool,
    /// Only so many lines from the end; none is all.
    pub tail: Option<usize>,
    /// Keep the time before each line.
    pub timestamps: bool,
}

/// Reads the log of one run from a point on, across rotations.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    partial: Vec<u8>,
    timestamps: bool,
}

impl Directory {
    /// The lines stored so far, each with its line break, and a follower for what comes after them; none when
    /// the container has not run (or not twice, for the previous run).
    pub fn read(&self, options: ReadOptions) -> io::Result<Option<(Vec<u8>, Follower)>> {
        let mut runs = self.runs();
        let last = runs.pop();
        let Some(run) = (if options.previous { runs.pop() } else { last }) else {
            return Ok(None);
        };
        let path = self.file(run);
        // The current file first: what is rotated away while the older ones are read is then read twice at
        // worst, and never lost.
        let mut file = File::open(&path)?;
        let mut current = Vec::new();
        file.read_to_end(&mut current)?;
        let complete = current.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let follower = Follower {
            path,
            file,
            partial: current.split_off(complete),
            timestamps: options.timestamps,
        };
        let mut parts = VecDeque::from([current]);
        let mut lines = count_lines(&parts[0]);
        for index in 1..ROTATIONS_MAX {
            if options.tail.is_some_and(|tail| lines >= tail) {
                break;
            }
            let Ok(older) = fs::read(rotated(&follower.path, index)) else { break };
            lines += count_lines(&older);
            parts.push_front(older);
        }
        let skip = options.tail.map_or(0, |tail| lines.saturating_sub(tail));
        let mut output = Vec::new();
        let records = parts.iter().flat_map(|part| part.split_inclusive(|byte| *byte == b'\n'));
        for record in records.skip(skip) {
            follower.render(record, &mut output);
        }
        Ok(Some((output, follower)))
    }
}

impl Follower {
    /// What was stored since the last call; empty when nothing was.
    pub fn read_more(&mut self) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        loop {
            self.file.read_to_end(&mut self.partial)?;
            let complete =
                self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let rest = self.partial.split_off(complete);
            let records = std::mem::replace(&mut self.partial, rest);
            for record in records.split_inclusive(|byte| *byte == b'\n') {
                self.render(record, &mut output);
            }
            let Some(next) = self.file_after_own()? else { return Ok(output) };
            // The writer never appends to a rotated file: what is behind its end now is all there will be.
            if self.file.read_to_end(&mut self.partial)? == 0 {
                self.file = next;
            }
        }
    }

    /// The file that was begun when this follower's one was rotated away; none while it is the current one.
    /// Where rotations have removed it, the oldest that is left.
    fn file_after_own(&self) -> io::Result<Option<File>> {
        let own = self.file.metadata()?.ino();
        let mut newer = None;
        for index in 0..ROTATIONS_MAX {
            let Ok(file) = File::open(rotated(&self.path, index)) else { break };
            if file.metadata()?.ino() == own {
                break;
            }
            newer = Some(file);
        }
        Ok(newer)
    }

    /// One stored record as it is shown.
    fn render(&self, record: &[u8], output: &mut Vec<u8>) {
        let mut fields = record.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_stream), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            output.extend_from_slice(record);
            return;
        };
        if self.timestamps {
            output.extend_from_slice(time);
            output.push(b' ');
        }
        // Pieces of one line are put together again, but for the times between them.
        let joined = tag == b"P" && !self.timestamps;
        output.extend_from_slice(if joined { &text[..text.len() - 1] } else { text });
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}
