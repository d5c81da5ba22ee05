//! Objects, translated once, and what proxies would have compiled of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_authz::{CompiledAuthorization, CompiledEgress};
use heddle_ident::{NetworkName, WorkloadId};
use heddle_ir::destination::{Destination, EndpointSource};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::http_route::RouteTable;
use heddle_ir::inbound::Inbound;
use heddle_ir::index::Index;
use heddle_ir::outbound::{Outbound, OutboundKey, ScopeId};
use heddle_ir::proxy::{ProxyRole, ProxySettings};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::Workload;
use heddle_proto::resource::{decode, encode};
use heddle_route::{CompiledGateway, CompiledRoutes, NameTable, TargetIndex};
use heddle_translate::workloads::{Allocation, expand, gateways};
use heddle_translate::{Change, ObjectKey, Options, Profile, Translator};

use crate::answer::Answer;
use crate::assume;
use crate::caller::Caller;
use crate::choice::Choice;
use crate::query::{Query, QueryError};
use crate::tokens::{NoVerifier, Tokens};

/// What a mesh would hold of these objects. Nothing is derived before a request needs it, and nothing twice, so that
/// thousands of requests cost little more than one.
pub struct World {
    pub(crate) translator: Translator,
    /// Every replica, as the control plane knows it.
    workloads: Vec<Arc<Workload>>,
    /// The objects hold nothing that runs, so that workloads were assumed.
    pub(crate) assumed: bool,
    accounts: BTreeSet<(String, String)>,
    pub(crate) tokens: Box<dyn Tokens>,
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
    egresses: HashMap<WorkloadId, Option<Arc<CompiledEgress>>>,
    port_routes: HashMap<(WorkloadId, u16), Arc<CompiledRoutes>>,
    edges: HashMap<WorkloadId, Option<Arc<CompiledAuthorization>>>,
    gateways: HashMap<WorkloadId, Option<Arc<CompiledGateway>>>,
    imagined: HashMap<(Arc<str>, Labels), Arc<CompiledGateway>>,
    choices: HashMap<ChoiceKey, Arc<Choice>>,
}

/// Labels of a workload.
pub(crate) type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Which workloads are the gateway of an object.
pub(crate) struct GatewaySelector {
    /// None: of any namespace.
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) labels: Labels,
}

/// Label of the workloads that run a Gateway of the Gateway API.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// Names in an error.
const NAMES_MAX: usize = 10;

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
        if options.profile == Profile::Heddle {
            // As a mesh on one machine does; who runs another mesh has the gateways that the files bring.
            let gateways = gateways(&objects);
            objects.extend(gateways);
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
        let tokens = Box::new(NoVerifier);
        Self { translator, workloads, assumed: false, accounts, tokens, held: RefCell::default() }
    }

    /// The same, with somebody who can verify tokens.
    #[must_use]
    pub fn with_tokens(self, tokens: Box<dyn Tokens>) -> Self {
        Self { tokens, ..self }
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

    /// What decides about what a client does to others; none where nothing does.
    pub(crate) fn egress(&self, caller: &Caller) -> Option<Arc<CompiledEgress>> {
        let workload = caller.workload.as_ref().filter(|_| caller.has_proxy)?;
        if let Some(egress) = self.held.borrow().egresses.get(&workload.id) {
            return egress.clone();
        }
        let egress = self.settings(&workload.id).and_then(|settings| settings.egress.clone());
        let egress = egress.map(|egress| Arc::new(CompiledEgress::compile(egress).0));
        self.held.borrow_mut().egresses.insert(workload.id.clone(), egress.clone());
        egress
    }

    /// The routes that requests on a port of a workload must take one of; none: they need none.
    pub(crate) fn port_routes(&self, inbound: &Inbound, port: u16) -> Option<Arc<CompiledRoutes>> {
        let key = (inbound.workload.clone(), port);
        if let Some(routes) = self.held.borrow().port_routes.get(&key) {
            return Some(routes.clone());
        }
        let own = inbound.ports.iter().find(|own| own.port == port)?;
        let outbound = Outbound {
            key: OutboundKey { scope: ScopeId(Arc::default()), host: Arc::default(), port },
            protocol: own.protocol,
            host: None,
            http: RouteTable::clone(own.routes.as_ref()?),
            tls: Vec::new(),
            tcp: Vec::new(),
            destinations: Vec::new(),
        };
        let routes = Arc::new(CompiledRoutes::compile(Arc::new(outbound)).0);
        self.held.borrow_mut().port_routes.insert(key, routes.clone());
        Some(routes)
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

    /// The replica of that id.
    pub(crate) fn replica(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.workloads.iter().find(|workload| workload.id == *id).cloned()
    }

    pub(crate) fn is_gateway(&self, workload: &WorkloadId) -> bool {
        self.settings(workload).is_some_and(|settings| settings.role == ProxyRole::Gateway)
    }

    /// What a gateway workload listens on.
    pub(crate) fn gateway(&self, workload: &WorkloadId) -> Option<Arc<CompiledGateway>> {
        if let Some(gateway) = self.held.borrow().gateways.get(workload) {
            return gateway.clone();
        }
        let gateway = match self.resource(&ResourceName::Gateway(workload.clone())) {
            Some(Resource::Gateway(gateway)) => Some(gateway),
            _ => None,
        };
        let gateway = gateway.map(|gateway| Arc::new(CompiledGateway::compile(gateway).0));
        self.held.borrow_mut().gateways.insert(workload.clone(), gateway.clone());
        gateway
    }

    /// What a gateway workload of the namespace and labels would listen on.
    pub(crate) fn gateway_for(&self, namespace: &str, labels: &Labels) -> Arc<CompiledGateway> {
        let key = (Arc::from(namespace), labels.clone());
        if let Some(gateway) = self.held.borrow().imagined.get(&key) {
            return gateway.clone();
        }
        let gateway = Arc::new(self.translator.gateway_for(namespace, labels));
        let name = ResourceName::Gateway(gateway.workload.clone());
        let bytes = encode(&Resource::Gateway(gateway.clone())).bytes;
        let received = match decode(&name, &bytes) {
            Ok(Resource::Gateway(received)) => received,
            _ => gateway,
        };
        let compiled = Arc::new(CompiledGateway::compile(received).0);
        self.held.borrow_mut().imagined.insert(key, compiled.clone());
        compiled
    }

    /// The policies of a gateway's workload. What TLS it takes is for its listeners to say.
    pub(crate) fn edge_policy(&self, workload: &WorkloadId) -> Option<Arc<CompiledAuthorization>> {
        if let Some(policy) = self.held.borrow().edges.get(workload) {
            return policy.clone();
        }
        let policy = self.inbound(workload).map(|inbound| {
            let at_edge = inbound.inbound().at_edge();
            Arc::new(CompiledAuthorization::compile(Arc::new(at_edge), 1).0)
        });
        self.held.borrow_mut().edges.insert(workload.clone(), policy.clone());
        policy
    }

    /// Which workloads are the gateway of an object of Istio's or the Gateway API's; none where there is no such object.
    pub(crate) fn gateway_selector(&self, namespace: &str, name: &str) -> Option<GatewaySelector> {
        let object =
            |group| self.translator.object(&ObjectKey::new(group, "Gateway", namespace, name));
        if object("gateway.networking.k8s.io").is_some() {
            let labels = [(GATEWAY_NAME_LABEL.into(), name.into())].into();
            return Some(GatewaySelector { namespace: Some(namespace.into()), labels });
        }
        let AnyObject::Gateway(gateway) = object("networking.istio.io")? else { return None };
        let selector = gateway.spec.selector.iter();
        let labels = selector.map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Some(GatewaySelector { namespace: None, labels: labels.collect() })
    }

    /// The gateways that there are, in a sentence.
    pub(crate) fn known_gateways(&self) -> String {
        let keys = self.translator.objects().filter(|key| &*key.kind == "Gateway");
        let mut names: Vec<String> = keys.map(|key| key.name.to_string()).collect();
        names.truncate(NAMES_MAX);
        if names.is_empty() {
            return "there are none".to_owned();
        }
        format!("there are {}", names.join(", "))
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
