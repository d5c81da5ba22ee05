//! All small combinations of policies: what must hold for every one of them.

use heddle_ir::authorization::{
    Attribute, Fallback, Policy, PolicyAction, Rule, SystemPolicies, ValueMatch,
};

use super::support::{
    Request, allows, condition, exact, from, inbound, origin, policy, rule, system,
};
use crate::{CompiledAuthorization, Denial, Verdict};

/// Kinds of policies' contents, with what they are on the request and on the stream used here: whether a DENY of it
/// denies, and whether an ALLOW of it allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Everything,
    HttpMatches,
    HttpFails,
    LayerFourFails,
    NoRules,
    Poisoned,
}

const CONTENTS: [Content; 6] = [
    Content::Everything,
    Content::HttpMatches,
    Content::HttpFails,
    Content::LayerFourFails,
    Content::NoRules,
    Content::Poisoned,
];

impl Content {
    fn rules(self) -> Vec<Rule> {
        let method = |name: &str| condition(Attribute::Method, vec![exact(name)]);
        let one = |condition| vec![rule("r", vec![condition])];
        match self {
            Self::Everything => vec![rule("r", vec![])],
            Self::HttpMatches => one(method("GET")),
            Self::HttpFails => one(method("PUT")),
            Self::LayerFourFails => {
                one(condition(Attribute::SourceNamespace, vec![exact("elsewhere")]))
            }
            Self::NoRules => vec![],
            Self::Poisoned => {
                one(condition(Attribute::SourceNamespace, vec![ValueMatch::Poisoned]))
            }
        }
    }

    fn denies(self, is_http: bool) -> bool {
        match self {
            Self::Everything | Self::HttpMatches | Self::Poisoned => true,
            Self::HttpFails => !is_http,
            Self::LayerFourFails | Self::NoRules => false,
        }
    }

    fn allows(self, is_http: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::HttpMatches => is_http,
            Self::HttpFails | Self::LayerFourFails | Self::NoRules | Self::Poisoned => false,
        }
    }
}

/// Action, dry run, content.
type Small = (PolicyAction, bool, Content);

fn all_small() -> Vec<Small> {
    let actions = [PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit];
    let mut all = Vec::new();
    for action in actions {
        for dry_run in [false, true] {
            all.extend(CONTENTS.map(|content| (action, dry_run, content)));
        }
    }
    all
}

fn build(small: Small) -> Policy {
    let (action, dry_run, content) = small;
    Policy { dry_run, ..policy(action, content.rules()) }
}

/// What must be decided: by counting, with no order anywhere.
fn expected(systems: &[(Vec<Small>, bool)], is_http: bool, with_dry_run: bool) -> bool {
    let counts = |small: &&Small| with_dry_run || !small.1;
    let denied = systems.iter().any(|(policies, _)| {
        let mut counted = policies.iter().filter(counts);
        counted.any(|(action, _, content)| *action == PolicyAction::Deny && content.denies(is_http))
    });
    let allowed = systems.iter().all(|(policies, default_deny)| {
        let is_allow = |small: &&Small| small.0 == PolicyAction::Allow;
        let mut allows = policies.iter().filter(counts).filter(is_allow).peekable();
        if allows.peek().is_none() {
            return !default_deny;
        }
        allows.any(|(_, _, content)| content.allows(is_http))
    });
    !denied && allowed
}

fn check(systems: &[(Vec<Small>, bool)]) {
    let built = systems.iter().map(|(policies, default_deny)| SystemPolicies {
        without_allow: if *default_deny {
            Fallback::Deny(origin("default"))
        } else {
            Fallback::Allow
        },
        ..system(policies.iter().copied().map(build).collect())
    });
    let (compiled, _) = CompiledAuthorization::compile(inbound(built.collect()).into(), 1);
    let connection = from("here", "x");
    let request = Request::get("/");
    for is_http in [false, true] {
        let decision = if is_http {
            compiled.decide_request(&connection, &request)
        } else {
            compiled.decide_stream(&connection)
        };
        assert_eq!(allows(&decision), expected(systems, is_http, false), "{systems:?} {is_http}");
        let has_dry_run = systems.iter().flat_map(|(policies, _)| policies).any(|small| small.1);
        let dry_run = decision.dry_run.as_ref().map(Result::is_ok);
        let expected_dry_run = has_dry_run.then(|| expected(systems, is_http, true));
        assert_eq!(dry_run, expected_dry_run, "{systems:?} {is_http}");
        // A DENY rule that matches is what is named, never a missing ALLOW.
        let enforced_deny =
            systems.iter().flat_map(|(policies, _)| policies).any(|(action, dry_run, content)| {
                *action == PolicyAction::Deny && !dry_run && content.denies(is_http)
            });
        let named = matches!(decision.verdict, Verdict::Deny(Denial::Rule(..)));
        assert_eq!(named, enforced_deny, "{systems:?} {is_http}");
    }
}

#[test]
fn all_systems_of_up_to_two_policies_decide_as_counted() {
    let all = all_small();
    for default_deny in [false, true] {
        check(&[(vec![], default_deny)]);
        for first in &all {
            check(&[(vec![*first], default_deny)]);
            for second in &all {
                check(&[(vec![*first, *second], default_deny)]);
            }
        }
    }
}

#[test]
fn all_pairs_of_systems_of_one_policy_decide_as_counted() {
    let all = all_small();
    for first in &all {
        for second in &all {
            for (first_deny, second_deny) in [(false, false), (true, false), (true, true)] {
                check(&[(vec![*first], first_deny), (vec![*second], second_deny)]);
            }
        }
    }
}

/// Adding an enforced DENY policy, wherever, never turns a refusal into leave; for all triples of enforced policies.
#[test]
fn deny_beats_allow_for_all_triples() {
    let enforced: Vec<Small> = all_small().into_iter().filter(|small| !small.1).collect();
    for first in &enforced {
        for second in &enforced {
            for third in &enforced {
                check(&[(vec![*first, *second, *third], false)]);
            }
        }
    }
}
