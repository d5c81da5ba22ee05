//! Objects, translated once, and what proxies would have compiled of them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_authz::CompiledAuthorization;
use heddle_ident::{NetworkName, WorkloadId};
use heddle_ir::destination::{Destination, EndpointSource};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::index::Index;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::proxy::ProxySettings;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::Workload;
use heddle_proto::resource::{decode, encode};
use heddle_route::{CompiledRoutes, NameTable, TargetIndex};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use crate::answer::Answer;
use crate::assume;
use crate::choice::Choice;
use crate::query::{Query, QueryError};

/// What a mesh would hold of these objects. Nothing is derived before a request needs it, and nothing twice, so that
/// thousands of requests cost little more than one.
pub struct World {
    pub(crate) translator: Translator,
    /// Every replica, as the control plane knows it.
    workloads: Vec<Arc<Workload>>,
    /// The objects hold nothing that runs, so that workloads were assumed.
    pub(crate) assumed: bool,
    accounts: BTreeSet<(String, String)>,
    held: RefCell<Held>,
}

/// What a scope sees.
pub(crate) struct View {
    pub(crate) targets: TargetIndex,
    pub(crate) names: NameTable,
}

#[derive(Default)]
struct Held {
    resources: HashMap<ResourceName, Option<Resource>>,
    views: HashMap<ScopeId, Arc<View>>,
    routes: HashMap<OutboundKey, Option<Arc<CompiledRoutes>>>,
    inbounds: HashMap<WorkloadId, Option<Arc<CompiledAuthorization>>>,
    choices: HashMap<ChoiceKey, Arc<Choice>>,
}

/// A destination by where it is kept, which the compiled routes hold on to, and whose request it is.
type ChoiceKey = (usize, Option<WorkloadId>);

impl World {
    /// Takes objects as they are written; Pods are made of Deployments and their kin, and addresses are given, as in a
    /// mesh on one machine.
    pub fn new(mut objects: Vec<AnyObject>, options: Options) -> Self {
        let assumed = !assume::has_workloads(&objects);
        if assumed {
            let pods = assume::pods(&objects);
            objects.extend(pods);
        }
        let accounts = assume::accounts(&objects);
        // Replicas that would run are ready, so that their services have endpoints.
        let expanded = expand(objects, Allocation::default(), true);
        Self { assumed, accounts, ..Self::running(expanded.objects, options) }
    }

    /// Takes the objects of a running mesh, with their Pods and addresses.
    pub fn running(objects: Vec<AnyObject>, options: Options) -> Self {
        let mut translator = Translator::new(options);
        translator.apply(objects.into_iter().map(Change::Upsert));
        let workloads = translator.workloads();
        let accounts = BTreeSet::new();
        Self { translator, workloads, assumed: false, accounts, held: RefCell::default() }
    }

    /// Follows a request.
    pub fn explain(&self, query: &Query) -> Result<Answer, QueryError> {
        crate::direct::explain(self, query)
    }

    /// The replicas, in the order of namespaces and names.
    pub(crate) fn workloads(&self) -> &[Arc<Workload>] {
        &self.workloads
    }

    /// The service account that a workload of this name is assumed to have.
    pub(crate) fn assumed_account(&self, namespace: &str, name: &str) -> String {
        assume::account(&self.accounts, namespace, name)
    }

    /// A resource as a proxy would hold it, that is encoded and decoded.
    pub(crate) fn resource(&self, name: &ResourceName) -> Option<Resource> {
        if let Some(held) = self.held.borrow().resources.get(name) {
            return held.clone();
        }
        let made = self.translator.resource(name);
        // What a proxy could not decode it would refuse, and not have.
        let received = made.and_then(|made| decode(name, &encode(&made).bytes).ok());
        self.held.borrow_mut().resources.insert(name.clone(), received.clone());
        received
    }

    pub(crate) fn settings(&self, workload: &WorkloadId) -> Option<Arc<ProxySettings>> {
        match self.resource(&ResourceName::Proxy(workload.clone()))? {
            Resource::Proxy(settings) => Some(settings),
            _ => None,
        }
    }

    pub(crate) fn view(&self, scope: &ScopeId) -> Arc<View> {
        if let Some(view) = self.held.borrow().views.get(scope) {
            return view.clone();
        }
        let index = match self.resource(&ResourceName::Index(scope.clone())) {
            Some(Resource::Index(index)) => index,
            _ => Arc::new(Index::default()),
        };
        let names = NameTable::new(&index);
        let view = Arc::new(View { targets: TargetIndex::new(index), names });
        self.held.borrow_mut().views.insert(scope.clone(), view.clone());
        view
    }

    pub(crate) fn routes(&self, key: &OutboundKey) -> Option<Arc<CompiledRoutes>> {
        if let Some(routes) = self.held.borrow().routes.get(key) {
            return routes.clone();
        }
        let outbound = match self.resource(&ResourceName::Outbound(key.clone())) {
            Some(Resource::Outbound(outbound)) => Some(outbound),
            _ => None,
        };
        let routes = outbound.map(|outbound| Arc::new(CompiledRoutes::compile(outbound).0));
        self.held.borrow_mut().routes.insert(key.clone(), routes.clone());
        routes
    }

    /// What the proxy of a workload enforces; none for a workload without proxy.
    pub(crate) fn inbound(&self, workload: &WorkloadId) -> Option<Arc<CompiledAuthorization>> {
        if let Some(inbound) = self.held.borrow().inbounds.get(workload) {
            return inbound.clone();
        }
        let inbound = match self.resource(&ResourceName::Inbound(workload.clone())) {
            Some(Resource::Inbound(inbound)) => Some(inbound),
            _ => None,
        };
        let inbound = inbound.map(|inbound| Arc::new(CompiledAuthorization::compile(inbound, 1).0));
        self.held.borrow_mut().inbounds.insert(workload.clone(), inbound.clone());
        inbound
    }

    pub(crate) fn endpoints(&self, key: &EndpointSetKey) -> Option<Arc<EndpointSet>> {
        match self.resource(&ResourceName::Endpoints(key.clone()))? {
            Resource::Endpoints(set) => Some(set),
            _ => None,
        }
    }

    /// The endpoints of a destination that a client may be sent to, as the proxy prepares them. The destination must be
    /// one of a table that is held here.
    pub(crate) fn choice(
        &self,
        destination: &Arc<Destination>,
        caller: Option<&Arc<Workload>>,
    ) -> Arc<Choice> {
        let key = (Arc::as_ptr(destination).addr(), caller.map(|caller| caller.id.clone()));
        if let Some(choice) = self.held.borrow().choices.get(&key) {
            return choice.clone();
        }
        let set = match &destination.endpoints {
            EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => None,
            EndpointSource::Set(key) => self.endpoints(key),
        };
        let endpoints = set.as_ref().map_or(&[][..], |set| &set.endpoints);
        let caller = caller.map(|caller| &**caller);
        let choice = Arc::new(Choice::of(destination, endpoints, caller));
        self.held.borrow_mut().choices.insert(key, choice.clone());
        choice
    }

    /// Who is at an address.
    pub(crate) fn at(&self, network: &NetworkName, address: IpAddr) -> Option<Arc<Workload>> {
        let name = ResourceName::Workload(network.clone(), address.to_canonical());
        match self.resource(&name)? {
            Resource::Workload(workload) => Some(workload),
            _ => None,
        }
    }
}
