//! Client, outbound proxy, mutual TLS, inbound proxy, server: all on one thread, on ports of the kernel's choice.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_ir::workload::MeshTransport;
use heddle_proxy::configuration::Publisher;
use heddle_proxy::names::LearnedNames;
use heddle_proxy::worker::{Overrides, Worker};
use heddle_proxy::{inbound, outbound};
use heddle_telemetry::audit::{AuditLevel, AuditLog};
use heddle_telemetry::metrics::Registry;
use heddle_telemetry::{Sink, SinkGuard, SinkSettings};
use heddle_tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::support::{ClientSide, Mesh, PORT, ServerSide, VIRTUAL_ADDRESS, endpoint, shared};

/// No condition that a test waits for takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a test on a thread of its own kind: one event loop, local tasks.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test takes too long");
    });
}

/// A pair of proxies.
pub(crate) struct Pair {
    pub(crate) outbound: SocketAddr,
    pub(crate) inbound: SocketAddr,
    pub(crate) client_worker: Rc<Worker>,
    pub(crate) server_worker: Rc<Worker>,
    pub(crate) server_publisher: Publisher,
    pub(crate) client_publisher: Publisher,
    pub(crate) client_names: Arc<LearnedNames>,
    pub(crate) client_registry: Registry,
    pub(crate) server_registry: Registry,
    pub(crate) server_audit: Audit,
}

/// What a proxy has written into its audit log.
pub(crate) struct Audit {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: SinkGuard,
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Audit {
    fn new() -> (AuditLog, Self) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let settings =
            SinkSettings { flush_after: Duration::from_millis(1), ..SinkSettings::default() };
        let (sink, guard) = Sink::spawn("audit", Lines(lines.clone()), settings).unwrap();
        let log = AuditLog::new(AuditLevel::Marked, vec![("test", sink)], None);
        (log, Self { lines, _guard: guard })
    }

    /// The first so many records, which must come.
    pub(crate) async fn records(&self, count: usize) -> Vec<serde_json::Value> {
        loop {
            let text = String::from_utf8(self.lines.lock().unwrap().clone()).unwrap();
            if text.lines().count() >= count {
                let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
                return records.collect();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Pair {
    /// Before the application at this address.
    pub(crate) async fn before(application: SocketAddr) -> Self {
        Self::with(application, |_| {}, |_| {}).await
    }

    /// The same with other configuration.
    pub(crate) async fn with(
        application: SocketAddr,
        client_side: impl FnOnce(&mut ClientSide),
        server_side: impl FnOnce(&mut ServerSide),
    ) -> Self {
        let mesh = Mesh::new();
        let client = mesh.identity("client");
        Self::of(&mesh, client, application, client_side, server_side).await
    }

    /// The same, with a client of this identity.
    pub(crate) async fn of(
        mesh: &Mesh,
        client_identity: Arc<Identity>,
        application: SocketAddr,
        client_side: impl FnOnce(&mut ClientSide),
        server_side: impl FnOnce(&mut ServerSide),
    ) -> Self {
        let (server_registry, client_registry) = (Registry::default(), Registry::default());
        let (listener, inbound) = listen().await;
        let mut server = ServerSide::new(application.port());
        server_side(&mut server);
        let overrides =
            Overrides { inbound_destination: Some(application), ..Overrides::default() };
        let (mut server_shared, server_publisher) =
            shared(&server.effects(), mesh.identity("server"), &server_registry, overrides);
        let (log, server_audit) = Audit::new();
        server_shared.audit = log;
        let server_worker = Worker::new(server_shared, 1);
        spawn_local(server_worker.clone().run());
        spawn_local(inbound::serve(server_worker.clone(), listener));

        let (listener, outbound) = listen().await;
        let mut client = ClientSide::new(vec![endpoint(inbound, MeshTransport::MutualTls)]);
        client_side(&mut client);
        let destination = SocketAddr::new(VIRTUAL_ADDRESS.parse().unwrap(), PORT);
        let overrides =
            Overrides { outbound_destination: Some(destination), ..Overrides::default() };
        let (client_shared, client_publisher) =
            shared(&client.effects(), client_identity, &client_registry, overrides);
        let client_names = client_shared.names.clone();
        let client_worker = Worker::new(client_shared, 2);
        spawn_local(client_worker.clone().run());
        spawn_local(outbound::serve(client_worker.clone(), listener));
        Self {
            outbound,
            inbound,
            client_worker,
            server_worker,
            server_publisher,
            client_publisher,
            client_names,
            client_registry,
            server_registry,
            server_audit,
        }
    }

    /// Waits until a proxy has counted something: one of its lines begins with `name`, has all of these and ends so.
    pub(crate) async fn counts(registry: &Registry, name: &str, parts: &[&str], value: u64) {
        loop {
            let mut page = String::new();
            registry.encode(std::time::Instant::now(), &mut page);
            let end = format!(" {value}");
            let has = |line: &str| {
                line.starts_with(name)
                    && line.ends_with(&end)
                    && parts.iter().all(|part| line.contains(part))
            };
            if page.lines().any(has) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A connection of the client's workload.
    pub(crate) async fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.outbound).await.unwrap())
    }
}

/// One end of a connection that a test plays.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

/// A message as a test sees it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// Values of a header, whose name is compared as it stands.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads something; false at the end.
    pub(crate) async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }

    /// Reads a head, which must come.
    pub(crate) async fn head(&mut self) -> String {
        self.try_head().await.expect("the connection ended before a head")
    }

    pub(crate) async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await, "ended after {} of {count} bytes", self.buffer.len());
        }
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads a message whose body has a length, or none.
    pub(crate) async fn message(&mut self) -> Message {
        let head = self.head().await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
        });
        let body = self.exactly(length.unwrap_or(0)).await;
        Message { head, body }
    }

    /// Everything until the end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: server\r\n\r\n")).await;
        self.message().await
    }
}

/// A server: `serve` plays each of its connections.
pub(crate) async fn application<F: Future<Output = ()> + 'static>(
    serve: impl Fn(Peer) -> F + 'static,
) -> SocketAddr {
    let (listener, address) = listen().await;
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(serve(Peer::new(stream)));
        }
    });
    address
}

/// A server that answers every request with the head that it got, in the body.
pub(crate) async fn mirror() -> SocketAddr {
    application(|mut peer| async move {
        while let Some(head) = peer.try_head().await {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            peer.exactly(length.map_or(0, |length| length.parse().unwrap())).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            peer.send(answer).await;
        }
    })
    .await
}

/// Bytes in which a lost, doubled or moved piece is noticed.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(count).collect()
}
