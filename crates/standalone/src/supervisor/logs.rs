//! Where the outputs of processes go, and who follows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::log::{Directory, Limits, Lines, Stream, Writer};

/// All logs of a mesh, below one folder: `<namespace>/<workload>/<container>/`, and `control/` for the control
/// plane. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Logs {
    root: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    sinks: BTreeMap<PathBuf, watch::Sender<u64>>,
    pumps: JoinSet<()>,
}

/// The log of one container.
#[derive(Clone)]
pub(crate) struct LogSink {
    directory: Directory,
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

impl Logs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, shared: Arc::default() }
    }

    /// The log at a path of names.
    pub(crate) fn sink(&self, names: &[&str]) -> LogSink {
        // Names come from objects: none may lead elsewhere.
        let safe = names.iter().map(|name| name.replace(['/', '\0'], "_"));
        let path = safe
            .filter(|name| name != ".." && name != ".")
            .fold(self.root.clone(), |path: PathBuf, name| path.join(Path::new(&name)));
        LogSink { directory: Directory::new(path.clone()), path, shared: Arc::clone(&self.shared) }
    }
}

impl LogSink {
    /// Its files.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Changes when something is appended, in this run or a later one.
    pub(crate) fn appended(&self) -> watch::Receiver<u64> {
        self.sender().subscribe()
    }

    /// Opens the files of a new run and stores there what comes out of the pipes, until they are closed.
    pub(crate) fn start_run(&self, outputs: [(Receiver, Stream); 2]) -> Result<(), String> {
        let writer = self
            .directory
            .start_run(Limits::default())
            .map_err(|error| format!("cannot write the log {}: {error}", self.path.display()))?;
        let writer = Arc::new(Mutex::new(writer));
        let sender = self.sender();
        sender.send_modify(|count| *count += 1);
        let mut shared = self.lock();
        while shared.pumps.try_join_next().is_some() {}
        for (output, stream) in outputs {
            shared.pumps.spawn(pump(output, stream, Arc::clone(&writer), sender.clone()));
        }
        Ok(())
    }

    fn sender(&self) -> watch::Sender<u64> {
        let mut shared = self.lock();
        shared.sinks.entry(self.path.clone()).or_insert_with(|| watch::Sender::new(0)).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pump(
    mut output: Receiver,
    stream: Stream,
    writer: Arc<Mutex<Writer>>,
    appended: watch::Sender<u64>,
) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 * 1024];
    let store = |line: &[u8], full: bool| {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.append(SystemTime::now(), stream, line, full) {
            // A full disk must not stop the workload: its pipe is still emptied.
            tracing::warn!(%error, "a line of a container's log is lost");
        }
    };
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                lines.push(&buffer[..length], store);
                appended.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
    lines.finish(store);
    appended.send_modify(|count| *count = count.wrapping_add(1));
}
