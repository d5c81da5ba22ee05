//! What clients must prove: MeshTLSAuthentication, NetworkAuthentication and their kin, as clauses (API.md 7.4 to 7.6).

use heddle_api::linkerd::{
    AccessPolicy, AuthorizedClient, IdentityRef, MeshTlsAuthentication, NetworkRange,
    RequiredAuthenticationRef,
};
use heddle_api::{Object, Resource as AnyObject, Written};
use heddle_ident::{Cidr, TrustDomain};
use heddle_ir::authorization::{Attribute, Clause, Condition, ValueMatch};
use heddle_ir::matching::TextMatch;

use crate::codes;
use crate::engine::Reader;
use crate::linkerd::identity;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::report::Report;

/// API group of Linkerd's policy.
pub(crate) const GROUP: &str = "policy.linkerd.io";

/// The names of the mesh's trust domain.
pub(crate) fn domains(reader: &Reader<'_>) -> Vec<TrustDomain> {
    let mesh = reader.read(&MeshKey);
    std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).cloned().collect()
}

/// A clause that never holds.
pub(crate) fn never() -> Clause {
    Clause { alternatives: Vec::new() }
}

fn principal(values: Vec<ValueMatch>) -> Clause {
    let condition = Condition { attribute: Attribute::SourcePrincipal, values, negate: false };
    Clause { alternatives: vec![vec![condition]] }
}

/// Any identity of the mesh.
pub(crate) fn authenticated() -> Clause {
    principal(vec![ValueMatch::Text(TextMatch::Present)])
}

/// Mutual TLS of the mesh, whoever the client is.
pub(crate) fn mutual_tls() -> Clause {
    let values = vec![ValueMatch::Text(TextMatch::Exact("mutual-tls".into()))];
    let condition = Condition { attribute: Attribute::Transport, values, negate: false };
    Clause { alternatives: vec![vec![condition]] }
}

/// An address in one of the cluster's networks.
pub(crate) fn cluster_networks(reader: &Reader<'_>) -> Clause {
    let ranges = reader.options().linkerd.cluster_networks.iter();
    let values = ranges.map(|range| ValueMatch::Range(*range)).collect();
    let condition = Condition { attribute: Attribute::SourceAddress, values, negate: false };
    Clause { alternatives: vec![vec![condition]] }
}

/// An address in one of the ranges and in none of its exceptions. What is broken is in no range.
pub(crate) fn networks(attribute: &Attribute, written: &Written, list: &[NetworkRange]) -> Clause {
    let sound = list.iter().filter(|one| !written.is_broken(one.at));
    let alternatives = sound.filter_map(|one| {
        let range = |text: &String| Cidr::parse(text).ok().map(ValueMatch::Range);
        let values = vec![range(&one.cidr)?];
        let inside = Condition { attribute: attribute.clone(), values, negate: false };
        let except: Vec<ValueMatch> = one.except.iter().filter_map(range).collect();
        let outside = (!except.is_empty()).then(|| Condition {
            attribute: attribute.clone(),
            values: except,
            negate: true,
        });
        Some(std::iter::once(inside).chain(outside).collect())
    });
    Clause { alternatives: alternatives.collect() }
}

/// What must hold for a client of an access policy; none: nobody is let in by it.
pub(crate) fn access(reader: &Reader<'_>, policy: AccessPolicy) -> Option<Vec<Clause>> {
    Some(match policy {
        AccessPolicy::AllUnauthenticated => Vec::new(),
        AccessPolicy::AllAuthenticated => vec![authenticated()],
        AccessPolicy::ClusterAuthenticated => vec![cluster_networks(reader), authenticated()],
        AccessPolicy::ClusterUnauthenticated => vec![cluster_networks(reader)],
        AccessPolicy::Deny | AccessPolicy::Audit => return None,
    })
}

/// What a client of a ServerAuthorization must prove: address and identity. Without ranges the cluster's count
/// (API.md hazard 28).
pub(crate) fn client<T>(
    reader: &Reader<'_>,
    object: &Object<T>,
    client: &AuthorizedClient,
    report: &mut Report,
) -> Vec<Clause> {
    if object.is_broken(client.at) {
        return vec![never()];
    }
    let address = if client.networks.is_empty() {
        cluster_networks(reader)
    } else {
        networks(&Attribute::SourceAddress, &object.written, &client.networks)
    };
    let Some(tls) = &client.mesh_tls else { return vec![address] };
    if tls.unauthenticated_tls == Some(true) {
        return vec![address, mutual_tls()];
    }
    let domains = domains(reader);
    let mut values = identities(object, tls.at, &tls.identities, &domains, report);
    for account in &tls.service_accounts {
        let namespace = account.namespace.as_deref().unwrap_or(&object.meta.namespace);
        values.extend(identity::of_account(namespace, &account.name, &domains));
    }
    vec![address, principal(values)]
}

fn identities<T>(
    object: &Object<T>,
    at: heddle_api::At,
    list: &[String],
    domains: &[TrustDomain],
    report: &mut Report,
) -> Vec<ValueMatch> {
    let mut values = Vec::new();
    for (index, text) in list.iter().enumerate() {
        match identity::tests(text, domains) {
            Ok(tests) => values.extend(tests),
            Err(why) => {
                let origin = object.written.origin_of_item(at, "identities", index);
                report.warning(codes::FOREIGN_IDENTITY, origin, why);
            }
        }
    }
    values
}

/// The identities of a MeshTLSAuthentication.
pub(crate) fn mesh_tls(
    reader: &Reader<'_>,
    object: &Object<MeshTlsAuthentication>,
    report: &mut Report,
) -> Clause {
    let spec = &object.spec;
    if object.written.broken().contains(&spec.at) {
        return never();
    }
    let domains = domains(reader);
    let mut values = identities(object, spec.at, &spec.identities, &domains, report);
    for reference in spec.identity_refs.iter().filter(|one| !object.is_broken(one.at)) {
        match identity_ref(reference, &object.meta.namespace, &domains) {
            Ok(tests) => values.extend(tests),
            Err(why) => report.rejected(object.origin_at(reference.at), why),
        }
    }
    principal(values)
}

fn identity_ref(
    reference: &IdentityRef,
    own: &str,
    domains: &[TrustDomain],
) -> Result<Vec<ValueMatch>, &'static str> {
    let core = matches!(reference.group.as_deref().unwrap_or_default(), "" | "core");
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let namespace = given(&reference.namespace).unwrap_or_else(|| own.to_owned());
    match (core, &*reference.kind, given(&reference.name)) {
        (true, "ServiceAccount", Some(name)) => {
            Ok(identity::of_account(&namespace, &name, domains))
        }
        (true, "ServiceAccount", None) => Ok(identity::of_namespace(&namespace, domains)),
        (true, "Namespace", Some(name)) => Ok(identity::of_namespace(&name, domains)),
        (true, "Namespace", None) => Err("a Namespace is meant by its name"),
        _ => Err("an identity is a ServiceAccount or Namespace of the core group"),
    }
}

/// What a reference of an AuthorizationPolicy asks for. The error says why it can never hold.
pub(crate) fn required(
    reader: &Reader<'_>,
    reference: &RequiredAuthenticationRef,
    own: &str,
) -> Result<Clause, String> {
    let namespace = reference.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
    let group = reference.group.as_deref().unwrap_or_default();
    let linkerds = matches!(group, "" | GROUP);
    let found = |kind: &str| {
        let key = ObjectKey::new(GROUP, kind, namespace, &reference.name);
        reader.object(&key).ok_or_else(|| {
            format!("no {kind} `{}` is in the namespace `{namespace}`", reference.name)
        })
    };
    match &*reference.kind {
        "MeshTLSAuthentication" if linkerds => match found("MeshTLSAuthentication")? {
            AnyObject::MeshTlsAuthentication(object) => {
                Ok(mesh_tls(reader, &object, &mut Report::default()))
            }
            _ => Ok(never()),
        },
        "NetworkAuthentication" if linkerds => match found("NetworkAuthentication")? {
            AnyObject::NetworkAuthentication(object) => {
                Ok(networks(&Attribute::SourceAddress, &object.written, &object.spec.networks))
            }
            _ => Ok(never()),
        },
        "ServiceAccount" if matches!(group, "" | "core") => {
            let values = identity::of_account(namespace, &reference.name, &domains(reader));
            Ok(principal(values))
        }
        kind => Err(format!("`{kind}` of the group `{group}` is nothing that a client can prove")),
    }
}
