//! The other end of a connection: who it is, and what is kept of it for its requests.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::CompiledAuthorization;
use heddle_cert::Serial;
use heddle_ir::request::RequestHead;
use heddle_route::DescriptorFacts;
use heddle_telemetry::Reason;
use heddle_telemetry::istio::RequestRecorder;

use super::{Accepted, parties};
use crate::admission::{Admitted, Party};
use crate::forward::answer::Answer;
use crate::rate_limits::{Asking, CompiledLimits, ConnectionBuckets};
use crate::record::{self, Pair};
use crate::worker::Worker;

/// The other end of a connection, which stays the same for all its requests.
pub(crate) struct Peer {
    pub(crate) accepted: Accepted,
    pub(crate) facts: heddle_authz::Connection,
    pub(crate) client_certificate: Option<String>,
    /// What it speaks inside is HTTP of a TLS server's, which a gateway took off.
    pub(crate) https: bool,
    /// The number of its certificate, for when that is revoked.
    pub(crate) serial: Option<Serial>,
    /// For limits that count by connection.
    buckets: ConnectionBuckets,
    /// What counts its requests: of HTTP, and of gRPC.
    recorders: [OnceCell<Option<Arc<RequestRecorder>>>; 2],
}

impl Peer {
    pub(crate) fn new(
        accepted: Accepted,
        facts: heddle_authz::Connection,
        client_certificate: Option<String>,
    ) -> Self {
        let (recorders, buckets) = Default::default();
        let serial = None;
        Self { accepted, facts, client_certificate, https: false, serial, buckets, recorders }
    }

    /// Whether the certificate that it has proven itself with was revoked since.
    pub(crate) fn is_revoked(&self, worker: &Worker) -> bool {
        self.serial.is_some_and(|serial| worker.shared.identity.revokes(serial))
    }

    /// Tells that it is not served any more.
    pub(crate) fn tell_revoked(&self, worker: &Worker) {
        let why = "the caller's certificate was revoked while it was connected";
        let hint = "`heddle certs` shows what is revoked; the caller's proxy gets another certificate by itself";
        let identity = self.facts.principal().unwrap_or_default();
        let destination = self.accepted.destination;
        let parties = parties(self.accepted, identity, &destination);
        worker.events.failed(parties, Reason::PeerIdentity, &why, hint);
    }

    /// Who asks, as policy sees it.
    pub(crate) fn party(&self) -> Party<'_> {
        Party { https: self.https, ..self.accepted.party(&self.facts) }
    }

    /// Whom limits count.
    pub(crate) fn asking(&self) -> Asking<'_> {
        let port = self.accepted.destination.port();
        Asking { port, identity: self.facts.peer_identity(), buckets: &self.buckets }
    }

    /// Takes a token of each limit for a request, and has it counted by all that are to be asked.
    pub(crate) async fn limit(
        &self,
        worker: &Rc<Worker>,
        inbound: &CompiledAuthorization,
        limits: &CompiledLimits,
        head: &impl RequestHead,
        mut admitted: Admitted,
        route: &str,
    ) -> Result<Admitted, Answer> {
        limits.check(worker, self.asking(), head)?;
        let facts = DescriptorFacts {
            client: inbound.client_address(&self.facts, head),
            identity: self.facts.peer_identity(),
            port: self.accepted.destination.port(),
            route,
            client_certificate: self.client_certificate.as_deref(),
        };
        let direction = self.party().direction;
        limits.ask(worker, head, facts, direction, &mut admitted).await?;
        Ok(admitted)
    }

    pub(crate) fn recorder(&self, worker: &Worker, grpc: bool) -> Option<&Arc<RequestRecorder>> {
        let Self { accepted, facts, recorders, .. } = self;
        let recorder = recorders[usize::from(grpc)].get_or_init(|| {
            let (port, source) = (accepted.destination.port(), accepted.source.ip());
            let (snapshot, identity) =
                (worker.shared.configuration.snapshot(), facts.peer_identity());
            let pair = Pair::inbound(&snapshot, identity, source, port, grpc);
            worker.recorders.requests(pair, |metrics, kind| {
                let services = record::services_on(&snapshot, port);
                record::inbound(metrics, kind, &snapshot, identity, source, services, grpc)
            })
        });
        recorder.as_ref()
    }
}
