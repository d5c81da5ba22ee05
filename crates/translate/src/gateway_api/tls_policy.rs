//! BackendTLSPolicies: TLS towards the endpoints of a service.

use std::sync::Arc;

use heddle_api::gateway_api::{BackendTlsPolicy, PolicyTarget};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::destination::{ClientTls, TlsOrigination};
use heddle_ir::secret::SecretKey;

use crate::engine::{Reader, Topic};
use crate::gateway_api::certificates::{self, Referrer, Unresolved};
use crate::gateway_api::route::by_age;
use crate::service::{Service, ServicePort};

pub(crate) type Policy = Arc<Object<BackendTlsPolicy>>;

/// What a policy makes of connections, and its references that lead to nothing.
pub(crate) struct Checked {
    /// The error is why no connection can be made.
    pub(crate) tls: Result<ClientTls, Unresolved>,
    /// The first reference that leads to nothing.
    pub(crate) unresolved: Option<Unresolved>,
}

/// The TLS of a port of a Service, where a policy says something about it; an error where it cannot be had: requests then
/// fail, they never go in plaintext.
pub(crate) fn of_port(
    reader: &Reader<'_>,
    service: &Service,
    port: &ServicePort,
) -> Option<(Policy, Result<ClientTls, Unresolved>)> {
    if &*port.object.kind != "Service" {
        return None;
    }
    let found = policies(reader, &service.namespace, &service.name);
    let of = |section: Option<&str>| {
        let mut matching = found.iter().filter(|policy| {
            targets(policy, &service.name).any(|target| target.section_name.as_deref() == section)
        });
        matching.next().cloned()
    };
    // What names the port goes before what names the service only.
    let named = (!port.name.is_empty()).then(|| of(Some(&port.name))).flatten();
    let policy = named.or_else(|| of(None))?;
    let checked = check(reader, &policy);
    Some((policy, checked.tls))
}

/// The policies that name a Service, the oldest first.
pub(crate) fn policies(reader: &Reader<'_>, namespace: &str, service: &str) -> Vec<Policy> {
    let objects = reader.objects(Topic::TlsPoliciesOf(namespace.into(), service.into()));
    let mut found: Vec<Policy> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::BackendTlsPolicy(policy) => Some(policy),
            _ => None,
        })
        .filter(|policy| targets(policy, service).next().is_some())
        .collect();
    found.sort_by(|left, right| by_age(&left.meta, &right.meta));
    found
}

/// The targets of a policy that mean a Service.
pub(crate) fn targets<'a>(
    policy: &'a Object<BackendTlsPolicy>,
    service: &'a str,
) -> impl Iterator<Item = &'a PolicyTarget> {
    let targets = policy.spec.target_refs.iter();
    targets.filter(move |target| {
        target.group.is_empty() && target.kind == "Service" && target.name == service
    })
}

/// Looks at what a policy asks for.
pub(crate) fn check(reader: &Reader<'_>, policy: &Object<BackendTlsPolicy>) -> Checked {
    let validation = &policy.spec.validation;
    if policy.is_broken(validation.at) || policy.is_broken(policy.spec.at) {
        let error = Unresolved::new("Invalid", "the policy has an error, see `analyze`");
        return Checked { tls: Err(error), unresolved: None };
    }
    let mut roots: Vec<SecretKey> = Vec::new();
    let mut unresolved = None;
    let referrer = Referrer { kind: "BackendTLSPolicy", namespace: &policy.meta.namespace };
    for reference in &validation.ca_certificate_refs {
        let (group, kind, name) = (&reference.group, &reference.kind, &reference.name);
        match certificates::authority(reader, referrer, group, kind, referrer.namespace, name) {
            Ok(key) => roots.push(key),
            Err(error) => {
                unresolved.get_or_insert(error);
            }
        }
    }
    let named = validation.well_known_ca_certificates.as_deref();
    let tls = match named {
        Some("System") => Ok(Vec::new()),
        Some(other) => {
            let message = format!("the well-known authority `{other}` is not supported");
            Err(Unresolved::new("Invalid", message))
        }
        None if roots.is_empty() => {
            let message = "no authority of the policy is valid: requests get 5xx";
            Err(Unresolved::new("NoValidCACertificate", message))
        }
        None => Ok(roots),
    };
    let names = validation.subject_alt_names.iter();
    let names = names.filter_map(|name| name.hostname.as_deref().or(name.uri.as_deref()));
    let names: Vec<Arc<str>> = names.map(Into::into).collect();
    let tls = tls.map(|ca_certificates| {
        ClientTls::Originate(TlsOrigination {
            server_name: validation.hostname.as_str().into(),
            ca_certificates_path: None,
            client_certificate_paths: None,
            subject_alt_names: names,
            insecure_skip_verify: false,
            credential: None,
            ca_certificates,
            revocations_path: None,
        })
    });
    Checked { tls, unresolved }
}
