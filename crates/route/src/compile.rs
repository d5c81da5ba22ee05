//! Compiling a table, and deciding by it.

use std::fmt;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ir::http_route::{BackendTarget, HttpAction, HttpRule, WeightedBackend};
use heddle_ir::outbound::Outbound;
use heddle_ir::request::RequestHead;
use heddle_pattern::PatternError;

use crate::cors::CompiledCors;
use crate::decision::{RouteAction, RouteDecision};
use crate::draw::{self, Weights};
use crate::index::PathIndex;
use crate::matching::{CompiledMatch, CompiledPath, FailedCondition};
use crate::order::{self, Entry};
use crate::rewrite::CompiledRewrite;
use crate::stream::CompiledStreams;

/// The routes of one host and port, ready to decide.
#[derive(Debug)]
pub struct CompiledRoutes {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) rules: Box<[CompiledRule]>,
    /// Every match in the order it is tried.
    pub(crate) entries: Box<[Entry]>,
    /// Which entries a path can satisfy; none: all are tried.
    index: Option<PathIndex>,
    pub(crate) streams: CompiledStreams,
}

/// The compiled parts of an [`HttpRule`].
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) matches: Box<[CompiledMatch]>,
    /// By match: `rule.match` where the match has a name.
    names: Box<[Option<Box<str>>]>,
    weights: Weights,
    pub(crate) rewrite: Option<CompiledRewrite>,
    pub(crate) cors: Option<CompiledCors>,
    /// Why no request of this rule can be forwarded as configured.
    broken: Option<Box<str>>,
}

/// Something of a table that could not be compiled; the rest of the table acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// What happens instead.
    pub effect: Effect,
    /// What is wrong, in a sentence.
    pub cause: String,
}

/// What happens instead of what could not be compiled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// The match never matches.
    MatchNeverMatches,
    /// An allowed origin of a CORS policy matches nothing.
    OriginNeverMatches,
    /// The rule matches, and its requests are answered with 500.
    RuleRefuses,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::MatchNeverMatches => "this match never matches",
            Effect::OriginNeverMatches => "this origin is never allowed",
            Effect::RuleRefuses => "its requests are answered with 500",
        };
        write!(f, "{}: {}; {effect}", self.origin, self.cause)
    }
}

impl CompiledRoutes {
    /// Compiles a table. Whatever cannot be compiled has its safe meaning and is returned as a problem.
    pub fn compile(outbound: Arc<Outbound>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let rules = outbound.http.rules.iter();
        let rules = rules
            .map(|rule| CompiledRule::compile(rule, outbound.destinations.len(), &mut problems))
            .collect();
        let entries = order::entries(&outbound.http);
        let index = PathIndex::new(&outbound.http, &entries);
        let streams = CompiledStreams::compile(&outbound);
        (Self { outbound, rules, entries: entries.into(), index, streams }, problems)
    }

    /// What was compiled.
    pub fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    /// Decides where a request goes; none when no rule matches (404, gRPC UNIMPLEMENTED, flag NR).
    ///
    /// `random` must be spread evenly over `u64`; the backend is drawn from it by exact shares, and delay and abort
    /// from numbers derived from it.
    pub fn decide(&self, request: &impl RequestHead, random: u64) -> Option<RouteDecision<'_>> {
        self.decision(self.find(request)?, random)
    }

    /// The first match that holds.
    fn find(&self, request: &impl RequestHead) -> Option<Entry> {
        let matches = |entry: &&Entry| self.test(**entry, request).is_ok();
        let entry = match &self.index {
            None => self.entries.iter().find(matches),
            Some(index) => {
                let candidates = index.candidates(request.path());
                candidates.filter_map(|number| self.entries.get(number)).find(matches)
            }
        };
        entry.copied()
    }

    /// Everything that [`CompiledRoutes::decide`] may answer to a request, one decision for each backend that has weight,
    /// with its weight; one with the weight 1 where there is nothing to draw. Empty when no rule matches. Delay and abort
    /// are left out, since they are drawn by themselves: the rule has their shares.
    pub fn decide_all(&self, request: &impl RequestHead) -> Vec<(u32, RouteDecision<'_>)> {
        let Some(entry) = self.find(request) else { return Vec::new() };
        let Some(decision) = self.decision(entry, 0) else { return Vec::new() };
        let decision = RouteDecision { delay: None, abort: None, ..decision };
        let compiled = &self.rules[entry.rule];
        let drawn = match &decision.rule.action {
            HttpAction::Forward(backends) if compiled.broken.is_none() => backends,
            _ => return vec![(1, decision)],
        };
        let drawn = drawn.iter().filter(|backend| backend.weight > 0);
        let each = drawn.map(|backend| {
            (backend.weight, RouteDecision { action: self.action_of(backend), ..decision })
        });
        let each: Vec<_> = each.collect();
        if each.is_empty() { vec![(1, decision)] } else { each }
    }

    /// Tests the match that `entry` stands for.
    pub(crate) fn test(
        &self,
        entry: Entry,
        request: &impl RequestHead,
    ) -> Result<(), FailedCondition> {
        match entry.matched {
            Some(index) => self.rules[entry.rule].matches[index].test(request),
            None => Ok(()),
        }
    }

    fn decision(&self, entry: Entry, random: u64) -> Option<RouteDecision<'_>> {
        let rule = self.outbound.http.rules.get(entry.rule)?;
        let compiled = &self.rules[entry.rule];
        let matched = entry.matched.and_then(|index| rule.matches.get(index));
        let name = entry.matched.and_then(|index| compiled.names[index].as_deref());
        let fault = rule.fault.as_ref();
        let delay = fault.and_then(|fault| fault.delay.as_ref());
        let abort = fault.and_then(|fault| fault.abort.as_ref());
        Some(RouteDecision {
            rule,
            rule_index: entry.rule,
            matched,
            name: name.unwrap_or(&rule.name),
            action: self.action(rule, compiled, random),
            delay: delay
                .filter(|delay| draw::comes_out(random, draw::DELAY, delay.share_ppm))
                .map(|delay| delay.duration),
            abort: abort
                .filter(|abort| draw::comes_out(random, draw::ABORT, abort.share_ppm))
                .map(|abort| abort.status),
            compiled,
            destinations: &self.outbound.destinations,
            random,
            path: entry.matched.and_then(|index| compiled.path_of(index)),
        })
    }

    fn action<'a>(
        &'a self,
        rule: &'a HttpRule,
        compiled: &'a CompiledRule,
        random: u64,
    ) -> RouteAction<'a> {
        if let Some(reason) = &compiled.broken {
            return RouteAction::Refuse { status: 500, reason };
        }
        let backends = match &rule.action {
            HttpAction::Forward(backends) => backends,
            HttpAction::Redirect(redirect) => return RouteAction::Redirect(redirect),
            HttpAction::Respond(response) => return RouteAction::Respond(response),
        };
        let Some(backend) = compiled.weights.pick(random).and_then(|index| backends.get(index))
        else {
            // Gateway API: a rule whose backends have no weight between them answers 500.
            return RouteAction::Refuse { status: 500, reason: "no backend has weight" };
        };
        self.action_of(backend)
    }

    fn action_of<'a>(&'a self, backend: &'a WeightedBackend) -> RouteAction<'a> {
        match &backend.target {
            BackendTarget::Destination(index) => match self.outbound.destinations.get(*index) {
                Some(destination) => {
                    RouteAction::Forward { backend, destination_index: *index, destination }
                }
                None => RouteAction::Refuse { status: 500, reason: NO_DESTINATION },
            },
            BackendTarget::Invalid { status, reason } => {
                RouteAction::Refuse { status: *status, reason }
            }
        }
    }
}

const NO_DESTINATION: &str = "a backend refers to a destination that the table does not have";

impl CompiledRule {
    fn compile(rule: &HttpRule, destinations: usize, problems: &mut Vec<Problem>) -> Self {
        let mut report = |origin: &Origin, effect, errors: &mut Vec<PatternError>| {
            for error in errors.drain(..) {
                problems.push(Problem { origin: origin.clone(), effect, cause: error.to_string() });
            }
        };
        let mut errors = Vec::new();
        let mut matches = Vec::with_capacity(rule.matches.len());
        for matched in &rule.matches {
            matches.push(CompiledMatch::compile(matched, &mut errors));
            report(&matched.origin, Effect::MatchNeverMatches, &mut errors);
        }
        let cors = rule.cors.as_ref().map(|policy| {
            let compiled = CompiledCors::compile(policy, &mut errors);
            report(&policy.origin, Effect::OriginNeverMatches, &mut errors);
            compiled
        });
        let (path, weights) = match &rule.action {
            HttpAction::Forward(backends) => {
                (&rule.rewrite.path, Weights::new(backends.iter().map(|backend| backend.weight)))
            }
            HttpAction::Redirect(redirect) => (&redirect.path, Weights::default()),
            HttpAction::Respond(_) => (&None, Weights::default()),
        };
        let rewrite = path.as_ref().map(CompiledRewrite::compile).transpose();
        let broken = match &rewrite {
            Err(error) => Some(error.to_string()),
            Ok(_) => refers_outside(rule, destinations).then(|| NO_DESTINATION.to_owned()),
        };
        if let Some(cause) = &broken {
            problems.push(Problem {
                origin: rule.origin.clone(),
                effect: Effect::RuleRefuses,
                cause: cause.clone(),
            });
        }
        let names = rule.matches.iter().map(|matched| {
            (!matched.name.is_empty()).then(|| format!("{}.{}", rule.name, matched.name).into())
        });
        Self {
            matches: matches.into(),
            names: names.collect(),
            weights,
            rewrite: rewrite.unwrap_or_default(),
            cors,
            broken: broken.map(Into::into),
        }
    }

    fn path_of(&self, index: usize) -> Option<&CompiledPath> {
        self.matches.get(index).and_then(CompiledMatch::path)
    }
}

/// Whether a backend refers to a destination that does not exist, which `proto` and `translate` prevent.
fn refers_outside(rule: &HttpRule, destinations: usize) -> bool {
    let HttpAction::Forward(backends) = &rule.action else { return false };
    backends.iter().any(
        |backend| matches!(backend.target, BackendTarget::Destination(index) if index >= destinations),
    )
}
