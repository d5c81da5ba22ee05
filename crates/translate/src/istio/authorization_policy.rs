//! AuthorizationPolicy: who may do what (API.md 3.3).
//!
//! What cannot be read or checked never opens anything: a DENY rule with it denies whatever the rest of the rule
//! describes, an ALLOW rule with it never matches, and a policy of which the action or the workloads cannot be read
//! lets nothing pass.

use std::sync::Arc;

use heddle_api::istio::{Action, AuthorizationPolicy, Rule as WrittenRule, RuleFrom, RuleTo};
use heddle_api::{At, Object};
use heddle_ir::authorization::{Attribute, Clause, Condition, Policy, PolicyAction, Rule};

use crate::codes;
use crate::engine::Reader;
use crate::istio::authorization_values::{self as values, Context};
use crate::istio::targeting;
use crate::mesh::MeshKey;
use crate::report::Report;
use crate::service::ServiceKey;
use crate::workload::Facts;

type Object_ = Object<AuthorizationPolicy>;

const DRY_RUN: &str = "istio.io/dry-run";

/// Whether a policy is for a workload. The namespace has been looked at: it is the workload's or the root.
pub(crate) fn applies(reader: &Reader<'_>, policy: &Object_, facts: &Facts) -> bool {
    targeting::of_policy(policy).applies(reader, facts)
}

/// The policy, for every workload alike.
pub(crate) fn translate(reader: &Reader<'_>, object: &Object_, report: &mut Report) -> Policy {
    let spec = &object.spec;
    let mesh = reader.read(&MeshKey);
    let action_broken = object.is_field_broken(spec.at, "action");
    let action = spec.action.unwrap_or(Action::Allow);
    let translated = match action {
        Action::Allow => PolicyAction::Allow,
        Action::Custom => PolicyAction::Custom,
        Action::Deny => PolicyAction::Deny,
        Action::Audit => PolicyAction::Audit,
    };
    let context = Context { object, mesh: &mesh };
    let mut rules: Vec<Rule> =
        spec.rules.iter().map(|written| rule(&context, written, report)).collect();
    let rules_broken =
        object.written.field(spec.at, "rules").is_some_and(|at| object.is_broken(at));
    let targeting_broken = targeting::of_policy(object).is_broken();
    let refuse_all = action_broken || targeting_broken && translated == PolicyAction::Allow;
    if refuse_all {
        // An ALLOW policy without rules: nothing passes that no other policy allows.
        rules.clear();
    } else if rules.is_empty()
        && rules_broken
        && matches!(translated, PolicyAction::Custom | PolicyAction::Deny)
    {
        let origin = object.origin_of(spec.at, "rules");
        rules.push(Rule { origin, clauses: Vec::new() });
    }
    Policy {
        origin: object.origin().clone(),
        action: if refuse_all { PolicyAction::Allow } else { translated },
        dry_run: dry_run(object, action, report) && !refuse_all,
        authorizer: object
            .spec
            .provider
            .as_ref()
            .and_then(|provider| provider.name.as_deref())
            .map(Into::into),
        rules,
    }
}

fn dry_run(object: &Object_, action: Action, report: &mut Report) -> bool {
    let Some(text) = object.meta.annotations.get(DRY_RUN) else { return false };
    let written = &object.written;
    let origin = || {
        let meta = written.field(written.root(), "metadata").unwrap_or(written.root());
        written.origin_of_entry(meta, "annotations", DRY_RUN)
    };
    match text.as_str() {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => {
            let decides = matches!(action, Action::Allow | Action::Deny);
            if !decides {
                report
                    .rejected(origin(), "only ALLOW and DENY can be tried without being enforced");
            }
            decides
        }
        "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
        other => {
            let message =
                format!("`{other}` is neither `true` nor `false`: the policy is enforced");
            report.rejected(origin(), message);
            false
        }
    }
}

fn rule(context: &Context<'_>, written: &WrittenRule, report: &mut Report) -> Rule {
    let object = context.object;
    let origin = object.origin_at(written.at);
    let mut clauses = Vec::new();
    let present = |field: &str| object.written.has(written.at, field);
    if present("from") {
        if written.from.is_empty() {
            report.rejected(object.origin_of(written.at, "from"), "`from` has no source");
            clauses.push(poison(Attribute::SourcePrincipal));
        } else {
            let sources = written.from.iter().map(|from| source(context, from, report));
            clauses.push(Clause { alternatives: sources.collect() });
        }
    }
    if present("to") {
        if written.to.is_empty() {
            report.rejected(object.origin_of(written.at, "to"), "`to` has no operation");
            clauses.push(poison(Attribute::DestinationPort));
        } else {
            let operations = written.to.iter().map(|to| operation(context, to, report));
            clauses.push(Clause { alternatives: operations.collect() });
        }
    }
    for condition in &written.when {
        let conditions = values::when(context, condition, report);
        clauses.push(Clause { alternatives: vec![conditions] });
    }
    // Something of the rule could not be read, and no condition stands for it.
    if object.is_broken(written.at) {
        clauses.push(poison(Attribute::DestinationPort));
    }
    Rule { origin, clauses }
}

fn poison(attribute: Attribute) -> Clause {
    Clause { alternatives: vec![vec![values::poisoned(attribute)]] }
}

/// The values of a pair of fields: those that must match, and those that must not.
fn pair(
    context: &Context<'_>,
    at: At,
    attribute: &Attribute,
    (field, positive): (&str, &[String]),
    (not_field, negative): (&str, &[String]),
    report: &mut Report,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for (field, texts, negate) in [(field, positive, false), (not_field, negative, true)] {
        if !texts.is_empty() {
            conditions
                .push(values::condition(context, at, field, attribute, texts, negate, report));
        } else if context.object.written.has(at, field) {
            let message = format!("`{field}` is empty");
            report.rejected(context.object.origin_of(at, field), message);
            conditions.push(values::poisoned(attribute.clone()));
        }
    }
    conditions
}

fn source(context: &Context<'_>, from: &RuleFrom, report: &mut Report) -> Vec<Condition> {
    let object = context.object;
    let Some(source) = &from.source else {
        report.rejected(object.origin_at(from.at), "`source` is missing");
        return vec![values::poisoned(Attribute::SourcePrincipal)];
    };
    let mut conditions = Vec::new();
    for (attribute, positive, negative) in [
        (
            Attribute::SourcePrincipal,
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
        ),
        (
            Attribute::RequestPrincipal,
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ),
        (
            Attribute::SourceNamespace,
            ("namespaces", &source.namespaces),
            ("notNamespaces", &source.not_namespaces),
        ),
        (
            Attribute::SourceServiceAccount,
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
        ),
        (
            Attribute::SourceTrustDomain,
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
        ),
        (
            Attribute::SourceAddress,
            ("ipBlocks", &source.ip_blocks),
            ("notIpBlocks", &source.not_ip_blocks),
        ),
        (
            Attribute::RemoteAddress,
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
        ),
    ] {
        let positive = (positive.0, positive.1.as_slice());
        let negative = (negative.0, negative.1.as_slice());
        conditions.extend(pair(context, source.at, &attribute, positive, negative, report));
    }
    let by_account = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let by_other =
        [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if by_account && by_other.iter().any(|texts| !texts.is_empty()) {
        let message = "`serviceAccounts` excludes `principals` and `namespaces`";
        report.rejected(object.origin_of(source.at, "serviceAccounts"), message);
        conditions.push(values::poisoned(Attribute::SourceServiceAccount));
    }
    if conditions.is_empty() {
        report.rejected(object.origin_at(source.at), "the source is empty");
        conditions.push(values::poisoned(Attribute::SourcePrincipal));
    }
    check_absent_identity(context, from, &conditions, report);
    conditions
}

/// A denial of everyone who is not from here also denies everyone who is from nowhere.
fn check_absent_identity(
    context: &Context<'_>,
    from: &RuleFrom,
    conditions: &[Condition],
    report: &mut Report,
) {
    let denies = context.object.spec.action == Some(Action::Deny);
    let by_identity = |condition: &Condition| {
        matches!(
            condition.attribute,
            Attribute::SourceNamespace
                | Attribute::SourcePrincipal
                | Attribute::SourceServiceAccount
                | Attribute::SourceTrustDomain
        )
    };
    let negative = !conditions.is_empty()
        && conditions.iter().all(|condition| condition.negate && by_identity(condition));
    if denies && negative {
        let message = "also denies callers without identity: plaintext clients, and gateways and \
                       monitoring of other namespaces";
        report.warning(codes::ABSENT_IDENTITY, context.object.origin_at(from.at), message);
    }
}

fn operation(context: &Context<'_>, to: &RuleTo, report: &mut Report) -> Vec<Condition> {
    let object = context.object;
    let Some(operation) = &to.operation else {
        report.rejected(object.origin_at(to.at), "`operation` is missing");
        return vec![values::poisoned(Attribute::DestinationPort)];
    };
    let mut conditions = Vec::new();
    for (attribute, positive, negative) in [
        (Attribute::Host, ("hosts", &operation.hosts), ("notHosts", &operation.not_hosts)),
        (
            Attribute::DestinationPort,
            ("ports", &operation.ports),
            ("notPorts", &operation.not_ports),
        ),
        (
            Attribute::Method,
            ("methods", &operation.methods),
            ("notMethods", &operation.not_methods),
        ),
        (Attribute::Path, ("paths", &operation.paths), ("notPaths", &operation.not_paths)),
    ] {
        let positive = (positive.0, positive.1.as_slice());
        let negative = (negative.0, negative.1.as_slice());
        conditions.extend(pair(context, operation.at, &attribute, positive, negative, report));
    }
    if conditions.is_empty() {
        report.rejected(object.origin_at(operation.at), "the operation is empty");
        conditions.push(values::poisoned(Attribute::DestinationPort));
    }
    conditions
}

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Arc<Object_>, report: &mut Report) {
    let spec = &object.spec;
    translate(reader, object, report);
    crate::istio::selector::check(&object.written, spec.at, spec.selector.as_ref(), report);
    targeting::of_policy(object).report(reader, report);
    let action = spec.action.unwrap_or(Action::Allow);
    let of_action = || object.origin_of(spec.at, "action");
    let provider = spec.provider.is_some();
    match action {
        Action::Custom => {
            check_provider(reader, object, report);
            check_custom(object, report);
        }
        Action::Audit => {
            let message = "AUDIT enforces nothing and logs no denial";
            report.push(
                heddle_diag::Diagnostic::info(codes::AUDIT_IS_NOT_DRY_RUN, of_action(), message)
                    .hint("to try a policy, keep its action and annotate it `istio.io/dry-run: \"true\"`"),
            );
        }
        Action::Allow | Action::Deny => {}
    }
    if provider && action != Action::Custom {
        report.rejected(
            object.origin_of(spec.at, "provider"),
            "a provider is for the action CUSTOM only",
        );
    }
    let written = object.written.has(spec.at, "rules");
    if spec.rules.is_empty() && object.written.is_sound() {
        match action {
            Action::Allow => {
                let message = "an ALLOW policy without rules refuses every request that no other policy allows";
                report.info(codes::DENIES_EVERYTHING, object.origin().clone(), message);
            }
            Action::Deny if !written => {
                report.rejected(object.origin().clone(), "a DENY policy needs rules");
                report.warning(
                    codes::INERT,
                    object.origin().clone(),
                    "a policy without rules never matches",
                );
            }
            _ => report.warning(
                codes::INERT,
                object.origin().clone(),
                "a policy without rules never matches",
            ),
        }
    }
}

/// Whether there is whom to ask.
fn check_provider(reader: &Reader<'_>, object: &Object_, report: &mut Report) {
    let spec = &object.spec;
    let origin = || object.origin_of(spec.at, "provider");
    let name = spec.provider.as_ref().and_then(|provider| provider.name.as_deref());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        report.rejected(origin(), "CUSTOM needs a provider: what the rules describe is denied");
        return;
    };
    let mesh = reader.read(&MeshKey);
    let Some(authorizer) = mesh.authorizers.iter().find(|known| *known.name == *name) else {
        let message = format!(
            "the mesh configuration has no external authoriser `{name}`: what the rules describe is denied"
        );
        report.push(
            heddle_diag::Diagnostic::error(codes::UNKNOWN_PROVIDER, origin(), message).hint(
                "`extensionProviders` with `envoyExtAuthzGrpc` or `envoyExtAuthzHttp` defines one",
            ),
        );
        return;
    };
    if reader.read(&ServiceKey(authorizer.host.as_str().into())).is_none() {
        let message = format!(
            "the external authoriser `{name}` is at `{}`, which no Service and no ServiceEntry defines",
            authorizer.host
        );
        report.push(
            heddle_diag::Diagnostic::warning(codes::UNKNOWN_HOST, origin(), message)
                .related("defined here", authorizer.origin.clone()),
        );
    }
}

/// Tokens have been looked at by then, but Istio refuses such rules.
fn check_custom(object: &Object_, report: &mut Report) {
    for rule in &object.spec.rules {
        for source in rule.from.iter().filter_map(|from| from.source.as_ref()) {
            for (field, texts) in [
                ("requestPrincipals", &source.request_principals),
                ("notRequestPrincipals", &source.not_request_principals),
            ] {
                if !texts.is_empty() {
                    let message = format!("CUSTOM rules cannot ask for `{field}`");
                    report.rejected(object.origin_of(source.at, field), message);
                }
            }
        }
        for condition in &rule.when {
            if condition.key.starts_with("request.auth.") {
                let message = format!("CUSTOM rules cannot ask for `{}`", condition.key);
                report.rejected(object.origin_of(condition.at, "key"), message);
            }
        }
    }
}
