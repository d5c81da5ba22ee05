//! A request under way, decided again whenever the workload's policy or what is revoked changes: it is ended when it is
//! newly denied, and not touched otherwise.
//!
//! An authoriser outside of the mesh was asked when the request began and is not asked again, nor are tokens verified
//! again: what they said then counts.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::task::Context;

use heddle_authz::CompiledAuthorization;
use heddle_ir::request::RequestHead;
use heddle_wire::http1::{HeadLimits, Parsed};
use heddle_wire::path;
use http::request::Parts;

use super::{Peer, denied};
use crate::admission::{self, Changes};
use crate::changes::Listener;
use crate::forward::client::LentRequestIndex;
use crate::forward::http2::Head;
use crate::forward::watch::Standing;
use crate::worker::Worker;

/// What is kept of a request's head, for another decision.
pub(crate) enum Kept<'a> {
    /// The bytes of an HTTP/1 head, read anew when they are needed, which is seldom.
    Http1(Vec<u8>, HeadLimits),
    /// The head itself.
    Http2(&'a Parts),
}

/// A request that was let through.
pub(crate) struct Admission<'a> {
    worker: &'a Rc<Worker>,
    peer: &'a Peer,
    kept: Kept<'a>,
    listener: Listener,
    denied: Cell<bool>,
    /// What was found out when it was let through.
    known: OnceCell<Rc<Changes>>,
}

impl<'a> Admission<'a> {
    /// Must be made before the policy is read by which the request is decided, so that no change comes in between.
    pub(crate) fn new(worker: &'a Rc<Worker>, peer: &'a Peer, kept: Kept<'a>) -> Self {
        let listener = worker.policy_changes.listen();
        Self { worker, peer, kept, listener, denied: Cell::new(false), known: OnceCell::new() }
    }

    /// Takes note of what was found out about it, which counts for every further decision: its tokens are not verified
    /// again.
    pub(crate) fn know(&self, changes: Option<&Rc<Changes>>) {
        if let Some(changes) = changes {
            let _ = self.known.set(changes.clone());
        }
    }

    /// Whether it is denied by now.
    fn decide(&self) -> bool {
        if self.peer.is_revoked(self.worker) {
            self.peer.tell_revoked(self.worker);
            return true;
        }
        let snapshot = self.worker.shared.configuration.snapshot();
        let Some(inbound) = &snapshot.inbound else { return true };
        let normalization = inbound.inbound().path_normalization;
        match &self.kept {
            Kept::Http1(bytes, limits) => {
                let mut index = LentRequestIndex::new(limits.fields_max);
                let Ok(Parsed::Complete(length)) = index.index().parse(bytes, 0, limits) else {
                    return true;
                };
                let head = index.index().head(bytes, length);
                match path::normalize(head.path_text(), normalization) {
                    Ok(Some(path)) => self.is_denied(inbound, &head.with_path(&path)),
                    Ok(None) => self.is_denied(inbound, &head),
                    Err(_) => true,
                }
            }
            Kept::Http2(parts) => match path::normalize(parts.uri.path(), normalization) {
                Ok(path) => self.is_denied(inbound, &Head::with_path(parts, path.as_deref())),
                Err(_) => true,
            },
        }
    }

    fn is_denied(&self, inbound: &CompiledAuthorization, head: &impl RequestHead) -> bool {
        let known = self.known.get().map(Rc::as_ref);
        let denial = admission::denial_of(inbound, &self.peer.facts, head, known);
        if let Some(denial) = &denial {
            let what = format_args!("{} {} under way newly", head.method(), head.path());
            denied(self.worker, self.peer, &what, denial.origin());
        }
        denial.is_some()
    }
}

impl Standing for Admission<'_> {
    fn poll_denied(&self, cx: &mut Context<'_>) -> bool {
        if !self.denied.get() && self.listener.poll_changed(cx) {
            self.denied.set(self.decide());
        }
        self.denied.get()
    }
}
