//! A file that is put aside when it has grown: `audit.log`, `audit.log.1`, `audit.log.2`, …, the oldest of which goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bounds of a [`RotatingFile`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotationSettings {
    /// A file that has reached this size is put aside; a line is never split.
    pub file_bytes_max: u64,
    /// Files that are kept besides the one that is written.
    pub files_kept: u32,
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self { file_bytes_max: 64 * 1024 * 1024, files_kept: 4 }
    }
}

/// A file of lines, readable by its owner only.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    settings: RotationSettings,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Opens a file to write behind what it has.
    pub fn open(path: impl Into<PathBuf>, settings: RotationSettings) -> io::Result<Self> {
        let path = path.into();
        let file = open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, settings, file, bytes })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.settings.files_kept == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (1..self.settings.files_kept).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.settings.files_kept > 0 {
            fs::rename(&self.path, numbered(1))?;
        }
        self.file = open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for RotatingFile {
    /// Takes all of it: what a [`crate::Sink`] hands over is whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let length = line.len() as u64;
            if self.bytes > 0 && self.bytes + length > self.settings.file_bytes_max {
                self.put_aside()?;
            }
            self.file.write_all(line)?;
            self.bytes += length;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_put_aside_whole_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let settings = RotationSettings { file_bytes_max: 10, files_kept: 2 };
        let mut file = RotatingFile::open(&path, settings).unwrap();
        file.write_all(b"one\ntwo\nthree\nfour\n").unwrap();
        drop(file);
        let mut file = RotatingFile::open(&path, settings).unwrap();
        file.write_all(b"five\na line that is longer\nsix\n").unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "six\n");
        assert_eq!(read("audit.log.1"), "a line that is longer\n");
        assert_eq!(read("audit.log.2"), "four\nfive\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
