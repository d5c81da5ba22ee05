//! The asking end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::{Error, Grant, Refusal, Request, adopt, decode_reply, encode_request, receive, send};

/// The most requests under way at once.
const PENDING_MAX: usize = 1024;

type Reply = Result<Grant, Refusal>;

struct Shared {
    socket: UnixStream,
    /// None once the other end is closed.
    pending: Mutex<Option<Pending>>,
}

#[derive(Default)]
struct Pending {
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
}

/// Asks for descriptors and names. Cheap to clone; may be used from any thread while its [`Driver`] runs.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// Receives the replies of a [`Client`]: [`Driver::run`] must be polled for any request to be answered.
pub struct Driver {
    shared: Arc<Shared>,
}

impl Client {
    /// Takes one end of [`super::pair`], inherited or made. Must be called inside a tokio runtime.
    pub fn new(socket: OwnedFd) -> Result<(Self, Driver), Error> {
        let shared = Arc::new(Shared {
            socket: adopt(socket)?,
            pending: Mutex::new(Some(Pending::default())),
        });
        Ok((Self { shared: Arc::clone(&shared) }, Driver { shared }))
    }

    /// Sends a request and waits for its reply. The server bounds the time; dropping the future gives the
    /// answer up (a descriptor that comes later is closed).
    pub async fn request(&self, request: &Request) -> Result<Grant, Error> {
        let (id, reply) = self.enter()?;
        let _leave = Leave { shared: &self.shared, id };
        let text = encode_request(id, request);
        self.shared
            .socket
            .async_io(Interest::WRITABLE, || send(&self.shared.socket, &text, None))
            .await?;
        Ok(reply.await.map_err(|_| Error::Closed)??)
    }

    /// The same for requests that yield a descriptor.
    pub async fn descriptor(&self, request: &Request) -> Result<OwnedFd, Error> {
        match self.request(request).await? {
            Grant::Descriptor(descriptor) => Ok(descriptor),
            Grant::Addresses(_) => {
                Err(Error::Protocol("addresses in place of a descriptor".into()))
            }
        }
    }

    fn enter(&self) -> Result<(u64, oneshot::Receiver<Reply>), Error> {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = pending.as_mut().ok_or(Error::Closed)?;
        if pending.waiting.len() >= PENDING_MAX {
            return Err(Error::TooMany(PENDING_MAX));
        }
        let id = pending.next_id;
        pending.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        pending.waiting.insert(id, sender);
        Ok((id, receiver))
    }
}

/// Forgets a request whose future is dropped.
struct Leave<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = pending.as_mut() {
            pending.waiting.remove(&self.id);
        }
    }
}

impl Driver {
    /// Hands replies to whoever waits for them, until the other end closes. All requests fail with
    /// [`Error::Closed`] from then on. Dropping it has the same effect.
    pub async fn run(self) -> Result<(), Error> {
        loop {
            let message = self
                .shared
                .socket
                .async_io(Interest::READABLE, || receive(&self.shared.socket))
                .await?;
            let Some((text, descriptor)) = message else { return Ok(()) };
            let Some((id, reply)) = decode_reply(&text, descriptor) else {
                return Err(Error::Protocol(text));
            };
            let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = pending.as_mut().and_then(|pending| pending.waiting.remove(&id));
            if let Some(waiting) = waiting {
                // The receiver may be gone: then the descriptor is closed here.
                let _ = waiting.send(reply);
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        *self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
