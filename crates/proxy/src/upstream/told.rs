//! What is told of endpoints that could not be connected to.

use std::net::SocketAddr;

use heddle_http::HandshakeError;
use heddle_ir::endpoint::EndpointAddress;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use heddle_tls::PeerVerificationError;

use super::{Target, UpstreamError};
use crate::egress::account;
use crate::events::Parties;
use crate::names::now_s;
use crate::snapshot::DestinationState;
use crate::worker::Worker;

/// The word that records use for it.
pub(crate) fn reason_of(error: &UpstreamError) -> Reason {
    match error {
        UpstreamError::Handshake(_) | UpstreamError::Identity(_) | UpstreamError::NoIdentity => {
            Reason::PeerIdentity
        }
        UpstreamError::Denied(_) => Reason::AuthorizationDenied,
        UpstreamError::NotAdmitted(_) => Reason::DestinationUnknown,
        UpstreamError::Overflow(_) => Reason::CircuitOverflow,
        UpstreamError::Resolve { .. } => Reason::NameResolution,
        UpstreamError::Timeout(_) => Reason::ConnectTimeout,
        UpstreamError::Connect(_)
        | UpstreamError::Http2(_)
        | UpstreamError::Http2Refused
        | UpstreamError::Header(_)
        | UpstreamError::Outside(_)
        | UpstreamError::Tunnel { .. }
        | UpstreamError::TlsSettings(_) => Reason::ConnectFailure,
    }
}

/// What is wrong with the certificate of an endpoint; none: that is not what is wrong.
pub(crate) fn refusal_of(error: &UpstreamError) -> Option<PeerVerificationError> {
    match error {
        UpstreamError::Identity(refusal) => Some(refusal.clone()),
        UpstreamError::Handshake(HandshakeError::Tls(error)) => {
            PeerVerificationError::from_handshake(error)
        }
        _ => None,
    }
}

/// Tells of an endpoint that could not be connected to.
pub(crate) fn tell(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    source: Option<SocketAddr>,
    error: &UpstreamError,
) {
    account::refused(worker, state, target, error);
    let (host, port) = (&state.destination.id.host, state.destination.id.port);
    let direction = match target {
        Target::Application(_) => Direction::Inbound,
        Target::Address(_) | Target::Endpoint(..) => Direction::Outbound,
    };
    let destination = match target {
        Target::Application(address) => address.to_string(),
        Target::Address(address) => {
            let names = worker.shared.names.of(address.ip(), now_s());
            if names.is_empty() {
                address.to_string()
            } else {
                format!("{} at {address}", names.join(", "))
            }
        }
        Target::Endpoint(endpoint, _) => match &endpoint.address {
            EndpointAddress::Address(address) => format!("{host}:{port} at {address}"),
            EndpointAddress::Name(name, own) => format!("{host}:{port} at {name}:{own}"),
        },
    };
    let identity = target.endpoint().and_then(|endpoint| endpoint.identity.as_ref());
    let identity = identity.map(ToString::to_string).unwrap_or_default();
    let parties = Parties { direction, source, peer: &identity, destination: &destination };
    worker.events.upstream(parties, error);
}
