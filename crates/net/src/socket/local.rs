//! Connections to abstract Unix sockets, which belong to a network namespace as ports do.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use tokio::net::TcpStream;

use super::SocketFactory;

impl SocketFactory {
    /// Connects to an abstract socket of the factory's namespace, named without its zero byte.
    ///
    /// A stream is a stream: what comes back is read, written and shut down like one of TCP, and has neither addresses nor
    /// options of TCP.
    pub fn connect_abstract(&self, name: &str) -> io::Result<TcpStream> {
        let address = SocketAddr::from_abstract_name(name)?;
        let connected = self.in_place(|| UnixStream::connect_addr(&address));
        let stream = connected.map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(stream)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_is_seen() {
        let name = format!("heddle-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut copy = stream.try_clone().unwrap();
            io::copy(&mut stream, &mut copy).unwrap();
        });
        let factory = SocketFactory::default();
        let mut stream = factory.connect_abstract(&name).unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hello");
        server.join().unwrap();
        let missing = factory.connect_abstract("heddle-test-nobody").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::ConnectionRefused);
    }
}
