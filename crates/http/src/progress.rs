//! What moves of a request and its response, for whoever ends a stream on which nothing moves.

use std::cell::Cell;

use tokio::time::Instant;

/// When something moved last, and when the request had been sent whole. Shared by the two directions of one exchange.
#[derive(Debug)]
pub struct Progress {
    moved: Cell<Instant>,
    request_ended: Cell<Option<Instant>>,
}

impl Progress {
    /// Nothing has moved since now.
    pub fn new() -> Self {
        Self { moved: Cell::new(Instant::now()), request_ended: Cell::new(None) }
    }

    /// Something moves.
    pub fn note(&self) {
        self.moved.set(Instant::now());
    }

    /// The request has been sent whole.
    pub fn note_request_end(&self) {
        self.request_ended.set(Some(Instant::now()));
    }

    /// The request is sent anew.
    pub fn restart(&self) {
        self.note();
        self.request_ended.set(None);
    }

    /// When something moved last.
    pub fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// When the request had been sent whole; none while it is being sent.
    pub fn request_ended(&self) -> Option<Instant> {
        self.request_ended.get()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
