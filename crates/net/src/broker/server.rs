//! The answering end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{Error, Grant, Refusal, Request, adopt, decode_request, encode_reply, receive, send};

/// Receives requests. Whoever holds it decides what is granted.
pub struct Server {
    socket: Arc<UnixStream>,
}

/// One request that waits for its reply.
pub struct Call {
    /// What is asked for.
    pub request: Request,
    id: u64,
    socket: Arc<UnixStream>,
}

impl Server {
    /// Takes one end of [`super::pair`]. Must be called inside a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: Arc::new(adopt(socket)?) })
    }

    /// The next request; none when the client is gone. A message that is no request is an error, after which
    /// the socket should be dropped. Safe to drop while waiting.
    pub async fn accept(&self) -> Result<Option<Call>, Error> {
        let Some((text, _)) =
            self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?
        else {
            return Ok(None);
        };
        match decode_request(&text) {
            Some((id, request)) => Ok(Some(Call { request, id, socket: Arc::clone(&self.socket) })),
            None => Err(Error::Protocol(text)),
        }
    }
}

impl Call {
    /// Answers. An error means that the client is gone.
    pub async fn reply(self, reply: Result<Grant, Refusal>) -> io::Result<()> {
        let text = encode_reply(self.id, &reply);
        let descriptor = match &reply {
            Ok(Grant::Descriptor(descriptor)) => Some(descriptor),
            _ => None,
        };
        self.socket.async_io(Interest::WRITABLE, || send(&self.socket, &text, descriptor)).await
    }
}
