//! The proxy's end of the stream: what it asks for, what it was given, what it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status};
use heddle_proto::resource::{ResourceType, decode, name_text, parse_name};

/// gRPC's INVALID_ARGUMENT, which refuses a response.
const INVALID_ARGUMENT: i32 = 3;
/// The longest reason sent with a refusal, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// A new state of a resource that is subscribed to.
#[derive(Clone, PartialEq, Debug)]
pub struct Update {
    /// Which.
    pub name: ResourceName,
    /// Its content; none: it does not exist.
    pub resource: Option<Resource>,
}

/// The client of one logical session, which goes on over many streams.
#[derive(Debug, Default)]
pub struct Client {
    node: Node,
    types: BTreeMap<ResourceType, Subscriptions>,
    connected: bool,
    introduced: bool,
}

/// Everything of one type.
#[derive(Debug, Default)]
struct Subscriptions {
    /// Wanted names, with the version held. None: not held, or known not to exist.
    wanted: BTreeMap<ResourceName, Option<String>>,
    /// Not told to the server yet.
    subscribe: BTreeSet<ResourceName>,
    unsubscribe: BTreeSet<ResourceName>,
    /// Nonces to answer, with the reason where refused.
    answers: VecDeque<(String, Option<String>)>,
    /// The first message of this type on this stream was sent.
    opened: bool,
}

impl Client {
    /// A client that holds nothing; `node` introduces it on each stream.
    pub fn new(node: Node) -> Self {
        Self { node, ..Self::default() }
    }

    /// Subscribes. Nothing happens when the name is subscribed to already.
    pub fn want(&mut self, name: &ResourceName) {
        let own = self.types.entry(ResourceType::of(name)).or_default();
        if own.wanted.contains_key(name) {
            return;
        }
        own.wanted.insert(name.clone(), None);
        // Where the end of an earlier subscription was not told yet, it need not be: the server answers a repeated
        // subscription in full.
        own.subscribe.insert(name.clone());
        own.unsubscribe.remove(name);
    }

    /// Ends a subscription; what is held of it is forgotten.
    pub fn unwant(&mut self, name: &ResourceName) {
        let Some(own) = self.types.get_mut(&ResourceType::of(name)) else { return };
        if own.wanted.remove(name).is_some() {
            own.subscribe.remove(name);
            own.unsubscribe.insert(name.clone());
        }
    }

    /// Whether the name is subscribed to.
    pub fn wants(&self, name: &ResourceName) -> bool {
        self.types.get(&ResourceType::of(name)).is_some_and(|own| own.wanted.contains_key(name))
    }

    /// The version held; none: not held, or it does not exist.
    pub fn version(&self, name: &ResourceName) -> Option<&str> {
        self.types.get(&ResourceType::of(name))?.wanted.get(name)?.as_deref()
    }

    /// A new stream is open. What was not acknowledged on the old one is forgotten.
    pub fn handle_connect(&mut self) {
        self.connected = true;
        self.introduced = false;
        for own in self.types.values_mut() {
            own.opened = false;
            own.answers.clear();
            own.unsubscribe.clear();
            own.subscribe = own.wanted.keys().cloned().collect();
        }
    }

    /// The stream is gone.
    pub fn handle_disconnect(&mut self) {
        self.connected = false;
    }

    /// The next message to send; none: nothing to say, or no stream.
    pub fn poll_transmit(&mut self) -> Option<DeltaDiscoveryRequest> {
        if !self.connected {
            return None;
        }
        let (resource_type, own) = self.types.iter_mut().find(|(_, own)| own.has_news())?;
        let mut request = DeltaDiscoveryRequest {
            type_url: resource_type.url().to_owned(),
            resource_names_subscribe: own.subscribe.iter().map(name_text).collect(),
            resource_names_unsubscribe: own.unsubscribe.iter().map(name_text).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        own.subscribe.clear();
        own.unsubscribe.clear();
        if !self.introduced {
            self.introduced = true;
            request.node = Some(self.node.clone());
        }
        if !own.opened {
            own.opened = true;
            request.initial_resource_versions = own.held().collect();
        }
        if let Some((nonce, reason)) = own.answers.pop_front() {
            request.response_nonce = nonce;
            request.error_detail = reason.map(|message| Status { code: INVALID_ARGUMENT, message });
        }
        Some(request)
    }

    /// Takes a response in. All of it takes effect or, when anything in it cannot be read or `check` refuses it,
    /// nothing; then it is refused with the reason.
    pub fn handle_response(
        &mut self,
        response: DeltaDiscoveryResponse,
        mut check: impl FnMut(&ResourceName, &Resource) -> Result<(), String>,
    ) -> Result<Vec<Update>, String> {
        let Some(resource_type) = ResourceType::parse(&response.type_url) else {
            return Err(format!("type {:?} was never asked for", response.type_url));
        };
        let own = self.types.entry(resource_type).or_default();
        match read(resource_type, &response, own, &mut check) {
            Ok(read) => {
                own.answers.push_back((response.nonce, None));
                let mut updates = Vec::with_capacity(read.len());
                for (update, version) in read {
                    own.wanted.insert(update.name.clone(), version);
                    updates.push(update);
                }
                Ok(updates)
            }
            Err(mut reason) => {
                reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                own.answers.push_back((response.nonce, Some(reason.clone())));
                Err(reason)
            }
        }
    }
}

/// Reads a response without changing anything: updates and their versions. What is no longer wanted is left out.
fn read(
    resource_type: ResourceType,
    response: &DeltaDiscoveryResponse,
    own: &Subscriptions,
    check: &mut impl FnMut(&ResourceName, &Resource) -> Result<(), String>,
) -> Result<Vec<(Update, Option<String>)>, String> {
    let mut read = Vec::new();
    for entry in &response.resources {
        let name = parse_name(resource_type, &entry.name).map_err(|e| e.to_string())?;
        if !own.wanted.contains_key(&name) {
            continue;
        }
        let content = entry.resource.as_ref().ok_or_else(|| format!("{name}: has no content"))?;
        if content.type_url != response.type_url {
            return Err(format!("{name}: content is of type {:?}", content.type_url));
        }
        let resource = decode(&name, &content.value).map_err(|e| format!("{name}: {e}"))?;
        check(&name, &resource).map_err(|reason| format!("{name}: {reason}"))?;
        read.push((Update { name, resource: Some(resource) }, Some(entry.version.clone())));
    }
    for text in &response.removed_resources {
        let name = parse_name(resource_type, text).map_err(|e| e.to_string())?;
        if own.wanted.contains_key(&name) {
            read.push((Update { name, resource: None }, None));
        }
    }
    Ok(read)
}

impl Subscriptions {
    fn has_news(&self) -> bool {
        !self.subscribe.is_empty() || !self.unsubscribe.is_empty() || !self.answers.is_empty()
    }

    /// Names and versions of what is held.
    fn held(&self) -> impl Iterator<Item = (String, String)> {
        self.wanted
            .iter()
            .filter_map(|(name, version)| Some((name_text(name), version.as_ref()?.clone())))
    }
}
