//! Property: compiled policies decide as a naive evaluator that reads the IR anew.

use heddle_ident::Cidr;
use heddle_ir::authorization::{
    Attribute, Clause, Condition, Fallback, Policy, PolicyAction, Rule, SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::request::RequestHead;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::support::{Request, allows, facts, inbound, origin, system};
use crate::{CompiledAuthorization, Connection, RuleOutcome, Transport};

/// What an attribute is, all forms under which it is compared; empty when absent.
fn values_of(attribute: &Attribute, peer: Option<(&str, &str)>, request: &Request) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    let of_peer =
        |text: fn(&str, &str) -> String| peer.map(|(ns, sa)| text(ns, sa)).into_iter().collect();
    match attribute {
        Attribute::SourceNamespace => of_peer(|ns, _| ns.to_owned()),
        Attribute::SourceServiceAccount => of_peer(|ns, sa| format!("{ns}/{sa}")),
        Attribute::SourcePrincipal => of_peer(|ns, sa| format!("cluster.local/ns/{ns}/sa/{sa}")),
        Attribute::Method => one(request.method()),
        Attribute::Path => one(request.path()),
        Attribute::Host => {
            let lower = request.authority().to_ascii_lowercase();
            let host = lower.split(':').next().unwrap().to_owned();
            vec![lower, host]
        }
        Attribute::RequestHeader(name) => request
            .header(name)
            .map(|value| String::from_utf8(value.into_owned()).unwrap())
            .into_iter()
            .collect(),
        Attribute::SourceAddress => one("10.1.0.11"),
        Attribute::DestinationPort => one("9080"),
        other => panic!("{other:?} is not generated"),
    }
}

fn value_holds(attribute: &Attribute, value: &ValueMatch, text: &str) -> bool {
    let fold = |own: &str| {
        if *attribute == Attribute::Host { own.to_ascii_lowercase() } else { own.to_owned() }
    };
    match value {
        ValueMatch::Text(TextMatch::Exact(own)) => fold(own) == text,
        ValueMatch::Text(TextMatch::Prefix(own)) => text.starts_with(&fold(own)),
        ValueMatch::Text(TextMatch::Suffix(own)) => text.ends_with(&fold(own)),
        ValueMatch::Text(TextMatch::Present) => !text.is_empty(),
        ValueMatch::Range(own) => own.contains(text.parse().unwrap()),
        ValueMatch::Port(own) => own.to_string() == text,
        other => panic!("{other:?} is not generated"),
    }
}

fn condition_holds(
    condition: &Condition,
    action: PolicyAction,
    peer: Option<(&str, &str)>,
    request: Option<&Request>,
) -> bool {
    if condition.values.contains(&ValueMatch::Poisoned) {
        return action != PolicyAction::Allow;
    }
    let blank = Request::get("/");
    let Some(request) = request.or((!condition.attribute.is_http()).then_some(&blank)) else {
        return true;
    };
    let texts = values_of(&condition.attribute, peer, request);
    let any = texts
        .iter()
        .any(|text| condition.values.iter().any(|v| value_holds(&condition.attribute, v, text)));
    any != condition.negate
}

fn rule_holds(
    rule: &Rule,
    action: PolicyAction,
    peer: Option<(&str, &str)>,
    request: Option<&Request>,
) -> bool {
    let mut conditions =
        rule.clauses.iter().flat_map(|clause| clause.alternatives.iter().flatten());
    if request.is_none()
        && action == PolicyAction::Allow
        && conditions.any(|condition| condition.attribute.is_http())
    {
        return false;
    }
    rule.clauses.iter().all(|clause| {
        clause.alternatives.iter().any(|conditions| {
            conditions.iter().all(|condition| condition_holds(condition, action, peer, request))
        })
    })
}

fn reference(
    systems: &[SystemPolicies],
    peer: Option<(&str, &str)>,
    request: Option<&Request>,
) -> bool {
    let holds = |policy: &Policy| {
        policy.rules.iter().any(|rule| rule_holds(rule, policy.action, peer, request))
    };
    systems.iter().all(|system| {
        let of = |action| system.policies.iter().filter(move |policy| policy.action == action);
        if of(PolicyAction::Deny).any(|policy| holds(policy)) {
            return false;
        }
        if of(PolicyAction::Allow).next().is_none() {
            return system.without_allow == Fallback::Allow;
        }
        of(PolicyAction::Allow).any(|policy| holds(policy))
    })
}

fn text_condition() -> impl Strategy<Value = Condition> {
    let attribute = select(vec![
        Attribute::SourceNamespace,
        Attribute::SourceServiceAccount,
        Attribute::SourcePrincipal,
        Attribute::Method,
        Attribute::Path,
        Attribute::Host,
        Attribute::RequestHeader("h".into()),
    ]);
    let word = select(vec![
        "",
        "a",
        "ns1",
        "ns1/a",
        "cluster.local/ns/ns1/sa/a",
        "GET",
        "/a",
        "B.com",
        "b.com:80",
    ]);
    let value = (0..9_u8, word).prop_map(|(kind, word)| match kind {
        0 => ValueMatch::Poisoned,
        1 | 2 => ValueMatch::Text(TextMatch::Present),
        3 | 4 => ValueMatch::Text(TextMatch::Prefix(word.into())),
        5 | 6 => ValueMatch::Text(TextMatch::Suffix(word.into())),
        _ => ValueMatch::Text(TextMatch::Exact(word.into())),
    });
    (attribute, vec(value, 0..3), any::<bool>()).prop_map(|(attribute, values, negate)| Condition {
        attribute,
        values,
        negate,
    })
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let range = select(vec!["10.1.0.0/16", "10.1.0.11", "10.2.0.0/16"]);
    let address = (range, any::<bool>()).prop_map(|(range, negate)| Condition {
        attribute: Attribute::SourceAddress,
        values: vec![ValueMatch::Range(Cidr::parse(range).unwrap())],
        negate,
    });
    let port = (select(vec![9080, 80]), any::<bool>()).prop_map(|(port, negate)| Condition {
        attribute: Attribute::DestinationPort,
        values: vec![ValueMatch::Port(port)],
        negate,
    });
    prop_oneof![4 => text_condition(), 1 => address, 1 => port]
}

fn any_system() -> impl Strategy<Value = SystemPolicies> {
    let clause =
        vec(vec(any_condition(), 0..3), 0..3).prop_map(|alternatives| Clause { alternatives });
    let rule = vec(clause, 0..3).prop_map(|clauses| Rule { origin: origin("r"), clauses });
    let action = select(vec![PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit]);
    let policy = (action, vec(rule, 0..3)).prop_map(|(action, rules)| Policy {
        origin: origin("p"),
        action,
        dry_run: false,
        authorizer: None,
        rules,
    });
    (vec(policy, 0..4), any::<bool>()).prop_map(|(policies, deny)| SystemPolicies {
        without_allow: if deny { Fallback::Deny(origin("d")) } else { Fallback::Allow },
        ..system(policies)
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let header = proptest::option::of(select(vec!["", "a", "ns1"]));
    let authority = select(vec!["b.com", "B.com:80", "a", ""]);
    (select(vec!["GET", "PUT"]), select(vec!["/", "/a", "/a/b"]), authority, header).prop_map(
        |(method, path, authority, header)| {
            let request = Request::get(path).method(method).authority(authority);
            match header {
                Some(value) => request.header("h", value),
                None => request,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn compiled_policies_decide_as_the_reference(
        systems in vec(any_system(), 0..3),
        peer in proptest::option::of((select(vec!["ns1", "ns2"]), select(vec!["a", "b"]))),
        requests in vec(proptest::option::of(any_request()), 1..6),
    ) {
        let (compiled, _) = CompiledAuthorization::compile(inbound(systems.clone()).into(), 1);
        let connection = match peer {
            Some((ns, sa)) => super::support::from(ns, sa),
            None => Connection::new(Transport::Plaintext, facts(None)),
        };
        for request in &requests {
            let (decision, explained) = match request {
                Some(request) => (
                    compiled.decide_request(&connection, request),
                    compiled.explain(&connection, Some(request)),
                ),
                None => (compiled.decide_stream(&connection), compiled.explain_stream(&connection)),
            };
            let expected = reference(&systems, peer, request.as_ref());
            prop_assert_eq!(allows(&decision), expected, "{:?}", decision);
            for considered in explained {
                let Some(rule) = considered.rule else { continue };
                let holds = rule_holds(rule, considered.policy.action, peer, request.as_ref());
                prop_assert_eq!(holds, considered.outcome == RuleOutcome::Matches);
            }
        }
    }
}
