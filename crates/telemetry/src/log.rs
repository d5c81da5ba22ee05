//! Setting up the log of a process: level, form, and a writer that never stalls.
//!
//! Events are `tracing`'s. Nothing is read from the environment; the level comes from the caller and can be changed
//! while the process runs ([`LogLevel::set`]).

use std::fmt;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::sink::Sink;

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Levels by module: `info`, or `info,heddle_proxy=debug`.
    pub level: String,
    /// The form of lines.
    pub format: LogFormat,
    /// Colours in text lines.
    pub colours: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, colours: false }
    }
}

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one.
    #[error("log level {level:?} cannot be read; an example is info,heddle_proxy=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// The process has a log already, or has none any more.
    #[error("log is set up already or gone")]
    NotOurs,
}

/// Changes what is logged.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogLevel({:?})", self.text())
    }
}

impl LogLevel {
    /// Replaces the levels.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?).map_err(|_| LogError::NotOurs)
    }

    /// The present levels.
    pub fn text(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// Makes `sink` the log of this process. Once per process.
pub fn init(settings: &LogSettings, sink: Sink) -> Result<LogLevel, LogError> {
    let (subscriber, level) = subscriber(settings, move || sink.clone())?;
    subscriber.try_init().map_err(|_| LogError::NotOurs)?;
    Ok(level)
}

/// The same without touching the process, for tests and for logs of one task.
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<W>, LogLevel), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&settings.level)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<_> + Send + Sync> = match settings.format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(settings.colours).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(layer), LogLevel(handle)))
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|source| LogError::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    #[test]
    fn levels_hold_and_change() {
        let memory = Memory::default();
        let writer = memory.clone();
        let settings = LogSettings { level: "warn".to_owned(), ..LogSettings::default() };
        let (subscriber, level) = subscriber(&settings, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("quiet");
            tracing::warn!(peer = "a", "loud");
            let text = memory.take();
            assert!(text.contains("loud peer=\"a\"") && !text.contains("quiet"), "{text}");
            level.set("info").unwrap();
            tracing::info!("heard");
            assert!(memory.take().contains("heard"));
        });
        assert_eq!(level.text(), "");
        assert!(level.set("info").is_err(), "its subscriber is gone");
    }

    #[test]
    fn json_lines_are_json_with_fields_on_top() {
        let memory = Memory::default();
        let writer = memory.clone();
        let settings = LogSettings { format: LogFormat::Json, ..LogSettings::default() };
        let (subscriber, _level) = subscriber(&settings, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::info!(port = 80, "bound"));
        let parsed: serde_json::Value = serde_json::from_str(&memory.take()).unwrap();
        assert_eq!((&parsed["message"], &parsed["port"]), (&"bound".into(), &80.into()));
        assert_eq!(parsed["level"], "INFO");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let Err(error) = filter("heddle=loud") else { panic!("accepted") };
        assert!(error.to_string().contains("heddle=loud"));
    }
}
