//! How rules, policies and systems are combined, on requests and on streams.

use heddle_ir::authorization::{
    Attribute, Clause, Condition, Fallback, Policy, PolicyAction, Rule, SystemPolicies,
};

use super::support::{
    Request, allows, compiled, condition, exact, from, inbound, not, origin, plaintext, policies,
    policy, range, rule, system,
};
use crate::{AllowedBy, ConsideredRule, Denial, RuleOutcome, Verdict};
use PolicyAction::{Allow, Audit, Deny};

fn namespace(name: &str) -> Condition {
    condition(Attribute::SourceNamespace, vec![exact(name)])
}

fn method(name: &str) -> Condition {
    condition(Attribute::Method, vec![exact(name)])
}

#[test]
fn without_policies_everything_is_allowed() {
    let compiled = compiled(inbound(vec![]));
    let decision = compiled.decide_stream(&plaintext());
    let Verdict::Allow { permit, by } = decision.verdict else { panic!() };
    assert_eq!((permit.generation(), by), (7, AllowedBy::Default));
    assert_eq!((decision.audit, decision.dry_run), (None, None));
}

/// API.md hazard 6.
#[test]
fn an_allow_without_rules_refuses_all_and_an_empty_rule_allows_all() {
    let request = Request::get("/");
    let nothing = policies(vec![policy(Allow, vec![])]);
    assert!(!allows(&nothing.decide_request(&from("a", "b"), &request)));
    assert!(!allows(&nothing.decide_stream(&from("a", "b"))));
    let everything = policies(vec![policy(Allow, vec![rule("r", vec![])])]);
    assert!(allows(&everything.decide_request(&plaintext(), &request)));
    assert!(allows(&everything.decide_stream(&plaintext())));
    let inert = policies(vec![policy(Deny, vec![])]);
    assert!(allows(&inert.decide_stream(&plaintext())));
    let deny_all = policies(vec![policy(Deny, vec![rule("r", vec![])])]);
    assert!(!allows(&deny_all.decide_stream(&from("a", "b"))));
}

#[test]
fn deny_beats_allow_and_says_which_rule() {
    let compiled = policies(vec![
        policy(Allow, vec![rule("all", vec![])]),
        policy(Deny, vec![rule("other", vec![namespace("x")]), rule("hit", vec![namespace("a")])]),
    ]);
    let connection = from("a", "b");
    let decision = compiled.decide_request(&connection, &Request::get("/"));
    let Verdict::Deny(denial @ Denial::Rule(_, rule)) = decision.verdict else { panic!() };
    assert_eq!(&*rule.origin.name, "hit");
    assert_eq!(&*denial.origin().name, "hit");
    assert_eq!(denial.to_string(), "denied by Default hit");
    let decision = compiled.decide_request(&from("c", "b"), &Request::get("/"));
    assert!(matches!(decision.verdict, Verdict::Allow { by: AllowedBy::Rule(..), .. }));
}

#[test]
fn every_system_must_allow_and_a_deny_of_any_comes_first() {
    let open = || system(vec![policy(Allow, vec![rule("open", vec![])])]);
    let closed = || system(vec![policy(Allow, vec![])]);
    let deny = || system(vec![policy(Deny, vec![rule("deny", vec![])])]);
    let silent = || system(vec![]);
    let default_deny = || SystemPolicies::new(Fallback::Deny(origin("default")), Vec::new());
    let verdict = |systems: Vec<SystemPolicies>| {
        let compiled = compiled(inbound(systems));
        let connection = plaintext();
        match compiled.decide_stream(&connection).verdict {
            Verdict::Allow { .. } => "allow".to_owned(),
            Verdict::Ask(question) => panic!("{question:?}"),
            Verdict::Deny(denial) => denial.origin().name.to_string(),
        }
    };
    assert_eq!(verdict(vec![open(), open()]), "allow");
    assert_eq!(verdict(vec![open(), closed()]), "policy");
    assert_eq!(verdict(vec![closed(), open()]), "policy");
    assert_eq!(verdict(vec![open(), silent()]), "allow");
    assert_eq!(verdict(vec![open(), default_deny()]), "default");
    assert_eq!(verdict(vec![default_deny()]), "default");
    assert_eq!(verdict(vec![closed(), deny()]), "deny");
    assert_eq!(verdict(vec![default_deny(), deny()]), "deny");
    // A default acts only where there is no ALLOW policy.
    let mut both = open();
    both.without_allow = Fallback::Deny(origin("default"));
    assert_eq!(verdict(vec![both]), "allow");
}

#[test]
fn clauses_are_and_alternatives_or_conditions_and() {
    let clause = |alternatives| Clause { alternatives };
    let rule = Rule {
        origin: origin("r"),
        clauses: vec![
            clause(vec![
                vec![namespace("a"), not(Attribute::Method, vec![exact("DELETE")])],
                vec![namespace("b")],
            ]),
            clause(vec![vec![method("GET")], vec![method("DELETE")]]),
        ],
    };
    let compiled = policies(vec![policy(Allow, vec![rule])]);
    let decided = |from_namespace: &str, method: &str| {
        let request = Request::get("/").method(method);
        allows(&compiled.decide_request(&from(from_namespace, "x"), &request))
    };
    assert!(decided("a", "GET"));
    assert!(!decided("a", "DELETE"));
    assert!(decided("b", "DELETE"));
    assert!(!decided("b", "PUT"));
    assert!(!decided("c", "GET"));
}

#[test]
fn a_clause_without_alternatives_never_holds() {
    let rule = || Rule { origin: origin("r"), clauses: vec![Clause { alternatives: vec![] }] };
    assert!(!allows(&policies(vec![policy(Allow, vec![rule()])]).decide_stream(&plaintext())));
    assert!(allows(&policies(vec![policy(Deny, vec![rule()])]).decide_stream(&plaintext())));
    let empty = Rule { origin: origin("r"), clauses: vec![Clause { alternatives: vec![vec![]] }] };
    assert!(allows(&policies(vec![policy(Allow, vec![empty])]).decide_stream(&plaintext())));
}

/// API.md hazard 5 and DESIGN section 4.
#[test]
fn on_streams_allow_loses_rules_about_requests_and_deny_keeps_its_other_conditions() {
    let one = |action, conditions| policies(vec![policy(action, vec![rule("r", conditions)])]);
    let a = from("a", "x");
    let b = from("b", "x");
    // ALLOW: the whole rule is gone.
    assert!(!allows(&one(Allow, vec![namespace("a"), method("GET")]).decide_stream(&a)));
    let negated = not(Attribute::Method, vec![exact("PUT")]);
    assert!(!allows(&one(Allow, vec![negated.clone()]).decide_stream(&a)));
    let alternatives = vec![vec![namespace("a")], vec![method("GET")]];
    let either = Rule { origin: origin("r"), clauses: vec![Clause { alternatives }] };
    assert!(!allows(&policies(vec![policy(Allow, vec![either.clone()])]).decide_stream(&a)));
    // DENY: only the conditions about requests are gone.
    let deny = one(Deny, vec![namespace("a"), method("GET")]);
    assert!(!allows(&deny.decide_stream(&a)));
    assert!(allows(&deny.decide_stream(&b)));
    assert!(allows(&deny.decide_request(&a, &Request::get("/").method("PUT"))));
    assert!(!allows(&one(Deny, vec![method("GET")]).decide_stream(&a)));
    assert!(!allows(&one(Deny, vec![negated]).decide_stream(&a)));
    assert!(!allows(&policies(vec![policy(Deny, vec![either])]).decide_stream(&b)));
    let port =
        condition(Attribute::DestinationPort, vec![heddle_ir::authorization::ValueMatch::Port(1)]);
    assert!(allows(&one(Deny, vec![port, method("GET")]).decide_stream(&a)));
}

#[test]
fn audit_marks_and_decides_nothing() {
    let compiled = policies(vec![
        policy(Audit, vec![rule("no", vec![namespace("x")]), rule("yes", vec![method("GET")])]),
        policy(Allow, vec![rule("r", vec![namespace("a")])]),
    ]);
    let allowed = from("a", "x");
    let decision = compiled.decide_request(&allowed, &Request::get("/"));
    assert!(allows(&decision));
    assert_eq!(decision.audit.map(|rule| &*rule.origin.name), Some("yes"));
    let denied = from("b", "x");
    let decision = compiled.decide_request(&denied, &Request::get("/").method("PUT"));
    assert!(!allows(&decision));
    assert_eq!(decision.audit, None);
    // As DENY, it keeps its other conditions on streams.
    assert!(compiled.decide_stream(&allowed).audit.is_some());
}

#[test]
fn dry_run_is_told_and_not_enforced() {
    let dry = |policy: Policy| Policy { dry_run: true, ..policy };
    let connection = from("a", "x");
    let request = Request::get("/");
    let compiled = policies(vec![dry(policy(Deny, vec![rule("dry", vec![namespace("a")])]))]);
    let decision = compiled.decide_request(&connection, &request);
    assert!(allows(&decision));
    let Some(Err(Denial::Rule(_, rule_of_dry_run))) = decision.dry_run else { panic!() };
    assert_eq!(&*rule_of_dry_run.origin.name, "dry");
    // An ALLOW under dry run does not turn the default around, and is not what admits.
    let compiled = policies(vec![dry(policy(Allow, vec![]))]);
    let decision = compiled.decide_request(&connection, &request);
    assert!(allows(&decision));
    assert!(matches!(decision.dry_run, Some(Err(Denial::NoAllowMatches(_)))));
    let compiled =
        policies(vec![policy(Allow, vec![]), dry(policy(Allow, vec![rule("dry", vec![])]))]);
    let decision = compiled.decide_request(&connection, &request);
    assert!(!allows(&decision));
    assert!(matches!(decision.dry_run, Some(Ok(AllowedBy::Rule(..)))));
}

#[test]
fn explanations_say_what_each_rule_failed_on() {
    let compiled = policies(vec![
        policy(Deny, vec![rule("d", vec![namespace("a"), method("PUT")])]),
        policy(Allow, vec![]),
        policy(
            Allow,
            vec![
                rule("m", vec![method("GET")]),
                rule("s", vec![condition(Attribute::SourceAddress, vec![range("10.9.0.0/16")])]),
            ],
        ),
    ]);
    let story = |considered: Vec<ConsideredRule<'_>>| -> Vec<String> {
        considered.iter().map(|considered| considered.outcome.to_string()).collect()
    };
    let connection = from("a", "x");
    let request = Request::get("/");
    assert_eq!(
        story(compiled.explain(&connection, Some(&request))),
        ["not matched: method", "not matched: no rules", "matched", "not matched: source address"]
    );
    let stream = compiled.explain_stream(&connection);
    assert_eq!(stream[0].outcome, RuleOutcome::Matches);
    assert_eq!(stream[2].outcome, RuleOutcome::NeedsRequest);
    assert_eq!(stream[2].rule.map(|rule| &*rule.origin.name), Some("m"));
}
