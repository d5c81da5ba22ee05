//! Passing open descriptors between processes (`SCM_RIGHTS`).
//!
//! [`DescriptorChannel`] keeps messages apart and together with their descriptors (a sequenced-packet
//! socket); [`send_descriptors`] and [`receive_descriptors`] do the same once over any Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::option;

/// At most so many descriptors in a message.
pub const DESCRIPTORS_MAX: usize = 32;
/// At most so many bytes in a message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

/// Bytes and the descriptors that came with them.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes; empty at the end of a stream.
    pub payload: Vec<u8>,
    /// The descriptors, in the sender's order, not inherited by children.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends bytes, at least one, and descriptors over a Unix socket. On a stream the answer may be less
/// than the length of the bytes; the descriptors have gone with the first of them.
pub fn send_descriptors(
    socket: impl AsFd,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.len() > DESCRIPTORS_MAX || payload.is_empty() {
        let text = "a message has at least one byte and at most 32 descriptors";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let slices = [IoSlice::new(payload)];
    Ok(rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives up to `bytes_max` bytes and the descriptors with them. A message that is longer, or has
/// more descriptors than allowed, is an error; what came is closed.
pub fn receive_descriptors(socket: impl AsFd, bytes_max: usize) -> io::Result<Message> {
    let mut payload = vec![0; bytes_max];
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut payload)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut slices, &mut ancillary, flags)?;
    let descriptors = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        })
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        let text = "the message is longer or has more descriptors than allowed";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    payload.truncate(received.bytes);
    Ok(Message { payload, descriptors })
}

/// One end of a channel of messages with descriptors; blocking.
#[derive(Debug)]
pub struct DescriptorChannel(OwnedFd);

impl DescriptorChannel {
    /// Both ends of a new channel.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one message of 1 to [`MESSAGE_BYTES_MAX`] bytes.
    pub fn send(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_whole(&self.0, payload, descriptors)
    }

    /// Waits for the next message; none when the other end is closed.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        receive_whole(&self.0)
    }

    /// The same end for tokio; must be called within its runtime.
    pub fn into_async(self) -> io::Result<AsyncDescriptorChannel> {
        rustix::io::ioctl_fionbio(&self.0, true)?;
        Ok(AsyncDescriptorChannel(option::watch(self.0, Interest::READABLE | Interest::WRITABLE)?))
    }
}

/// One end of a channel of messages with descriptors; for tokio.
#[derive(Debug)]
pub struct AsyncDescriptorChannel(AsyncFd<OwnedFd>);

impl AsyncDescriptorChannel {
    /// Sends one message of 1 to [`MESSAGE_BYTES_MAX`] bytes. Cancel safe: it is sent or it is not.
    pub async fn send(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = |socket: &OwnedFd| send_whole(socket, payload, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Waits for the next message; none when the other end is closed. Cancel safe.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        self.0.async_io(Interest::READABLE, receive_whole).await
    }
}

impl From<OwnedFd> for DescriptorChannel {
    /// Takes an end that was received or inherited.
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<DescriptorChannel> for OwnedFd {
    fn from(channel: DescriptorChannel) -> Self {
        channel.0
    }
}

impl AsFd for DescriptorChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn send_whole(socket: &OwnedFd, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if payload.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
    }
    send_descriptors(socket, payload, descriptors).map(|_| ())
}

fn receive_whole(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let message = receive_descriptors(socket, MESSAGE_BYTES_MAX)?;
    Ok((!message.payload.is_empty()).then_some(message))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_their_descriptors() {
        let (one, other) = DescriptorChannel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        one.send(b"first", &[file.as_fd(), one.as_fd()]).unwrap();
        one.send(b"second", &[]).unwrap();
        let first = other.receive().unwrap().unwrap();
        assert_eq!((&first.payload[..], first.descriptors.len()), (&b"first"[..], 2));
        let second = other.receive().unwrap().unwrap();
        assert_eq!((&second.payload[..], second.descriptors.len()), (&b"second"[..], 0));
        let mut same: std::fs::File = first.descriptors.into_iter().next().unwrap().into();
        same.rewind().unwrap();
        let mut text = String::new();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        drop(one);
        assert!(other.receive().unwrap().is_none());
    }

    #[test]
    fn too_much_is_refused_on_both_sides() {
        let (one, other) = DescriptorChannel::pair().unwrap();
        one.send(b"", &[]).unwrap_err();
        one.send(&vec![0; MESSAGE_BYTES_MAX + 1], &[]).unwrap_err();
        one.send(b"x", &[one.as_fd(); DESCRIPTORS_MAX + 1]).unwrap_err();
        one.send(&[7; 100], &[one.as_fd(); DESCRIPTORS_MAX]).unwrap();
        one.send(&[7; 100], &[]).unwrap();
        assert_eq!(other.receive().unwrap().unwrap().descriptors.len(), DESCRIPTORS_MAX);
        receive_descriptors(&other, 99).unwrap_err();
    }

    #[tokio::test]
    async fn the_async_end_waits() {
        let (one, other) = DescriptorChannel::pair().unwrap();
        let other = other.into_async().unwrap();
        let receive = tokio::spawn(async move { other.receive().await });
        tokio::task::yield_now().await;
        one.send(b"late", &[one.as_fd()]).unwrap();
        let message = receive.await.unwrap().unwrap().unwrap();
        assert_eq!((&message.payload[..], message.descriptors.len()), (&b"late"[..], 1));
    }
}
