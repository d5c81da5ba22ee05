//! Sending requests and waiting for the kernel's answers.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::message::{self, Attributes, HEADER_BYTES, Reply, Request};
use crate::namespace::NamespaceError;
use crate::option;

/// `NETLINK_ROUTE`.
pub(crate) const ROUTE: i32 = libc::NETLINK_ROUTE;
/// `NETLINK_NETFILTER`.
pub(crate) const NETFILTER: i32 = libc::NETLINK_NETFILTER;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_CAPPED`: the request is not repeated in the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes with an explanation follow.
const ACK_TLVS: u16 = 0x200;
const EXPLANATION: u16 = 1;
/// Larger than any message of the kernel (it fills dumps in pages of 32 KiB).
const BUFFER_BYTES: usize = 64 * 1024;
/// The kernel answers at once; this only keeps a kernel bug from hanging the caller.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A netlink request failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The namespace could not be entered to open the socket.
    #[error("cannot reach the network namespace")]
    Namespace {
        /// Why.
        source: NamespaceError,
    },
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open {
        /// What the kernel answered.
        source: io::Error,
    },
    /// The request did not leave, or no answer came.
    #[error("netlink gave no answer to: {operation}")]
    Exchange {
        /// What was asked, in words.
        operation: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("the kernel refused to {operation}{}", explanation(detail.as_ref()))]
    Refused {
        /// What was asked, in words.
        operation: String,
        /// The kernel's own explanation, if it gave one.
        detail: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// An IPv6 address was added, but the kernel has not taken it into use.
    #[error("the kernel does not take {address} on link {link} into use")]
    NotInUse {
        /// The address.
        address: IpAddr,
        /// The link's number.
        link: u32,
    },
    /// The named link is not there.
    #[error("there is no link {name}")]
    NoLink {
        /// Its name.
        name: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, when it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Namespace { .. }
            | Self::Open { .. }
            | Self::Exchange { .. }
            | Self::NotInUse { .. }
            | Self::NoLink { .. } => None,
        }
    }
}

fn explanation(detail: Option<&String>) -> String {
    detail.map(|text| format!(" ({text})")).unwrap_or_default()
}

/// A netlink socket and its next sequence number.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    sequence: u32,
}

impl Transport {
    pub(crate) fn open(protocol: i32) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(
                Domain::from(libc::AF_NETLINK),
                Type::RAW,
                Some(Protocol::from(protocol)),
            )?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            // A batch with many errors answers with as many messages. Best effort: the default does
            // for everything that succeeds.
            let _ = socket.set_recv_buffer_size(1 << 20);
            let _ = socket.set_send_buffer_size(1 << 20);
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::Open { source })?;
        // Asks for explanations in words; kernels before 4.12 do without.
        let _ = option::set_int(&socket, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        Ok(Self { socket, sequence: 1 })
    }

    /// Sends one request and waits until the kernel has carried it out.
    pub(crate) fn acknowledged(
        &mut self,
        mut request: Request,
        operation: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        request.set_flags(request.flags() | message::ACK);
        self.exchange(vec![request], |_| operation(), |_| {})
    }

    /// The socket, for what the kernel sends without being asked.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Sends one request and hands each message of the answer to `take`.
    pub(crate) fn dump(
        &mut self,
        mut request: Request,
        operation: impl Fn() -> String,
        take: impl FnMut(Reply<'_>),
    ) -> Result<(), NetlinkError> {
        request.set_flags(request.flags() | message::DUMP);
        self.exchange(vec![request], |_| operation(), take)
    }

    /// Sends requests in one datagram and waits for the answer to the last that asks for one; the first
    /// refusal is the result. `operation` names the request at an index.
    pub(crate) fn exchange(
        &mut self,
        requests: Vec<Request>,
        operation: impl Fn(usize) -> String,
        mut take: impl FnMut(Reply<'_>),
    ) -> Result<(), NetlinkError> {
        let first = self.sequence;
        let count = requests.len();
        let last_index = requests.iter().rposition(is_answered).unwrap_or(0);
        let mut datagram = Vec::new();
        for request in requests {
            datagram.extend_from_slice(&request.finish(self.sequence));
            self.sequence = self.sequence.wrapping_add(1);
        }
        let exchange_error =
            |source| NetlinkError::Exchange { operation: operation(last_index), source };
        self.socket.send(&datagram).map_err(exchange_error)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let received = self.socket.read(&mut buffer).map_err(exchange_error)?;
            for reply in message::replies(&buffer[..received]) {
                let index = reply.sequence.wrapping_sub(first) as usize;
                if index >= count {
                    // An answer to an earlier exchange that was given up.
                    continue;
                }
                match reply.kind {
                    ERROR => match message::read_i32(reply.payload, 0) {
                        Some(0) => {}
                        code => return Err(refusal(&reply, code, operation(index))),
                    },
                    DONE => {}
                    _ => {
                        take(reply);
                        continue;
                    }
                }
                if index == last_index {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the kernel answers a request that it could carry out.
fn is_answered(request: &Request) -> bool {
    let flags = request.flags();
    flags & message::ACK != 0 || flags & message::DUMP == message::DUMP
}

fn refusal(reply: &Reply<'_>, code: Option<i32>, operation: String) -> NetlinkError {
    let source = io::Error::from_raw_os_error(code.map_or(libc::EIO, i32::wrapping_neg));
    NetlinkError::Refused { operation, detail: explain(reply), source }
}

/// The text attribute after the (perhaps repeated) request in an error message.
fn explain(reply: &Reply<'_>) -> Option<String> {
    if reply.flags & ACK_TLVS == 0 {
        return None;
    }
    let repeated = if reply.flags & CAPPED == 0 {
        (message::read_u32(reply.payload, 4)? as usize).next_multiple_of(4)
    } else {
        HEADER_BYTES
    };
    let text = Attributes(reply.payload.get(4 + repeated..)?).text(EXPLANATION)?;
    Some(text.to_owned())
}
