//! The proxy's name server: names of the mesh from the index, all others from the host's resolver.
//!
//! Interception sends the workload's questions here. A mesh name is answered without asking anyone, so that
//! names resolve while the control plane is away. What a name means is [`heddle_route::NameTable`]'s decision; this
//! module moves messages. Questions under way are bounded: beyond the bound datagrams are dropped, which a
//! client takes for loss and repeats.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_route::Name;
use heddle_wire::dns::{QUERY_BYTES_MAX, Query, QueryError, ResponseCode, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::names::now_s;

/// Questions under way at a time, over both transports.
const QUESTIONS_MAX: usize = 512;
/// How long a connection may be silent.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the host's resolver, or the endpoints of a headless service, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Virtual addresses are kept for a service's life, endpoints are not.
const TTL_SECONDS: u32 = 30;
const TTL_ENDPOINTS_SECONDS: u32 = 5;
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whom the name server asks.
pub(crate) trait Names: Send + Sync + 'static {
    /// Why the workload may not ask for a name; none: it may.
    fn refuses(&self, name: &str, transport: Transport) -> Option<String>;
    /// Notes what the workload was answered.
    fn learn(&self, name: &str, addresses: &[IpAddr], ttl: Duration);
    /// What is known of a name now.
    fn find(&self, name: &str) -> Name;
    /// The addresses of a service's endpoints, or of those with this name of their own.
    fn endpoints(
        &self,
        host: &heddle_ident::Host,
        port: u16,
        own: Option<&str>,
    ) -> impl Future<Output = Vec<IpAddr>> + Send;
    /// What the host's resolver says; none when the name does not exist.
    fn outside(&self, name: &str) -> impl Future<Output = io::Result<Option<Vec<IpAddr>>>> + Send;
}

/// Answers on all sockets; never returns but for an error of a socket itself.
///
/// A datagram's answer must leave from the very address that its question came to, so each UDP socket is bound to
/// one address, not to all.
pub(crate) async fn serve<N: Names>(
    udp: Vec<UdpSocket>,
    tcp: TcpListener,
    names: Arc<N>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut sockets = JoinSet::new();
    for socket in udp {
        sockets.spawn(serve_udp(Arc::new(socket), names.clone(), permits.clone()));
    }
    sockets.spawn(serve_tcp(tcp, names, permits));
    // The first that ends has failed; the others end with the set.
    sockets.join_next().await.map_or(Ok(()), |ended| ended.unwrap_or_else(|e| Err(e.into())))
}

async fn serve_udp<N: Names>(
    socket: Arc<UdpSocket>,
    names: Arc<N>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let mut buffer = [0; QUERY_BYTES_MAX];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that went away before its answer: told on the next call, of no interest.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let message = buffer[..length].to_vec();
        let (socket, names) = (socket.clone(), names.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&message, Transport::Udp, &*names).await {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, peer).await;
            }
            drop(permit);
        });
    }
}

async fn serve_tcp<N: Names>(
    listener: TcpListener,
    names: Arc<N>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that is gone already; the next one may fare better.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let names = names.clone();
        tokio::spawn(async move {
            // An error ends the connection, which is all that the client needs to know.
            let _ = serve_stream(stream, &*names).await;
            drop(permit);
        });
    }
}

async fn serve_stream<N: Names>(mut stream: TcpStream, names: &N) -> io::Result<()> {
    loop {
        let Ok(length) = timeout(TCP_IDLE_TIMEOUT, stream.read_u16()).await else { return Ok(()) };
        let length = usize::from(length?);
        if length > QUERY_BYTES_MAX {
            return Ok(());
        }
        let mut message = vec![0; length];
        timeout(TCP_IDLE_TIMEOUT, stream.read_exact(&mut message)).await??;
        let Some(answer) = answer(&message, Transport::Tcp, names).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(TCP_IDLE_TIMEOUT, stream.write_all(&framed)).await??;
    }
}

/// The answer to a message; none: it deserves none.
async fn answer<N: Names>(message: &[u8], transport: Transport, names: &N) -> Option<Vec<u8>> {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(QueryError::Answer(refusal)) => return Some(refusal),
        Err(QueryError::Drop) => return None,
    };
    let reply = |code, addresses: &[IpAddr], ttl: u32| {
        // Only what is answered is learned, so that no address counts for a name that was never asked for.
        names.learn(&query.name, addresses, Duration::from_secs(ttl.into()));
        Some(query.answer(code, addresses, ttl, transport))
    };
    if let Some(why) = names.refuses(&query.name, transport) {
        told(&query.name, &why);
        return reply(ResponseCode::Refused, &[], 0);
    }
    match names.find(&query.name) {
        Name::Addresses(addresses) => reply(ResponseCode::NoError, &addresses, TTL_SECONDS),
        Name::Missing => reply(ResponseCode::NameError, &[], TTL_SECONDS),
        Name::Endpoint(own, host, port) => {
            match timeout(ANSWER_TIMEOUT, names.endpoints(&host, port, Some(&own))).await {
                // No replica of that name is no such name; without one yet, the next question may find it.
                Ok(addresses) if addresses.is_empty() => {
                    reply(ResponseCode::NameError, &[], TTL_ENDPOINTS_SECONDS)
                }
                Ok(addresses) => reply(ResponseCode::NoError, &addresses, TTL_ENDPOINTS_SECONDS),
                Err(_) => reply(ResponseCode::ServerFailure, &[], 0),
            }
        }
        Name::Endpoints(host, port) => {
            match timeout(ANSWER_TIMEOUT, names.endpoints(&host, port, None)).await {
                Ok(addresses) => reply(ResponseCode::NoError, &addresses, TTL_ENDPOINTS_SECONDS),
                Err(_) => reply(ResponseCode::ServerFailure, &[], 0),
            }
        }
        Name::Outside => match timeout(ANSWER_TIMEOUT, names.outside(&query.name)).await {
            Ok(Ok(Some(addresses))) => reply(ResponseCode::NoError, &addresses, TTL_SECONDS),
            Ok(Ok(None)) => reply(ResponseCode::NameError, &[], TTL_SECONDS),
            Ok(Err(_)) | Err(_) => reply(ResponseCode::ServerFailure, &[], 0),
        },
    }
}

/// Tells of a question that is refused; a workload can ask as often as it likes, so lines are few.
fn told(name: &str, why: &str) {
    static LINES: Lines = Lines::new();
    if let Some(left_out) = LINES.may_write() {
        let hint = "allow the name under `rules: {dns: …}` there";
        warn!(reason = "authorization_denied", name, why, hint, left_out, "name refused");
    }
}

/// A line a second, and how many were left out since.
struct Lines {
    last_s: AtomicU64,
    left_out: AtomicU64,
}

impl Lines {
    const fn new() -> Self {
        Self { last_s: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    fn may_write(&self) -> Option<u64> {
        let now_s = now_s();
        if self.last_s.swap(now_s, Ordering::Relaxed) == now_s {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fixed(std::sync::Mutex<std::collections::BTreeSet<String>>);

    impl Names for Fixed {
        fn refuses(&self, name: &str, _: Transport) -> Option<String> {
            (name == "secret").then(|| "by a test".to_owned())
        }

        fn learn(&self, name: &str, addresses: &[IpAddr], _: Duration) {
            if !addresses.is_empty() {
                self.0.lock().unwrap().insert(name.to_owned());
            }
        }

        fn find(&self, name: &str) -> Name {
            match name {
                "a" => Name::Addresses(["10.0.0.1".parse().unwrap()].into()),
                "gone" => Name::Missing,
                "h" => Name::Endpoints(heddle_ident::Host::parse("h").unwrap(), 80),
                "h-1" | "h-2" => {
                    Name::Endpoint(name.into(), heddle_ident::Host::parse("h").unwrap(), 80)
                }
                _ => Name::Outside,
            }
        }

        async fn endpoints(
            &self,
            _: &heddle_ident::Host,
            _: u16,
            own: Option<&str>,
        ) -> Vec<IpAddr> {
            match own {
                None => vec!["10.0.0.2".parse().unwrap()],
                Some("h-1") => vec!["10.0.0.3".parse().unwrap()],
                Some(_) => Vec::new(),
            }
        }

        async fn outside(&self, name: &str) -> io::Result<Option<Vec<IpAddr>>> {
            match name {
                "x" => Ok(Some(vec!["1.1.1.1".parse().unwrap()])),
                "broken" => Err(io::Error::other("no resolver")),
                _ => Ok(None),
            }
        }
    }

    /// Knows nobody, and takes its time.
    #[derive(Default)]
    struct Slow(std::sync::atomic::AtomicUsize);

    impl Names for Slow {
        fn refuses(&self, _: &str, _: Transport) -> Option<String> {
            None
        }

        fn learn(&self, _: &str, _: &[IpAddr], _: Duration) {}

        fn find(&self, _: &str) -> Name {
            Name::Outside
        }

        async fn endpoints(&self, _: &heddle_ident::Host, _: u16, _: Option<&str>) -> Vec<IpAddr> {
            Vec::new()
        }

        async fn outside(&self, _: &str) -> io::Result<Option<Vec<IpAddr>>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn so_many_questions_are_under_way() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let names = Arc::new(Slow::default());
        let server = tokio::spawn(serve(vec![udp], tcp, names.clone()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        let asked = || names.0.load(Ordering::Relaxed);
        for _ in 0..QUESTIONS_MAX {
            let before = asked();
            client.send(&question("x")).await.unwrap();
            while asked() == before {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..50 {
            client.send(&question("x")).await.unwrap();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(asked(), QUESTIONS_MAX);
        server.abort();
    }

    fn question(name: &str) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.push(u8::try_from(name.len()).unwrap());
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        message
    }

    #[tokio::test]
    async fn each_kind_of_name_gets_its_answer_over_both_transports() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let names = Arc::new(Fixed::default());
        let server = tokio::spawn(serve(vec![udp], tcp, names.clone()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(udp_address).await.unwrap();
        let mut stream = TcpStream::connect(tcp_address).await.unwrap();
        for (name, code, last) in [
            ("a", 0, Some([10, 0, 0, 1])),
            ("h", 0, Some([10, 0, 0, 2])),
            ("h-1", 0, Some([10, 0, 0, 3])),
            ("h-2", 3, None),
            ("x", 0, Some([1, 1, 1, 1])),
            ("gone", 3, None),
            ("nowhere", 3, None),
            ("broken", 2, None),
            ("secret", 5, None),
        ] {
            let mut answer = [0; 512];
            client.send(&question(name)).await.unwrap();
            let length = client.recv(&mut answer).await.unwrap();
            assert_eq!(answer[3] & 15, code, "{name}");
            if let Some(address) = last {
                assert_eq!(answer[length - 4..length], address, "{name}");
            }
            stream.write_u16(u16::try_from(question(name).len()).unwrap()).await.unwrap();
            stream.write_all(&question(name)).await.unwrap();
            assert_eq!(usize::from(stream.read_u16().await.unwrap()), length, "{name}");
            let mut same = vec![0; length];
            stream.read_exact(&mut same).await.unwrap();
            assert_eq!(same, answer[..length], "{name}");
        }
        let learned: Vec<String> = names.0.lock().unwrap().iter().cloned().collect();
        assert_eq!(learned, ["a", "h", "h-1", "x"]);
        server.abort();
    }
}
