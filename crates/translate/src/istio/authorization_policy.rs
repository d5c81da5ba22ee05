//! AuthorizationPolicy: who may do what (API.md 3.3).
//!
//! What cannot be read or checked never opens anything: a DENY rule with it denies whatever the rest of the rule
//! describes, an ALLOW rule with it never matches, and a policy of which the action or the workloads cannot be read
//! lets nothing pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::{Action, AuthorizationPolicy, Rule as WrittenRule, RuleFrom, RuleTo};
use heddle_api::{At, Object, Resource as AnyObject};
use heddle_ir::authorization::{Attribute, Clause, Condition, Policy, PolicyAction, Rule};

use crate::client::selects;
use crate::codes;
use crate::engine::Reader;
use crate::istio::authorization_values::{self as values, Context};
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::options::Profile;
use crate::report::Report;
use crate::workload::Facts;

type Object_ = Object<AuthorizationPolicy>;

const DRY_RUN: &str = "istio.io/dry-run";

/// Whether a policy is for a workload. The namespace has been looked at: it is the workload's or the root.
pub(crate) fn applies(reader: &Reader<'_>, policy: &Object_, facts: &Facts) -> bool {
    let spec = &policy.spec;
    if targeting_broken(policy) {
        return true;
    }
    if has_targets(policy) {
        return reader.options().profile == Profile::Heddle && targets(reader, policy, facts);
    }
    let selector = spec.selector.as_ref();
    selector.is_none_or(|selector| selects(&selector.match_labels, &facts.labels))
}

fn has_targets(policy: &Object_) -> bool {
    !policy.spec.target_refs.is_empty() || policy.spec.target_ref.is_some()
}

/// Whether nobody knows whom the policy is for.
fn targeting_broken(policy: &Object_) -> bool {
    let at = policy.spec.at;
    ["selector", "targetRef", "targetRefs"]
        .iter()
        .any(|field| policy.written.field(at, field).is_some_and(|at| policy.is_broken(at)))
}

/// Whether the workload is behind a Service that the policy targets.
fn targets(reader: &Reader<'_>, policy: &Object_, facts: &Facts) -> bool {
    if *facts.namespace != *policy.meta.namespace {
        return false;
    }
    let spec = &policy.spec;
    let mut references = spec.target_refs.iter().chain(&spec.target_ref);
    references.any(|reference| {
        if reference.kind != "Service" {
            return false;
        }
        let key = ObjectKey::new("", "Service", &policy.meta.namespace, &reference.name);
        match reader.object(&key) {
            Some(AnyObject::Service(service)) => {
                let selector = &service.spec.selector;
                !selector.is_empty() && selects(selector, &facts.labels)
            }
            _ => false,
        }
    })
}

/// The policy, for every workload alike.
pub(crate) fn translate(reader: &Reader<'_>, object: &Object_, report: &mut Report) -> Policy {
    let spec = &object.spec;
    let mesh = reader.read(&MeshKey);
    let action_broken = object.is_field_broken(spec.at, "action");
    let action = spec.action.unwrap_or(Action::Allow);
    let translated = match action {
        Action::Allow => PolicyAction::Allow,
        // No authoriser can be asked yet, so what it would be asked about is denied.
        Action::Deny | Action::Custom => PolicyAction::Deny,
        Action::Audit => PolicyAction::Audit,
    };
    let context = Context { object, mesh: &mesh };
    let mut rules: Vec<Rule> =
        spec.rules.iter().map(|written| rule(&context, written, report)).collect();
    let rules_broken =
        object.written.field(spec.at, "rules").is_some_and(|at| object.is_broken(at));
    let refuse_all = action_broken || targeting_broken(object) && translated == PolicyAction::Allow;
    if refuse_all {
        // An ALLOW policy without rules: nothing passes that no other policy allows.
        rules.clear();
    } else if rules.is_empty() && rules_broken && translated == PolicyAction::Deny {
        let origin = object.origin_of(spec.at, "rules");
        rules.push(Rule { origin, clauses: Vec::new() });
    }
    Policy {
        origin: object.origin().clone(),
        action: if refuse_all { PolicyAction::Allow } else { translated },
        dry_run: dry_run(object, action, report) && !refuse_all,
        authorizer: None,
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
    let token = values::TOKEN;
    for (attribute, positive, negative) in [
        (
            Attribute::SourcePrincipal,
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
        ),
        (
            token(),
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
    check_targets(reader, object, report);
    let action = spec.action.unwrap_or(Action::Allow);
    let of_action = || object.origin_of(spec.at, "action");
    let provider = spec.provider.is_some();
    match action {
        Action::Custom => {
            let why = "no external authoriser is asked yet: what the rules describe is denied";
            report.unsupported(of_action(), why);
            if !provider {
                report.rejected(object.origin_of(spec.at, "provider"), "CUSTOM needs a provider");
            }
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
    check_selects(reader, object, report);
}

fn check_selects(reader: &Reader<'_>, object: &Object_, report: &mut Report) {
    let Some(selector) = object.spec.selector.as_ref() else { return };
    let namespace: Arc<str> = object.meta.namespace.as_str().into();
    let labels: &BTreeMap<String, String> = &selector.match_labels;
    let root = reader.read(&MeshKey).root_namespace.clone();
    if !labels.is_empty() && namespace != root {
        let workloads = crate::istio::selector::selected(reader, &namespace, labels);
        crate::istio::selector::check_selects(
            &object.written,
            object.spec.at,
            labels,
            &workloads,
            report,
        );
    }
}

fn check_targets(reader: &Reader<'_>, object: &Object_, report: &mut Report) {
    let spec = &object.spec;
    for reference in spec.target_refs.iter().chain(&spec.target_ref) {
        let origin = object.origin_at(reference.at);
        let own = reference.namespace.as_deref().unwrap_or_default();
        if !own.is_empty() && own != object.meta.namespace {
            report.rejected(
                object.origin_of(reference.at, "namespace"),
                "targets are of the same namespace",
            );
        }
        let group = reference.group.as_deref().unwrap_or_default();
        match (group, reference.kind.as_str()) {
            ("" | "core", "Service") => {
                let key = ObjectKey::new("", "Service", &object.meta.namespace, &reference.name);
                if reader.options().profile == Profile::Heddle {
                    report.translated(origin.clone(), "enforced at the workloads of the Service");
                } else {
                    report.ignored(origin.clone(), "sidecars ignore policies with targets");
                }
                if reader.object(&key).is_none() {
                    let message = format!("no Service `{}` in the namespace", reference.name);
                    report.error(codes::UNKNOWN_HOST, origin, message);
                }
            }
            ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
            | ("networking.istio.io", "ServiceEntry") => {
                let why = format!("targets of kind {} are not supported yet", reference.kind);
                report.unsupported(origin, why);
            }
            (group, kind) => {
                report.rejected(origin, format!("`{group}` `{kind}` is no target of a policy"));
            }
        }
    }
}
