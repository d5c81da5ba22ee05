//! Capture of what goes over an interface, to show what is on the wire.
//!
//! For tests and diagnosis: frames are copied into a bounded buffer by a thread of their own. Nothing
//! is changed or held up. Needs CAP_NET_RAW in the user namespace that owns the network namespace.

mod frame;

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

pub use frame::{Segment, TcpStreams};

use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::netlink::{NetlinkError, RouteSocket};

/// The largest frame: an unsegmented packet of 64 KiB and its Ethernet header.
const FRAME_BYTES_MAX: usize = 64 * 1024 + 64;

/// A capture was not possible.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The namespace or the interface is not there.
    #[error("cannot find the interface {interface}")]
    Interface {
        /// Its name.
        interface: String,
        /// Why not.
        source: NetlinkError,
    },
    /// The namespace cannot be entered.
    #[error("cannot reach the network namespace")]
    Namespace(#[from] NamespaceError),
    /// No packet socket, or it failed.
    #[error("cannot capture on {interface}")]
    Socket {
        /// The interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
}

/// A capture that is going on. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    interface: String,
    stop: OwnedFd,
    thread: Option<JoinHandle<io::Result<Captured>>>,
}

/// What was captured.
#[derive(Debug, Default)]
pub struct Captured {
    /// Frames with their Ethernet headers, both directions, in order.
    pub frames: Vec<Vec<u8>>,
    /// Frames for which the buffer had no room. A capture that must show an absence has none.
    pub dropped: u64,
}

impl Capture {
    /// Captures on an interface of a namespace from now on, `bytes_max` bytes at most.
    pub fn start(
        namespace: &NetworkNamespace,
        interface: &str,
        bytes_max: usize,
    ) -> Result<Self, CaptureError> {
        let index = RouteSocket::open_in(namespace)
            .and_then(|mut socket| socket.link(interface))
            .map_err(|source| CaptureError::Interface { interface: interface.to_owned(), source })?
            .index;
        let error = |source| CaptureError::Socket { interface: interface.to_owned(), source };
        let socket = namespace.scoped(|| packet_socket(index))?.map_err(error)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| error(errno.into()))?;
        let stopped = stop.try_clone().map_err(error)?;
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || collect(socket, &stopped, bytes_max))
            .map_err(error)?;
        Ok(Self { interface: interface.to_owned(), stop, thread: Some(thread) })
    }

    /// Ends the capture; everything that went over the interface before this call is in it.
    pub fn finish(mut self) -> Result<Captured, CaptureError> {
        let result = self.end().unwrap_or_else(|| Ok(Captured::default()));
        result.map_err(|source| CaptureError::Socket { interface: self.interface.clone(), source })
    }

    fn end(&mut self) -> Option<io::Result<Captured>> {
        let thread = self.thread.take()?;
        // Adding 1 to an event counter that is 0 cannot block or fail.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("the capture panicked"))))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Captured {
    /// The TCP segments with payload among the frames.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.frames.iter().filter_map(|frame| Segment::parse(frame))
    }

    /// What went over each TCP connection, put together by sequence number.
    pub fn streams(&self) -> TcpStreams {
        TcpStreams::assemble(self.frames.iter().map(Vec::as_slice))
    }

    /// Whether some bytes are anywhere in a frame.
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty()
            && self
                .frames
                .iter()
                .any(|frame| frame.windows(needle.len()).any(|part| part == needle))
    }
}

fn collect(mut socket: Socket, stop: &OwnedFd, bytes_max: usize) -> io::Result<Captured> {
    let mut captured = Captured::default();
    let mut bytes = 0;
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let stopped = wait(&socket, stop)?;
        loop {
            match socket.read(&mut buffer) {
                Ok(length) if bytes + length <= bytes_max => {
                    bytes += length;
                    captured.frames.push(buffer[..length].to_vec());
                }
                Ok(_) => captured.dropped += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel's own queue was full.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => captured.dropped += 1,
                // The interface went down; it may come up again.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => break,
                Err(error) => return Err(error),
            }
        }
        if stopped {
            captured.dropped += kernel_dropped(&socket)?;
            return Ok(captured);
        }
    }
}

/// Waits for frames or the end; says whether it is the end.
fn wait(socket: &Socket, stop: &OwnedFd) -> io::Result<bool> {
    loop {
        let mut asked = [PollFd::new(socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut asked, None) {
            Ok(_) => return Ok(!asked[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[expect(unsafe_code, reason = "bind(2) with a packet address, which no safe crate offers")]
fn packet_socket(index: u32) -> io::Result<Socket> {
    // Protocol 0 receives nothing until the socket is bound to the one interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    // Best effort: unprivileged up to the host's limit.
    let _ = socket.set_recv_buffer_size(8 << 20);
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or(17),
        sll_protocol: 3_u16.to_be(), // ETH_P_ALL
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(20);
    // SAFETY: the descriptor is open; pointer and length describe `address`, a whole `sockaddr_ll` that
    // outlives the call and is only read.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    see_everything(&socket, address.sll_ifindex)?;
    Ok(socket)
}

/// Promiscuous for as long as the socket is open: a bridge shows frames between its ports only so.
#[expect(unsafe_code, reason = "setsockopt(2) with a packet option")]
fn see_everything(socket: &Socket, index: i32) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(1),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&membership)).unwrap_or(16);
    // SAFETY: the descriptor is open; pointer and length describe `membership`, a whole `packet_mreq` that
    // outlives the call and is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            std::ptr::from_ref(&membership).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Frames the kernel had no room for.
#[expect(unsafe_code, reason = "getsockopt(2) with a packet option")]
fn kernel_dropped(socket: &Socket) -> io::Result<u64> {
    let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&counts)).unwrap_or(8);
    // SAFETY: the descriptor is open; the pointers describe two live local values of the sizes given,
    // and every bit pattern is a valid `tpacket_stats`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            std::ptr::from_mut(&mut counts).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(u64::from(counts.tp_drops)) } else { Err(io::Error::last_os_error()) }
}
