//! Being told to stop.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// SIGTERM or SIGINT. Must be called inside a runtime; the signals are taken over at once.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
