//! Where a client keeps what it needs to resume sessions: one small store per endpoint.
//!
//! Every replica of a service encrypts its tickets with keys of its own, so a store per service would offer
//! tickets to replicas that cannot read them. rustls itself uses a ticket only with the verifier and the
//! certificate it was received under, and both are new in every configuration generation.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// Tickets kept per endpoint. A ticket is used once and each connection brings a new one, so this is how many
/// connections to one endpoint can be opened at a time without a full handshake.
const TICKETS_MAX: usize = 8;

/// Tickets of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct EndpointSessions(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl EndpointSessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for EndpointSessions {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    /// Mesh connections are TLS 1.3 only.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'_>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut sessions = self.lock();
        if sessions.tickets.len() >= TICKETS_MAX {
            sessions.tickets.pop_front();
        }
        sessions.tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        self.lock().tickets.pop_back()
    }
}
