//! Prints resources and reports in few lines.

use std::fmt::Write;

use heddle_diag::{Diagnostic, Origin, OutcomeRecord, Source};
use heddle_ir::authorization::{
    Authorization, Condition, Enforcement, Fallback, Policy, Ports, ValueMatch,
};
use heddle_ir::destination::{Destination, EndpointSource, LocalityPolicy};
use heddle_ir::gateway::{Gateway, ServerProtocol};
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpMatch, HttpRule, RetryPolicy,
};
use heddle_ir::inbound::ClientAddress;
use heddle_ir::outbound::TcpBackend;
use heddle_ir::rate_limit::{GlobalRateLimit, RateLimitScope};
use heddle_ir::resource::Resource;

/// Kind, name, field and place of an origin.
fn place(origin: &Origin) -> String {
    match &origin.source {
        Source::File { position, .. } => format!(
            "{} {}/{} {}:{} {}",
            origin.kind,
            origin.namespace,
            origin.name,
            position.line,
            position.column,
            origin.field
        ),
        Source::BuiltIn => format!("<{}>", origin.name),
        Source::Cluster { .. } => format!("{} {}/{}", origin.kind, origin.namespace, origin.name),
    }
}

pub(crate) fn finding(finding: &Diagnostic) -> String {
    let upstream = match finding.code.upstream {
        [] => String::new(),
        codes => format!(" {}", codes.join("/")),
    };
    let hint = finding.hint.as_ref().map(|hint| format!(" [{hint}]")).unwrap_or_default();
    format!(
        "{} {}{upstream} {}: {}{hint}",
        finding.level.as_str(),
        finding.code.id,
        place(&finding.origin),
        finding.message
    )
}

pub(crate) fn outcome(record: &OutcomeRecord) -> String {
    format!("{} {}: {}", record.outcome.as_str(), place(&record.origin), record.detail)
}

pub(crate) fn resource(resource: &Resource) -> String {
    let mut out = String::new();
    match resource {
        Resource::Gateway(gateway) => gateway_of(&mut out, gateway),
        Resource::Secret(secret) => writeln!(out, "{:?}", secret.key).unwrap(),
        Resource::Outbound(outbound) => {
            writeln!(out, "protocol {:?} host {:?}", outbound.protocol, outbound.host).unwrap();
            for one in &outbound.http.rules {
                rule(&mut out, one);
            }
            for rule in &outbound.tls {
                writeln!(
                    out,
                    "tls {:?} {:?} -> {}",
                    rule.server_names,
                    rule.destination_ranges,
                    backends(&rule.backends)
                )
                .unwrap();
            }
            for rule in &outbound.tcp {
                writeln!(out, "tcp {:?} -> {}", rule.destination_ranges, backends(&rule.backends))
                    .unwrap();
            }
            for (index, one) in outbound.destinations.iter().enumerate() {
                destination(&mut out, index, one);
            }
        }
        Resource::Endpoints(set) => {
            for endpoint in &set.endpoints {
                let hostname = match &*endpoint.hostname {
                    "" => String::new(),
                    own => format!(" hostname {own}"),
                };
                writeln!(
                    out,
                    "{:?} {:?} {:?} weight {} {:?} workload {:?} {}/{}{hostname}",
                    endpoint.address,
                    endpoint.health,
                    endpoint.transport,
                    endpoint.weight,
                    endpoint.identity,
                    endpoint.workload,
                    endpoint.canonical_name,
                    endpoint.canonical_revision,
                )
                .unwrap();
                if let Some(check) = &endpoint.health_check {
                    writeln!(
                        out,
                        " asked {:?} port {:?} every {:?} within {:?}, well {} ill {} ({})",
                        check.probe,
                        check.port,
                        check.interval,
                        check.timeout,
                        check.healthy_threshold,
                        check.unhealthy_threshold,
                        place(&check.origin)
                    )
                    .unwrap();
                }
            }
        }
        Resource::Index(index) => {
            for one in &index.frontends {
                let ports: Vec<String> = one
                    .ports
                    .iter()
                    .map(|port| format!("{}:{:?}", port.number, port.protocol))
                    .collect();
                let headless = if one.headless { " headless" } else { "" };
                writeln!(
                    out,
                    "{} {:?} {:?} {}{headless}",
                    one.host,
                    one.addresses,
                    one.ranges,
                    ports.join(" ")
                )
                .unwrap();
            }
            for one in &index.routed_hosts {
                writeln!(out, "routed {}:{} -> {}", one.host, one.port, one.table).unwrap();
            }
            writeln!(out, "unknown {:?}", index.unknown_destinations).unwrap();
            for one in &index.networks {
                writeln!(out, "network {:?} {:?} but {:?}", one.table, one.ranges, one.except)
                    .unwrap();
            }
        }
        Resource::Inbound(inbound) => {
            for port in &inbound.ports {
                let services: Vec<String> =
                    port.services.iter().map(|one| format!("{}:{}", one.host, one.port)).collect();
                writeln!(
                    out,
                    "port {}{} {:?} {} probes {:?}{}",
                    port.port,
                    match (&port.application_socket, port.application) {
                        (Some(name), _) => format!(" -> @{name}"),
                        (None, to) => to.map(|to| format!(" -> {to}")).unwrap_or_default(),
                    },
                    port.protocol,
                    services.join(" "),
                    port.probe_paths,
                    port.connection_pool
                        .as_ref()
                        .map(|pool| format!(" requests {}", pool.requests_max))
                        .unwrap_or_default()
                )
                .unwrap();
            }
            writeln!(
                out,
                "mtls {:?} ({})",
                inbound.mutual_tls.mode,
                place(&inbound.mutual_tls.origin)
            )
            .unwrap();
            for (port, mode) in &inbound.mutual_tls_by_port {
                writeln!(out, "mtls {port} {:?} ({})", mode.mode, place(&mode.origin)).unwrap();
            }
            if inbound.client_address != ClientAddress::default() {
                writeln!(out, "{:?}", inbound.client_address).unwrap();
            }
            for rule in &inbound.jwt_rules {
                writeln!(
                    out,
                    "token {:?} for {:?} keys {:?} within {:?} at {:?} forward {} payload {:?} claims {:?} words {:?} required {} {}",
                    rule.issuer,
                    rule.audiences,
                    rule.keys,
                    rule.fetch_timeout,
                    rule.locations,
                    rule.forward,
                    rule.payload_header,
                    rule.claim_headers,
                    rule.space_delimited_claims,
                    rule.required,
                    place(&rule.origin)
                )
                .unwrap();
            }
            writeln!(
                out,
                "connections {} retry {}",
                inbound.connection_pool.connections_max,
                retry(&inbound.retry)
            )
            .unwrap();
            for limit in &inbound.rate_limits.local {
                writeln!(
                    out,
                    "limit {:?} {:?} matches {:?} enforced {} -> {} {:?} ({})",
                    limit.port,
                    limit.bucket,
                    limit.matches.iter().map(matched).collect::<Vec<_>>(),
                    limit.enforced_ppm,
                    limit.status,
                    limit.response_headers,
                    place(&limit.origin)
                )
                .unwrap();
                if limit.scope != RateLimitScope::Total || !limit.overrides.is_empty() {
                    writeln!(out, " for each {:?} {:?}", limit.scope, limit.overrides).unwrap();
                }
            }
            for limit in &inbound.rate_limits.global {
                out.push_str(&global_limit(limit));
            }
            authorization(&mut out, &inbound.authorization);
        }
        Resource::Proxy(proxy) => {
            let workload = &proxy.workload;
            writeln!(
                out,
                "{} {} {:?} {} {:?}",
                workload.id,
                workload.identity,
                workload.addresses,
                workload.workload_name,
                workload.transport
            )
            .unwrap();
            writeln!(
                out,
                "scope {} trust {:?} {:?}",
                proxy.scope.0, proxy.trust_domain, proxy.trust_domain_aliases
            )
            .unwrap();
            writeln!(
                out,
                "drain {:?} detection {:?} log {:?} {:?} {:?}",
                proxy.drain_duration,
                proxy.detection_timeout,
                proxy.access_log,
                proxy.access_log_path,
                proxy.access_log_format
            )
            .unwrap();
            if let Some(egress) = &proxy.egress {
                writeln!(out, "egress").unwrap();
                authorization(&mut out, egress);
            }
        }
        Resource::Workload(workload) => {
            writeln!(out, "{} {} {:?}", workload.id, workload.identity, workload.transport)
                .unwrap();
        }
        Resource::TrustBundle(_) => unreachable!("not this crate's"),
    }
    out
}

pub(crate) fn gateway(gateway: &Gateway) -> String {
    let mut out = String::new();
    gateway_of(&mut out, gateway);
    out
}

fn gateway_of(out: &mut String, gateway: &Gateway) {
    for listener in &gateway.listeners {
        let bind = listener.bind.map(|bind| format!(" at {bind}")).unwrap_or_default();
        writeln!(out, "listen {}{bind}", listener.port).unwrap();
        for server in &listener.servers {
            let hosts: Vec<String> = server.hosts.iter().map(ToString::to_string).collect();
            writeln!(out, "server {} {} ({})", server.name, hosts.join(" "), place(&server.origin))
                .unwrap();
            if let Some(tls) = &server.tls {
                writeln!(out, " tls {tls:?}").unwrap();
            }
            if !server.rate_limits.is_empty() {
                writeln!(out, " limits {:?}", server.rate_limits.local).unwrap();
                for limit in &server.rate_limits.global {
                    out.push_str(&global_limit(limit));
                }
            }
            match &server.protocol {
                ServerProtocol::Http(hosts) => {
                    for host in hosts {
                        let names: Vec<String> =
                            host.hosts.iter().map(ToString::to_string).collect();
                        writeln!(out, " host {}", names.join(" ")).unwrap();
                        for one in &host.table.rules {
                            rule(out, one);
                        }
                    }
                }
                ServerProtocol::HttpsRedirect => writeln!(out, " redirect to https").unwrap(),
                ServerProtocol::Tcp(rules) => {
                    for one in rules {
                        let to = backends(&one.backends);
                        writeln!(out, " tcp {:?} -> {to}", one.destination_ranges).unwrap();
                    }
                }
                ServerProtocol::Udp(rules) => {
                    for one in rules {
                        writeln!(out, " udp -> {}", backends(&one.backends)).unwrap();
                    }
                }
                ServerProtocol::Tls(rules) => {
                    for one in rules {
                        let to = backends(&one.backends);
                        let (names, ranges) = (&one.server_names, &one.destination_ranges);
                        writeln!(out, " tls {names:?} {ranges:?} -> {to}").unwrap();
                    }
                }
            }
        }
    }
    for (index, one) in gateway.destinations.iter().enumerate() {
        destination(out, index, one);
    }
}

fn backends(backends: &[TcpBackend]) -> String {
    let each: Vec<String> =
        backends.iter().map(|one| format!("{:?}x{}", one.destination, one.weight)).collect();
    each.join(" ")
}

fn rule(out: &mut String, rule: &HttpRule) {
    writeln!(out, "rule {} ({})", rule.name, place(&rule.origin)).unwrap();
    for one in &rule.matches {
        writeln!(out, "  match {}", matched(one)).unwrap();
    }
    match &rule.action {
        HttpAction::Forward(backends) => {
            for backend in backends {
                let target = match &backend.target {
                    BackendTarget::Destination(index) => format!("#{index}"),
                    BackendTarget::Invalid { status, reason } => format!("{status} ({reason})"),
                    BackendTarget::Redirect(redirect) => format!("{redirect:?}"),
                };
                writeln!(
                    out,
                    "  to {target} x{}{}{}",
                    backend.weight,
                    edits("request", &backend.request_headers),
                    edits("response", &backend.response_headers)
                )
                .unwrap();
            }
        }
        HttpAction::Redirect(redirect) => writeln!(out, "  redirect {redirect:?}").unwrap(),
        HttpAction::Respond(response) => {
            writeln!(
                out,
                "  respond {} {:?}",
                response.status,
                String::from_utf8_lossy(&response.body)
            )
            .unwrap();
        }
    }
    let more = format!(
        "{}{}",
        edits("request", &rule.request_headers),
        edits("response", &rule.response_headers)
    );
    if !more.is_empty() {
        writeln!(out, " {more}").unwrap();
    }
    if rule.rewrite.path.is_some() || rule.rewrite.authority.is_some() {
        writeln!(out, "  rewrite {:?}", rule.rewrite).unwrap();
    }
    writeln!(out, "  timeout {:?} retry {}", rule.timeout, retry(&rule.retry)).unwrap();
    if rule.stream_timeouts != heddle_ir::http_route::StreamTimeouts::default() {
        writeln!(out, "  {:?}", rule.stream_timeouts).unwrap();
    }
    if let Some(own) = &rule.authorizer {
        let asked = &own.authorizer;
        writeln!(
            out,
            "  asks {} {}:{} {:?} body {:?} headers {:?} or {} after {:?}",
            asked.name,
            asked.host,
            asked.port,
            asked.protocol,
            asked.body,
            own.request_headers,
            asked.status_on_error,
            asked.timeout
        )
        .unwrap();
    }
    for failure in &rule.failures {
        writeln!(out, "  failure {} to {}", failure.first, failure.last).unwrap();
    }
    if let Some(cors) = &rule.cors {
        writeln!(
            out,
            "  cors {:?} {:?} {:?} age {:?} credentials {} forward {}",
            cors.allow_origins,
            cors.allow_methods,
            cors.allow_headers,
            cors.max_age,
            cors.allow_credentials,
            cors.forward_unmatched_preflights
        )
        .unwrap();
    }
    for mirror in &rule.mirrors {
        let target = match &mirror.target {
            BackendTarget::Destination(index) => format!("#{index}"),
            BackendTarget::Invalid { status, reason } => format!("{status} ({reason})"),
            BackendTarget::Redirect(redirect) => format!("{redirect:?}"),
        };
        let (share, suffix) = (mirror.share_ppm, &mirror.authority_suffix);
        writeln!(out, "  mirror {target} {share} ppm {suffix} ({})", place(&mirror.origin))
            .unwrap();
    }
    if let Some(fault) = &rule.fault {
        writeln!(out, "  fault {:?} {:?}", fault.delay, fault.abort).unwrap();
    }
}

fn matched(one: &HttpMatch) -> String {
    let mut text = format!("{} {}", place(&one.origin), one.name);
    for (name, value) in
        [("scheme", &one.scheme), ("method", &one.method), ("authority", &one.authority)]
    {
        if let Some(value) = value {
            write!(text, " {name}={value:?}").unwrap();
        }
    }
    if let Some(path) = &one.path {
        write!(text, " path={path:?}{}", if one.ignore_path_case { " ignoring case" } else { "" })
            .unwrap();
    }
    for header in &one.headers {
        write!(
            text,
            " {}{}={:?}",
            if header.invert { "not " } else { "" },
            header.name,
            header.value
        )
        .unwrap();
    }
    for claim in &one.claims {
        let not = if claim.invert { "not " } else { "" };
        write!(text, " {not}claim {}={:?}", claim.path.join("/"), claim.value).unwrap();
    }
    for query in &one.query {
        write!(text, " ?{}={:?}", query.name, query.value).unwrap();
    }
    for part in &one.parts {
        let not = if part.invert { "not " } else { "" };
        write!(text, " {not}{:?}={:?}", part.part, part.value).unwrap();
    }
    text
}

fn edits(which: &str, edits: &HeaderEdits) -> String {
    if edits.is_empty() {
        return String::new();
    }
    format!(" {which} set {:?} add {:?} remove {:?}", edits.set, edits.add, edits.remove)
}

fn retry(retry: &RetryPolicy) -> String {
    let elsewhere = if retry.other_localities { " other localities" } else { "" };
    let again = if retry.avoid_tried || retry.attempts == 0 { "" } else { " same endpoints too" };
    let usual = retry.backoff_base.as_millis() == 25 && retry.backoff_max.is_none();
    let pause = if usual {
        String::new()
    } else {
        format!(" pause {:?} to {:?}", retry.backoff_base, retry.backoff_max)
    };
    format!(
        "{} on {:?} per try {:?}{elsewhere}{again}{pause} ({})",
        retry.attempts,
        retry.on,
        retry.per_try_timeout,
        place(&retry.origin)
    )
}

fn destination(out: &mut String, index: usize, one: &Destination) {
    let source = match &one.endpoints {
        EndpointSource::OriginalDestination => "original".to_owned(),
        EndpointSource::RequestedName { port } => format!("requested name:{port}"),
        EndpointSource::Set(key) => format!("{}:{}", key.host, key.port),
    };
    writeln!(
        out,
        "#{index} {}:{} {:?} {}/{} {:?} from {source} labels {:?} ({})",
        one.id.host,
        one.id.port,
        one.id.subset,
        one.service_namespace,
        one.service_name,
        one.protocol,
        one.subset_labels,
        place(&one.origin)
    )
    .unwrap();
    let pool = &one.connection_pool;
    writeln!(
        out,
        "   {:?} tls {:?} names {:?} pool {} pending {} requests {} per connection {} h2 {}",
        one.load_balancing,
        one.tls,
        one.subject_alt_names,
        pool.connections_max,
        pool.pending_requests_max,
        pool.requests_max,
        pool.requests_per_connection_max,
        pool.upgrade_to_http2
    )
    .unwrap();
    if let Some(accrual) = &one.failure_accrual {
        writeln!(
            out,
            "   accrual after {} for {:?} to {:?} jitter {} ({})",
            accrual.failures_max,
            accrual.pause_min,
            accrual.pause_max,
            accrual.jitter_percent,
            place(&accrual.origin)
        )
        .unwrap();
    }
    let more: [(&str, Option<String>); 7] = [
        ("use client protocol", pool.use_client_protocol.then(String::new)),
        ("pings", pool.http2_keepalive.map(|pings| format!("{pings:?}"))),
        ("warmup", one.warmup.as_ref().map(|warmup| format!("{warmup:?}"))),
        ("budget", one.retry_budget.map(|budget| format!("{budget:?}"))),
        ("tunnel", one.tunnel.as_ref().map(|tunnel| format!("{tunnel:?}"))),
        ("PROXY", one.proxy_protocol.map(|version| format!("{version:?}"))),
        (
            "locality",
            (one.locality != LocalityPolicy::Ignore).then(|| format!("{:?}", one.locality)),
        ),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            writeln!(out, "   {name} {value}").unwrap();
        }
    }
    if let Some(outlier) = &one.outlier_detection {
        writeln!(
            out,
            "   outlier 5xx {} gateway {} local {} every {:?} out {:?} at most {} % from {} %",
            outlier.consecutive_5xx,
            outlier.consecutive_gateway_errors,
            outlier.consecutive_local_failures,
            outlier.interval,
            outlier.ejection_time_base,
            outlier.ejection_percent_max,
            outlier.health_percent_min
        )
        .unwrap();
    }
}

fn authorization(out: &mut String, authorization: &Authorization) {
    for authorizer in &authorization.authorizers {
        writeln!(
            out,
            "authorizer {} {}:{} {:?} timeout {:?} fail open {} else {} body {:?}",
            authorizer.name,
            authorizer.host,
            authorizer.port,
            authorizer.protocol,
            authorizer.timeout,
            authorizer.fail_open,
            authorizer.status_on_error,
            authorizer.body
        )
        .unwrap();
    }
    for system in &authorization.systems {
        if let Fallback::Deny(origin) = &system.without_allow {
            writeln!(out, "else Deny {}", place(origin)).unwrap();
        }
        if system.ports != Ports::All {
            writeln!(out, "on {:?}", system.ports).unwrap();
        }
        if let Enforcement::Audit(origin) = &system.enforcement {
            writeln!(out, "on trial {}", place(origin)).unwrap();
        }
        system.policies.iter().for_each(|policy| print_policy(out, policy));
    }
}

fn print_policy(out: &mut String, policy: &Policy) {
    writeln!(
        out,
        "{:?}{}{} {}",
        policy.action,
        policy.authorizer.as_ref().map(|name| format!(" {name}")).unwrap_or_default(),
        if policy.dry_run { " (dry run)" } else { "" },
        place(&policy.origin)
    )
    .unwrap();
    for rule in &policy.rules {
        writeln!(out, "  rule {}", place(&rule.origin)).unwrap();
        for clause in &rule.clauses {
            let each: Vec<String> = clause
                .alternatives
                .iter()
                .map(|all| all.iter().map(condition).collect::<Vec<_>>().join(" and "))
                .collect();
            writeln!(out, "    {}", each.join(" or ")).unwrap();
        }
    }
}

fn condition(condition: &Condition) -> String {
    let values: Vec<String> = condition
        .values
        .iter()
        .map(|value| match value {
            ValueMatch::Range(range) => range.to_string(),
            ValueMatch::PathTemplate(text) => format!("template {text}"),
            ValueMatch::IssuerAndSubject(issuer, subject) => format!("{issuer:?} / {subject:?}"),
            ValueMatch::Number(number) => number.to_string(),
            ValueMatch::Port(port) => port.to_string(),
            ValueMatch::PortRange(first, last) => format!("{first}-{last}"),
            ValueMatch::Text(text) => format!("{text:?}"),
            ValueMatch::Glob(text) => format!("glob {text}"),
            ValueMatch::Poisoned => "poisoned".to_owned(),
        })
        .collect();
    format!(
        "{}{:?} [{}]",
        if condition.negate { "not " } else { "" },
        condition.attribute,
        values.join(", ")
    )
}

/// The lines that differ.
pub(crate) fn difference(agreed: &str, output: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) =
        (agreed.lines().collect(), output.lines().collect());
    let mut text = String::new();
    for line in &left {
        if !right.contains(line) {
            writeln!(text, "- {line}").unwrap();
        }
    }
    for line in &right {
        if !left.contains(line) {
            writeln!(text, "+ {line}").unwrap();
        }
    }
    if text.is_empty() { "the order of lines differs".to_owned() } else { text }
}

fn global_limit(limit: &GlobalRateLimit) -> String {
    let mut out = String::new();
    let service = limit.service.as_ref().map_or("heddle".to_owned(), |service| {
        format!("{}:{} in mesh {}", service.host, service.port, service.in_mesh)
    });
    writeln!(
        out,
        " asks {service}, domain {}, port {:?}, timeout {:?}, closed {}, {}/{}, tells {} ({})",
        limit.domain,
        limit.port,
        limit.timeout,
        limit.fail_closed,
        limit.status,
        limit.failure_status,
        limit.tells_limits,
        place(&limit.origin)
    )
    .unwrap();
    for own in &limit.descriptors {
        let matches = own.matches.iter().map(matched).collect::<Vec<_>>();
        writeln!(
            out,
            "  {:?} port {:?} routes {:?} matches {matches:?} hits {:?} {:?}",
            own.level, own.port, own.routes, own.hits, own.actions
        )
        .unwrap();
    }
    out
}
