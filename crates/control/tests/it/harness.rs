//! A control plane, a supervisor and proxies, without anything that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_control::{Lifetimes, Options};
use heddle_ident::WorkloadId;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use heddle_proto::node::{
    DesiredState, DesiredWorkload, NodeReport, Phase, WatchRequest, WorkloadReport,
};
use heddle_rpc::client::Connection;
use heddle_rpc::{Peer, Streaming};
use heddle_sync::{Client, Effect, Effects, Holdings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

/// What a test waits at most for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane on a thread of its own.
pub(crate) struct Mesh {
    directory: Arc<tempfile::TempDir>,
    lifetimes: Lifetimes,
    authority_folder: Option<PathBuf>,
    machines: Option<Arc<std::net::TcpListener>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::start_with(Lifetimes::default()).await
    }

    pub(crate) async fn start_with(lifetimes: Lifetimes) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let authority_folder = None;
        let mut mesh = Self {
            directory,
            lifetimes,
            authority_folder,
            machines: None,
            stop: None,
            thread: None,
        };
        mesh.run().await;
        mesh
    }

    /// With a port at which machines join.
    pub(crate) async fn start_with_machines() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut mesh = Self {
            directory,
            lifetimes: Lifetimes::default(),
            authority_folder: None,
            machines: Some(Arc::new(listener)),
            stop: None,
            thread: None,
        };
        mesh.run().await;
        mesh
    }

    pub(crate) fn machines_port(&self) -> std::net::SocketAddr {
        self.machines.as_ref().unwrap().local_addr().unwrap()
    }

    /// With an authority out of a folder.
    pub(crate) async fn start_with_authority(folder: PathBuf) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let lifetimes = Lifetimes::default();
        let authority_folder = Some(folder);
        let mut mesh = Self {
            directory,
            lifetimes,
            authority_folder,
            machines: None,
            stop: None,
            thread: None,
        };
        mesh.run().await;
        mesh
    }

    async fn run(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        let mut options = Options::new(path("store"), path("api.sock"), path("stream.sock"));
        options.lifetimes = self.lifetimes;
        options.authority_folder = self.authority_folder.clone();
        options.machines = self.machines.clone();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ready = || ready.send(()).unwrap();
            let shutdown = async { drop(stopped.await) };
            let provider = heddle_tls::default_provider();
            runtime.block_on(heddle_control::serve(options, provider, ready, shutdown)).unwrap();
        });
        self.stop = Some(stop);
        self.thread = Some(thread);
        is_ready.await.unwrap();
    }

    /// Ends it as abruptly as can be within one process: nothing is told to anybody.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.run().await;
    }

    pub(crate) fn stream_socket(&self) -> PathBuf {
        self.directory.path().join("stream.sock")
    }

    /// One request; status and JSON.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = UnixStream::connect(self.directory.path().join("api.sock")).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: heddle\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer[9..12].parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Applies one file; names with what became of them.
    pub(crate) async fn apply(&self, text: &str) -> Vec<(String, String)> {
        let body = json!({"files": [{"path": "app.yaml", "folder": "/srv/app", "text": text}]});
        let (status, answer) = self.request("POST", "/v1/objects", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        results(&answer)
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.delete_in(kind, "default", name).await;
    }

    pub(crate) async fn delete_in(&self, kind: &str, namespace: &str, name: &str) {
        let (status, answer) = self
            .request(
                "DELETE",
                &format!("/v1/objects?kind={kind}&namespace={namespace}&name={name}"),
                None,
            )
            .await;
        assert_eq!((status, answer["results"].as_array().unwrap().len()), (200, 1), "{answer}");
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `(name, action)` of each result.
pub(crate) fn results(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|result| (text(&result["name"]), text(&result["action"]))).collect()
}

/// Waits until a condition holds, looking again whenever something changed.
pub(crate) async fn until<T>(
    receiver: &mut watch::Receiver<T>,
    mut condition: impl FnMut(&T) -> bool,
) {
    let wait = receiver.wait_for(|value| condition(value));
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.expect("the condition holds in time").unwrap();
}

/// Speaks as the supervisor of the node.
pub(crate) struct Supervisor {
    connection: Connection,
    instance: String,
    pub(crate) desired: watch::Receiver<DesiredState>,
}

impl Supervisor {
    pub(crate) async fn connect(mesh: &Mesh, instance: &str) -> Self {
        let peer = Peer::Node("local".into());
        let connection = Connection::open(&mesh.stream_socket(), &peer).await.unwrap();
        let request = WatchRequest { node: "local".into(), instance: instance.into() };
        let mut states = connection.watch(request).await.unwrap();
        let first = states.message().await.unwrap().unwrap();
        let (sender, desired) = watch::channel(first);
        tokio::spawn(async move {
            while let Ok(Some(state)) = states.message().await {
                sender.send_replace(state);
            }
        });
        Self { connection, instance: instance.to_owned(), desired }
    }

    /// Waits for a desired workload.
    pub(crate) async fn workload(&mut self, name: &str) -> DesiredWorkload {
        let find = |state: &DesiredState| {
            state.workloads.iter().find(|workload| workload.name == name).cloned()
        };
        until(&mut self.desired, |state| find(state).is_some()).await;
        find(&self.desired.borrow()).unwrap()
    }

    /// Waits until exactly these shall run.
    pub(crate) async fn wait_for_names(&mut self, names: &[&str]) {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        until(&mut self.desired, |state| {
            state.workloads.iter().map(|workload| workload.name.as_str()).collect::<BTreeSet<_>>()
                == names
        })
        .await;
    }

    /// Everything that shall run does, and is ready, but for these.
    pub(crate) async fn report_all_ready_but(&self, unready: &[&str]) {
        let workloads: Vec<_> = self
            .desired
            .borrow()
            .workloads
            .iter()
            .map(|workload| WorkloadReport {
                id: workload.id.clone(),
                uid: workload.uid.clone(),
                phase: Phase::Running.into(),
                ready: !unready.contains(&workload.name.as_str()),
                started_at_ms: 1,
                ..WorkloadReport::default()
            })
            .collect();
        self.report(workloads).await;
    }

    pub(crate) async fn report(&self, workloads: Vec<WorkloadReport>) {
        let report = NodeReport {
            node: "local".into(),
            instance: self.instance.clone(),
            complete: true,
            workloads,
        };
        self.connection.report(report).await.unwrap();
    }
}

/// Speaks as the proxy of a workload, as the shipped one does.
pub(crate) struct Proxy {
    client: Client,
    holdings: Holdings,
    pub(crate) workload: WorkloadId,
    /// Resources that came over the present stream.
    pub(crate) received: usize,
    stream: Option<(mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>)>,
    pub(crate) connection: Option<Connection>,
    pub(crate) absent: BTreeSet<ResourceName>,
    /// Everything that took effect, in order.
    pub(crate) effects: Vec<Effect>,
}

impl Proxy {
    pub(crate) fn new(workload: &str) -> Self {
        Self {
            client: Client::new(Node { id: workload.into(), ..Node::default() }),
            holdings: Holdings::new(),
            workload: WorkloadId::new(workload),
            received: 0,
            stream: None,
            connection: None,
            absent: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Connects and asks for what a proxy always needs.
    pub(crate) async fn connected(mesh: &Mesh, workload: &str) -> Self {
        let mut proxy = Self::new(workload);
        proxy.connect(mesh).await;
        for name in [
            ResourceName::TrustBundle,
            ResourceName::Proxy(proxy.workload.clone()),
            ResourceName::Inbound(proxy.workload.clone()),
        ] {
            proxy.want(&name);
        }
        proxy
    }

    pub(crate) async fn connect(&mut self, mesh: &Mesh) {
        let peer = Peer::Workload(self.workload.clone());
        let connection = Connection::open(&mesh.stream_socket(), &peer).await.unwrap();
        let (requests, outgoing) = mpsc::channel(64);
        let responses = connection.delta(ReceiverStream::new(outgoing)).await.unwrap();
        self.stream = Some((requests, responses));
        self.connection = Some(connection);
        self.received = 0;
        self.client.handle_connect();
    }

    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
        self.connection = None;
        self.client.handle_disconnect();
    }

    pub(crate) fn want(&mut self, name: &ResourceName) {
        let effects = self.holdings.want(name);
        self.follow(effects);
    }

    fn follow(&mut self, effects: Effects) {
        effects.unwant.iter().for_each(|name| self.client.unwant(name));
        effects.want.iter().for_each(|name| self.client.want(name));
        self.effects.extend(effects.effects);
    }

    /// Sends what is to be sent, confirmations among it.
    pub(crate) async fn transmit(&mut self) {
        while let Some(request) = self.client.poll_transmit() {
            self.stream.as_ref().unwrap().0.send(request).await.unwrap();
        }
    }

    /// Takes one response in, without confirming it.
    pub(crate) async fn receive(&mut self) -> Result<(), heddle_rpc::Status> {
        let responses = &mut self.stream.as_mut().unwrap().1;
        let response = tokio::time::timeout(PATIENCE, responses.message()).await;
        let Some(response) = response.expect("a response comes in time")? else {
            return Err(heddle_rpc::Status::unavailable("ended"));
        };
        self.received += response.resources.len();
        let updates = self.client.handle_response(response, |_, _| Ok(())).unwrap();
        for update in updates.iter().filter(|update| update.resource.is_none()) {
            self.absent.insert(update.name.clone());
        }
        let effects = self.holdings.apply(updates);
        self.follow(effects);
        Ok(())
    }

    /// Exchanges messages until a condition holds; then everything is confirmed.
    pub(crate) async fn until(&mut self, mut condition: impl FnMut(&Self) -> bool) {
        let exchange = async {
            loop {
                self.transmit().await;
                if condition(self) {
                    return;
                }
                self.receive().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the condition holds in time");
    }

    /// Exchanges messages until the control plane knows that this proxy has everything.
    pub(crate) async fn until_applied(&mut self, mesh: &Mesh) {
        let own = self.workload.to_string();
        let exchange = async {
            loop {
                self.transmit().await;
                let wait = mesh.request("GET", "/v1/wait?for=applied&timeout_ms=100", None);
                tokio::select! {
                    received = self.receive() => received.unwrap(),
                    (_, answer) = wait => if !answer.to_string().contains(&own) {
                        return;
                    },
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("it is applied in time");
    }

    pub(crate) fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.holdings.effective(name)
    }

    /// Until everything that a proxy always needs is in effect.
    pub(crate) async fn until_complete(&mut self) {
        let workload = self.workload.clone();
        self.until(|proxy| {
            proxy.resource(&ResourceName::TrustBundle).is_some()
                && proxy.resource(&ResourceName::Proxy(workload.clone())).is_some()
                && proxy.resource(&ResourceName::Inbound(workload.clone())).is_some()
        })
        .await;
    }

    pub(crate) fn settings(&self) -> Arc<heddle_ir::proxy::ProxySettings> {
        match self.resource(&ResourceName::Proxy(self.workload.clone())) {
            Some(Resource::Proxy(settings)) => settings.clone(),
            _ => panic!("settings have come"),
        }
    }
}

/// Names of endpoints with their health, of a set that the proxy holds.
pub(crate) fn endpoints(
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> BTreeMap<String, heddle_ir::endpoint::EndpointHealth> {
    let host = heddle_ident::Host::parse(host).unwrap();
    let key = heddle_ir::endpoint::EndpointSetKey { host, port };
    match proxy.resource(&ResourceName::Endpoints(key)) {
        Some(Resource::Endpoints(set)) => set
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.workload.as_ref().unwrap().to_string(), endpoint.health))
            .collect(),
        _ => BTreeMap::new(),
    }
}
