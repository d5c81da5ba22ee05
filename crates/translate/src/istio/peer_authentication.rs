//! PeerAuthentication: whether a workload takes plaintext, mutual TLS or both (API.md 3.1).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::{self, MutualTlsMode as WrittenMode, PeerAuthentication};
use heddle_api::{At, Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ir::inbound::{MutualTls, MutualTlsMode};

use crate::client::selects;
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::mesh::MeshKey;
use crate::object::by_age;
use crate::report::Report;

/// Mutual TLS at a workload.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Effective {
    pub(crate) default: MutualTls,
    pub(crate) by_port: Vec<(u16, MutualTls)>,
}

impl Effective {
    /// What holds on a port of the workload.
    pub(crate) fn of_port(&self, port: u16) -> &MutualTls {
        self.by_port
            .iter()
            .find(|(number, _)| *number == port)
            .map_or(&self.default, |(_, mode)| mode)
    }
}

type Policy = Arc<Object<PeerAuthentication>>;

/// What holds for a workload: its port, else the workload, else its namespace, else the mesh, else permissive. At each
/// level the oldest object counts.
pub(crate) fn effective(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &BTreeMap<Arc<str>, Arc<str>>,
) -> Effective {
    let root = reader.read(&MeshKey).root_namespace.clone();
    let mut default = MutualTls {
        mode: MutualTlsMode::Permissive,
        origin: Origin::built_in("mutual TLS is permissive"),
    };
    let mut levels = vec![oldest(reader, &root, |policy| selector(policy).is_none())];
    if *namespace != root {
        levels.push(oldest(reader, namespace, |policy| selector(policy).is_none()));
        levels.push(oldest(reader, namespace, |policy| {
            selector(policy).is_some_and(|selector| selects(selector, labels))
        }));
    }
    for policy in levels.iter().flatten() {
        if let Some(mode) = mode(policy, policy.spec.at, policy.spec.mtls.as_ref(), "mtls") {
            default = mode;
        }
    }
    let mut by_port = Vec::new();
    // Ports count in objects with a selector only.
    if let Some(policy) = levels.get(2).and_then(Option::as_ref) {
        for (port, written) in &policy.spec.port_level_mtls {
            let Ok(port) = port.parse() else { continue };
            let entry = policy.written.field(policy.spec.at, "portLevelMtls");
            let at = entry.unwrap_or(policy.spec.at);
            if let Some(mode) = mode(policy, at, Some(written), &port_text(port)) {
                by_port.push((port, mode));
            }
        }
    }
    Effective { default, by_port }
}

fn port_text(port: u16) -> String {
    port.to_string()
}

/// The mode of a block; none where it inherits. A block that cannot be read means strict: plaintext is let in only by a
/// mode that says so.
fn mode(
    policy: &Policy,
    parent: At,
    written: Option<&istio::MutualTls>,
    field: &str,
) -> Option<MutualTls> {
    let broken = policy.written.field(parent, field).is_some_and(|at| policy.is_broken(at))
        || policy.written.broken().contains(&policy.spec.at)
        || policy.written.broken().contains(&policy.written.root());
    let (mode, at) = match written {
        _ if broken => (MutualTlsMode::Strict, None),
        None => return None,
        Some(written) => match written.mode.unwrap_or(WrittenMode::Unset) {
            WrittenMode::Unset => return None,
            WrittenMode::Disable => (MutualTlsMode::Disable, Some(written.at)),
            WrittenMode::Permissive => (MutualTlsMode::Permissive, Some(written.at)),
            WrittenMode::Strict => (MutualTlsMode::Strict, Some(written.at)),
        },
    };
    let origin = match at {
        Some(at) => policy.origin_of(at, "mode"),
        None => policy.origin_of(parent, field),
    };
    Some(MutualTls { mode, origin })
}

/// The labels that an object selects by; none where it is for its whole namespace.
fn selector(policy: &Object<PeerAuthentication>) -> Option<&BTreeMap<String, String>> {
    let labels = &policy.spec.selector.as_ref()?.match_labels;
    (!labels.is_empty()).then_some(labels)
}

fn oldest(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    wanted: impl Fn(&Policy) -> bool,
) -> Option<Policy> {
    policies(reader, namespace).into_iter().filter(wanted).min_by(age)
}

fn age(left: &Policy, right: &Policy) -> Ordering {
    by_age(&left.meta, &right.meta)
}

fn policies(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<Policy> {
    let objects = reader.objects(Topic::KindIn(Kind::PeerAuthentication, namespace.clone()));
    objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::PeerAuthentication(policy) => Some(policy),
            _ => None,
        })
        .collect()
}

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, policy: &Policy, report: &mut Report) {
    let spec = &policy.spec;
    let namespace: Arc<str> = policy.meta.namespace.as_str().into();
    let root = reader.read(&MeshKey).root_namespace.clone();
    let own = selector(policy);
    for (port, written) in &spec.port_level_mtls {
        let origin = || policy.written.origin_of_entry(spec.at, "portLevelMtls", port);
        if port.parse::<u16>().map_or(true, |port| port == 0) {
            report.rejected(origin(), format!("`{port}` is not a port"));
        }
        if own.is_none() {
            report.rejected(origin(), "`portLevelMtls` needs a selector with labels");
        }
        let _ = written;
    }
    crate::istio::selector::check(&policy.written, spec.at, spec.selector.as_ref(), report);
    if own.is_some() && namespace == root {
        let message = "a PeerAuthentication with a selector in the root namespace has no effect";
        report.warning(codes::ROOT_SELECTOR, policy.origin_of(spec.at, "selector"), message);
        report.ignored(policy.origin().clone(), message);
        return;
    }
    let same_level = |other: &Policy| selector(other) == own;
    if let Some(older) = oldest(reader, &namespace, same_level)
        && older.meta.name != policy.meta.name
    {
        let message = format!(
            "`{}` decides at this level, which was created or written before it",
            older.meta.name
        );
        report.push(
            heddle_diag::Diagnostic::warning(
                codes::OLDER_POLICY,
                policy.origin().clone(),
                message.clone(),
            )
            .related("this one decides", older.origin().clone()),
        );
        report.conflict(policy.origin().clone(), message);
    }
    let Some(own) = own else { return };
    let workloads = crate::istio::selector::selected(reader, &namespace, own);
    crate::istio::selector::check_selects(&policy.written, spec.at, own, &workloads, report);
    for port in spec.port_level_mtls.keys() {
        let Ok(number) = port.parse::<u16>() else { continue };
        let declared: Vec<u16> =
            workloads.iter().flat_map(|facts| facts.ports.iter().map(|(_, port)| *port)).collect();
        if !declared.is_empty() && !declared.contains(&number) {
            let origin = policy.written.origin_of_entry(spec.at, "portLevelMtls", port);
            let message = format!("no container of the selected workloads listens on {number}");
            report.warning(codes::SERVICE_PORT, origin, message);
        }
    }
}
