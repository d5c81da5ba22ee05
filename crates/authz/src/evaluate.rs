//! Deciding about what arrives at a workload.

use std::net::IpAddr;

use heddle_ir::inbound::MutualTlsMode;
use heddle_ir::request::{NoRequest, RequestHead};

use crate::compile::CompiledAuthorization;
use crate::condition::{Facts, remote_address};
use crate::connection::{Acceptance, Connection, Transport};
use crate::decision::{AllowedBy, Decision, Denial, Verdict};
use crate::permit::Permit;
use crate::policies::{Judged, Stop};
use crate::question::Approvals;

impl CompiledAuthorization {
    /// Whether the transport of a connection is accepted, to be asked once the transport is known and before anything is
    /// read. It grants nothing: every decision asks again, by its own configuration.
    pub fn accept(&self, connection: &Connection) -> Acceptance<'_> {
        let port = connection.destination_port();
        let mutual_tls = self.mutual_tls(port);
        let proven = connection.peer_identity().is_some();
        match (mutual_tls.mode, connection.transport()) {
            (MutualTlsMode::Strict | MutualTlsMode::Permissive, Transport::MutualTls) if proven => {
                Acceptance::Accept
            }
            (
                MutualTlsMode::Permissive | MutualTlsMode::Disable,
                Transport::Plaintext | Transport::OpaqueTls,
            ) => Acceptance::Accept,
            (MutualTlsMode::Strict, Transport::Plaintext)
                if self.may_probe(connection) && !self.probe_paths(port).is_empty() =>
            {
                Acceptance::ProbesOnly(mutual_tls)
            }
            // A certificate without identity proves nothing, and where mutual TLS is off nothing may have ended it.
            (_, Transport::MutualTls)
            | (MutualTlsMode::Strict, Transport::Plaintext | Transport::OpaqueTls) => {
                Acceptance::Refuse(mutual_tls)
            }
        }
    }

    /// Decides about a stream that is not HTTP. Conditions on requests never hold in ALLOW rules; DENY, CUSTOM and AUDIT
    /// rules keep their other conditions.
    pub fn decide_stream(&self, connection: &Connection) -> Decision<'_> {
        self.decide_stream_after(connection, Approvals::NONE)
    }

    /// As [`CompiledAuthorization::decide_stream`], once external authorisers have approved.
    pub fn decide_stream_after(
        &self,
        connection: &Connection,
        approvals: Approvals,
    ) -> Decision<'_> {
        self.decide::<NoRequest>(self.facts(connection, None), approvals)
    }

    /// Decides about one HTTP request.
    pub fn decide_request(
        &self,
        connection: &Connection,
        request: &impl RequestHead,
    ) -> Decision<'_> {
        self.decide_request_after(connection, request, Approvals::NONE)
    }

    /// As [`CompiledAuthorization::decide_request`], once external authorisers have approved.
    pub fn decide_request_after(
        &self,
        connection: &Connection,
        request: &impl RequestHead,
        approvals: Approvals,
    ) -> Decision<'_> {
        self.decide(self.facts(connection, Some(request)), approvals)
    }

    /// The address that a request comes from, as far as whoever tells it is believed.
    pub fn client_address(&self, connection: &Connection, request: &impl RequestHead) -> IpAddr {
        remote_address(&self.inbound.client_address, connection, request)
    }

    pub(crate) fn facts<'f, R>(
        &'f self,
        connection: &'f Connection,
        request: Option<&'f R>,
    ) -> Facts<'f, R> {
        Facts { connection, request, client_address: &self.inbound.client_address }
    }

    fn decide<R: RequestHead>(&self, facts: Facts<'_, R>, approvals: Approvals) -> Decision<'_> {
        let enforced = self.judge(facts, false, approvals);
        let is_question = matches!(enforced, Err(Stop::Ask(_)));
        let dry_run = (self.policies.has_dry_run && !is_question)
            .then(|| match self.judge(facts, true, approvals) {
                Ok((by, _)) => Some(Ok(by)),
                Err(Stop::Deny(denial)) => Some(Err(denial)),
                Err(Stop::Ask(_)) => None,
            })
            .flatten();
        let (verdict, on_trial) = match enforced {
            Ok((by, on_trial)) => {
                (Verdict::Allow { permit: Permit::new(self.generation), by }, on_trial)
            }
            Err(Stop::Ask(question)) => (Verdict::Ask(question), None),
            Err(Stop::Deny(denial)) => (Verdict::Deny(denial), None),
        };
        Decision { verdict, on_trial, audit: self.policies.audit(facts), dry_run }
    }

    /// The verdict, with or without the policies under dry run.
    fn judge<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
        with_dry_run: bool,
        approvals: Approvals,
    ) -> Result<Judged<'_>, Stop<'_>> {
        if let Some(path) = self.probe(facts) {
            return Ok((AllowedBy::Probe(path), None));
        }
        match self.accept(facts.connection) {
            Acceptance::Accept => {}
            Acceptance::ProbesOnly(setting) | Acceptance::Refuse(setting) => {
                return Err(Stop::Deny(Denial::Transport(setting)));
            }
        }
        self.policies.judge(facts, with_dry_run, approvals)
    }

    /// Whether the request is a health check of the node, which needs neither token nor route.
    pub fn is_probe(&self, connection: &Connection, request: &impl RequestHead) -> bool {
        self.probe(self.facts(connection, Some(request))).is_some()
    }

    /// The probe path that the request is for, where it is a health check of the node.
    fn probe<R: RequestHead>(&self, facts: Facts<'_, R>) -> Option<&str> {
        let request = facts.request?;
        let is_read = matches!(request.method(), "GET" | "HEAD");
        if !is_read || !self.may_probe(facts.connection) {
            return None;
        }
        let paths = self.probe_paths(facts.connection.destination_port());
        paths.iter().map(|path| &**path).find(|path| {
            // A probe may be configured with a query; the path decides.
            path.split('?').next() == Some(request.path())
        })
    }

    /// Health checks are plaintext and come from the node.
    fn may_probe(&self, connection: &Connection) -> bool {
        let source = connection.source();
        connection.transport() == Transport::Plaintext
            && self.inbound.probe_sources.iter().any(|range| range.contains(source))
    }

    fn probe_paths(&self, port: u16) -> &[std::sync::Arc<str>] {
        let own = self.inbound.ports.iter().find(|own| own.port == port);
        own.map_or(&[], |own| &own.probe_paths)
    }
}
