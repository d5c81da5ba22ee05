//! The access log: a line for each request and stream once it is over, where the mesh's settings ask for it.
//!
//! Lines go through a [`Sink`], whose thread writes them: a reader that is slow or a disk that is full costs lines, never
//! time. Without a log nothing of a request is kept for it.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use heddle_ir::endpoint::EndpointAddress;
use heddle_ir::proxy::{AccessLog as Kind, ProxySettings};
use heddle_ir::request::RequestHead;
use heddle_telemetry::access_log::{AccessLogFormat, AccessRecord, FormatError, Headers};
use heddle_telemetry::{Reason, ResponseFlags, Sink, SinkGuard, SinkSettings};
use tokio::time::Instant;
use tracing::warn;

use crate::forward::attempts::Ended;
use crate::inbound::Peer;
use crate::snapshot::DestinationState;
use crate::upstream::Target;
use crate::worker::Worker;

/// Files that a process writes in its life.
const OUTPUTS_MAX: usize = 16;

/// What a proxy's threads write to: each is opened once and stays open, since a thread may have lines for it at any time.
static OUTPUTS: Mutex<Vec<Output>> = Mutex::new(Vec::new());

struct Output {
    path: Arc<str>,
    sink: Sink,
    _guard: SinkGuard,
}

/// Writes what waits and closes all logs, at the end of the process.
pub(crate) fn close() {
    let outputs = std::mem::take(&mut *OUTPUTS.lock().unwrap_or_else(PoisonError::into_inner));
    drop(outputs);
}

/// A file that is opened by whoever writes to it, which is no thread that has traffic.
struct LateFile {
    path: PathBuf,
    file: Option<File>,
    told: bool,
}

impl Write for LateFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let opened = match self.file.take() {
            Some(file) => Ok(file),
            None => OpenOptions::new().append(true).create(true).open(&self.path),
        };
        // What has failed is opened anew for the next lines.
        let outcome = opened.and_then(|mut file| {
            let count = file.write(bytes)?;
            self.file = Some(file);
            Ok(count)
        });
        if let Err(error) = &outcome
            && !self.told
        {
            self.told = true;
            let path = self.path.display();
            warn!(%path, %error, "the access log cannot be written; lines are lost");
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn output(path: &Arc<str>) -> io::Result<Sink> {
    let mut outputs = OUTPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = outputs.iter().find(|known| known.path == *path) {
        return Ok(known.sink.clone());
    }
    if outputs.len() >= OUTPUTS_MAX {
        return Err(io::Error::other("too many files"));
    }
    let settings = SinkSettings::default();
    let (sink, guard) = match &**path {
        "" => Sink::spawn("access-log", io::stdout(), settings)?,
        "/dev/stderr" => Sink::spawn("access-log", io::stderr(), settings)?,
        file => {
            let file = LateFile { path: file.into(), file: None, told: false };
            Sink::spawn("access-log", file, settings)?
        }
    };
    outputs.push(Output { path: path.clone(), sink: sink.clone(), _guard: guard });
    Ok(sink)
}

/// A log as a thread writes it.
pub(crate) struct AccessLog {
    format: AccessLogFormat,
    sink: Sink,
}

/// The log of a thread, and the settings that it was made of.
#[derive(Default)]
pub(crate) struct Held(RefCell<HeldLog>);

#[derive(Default)]
struct HeldLog {
    settings: Option<Arc<ProxySettings>>,
    log: Option<Rc<AccessLog>>,
}

impl Held {
    /// The log under these settings; none: none is written.
    pub(crate) fn under(&self, settings: Option<&Arc<ProxySettings>>) -> Option<Rc<AccessLog>> {
        let mut held = self.0.borrow_mut();
        let same = match (&held.settings, settings) {
            (Some(known), Some(settings)) => Arc::ptr_eq(known, settings),
            (known, settings) => known.is_none() && settings.is_none(),
        };
        if !same {
            let log = settings.and_then(|settings| AccessLog::open(settings));
            *held = HeldLog { settings: settings.cloned(), log };
        }
        held.log.clone()
    }
}

impl AccessLog {
    fn open(settings: &ProxySettings) -> Option<Rc<Self>> {
        if settings.access_log == Kind::Off {
            return None;
        }
        let format = format_of(settings).unwrap_or_else(|error| {
            warn!(%error, "the access log's format cannot be used; Istio's default is");
            match settings.access_log {
                Kind::Json => AccessLogFormat::default_json(),
                Kind::Off | Kind::Text => AccessLogFormat::default_text(),
            }
        });
        match output(&settings.access_log_path) {
            Ok(sink) => Some(Rc::new(Self { format, sink })),
            Err(error) => {
                warn!(path = %settings.access_log_path, %error, "no access log is written");
                None
            }
        }
    }

    fn write(&self, record: &AccessRecord<'_>) {
        let mut line = String::new();
        self.format.write(record, &mut line);
        self.sink.write_line(line.as_bytes());
    }
}

fn format_of(settings: &ProxySettings) -> Result<AccessLogFormat, FormatError> {
    let format = &settings.access_log_format;
    let hostname = &settings.workload.name;
    match (settings.access_log, &format[..]) {
        (Kind::Json, []) => Ok(AccessLogFormat::default_json()),
        (Kind::Off | Kind::Text, []) => Ok(AccessLogFormat::default_text()),
        (Kind::Off | Kind::Text, [(_, text), ..]) => AccessLogFormat::text(text, hostname),
        (Kind::Json, keys) => {
            AccessLogFormat::json(keys.iter().map(|(key, text)| (&**key, &**text)), hostname)
        }
    }
}

/// The headers that lines hold.
#[derive(Default)]
struct Captured(Vec<(Box<str>, Vec<u8>)>);

impl Headers for Captured {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, value)| &value[..])
    }
}

/// The line of a request under way.
pub(crate) struct RequestLog {
    log: Rc<AccessLog>,
    started: Instant,
    addresses: (SocketAddr, SocketAddr),
    protocol: &'static str,
    request: RefCell<Captured>,
    response: RefCell<Captured>,
    responded: Cell<Option<Instant>>,
    response_head_bytes: Cell<u64>,
    route: RefCell<Option<Arc<str>>>,
}

/// What is known of a request in the end.
pub(crate) struct Outcome<'a> {
    pub(crate) ended: &'a Ended,
    pub(crate) flags: ResponseFlags,
    /// Bytes of its body.
    pub(crate) body_bytes: u64,
    pub(crate) grpc_status: Option<u32>,
    /// Who sent it, where others do.
    pub(crate) peer: Option<&'a Peer>,
}

impl RequestLog {
    /// Begins a line, where a log is written. `addresses` is where the client's connection came from and was made to.
    pub(crate) fn begin(
        worker: &Worker,
        head: &impl RequestHead,
        protocol: &'static str,
        addresses: (SocketAddr, SocketAddr),
        started: Instant,
    ) -> Option<Box<Self>> {
        let settings = worker.shared.configuration.snapshot().settings.clone();
        let log = worker.access_log.under(settings.as_ref())?;
        let value = |name: &str| match name {
            ":method" => Some(head.method().as_bytes().to_vec()),
            ":authority" => Some(head.authority().as_bytes().to_vec()),
            ":scheme" => Some(head.scheme().as_bytes().to_vec()),
            ":path" => Some(match head.query() {
                Some(query) => format!("{}?{query}", head.path()).into_bytes(),
                None => head.path().as_bytes().to_vec(),
            }),
            name => head.header(name).map(std::borrow::Cow::into_owned),
        };
        let names = log.format.request_headers();
        let request = names.filter_map(|name| Some((name.into(), value(name)?))).collect();
        Some(Box::new(Self {
            started,
            addresses,
            protocol,
            request: RefCell::new(Captured(request)),
            response: RefCell::default(),
            responded: Cell::new(None),
            response_head_bytes: Cell::new(0),
            route: RefCell::new(None),
            log,
        }))
    }

    /// Notes a header that the proxy itself adds to the request.
    pub(crate) fn note_own(&self, name: &str, value: &[u8]) {
        let mut request = self.request.borrow_mut();
        if request.value(name).is_none() {
            request.0.push((name.into(), value.to_vec()));
        }
    }

    /// Notes the rule that took it.
    pub(crate) fn note_route(&self, name: &Arc<str>) {
        *self.route.borrow_mut() = Some(name.clone());
    }

    /// Notes the head of the response that is delivered.
    pub(crate) fn note_response<'h>(&self, value: impl Fn(&str) -> Option<&'h [u8]>) {
        let now = Instant::now();
        self.responded.set(Some(now));
        let names = self.log.format.response_headers();
        let captured = names.filter_map(|name| {
            let took = || {
                // Envoy tells it in a header of the response; here it is told in the log only.
                let is_own = name == "x-envoy-upstream-service-time";
                is_own.then(|| (now - self.started).as_millis().to_string().into_bytes())
            };
            Some((name.into(), value(name).map(<[u8]>::to_vec).or_else(took)?))
        });
        *self.response.borrow_mut() = Captured(captured.collect());
    }

    /// Notes how much of what was delivered is the head.
    pub(crate) fn note_head_bytes(&self, bytes: u64) {
        self.response_head_bytes.set(bytes);
    }

    /// Writes the line.
    pub(crate) fn end(&self, outcome: &Outcome<'_>) {
        let Outcome { ended, flags, body_bytes, grpc_status, peer } = *outcome;
        let duration = self.started.elapsed();
        let (request, response) = (self.request.borrow(), self.response.borrow());
        let (state, target) = (ended.state.as_ref(), ended.target.as_ref());
        let cluster = state.map(|state| cluster_of(state, target));
        let details = match (ended.reason, self.responded.get()) {
            (Some(reason), _) => Some(Reason::details(reason)),
            (None, Some(_)) => Some("via_upstream"),
            (None, None) if ended.status > 0 => Some("direct_response"),
            (None, None) => None,
        };
        let route = self.route.borrow();
        let identity = peer.and_then(|peer| peer.facts.peer_identity()).map(ToString::to_string);
        let (source, destination) = self.addresses;
        self.log.write(&AccessRecord {
            request: &*request,
            response: &*response,
            protocol: Some(self.protocol),
            response_code: ended.status,
            flags,
            response_code_details: details,
            bytes_received: body_bytes,
            bytes_sent: ended.response_bytes.saturating_sub(self.response_head_bytes.get()),
            duration,
            response_duration: self.responded.get().map(|at| at - self.started),
            upstream_host: target.and_then(address_of),
            upstream_cluster: cluster.as_deref(),
            downstream_local_address: Some(destination),
            downstream_remote_address: Some(source),
            requested_server_name: peer.and_then(|peer| peer.facts.server_name()),
            route_name: route.as_deref().or(peer.map(|_| "default")),
            downstream_peer_uri_san: identity.as_deref(),
            downstream_tls_version: identity.as_ref().map(|_| "TLSv1.3"),
            grpc_status,
            ..AccessRecord::empty(began(duration))
        });
    }
}

/// The line of a stream under way.
pub(crate) struct StreamLog {
    log: Rc<AccessLog>,
    started: Instant,
    addresses: (SocketAddr, SocketAddr),
    host: Option<SocketAddr>,
    cluster: String,
    server_name: Option<String>,
    identity: Option<String>,
}

impl StreamLog {
    /// Begins a line, where a log is written.
    pub(crate) fn begin(
        worker: &Worker,
        addresses: (SocketAddr, SocketAddr),
        state: &DestinationState,
        target: &Target,
        facts: Option<&heddle_authz::Connection>,
    ) -> Option<Box<Self>> {
        let settings = worker.shared.configuration.snapshot().settings.clone();
        let log = worker.access_log.under(settings.as_ref())?;
        let started = Instant::now();
        let (host, cluster) = (address_of(target), cluster_of(state, Some(target)));
        let server_name = facts.and_then(|facts| facts.server_name()).map(str::to_owned);
        let identity = facts.and_then(|facts| facts.peer_identity()).map(ToString::to_string);
        Some(Box::new(Self { log, started, addresses, host, cluster, server_name, identity }))
    }

    /// Writes the line.
    pub(crate) fn end(&self, received: u64, sent: u64, flags: ResponseFlags) {
        let duration = self.started.elapsed();
        let (source, destination) = self.addresses;
        self.log.write(&AccessRecord {
            flags,
            bytes_received: received,
            bytes_sent: sent,
            duration,
            upstream_host: self.host,
            upstream_cluster: Some(&self.cluster),
            downstream_local_address: Some(destination),
            downstream_remote_address: Some(source),
            requested_server_name: self.server_name.as_deref(),
            downstream_peer_uri_san: self.identity.as_deref(),
            downstream_tls_version: self.identity.as_ref().map(|_| "TLSv1.3"),
            ..AccessRecord::empty(began(duration))
        });
    }
}

fn began(duration: Duration) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(duration).unwrap_or(now)
}

fn address_of(target: &Target) -> Option<SocketAddr> {
    match target {
        Target::Address(address) | Target::Application(address) => Some(*address),
        Target::Endpoint(endpoint, _) => match &endpoint.address {
            EndpointAddress::Address(address) => Some(*address),
            EndpointAddress::Name(..) => None,
        },
    }
}

/// The name that Istio gives the destination.
fn cluster_of(state: &DestinationState, target: Option<&Target>) -> String {
    let id = &state.destination.id;
    match target {
        Some(Target::Application(address)) => format!("inbound|{}||", address.port()),
        Some(Target::Address(_)) => "PassthroughCluster".to_owned(),
        Some(Target::Endpoint(..)) | None => {
            format!("outbound|{}|{}|{}", id.port, id.subset, id.host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_files_are_written_in_a_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| -> Arc<str> {
            folder.path().join(number.to_string()).to_str().unwrap().into()
        };
        for number in 0..OUTPUTS_MAX {
            assert!(output(&path(number)).is_ok());
        }
        assert!(output(&path(OUTPUTS_MAX)).is_err());
        assert!(output(&path(0)).is_ok(), "one that is open already");
        close();
    }
}
