//! Where a redirected connection was meant to go.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::SockRef;

/// The destination the client asked for, before redirection; for a connection that was not redirected,
/// or came by TPROXY, its own local address. An IPv4 address is given as such also on a dual-stack
/// socket.
pub fn original_destination(stream: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = canonical(address_of(&socket.local_addr()?)?);
    let asked = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match asked {
        Ok(address) => Ok(canonical(address_of(&address)?)),
        // Not tracked, or a kernel without connection tracking: nothing was translated.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(local)
        }
        Err(error) => Err(error),
    }
}

fn address_of(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an internet socket"))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
