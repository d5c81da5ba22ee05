//! Lines that go out through a thread of their own, bounded: whoever writes one never waits for the reader.
//!
//! Two buffers take turns: writers append to one under a short lock while the thread writes the other. When the
//! reader is slower than the lines come, lines are dropped and counted. Nothing wakes while nothing is written.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Capacity that a buffer keeps when it is empty.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

/// Bounds of a [`Sink`].
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Bytes that may wait; a line that would exceed them is dropped.
    pub waiting_bytes_max: usize,
    /// How long a line may wait for company, so that a busy proxy writes often enough but not line by line.
    pub flush_after: Duration,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self { waiting_bytes_max: 1024 * 1024, flush_after: Duration::from_millis(100) }
    }
}

/// Where lines go; cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    settings: SinkSettings,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    closed: bool,
}

/// Keeps the thread of a [`Sink`]; dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct SinkGuard {
    sink: Sink,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts the thread. The guard must live as long as lines are to go out.
    pub fn spawn(
        name: &str,
        mut writer: impl Write + Send + 'static,
        settings: SinkSettings,
    ) -> io::Result<(Self, SinkGuard)> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            settings,
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || of_thread.write_until_closed(&mut writer))?;
        let sink = Self(shared);
        Ok((sink.clone(), SinkGuard { sink, thread: Some(thread) }))
    }

    /// Hands over a line, with its line feed. Says whether it was taken; a dropped one is counted.
    pub fn write_line(&self, line: &[u8]) -> bool {
        let shared = &self.0;
        let mut state = shared.lock();
        if state.closed || state.waiting.len() + line.len() > shared.settings.waiting_bytes_max {
            drop(state);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(line);
        let half = shared.settings.waiting_bytes_max / 2;
        let wake = before == 0 || (before < half && state.waiting.len() >= half);
        drop(state);
        if wake {
            shared.changed.notify_one();
        }
        true
    }

    /// Lines dropped so far because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Writes that failed so far; what they held is lost.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// One write is one line: this is how `tracing-subscriber` writes events.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SinkGuard {
    fn drop(&mut self) {
        self.sink.0.lock().closed = true;
        self.sink.0.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_closed(&self, writer: &mut dyn Write) {
        let mut taken = Vec::new();
        while self.take(&mut taken) {
            if writer.write_all(&taken).and_then(|()| writer.flush()).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            taken.clear();
            // A burst's buffer is not kept.
            taken.shrink_to(BUFFER_BYTES_KEPT);
        }
    }

    /// Waits for lines and swaps the buffers; false when there are none and will be none.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let end = Instant::now() + self.settings.flush_after;
        while !state.closed && state.waiting.len() < self.settings.waiting_bytes_max / 2 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(taken, &mut state.waiting);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Gate {
        open: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(io::Error::other)?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate(bytes_max: usize) -> (Sink, SinkGuard, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (key, open) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let settings =
            SinkSettings { waiting_bytes_max: bytes_max, flush_after: Duration::from_millis(1) };
        let writer = Gate { open, written: written.clone() };
        let (sink, guard) = Sink::spawn("test", writer, settings).unwrap();
        (sink, guard, key, written)
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (sink, guard, key, written) = gate(1 << 20);
        let lines: Vec<String> = (0..1_000).map(|line| format!("{line}\n")).collect();
        let expected = lines.concat();
        for line in expected.split_inclusive('\n') {
            assert!(sink.write_line(line.as_bytes()));
        }
        for _ in 0..1_000 {
            let _ = key.send(());
        }
        drop(guard);
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), expected);
        assert_eq!(sink.dropped(), 0);
        assert!(!sink.write_line(b"late\n"), "nobody would write it");
    }

    #[test]
    fn a_stuck_reader_costs_lines_but_never_time() {
        let (sink, guard, key, written) = gate(1_000);
        // The thread may have taken one buffer; a second one fits besides.
        let taken = (0..1_000).filter(|_| sink.write_line(b"0123456789")).count();
        assert!((100..=200).contains(&taken), "{taken}");
        assert_eq!(sink.dropped(), 1_000 - taken as u64);
        for _ in 0..100 {
            let _ = key.send(());
        }
        drop(guard);
        assert_eq!(written.lock().unwrap().len(), taken * 10, "every line is whole");
    }

    #[test]
    fn a_reader_that_is_gone_is_counted() {
        let (sink, guard, key, _) = gate(1_000);
        drop(key);
        assert!(sink.write_line(b"x\n"));
        drop(guard);
        assert_eq!(sink.failed(), 1);
    }
}
