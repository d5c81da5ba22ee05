//! What is decided about a request.

use std::sync::Arc;
use std::time::Duration;

use heddle_ir::destination::Destination;
use heddle_ir::http_route::{
    AbortStatus, BackendTarget, DirectResponse, HeaderEdits, HttpAction, HttpMatch, HttpRule,
    Mirror, Redirect, WeightedBackend,
};
use heddle_ir::request::RequestHead;

use crate::compile::CompiledRule;
use crate::cors::CorsOutcome;
use crate::draw;
use crate::matching::CompiledPath;
use crate::redirect;
use crate::rewrite::CompiledRewrite;

/// The decision about one request. It borrows from the compiled table and nothing else.
///
/// The order in which the parts act: CORS (a preflight may be answered here), delay, abort, then the action.
#[derive(Clone, Copy, Debug)]
pub struct RouteDecision<'a> {
    /// The rule that matched.
    pub rule: &'a HttpRule,
    /// Its index in the table.
    pub rule_index: usize,
    /// The match of the rule that matched; none when the rule has no matches.
    pub matched: Option<&'a HttpMatch>,
    /// For telemetry: the rule's name, or `rule.match` where the match has one.
    pub name: &'a str,
    /// What happens.
    pub action: RouteAction<'a>,
    /// Wait this long first; drawn already.
    pub delay: Option<Duration>,
    /// Answer with this instead of the action; drawn already.
    pub abort: Option<AbortStatus>,
    pub(crate) compiled: &'a CompiledRule,
    pub(crate) rewrite: Option<&'a CompiledRewrite>,
    pub(crate) path: Option<&'a CompiledPath>,
    pub(crate) destinations: &'a [Arc<Destination>],
    /// What everything about the request is drawn from.
    pub(crate) random: u64,
}

/// A copy of a request that goes elsewhere too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestCopy<'a> {
    /// What makes it.
    pub mirror: &'a Mirror,
    /// Index into [`heddle_ir::outbound::Outbound::destinations`].
    pub destination_index: usize,
    /// Where it goes.
    pub destination: &'a Arc<Destination>,
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteAction<'a> {
    /// It goes to this backend.
    Forward {
        /// The backend, drawn by weight.
        backend: &'a WeightedBackend,
        /// Index into [`heddle_ir::outbound::Outbound::destinations`].
        destination_index: usize,
        /// The destination.
        destination: &'a Arc<Destination>,
    },
    /// It is answered with a redirection; [`RouteDecision::write_location`] says where to.
    Redirect(&'a Redirect),
    /// It cannot be forwarded as configured, and is answered with this status (gRPC: UNAVAILABLE).
    Refuse {
        /// 500 or 503.
        status: u16,
        /// For the operator, one sentence.
        reason: &'a str,
    },
    /// It is answered with a fixed response.
    Respond(&'a DirectResponse),
}

/// One change of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderEdit<'a> {
    /// Add a value beside those that are there.
    Add(&'a str, &'a str),
    /// Remove every value.
    Remove(&'a str),
    /// Replace every value.
    Set(&'a str, &'a str),
}

impl<'a> RouteDecision<'a> {
    /// Appends the path that the upstream gets to `out`; `path` is the request's, without query. False when it stays
    /// as it is, and nothing was appended. The query is kept by the caller.
    pub fn write_path(&self, path: &str, out: &mut String) -> bool {
        match (self.rewrite, &self.action) {
            (Some(rewrite), RouteAction::Forward { .. }) => {
                rewrite.write(path, self.path, out);
                true
            }
            _ => false,
        }
    }

    /// The authority that the upstream gets; none: the request's. The backend's rewrite counts before the rule's, that
    /// before a `host` header set by the rule, and that before one set by the backend (as Istio configures Envoy).
    pub fn authority(&self) -> Option<&'a str> {
        let RouteAction::Forward { backend, .. } = self.action else { return None };
        let of_backend = backend.rewrite.authority.as_deref();
        of_backend
            .or(self.rule.rewrite.authority.as_deref())
            .or_else(|| authority_edit(&self.rule.request_headers))
            .or_else(|| authority_edit(&backend.request_headers))
    }

    /// Changes of the request head, in the order in which they act: the rule's, then the backend's. Changes of `Host`
    /// and of pseudo-headers are not among them; [`RouteDecision::authority`] has them.
    pub fn request_edits(&self) -> impl Iterator<Item = HeaderEdit<'a>> + use<'a> {
        let backend = self.backend().map(|backend| &backend.request_headers);
        edits(&self.rule.request_headers).chain(backend.into_iter().flat_map(edits))
    }

    /// Changes of the response head, in the order in which they act: the rule's, then the backend's.
    pub fn response_edits(&self) -> impl Iterator<Item = HeaderEdit<'a>> + use<'a> {
        let backend = self.backend().map(|backend| &backend.response_headers);
        edits(&self.rule.response_headers).chain(backend.into_iter().flat_map(edits))
    }

    /// What CORS asks for.
    pub fn cors<'r>(&self, request: &'r impl RequestHead) -> CorsOutcome<'r>
    where
        'a: 'r,
    {
        self.compiled.cors.as_ref().map_or(CorsOutcome::None, |cors| cors.decide(request))
    }

    /// Whether it is a preflight of CORS that is answered here.
    pub fn is_preflight(&self, request: &impl RequestHead) -> bool {
        matches!(self.cors(request), CorsOutcome::Preflight(_) | CorsOutcome::PreflightUnmatched)
    }

    /// Appends the value of `Location` to `out`, for a redirection; false, and nothing appended, for anything else.
    /// `listener_port` is the port that the client connected to.
    pub fn write_location(
        &self,
        request: &impl RequestHead,
        listener_port: u16,
        out: &mut String,
    ) -> bool {
        let RouteAction::Redirect(redirect) = self.action else { return false };
        redirect::write_location(redirect, self.rewrite, self.path, request, listener_port, out);
        true
    }

    /// The copies of a request that is forwarded, drawn already, each independently of the others and of the backend.
    /// Those to targets that are not valid are not among them.
    pub fn copies(&self) -> impl Iterator<Item = RequestCopy<'a>> + use<'a> {
        let (random, destinations) = (self.random, self.destinations);
        let forwards = matches!(self.action, RouteAction::Forward { .. });
        let mirrors = if forwards { &*self.rule.mirrors } else { &[] };
        let drawn = mirrors.iter().zip(0..).filter(move |(mirror, number)| {
            draw::comes_out(random, draw::mirror(*number), mirror.share_ppm)
        });
        drawn.filter_map(|(mirror, _)| {
            let BackendTarget::Destination(destination_index) = mirror.target else { return None };
            let destination = destinations.get(destination_index)?;
            Some(RequestCopy { mirror, destination_index, destination })
        })
    }

    /// Turns to the first backend whose destination `is_wanted`, whatever its weight: the client's session is there. False
    /// when there is none, and the drawn one stays.
    pub fn turn_to(&mut self, is_wanted: impl Fn(&Destination) -> bool) -> bool {
        let (RouteAction::Forward { .. }, HttpAction::Forward(backends)) =
            (self.action, &self.rule.action)
        else {
            return false;
        };
        let found = backends.iter().find_map(|backend| {
            let BackendTarget::Destination(destination_index) = backend.target else { return None };
            let destination = self.destinations.get(destination_index)?;
            let wanted = is_wanted(destination);
            wanted.then_some(RouteAction::Forward { backend, destination_index, destination })
        });
        if let Some(action) = found {
            self.action = action;
        }
        found.is_some()
    }

    fn backend(&self) -> Option<&'a WeightedBackend> {
        match self.action {
            RouteAction::Forward { backend, .. } => Some(backend),
            RouteAction::Redirect(_) | RouteAction::Refuse { .. } | RouteAction::Respond(_) => None,
        }
    }
}

/// Envoy's order, in which `translate` writes edits down: a header that is both removed and set is there afterwards.
fn edits(edits: &HeaderEdits) -> impl Iterator<Item = HeaderEdit<'_>> {
    let removed = edits.remove.iter().map(|name| HeaderEdit::Remove(name));
    let set = edits.set.iter().map(|(name, value)| HeaderEdit::Set(name, value));
    let added = edits.add.iter().map(|(name, value)| HeaderEdit::Add(name, value));
    removed.chain(set).chain(added).filter(|edit| {
        let (HeaderEdit::Add(name, _) | HeaderEdit::Remove(name) | HeaderEdit::Set(name, _)) = edit;
        !name.starts_with(':') && *name != "host"
    })
}

/// The authority that edits ask for: setting `host` or `:authority` rewrites it, and set counts before add.
fn authority_edit(edits: &HeaderEdits) -> Option<&str> {
    let is_authority = |name: &str| name == "host" || name == ":authority";
    let mut wanted = edits.set.iter().chain(&edits.add).filter(|(name, _)| is_authority(name));
    wanted.next().map(|(_, value)| &**value)
}
