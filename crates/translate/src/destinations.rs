//! The destinations of one table of routes, and the DestinationRules that shape them.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::{Destination as Written, DestinationRule, TrafficPolicy};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::{Diagnostic, Origin};
use heddle_ident::HostPattern;
use heddle_ir::destination::{
    ClientTls, Destination, DestinationId, EndpointSource, LoadBalancing,
};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::protocol::Protocol;

use crate::client::Client;
use crate::codes;
use crate::endpoint::target_number;
use crate::engine::{Derivation, Reader, Topic};
use crate::export::Export;
use crate::gateway_api::tls_policy;
use crate::istio::client_tls::Connecting;
use crate::istio::traffic_policy::Policies;
use crate::linkerd::balancer;
use crate::mesh::MeshKey;
use crate::names::{covering_texts, full_name, is_near};
use crate::object::by_age;
use crate::report::Report;
use crate::service::{Endpoints, Service, ServiceKey, ServicePort};

/// The DestinationRules of one namespace for one host text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EffectiveRuleKey {
    pub(crate) namespace: Arc<str>,
    pub(crate) host: Arc<str>,
}

/// DestinationRules of one namespace for one host, the oldest first.
#[derive(Clone, Debug)]
pub(crate) struct RuleSet(pub(crate) Vec<Arc<Object<DestinationRule>>>);

impl PartialEq for RuleSet {
    /// By identity: an object that was put again is another one.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(left, right)| Arc::ptr_eq(left, right))
    }
}

impl Derivation for EffectiveRuleKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<RuleSet> {
        let topic = Topic::DestinationRulesByHost(self.namespace.clone(), self.host.clone());
        let objects = reader.objects(topic);
        let mut rules: Vec<_> = objects
            .into_iter()
            .filter_map(|object| match object {
                AnyObject::DestinationRule(rule) => Some(rule),
                _ => None,
            })
            .collect();
        rules.sort_by(|left, right| by_age(&left.meta, &right.meta));
        Arc::new(RuleSet(rules))
    }
}

/// The rules that decide for a host and a client: from the first of the client's, the service's and the root namespace
/// that has one, of the most specific host. Rules of one namespace are never mixed with another's.
pub(crate) fn rules_for(
    reader: &Reader<'_>,
    client: &Client<'_>,
    host: &HostPattern,
    service_namespace: &str,
) -> Vec<Arc<Object<DestinationRule>>> {
    let mesh = reader.read(&MeshKey);
    let root = &*mesh.root_namespace;
    let texts = covering_texts(host);
    let mut namespaces: Vec<&str> = Vec::new();
    // The root namespace comes last, also for clients in it.
    for namespace in [client.namespace, service_namespace] {
        if namespace != root && !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    namespaces.push(root);
    for namespace in namespaces {
        for text in &texts {
            let key = EffectiveRuleKey { namespace: namespace.into(), host: text.clone() };
            let rules = reader.read(&key);
            let seen = rules.0.iter().filter(|rule| {
                namespace == client.namespace
                    || Export::of(
                        rule.spec.export_to.iter().map(String::as_str),
                        namespace,
                        &mesh.destination_rule_export,
                    )
                    .shows_to(client.namespace)
            });
            let applying = with_best_selector(seen, client);
            if !applying.is_empty() {
                return applying;
            }
        }
    }
    Vec::new()
}

/// Rules that select the client by its labels go before those that are for every client; the two are not mixed.
fn with_best_selector<'a>(
    rules: impl Iterator<Item = &'a Arc<Object<DestinationRule>>>,
    client: &Client<'_>,
) -> Vec<Arc<Object<DestinationRule>>> {
    let (selecting, general): (Vec<_>, Vec<_>) =
        rules.cloned().partition(|rule| rule.spec.workload_selector.is_some());
    let selector = |rule: &Arc<Object<DestinationRule>>| {
        rule.spec
            .workload_selector
            .as_ref()
            .map(|selector| selector.match_labels.clone())
            .unwrap_or_default()
    };
    let own = rule_matches(client, &selecting);
    match own {
        Some(own) => {
            let labels: BTreeMap<String, String> = selector(&own);
            selecting
                .into_iter()
                .filter(|rule| rule.meta.namespace == client.namespace && selector(rule) == labels)
                .collect()
        }
        None => general,
    }
}

fn rule_matches(
    client: &Client<'_>,
    selecting: &[Arc<Object<DestinationRule>>],
) -> Option<Arc<Object<DestinationRule>>> {
    // When reporting, no particular client is meant, so the rules for every client count.
    client.labels?;
    selecting
        .iter()
        .find(|rule| {
            rule.meta.namespace == client.namespace
                && rule
                    .spec
                    .workload_selector
                    .as_ref()
                    .is_some_and(|selector| client.has_labels(&selector.match_labels))
        })
        .cloned()
}

/// A destination as a VirtualService writes it.
pub(crate) struct Wanted<'a> {
    pub(crate) object: &'a Object<heddle_api::istio::VirtualService>,
    pub(crate) destination: &'a Written,
}

/// Collects the destinations that the routes of one table refer to.
pub(crate) struct Destinations<'a> {
    reader: &'a Reader<'a>,
    client: Client<'a>,
    list: Vec<Arc<Destination>>,
}

impl<'a> Destinations<'a> {
    pub(crate) fn new(reader: &'a Reader<'a>, client: Client<'a>) -> Self {
        Self { reader, client, list: Vec::new() }
    }

    /// What it reads with.
    pub(crate) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// From now on the client calls this port; destinations that are there stay.
    pub(crate) fn set_port(&mut self, port: u16) {
        self.client.port = Some(port);
    }

    /// An empty collection for the same client.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.reader, self.client)
    }

    pub(crate) fn into_list(self) -> Vec<Arc<Destination>> {
        self.list
    }

    /// The index of a destination that a route names; the error is for the operator, and has been reported.
    pub(crate) fn resolve(
        &mut self,
        wanted: &Wanted<'_>,
        report: &mut Report,
    ) -> Result<usize, Arc<str>> {
        let (object, written) = (wanted.object, wanted.destination);
        let of = |field: &str| object.origin_of(written.at, field);
        let domain = &self.reader.options().cluster_domain;
        let name = full_name(&written.host, &object.meta.namespace, domain);
        // Any star in front passes Istio's validation; only `*.` is one that something can match.
        if HostPattern::parse(name.trim_start_matches('*').trim_start_matches('.')).is_err() {
            let reason = format!("`{}` is not a host", written.host);
            report.rejected(of("host"), reason.clone());
            return Err(reason.into());
        }
        if let Some(selector) = &written.port
            && selector.number.is_none_or(|number| number == 0)
        {
            report.rejected(object.origin_of(selector.at, "number"), "a port has a number");
            return Err("the route's port has no number".into());
        }
        let Some(service) = self.visible_service(&name) else {
            let reason = format!("no Service or ServiceEntry has the host `{name}`");
            let hint = self.hint(&written.host, &name);
            report.push(
                Diagnostic::error(
                    codes::UNKNOWN_HOST,
                    of("host"),
                    format!("{reason}: requests for it get 503"),
                )
                .hint_opt(hint),
            );
            if name.ends_with(".global") {
                let message = format!("`{name}` is a name of a removed multi-cluster design");
                report.warning(codes::OLD_MULTICLUSTER_NAME, of("host"), message);
            }
            return Err(reason.into());
        };
        let port = self.port(&service, wanted, report)?;
        let subset = written.subset.as_deref().filter(|subset| !subset.is_empty());
        self.add(&service, &port, subset).map_err(|missing| {
            let Missing { message, hint } = missing;
            let text = format!("{message}: requests for it get 503");
            report
                .push(Diagnostic::error(codes::UNKNOWN_SUBSET, of("subset"), text).hint_opt(hint));
            message.into()
        })
    }

    /// The service of a host, where the client sees it.
    pub(crate) fn visible_service(&self, host: &str) -> Option<Arc<Service>> {
        let pattern = HostPattern::parse(host).ok()?;
        covering_texts(&pattern).into_iter().find_map(|text| {
            let service = self.reader.read(&ServiceKey(text))?;
            let visible = service.visible_ports(self.client.namespace).next().is_some();
            visible.then_some(service)
        })
    }

    /// A near miss of an unknown host.
    fn hint(&self, written: &str, name: &str) -> Option<String> {
        let domain = &self.reader.options().cluster_domain;
        let prefix = written.strip_suffix(".svc").unwrap_or(written);
        if prefix.split('.').count() == 2 {
            let full = format!("{prefix}.svc.{domain}");
            if self.visible_service(&full).is_some() {
                return Some(format!("write `{full}`; only names without dots are completed"));
            }
        }
        let key = crate::service::VisibleKey(self.client.namespace.into());
        let visible = self.reader.read(&key);
        let first = |host: &str| host.split('.').next().map(ToOwned::to_owned);
        let same = visible.iter().find(|service| {
            let host = service.host.to_string();
            host != name
                && first(&host)
                    .zip(first(name))
                    .is_some_and(|(host, name)| host == name || is_near(&host, &name))
        });
        same.map(|service| format!("did you mean `{}`?", service.host))
    }

    fn port(
        &self,
        service: &Service,
        wanted: &Wanted<'_>,
        report: &mut Report,
    ) -> Result<ServicePort, Arc<str>> {
        let (object, written) = (wanted.object, wanted.destination);
        let visible: Vec<&ServicePort> = service.visible_ports(self.client.namespace).collect();
        let listed = || {
            let numbers: Vec<String> = visible.iter().map(|port| port.number.to_string()).collect();
            numbers.join(", ")
        };
        let number = match &written.port {
            Some(selector) => selector.number,
            None => match visible.as_slice() {
                [only] => Some(only.number),
                _ if self.client.port.is_none() => {
                    let message = format!(
                        "`{}` has the ports {} and the route names none: the one that the client called is used",
                        service.host,
                        listed()
                    );
                    let origin = object.origin_of(written.at, "port");
                    report.error(codes::PORT_REQUIRED, origin, message);
                    // Any port will do to look at the subset.
                    visible.first().map(|port| port.number)
                }
                _ => self.client.port,
            },
        };
        let found = number.and_then(|number| visible.iter().find(|port| port.number == number));
        found.map(|port| (*port).clone()).ok_or_else(|| {
            let reason = match number {
                Some(number) => {
                    format!("`{}` has no port {number}, but {}", service.host, listed())
                }
                None => format!("the port of `{}` is not valid", service.host),
            };
            if number.is_some() {
                let origin = object.origin_of(written.at, "port");
                report.error(
                    codes::UNKNOWN_PORT,
                    origin,
                    format!("{reason}: requests for it get 503"),
                );
            }
            reason.into()
        })
    }

    /// The index of a destination, added when it is new.
    pub(crate) fn add(
        &mut self,
        service: &Service,
        port: &ServicePort,
        subset: Option<&str>,
    ) -> Result<usize, Missing> {
        let missing = |message: String, hint| Missing { message, hint };
        let host = service
            .identifying_host()
            .ok_or_else(|| missing(format!("`{}` is no destination", service.host), None))?;
        let id =
            DestinationId { host, port: port.number, subset: subset.unwrap_or_default().into() };
        if let Some(index) = self.list.iter().position(|known| known.id == id) {
            return Ok(index);
        }
        let rules = rules_for(self.reader, &self.client, &service.host, &service.namespace);
        let destination =
            destination(self.reader, &self.client, service, port, id, &rules, subset)?;
        self.list.push(Arc::new(destination));
        Ok(self.list.len() - 1)
    }
}

impl Destinations<'_> {
    /// The port that the client calls; none when reporting.
    pub(crate) fn called_port(&self) -> Option<u16> {
        self.client.port
    }

    /// Another destination, made of one that is there.
    pub(crate) fn add_like(
        &mut self,
        index: usize,
        make: impl FnOnce(&Destination) -> Destination,
    ) -> Option<usize> {
        let made = make(self.list.get(index)?);
        self.list.push(Arc::new(made));
        Some(self.list.len() - 1)
    }

    /// A destination without any policy, in plaintext; none for what has no host.
    pub(crate) fn add_bare(
        &mut self,
        service: &Service,
        port: &ServicePort,
        origin: Origin,
    ) -> Option<usize> {
        let id = DestinationId {
            host: service.identifying_host()?,
            port: port.number,
            subset: Arc::default(),
        };
        let port = ServicePort { protocol: Protocol::Tcp, ..port.clone() };
        let mut bare =
            destination(self.reader, &self.client, service, &port, id, &[], None).ok()?;
        bare.tls = ClientTls::Disable;
        bare.origin = origin;
        self.list.push(Arc::new(bare));
        Some(self.list.len() - 1)
    }
}

/// What keeps a destination from being one.
pub(crate) struct Missing {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

fn destination(
    reader: &Reader<'_>,
    client: &Client<'_>,
    service: &Service,
    port: &ServicePort,
    id: DestinationId,
    rules: &[Arc<Object<DestinationRule>>],
    subset: Option<&str>,
) -> Result<Destination, Missing> {
    let mesh = reader.read(&MeshKey);
    let chosen = subset.map(|name| find_subset(service, rules, name)).transpose()?;
    let top: Option<(&Arc<Object<DestinationRule>>, &TrafficPolicy)> = rules
        .iter()
        .find_map(|rule| rule.spec.traffic_policy.as_ref().map(|policy| (rule, policy)));
    let of_subset = chosen
        .as_ref()
        .and_then(|(rule, subset)| subset.traffic_policy.as_ref().map(|policy| (*rule, policy)));
    let policies = Policies::merge(&mesh, top, of_subset, port.number);
    let profile = reader.options().profile;
    // Findings on the rule are made by its own report.
    let mut unused = Report::default();
    let load_balancing = policies.load_balancing(&mut unused);
    let original = load_balancing == LoadBalancing::Passthrough
        || port.endpoints == Endpoints::OriginalDestination;
    let subset_labels = chosen.as_ref().map(|(_, subset)| {
        subset
            .labels
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect()
    });
    let origin = match (&chosen, top) {
        (Some((rule, subset)), _) => rule.origin_at(subset.at),
        (None, Some((rule, policy))) => rule.origin_at(policy.at),
        (None, None) => rules.first().map_or_else(
            || Origin::built_in("destination without DestinationRule"),
            |rule| rule.origin().clone(),
        ),
    };
    let endpoints = if original {
        EndpointSource::OriginalDestination
    } else if port.endpoints == Endpoints::Requested {
        let port = target_number(port, None).unwrap_or(port.number);
        EndpointSource::RequestedName { port }
    } else {
        EndpointSource::Set(EndpointSetKey { host: id.host.clone(), port: port.number })
    };
    let connecting =
        Connecting { namespace: client.namespace, is_gateway: client.gateway.is_some(), profile };
    let mut security = policies.security(&mesh, connecting, &mut unused);
    if let ClientTls::Originate(origination) = &mut security.tls
        && origination.subject_alt_names.is_empty()
    {
        origination.subject_alt_names.clone_from(&service.subject_alt_names);
    }
    // A BackendTLSPolicy goes before what a DestinationRule says of TLS (API.md 11.1 row 4).
    if let Some((policy, wanted)) = tls_policy::of_port(reader, service, port) {
        security.tls = wanted.map_err(|error| Missing {
            message: format!("BackendTLSPolicy `{}`: {}", policy.meta.name, error.message),
            hint: None,
        })?;
    }
    let names = security.subject_alt_names;
    let mut destination = Destination {
        service_namespace: if service.external {
            Arc::default()
        } else {
            service.namespace.clone()
        },
        service_name: service.name.clone(),
        protocol: port.protocol,
        endpoints,
        subset_labels: subset_labels.unwrap_or_default(),
        load_balancing,
        connection_pool: policies.connection_pool_of(&mesh, port.protocol),
        outlier_detection: policies.outlier_detection(profile, &mut unused),
        tls: security.tls,
        subject_alt_names: if names.is_empty() { service.subject_alt_names.clone() } else { names },
        origin,
        id,
        locality: policies.locality(&mesh, service.distribution, client.gateway.is_some()),
        warmup: policies.warmup(&mut unused),
        failure_accrual: None,
        retry_budget: policies.retry_budget(profile),
        tunnel: policies.tunnel(&mut unused),
        proxy_protocol: policies.proxy_protocol(),
        mesh_server_name: security.mesh_server_name,
    };
    let decided = policies.decided();
    balancer::shape(reader, client.namespace, service, port, &decided, &mut destination);
    Ok(destination)
}

type Subset<'a> = (&'a Arc<Object<DestinationRule>>, &'a heddle_api::istio::Subset);

/// The oldest subset of that name. One whose labels cannot be read selects nobody knows whom, so it is none.
fn find_subset<'a>(
    service: &Service,
    rules: &'a [Arc<Object<DestinationRule>>],
    name: &str,
) -> Result<Subset<'a>, Missing> {
    let all =
        || rules.iter().flat_map(|rule| rule.spec.subsets.iter().map(move |subset| (rule, subset)));
    let found = all().find(|(_, subset)| subset.name == name);
    match found {
        Some((rule, subset)) if rule.is_field_broken(subset.at, "labels") => Err(Missing {
            message: format!("the labels of subset `{name}` of `{}` have an error", rule.meta.name),
            hint: None,
        }),
        Some(found) => Ok(found),
        None => {
            let names: Vec<&str> = all().map(|(_, subset)| subset.name.as_str()).collect();
            let hint = match (rules.first(), names.is_empty()) {
                (None, _) => format!("no DestinationRule applies to `{}`", service.host),
                (Some(rule), true) => {
                    format!("DestinationRule `{}` defines no subsets", rule.meta.name)
                }
                (Some(rule), false) => {
                    format!("DestinationRule `{}` defines {}", rule.meta.name, names.join(", "))
                }
            };
            let message = format!("`{}` has no subset `{name}`", service.host);
            Err(Missing { message, hint: Some(hint) })
        }
    }
}
