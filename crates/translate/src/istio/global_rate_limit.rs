//! Envoy's rate limit filter as EnvoyFilters write it (`envoy.filters.http.ratelimit`), and the clusters that it names.
//! Who counts is decided here too: the service that is named, or heddle where nothing is behind the name
//! (`docs/decisions/0110`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_api::{At, Resource as AnyObject};
use heddle_ident::{Host, HostPattern};
use heddle_ir::rate_limit::{
    DescriptorLevel, GlobalRateLimit, RateLimitDescriptor, RateLimitService,
};

use crate::engine::{Kind, Reader, Topic};
use crate::istio::envoy_value::{ALL_PPM, Read, duration, headers, share, status, status_code};
use crate::istio::rate_limit_actions::{Place, descriptors};
use crate::names::full_name;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::{Endpoints, Service, ServiceKey};

/// The name of the filter, which is also the key of its settings on routes.
pub(super) const FILTER: &str = "envoy.filters.http.ratelimit";
/// The ends of its type's URL, of today and of before.
pub(super) const TYPES: [&str; 2] =
    ["filters.http.ratelimit.v3.RateLimit", "filter.http.rate_limit.v2.RateLimit"];

/// How long an answer may take: Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(20);
/// The same where heddle counts and nothing is written: Envoy's default is meant for a service beside a Redis, and a busy
/// machine misses it without anybody being at fault.
const OWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Who counts for a Service, in an annotation of the Service.
const ANNOTATION: &str = "heddle.io/rate-limits";

/// The settings of a filter. Whom it asks is known only with the clusters of all filters.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Without service, port and descriptors.
    pub(super) limit: GlobalRateLimit,
    pub(super) has_timeout: bool,
    /// Which descriptors it sends.
    pub(super) stage: u64,
    pub(super) target: ServiceTarget,
    /// Its own descriptors, which it sends instead of those of routes.
    pub(super) own: Option<Vec<RateLimitDescriptor>>,
}

/// Whom a filter asks, as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ServiceTarget {
    /// A cluster that another patch adds.
    Cluster(Arc<str>),
    /// A host and port.
    Host(Host, u16),
}

/// The addresses of clusters that patches add, by name.
pub(super) type Clusters = BTreeMap<Arc<str>, (Host, u16)>;

/// Reads the settings of a filter; the error is why it asks nobody.
pub(super) fn filter(
    read: Read<'_>,
    settings: At,
    place: Place<'_>,
    report: &mut Report,
) -> Result<Filter, (At, &'static str)> {
    tell_unknown(read, settings, report);
    let domain = read.text(settings, "domain").filter(|domain| !domain.is_empty());
    let domain = domain.ok_or((settings, "the filter needs a `domain`"))?;
    match read.text(settings, "request_type") {
        None | Some("" | "both") => {}
        Some(_) => {
            let at = read.field(settings, "request_type").unwrap_or(settings);
            return Err((at, "requests from inside and outside of the mesh are not told apart"));
        }
    }
    let service = read.below(settings, &["rate_limit_service", "grpc_service"]);
    let service = service.ok_or((settings, "the filter needs a `rate_limit_service`"))?;
    let written = read.text(settings, "timeout").and_then(duration);
    let own = read.field(settings, "rate_limits").map(|list| {
        let own = descriptors(read, Some(list), place, DescriptorLevel::Route, report);
        own.into_iter().map(|staged| staged.descriptor).collect()
    });
    let ppm = |name| {
        let share = share(read, settings, name).unwrap_or(ALL_PPM);
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    let limit = GlobalRateLimit {
        origin: read.written.origin_at(settings),
        port: None,
        matches: Vec::new(),
        domain: domain.into(),
        service: None,
        timeout: written.unwrap_or(TIMEOUT),
        fail_closed: read.is_true(settings, "failure_mode_deny"),
        descriptors: Vec::new(),
        status: status(read, settings, "rate_limited_status"),
        failure_status: status_code(read, settings, "status_on_error").unwrap_or(500),
        response_headers: headers(read, settings),
        tells_limits: tells_limits(read, settings),
        hides_refusals: read.is_true(settings, "disable_x_envoy_ratelimited_header"),
        resource_exhausted: read.is_true(settings, "rate_limited_as_resource_exhausted"),
        asked_ppm: ppm("filter_enabled"),
        enforced_ppm: ppm("filter_enforced"),
    };
    Ok(Filter {
        limit,
        has_timeout: written.is_some(),
        stage: read.number(settings, "stage").unwrap_or(0),
        target: target(read, service, report)?,
        own,
    })
}

/// Both the switch of today and that of before.
fn tells_limits(read: Read<'_>, settings: At) -> bool {
    matches!(
        read.text(settings, "enable_x_ratelimit_headers"),
        Some("true" | "DRAFT_VERSION_03" | "1")
    )
}

fn tell_unknown(read: Read<'_>, settings: At, report: &mut Report) {
    const KNOWN: [&str; 19] = [
        "@type",
        "disable_x_envoy_ratelimited_header",
        "domain",
        "enable_x_ratelimit_headers",
        "failure_mode_deny",
        "filter_enabled",
        "filter_enforced",
        "rate_limit_service",
        "rate_limited_as_resource_exhausted",
        "rate_limited_status",
        "rate_limits",
        "request_type",
        "response_headers_to_add",
        "stage",
        "stat_prefix",
        "status_on_error",
        "timeout",
        "type_url",
        "value",
    ];
    for (name, at) in read.keys(settings) {
        if !KNOWN.contains(&&*name) {
            let why = format!("`{name}` of the rate limit filter is not acted on");
            report.unsupported(read.written.origin_at(at), why);
        }
    }
}

fn target(
    read: Read<'_>,
    service: At,
    report: &mut Report,
) -> Result<ServiceTarget, (At, &'static str)> {
    for (name, at) in read.keys(service) {
        match &*name {
            "envoy_grpc" | "google_grpc" => {}
            "timeout" => {
                let why = "Envoy takes the `timeout` of the filter itself";
                report.ignored(read.written.origin_at(at), why);
            }
            _ => {
                let why = format!("`{name}` of the service is not acted on");
                report.unsupported(read.written.origin_at(at), why);
            }
        }
    }
    if let Some(at) = read.below(service, &["envoy_grpc", "cluster_name"]) {
        let name = read.text_at(at);
        let Some(of_service) = name.strip_prefix("outbound|") else {
            return Ok(ServiceTarget::Cluster(name.into()));
        };
        let mut parts = of_service.split('|');
        let port = parts.next().and_then(|port| port.parse().ok());
        let subset = parts.next();
        let host = parts.next().and_then(|host| Host::parse(host).ok());
        let (Some(port), Some(host)) = (port, host) else {
            return Err((at, "clusters of services are named `outbound|PORT||HOST`"));
        };
        if subset.is_some_and(|subset| !subset.is_empty()) {
            let why = "the whole service is asked, not a subset of it";
            report.unsupported(read.written.origin_at(at), why);
        }
        return Ok(ServiceTarget::Host(host, port));
    }
    if let Some(at) = read.below(service, &["google_grpc", "target_uri"]) {
        let text = read.text_at(at);
        let text = text.rsplit_once('/').map_or(text, |(_, rest)| rest);
        let (host, port) = text.rsplit_once(':').ok_or((at, "a target is `HOST:PORT`"))?;
        let host = Host::parse(host.trim_matches(['[', ']']));
        let (Ok(host), Ok(port)) = (host, port.parse()) else {
            return Err((at, "a target is `HOST:PORT`"));
        };
        return Ok(ServiceTarget::Host(host, port));
    }
    Err((service, "the service needs `envoy_grpc.cluster_name`"))
}

/// The cluster that a patch adds, where it leads to one address.
pub(super) fn cluster(read: Read<'_>, value: At) -> Option<(Arc<str>, (Host, u16))> {
    let name = read.text(value, "name")?;
    let mut addresses = Vec::new();
    for locality in read.children(read.below(value, &["load_assignment", "endpoints"])) {
        for endpoint in read.children(read.field(locality, "lb_endpoints")) {
            addresses.extend(read.below(endpoint, &["endpoint", "address", "socket_address"]));
        }
    }
    // The form of before.
    for host in read.children(read.field(value, "hosts")) {
        addresses.extend(read.field(host, "socket_address"));
    }
    let [address] = &*addresses else { return None };
    let host = Host::parse(read.text(*address, "address")?).ok()?;
    let port = read.number(*address, "port_value").and_then(|port| u16::try_from(port).ok())?;
    Some((name.into(), (host, port)))
}

/// Who counts, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Counter {
    /// The service.
    Service(RateLimitService),
    /// heddle.
    Own(&'static str),
    /// The filter names a cluster that nothing defines.
    Nobody,
}

/// Who counts for a filter.
pub(super) fn counter(
    reader: &Reader<'_>,
    namespace: &str,
    target: &ServiceTarget,
    clusters: &Clusters,
) -> Counter {
    let (host, port) = match target {
        ServiceTarget::Host(host, port) => (host, *port),
        ServiceTarget::Cluster(name) => match clusters.get(name) {
            Some((host, port)) => (host, *port),
            None => return Counter::Nobody,
        },
    };
    match known_service(reader, namespace, host) {
        Some(service) => {
            let host = match &service.host {
                HostPattern::Exact(full) => full.clone(),
                _ => host.clone(),
            };
            match embedded(reader, &service) {
                Some(why) => Counter::Own(why),
                None => Counter::Service(RateLimitService { host, port, in_mesh: true }),
            }
        }
        None if is_of_cluster(reader, host) => Counter::Own("there is no such service"),
        None => Counter::Service(RateLimitService { host: host.clone(), port, in_mesh: false }),
    }
}

/// The filter's limit with whoever counts; none: nobody does.
pub(super) fn resolved(
    reader: &Reader<'_>,
    namespace: &str,
    filter: &Filter,
    clusters: &Clusters,
) -> Option<GlobalRateLimit> {
    let mut limit = filter.limit.clone();
    match counter(reader, namespace, &filter.target, clusters) {
        Counter::Service(service) => limit.service = Some(service),
        Counter::Own(_) => {
            if !filter.has_timeout {
                limit.timeout = OWN_TIMEOUT;
            }
        }
        Counter::Nobody => return None,
    }
    Some(limit)
}

/// The service that a name leads to from a namespace.
fn known_service(reader: &Reader<'_>, namespace: &str, host: &Host) -> Option<Arc<Service>> {
    let domain = &reader.options().cluster_domain;
    let text = host.as_str();
    let full = [
        text.to_owned(),
        format!("{text}.{domain}"),
        format!("{text}.svc.{domain}"),
        full_name(text, namespace, domain),
    ];
    full.into_iter().find_map(|name| reader.read(&ServiceKey(name.into())))
}

/// Whether a name can only be that of a service of the mesh.
fn is_of_cluster(reader: &Reader<'_>, host: &Host) -> bool {
    let text = host.as_str();
    let domain = &reader.options().cluster_domain;
    text.parse::<std::net::IpAddr>().is_err()
        && (!text.contains('.')
            || text.rsplit_once('.').is_some_and(|(_, last)| last == "svc")
            || text.strip_suffix(&**domain).is_some_and(|rest| rest.ends_with(".svc.")))
}

/// Why heddle counts although there is a Service of the name; none: it does not.
fn embedded(reader: &Reader<'_>, service: &Service) -> Option<&'static str> {
    let key = ObjectKey::new("", "Service", &service.namespace, &service.name);
    if let Some(AnyObject::Service(object)) = reader.object(&key) {
        match object.meta.annotations.get(ANNOTATION).map(String::as_str) {
            Some("embedded") => return Some("the Service asks for it (`heddle.io/rate-limits`)"),
            Some(_) => return None,
            None => {}
        }
    }
    let labels = service.ports.iter().find_map(|port| match &port.endpoints {
        Endpoints::Selected { labels, .. } if !labels.is_empty() => Some(labels),
        _ => None,
    })?;
    let pods = reader.objects(Topic::KindIn(Kind::Pod, service.namespace.clone()));
    let runs_image = |pod: &AnyObject| {
        let AnyObject::Pod(pod) = pod else { return false };
        let is_selected = labels.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value));
        is_selected
            && pod.spec.containers.iter().any(|container| {
                let image = container.image.as_deref().unwrap_or_default();
                let program = container.command.first().map(String::as_str);
                image.contains("envoyproxy/ratelimit")
                    && matches!(program, None | Some("/bin/ratelimit"))
            })
    };
    pods.iter()
        .any(runs_image)
        .then_some("its workload is an image of Envoy's reference service, and images are not run")
}
