//! The source of the proxy's TCP and UDP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::option;

/// When an idle connection is asked whether its peer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Idle time before the first question; none: the operating system's.
    pub idle: Option<Duration>,
    /// Time between questions; none: the operating system's.
    pub interval: Option<Duration>,
    /// So many without an answer end the connection; none: the operating system's.
    pub retries: Option<u32>,
}

impl Default for KeepAlive {
    /// 180 s, then 4 questions 30 s apart: a peer that vanished is noticed after five minutes.
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_mins(3)),
            interval: Some(Duration::from_secs(30)),
            retries: Some(4),
        }
    }
}

/// Where a connection comes from, as its peer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The kernel's choice.
    #[default]
    Any,
    /// An address of this namespace; the port is the kernel's choice.
    Address(IpAddr),
    /// An address that need not be of this namespace (the original source of a client). Needs
    /// CAP_NET_ADMIN or CAP_NET_RAW, and the routes of an interception with `original_source`.
    Foreign(IpAddr),
}

/// How a listener is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections the kernel holds until they are accepted.
    pub backlog: u32,
    /// Whether several listeners share the port, one for each worker.
    pub reuse_port: bool,
    /// Whether it takes connections for any address (TPROXY). Needs CAP_NET_ADMIN or CAP_NET_RAW.
    pub transparent: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, reuse_port: false, transparent: false }
    }
}

/// A connection was not made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The namespace cannot be entered.
    #[error("cannot open a socket in the workload's network namespace")]
    Namespace(#[from] NamespaceError),
    /// No socket with these options: out of descriptors, or a capability is missing.
    #[error("cannot open a socket to connect to {address}")]
    Open {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The peer or a router refused, or there is no way to it.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {address} within {} ms", timeout.as_millis())]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// The time it had.
        timeout: Duration,
    },
}

/// Opens sockets in one network namespace, with one mark. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct SocketFactory {
    namespace: Option<NetworkNamespace>,
    mark: Option<u32>,
    keep_alive: KeepAlive,
}

impl SocketFactory {
    /// Sockets of the namespace the calling thread is in, without a mark.
    pub fn here() -> Self {
        Self::default()
    }

    /// Sockets of a namespace, whatever thread asks. Needs CAP_SYS_ADMIN in the user namespaces of
    /// both, unless the thread is there already.
    pub fn in_namespace(namespace: NetworkNamespace) -> Self {
        Self { namespace: Some(namespace), ..Self::default() }
    }

    /// The same with a mark; needs CAP_NET_ADMIN or CAP_NET_RAW.
    #[must_use]
    pub fn with_mark(self, mark: u32) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// The same with other keep-alive times.
    #[must_use]
    pub fn with_keep_alive(self, keep_alive: KeepAlive) -> Self {
        Self { keep_alive, ..self }
    }

    /// The namespace sockets come from; none is the calling thread's.
    pub fn namespace(&self) -> Option<&NetworkNamespace> {
        self.namespace.as_ref()
    }

    /// Connects. Dropping the future gives the attempt up.
    pub async fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<TcpStream, ConnectError> {
        self.connect_from(Source::Any, address, timeout).await
    }

    /// Connects under a chosen source address. Dropping the future gives the attempt up.
    pub async fn connect_from(
        &self,
        source: Source,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<TcpStream, ConnectError> {
        let open_error = |source| ConnectError::Open { address, source };
        let socket = self.in_place(|| self.open_stream(address))?.map_err(open_error)?;
        bind_source(&socket, source, address).map_err(open_error)?;
        self.configure(&socket).map_err(open_error)?;
        // Tokio takes an unconnected socket in the form of a stream.
        let socket = TcpSocket::from_std_stream(socket.into());
        match tokio::time::timeout(timeout, socket.connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(ConnectError::Connect { address, source }),
            Err(_) => Err(ConnectError::Timeout { address, timeout }),
        }
    }

    /// Listens for TCP connections. A listener on `[::]` takes IPv4 as well.
    ///
    /// Data is not waited for before a connection is accepted: a server-first protocol has none.
    pub fn listen(&self, address: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
        let listen = || -> io::Result<Socket> {
            let socket = self.open_stream(address)?;
            socket.set_reuse_address(true)?;
            if options.reuse_port {
                socket.set_reuse_port(true)?;
            }
            if options.transparent {
                set_transparent(&socket, address.ip())?;
            }
            if address.is_ipv6() && address.ip().is_unspecified() {
                socket.set_only_v6(false)?;
                if options.transparent {
                    // The IPv4 half of a dual-stack socket has an option of its own.
                    socket.set_ip_transparent_v4(true)?;
                }
            }
            socket.bind(&address.into())?;
            socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
            Ok(socket)
        };
        let socket = self.in_place(listen).map_err(io::Error::other)??;
        TcpListener::from_std(socket.into())
    }

    /// Binds a UDP socket.
    pub fn bind_udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let bind = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
            self.mark_socket(&socket)?;
            socket.set_nonblocking(true)?;
            if address.is_ipv6() && address.ip().is_unspecified() {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            Ok(socket)
        };
        let socket = self.in_place(bind).map_err(io::Error::other)??;
        UdpSocket::from_std(socket.into())
    }

    /// A UDP socket that sends to one address and hears nobody else.
    pub async fn connect_udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.bind_udp(SocketAddr::new(any, 0))?;
        socket.connect(address).await?;
        Ok(socket)
    }

    /// Gives an accepted connection the options of a connected one: no delay, keep-alive.
    pub fn configure(&self, stream: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        let KeepAlive { idle, interval, retries } = self.keep_alive;
        // The kernel takes whole seconds from 1 to 32767, and refuses others.
        let seconds =
            |time: Duration| time.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
        let mut settings = TcpKeepalive::new();
        if let Some(idle) = idle {
            settings = settings.with_time(seconds(idle));
        }
        if let Some(interval) = interval {
            settings = settings.with_interval(seconds(interval));
        }
        if let Some(retries) = retries {
            settings = settings.with_retries(retries.clamp(1, 127));
        }
        socket.set_tcp_keepalive(&settings)
    }

    pub(super) fn in_place<T>(&self, work: impl FnOnce() -> T) -> Result<T, NamespaceError> {
        match &self.namespace {
            Some(namespace) => namespace.scoped(work),
            None => Ok(work()),
        }
    }

    fn open_stream(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        self.mark_socket(&socket)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn mark_socket(&self, socket: &Socket) -> io::Result<()> {
        self.mark.map_or(Ok(()), |mark| socket.set_mark(mark))
    }
}

fn bind_source(socket: &Socket, source: Source, address: SocketAddr) -> io::Result<()> {
    let ip = match source {
        Source::Any => return Ok(()),
        Source::Address(ip) => ip,
        Source::Foreign(ip) => {
            set_transparent(socket, ip)?;
            ip
        }
    };
    if ip.is_ipv4() != address.is_ipv4() {
        let text = format!("the source {ip} is of another family than {address}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // The port is chosen when the destination is known, so that the same one serves many destinations.
    option::set_int(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

fn set_transparent(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn keep_alive_is_what_is_asked_for_and_else_the_systems() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = |keep_alive| {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let socket = SockRef::from(&stream);
            let before = (
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
                socket.tcp_keepalive_retries().unwrap(),
            );
            SocketFactory::here().with_keep_alive(keep_alive).configure(&stream).unwrap();
            assert!(socket.keepalive().unwrap());
            let after = (
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
                socket.tcp_keepalive_retries().unwrap(),
            );
            (before, after)
        };
        let second = Duration::from_secs;
        let (idle, interval) = (Some(second(70)), Some(second(11)));
        let (_, all) = set(KeepAlive { idle, interval, retries: Some(3) });
        assert_eq!(all, (second(70), second(11), 3));
        let (system, none) = set(KeepAlive { idle: None, interval: None, retries: None });
        assert_eq!(system, none);
        // What the kernel does not take becomes the nearest that it takes.
        let (idle, interval) = (Some(second(100_000)), Some(Duration::from_millis(1)));
        let (_, bounded) = set(KeepAlive { idle, interval, retries: Some(1000) });
        assert_eq!(bounded, (second(32_767), second(1), 127));
    }
}
