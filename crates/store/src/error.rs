//! Why the store cannot do what was asked, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file's content is damaged.
    #[error("store {path} is damaged: {detail}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The disk, or the owner's quota, is full. Nothing was changed.
    #[error("no space left for the store {path}", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("store {path} is in use by another process", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot access the store {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer heddle has written the file.
    #[error("store {path} has format {found}, this heddle knows up to {known}", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this program knows.
        known: u64,
    },
    /// The text is larger than the store takes.
    #[error("{what} has {bytes} bytes, the store takes at most {max}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl StoreError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => {
                "move the file away, start again and apply your files; certificates are then issued by a new root"
            }
            Self::Full { .. } => "make room and try again; the state before is intact",
            Self::InUse { .. } => "stop the other heddle, or give this one another state directory",
            Self::Io { .. } => "check that the state directory exists and belongs to you",
            Self::Newer { .. } => "use the newer heddle, or another state directory",
            Self::TooLarge { .. } => "apply it in several smaller files",
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::InvalidData => Self::Damaged { path, detail: source.to_string() },
            _ => Self::Io { path, source },
        }
    }

    /// What redb says, in our words.
    pub(crate) fn database(path: &Path, error: impl Into<redb::Error>) -> Self {
        let damaged = |detail: String| Self::Damaged { path: path.to_owned(), detail };
        match error.into() {
            redb::Error::Io(source) => Self::io(path, source),
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path: path.to_owned() },
            // After a failed write the database refuses everything until it is opened again.
            redb::Error::PreviousIo => Self::io(path, io::Error::other("an earlier write failed")),
            redb::Error::Corrupted(detail) => damaged(detail),
            other => damaged(other.to_string()),
        }
    }
}
