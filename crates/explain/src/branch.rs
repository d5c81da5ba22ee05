//! One destination that a request may go to: its endpoints, how they are connected to, and what each of them does.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_authz::Transport;
use heddle_diag::Origin;
use heddle_ir::destination::{ClientTls, Destination};
use heddle_ir::workload::{MeshTransport, Workload};

use crate::answer::{DestinationView, Handled, HeaderChanges, ServerView, TransportView, Verdict};
use crate::caller::Caller;
use crate::choice::{Choice, Chosen};
use crate::head::{Head, Speaks};
use crate::server::{Link, Server};
use crate::target::{SOMEWHERE, Target, service_label};
use crate::world::World;

/// What is followed.
pub(crate) struct Call<'a> {
    pub(crate) world: &'a World,
    pub(crate) caller: &'a Caller,
    pub(crate) target: &'a Target,
    pub(crate) speaks: Speaks,
    /// As what the client's proxy handles it.
    pub(crate) handled: Handled,
    pub(crate) head: &'a Head,
}

/// What may become of a request, with its share.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outcome {
    /// Of all requests that got here.
    pub(crate) share: f64,
    pub(crate) verdict: Verdict,
    pub(crate) status: Option<u16>,
    pub(crate) reason: String,
    pub(crate) origin: Option<Origin>,
}

/// A backend, or a destination that needs no route.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Branch {
    pub(crate) weight: u32,
    /// None where the backend is not valid.
    pub(crate) destination: Option<DestinationView>,
    /// Shares add up to 1.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) depends_on: Vec<String>,
    /// How the endpoints were found, for the phase `pick`.
    pub(crate) picked: String,
}

impl Branch {
    /// A backend that answers for itself.
    pub(crate) fn refused(
        weight: u32,
        status: Option<u16>,
        reason: String,
        origin: &Origin,
    ) -> Self {
        let outcome = Outcome {
            share: 1.0,
            verdict: Verdict::Unreachable,
            status,
            reason: reason.clone(),
            origin: Some(origin.clone()),
        };
        Self {
            weight,
            destination: None,
            outcomes: vec![outcome],
            depends_on: Vec::new(),
            picked: reason,
        }
    }
}

/// What a destination gets.
pub(crate) struct Sent {
    pub(crate) weight: u32,
    /// With everything that the route changes.
    pub(crate) head: Head,
    pub(crate) response_headers: HeaderChanges,
}

impl Call<'_> {
    /// Follows a request to a destination of the client's proxy.
    pub(crate) fn reach(&self, destination: &Arc<Destination>, sent: Sent) -> Branch {
        let choice = self.world.choice(destination, self.caller.workload.as_ref());
        let (chosen, picked) = match &*choice {
            Choice::Original => {
                let address = self.target.destination;
                let known = self.world.at(&self.caller.network, address.ip());
                let label = known.as_ref().map_or_else(
                    || address.to_string(),
                    |known| format!("{}/{}", known.namespace, known.workload_name),
                );
                let workload = known.map(|known| known.id.clone());
                // The proxy knows nothing of an original destination.
                let chosen = Chosen { workload, address, label, share: 1.0, transport: None };
                (vec![chosen], format!("the address that was asked for, {address}"))
            }
            Choice::RequestedName(port) => {
                let label = format!("{}:{port}", sent.head.host());
                let address = SocketAddr::new(SOMEWHERE, *port);
                let chosen = Chosen { workload: None, address, label, share: 1.0, transport: None };
                (vec![chosen], "the name that was asked for".to_owned())
            }
            Choice::Endpoints(chosen, picked) => (chosen.clone(), picked.clone()),
        };
        let mut servers = Vec::new();
        for chosen in &chosen {
            let secured = match self.handled {
                Handled::Udp => Secured::Not,
                _ => Secured::of(&destination.tls, chosen.transport, sent.head.host()),
            };
            let host = destination.id.host.as_str().to_owned();
            // What the client connected to itself was found as it says, not as the destination is called.
            let host = Some(host).filter(|_| !matches!(*choice, Choice::Original));
            let host = destination.id.network_name().or(host);
            servers.push(self.judged_server(&secured, chosen, &sent.head, host));
        }
        let view = DestinationView {
            service: service_of(destination),
            port: destination.id.port,
            subset: (!destination.id.subset.is_empty()).then(|| destination.id.subset.to_string()),
            weight: sent.weight,
            workloads: servers.iter().map(|server| server.workload.clone()).collect(),
            request: sent.head.view(self.handled),
            response_headers: sent.response_headers,
            servers,
            origin: destination.origin.clone(),
        };
        branch(sent.weight, view, picked, self.handled)
    }

    /// Follows a request to a workload at the address that was asked for, without a route. A proxy at the client's side
    /// speaks mutual TLS to it if it takes that.
    pub(crate) fn reach_workload(&self, workload: &Workload, sent: Sent) -> Branch {
        let address = self.target.destination;
        let label = format!("{}/{}", workload.namespace, workload.workload_name);
        let mesh =
            self.caller.has_proxy && ClientTls::Auto.is_mesh(Some(workload.taken_transport()));
        let secured = if mesh { Secured::Mesh } else { Secured::Not };
        let chosen = Chosen {
            workload: Some(workload.id.clone()),
            address,
            label,
            share: 1.0,
            transport: Some(workload.taken_transport()),
        };
        let server = self.judged_server(&secured, &chosen, &sent.head, None);
        let view = DestinationView {
            service: chosen.label.clone(),
            port: address.port(),
            subset: None,
            weight: sent.weight,
            workloads: vec![chosen.label],
            request: sent.head.view(self.handled),
            response_headers: sent.response_headers,
            servers: vec![server],
            origin: Origin::built_in("a workload at its own address"),
        };
        branch(sent.weight, view, format!("the workload at {address}"), self.handled)
    }

    /// What the server behind one endpoint does, if policies on the client's side let the request go there.
    fn judged_server(
        &self,
        secured: &Secured,
        chosen: &Chosen,
        head: &Head,
        host: Option<String>,
    ) -> ServerView {
        let (transport, server_name) = self.secured(secured, head);
        // The client's own, not one that the proxy makes.
        let server_name = server_name.filter(|_| matches!(secured, Secured::Not));
        let Some(egress) = self.egress(chosen.address, transport, server_name, host) else {
            return self.server(secured, chosen, head);
        };
        let mut view = match egress.result {
            Ok(_) => self.server(secured, chosen, head),
            Err(refusal) => {
                let (reason, origin) = *refusal;
                let view = self.unreached(secured, chosen, head);
                let status = self.handled.is_http().then_some(403);
                let (verdict, origin) = (Verdict::Deny, Some(origin));
                ServerView { verdict, status, reason, origin, ..view }
            }
        };
        view.considered.splice(0..0, egress.considered);
        view
    }

    /// A server that nothing gets to.
    fn unreached(&self, secured: &Secured, chosen: &Chosen, head: &Head) -> ServerView {
        let link = self.link(secured, chosen, head);
        Server { world: self.world, link: &link, head }.reached(&chosen.label, chosen.share)
    }

    /// How the server sees the connection: its transport, and the server name of TLS that is not the mesh's.
    fn secured(&self, secured: &Secured, head: &Head) -> (Transport, Option<String>) {
        match secured {
            Secured::Mesh => (Transport::MutualTls, None),
            Secured::Originated(name) => (Transport::OpaqueTls, Some(name.clone())),
            Secured::Not if self.speaks == Speaks::Tls => {
                (Transport::OpaqueTls, Some(head.host().to_owned()))
            }
            Secured::Not => (Transport::Plaintext, None),
        }
    }

    fn link(&self, secured: &Secured, chosen: &Chosen, head: &Head) -> Link {
        let (transport, server_name) = self.secured(secured, head);
        let originated = matches!(secured, Secured::Originated(_));
        Link {
            transport,
            identity: self.caller.identity.clone().filter(|_| transport == Transport::MutualTls),
            server_name,
            source: self.caller.address,
            destination: chosen.address,
            declared_by_peer: Some(self.handled),
            speaks: if originated { Speaks::Tls } else { self.speaks },
            has_client_proxy: self.caller.has_proxy,
        }
    }

    /// What the server behind one endpoint does.
    pub(crate) fn server(&self, secured: &Secured, chosen: &Chosen, head: &Head) -> ServerView {
        let link = self.link(secured, chosen, head);
        let server = Server { world: self.world, link: &link, head };
        if self.handled == Handled::Udp {
            let mut view = server.reached(&chosen.label, chosen.share);
            view.reason = format!("{} gets the datagrams: no proxy takes them there", chosen.label);
            return view;
        }
        if let Some(workload) = &chosen.workload {
            return server.serve(workload, &chosen.label, chosen.share);
        }
        let mut view = server.reached(&chosen.label, chosen.share);
        view.reason = format!("{} is outside of the mesh", chosen.label);
        view
    }
}

/// How a connection to an endpoint is secured by the client's proxy.
pub(crate) enum Secured {
    /// With the mesh's identities.
    Mesh,
    /// With TLS of the proxy's making, for this server name.
    Originated(String),
    /// Not by the proxy.
    Not,
}

impl Secured {
    fn of(tls: &ClientTls, endpoint: Option<MeshTransport>, host: &str) -> Self {
        match tls {
            ClientTls::Originate(settings) if settings.server_name.is_empty() => {
                Self::Originated(host.to_owned())
            }
            ClientTls::Originate(settings) => Self::Originated(settings.server_name.to_string()),
            tls if tls.is_mesh(endpoint) => Self::Mesh,
            _ => Self::Not,
        }
    }
}

/// A branch to a destination whose servers have been asked.
pub(crate) fn branch(
    weight: u32,
    view: DestinationView,
    picked: String,
    handled: Handled,
) -> Branch {
    let outcomes = if view.servers.is_empty() {
        vec![Outcome {
            share: 1.0,
            verdict: Verdict::Unreachable,
            status: handled.is_http().then_some(503),
            reason: format!("{} has no healthy endpoint: {picked}", name(&view)),
            origin: Some(view.origin.clone()),
        }]
    } else {
        let outcome = |server: &ServerView| Outcome {
            share: server.share,
            verdict: server.verdict,
            status: server.status,
            reason: server.reason.clone(),
            origin: server.origin.clone(),
        };
        view.servers.iter().map(outcome).collect()
    };
    let depends_on = view.servers.iter().flat_map(|server| server.depends_on.clone()).collect();
    Branch { weight, destination: Some(view), outcomes, depends_on, picked }
}

/// A destination as `namespace/name`; its host outside of the mesh.
pub(crate) fn service_of(destination: &Destination) -> String {
    let Destination { service_namespace, service_name, id, .. } = destination;
    service_label(service_namespace, service_name, id.host.as_str())
}

/// `service:port subset`.
pub(crate) fn name(view: &DestinationView) -> String {
    let mut name = format!("{}:{}", view.service, view.port);
    if let Some(subset) = &view.subset {
        name.push_str(" subset ");
        name.push_str(subset);
    }
    name
}

/// How the endpoints are reached, if all are alike.
pub(crate) fn transport(branches: &[Branch]) -> TransportView {
    let servers = branches.iter().filter_map(|branch| branch.destination.as_ref());
    let mut transports = servers.flat_map(|view| &view.servers).map(|server| server.transport);
    // Where they differ, the weakest is what must not be forgotten.
    transports
        .by_ref()
        .max_by_key(|transport| match transport {
            TransportView::None => 0,
            TransportView::MutualTls => 1,
            TransportView::Tls => 2,
            TransportView::Plaintext => 3,
        })
        .unwrap_or(TransportView::None)
}
