//! What the workload may do to others: asked for each place that a request or stream may go to, before anything is opened.
//!
//! Where there are no policies on it, nothing is looked at and nothing is kept. `authz` decides; this module collects what
//! it looks at: the endpoint that was picked, how it is reached, and the names that it was found under.

pub(crate) mod account;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::{
    Connection, OutboundDenial, OutboundPolicy, OutboundRefusal, OutboundTarget, Permit, Transport,
};
use heddle_ir::destination::ClientTls;
use heddle_ir::endpoint::{Endpoint, EndpointAddress};
use heddle_ir::inbound::PathNormalization;
use heddle_ir::request::{ConnectionFacts, RequestHead};
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use heddle_wire::path::normalize;

use crate::egress::account::Denied;
use crate::names::now_s;
use crate::outbound::Accepted;
use crate::snapshot::{DestinationState, Snapshot};
use crate::upstream::proof::ServerProof;
use crate::upstream::{self, Target, UpstreamError};
use crate::worker::Worker;

/// Where permits for the tries of a request come from.
#[derive(Clone, Copy)]
pub(crate) enum Leave<'a> {
    /// Each try asks for its own.
    Asked(&'a Departure),
    /// It has been given already, by what decides about the own application.
    Given(&'a Permit),
}

/// A permit, own or lent.
pub(crate) enum Permitted<'a> {
    Lent(&'a Permit),
    Own(Permit),
}

impl Deref for Permitted<'_> {
    type Target = Permit;

    fn deref(&self) -> &Permit {
        match self {
            Self::Lent(permit) => permit,
            Self::Own(permit) => permit,
        }
    }
}

impl<'a> Leave<'a> {
    /// Asks for a permit to go there. An endpoint that is known by name is resolved first where policies look at addresses,
    /// so that what is connected to is what was judged: the target is then another one.
    pub(crate) async fn permit(
        &self,
        worker: &Rc<Worker>,
        state: &DestinationState,
        target: &mut Target,
    ) -> Result<Permitted<'a>, UpstreamError> {
        match *self {
            Self::Given(permit) | Self::Asked(Departure::Open(permit)) => {
                Ok(Permitted::Lent(permit))
            }
            Self::Asked(Departure::Refused(refusal)) => Err((**refusal).into()),
            // In memory of its own, which most requests do not need.
            Self::Asked(Departure::Judged(judged)) => {
                Box::pin(judged.permit(worker, state, target)).await.map(Permitted::Own)
            }
        }
    }
}

/// What is known of a request of the workload before it is known where it goes. Small, since every request has one.
pub(crate) enum Departure {
    /// It may go wherever it is routed: there are no policies.
    Open(Permit),
    /// Policies decide about each place.
    Judged(Box<Judged>),
    /// It may go nowhere.
    Refused(Box<OutboundRefusal>),
}

impl Departure {
    /// Of a request, as the workload sends it.
    pub(crate) fn of_request(
        snapshot: Arc<Snapshot>,
        accepted: Accepted,
        target: OutboundTarget,
        request: &impl RequestHead,
    ) -> Self {
        let Some(egress) = &snapshot.egress else { return Self::unjudged(&snapshot, target) };
        let looks = egress.looks_at_requests();
        let head = looks.then(|| OwnHead::of(request, egress.headers()));
        let (server_name, names) = (None, Vec::new());
        Self::Judged(Box::new(Judged { snapshot, accepted, target, server_name, head, names }))
    }

    fn unjudged(snapshot: &Snapshot, target: OutboundTarget) -> Self {
        let policy = OutboundPolicy::new(snapshot.targets.index(), None, snapshot.generation);
        match policy.permit_unjudged(target) {
            Ok(permit) => Self::Open(permit),
            Err(refusal) => Self::Refused(Box::new(refusal)),
        }
    }

    /// For a copy of the request, which may go elsewhere and later.
    pub(crate) fn again(&self, worker: &Worker, accepted: Accepted) -> Self {
        match self {
            Self::Open(_) => {
                let snapshot = worker.shared.configuration.snapshot();
                let target = OutboundTarget::Configured;
                if snapshot.egress.is_none() {
                    return Self::unjudged(&snapshot, target);
                }
                // Policies have come meanwhile; without the request they allow what they allow any stream.
                Self::Judged(Box::new(Judged::of_stream(snapshot, accepted, target, None)))
            }
            Self::Judged(judged) => Self::Judged(judged.clone()),
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
        }
    }
}

/// What policies look at.
#[derive(Clone)]
pub(crate) struct Judged {
    snapshot: Arc<Snapshot>,
    accepted: Accepted,
    target: OutboundTarget,
    /// Of the client's own TLS, which is passed on as it is.
    server_name: Option<String>,
    /// None for a stream, and where no rule looks at requests.
    head: Option<OwnHead>,
    /// Names that count for as long as the connection lives, whatever becomes of them elsewhere.
    names: Vec<String>,
}

/// A stream under way, and what has to be asked of it again when policies change.
pub(crate) struct Underway {
    judged: Judged,
    state: Arc<DestinationState>,
    target: Target,
    /// What the server has proven itself with.
    proof: Option<ServerProof>,
}

impl Judged {
    /// Of a stream, TLS with this server name if it is TLS. Kept without policies too, since those may come while the stream
    /// is under way.
    pub(crate) fn of_stream(
        snapshot: Arc<Snapshot>,
        accepted: Accepted,
        target: OutboundTarget,
        server_name: Option<&str>,
    ) -> Self {
        let server_name = server_name.map(str::to_owned);
        Self { snapshot, accepted, target, server_name, head: None, names: Vec::new() }
    }

    /// Asks for a permit to go to `target`, which may change as [`Leave::permit`] says.
    pub(crate) async fn permit(
        &self,
        worker: &Rc<Worker>,
        state: &DestinationState,
        target: &mut Target,
    ) -> Result<Permit, UpstreamError> {
        if self.snapshot.egress.is_some()
            && let Target::Endpoint(endpoint, _) = &*target
            && let EndpointAddress::Name(host, port) = &endpoint.address
        {
            let resolved = Box::pin(upstream::resolve(worker, host.as_str(), *port)).await?;
            if let Target::Endpoint(endpoint, _) = target {
                let address = EndpointAddress::Address(resolved);
                *endpoint = Arc::new(Endpoint { address, ..Endpoint::clone(endpoint) });
            }
        }
        self.decide(worker, state, target)
    }

    /// As [`Judged::permit`], once the address is known.
    fn decide(
        &self,
        worker: &Worker,
        state: &DestinationState,
        target: &Target,
    ) -> Result<Permit, UpstreamError> {
        let Snapshot { targets, egress, generation, .. } = &*self.snapshot;
        let policy = OutboundPolicy::new(targets.index(), egress.as_deref(), *generation);
        let connection = || self.connection(worker, state, target);
        let head = self.head.as_ref();
        let decided = match head {
            None => policy.permit_stream(self.target, connection),
            Some(head) => {
                let decided = policy.permit_request(self.target, connection, head);
                // A server may take the path for what it means: neither form may be one that is not allowed.
                match normalize(&head.path, PathNormalization::MergeSlashes) {
                    Ok(Some(path)) if decided.is_ok() => {
                        let head = OwnHead { path, ..head.clone() };
                        policy.permit_request(self.target, connection, &head)
                    }
                    _ => decided,
                }
            }
        };
        decided.map_err(|denial| match denial {
            OutboundDenial::Policy(denial) => {
                let (source, destination) = (self.accepted.source, address_of(target));
                let connection = connection();
                UpstreamError::Denied(Denied::new(&denial, source, destination, &connection, head))
            }
            OutboundDenial::Refused(refusal) => refusal.into(),
        })
    }

    /// The connection as policies look at it.
    fn connection(&self, worker: &Worker, state: &DestinationState, target: &Target) -> Connection {
        let destination = &state.destination;
        let transport = match target.endpoint().map(|endpoint| endpoint.transport) {
            endpoint if destination.tls.is_mesh(endpoint) => Transport::MutualTls,
            _ if self.server_name.is_some()
                || matches!(destination.tls, ClientTls::Originate(_)) =>
            {
                Transport::OpaqueTls
            }
            _ => Transport::Plaintext,
        };
        // Names are resolved before; an address of nobody is in no range that a rule would list.
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = address_of(target).unwrap_or(nobody);
        let settings = self.snapshot.settings.as_ref();
        let facts = ConnectionFacts {
            peer_identity: settings.map(|settings| settings.workload.identity.clone()),
            source: self.accepted.source,
            destination: address,
            server_name: self.server_name.clone(),
        };
        let connection = Connection::new(transport, facts);
        if !self.snapshot.egress.as_ref().is_some_and(|own| own.needs_names()) {
            return connection;
        }
        let mut names = worker.shared.names.of(address.ip(), now_s());
        names.extend(self.names.iter().cloned());
        // What a route of a network sends on, that network's policy has nothing more to say about.
        names.extend(destination.id.network_name());
        if let Target::Endpoint(..) = target {
            // What is configured as the address of a host is found under it.
            names.push(destination.id.host.as_str().to_owned());
        }
        connection.with_destination_names(names)
    }
}

impl Underway {
    /// A stream that has been let through.
    pub(crate) fn new(
        worker: &Worker,
        mut judged: Judged,
        state: Arc<DestinationState>,
        target: Target,
        proof: Option<ServerProof>,
    ) -> Self {
        if let Some(address) = address_of(&target) {
            judged.names = worker.shared.names.of(address.ip(), now_s());
        }
        Self { judged, state, target, proof }
    }

    /// Ready when a change of configuration denies what was permitted, or the server's certificate is revoked; that has been
    /// told then.
    pub(crate) async fn newly_denied(mut self, worker: &Worker) {
        let mut changes = worker.shared.configuration.changes();
        changes.mark_unchanged();
        loop {
            // What has been put in place before this looked counts too.
            let snapshot = worker.shared.configuration.snapshot();
            if let Some(proof) = self.proof.as_ref().filter(|proof| proof.is_revoked()) {
                worker.events.count(Direction::Outbound, Some(Reason::PeerIdentity));
                let expected = self.target.endpoint().and_then(|own| own.identity.as_ref());
                if let Some(error) = proof.error(expected) {
                    let source = Some(self.judged.accepted.source);
                    upstream::tell(worker, &self.state, &self.target, source, &error);
                }
                return;
            }
            if snapshot.generation != self.judged.snapshot.generation {
                self.judged.snapshot = snapshot;
                // What is configured about the destination decides about new streams; of these only policies are asked.
                self.judged.target = OutboundTarget::Configured;
                if let Err(error) = self.judged.decide(worker, &self.state, &self.target) {
                    worker.events.count(Direction::Outbound, Some(upstream::reason_of(&error)));
                    let source = Some(self.judged.accepted.source);
                    return upstream::tell(worker, &self.state, &self.target, source, &error);
                }
            }
            if changes.changed().await.is_err() {
                // Nothing publishes any more: what holds now holds on.
                return std::future::pending().await;
            }
        }
    }
}

fn address_of(target: &Target) -> Option<SocketAddr> {
    match target {
        Target::Address(address) | Target::Application(address) => Some(*address),
        Target::Endpoint(endpoint, _) => match endpoint.address {
            EndpointAddress::Address(address) => Some(address),
            EndpointAddress::Name(..) => None,
        },
    }
}

/// What rules look at of a request, kept while its head is on its way.
#[derive(Clone, Debug)]
struct OwnHead {
    method: String,
    path: String,
    query: Option<String>,
    authority: String,
    scheme: String,
    headers: Vec<(Arc<str>, Vec<u8>)>,
}

impl OwnHead {
    fn of(head: &impl RequestHead, headers: &[Arc<str>]) -> Self {
        let value = |name: &Arc<str>| Some((name.clone(), head.header(name)?.into_owned()));
        Self {
            method: head.method().to_owned(),
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            authority: head.authority().to_owned(),
            scheme: head.scheme().to_owned(),
            headers: headers.iter().filter_map(value).collect(),
        }
    }
}

impl RequestHead for OwnHead {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn scheme(&self) -> &str {
        &self.scheme
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let found = self.headers.iter().find(|(own, _)| **own == *name);
        found.map(|(_, value)| Cow::Borrowed(&value[..]))
    }
}
