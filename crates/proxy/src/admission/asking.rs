//! A request as external authorisers are told of it.

use heddle_ir::matching::TextMatch;
use heddle_ir::request::RequestHead;

use super::Party;
use super::changes::{Changes, View};
use crate::ask::AskError;
use crate::ask::grpc::GrpcError;
use crate::forward::answer::Answer;
use crate::worker::Worker;

/// A request, as far as it goes on.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) authority: String,
    pub(super) scheme: String,
    /// `HTTP/1.1`, `HTTP/2`.
    pub(super) protocol: &'static str,
    /// Names are lower case; repeated headers are repeated.
    pub(super) headers: Vec<(String, Vec<u8>)>,
    /// Bytes of its body; -1: not known.
    pub(super) size: i64,
    pub(super) body: Body,
    pub(super) parties: Parties,
}

/// Who is at the ends of the connection.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) source: std::net::SocketAddr,
    pub(super) destination: std::net::SocketAddr,
    /// The URI of the peer's certificate; empty: none.
    pub(super) peer: String,
    /// That of the own one.
    pub(super) own: String,
    pub(super) server_name: String,
}

impl Default for Parties {
    fn default() -> Self {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let (peer, own, server_name) = Default::default();
        Self { source: nowhere, destination: nowhere, peer, own, server_name }
    }
}

impl Parties {
    pub(super) fn of(worker: &Worker, party: Party<'_>) -> Self {
        let own = worker.shared.identity.current();
        Self {
            source: party.source,
            destination: party.destination,
            peer: party.facts.peer_identity().map(ToString::to_string).unwrap_or_default(),
            own: own.map(|own| own.svid().identity.to_string()).unwrap_or_default(),
            server_name: party.facts.server_name().unwrap_or_default().to_owned(),
        }
    }
}

/// The body or its beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// There is more of it.
    pub(super) partial: bool,
}

/// What came of asking: changes of a request that goes on, or the answer to one that does not.
pub(super) type Answered = Result<Result<Changes, Box<Answer>>, AuthorizerError>;

/// Why an authoriser has said neither.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorizerError {
    /// No answer.
    #[error("it could not be asked")]
    Ask(#[from] AskError),
    /// An answer with the status of a fault of its own.
    #[error("it answered with status {0}")]
    Status(u16),
    /// No `CheckResponse`.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
}

impl Asked {
    /// The request with what was changed so far.
    pub(super) fn of(
        view: &View<'_, impl RequestHead>,
        protocol: &'static str,
        mut headers: Vec<(String, Vec<u8>)>,
        parties: Parties,
    ) -> Self {
        view.changes.request.iter().for_each(|change| change.apply(&mut headers));
        let target = match view.query() {
            Some(query) => format!("{}?{query}", view.path()),
            None => view.path().to_owned(),
        };
        Self {
            method: view.method().to_owned(),
            target,
            authority: view.authority().to_owned(),
            scheme: view.scheme().to_owned(),
            protocol,
            headers,
            size: -1,
            body: Body::default(),
            parties,
        }
    }

    /// The same with its body; `wanted`: the authoriser has asked for one.
    pub(super) fn with_body(mut self, body: Body) -> Self {
        self.headers.push((PARTIAL_BODY.to_owned(), body.partial.to_string().into_bytes()));
        self.body = body;
        self
    }
}

/// Says whether a body is only the beginning of one.
pub(super) const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// Headers that frame a message or belong to one connection, and are not handed on.
pub(crate) fn is_of_message(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether one of the patterns takes the name of a header.
pub(super) fn takes(patterns: &[TextMatch], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern {
        TextMatch::Exact(text) => **text == *name,
        TextMatch::Prefix(text) => name.starts_with(&**text),
        TextMatch::Suffix(text) => name.ends_with(&**text),
        TextMatch::Present => true,
        TextMatch::Regex(_) => false,
    })
}
