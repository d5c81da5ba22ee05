//! Open config streams: one per proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ident::WorkloadId;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::ResourceName;
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_sync::{Handled, ProtocolError, Rejection, ServerStream};
use heddle_translate::Translator;
use tokio::sync::Notify;

use crate::catalog::{Catalog, View};

/// Names a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SessionId(u64);

/// All open streams.
#[derive(Default)]
pub(crate) struct Sessions {
    last: u64,
    open: BTreeMap<SessionId, Session>,
}

/// One open stream.
pub(crate) struct Session {
    pub(crate) workload: WorkloadId,
    pub(crate) connected_at: SystemTime,
    stream: ServerStream,
    scope: Option<ScopeId>,
    outbounds: BTreeSet<OutboundKey>,
    wake: Arc<Notify>,
    /// Must end: the reason for the client.
    ended: Option<&'static str>,
}

impl Sessions {
    /// Opens a stream. An older one of the same workload is ended: its proxy has come back.
    pub(crate) fn open(
        &mut self,
        workload: WorkloadId,
        scope: Option<ScopeId>,
        now: SystemTime,
    ) -> (SessionId, Arc<Notify>) {
        for session in self.open.values_mut().filter(|session| session.workload == workload) {
            session.end("another stream of the same proxy was opened");
        }
        self.last += 1;
        let (id, wake) = (SessionId(self.last), Arc::new(Notify::new()));
        let session = Session {
            workload,
            connected_at: now,
            stream: ServerStream::new(),
            scope,
            outbounds: BTreeSet::new(),
            wake: wake.clone(),
            ended: None,
        };
        self.open.insert(id, session);
        (id, wake)
    }

    /// The stream is gone. Returns what nobody subscribes to any more.
    pub(crate) fn close(&mut self, id: SessionId) -> Vec<ResourceName> {
        let Some(session) = self.open.remove(&id) else { return Vec::new() };
        let names = session.stream.accepted().map(|(name, _)| name.clone());
        names.filter(|name| !self.is_subscribed(name)).collect()
    }

    /// Takes a request in. Returns what it meant, and what nobody subscribes to any more.
    pub(crate) fn handle_request(
        &mut self,
        id: SessionId,
        request: &DeltaDiscoveryRequest,
    ) -> Result<(Handled, Vec<ResourceName>), ProtocolError> {
        let Some(session) = self.open.get_mut(&id) else { return Ok(Default::default()) };
        let handled = session.stream.handle_request(request)?;
        for name in &handled.unsubscribed {
            if let ResourceName::Outbound(key) = name {
                session.outbounds.remove(key);
            }
        }
        for name in &handled.subscribed {
            if let ResourceName::Outbound(key) = name {
                session.outbounds.insert(key.clone());
            }
        }
        let unused = handled.unsubscribed.iter().filter(|name| !self.is_subscribed(name));
        let unused = unused.cloned().collect();
        Ok((handled, unused))
    }

    /// The next response of a stream.
    pub(crate) fn poll_transmit(
        &mut self,
        id: SessionId,
        catalog: &mut Catalog,
        translator: &Translator,
    ) -> Option<DeltaDiscoveryResponse> {
        let Session { workload, stream, scope, outbounds, .. } = self.open.get_mut(&id)?;
        let scope = scope.as_ref();
        stream.poll_transmit(&mut View { catalog, translator, workload, scope, outbounds })
    }

    /// These resources changed: streams that subscribe to one of them are woken.
    pub(crate) fn handle_changes(
        &mut self,
        names: &BTreeSet<ResourceName>,
        scope_of: impl Fn(&WorkloadId) -> Option<ScopeId>,
    ) {
        for session in self.open.values_mut() {
            let own = ResourceName::Proxy(session.workload.clone());
            if names.contains(&own) {
                let scope = scope_of(&session.workload);
                if scope != session.scope {
                    // What the proxy may see is another matter now.
                    session.scope = scope;
                    session.stream.handle_change_of_all();
                    session.wake.notify_one();
                }
            }
            let subscribed = names.iter().filter(|name| session.stream.is_subscribed(name));
            let subscribed: Vec<_> = subscribed.cloned().collect();
            for name in &subscribed {
                session.stream.handle_change(name);
            }
            if !subscribed.is_empty() {
                session.wake.notify_one();
            }
        }
    }

    /// Ends the streams of a workload.
    pub(crate) fn end(&mut self, workload: &WorkloadId, reason: &'static str) {
        for session in self.open.values_mut().filter(|session| session.workload == *workload) {
            session.end(reason);
        }
    }

    /// The stream of a workload's proxy; none: it has none.
    pub(crate) fn of(&self, workload: &WorkloadId) -> Option<&Session> {
        let mut sessions = self.open.values();
        sessions.find(|session| session.workload == *workload && session.ended.is_none())
    }

    /// A stream by its id.
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.open.get(&id)
    }

    /// All streams.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.open.values()
    }

    fn is_subscribed(&self, name: &ResourceName) -> bool {
        self.open.values().any(|session| session.stream.is_subscribed(name))
    }
}

impl Session {
    /// Why the stream must end; none: it goes on.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        self.ended
    }

    /// Whether its proxy has everything.
    pub(crate) fn is_settled(&self) -> bool {
        self.stream.is_settled()
    }

    /// What its proxy holds: names, with versions where they exist.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (&ResourceName, Option<&str>)> {
        self.stream.accepted()
    }

    /// The version of a resource that its proxy holds.
    pub(crate) fn accepted_version(&self, name: &ResourceName) -> Option<&str> {
        self.stream.accepted_version(name)
    }

    /// What its proxy refuses.
    pub(crate) fn rejections(&self) -> impl Iterator<Item = Rejection> {
        self.stream.rejections()
    }

    fn end(&mut self, reason: &'static str) {
        self.ended.get_or_insert(reason);
        self.wake.notify_one();
    }
}
