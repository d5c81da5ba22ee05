//! What a server of the mesh has proven itself with: a connection to it ends when that is revoked.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use heddle_cert::Serial;
use heddle_http::{Connection, Transport};
use heddle_ident::SpiffeId;
use heddle_tls::{Identity, PeerVerificationError, serial_of};

use super::{Security, UpstreamEndpoint, UpstreamError};
use crate::changes::Listener;
use crate::forward::watch::Standing;
use crate::worker::Worker;

/// The certificate of the server at the other end of a connection.
pub(crate) struct ServerProof {
    serial: Serial,
    own: Arc<Identity>,
    listener: Listener,
    revoked: Cell<bool>,
}

impl std::fmt::Debug for ServerProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerProof").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl ServerProof {
    /// None where it is not the mesh that vouches for the server.
    pub(crate) fn of(
        worker: &Worker,
        endpoint: &UpstreamEndpoint,
        connection: &Connection,
    ) -> Option<Self> {
        let Security::Mesh { .. } = endpoint.security else { return None };
        let Transport::Tls(tls) = &connection.transport else { return None };
        let leaf = tls.common_state().peer_certificates()?.first()?;
        let serial = serial_of(leaf).ok()??;
        let (own, listener) = (worker.shared.identity.clone(), worker.policy_changes.listen());
        // What was revoked while it was opened is no change any more.
        let revoked = Cell::new(own.revokes(serial));
        Some(Self { serial, own, listener, revoked })
    }

    /// Whether it is revoked by now.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.get() || self.own.revokes(self.serial)
    }

    /// Ready when it is revoked.
    pub(crate) async fn revoked(&self) {
        poll_fn(|cx| if self.poll_denied(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Why nothing more is sent there, where it is revoked and it is known who should be there: `expected`.
    pub(crate) fn error(&self, expected: Option<&SpiffeId>) -> Option<UpstreamError> {
        let presented = expected.filter(|_| self.is_revoked())?.clone();
        let serial = Some(self.serial);
        Some(UpstreamError::Identity(PeerVerificationError::Revoked { presented, serial }))
    }
}

impl Standing for ServerProof {
    fn poll_denied(&self, cx: &mut Context<'_>) -> bool {
        if !self.revoked.get() && self.listener.poll_changed(cx) {
            self.revoked.set(self.own.revokes(self.serial));
        }
        self.revoked.get()
    }
}

/// What may come to be denied, and the server that may not be believed any more. By reference: it is part of every request.
#[expect(clippy::ref_option_ref, reason = "a reference is half as large")]
pub(crate) struct Both<'a>(
    pub(crate) &'a Option<&'a dyn Standing>,
    pub(crate) &'a Option<Box<ServerProof>>,
);

impl Both<'_> {
    /// Whether it is the server.
    pub(crate) fn is_revoked(&self) -> bool {
        self.1.as_deref().is_some_and(ServerProof::is_revoked)
    }
}

impl Standing for Both<'_> {
    fn poll_denied(&self, cx: &mut Context<'_>) -> bool {
        self.0.is_some_and(|standing| standing.poll_denied(cx))
            || self.1.as_deref().is_some_and(|proof| proof.poll_denied(cx))
    }
}
