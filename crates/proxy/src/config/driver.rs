//! The control thread's work: keeps the stream, holds resources, publishes snapshots, renews the certificate.
//!
//! A lost control plane changes nothing for traffic: what is held stays in effect, and the stream resumes with the
//! versions held, so that nothing is sent twice.

mod held;
mod link;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::{SpiffeId, WorkloadId};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::certificate::CertificateResponse;
use heddle_proto::discovery::{DeltaDiscoveryResponse, Node};
use heddle_rpc::workload_api::{Source, TokenCall};
use heddle_sync::{Client, Effects};
use heddle_telemetry::mesh::MeshMetrics;
use heddle_tls::{CryptoProvider, Identity};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::Connector;
use super::application_tokens::ApplicationTokens;
use super::applications::ApplicationIssuer;
use super::issue::{Issuer, SigningRequest};
use super::svid_source::SvidSource;
use crate::configuration::Publisher;
use crate::rate_limits::ControlPlane;
use held::Held;
use link::{Link, LinkEvent};

/// What is not used for this long is let go.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How often the unused is looked for, while anything is held on demand.
const IDLE_CHECK: Duration = Duration::from_mins(1);
/// Names held on demand at a time; a workload that asks for more (a port scan) gets no answer for them.
const DEMANDS_MAX: usize = 8192;

/// What the driver is made of.
pub(crate) struct Setup {
    /// Whose proxy this is.
    pub workload: WorkloadId,
    /// Takes the certificate.
    pub identity: Arc<Identity>,
    /// Makes the key.
    pub provider: Arc<CryptoProvider>,
    /// Spreads back-off, renewal and first picks over proxies.
    pub seed: u64,
    /// Where certificates are counted; none: nowhere.
    pub metrics: Option<MeshMetrics>,
    /// Where the proxy's clock begins: last uses are counted from it.
    pub started: Instant,
    /// The socket of a Workload API that gives the identity; none: the control plane signs one.
    pub svid_source: Option<PathBuf>,
    /// Where the data plane finds the connection.
    pub control_plane: ControlPlane,
}

/// Whose certificate it is.
#[derive(Clone, Copy)]
enum Whose {
    Application,
    Proxy,
}

/// An answer of the authority on its way back.
type CertificateAnswer = (Whose, u64, Result<CertificateResponse, String>);

/// The control thread's state.
pub(crate) struct Driver {
    link: Link,
    control_plane: ControlPlane,
    client: Client,
    held: Held,
    issuer: Issuer,
    applications: ApplicationIssuer,
    tokens: ApplicationTokens,
    token_calls: mpsc::Receiver<TokenCall>,
    /// Where an identity comes from that the control plane does not sign; none once it runs.
    svid_source: Option<SvidSource>,
    /// Who it is told to take; none: the control plane signs.
    expect: Option<watch::Sender<Option<SpiffeId>>>,
    wanted: mpsc::Receiver<ResourceName>,
    /// On-demand names and when they were last asked for, in milliseconds of the proxy's clock.
    demands: HashMap<ResourceName, u64>,
    started: Instant,
    certificate_due: Instant,
    certificate_answers: (mpsc::Sender<CertificateAnswer>, mpsc::Receiver<CertificateAnswer>),
}

impl Driver {
    /// Nothing is held yet; `wanted` is the other end of [`super::Demands`].
    pub(crate) fn new(
        setup: Setup,
        connector: Connector,
        publisher: Publisher,
        wanted: mpsc::Receiver<ResourceName>,
    ) -> (Self, Source) {
        let (identity, provider) = (setup.identity.clone(), setup.provider.clone());
        let (applications, source, token_calls) =
            ApplicationIssuer::new(identity.clone(), provider.clone(), setup.seed);
        let (svid_source, expect) = setup
            .svid_source
            .map(|socket| {
                let (expect, expected) = watch::channel(None);
                let (metrics, seed) = (setup.metrics.clone(), setup.seed);
                (SvidSource { socket, identity, provider, metrics, expected, seed }, expect)
            })
            .unzip();
        let node = Node {
            id: setup.workload.as_str().to_owned(),
            user_agent_name: "heddle".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Node::default()
        };
        let mut driver = Self {
            link: Link::new(connector, setup.seed),
            control_plane: setup.control_plane,
            client: Client::new(node),
            held: Held::new(publisher, setup.seed),
            applications,
            tokens: ApplicationTokens::default(),
            token_calls,
            svid_source,
            expect,
            issuer: Issuer::new(setup.identity, setup.provider, setup.seed, setup.metrics),
            wanted,
            demands: HashMap::new(),
            started: setup.started,
            certificate_due: Instant::now(),
            certificate_answers: mpsc::channel(4),
        };
        for name in [
            ResourceName::TrustBundle,
            ResourceName::Proxy(setup.workload.clone()),
            ResourceName::Inbound(setup.workload),
        ] {
            driver.want(&name);
        }
        (driver, source)
    }

    /// Runs as long as the process.
    pub(crate) async fn run(mut self) {
        let mut next_idle_check = Instant::now() + IDLE_CHECK;
        if let Some(source) = self.svid_source.take() {
            tokio::spawn(source.run());
        }
        loop {
            self.transmit().await;
            let holds_on_demand = !self.demands.is_empty();
            tokio::select! {
                event = self.link.next() => self.handle_link(event),
                Some(name) = self.wanted.recv() => self.handle_want(&name),
                Some((whose, attempt, answer)) = self.certificate_answers.1.recv() => {
                    self.handle_answer(whose, attempt, answer);
                    self.step_certificate();
                }
                Some(call) = self.token_calls.recv() => {
                    self.tokens.answer(call, self.link.connection());
                }
                () = self.applications.asked() => {
                    self.applications.begin();
                    self.step_certificate();
                }
                () = sleep_until(self.certificate_due) => self.step_certificate(),
                () = sleep_until(next_idle_check), if holds_on_demand => {
                    next_idle_check = Instant::now() + IDLE_CHECK;
                    self.let_go_of_unused();
                }
            }
        }
    }

    async fn transmit(&mut self) {
        while let Some(request) = self.client.poll_transmit() {
            if !self.link.send(request).await {
                self.client.handle_disconnect();
                return;
            }
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Opened => {
                debug!("connected to the control plane");
                self.control_plane.set(self.link.connection());
                self.client.handle_connect();
                self.issuer.confirm_again();
                self.applications.confirm_again();
                self.step_certificate();
            }
            LinkEvent::Lost(reason) => {
                warn!(reason, "no connection to the control plane; going on with what is held");
                self.control_plane.set(None);
                self.client.handle_disconnect();
            }
            LinkEvent::Response(response) => self.handle_response(response),
        }
    }

    fn handle_response(&mut self, response: DeltaDiscoveryResponse) {
        let issuer = &mut self.issuer;
        let check = |name: &ResourceName, resource: &Resource| match (name, resource) {
            // Checked here, so that a bundle that cannot be read is refused to the control plane's face.
            (ResourceName::TrustBundle, Resource::TrustBundle(bundle)) => issuer.set_bundle(bundle),
            _ => Ok(()),
        };
        match self.client.handle_response(response, check) {
            Ok(updates) => {
                let effects = self.held.apply(updates, self.now_ms());
                self.follow(&effects);
                if let Some(identity) = self.held.identity() {
                    self.set_identity(&identity);
                }
                if let Some(bundle) = self.issuer.bundle() {
                    self.applications.set_bundle(bundle);
                }
                self.step_certificate();
            }
            Err(reason) => warn!(reason, "a response of the control plane was refused"),
        }
    }

    fn handle_want(&mut self, name: &ResourceName) {
        let now = self.now_ms();
        match note_demand(&mut self.demands, name, now) {
            Noted::Again => {}
            Noted::New => self.want(name),
            Noted::TooMany => {
                warn!(%name, max = DEMANDS_MAX, "too many destinations in use; not asked for");
            }
        }
    }

    fn want(&mut self, name: &ResourceName) {
        let effects = self.held.want(name, self.now_ms());
        self.follow(&effects);
    }

    /// Subscriptions that follow from what is held.
    fn follow(&mut self, effects: &Effects) {
        for name in &effects.unwant {
            self.client.unwant(name);
        }
        for name in &effects.want {
            self.client.want(name);
        }
    }

    fn let_go_of_unused(&mut self) {
        let now = self.now_ms();
        let limit = now.saturating_sub(milliseconds(IDLE_MAX));
        let unused: Vec<_> = self
            .demands
            .iter()
            .filter(|(name, asked)| self.held.used_at_ms(name).max(**asked) < limit)
            .map(|(name, _)| name.clone())
            .collect();
        for name in unused {
            debug!(%name, "let go: not used any more");
            self.demands.remove(&name);
            let effects = self.held.unwant(&name, now);
            self.follow(&effects);
        }
    }

    fn set_identity(&mut self, identity: &SpiffeId) {
        match &self.expect {
            None => self.issuer.set_identity(identity),
            Some(expect) => {
                expect.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(identity);
                    *known = Some(identity.clone());
                    changed
                });
            }
        }
        self.applications.set_identity(identity);
    }

    fn handle_answer(
        &mut self,
        whose: Whose,
        attempt: u64,
        answer: Result<CertificateResponse, String>,
    ) {
        match whose {
            Whose::Application => self.applications.handle_answer(attempt, answer),
            Whose::Proxy => self.issuer.handle_answer(attempt, answer),
        }
    }

    fn step_certificate(&mut self) {
        let wait = self.step_of(Whose::Proxy).min(self.step_of(Whose::Application));
        self.certificate_due = Instant::now() + wait;
    }

    /// Does what is due, and says how long until something is due next.
    fn step_of(&mut self, whose: Whose) -> Duration {
        let (request, wait) = self.poll_certificate(whose);
        self.confirm(whose);
        let Some(SigningRequest { attempt, message }) = request else { return wait };
        if let Some(connection) = self.link.connection() {
            let answers = self.certificate_answers.0.clone();
            // Owned by the connection: when that is lost, the call fails and the answer is an error.
            tokio::spawn(async move {
                let answer = connection.create_certificate(message).await;
                let answer = answer.map_err(|status| status.message().to_owned());
                let _ = answers.send((whose, attempt, answer)).await;
            });
        } else {
            let reason = "no connection to the control plane".to_owned();
            self.handle_answer(whose, attempt, Err(reason));
        }
        self.poll_certificate(whose).1
    }

    fn poll_certificate(&mut self, whose: Whose) -> (Option<SigningRequest>, Duration) {
        match whose {
            Whose::Application => self.applications.poll(),
            Whose::Proxy => self.issuer.poll(),
        }
    }

    /// Tells the authority which certificate is in use.
    fn confirm(&mut self, whose: Whose) {
        let Some(connection) = self.link.connection() else { return };
        let confirmation = match whose {
            Whose::Application => self.applications.take_confirmation(),
            Whose::Proxy => self.issuer.take_confirmation(),
        };
        if let Some(confirmation) = confirmation {
            // Lost with the connection, and then said again on the next one.
            tokio::spawn(async move { connection.installed(confirmation).await });
        }
    }

    fn now_ms(&self) -> u64 {
        milliseconds(self.started.elapsed())
    }
}

/// What is new about a name that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Noted {
    Again,
    New,
    TooMany,
}

fn note_demand(
    demands: &mut HashMap<ResourceName, u64>,
    name: &ResourceName,
    now_ms: u64,
) -> Noted {
    if let Some(asked) = demands.get_mut(name) {
        *asked = now_ms;
        return Noted::Again;
    }
    if demands.len() >= DEMANDS_MAX {
        return Noted::TooMany;
    }
    demands.insert(name.clone(), now_ms);
    Noted::New
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use heddle_ident::NetworkName;

    use super::*;

    #[test]
    fn so_many_names_are_held_on_demand() {
        let name = |number: u32| {
            let address = IpAddr::from(Ipv4Addr::from(number));
            ResourceName::Workload(NetworkName::new(""), address)
        };
        let mut demands = HashMap::new();
        let max = u32::try_from(DEMANDS_MAX).unwrap();
        for number in 0..max {
            assert_eq!(note_demand(&mut demands, &name(number), 1), Noted::New);
        }
        assert_eq!(note_demand(&mut demands, &name(max), 2), Noted::TooMany);
        assert_eq!(note_demand(&mut demands, &name(0), 2), Noted::Again);
        assert_eq!(demands.len(), DEMANDS_MAX);
    }
}
