//! What is answered: the shape of `heddle explain -o json` (DESIGN section 9; fields may be added, none renamed).

use heddle_diag::Origin;

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It reaches a destination.
    Forward,
    /// A policy refuses it.
    Deny,
    /// No rule of a table matches: 404.
    NoRoute,
    /// The proxy answers with a redirection.
    Redirect,
    /// The proxy answers by itself.
    Respond,
    /// An injected failure.
    Fault,
    /// It leaves the mesh as it is.
    Passthrough,
    /// There is nothing that it could be sent to, or no connection is possible.
    Unreachable,
    /// It cannot be said from the configuration alone; see [`Answer::depends_on`].
    Depends,
}

impl Verdict {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Deny => "deny",
            Self::NoRoute => "no-route",
            Self::Redirect => "redirect",
            Self::Respond => "respond",
            Self::Fault => "fault",
            Self::Passthrough => "passthrough",
            Self::Unreachable => "unreachable",
            Self::Depends => "depends",
        }
    }
}

/// As what the first proxy on the way handles the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Handled {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS that is not terminated.
    Tls,
    /// Datagrams.
    Udp,
}

impl Handled {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
        }
    }

    /// Whether rules on requests apply.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2 | Self::Grpc)
    }
}

/// How the last connection on the way is secured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TransportView {
    /// Mutual TLS with the mesh's identities.
    MutualTls,
    /// TLS, of the application or originated by the proxy.
    Tls,
    /// None.
    Plaintext,
    /// There is no connection.
    None,
}

impl TransportView {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual-tls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::None => "none",
        }
    }
}

/// A request as somebody sends or gets it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestView {
    /// The method; empty for a stream.
    pub method: String,
    /// Path and query; empty for a stream.
    pub path: String,
    /// `Host` or `:authority`; for a stream the host that was asked for.
    pub authority: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
}

/// Changes of a response's head, in order: the value that is set, none where the header is removed.
pub type HeaderChanges = Vec<(String, Option<String>)>;

/// A destination that a request may go to.
#[derive(Clone, PartialEq, Debug)]
pub struct DestinationView {
    /// `namespace/name`; the host outside of the mesh.
    pub service: String,
    /// The service port.
    pub port: u16,
    /// The subset; none: all endpoints.
    pub subset: Option<String>,
    /// Its weight among the others.
    pub weight: u32,
    /// `namespace/name` of the workloads behind it, each once; addresses outside of the mesh.
    pub workloads: Vec<String>,
    /// What these get.
    pub request: RequestView,
    /// What is changed of their response.
    pub response_headers: HeaderChanges,
    /// What the proxy of each workload does.
    pub servers: Vec<ServerView>,
    /// Where its policy was written.
    pub origin: Origin,
}

/// What the server's side does.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerView {
    /// `namespace/name`, or the address outside of the mesh.
    pub workload: String,
    /// Share of the destination's traffic that is picked for it, of all that are healthy.
    pub share: f64,
    /// [`Verdict::Forward`], [`Verdict::Deny`], [`Verdict::Unreachable`] or [`Verdict::Depends`].
    pub verdict: Verdict,
    /// The status that the client gets when it is not forwarded; none: the connection is closed.
    pub status: Option<u16>,
    /// Why, in a sentence.
    pub reason: String,
    /// The line that decided.
    pub origin: Option<Origin>,
    /// How it is connected to.
    pub transport: TransportView,
    /// As what the server's proxy handles the bytes.
    pub handled: Handled,
    /// The setting of mutual TLS, in words, and where it was written; none without proxy.
    pub mutual_tls: Option<(&'static str, Origin)>,
    /// Every rule that was considered.
    pub considered: Vec<Considered>,
    /// What else it depends on.
    pub depends_on: Vec<String>,
    /// What the application gets, where the server's proxy changes it.
    pub request: Option<RequestView>,
    /// Where a gateway sends it on to.
    pub then: Vec<DestinationView>,
}

/// A copy of a request that is sent elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct MirrorView {
    /// As [`DestinationView::service`].
    pub service: String,
    /// The service port.
    pub port: u16,
    /// The subset.
    pub subset: Option<String>,
    /// Share of the requests.
    pub percent: f64,
}

/// When it is tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetriesView {
    /// Tries after the first.
    pub attempts: u32,
    /// Conditions, in the words of Envoy's `retry_on`.
    pub on: Vec<String>,
    /// Limit of one try.
    pub per_try_timeout_ms: Option<u64>,
}

/// What happens to a share of the requests.
#[derive(Clone, PartialEq, Debug)]
pub struct Alternative {
    /// The share.
    pub percent: f64,
    /// What happens.
    pub verdict: Verdict,
    /// The status of the proxy's own answer.
    pub status: Option<u16>,
    /// An injected delay.
    pub delay_ms: Option<u64>,
    /// Why, in a sentence.
    pub reason: String,
}

/// Something that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Considered {
    /// What.
    pub origin: Origin,
    /// What became of it.
    pub outcome: String,
    /// At which workload's proxy; none: at the client's.
    pub workload: Option<String>,
}

/// A phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PhaseView {
    /// One of the nine names.
    pub phase: &'static str,
    /// What came out.
    pub outcome: String,
    /// The line that decided.
    pub origin: Option<Origin>,
    /// Everything that was looked at.
    pub considered: Vec<Considered>,
    /// Further sentences.
    pub notes: Vec<String>,
}

/// The whole answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Who asks, as it was written.
    pub from: String,
    /// For what, as it was written.
    pub to: String,
    /// What happens.
    pub verdict: Verdict,
    /// What it depends on that configuration does not say.
    pub depends_on: Vec<String>,
    /// The status of the proxy's own answer as an HTTP client gets it; none where the application answers, or where a
    /// connection is closed.
    pub status: Option<u16>,
    /// What a gRPC client gets in the place of [`Answer::status`], with HTTP status 200.
    pub grpc_status: Option<u8>,
    /// As what the bytes are handled.
    pub protocol: Handled,
    /// How the last connection is secured.
    pub transport: TransportView,
    /// The request as the client sends it.
    pub request: RequestView,
    /// What every response has changed.
    pub response_headers: HeaderChanges,
    /// Where a redirection leads.
    pub location: Option<String>,
    /// The body of the proxy's own answer, if it is one that was configured.
    pub body: Option<String>,
    /// Where it may go.
    pub destinations: Vec<DestinationView>,
    /// Copies.
    pub mirrors: Vec<MirrorView>,
    /// Limit of the whole request.
    pub timeout_ms: Option<u64>,
    /// Retries; none where nothing is sent.
    pub retries: Option<RetriesView>,
    /// A delay that every request has.
    pub delay_ms: Option<u64>,
    /// Shares, where not all requests fare alike.
    pub alternatives: Vec<Alternative>,
    /// The phases in order.
    pub phases: Vec<PhaseView>,
    /// Why, in a sentence.
    pub reason: String,
    /// What had to be assumed to answer at all.
    pub assumptions: Vec<String>,
}
