//! Asking another process for descriptors: the protocol between a proxy and its supervisor, and between the
//! supervisor and the broker in the host's namespaces.
//!
//! A workload's network namespace has no way out and no way to the control plane. What a proxy needs from
//! outside it asks for over a Unix socket pair inherited at its start, and gets as a descriptor: a connection
//! to the control plane under its own identity, a connection to an address outside the mesh, the addresses of
//! an external name. One packet (`SOCK_SEQPACKET`) is one message, so that a descriptor always belongs to
//! exactly one reply. This module carries messages; whether a request is granted is its server's decision.
//!
//! Messages are one line of text: `<id> <verb> <argument>` and `<id> ok|error …`. Several requests may be
//! under way at once; replies come in any order.

mod client;
mod server;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub use client::{Client, Driver};
pub use server::{Call, Server};

/// The longest message in bytes; a longer one is refused by the sender.
const MESSAGE_BYTES_MAX: usize = 2048;
/// The most addresses in one answer; what an answer has more is left off.
const ADDRESSES_MAX: usize = 32;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A TCP connection from the host's namespaces to an address outside the mesh.
    Connect(SocketAddr),
    /// A connection to the control plane, already introduced as the asking workload.
    Control,
    /// A TCP listener in the host's namespaces. Only the supervisor is granted one.
    Listen(SocketAddr),
    /// A UDP socket bound in the host's namespaces. Only the supervisor is granted one.
    ListenUdp(SocketAddr),
    /// The addresses of a name, by the host's resolver.
    Resolve(String),
}

/// What a granted request yields.
#[derive(Debug)]
pub enum Grant {
    /// The addresses of the name; never empty.
    Addresses(Vec<IpAddr>),
    /// The connected or listening socket: non-blocking, close-on-exec.
    Descriptor(OwnedFd),
}

/// Why a request yields nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// The address to listen on is taken.
    AddressInUse,
    /// The client may not ask for this, or the host does not permit it.
    Denied,
    /// The name does not exist.
    NotFound,
    /// Anything else.
    Other,
    /// Nobody listens at the address.
    Refused,
    /// No answer in time.
    Timeout,
    /// No way to the address.
    Unreachable,
}

impl RefusalKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::AddressInUse, "address-in-use"),
        (Self::Denied, "denied"),
        (Self::NotFound, "not-found"),
        (Self::Other, "other"),
        (Self::Refused, "refused"),
        (Self::Timeout, "timeout"),
        (Self::Unreachable, "unreachable"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, name)| *name == text).map_or(Self::Other, |(kind, _)| *kind)
    }
}

/// A request that its server did not grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind of failure it is, for whoever decides about a retry or a reply.
    pub kind: RefusalKind,
    /// One sentence for the operator, without a line break.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::AddrInUse => RefusalKind::AddressInUse,
            io::ErrorKind::PermissionDenied => RefusalKind::Denied,
            io::ErrorKind::ConnectionRefused => RefusalKind::Refused,
            io::ErrorKind::TimedOut => RefusalKind::Timeout,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown => RefusalKind::Unreachable,
            io::ErrorKind::NotFound => RefusalKind::NotFound,
            _ => RefusalKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end is gone.
    #[error("the supervisor's end of the socket pair is closed")]
    Closed,
    /// The socket failed.
    #[error("the socket pair to the supervisor failed")]
    Io(#[from] io::Error),
    /// The other end does not speak this protocol.
    #[error("unexpected message {0:?} on the socket pair to the supervisor")]
    Protocol(String),
    /// The request was understood and not granted.
    #[error("not granted")]
    Refused(#[from] Refusal),
    /// More requests are under way than the client allows.
    #[error("more than {0} requests to the supervisor are under way")]
    TooMany(usize),
}

/// A connected pair of sockets for this protocol, both non-blocking and close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// Registers a socket of [`pair`] with the runtime. A stream type serves, since only readiness and `sendmsg`
/// are used, which are the same for packets.
fn adopt(socket: OwnedFd) -> io::Result<tokio::net::UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(socket)
}

fn encode_request(id: u64, request: &Request) -> String {
    match request {
        Request::Connect(address) => format!("{id} connect {address}"),
        Request::Control => format!("{id} control"),
        Request::Listen(address) => format!("{id} listen {address}"),
        Request::ListenUdp(address) => format!("{id} listen-udp {address}"),
        Request::Resolve(name) => format!("{id} resolve {name}"),
    }
}

fn decode_request(text: &str) -> Option<(u64, Request)> {
    let (id, rest) = text.split_once(' ')?;
    let (verb, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    let request = match verb {
        "connect" => Request::Connect(argument.parse().ok()?),
        "control" => Request::Control,
        "listen" => Request::Listen(argument.parse().ok()?),
        "listen-udp" => Request::ListenUdp(argument.parse().ok()?),
        "resolve" if !argument.is_empty() => Request::Resolve(argument.to_owned()),
        _ => return None,
    };
    Some((id.parse().ok()?, request))
}

/// The text of a reply; a descriptor travels beside it.
fn encode_reply(id: u64, reply: &Result<Grant, Refusal>) -> String {
    match reply {
        Ok(Grant::Descriptor(_)) => format!("{id} ok descriptor"),
        Ok(Grant::Addresses(addresses)) => {
            let texts: Vec<_> =
                addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect();
            format!("{id} ok addresses {}", texts.join(" "))
        }
        Err(refusal) => {
            let message: String =
                refusal.message.chars().filter(|c| !c.is_control()).take(500).collect();
            format!("{id} error {} {message}", refusal.kind.as_str())
        }
    }
}

fn decode_reply(text: &str, descriptor: Option<OwnedFd>) -> Option<(u64, Result<Grant, Refusal>)> {
    let mut parts = text.splitn(4, ' ');
    let id = parts.next()?.parse().ok()?;
    let reply = match (parts.next()?, parts.next()?, parts.next()) {
        ("ok", "descriptor", None) => Ok(Grant::Descriptor(descriptor?)),
        ("ok", "addresses", Some(list)) => {
            let addresses: Result<Vec<_>, _> =
                list.split(' ').take(ADDRESSES_MAX).map(str::parse).collect();
            Ok(Grant::Addresses(addresses.ok()?))
        }
        ("error", kind, message) => {
            Err(Refusal::new(RefusalKind::parse(kind), message.unwrap_or_default()))
        }
        _ => return None,
    };
    Some((id, reply))
}

/// Sends one message with at most one descriptor. `WouldBlock` when the other end's queue is full.
fn send(socket: impl AsFd, text: &str, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    if text.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    let descriptors = descriptor.map(AsFd::as_fd);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptors {
        let fits = control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        debug_assert!(fits, "the buffer has room for one descriptor");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[io::IoSlice::new(text.as_bytes())], &mut control, flags)?;
    Ok(())
}

/// Receives one message; none when the other end is closed. Descriptors are close-on-exec; all but the first
/// are closed.
fn receive(socket: impl AsFd) -> io::Result<Option<(String, Option<OwnedFd>)>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received =
        rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptor.or(descriptors.next());
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    Ok(Some((text, descriptor)))
}

#[cfg(test)]
mod tests;
