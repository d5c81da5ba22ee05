//! TLS over a TCP connection, without a buffer of its own while nothing moves.
//!
//! rustls is driven through its unbuffered interface: ciphertext is read into one buffer of the thread, and
//! what a record decrypts to goes straight to the caller's. A connection keeps bytes only while a record has
//! come in part or could be written in part. Which peers are acceptable is the configuration's business.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::Buffer;

/// Ciphertext that is read at a time: several whole records.
const READ_BYTES: usize = 64 * 1024;
/// Plaintext that is encrypted at a time.
const WRITE_BYTES: usize = 64 * 1024;
/// What a record adds to its plaintext at most (RFC 8446 section 5.2: header, content type, tag and padding),
/// and how many records `WRITE_BYTES` make.
const OVERHEAD_BYTES: usize = 64 * 8;
/// A handshake whose messages are larger than this is given up.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;

thread_local! {
    static CIPHERTEXT_IN: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES + 32 * 1024]);
    static CIPHERTEXT_OUT: RefCell<Vec<u8>> = RefCell::new(vec![0; WRITE_BYTES + OVERHEAD_BYTES]);
}

/// Why a TLS connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer closed the connection, or it broke.
    #[error("the connection broke during the TLS handshake")]
    Connection(#[from] io::Error),
    /// The peer's messages are larger than any real ones.
    #[error("the TLS handshake is larger than {HANDSHAKE_BYTES_MAX} bytes")]
    TooLarge,
    /// One side refused the other: no common version, a certificate that is not accepted, an alert.
    #[error("the TLS handshake failed")]
    Tls(#[from] rustls::Error),
}

enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// A TLS connection.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Ciphertext of a record that has come in part.
    pending: Vec<u8>,
    /// Ciphertext that the socket did not take yet; while there is any nothing more is encrypted.
    unsent: Vec<u8>,
    /// The peer has said that nothing more will come, or has just closed.
    read_closed: bool,
    close_notify_sent: bool,
    /// The session ended with an error. It must not be asked anything again: what it remembers of a message refers to
    /// bytes that are gone.
    failed: bool,
}

impl TlsStream {
    /// Shakes hands as a server. `prefix` holds ciphertext that was read before; plaintext that comes together
    /// with the end of the handshake goes to `plaintext`.
    pub async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        prefix: &[u8],
        plaintext: &mut Buffer,
    ) -> Result<Box<Self>, HandshakeError> {
        let session = Session::Server(UnbufferedServerConnection::new(config)?);
        Self::shake_hands(tcp, session, prefix, plaintext).await
    }

    /// Shakes hands as a client.
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
        plaintext: &mut Buffer,
    ) -> Result<Box<Self>, HandshakeError> {
        let session = Session::Client(UnbufferedClientConnection::new(config, server_name)?);
        Self::shake_hands(tcp, session, &[], plaintext).await
    }

    async fn shake_hands(
        tcp: TcpStream,
        session: Session,
        prefix: &[u8],
        plaintext: &mut Buffer,
    ) -> Result<Box<Self>, HandshakeError> {
        let mut stream = Box::new(Self {
            tcp,
            session,
            pending: prefix.to_vec(),
            unsent: Vec::new(),
            read_closed: false,
            close_notify_sent: false,
            failed: false,
        });
        std::future::poll_fn(|cx| stream.poll_handshake(cx, plaintext)).await?;
        Ok(stream)
    }

    /// What both sides agreed on, and the peer's certificates.
    pub fn common_state(&self) -> &CommonState {
        match &self.session {
            Session::Client(session) => session,
            Session::Server(session) => session,
        }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &mut Buffer,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            let mut bytes = std::mem::take(&mut self.pending);
            let outcome = self.process(&mut bytes, plaintext);
            if outcome.is_err() {
                // The alert that tells the peer why, if the socket takes it.
                let _ = self.poll_flush(cx);
            }
            let (used, open) = outcome?;
            bytes.drain(..used);
            self.pending = bytes;
            ready!(self.poll_flush(cx))?;
            if open {
                self.pending.shrink_to_fit();
                return Poll::Ready(Ok(()));
            }
            if self.pending.len() > HANDSHAKE_BYTES_MAX {
                return Poll::Ready(Err(HandshakeError::TooLarge));
            }
            let count = ready!(CIPHERTEXT_IN.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(&mut scratch[..READ_BYTES]);
                ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
                self.pending.extend_from_slice(read.filled());
                Poll::Ready(io::Result::Ok(read.filled().len()))
            }))?;
            if count == 0 {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(Err(error.into()));
            }
        }
    }

    /// Processes records; answers how many bytes were used up and whether application data may be sent.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plaintext: &mut Buffer,
    ) -> Result<(usize, bool), rustls::Error> {
        if self.failed {
            return Err(rustls::Error::General("the TLS session has failed before".into()));
        }
        let (unsent, closed) = (&mut self.unsent, &mut self.read_closed);
        let outcome = match &mut self.session {
            Session::Client(session) => drive(session, bytes, plaintext, unsent, closed),
            Session::Server(session) => drive(session, bytes, plaintext, unsent, closed),
        };
        self.failed = outcome.is_err();
        outcome
    }

    /// Reads until at least one byte of plaintext has been added to `buffer`; answers how many were, 0 at the
    /// end. A connection that ends without the peer saying so is an error, since somebody may have cut it.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.len();
        if !self.pending.is_empty() {
            // The handshake may have left whole records.
            let mut bytes = std::mem::take(&mut self.pending);
            self.process_into_pending(&mut bytes, buffer)?;
            if buffer.len() > before {
                return Poll::Ready(Ok(buffer.len() - before));
            }
        }
        CIPHERTEXT_IN.with_borrow_mut(|scratch| {
            loop {
                if self.read_closed {
                    return Poll::Ready(Ok(0));
                }
                let have = self.pending.len();
                // An incomplete record is at most 16 KiB and its overhead, so that this always fits.
                let Some(place) = scratch.get_mut(..have) else {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                };
                place.copy_from_slice(&self.pending);
                // No more is read than the buffer will hold, so that a small buffer stays small.
                let room = buffer
                    .capacity()
                    .saturating_sub(buffer.len())
                    .clamp(crate::BUFFER_BYTES, READ_BYTES);
                let mut read = ReadBuf::new(&mut scratch[have..have + room]);
                ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
                let count = read.filled().len();
                if count == 0 {
                    self.read_closed = true;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                self.pending.clear();
                self.process_into_pending(&mut scratch[..have + count], buffer)?;
                if buffer.len() > before {
                    return Poll::Ready(Ok(buffer.len() - before));
                }
            }
        })
    }

    fn process_into_pending(&mut self, bytes: &mut [u8], buffer: &mut Buffer) -> io::Result<()> {
        let (used, _) = self.process(bytes, buffer).map_err(io::Error::other)?;
        if used < bytes.len() {
            self.pending.extend_from_slice(&bytes[used..]);
        } else if self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Encrypts from the front of `data`, and writes. Answers how many bytes were taken: what was encrypted
    /// counts as taken even where the socket did not take all of the ciphertext; see [`Self::poll_flush`].
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let piece = &data[..data.len().min(WRITE_BYTES)];
        CIPHERTEXT_OUT.with_borrow_mut(|out| {
            let count = self.encrypt(piece, out)?;
            let written = match Pin::new(&mut self.tcp).poll_write(cx, &out[..count]) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.unsent.extend_from_slice(&out[written..count]);
            Poll::Ready(Ok(piece.len()))
        })
    }

    fn encrypt(&mut self, piece: &[u8], out: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let unsent = &mut self.unsent;
        let count = match &mut self.session {
            Session::Client(session) => seal(session, piece, out, unsent),
            Session::Server(session) => seal(session, piece, out, unsent),
        }?;
        if unsent.is_empty() {
            return Ok(count);
        }
        // A key update goes before the record that was encrypted after it.
        unsent.extend_from_slice(&out[..count]);
        Ok(0)
    }

    /// Writes ciphertext that is left over.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match Pin::new(&mut self.tcp).poll_write(cx, &self.unsent[sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.unsent.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        if self.unsent.capacity() > 0 {
            self.unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_notify_sent && !self.failed {
            self.close_notify_sent = true;
            self.queue_close_notify()?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn queue_close_notify(&mut self) -> io::Result<()> {
        match &mut self.session {
            Session::Client(session) => close(session, &mut self.unsent),
            Session::Server(session) => close(session, &mut self.unsent),
        }
    }

    pub(crate) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Whether the last record came whole and nothing waits to be sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.unsent.is_empty() && !self.read_closed
    }
}

/// The step that both kinds of session have.
trait Process {
    type Data;

    fn turn<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn turn<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn turn<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

/// Takes turns until more bytes are wanted or data may be sent; answers how many bytes were used up and whether
/// data may be sent. What the session itself has to say is added to `unsent`.
fn drive(
    session: &mut impl Process,
    bytes: &mut [u8],
    plaintext: &mut Buffer,
    unsent: &mut Vec<u8>,
    read_closed: &mut bool,
) -> Result<(usize, bool), rustls::Error> {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = session.turn(&mut bytes[used..]);
        let mut discarded = discard;
        let mut end = None;
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                // The alert comes first of what is left to be said; no other turn may follow.
                let rest = &mut bytes[used + discard..];
                if let Ok(ConnectionState::EncodeTlsData(mut alert)) = session.turn(rest).state {
                    let _ = encode(&mut alert, unsent);
                }
                return Err(error);
            }
        };
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    plaintext.append(record.payload);
                    discarded += record.discard;
                }
            }
            ConnectionState::EncodeTlsData(mut data) => encode(&mut data, unsent)?,
            // Whoever called flushes before anything else is sent.
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            ConnectionState::WriteTraffic(_) => end = Some(true),
            ConnectionState::BlockedHandshake => end = Some(false),
            ConnectionState::PeerClosed => *read_closed = true,
            ConnectionState::Closed => {
                *read_closed = true;
                end = Some(false);
            }
            // Early data is never accepted by the mesh's configuration.
            _ => return Err(rustls::Error::General("unexpected state of a TLS session".into())),
        }
        used += discarded;
        if let Some(open) = end {
            return Ok((used, open));
        }
    }
}

fn encode<Data>(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, Data>,
    unsent: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let start = unsent.len();
    let mut room = 4096;
    loop {
        unsent.resize(start + room, 0);
        match data.encode(&mut unsent[start..]) {
            Ok(count) => {
                unsent.truncate(start + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size;
            }
            Err(error) => {
                unsent.truncate(start);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

/// Encrypts `piece` into `out`, and answers how many bytes that made.
fn seal(
    session: &mut impl Process,
    piece: &[u8],
    out: &mut [u8],
    unsent: &mut Vec<u8>,
) -> io::Result<usize> {
    loop {
        match session.turn(&mut []).state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                return traffic.encrypt(piece, out).map_err(io::Error::other);
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, unsent).map_err(io::Error::other)?;
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            // The peer may go on reading after it has said that it will not write.
            ConnectionState::PeerClosed => {}
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Adds the alert that ends this direction.
fn close(session: &mut impl Process, unsent: &mut Vec<u8>) -> io::Result<()> {
    loop {
        match session.turn(&mut []).state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let start = unsent.len();
                unsent.resize(start + 64, 0);
                // Where it cannot be said any more, the close itself has to do.
                let count = traffic.queue_close_notify(&mut unsent[start..]).unwrap_or_default();
                unsent.truncate(start + count);
                return Ok(());
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, unsent).map_err(io::Error::other)?;
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            ConnectionState::PeerClosed => {}
            _ => return Ok(()),
        }
    }
}
