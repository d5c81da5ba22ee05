//! Compiled policies of all systems, and what they say together. Both directions decide by this.

use std::sync::Arc;

use heddle_ir::authorization::{
    Authorization, Enforcement, ExternalAuthorizer, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies,
};
use heddle_ir::request::RequestHead;

use crate::compile::Problem;
use crate::condition::{CompiledCondition, Facts};
use crate::decision::{AllowedBy, Denial};
use crate::question::{Approvals, Question};

/// The policies of an [`Authorization`], ready to decide.
#[derive(Debug)]
pub(crate) struct CompiledPolicies {
    pub(crate) authorization: Arc<Authorization>,
    /// By system, its policies in the order of the IR.
    pub(crate) systems: Box<[Box<[CompiledPolicy]>]>,
    pub(crate) has_dry_run: bool,
    has_audit: bool,
}

/// A compiled [`Policy`].
#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub(crate) action: PolicyAction,
    pub(crate) dry_run: bool,
    pub(crate) rules: Box<[CompiledRule]>,
    /// Of a CUSTOM policy, the place of its authoriser in the IR; none: there is none of that name.
    authorizer: Option<usize>,
}

/// The alternatives of a clause, each a list of conditions.
pub(crate) type CompiledClause = Box<[Box<[CompiledCondition]>]>;

/// A compiled rule: clauses, of each alternatives, of each conditions.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) clauses: Box<[CompiledClause]>,
    /// Some condition looks at an attribute that only HTTP has.
    pub(crate) has_http: bool,
}

/// Why something does not go on, or not yet.
#[derive(Debug)]
pub(crate) enum Stop<'a> {
    Ask(Question<'a>),
    Deny(Denial<'a>),
}

/// What admits something, and what a system on trial would have refused it for.
pub(crate) type Judged<'a> = (AllowedBy<'a>, Option<Denial<'a>>);

impl CompiledPolicies {
    /// Compiles all policies; what could not be read has its safe meaning.
    pub(crate) fn compile(authorization: Arc<Authorization>, problems: &mut Vec<Problem>) -> Self {
        let systems = authorization.systems.iter().map(|system| {
            let policies = system.policies.iter();
            policies
                .map(|policy| CompiledPolicy::compile(policy, &authorization, problems))
                .collect()
        });
        let systems: Box<[Box<[CompiledPolicy]>]> = systems.collect();
        let any = |test: fn(&CompiledPolicy) -> bool| systems.iter().flatten().any(test);
        let has_dry_run = any(|policy| policy.dry_run);
        let has_audit = any(|policy| policy.action == PolicyAction::Audit);
        Self { authorization, systems, has_dry_run, has_audit }
    }

    /// Whether any rule looks at requests.
    pub(crate) fn needs_requests(&self) -> bool {
        self.systems.iter().flatten().any(|policy| policy.rules.iter().any(|rule| rule.has_http))
    }

    /// The verdict, with or without the policies under dry run: CUSTOM, then DENY, then ALLOW, then the defaults.
    pub(crate) fn judge<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
        with_dry_run: bool,
        approvals: Approvals,
    ) -> Result<Judged<'_>, Stop<'_>> {
        self.ask(facts, approvals)?;
        let mut on_trial = None;
        for (system, compiled) in self.systems_on(facts) {
            if let Some((policy, rule)) =
                first_match(system, compiled, facts, PolicyAction::Deny, with_dry_run)
            {
                refuse(system, Denial::Rule(policy, rule), &mut on_trial)?;
            }
        }
        let mut by = AllowedBy::Default;
        for (system, compiled) in self.systems_on(facts) {
            match allow(system, compiled, facts, with_dry_run) {
                Ok(AllowedBy::Default) => {}
                Ok(stronger) => by = stronger,
                Err(denial) => refuse(system, denial, &mut on_trial)?,
            }
        }
        Ok((by, on_trial))
    }

    /// The first authoriser that must be asked and has not approved.
    fn ask<R: RequestHead>(
        &self,
        facts: Facts<'_, R>,
        approvals: Approvals,
    ) -> Result<(), Stop<'_>> {
        for (system, compiled) in self.systems_on(facts) {
            for (policy, compiled) in policies(system, compiled, PolicyAction::Custom, false) {
                if compiled.authorizer.is_some_and(|place| approvals.has(place)) {
                    continue;
                }
                let Some(rule) = first_rule(policy, compiled, facts) else { continue };
                let authorizers: &[Arc<ExternalAuthorizer>] = &self.authorization.authorizers;
                let known =
                    compiled.authorizer.and_then(|place| Some((place, authorizers.get(place)?)));
                return Err(match known {
                    Some((place, authorizer)) => {
                        Stop::Ask(Question { policy, rule, authorizer, place })
                    }
                    None => Stop::Deny(Denial::NoAuthorizer(policy, rule)),
                });
            }
        }
        Ok(())
    }

    /// The first AUDIT rule that matches.
    pub(crate) fn audit<R: RequestHead>(&self, facts: Facts<'_, R>) -> Option<&Rule> {
        if !self.has_audit {
            return None;
        }
        let mut matches = self.systems_on(facts).filter_map(|(system, compiled)| {
            first_match(system, compiled, facts, PolicyAction::Audit, false)
        });
        matches.next().map(|(_, rule)| rule)
    }

    /// The systems that have a say about the port.
    fn systems_on<R>(
        &self,
        facts: Facts<'_, R>,
    ) -> impl Iterator<Item = (&SystemPolicies, &[CompiledPolicy])> {
        let port = facts.connection.destination_port();
        let systems = self.authorization.systems.iter().zip(&self.systems);
        let on_port = systems.filter(move |(system, _)| system.ports.contains(port));
        on_port.map(|(system, compiled)| (system, &**compiled))
    }
}

/// What becomes of a refusal by a system.
fn refuse<'a>(
    system: &SystemPolicies,
    denial: Denial<'a>,
    on_trial: &mut Option<Denial<'a>>,
) -> Result<(), Stop<'a>> {
    match system.enforcement {
        Enforcement::Enforce => Err(Stop::Deny(denial)),
        Enforcement::Audit(_) => {
            on_trial.get_or_insert(denial);
            Ok(())
        }
    }
}

/// What a system says once no DENY rule matches.
fn allow<'a, R: RequestHead>(
    system: &'a SystemPolicies,
    compiled: &'a [CompiledPolicy],
    facts: Facts<'_, R>,
    with_dry_run: bool,
) -> Result<AllowedBy<'a>, Denial<'a>> {
    let mut unmatched = None;
    for (policy, compiled) in policies(system, compiled, PolicyAction::Allow, with_dry_run) {
        if let Some(rule) = first_rule(policy, compiled, facts) {
            return Ok(AllowedBy::Rule(policy, rule));
        }
        unmatched.get_or_insert(policy);
    }
    match (unmatched, &system.without_allow) {
        (Some(policy), _) => Err(Denial::NoAllowMatches(policy)),
        (None, Fallback::Allow) => Ok(AllowedBy::Default),
        (None, Fallback::Deny(origin)) => Err(Denial::Default(origin)),
    }
}

/// The policies of a system with this action that count.
fn policies<'a>(
    system: &'a SystemPolicies,
    compiled: &'a [CompiledPolicy],
    action: PolicyAction,
    with_dry_run: bool,
) -> impl Iterator<Item = (&'a Policy, &'a CompiledPolicy)> {
    let pairs = system.policies.iter().map(|policy| &**policy).zip(compiled);
    pairs.filter(move |(_, compiled)| {
        compiled.action == action && (with_dry_run || !compiled.dry_run)
    })
}

fn first_match<'a, R: RequestHead>(
    system: &'a SystemPolicies,
    compiled: &'a [CompiledPolicy],
    facts: Facts<'_, R>,
    action: PolicyAction,
    with_dry_run: bool,
) -> Option<(&'a Policy, &'a Rule)> {
    let mut policies = policies(system, compiled, action, with_dry_run);
    policies.find_map(|(policy, compiled)| Some((policy, first_rule(policy, compiled, facts)?)))
}

fn first_rule<'a, R: RequestHead>(
    policy: &'a Policy,
    compiled: &CompiledPolicy,
    facts: Facts<'_, R>,
) -> Option<&'a Rule> {
    let rules = policy.rules.iter().zip(&compiled.rules);
    let mut matching =
        rules.filter(|(_, compiled_rule)| test(compiled_rule, compiled.action, facts).is_ok());
    matching.next().map(|(rule, _)| rule)
}

/// Why a rule does not match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure<'a> {
    /// No alternative of this clause holds; the condition is the first that fails in its first alternative.
    Clause(usize, Option<&'a CompiledCondition>),
    /// It allows by conditions on requests, and this is a stream.
    NeedsRequest,
}

/// Tests a rule of a policy with this action.
pub(crate) fn test<'a, R: RequestHead>(
    rule: &'a CompiledRule,
    action: PolicyAction,
    facts: Facts<'_, R>,
) -> Result<(), Failure<'a>> {
    if rule.has_http && facts.request.is_none() && action == PolicyAction::Allow {
        return Err(Failure::NeedsRequest);
    }
    for (index, clause) in rule.clauses.iter().enumerate() {
        let holds = |conditions: &[CompiledCondition]| {
            conditions.iter().all(|condition| condition.holds(facts))
        };
        if !clause.iter().any(|alternative| holds(alternative)) {
            let first = clause.first().into_iter().flatten();
            let failed = first.clone().find(|condition| !condition.holds(facts));
            return Err(Failure::Clause(index, failed));
        }
    }
    Ok(())
}

impl CompiledPolicy {
    fn compile(
        policy: &Policy,
        authorization: &Authorization,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut rules = Vec::with_capacity(policy.rules.len());
        for rule in &policy.rules {
            let mut errors = Vec::new();
            let clauses = rule.clauses.iter().map(|clause| {
                let alternatives = clause.alternatives.iter().map(|conditions| {
                    let conditions = conditions.iter();
                    conditions
                        .map(|condition| {
                            CompiledCondition::compile(condition, policy.action, &mut errors)
                        })
                        .collect()
                });
                alternatives.collect()
            });
            let clauses: Box<[CompiledClause]> = clauses.collect();
            let mut conditions = clauses.iter().flatten().flatten();
            let has_http = conditions.any(|condition| condition.attribute().is_http());
            rules.push(CompiledRule { clauses, has_http });
            problems.extend(errors.into_iter().map(|cause| Problem {
                origin: rule.origin.clone(),
                action: policy.action,
                cause,
            }));
        }
        let named = policy.authorizer.as_ref();
        let mut authorizers = authorization.authorizers.iter();
        let authorizer =
            named.and_then(|name| authorizers.position(|authorizer| authorizer.name == *name));
        Self { action: policy.action, dry_run: policy.dry_run, rules: rules.into(), authorizer }
    }
}
