//! Relaying datagrams: who sends some has a session, which stands for a connection for as long as somebody says something.
//!
//! One task receives for all sessions of a socket; each has a queue of its own, so that one that waits keeps nobody else
//! waiting. Where a session leads, and whether it may, is its owner's decision.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The longest datagram of UDP in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams of one session that wait to be sent on; what comes beyond is dropped, as a router would.
const QUEUE_MAX: usize = 64;
/// After a failed receive (of memory, most likely).
const RECEIVE_PAUSE: Duration = Duration::from_millis(20);

/// One client of a socket: the datagrams of one address and port.
#[derive(Debug)]
pub struct Session<'s> {
    /// Who sends.
    pub client: SocketAddr,
    socket: &'s UdpSocket,
    queue: mpsc::Receiver<Vec<u8>>,
    /// Milliseconds since `began` at which something went either way.
    active_ms: Arc<AtomicU64>,
    began: Instant,
}

/// Bytes that a session carried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// From the client.
    pub sent: u64,
    /// To the client.
    pub received: u64,
}

impl Session<'_> {
    /// Sends what the client says to `server`, a connected socket, and its answers back, until nobody has said anything for
    /// `idle` or the session has had to give way. An error is the server's: nobody listens there, most likely.
    pub async fn exchange(&mut self, server: &UdpSocket, idle: Duration) -> io::Result<Carried> {
        let mut carried = Carried::default();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let next = async {
                tokio::select! {
                    datagram = self.queue.recv() => datagram.map(Ok),
                    received = server.recv(&mut buffer) => Some(Err(received)),
                }
            };
            match tokio::time::timeout(idle, next).await {
                Err(_) | Ok(None) => return Ok(carried),
                Ok(Some(Ok(datagram))) => {
                    carried.sent += datagram.len() as u64;
                    server.send(&datagram).await?;
                }
                Ok(Some(Err(received))) => {
                    let bytes = received?;
                    carried.received += bytes as u64;
                    // The client may be gone, which is no fault of the server's.
                    let _ = self.socket.send_to(&buffer[..bytes], self.client).await;
                }
            }
            self.touch();
        }
    }

    /// Drops what the client says for a while: so one that is refused is not asked about with every datagram.
    pub async fn ignore(&mut self, pause: Duration) {
        let dropping = async { while self.queue.recv().await.is_some() {} };
        let _ = tokio::time::timeout(pause, dropping).await;
    }

    fn touch(&self) {
        self.active_ms.store(elapsed_ms(self.began), Ordering::Relaxed);
    }
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What the receiving task knows of a session.
struct Entry {
    number: u64,
    queue: mpsc::Sender<Vec<u8>>,
    active_ms: Arc<AtomicU64>,
}

/// Receives for ever, and has `serve` serve each session: it ends when the future that it returns does. At most
/// `sessions_max` are there at once; another one then takes the place of that in which the least has been said lately.
pub async fn relay<'s, F: Future<Output = ()>>(
    socket: &'s UdpSocket,
    sessions_max: usize,
    mut serve: impl FnMut(Session<'s>) -> F,
) {
    let began = Instant::now();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut known: HashMap<SocketAddr, Entry> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut numbers = 0_u64..;
    loop {
        let received = tokio::select! {
            Some((client, number)) = running.next(), if !running.is_empty() => {
                if known.get(&client).is_some_and(|entry: &Entry| entry.number == number) {
                    known.remove(&client);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((bytes, client)) = received else {
            tokio::time::sleep(RECEIVE_PAUSE).await;
            continue;
        };
        let datagram = buffer[..bytes].to_vec();
        let datagram = match known.get(&client).map(|entry| entry.queue.try_send(datagram)) {
            Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => continue,
            Some(Err(mpsc::error::TrySendError::Closed(datagram))) => datagram,
            None => buffer[..bytes].to_vec(),
        };
        known.remove(&client);
        // Sessions that had to give way may still be about to end.
        if running.len() >= sessions_max.saturating_mul(2) {
            continue;
        }
        if known.len() >= sessions_max {
            evict(&mut known);
        }
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let active_ms = Arc::new(AtomicU64::new(elapsed_ms(began)));
        // There is room for the first.
        let _ = sender.try_send(datagram);
        let number = numbers.next().unwrap_or_default();
        let entry = Entry { number, queue: sender, active_ms: active_ms.clone() };
        known.insert(client, entry);
        let serving = serve(Session { client, socket, queue, active_ms, began });
        running.push(async move {
            serving.await;
            (client, number)
        });
    }
}

/// Ends the session in which the least has been said lately.
fn evict(known: &mut HashMap<SocketAddr, Entry>) {
    let active = |entry: &Entry| entry.active_ms.load(Ordering::Relaxed);
    let least = known.iter().min_by_key(|(_, entry)| (active(entry), entry.number));
    if let Some(client) = least.map(|(client, _)| *client) {
        known.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn local() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.unwrap()
    }

    /// Answers each datagram with itself and the number of its own socket.
    async fn echo(name: &'static str) -> SocketAddr {
        let socket = local().await;
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
                let answer = [name.as_bytes(), b":", &buffer[..bytes]].concat();
                let _ = socket.send_to(&answer, from).await;
            }
        });
        address
    }

    async fn ask(client: &UdpSocket, to: SocketAddr, text: &str) -> String {
        client.send_to(text.as_bytes(), to).await.unwrap();
        let mut buffer = [0; 1024];
        let bytes = client.recv(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    /// A relay that leads sessions to the servers in turn.
    async fn relaying(servers: Vec<SocketAddr>, sessions_max: usize, idle: Duration) -> SocketAddr {
        let socket = local().await;
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut turn = 0;
            relay(&socket, sessions_max, |mut session| {
                let to = servers[turn % servers.len()];
                turn += 1;
                async move {
                    let server = local().await;
                    server.connect(to).await.unwrap();
                    let _ = session.exchange(&server, idle).await;
                }
            })
            .await;
        });
        address
    }

    #[tokio::test]
    async fn a_session_stays_where_it_is_and_others_go_elsewhere() {
        let servers = vec![echo("a").await, echo("b").await];
        let relay = relaying(servers, 8, Duration::from_mins(1)).await;
        let (one, other) = (local().await, local().await);
        assert_eq!(ask(&one, relay, "1").await, "a:1");
        assert_eq!(ask(&other, relay, "2").await, "b:2");
        assert_eq!(ask(&one, relay, "3").await, "a:3");
        assert_eq!(ask(&other, relay, "4").await, "b:4");
    }

    #[tokio::test]
    async fn the_session_of_least_use_gives_way() {
        let servers = vec![echo("a").await, echo("b").await, echo("c").await, echo("d").await];
        let relay = relaying(servers, 2, Duration::from_mins(1)).await;
        let (one, other, third) = (local().await, local().await, local().await);
        assert_eq!(ask(&one, relay, "1").await, "a:1");
        assert_eq!(ask(&other, relay, "2").await, "b:2");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(ask(&one, relay, "3").await, "a:3");
        assert_eq!(ask(&third, relay, "4").await, "c:4");
        assert_eq!(ask(&one, relay, "5").await, "a:5", "it was used last");
        assert_eq!(ask(&other, relay, "6").await, "d:6", "it had to give way");
    }

    #[tokio::test]
    async fn an_idle_session_ends() {
        let servers = vec![echo("a").await, echo("b").await];
        let relay = relaying(servers, 8, Duration::from_millis(20)).await;
        let client = local().await;
        let mut answers = Vec::new();
        while answers.last().is_none_or(|answer| answer == "a:x") {
            answers.push(ask(&client, relay, "x").await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert_eq!(answers.last().map(String::as_str), Some("b:x"));
    }
}
