//! Machines that have joined: who they are, what they run for the mesh, and whether they are there.
//!
//! A machine is an instance of a WorkloadGroup, or a WorkloadEntry, of the namespace and service account that its token was
//! made for. To everything else it is a pod on another node: labels, ports and probe come from the object, never from the
//! machine. Its record is stored, so that a restart of the control plane takes nobody out of the mesh.

mod pod;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::HolderId;
use heddle_ident::{SpiffeId, WorkloadId};
use heddle_proto::certificate::{CertificateResponse, JoinResponse, Machine, RefreshRequest};
use heddle_proto::node::{DesiredState, NodeReport};
use heddle_store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::State;
use super::join::TokenError;
use crate::ControlError;
use crate::machines::own::OwnIdentity;
use crate::plan::Stage;
use crate::timestamp::millis;

/// The document with the records.
const DOCUMENT: &str = "machines";
/// Machines at a time.
const MACHINES_MAX: usize = 4096;
/// A machine that is away for longer gets no requests any more (Istio's default for entries of machines).
const GRACE_MS: u64 = 10_000;

/// A machine as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    namespace: String,
    account: String,
    /// The WorkloadGroup; empty: it is a WorkloadEntry of its own name.
    group: String,
    name: String,
    address: String,
    /// When its last certificate expires: until then it can come back without a token.
    expires_ms: u64,
}

/// What is wrong with what a machine says it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// No address, or not one.
    #[error("{0:?} is not an address at which the mesh can reach the machine")]
    Address(String),
    /// The identity is no service account's.
    #[error("{0} is not the identity of a service account")]
    Identity(SpiffeId),
    /// The object is for another service account.
    #[error("the {object} is for the service account {wanted}, and the machine is {presented}")]
    OtherAccount {
        /// Kind and name.
        object: String,
        /// Whose it is.
        wanted: String,
        /// Who asks.
        presented: SpiffeId,
    },
    /// Two machines of one name.
    #[error("{0} belongs to a machine of another service account")]
    Taken(WorkloadId),
    /// Too many.
    #[error("{MACHINES_MAX} machines have joined, which is the limit")]
    TooMany,
    /// No such object.
    #[error("there is no {kind} {namespace}/{name}; apply one first")]
    Unknown {
        /// Of this kind.
        kind: &'static str,
        /// In this namespace.
        namespace: String,
        /// Of this name.
        name: String,
    },
    /// Neither group nor entry, or both.
    #[error("a machine names one WorkloadGroup or one WorkloadEntry")]
    Unnamed,
}

/// Every machine.
#[derive(Default)]
pub(crate) struct Machines {
    records: BTreeMap<WorkloadId, Record>,
    /// Open watches of machines that are there, by their number.
    present: BTreeMap<WorkloadId, u64>,
    last_watch: u64,
    /// Since when a machine is away, in milliseconds of the wall clock.
    away_since_ms: BTreeMap<WorkloadId, u64>,
    desired: watch::Sender<Arc<BTreeMap<WorkloadId, DesiredState>>>,
    /// The control plane's own identity at the machines' port; none: it has no such port.
    own: Option<OwnIdentity>,
    /// Where that is.
    port: Option<SocketAddr>,
}

/// Reads records back.
pub(super) fn load(
    store: &Store,
    own: Option<OwnIdentity>,
    port: Option<SocketAddr>,
    now: SystemTime,
) -> Result<Machines, ControlError> {
    let mut machines = Machines { own, port, ..Machines::default() };
    if let Some(document) = store.document(DOCUMENT)? {
        let stored: Vec<(String, Record)> =
            serde_json::from_slice(&document).map_err(ControlError::Document)?;
        machines.records =
            stored.into_iter().map(|(id, record)| (WorkloadId::new(id), record)).collect();
        // Until each has come back, which takes no longer than it takes to be away.
        let all = machines.records.keys();
        machines.away_since_ms = all.map(|id| (id.clone(), millis(now))).collect();
    }
    Ok(machines)
}

impl State {
    /// The pods that stand for machines.
    pub(super) fn machine_pods(
        &self,
    ) -> (Vec<heddle_api::Resource>, Vec<heddle_translate::ObjectKey>) {
        let mut pods = Vec::new();
        let mut replaced = Vec::new();
        for record in self.machines.records.values() {
            // Where the object is gone, so is the workload.
            if let Some(pod) = pod::of(&self.objects, record) {
                pods.push(pod);
                if record.group.is_empty() {
                    replaced.push(pod::entry_key(&record.namespace, &record.name));
                }
            }
        }
        (pods, replaced)
    }

    /// Whether a workload runs on a machine of its own.
    pub(crate) fn is_machine(&self, workload: &WorkloadId) -> bool {
        self.machines.records.contains_key(workload)
    }

    /// What a machine would be; nothing is changed.
    pub(super) fn check_machine(
        &self,
        identity: &SpiffeId,
        asked: &Machine,
    ) -> Result<(WorkloadId, Record), MachineError> {
        let not_an_account = || MachineError::Identity(identity.clone());
        let (namespace, account) = identity.service_account().ok_or_else(not_an_account)?;
        let (kind, name) = match (asked.workload_group.as_str(), asked.workload_entry.as_str()) {
            (group, "") if !group.is_empty() => ("WorkloadGroup", group),
            ("", entry) if !entry.is_empty() => ("WorkloadEntry", entry),
            _ => return Err(MachineError::Unnamed),
        };
        let template = pod::template(&self.objects, kind, namespace, name).ok_or_else(|| {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            MachineError::Unknown { kind, namespace, name }
        })?;
        let wanted = template.service_account.filter(|account| !account.is_empty());
        let wanted = wanted.unwrap_or_else(|| "default".to_owned());
        if wanted != account {
            let object = format!("{kind} {namespace}/{name}");
            let (wanted, presented) = (format!("{namespace}/{wanted}"), identity.clone());
            return Err(MachineError::OtherAccount { object, wanted, presented });
        }
        let address = match asked.address.as_str() {
            "" => template.address.unwrap_or_default(),
            given => given.to_owned(),
        };
        let usable = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast();
        let address: IpAddr = address
            .parse()
            .ok()
            .filter(usable)
            .ok_or_else(|| MachineError::Address(address.clone()))?;
        let is_group = kind == "WorkloadGroup";
        let instance = if is_group { pod::instance_name(name, address) } else { name.to_owned() };
        let cluster = &self.plan.translator().options().cluster;
        let id = WorkloadId::new(format!("{cluster}/Pod/{namespace}/{instance}"));
        match self.machines.records.get(&id) {
            Some(known) if known.account != account => return Err(MachineError::Taken(id)),
            None if self.plan.pods().any(|entry| entry.workload == id) => {
                return Err(MachineError::Taken(id));
            }
            None if self.machines.records.len() >= MACHINES_MAX => {
                return Err(MachineError::TooMany);
            }
            Some(_) | None => {}
        }
        let record = Record {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            group: if is_group { name.to_owned() } else { String::new() },
            name: instance,
            address: address.to_string(),
            expires_ms: 0,
        };
        Ok((id, record))
    }

    /// Takes a machine into the mesh.
    pub(super) fn admit(
        &mut self,
        id: &WorkloadId,
        mut record: Record,
        now: SystemTime,
    ) -> Result<(), ControlError> {
        record.expires_ms = millis(now + self.lifetimes.leaf);
        tracing::info!(workload = %id, address = record.address, "a machine is part of the mesh");
        self.machines.records.insert(id.clone(), record);
        self.machines.away_since_ms.insert(id.clone(), millis(now));
        self.store_machines()?;
        self.replan(now)
    }

    /// Whom a certificate and the name that came with it mean; none: no machine that has joined.
    pub(crate) fn machine_of(&self, identity: &SpiffeId, name: &str) -> Option<WorkloadId> {
        let (namespace, account) = identity.service_account()?;
        let own = identity.trust_domain() == self.authority.domain();
        let cluster = &self.plan.translator().options().cluster;
        let id = WorkloadId::new(format!("{cluster}/Pod/{namespace}/{name}"));
        let record = self.machines.records.get(&id)?;
        (own && record.account == account).then_some(id)
    }

    /// Whom a machine trusts, and its next certificate where it asks for one.
    pub(crate) fn refresh(
        &mut self,
        workload: &WorkloadId,
        request: &RefreshRequest,
        csr: Option<&[u8]>,
        now: SystemTime,
    ) -> Result<JoinResponse, TokenError> {
        let Some(record) = self.machines.records.get(workload).cloned() else {
            return Err(TokenError::NotAMachine(workload.clone()));
        };
        let holder = machine_holder(workload);
        let identity = SpiffeId::for_service_account(
            self.authority.domain(),
            &record.namespace,
            &record.account,
        )?;
        self.authority.handle_acknowledged(now, &holder, request.generation);
        if let Ok(Some(serial)) = heddle_tls::serial_of(&request.leaf) {
            self.authority.handle_installed(&self.store, &holder, &identity, serial)?;
        }
        let mut answer = CertificateResponse::default();
        if let Some(csr) = csr {
            answer = self.authority.sign(&self.store, now, &holder, &identity, csr)?;
            if let Some(record) = self.machines.records.get_mut(workload) {
                record.expires_ms = millis(now + self.lifetimes.leaf);
            }
            if let Err(error) = self.store_machines() {
                tracing::error!(%error, "what is known of a machine cannot be stored");
            }
        }
        if self.authority.is_rotating(now) {
            self.advance_authority(now);
        }
        self.join_response(answer, Some((workload, &record)))
    }

    /// The answer to a machine.
    pub(super) fn join_response(
        &self,
        response: CertificateResponse,
        machine: Option<(&WorkloadId, &Record)>,
    ) -> Result<JoinResponse, TokenError> {
        let bundle = self.authority.bundle()?;
        let own = bundle.domains.iter().find(|domain| domain.trust_domain == bundle.trust_domain);
        let ranges =
            [heddle_translate::workloads::POD_RANGE_V4, heddle_translate::workloads::POD_RANGE_V6];
        Ok(JoinResponse {
            cert_chain: response.cert_chain,
            signer: bundle.signer.to_string(),
            trust_domain: bundle.trust_domain.to_string(),
            roots: own.iter().flat_map(|own| &own.roots).map(|root| root.to_vec()).collect(),
            generation: bundle.generation,
            workload: machine.map(|(id, _)| id.to_string()).unwrap_or_default(),
            workload_ranges: ranges.map(String::from).to_vec(),
            address: machine.map(|(_, record)| record.address.clone()).unwrap_or_default(),
        })
    }

    /// Whether an address is that of a workload inside of this mesh, to which machines are carried.
    pub(crate) fn is_inside(&self, address: IpAddr) -> bool {
        let own = self.plan.pods().filter(|entry| {
            matches!(entry.stage, Stage::Wanted | Stage::Draining { .. })
                && !self.is_machine(&entry.workload)
        });
        own.into_iter().any(|entry| {
            heddle_translate::workloads::pod_status(&entry.pod).addresses.contains(&address)
        })
    }

    /// A machine's supervisor watches: it is there. The number ends it.
    pub(crate) fn machine_came(
        &mut self,
        workload: &WorkloadId,
    ) -> (u64, watch::Receiver<Arc<BTreeMap<WorkloadId, DesiredState>>>) {
        self.machines.last_watch += 1;
        self.machines.present.insert(workload.clone(), self.machines.last_watch);
        self.machines.away_since_ms.remove(workload);
        self.touch();
        (self.machines.last_watch, self.machines.desired.subscribe())
    }

    /// A machine's watch is over.
    pub(crate) fn machine_went(&mut self, workload: &WorkloadId, number: u64, now: SystemTime) {
        // Another one may have begun since.
        if self.machines.present.get(workload) == Some(&number) {
            self.machines.present.remove(workload);
            self.machines.away_since_ms.insert(workload.clone(), millis(now));
            self.touch();
        }
    }

    /// A machine tells what became of its workload, and of nothing else.
    pub(crate) fn handle_machine_report(
        &mut self,
        workload: &WorkloadId,
        report: &NodeReport,
        now: SystemTime,
    ) {
        if self.is_machine(workload) && self.facts.apply_machine(workload, report) {
            self.facts_changed(now);
        }
    }

    /// Keeps what machines shall run up to date.
    pub(super) fn publish_machines(&self, mut desired: BTreeMap<WorkloadId, DesiredState>) {
        self.machines.desired.send_if_modified(|current| {
            let changed = **current != desired;
            if changed {
                *current = Arc::new(std::mem::take(&mut desired));
            }
            changed
        });
    }

    /// Follows machines that are away, and the control plane's own identity. Returns when to look again, in milliseconds.
    pub(super) fn follow_machines(&mut self, now: SystemTime) -> Option<u64> {
        let now_ms = millis(now);
        let mut changed = false;
        let mut next: Option<u64> = None;
        for (id, since_ms) in &self.machines.away_since_ms {
            let due = since_ms + GRACE_MS;
            if now_ms >= due {
                changed |= self.facts.set_away(id);
            } else {
                next = next.into_iter().chain([due]).min();
            }
        }
        let present = &self.machines.present;
        let over: Vec<WorkloadId> = self
            .machines
            .records
            .iter()
            .filter(|(id, record)| now_ms > record.expires_ms && !present.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        let is_over = !over.is_empty();
        for id in over {
            tracing::info!(workload = %id, "a machine was away until its certificate expired; it needs another token");
            self.machines.records.remove(&id);
            self.machines.away_since_ms.remove(&id);
            self.authority.forget_holder(&machine_holder(&id));
            changed |= self.facts.forget(&id);
        }
        if is_over {
            let stored = self.store_machines().and_then(|()| self.replan(now));
            if let Err(error) = stored {
                tracing::error!(%error, "a machine that is gone cannot be taken out");
            }
        }
        if changed {
            self.facts_changed(now);
        }
        let own = self.step_own(now);
        let ends = self.machines.records.values().map(|record| record.expires_ms + 1);
        next.into_iter().chain(ends.filter(|end| *end > now_ms)).chain(own).min()
    }

    /// Renews the control plane's own certificate where it is due; when to look again.
    fn step_own(&mut self, now: SystemTime) -> Option<u64> {
        let Self { machines, .. } = self;
        let own = machines.own.as_mut()?;
        let before = own.identity().generation();
        let stepped = own.step(&mut self.authority, &self.store, now);
        if own.identity().generation() != before {
            // Who has been let in may not be welcome any more.
            self.touch();
        }
        match stepped {
            Ok(until) => Some(millis(until)),
            Err(why) => {
                let hint =
                    "machines cannot join, and those that have joined go on with what they hold";
                tracing::error!(why, hint, "the control plane has no certificate for machines");
                Some(millis(now + Duration::from_secs(5)))
            }
        }
    }

    /// The control plane's own identity at the machines' port.
    pub(crate) fn own_identity(&self) -> Option<&OwnIdentity> {
        self.machines.own.as_ref()
    }

    /// The SHA-256 of the root that signs.
    pub(crate) fn signing_root(&self) -> String {
        let mut roots = self.authority.roots();
        roots
            .find(|(_, signs)| *signs)
            .map(|(root, _)| root.id.as_str().to_owned())
            .unwrap_or_default()
    }

    /// Where machines join; none: nowhere.
    pub(crate) fn machines_port(&self) -> Option<String> {
        self.machines.port.map(|port| port.to_string())
    }

    fn store_machines(&self) -> Result<(), ControlError> {
        let records: Vec<(&str, &Record)> =
            self.machines.records.iter().map(|(id, record)| (id.as_str(), record)).collect();
        // Texts and numbers have no way to fail.
        let document = serde_json::to_vec(&records).unwrap_or_default();
        Ok(self.store.put_document(DOCUMENT, &document)?)
    }
}

/// Who holds the key that a machine itself proves itself with, beside those of its proxy and its application.
pub(crate) fn machine_holder(workload: &WorkloadId) -> HolderId {
    HolderId::new(format!("{workload}#machine"))
}
