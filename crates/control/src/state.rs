//! Everything the control plane knows, behind one lock, and the changes of it.
//!
//! A change is carried out in one piece: translate, store, publish. Streams, watches and waits are woken and look at
//! the state again; nobody is told what to do.

pub(crate) mod apply;
pub(crate) mod describe;
mod expiry;
mod join;
pub(crate) mod machines;
pub(crate) mod rollback;
pub(crate) mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_cert::{HolderId, JoinTokens, RootId, Serial};
use heddle_ident::{SpiffeId, WorkloadId};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::certificate::CertificateResponse;
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_proto::node::{DesiredState, NodeReport};
use heddle_store::Store;
use heddle_sync::ProtocolError;
use heddle_tls::CryptoProvider;
use heddle_translate::ObjectKey;
use tokio::sync::{Notify, watch};

use crate::authority::tokens::TokenKeys;
use crate::authority::{CertificateAuthority, CertificateAuthorityError, Lifetimes};
use crate::catalog::Catalog;
use crate::data_key;
use crate::facts::{self, Facts};
use crate::limits::Limits;
use crate::machines::own::OwnIdentity;
use crate::objects::Objects;
use crate::plan::{self, Consequences, Plan, Stage};
use crate::sessions::{Session, SessionId, Sessions};
use crate::timestamp::millis;
use crate::{ControlError, Options, desired};

pub use apply::{Action, Applied, ObjectResult};

/// Everything.
pub(crate) struct State {
    store: Store,
    objects: Objects,
    revision: u64,
    plan: Plan,
    /// As the store has them.
    stored_jobs: plan::jobs::Jobs,
    /// What validation has tried and nobody was told of yet.
    pending: Consequences,
    facts: Facts,
    catalog: Catalog,
    sessions: Sessions,
    authority: CertificateAuthority,
    provider: Arc<CryptoProvider>,
    lifetimes: Lifetimes,
    plugging: trust::Plugging,
    joins: JoinTokens,
    token_keys: Option<TokenKeys>,
    machines: machines::Machines,
    /// The last warning about the life of each root.
    warned: BTreeMap<String, u64>,
    desired: watch::Sender<Arc<DesiredState>>,
    limits: Arc<Limits>,
    progress: watch::Sender<u64>,
}

impl State {
    /// Reads everything from the store.
    pub(crate) fn open(
        options: &Options,
        provider: &Arc<CryptoProvider>,
        now: SystemTime,
    ) -> Result<Self, ControlError> {
        let store = Store::open(&options.store, Some(data_key::open(&options.store)?))?;
        let contents = store.contents()?;
        let (objects, missing) = Objects::load(&contents);
        for key in missing {
            tracing::error!(%key, "a stored object cannot be read any more; apply it again");
        }
        let allocation = match store.document(plan::stored::DOCUMENT)? {
            Some(document) => plan::stored::parse(&document).map_err(ControlError::Document)?,
            None => heddle_translate::workloads::Allocation::default(),
        };
        let facts = match store.document(facts::DOCUMENT)? {
            Some(document) => serde_json::from_slice(&document).map_err(ControlError::Document)?,
            None => Facts::default(),
        };
        let jobs = match store.document(plan::jobs::DOCUMENT)? {
            Some(document) => serde_json::from_slice(&document).map_err(ControlError::Document)?,
            None => plan::jobs::Jobs::default(),
        };
        let domain = &options.translation.trust_domain;
        let (plugging, plugged) = trust::Plugging::open(options, provider, now)?;
        let authority = CertificateAuthority::open(
            &store,
            provider.clone(),
            domain,
            options.lifetimes,
            plugged,
            now,
        )?;
        let joins = join::load(&store)?;
        let own = options.machines.as_ref().map(|_| OwnIdentity::new(provider.clone()));
        let port = options.machines.as_ref().and_then(|port| port.local_addr().ok());
        let machines = machines::load(&store, own, port, now)?;
        let mut state = Self {
            store,
            objects,
            revision: contents.revision,
            plan: Plan::new(options.translation.clone(), allocation, jobs.clone()),
            stored_jobs: jobs,
            pending: Consequences::default(),
            facts,
            catalog: Catalog::default(),
            sessions: Sessions::default(),
            authority,
            provider: provider.clone(),
            lifetimes: options.lifetimes,
            plugging,
            joins,
            token_keys: None,
            machines,
            warned: BTreeMap::new(),
            desired: watch::Sender::new(Arc::default()),
            limits: Arc::default(),
            progress: watch::Sender::new(0),
        };
        state.catalog.set_bundle(state.authority.bundle()?);
        let consequences = state.plan.set_objects(state.all_objects(), &state.facts, millis(now));
        state.store_allocation()?;
        state.follow_trust_domain(now)?;
        state.follow_trust(now);
        state.publish(&consequences);
        state.publish_desired();
        state.follow_machines(now);
        Ok(state)
    }

    /// What users have applied, and what stands for machines.
    fn all_objects(&self) -> Vec<heddle_api::Resource> {
        let mut objects = self.objects.all();
        let (pods, replaced) = self.machine_pods();
        if !pods.is_empty() {
            objects.retain(|object| !replaced.contains(&ObjectKey::of(object)));
            objects.extend(pods);
        }
        objects
    }

    /// Changes whenever something changes that somebody may wait for.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// What counts requests for all proxies.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.clone()
    }

    /// What shall run, now and after every change.
    pub(crate) fn desired(&self) -> watch::Receiver<Arc<DesiredState>> {
        self.desired.subscribe()
    }

    /// Opens the stream of a workload's proxy; none: there is no such workload.
    pub(crate) fn open_session(
        &mut self,
        workload: &WorkloadId,
        now: SystemTime,
    ) -> Option<(SessionId, Arc<Notify>)> {
        let scope = self.plan.translator().scope_of(workload)?;
        let opened = self.sessions.open(workload.clone(), Some(scope), now);
        self.touch();
        Some(opened)
    }

    /// The stream is gone.
    pub(crate) fn close_session(&mut self, id: SessionId) {
        for name in self.sessions.close(id) {
            self.forget(&name);
        }
        self.touch();
    }

    /// Takes a request of a stream in.
    pub(crate) fn handle_request(
        &mut self,
        id: SessionId,
        request: &DeltaDiscoveryRequest,
        now: SystemTime,
    ) -> Result<(), ProtocolError> {
        let (handled, unused) = self.sessions.handle_request(id, request)?;
        for name in unused {
            self.forget(&name);
        }
        for rejection in &handled.rejected {
            let workload = self.sessions.get(id).map(|session| session.workload.to_string());
            let (name, reason) = (&rejection.name, &rejection.reason);
            tracing::error!(%name, reason, workload, "a proxy refuses a resource");
        }
        self.note_bundle(id, now);
        if handled.acknowledged || !handled.rejected.is_empty() {
            self.advance(now);
            self.touch();
        }
        Ok(())
    }

    /// The next response of a stream; an error: it must end, with this reason.
    pub(crate) fn poll_transmit(
        &mut self,
        id: SessionId,
    ) -> Result<Option<DeltaDiscoveryResponse>, &'static str> {
        if let Some(reason) = self.sessions.get(id).and_then(Session::ended) {
            return Err(reason);
        }
        let translator = self.plan.translator();
        let mut response = self.sessions.poll_transmit(id, &mut self.catalog, translator);
        if let Some(response) = &mut response {
            response.system_version_info = self.revision.to_string();
        }
        Ok(response)
    }

    /// Signs a request of a workload's proxy, for that workload's identity and no other; none: there is no such
    /// workload.
    pub(crate) fn sign(
        &mut self,
        workload: &WorkloadId,
        for_application: bool,
        request: &[u8],
        now: SystemTime,
    ) -> Result<Option<CertificateResponse>, CertificateAuthorityError> {
        let Some((identity, uid)) = self.identity_of(workload) else { return Ok(None) };
        let [proxy, application] = holders(workload, &uid);
        let holder = if for_application { application } else { proxy };
        self.authority.sign(&self.store, now, &holder, &identity, request).map(Some)
    }

    /// A workload's proxy proves itself with this certificate from now on.
    pub(crate) fn handle_installed(
        &mut self,
        workload: &WorkloadId,
        serial: Serial,
        now: SystemTime,
    ) {
        let Some((identity, uid)) = self.identity_of(workload) else { return };
        // Only the one that has a leaf of that number takes note of it.
        for holder in holders(workload, &uid) {
            let noted = self.authority.handle_installed(&self.store, &holder, &identity, serial);
            if let Err(error) = noted {
                // After a restart a rotation would wait longer than it needs to.
                tracing::error!(%error, "what a proxy has confirmed cannot be stored");
            }
        }
        if self.authority.is_rotating(now) {
            self.advance_authority(now);
        }
        self.touch();
    }

    /// Removes a root that nobody needs any more.
    pub(crate) fn retire(
        &mut self,
        root: &str,
        now: SystemTime,
    ) -> Result<(), CertificateAuthorityError> {
        self.authority.retire(&self.store, now, &RootId::new(root))?;
        self.publish_bundle();
        Ok(())
    }

    /// Goes on with a rotation.
    fn advance_authority(&mut self, now: SystemTime) {
        match self.authority.advance(&self.store, now) {
            Ok(true) => self.publish_bundle(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the rotation of the root cannot go on"),
        }
    }

    /// Begins to replace the root.
    pub(crate) fn rotate(&mut self, now: SystemTime) -> Result<String, CertificateAuthorityError> {
        let root = self.authority.rotate(&self.store, now)?;
        self.publish_bundle();
        Ok(root.as_str().to_owned())
    }

    /// A supervisor opened its watch.
    pub(crate) fn set_instance(&mut self, instance: &str, now: SystemTime) {
        if self.facts.set_instance(instance) {
            self.facts_changed(now);
        }
    }

    /// A supervisor told what became of its workloads.
    pub(crate) fn handle_report(&mut self, report: &NodeReport, now: SystemTime) {
        if self.facts.apply(report) {
            self.facts_changed(now);
        }
    }

    /// Time has passed: drains and rotations go on. Returns when to call again, in milliseconds of the wall clock.
    pub(crate) fn tick(&mut self, now: SystemTime) -> Option<u64> {
        self.advance(now);
        self.follow_trust(now);
        self.advance_authority(now);
        self.warn_of_expiry(now);
        let rotation = self.authority.is_rotating(now).then(|| millis(now) + 500);
        self.remove_expired_jobs(now);
        let folder = self.plugging.look_again_ms(now);
        let machines = self.follow_machines(now);
        let others = rotation.into_iter().chain(folder).chain(machines);
        self.plan.next_ms(millis(now)).into_iter().chain(others).min()
    }

    /// Removes jobs that said how long they are kept.
    fn remove_expired_jobs(&mut self, now: SystemTime) {
        let expired = self.plan.expired_jobs(millis(now));
        if expired.is_empty() {
            return;
        }
        if let Err(error) = self.delete(expired, "time (ttlSecondsAfterFinished)", false, now) {
            tracing::error!(%error, "a job that is over cannot be removed");
        }
    }

    /// Keeps what became of jobs.
    fn store_jobs(&mut self) {
        if self.stored_jobs == *self.plan.jobs() {
            return;
        }
        // Texts, numbers and maps have no way to fail.
        let document = serde_json::to_vec(self.plan.jobs()).unwrap_or_default();
        match self.store.put_document(plan::jobs::DOCUMENT, &document) {
            Ok(()) => self.stored_jobs = self.plan.jobs().clone(),
            // Only a restart would notice.
            Err(error) => tracing::error!(%error, "runs of jobs cannot be stored"),
        }
    }

    fn facts_changed(&mut self, now: SystemTime) {
        // Texts, numbers and maps have no way to fail.
        let document = serde_json::to_vec(&self.facts).unwrap_or_default();
        if let Err(error) = self.store.put_document(facts::DOCUMENT, &document) {
            // Only a restart would notice, and only for as long as the next report takes.
            tracing::error!(%error, "readiness of workloads cannot be stored");
        }
        let consequences = self.plan.advance(&self.facts, millis(now), false);
        self.publish(&consequences);
    }

    fn advance(&mut self, now: SystemTime) {
        let settled = self.sessions.iter().all(Session::is_settled);
        let consequences = self.plan.advance(&self.facts, millis(now), settled);
        self.publish(&consequences);
    }

    /// Makes a change known to everyone concerned.
    fn publish(&mut self, consequences: &Consequences) {
        self.store_jobs();
        for (workload, uid) in &consequences.gone {
            for holder in holders(workload, uid) {
                self.authority.forget_holder(&holder);
            }
            let lives = self.plan.pods().any(|entry| entry.workload == *workload);
            if !lives {
                self.sessions.end(workload, "the workload is gone");
            }
        }
        for name in &consequences.resources {
            self.catalog.invalidate(name);
        }
        let translator = self.plan.translator();
        self.sessions
            .handle_changes(&consequences.resources, |workload| translator.scope_of(workload));
        self.limits.set(translator.counted_domains());
        if consequences.is_empty() {
            return;
        }
        self.publish_desired();
        self.touch();
    }

    /// The mesh configuration may name another trust domain: then another authority signs.
    fn follow_trust_domain(&mut self, now: SystemTime) -> Result<(), CertificateAuthorityError> {
        let workloads = self.plan.translator().workloads();
        let Some(workload) = workloads.first() else { return Ok(()) };
        let domain = workload.identity.trust_domain();
        if domain == self.authority.domain() {
            return Ok(());
        }
        tracing::info!(%domain, former = %self.authority.domain(), "the trust domain is another one");
        let provider = self.provider.clone();
        let mut authority =
            CertificateAuthority::open(&self.store, provider, domain, self.lifetimes, None, now)?;
        self.plugging.forget();
        authority.succeed(&self.store, &self.authority)?;
        self.authority = authority;
        self.publish_bundle();
        Ok(())
    }

    fn publish_bundle(&mut self) {
        match self.authority.bundle() {
            Ok(bundle) => {
                if self.catalog.set_bundle(bundle) {
                    let resources = [ResourceName::TrustBundle].into();
                    self.publish(&Consequences { resources, ..Consequences::default() });
                }
            }
            Err(error) => tracing::error!(%error, "the trust bundle cannot be made"),
        }
    }

    fn publish_desired(&self) {
        let (desired, machines) = self.make_desired();
        self.publish_machines(machines);
        self.desired.send_if_modified(|current| {
            let changed = current.version != desired.version;
            if changed {
                *current = Arc::new(desired);
            }
            changed
        });
    }

    /// What shall run here, and on machines.
    fn make_desired(&self) -> (DesiredState, BTreeMap<WorkloadId, DesiredState>) {
        let translator = self.plan.translator();
        let wanted = self
            .plan
            .pods()
            .filter(|entry| matches!(entry.stage, Stage::Draining { .. } | Stage::Wanted));
        let services = desired::published_services(translator);
        let mut machines = BTreeMap::new();
        let workloads: Vec<_> = wanted
            .filter_map(|entry| {
                let folder = self.folder_of(entry);
                let workload = desired::workload(entry, translator, &folder, &services)?;
                if self.is_machine(&entry.workload) {
                    machines.insert(entry.workload.clone(), workload);
                    return None;
                }
                Some(workload)
            })
            .collect();
        let has_plain = workloads.iter().any(|workload| !workload.meshed);
        let services_for_plain = desired::plain::services(translator, has_plain);
        let ranges = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let state = DesiredState {
            version: String::new(),
            workloads,
            trust_domain: self.authority.domain().to_string(),
            workload_ranges: ranges(&[
                heddle_translate::workloads::POD_RANGE_V4,
                heddle_translate::workloads::POD_RANGE_V6,
            ]),
            service_ranges: ranges(&[
                heddle_translate::workloads::SERVICE_RANGE_V4,
                heddle_translate::workloads::SERVICE_RANGE_V6,
                heddle_translate::workloads::ENTRY_RANGE_V4,
            ]),
            names: services_for_plain.names,
            virtual_addresses: services_for_plain.addresses,
        };
        let of_machine = |(id, workload)| {
            let ranges = state.workload_ranges.clone();
            let own = desired::machine::state(workload, translator, &state.trust_domain, ranges);
            (id, own)
        };
        let machines = machines.into_iter().map(of_machine).collect();
        (state.with_version(), machines)
    }

    /// The folder of the file that a pod, or its workload, was read from.
    fn folder_of(&self, entry: &plan::PodEntry) -> String {
        let key = entry.owner.clone().unwrap_or_else(|| ObjectKey::of(&entry.pod));
        self.objects.of(&key).map(|stored| stored.source.folder.clone()).unwrap_or_default()
    }

    /// Whom a workload's certificate names, and which run of it.
    fn identity_of(&self, workload: &WorkloadId) -> Option<(SpiffeId, String)> {
        let entry = self.plan.pods().find(|entry| entry.workload == *workload)?;
        let name = ResourceName::Proxy(workload.clone());
        let Some(Resource::Proxy(settings)) = self.plan.translator().resource(&name) else {
            return None;
        };
        Some((settings.workload.identity.clone(), entry.uid.clone()))
    }

    /// Notes which roots a proxy verifies with.
    fn note_bundle(&mut self, id: SessionId, now: SystemTime) {
        let Some(bundle) = self.catalog.bundle().cloned() else { return };
        let current = self.catalog.encoded(self.plan.translator(), &ResourceName::TrustBundle);
        let Some(session) = self.sessions.get(id) else { return };
        let accepted = session.accepted_version(&ResourceName::TrustBundle);
        if accepted.is_none() || accepted != current.as_ref().map(|c| c.version.as_str()) {
            return;
        }
        let workload = session.workload.clone();
        if let Some(entry) = self.plan.pods().find(|entry| entry.workload == workload) {
            let [proxy, application] = holders(&workload, &entry.uid);
            self.authority.handle_acknowledged(now, &proxy, bundle.generation);
            // Whom its proxy tells in the same moment; one that never asked for an identity is not waited for.
            if self.authority.holds(&application) {
                self.authority.handle_acknowledged(now, &application, bundle.generation);
            }
        }
    }

    fn forget(&mut self, name: &ResourceName) {
        self.plan.forget(name);
        self.catalog.invalidate(name);
    }

    fn store_allocation(&self) -> Result<(), heddle_store::StoreError> {
        let document = plan::stored::format(self.plan.allocation());
        if self.store.document(plan::stored::DOCUMENT)?.as_deref() == Some(&*document) {
            return Ok(());
        }
        self.store.put_document(plan::stored::DOCUMENT, &document)
    }

    fn touch(&self) {
        self.progress.send_modify(|count| *count += 1);
    }
}

/// Who holds keys in one run of one workload: its proxy, and its application where that asked for an identity.
fn holders(workload: &WorkloadId, uid: &str) -> [HolderId; 2] {
    [
        HolderId::new(format!("{workload}@{uid}")),
        HolderId::new(format!("{workload}@{uid}#application")),
    ]
}
