//! Learned names on their way to a file and back: a file that somebody else has opened, since a proxy sees no state of the
//! mesh. Written whole, soon after something was learned; what was cut off by a crash is passed over in reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::names::{LearnedNames, TEXT_BYTES_MAX, now_s};

/// So much is learned at a time before it is written: a page asks for many names at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes what was written before.
pub(crate) fn read(file: &File, names: &LearnedNames) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while bytes.len() < TEXT_BYTES_MAX {
        match file.read_at(&mut buffer, bytes.len() as u64)? {
            0 => break,
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    names.read(&String::from_utf8_lossy(&bytes), now_s());
    Ok(())
}

/// Writes all names whenever something was learned. Ends when the file cannot be written: names then count until the
/// process ends.
pub(crate) async fn keep(file: File, names: Arc<LearnedNames>) {
    let file = Arc::new(file);
    let mut changes = names.changes();
    // The sender lives in the names.
    while changes.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        let (file, text) = (file.clone(), names.write(now_s()));
        let written = tokio::task::spawn_blocking(move || write(&file, &text)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(error.into())) {
            let hint = "after a restart of this proxy, connections to names need their names to be asked for again";
            return warn!(%error, hint, "learned names cannot be written");
        }
    }
}

fn write(file: &File, text: &str) -> io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_that_is_started_again_knows_the_names() {
        let file = tempfile::tempfile().unwrap();
        write(&file, &"1 1.1.1.1 a-line-of-an-earlier-and-longer-text\n".repeat(3)).unwrap();
        let names = Arc::new(LearnedNames::default());
        read(&file, &names).unwrap();
        let keeping = tokio::spawn(keep(file.try_clone().unwrap(), names.clone()));
        // It listens before anything is learned.
        tokio::task::yield_now().await;
        let address = "192.0.2.1".parse().unwrap();
        names.learn("a.example", &[address], Duration::from_secs(600), now_s());
        let again = LearnedNames::default();
        while again.of(address, now_s()).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            read(&file, &again).unwrap();
        }
        assert_eq!(again.of(address, now_s()), ["a.example"]);
        assert_eq!(file.metadata().unwrap().len(), names.write(now_s()).len() as u64);
        keeping.abort();
    }
}
