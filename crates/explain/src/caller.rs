//! Who sends a request.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use heddle_ident::{NetworkName, SpiffeId};
use heddle_ir::outbound::ScopeId;
use heddle_ir::workload::{MeshTransport, Workload};

use crate::query::{Query, QueryError};
use crate::world::World;

/// The address of a client of which nothing is known (RFC 5737).
pub(crate) const OUTSIDE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// Names in an error.
const NAMES_MAX: usize = 10;

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// In words, for texts.
    pub(crate) label: String,
    pub(crate) namespace: Arc<str>,
    pub(crate) network: NetworkName,
    /// Whose view its names and routes are looked up in.
    pub(crate) scope: ScopeId,
    /// The replica; none where no object makes one.
    pub(crate) workload: Option<Arc<Workload>>,
    /// A proxy beside it takes its connections.
    pub(crate) has_proxy: bool,
    /// What it can prove; none without proxy.
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) address: IpAddr,
    /// What was assumed.
    pub(crate) assumptions: Vec<String>,
}

impl Caller {
    pub(crate) fn of(world: &World, query: &Query) -> Result<Self, QueryError> {
        let text = query.from.trim();
        let mut caller = if text == "outside" {
            Self::outside(world)
        } else if let Some(account) = text.strip_prefix("sa:") {
            let (namespace, name) =
                pair(account).ok_or_else(|| QueryError::From(text.to_owned()))?;
            Self::of_account(world, namespace, name)
        } else {
            let (namespace, name) = pair(text).ok_or_else(|| QueryError::From(text.to_owned()))?;
            Self::of_workload(world, namespace, name)?
        };
        if let Some(address) = query.source_ip {
            caller.address = address;
        }
        Ok(caller)
    }

    fn outside(world: &World) -> Self {
        let namespace: Arc<str> = "default".into();
        Self {
            label: "outside of the mesh".into(),
            network: world.translator.options().network.clone(),
            scope: world.translator.scope_in(&namespace, &BTreeMap::new()),
            namespace,
            workload: None,
            has_proxy: false,
            identity: None,
            address: OUTSIDE_ADDRESS,
            assumptions: Vec::new(),
        }
    }

    fn of_workload(world: &World, namespace: &str, name: &str) -> Result<Self, QueryError> {
        if let Some(workload) = find(world, namespace, name) {
            return Ok(Self::of_replica(world, &workload));
        }
        if world.assumed {
            let account = world.assumed_account(namespace, name);
            let labels = BTreeMap::from([("app".into(), name.into())]);
            let mut caller = Self::assumed(world, namespace, &account, &labels);
            caller.label = format!("{namespace}/{name}");
            return Ok(caller);
        }
        Err(no_workload(world, &format!("{namespace}/{name}")))
    }

    fn of_account(world: &World, namespace: &str, name: &str) -> Self {
        let has = |workload: &&Arc<Workload>| {
            workload.identity.service_account() == Some((namespace, name))
        };
        let label = format!("a workload of the service account {namespace}/{name}");
        match world.workloads().iter().find(has) {
            Some(workload) => Self { label, ..Self::of_replica(world, workload) },
            None => Self { label, ..Self::assumed(world, namespace, name, &BTreeMap::new()) },
        }
    }

    pub(crate) fn of_replica(world: &World, workload: &Arc<Workload>) -> Self {
        let settings = world.settings(&workload.id);
        let workload = settings.as_ref().map_or(workload, |settings| &settings.workload);
        let scope = settings.as_ref().map_or_else(
            || world.translator.scope_in(&workload.namespace, &workload.labels),
            |settings| settings.scope.clone(),
        );
        let has_proxy = workload.transport != MeshTransport::None;
        Self {
            label: format!("{}/{}", workload.namespace, workload.workload_name),
            namespace: workload.namespace.clone(),
            network: workload.network.clone(),
            scope,
            workload: Some(workload.clone()),
            has_proxy,
            identity: has_proxy.then(|| workload.identity.clone()),
            address: workload.addresses.first().copied().unwrap_or(OUTSIDE_ADDRESS),
            assumptions: Vec::new(),
        }
    }

    /// A workload that no object makes.
    pub(crate) fn assumed(
        world: &World,
        namespace: &str,
        account: &str,
        labels: &BTreeMap<Arc<str>, Arc<str>>,
    ) -> Self {
        let domain = world.translator.trust_domain();
        let identity = SpiffeId::for_service_account(&domain, namespace, account).ok();
        let what = format!(
            "the client: a workload with a proxy in {namespace} with the service account {account}"
        );
        Self {
            label: String::new(),
            namespace: namespace.into(),
            network: world.translator.options().network.clone(),
            scope: world.translator.scope_in(namespace, labels),
            workload: None,
            has_proxy: true,
            identity,
            address: IpAddr::V4(Ipv4Addr::new(10, 244, 255, 1)),
            assumptions: vec![what],
        }
    }
}

/// `namespace/name`; a name alone is in `default`.
pub(crate) fn pair(text: &str) -> Option<(&str, &str)> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    let sound = |part: &str| !part.is_empty() && !part.contains(['/', ':', ' ']);
    (sound(namespace) && sound(name)).then_some((namespace, name))
}

/// The first replica of a workload, by the name of what makes it, else by its own, else by its `app` label.
pub(crate) fn find(world: &World, namespace: &str, name: &str) -> Option<Arc<Workload>> {
    let mut inside = world.workloads().iter().filter(|workload| *workload.namespace == *namespace);
    let by_maker = inside.clone().find(|workload| *workload.workload_name == *name);
    let by_name = || inside.clone().find(|workload| *workload.name == *name);
    let found = by_maker.or_else(by_name);
    found.or_else(|| inside.find(|workload| *workload.canonical_name == *name)).cloned()
}

pub(crate) fn no_workload(world: &World, name: &str) -> QueryError {
    let mut names: Vec<String> = world
        .workloads()
        .iter()
        .map(|workload| format!("{}/{}", workload.namespace, workload.workload_name))
        .collect();
    names.dedup();
    let more = if names.len() > NAMES_MAX { " and others" } else { "" };
    names.truncate(NAMES_MAX);
    let known = if names.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}{more}", names.join(", "))
    };
    QueryError::NoWorkload { name: name.to_owned(), known }
}
