//! The control plane's end of one stream: what its client subscribed to, was offered, accepted and refused.
//!
//! Per type at most one response is on its way; what changes meanwhile is coalesced and goes with the next one.
//! So a slow client costs one response of memory per type, and always gets the newest state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use heddle_ir::resource::ResourceName;
use heddle_proto::discovery::{
    Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};
use heddle_proto::resource::{Encoded, ResourceType, name_text, parse_name};

/// The most names one stream may subscribe to.
pub const SUBSCRIPTIONS_MAX: usize = 32_768;
/// A response is closed when its contents pass this many bytes.
const RESPONSE_BYTES_TARGET: usize = 1 << 20;
/// A response is closed at this many resources.
const RESPONSE_RESOURCES_MAX: usize = 1000;

/// Where a stream finds the resources that its client may see.
pub trait Catalog {
    /// The resource as it is now; none: it does not exist, or is not this client's business.
    fn resource(&mut self, name: &ResourceName) -> Option<Arc<Encoded>>;
}

/// What a request meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Handled {
    /// Newly subscribed names.
    pub subscribed: Vec<ResourceName>,
    /// Names no longer subscribed to.
    pub unsubscribed: Vec<ResourceName>,
    /// Resources the client refused for good, until they change.
    pub rejected: Vec<Rejection>,
    /// A response was accepted.
    pub acknowledged: bool,
}

/// A resource that the client refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Which.
    pub name: ResourceName,
    /// The version refused.
    pub version: String,
    /// The client's reason.
    pub reason: String,
}

/// The client broke the protocol; its stream must be ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// A name cannot be read.
    Name(heddle_proto::resource::ParseNameError),
    /// More than [`SUBSCRIPTIONS_MAX`] names.
    TooManySubscriptions,
    /// A type that is not heddle's.
    UnknownType(String),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "{error}"),
            Self::TooManySubscriptions => {
                write!(f, "more than {SUBSCRIPTIONS_MAX} subscriptions on one stream")
            }
            Self::UnknownType(url) => write!(f, "{url:?} is not a type of this server"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// One stream.
#[derive(Debug, Default)]
pub struct ServerStream {
    types: BTreeMap<ResourceType, TypeState>,
    subscriptions: usize,
    nonce: u64,
}

/// A state of a resource as a client may know it: its version, or that it does not exist.
type Offer = Option<String>;

#[derive(Debug, Default)]
struct TypeState {
    subscriptions: BTreeMap<ResourceName, Subscription>,
    /// Must be looked at: changed, or never answered.
    dirty: BTreeSet<ResourceName>,
    in_flight: Option<InFlight>,
}

#[derive(Debug, Default)]
struct Subscription {
    /// What the client has; none: it was never answered.
    accepted: Option<Offer>,
    /// What the client refused last.
    rejected: Option<(Offer, String)>,
    /// Came in a response with others that was refused: goes alone next time, to find the culprit.
    suspect: bool,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    offers: Vec<(ResourceName, Offer)>,
}

impl ServerStream {
    /// A stream without subscriptions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a request in. After an error the stream must be ended.
    pub fn handle_request(
        &mut self,
        request: &DeltaDiscoveryRequest,
    ) -> Result<Handled, ProtocolError> {
        let resource_type = ResourceType::parse(&request.type_url)
            .ok_or_else(|| ProtocolError::UnknownType(request.type_url.clone()))?;
        let parse = |text: &String| parse_name(resource_type, text).map_err(ProtocolError::Name);
        let own = self.types.entry(resource_type).or_default();
        let mut handled = Handled::default();
        if !request.response_nonce.is_empty() {
            let refusal = request.error_detail.as_ref().map(|status| status.message.as_str());
            own.handle_answer(&request.response_nonce, refusal, &mut handled);
        }
        for text in &request.resource_names_unsubscribe {
            let name = parse(text)?;
            own.dirty.remove(&name);
            if own.subscriptions.remove(&name).is_some() {
                self.subscriptions -= 1;
                handled.unsubscribed.push(name);
            }
        }
        for text in &request.resource_names_subscribe {
            let name = parse(text)?;
            // What the client says it holds counts as accepted. Any other subscription is answered, also when
            // the client seems to have the newest state: it may have dropped it.
            let held = request.initial_resource_versions.get(text).cloned();
            let fresh = Subscription { accepted: held.map(Some), ..Subscription::default() };
            if own.subscriptions.insert(name.clone(), fresh).is_none() {
                self.subscriptions += 1;
                handled.subscribed.push(name.clone());
            }
            if self.subscriptions > SUBSCRIPTIONS_MAX {
                return Err(ProtocolError::TooManySubscriptions);
            }
            own.dirty.insert(name);
        }
        Ok(handled)
    }

    /// Something about the resource changed; ignored unless it is subscribed to.
    pub fn handle_change(&mut self, name: &ResourceName) {
        if let Some(own) = self.types.get_mut(&ResourceType::of(name))
            && own.subscriptions.contains_key(name)
        {
            own.dirty.insert(name.clone());
        }
    }

    /// What the client may see changed as a whole: everything subscribed to is looked at again.
    pub fn handle_change_of_all(&mut self) {
        for own in self.types.values_mut() {
            own.dirty = own.subscriptions.keys().cloned().collect();
        }
    }

    /// The next response to send; none: nothing changed, or answers are awaited.
    pub fn poll_transmit(&mut self, catalog: &mut impl Catalog) -> Option<DeltaDiscoveryResponse> {
        for (resource_type, own) in &mut self.types {
            if own.in_flight.is_some() {
                continue;
            }
            let nonce = format!("{:x}", self.nonce + 1);
            if let Some(response) = own.compose(*resource_type, nonce, catalog) {
                self.nonce += 1;
                return Some(response);
            }
        }
        None
    }

    /// Whether the client has everything: nothing is to be sent, and all that was sent was answered.
    pub fn is_settled(&self) -> bool {
        self.types.values().all(|own| own.dirty.is_empty() && own.in_flight.is_none())
    }

    /// Whether the client subscribes to the name.
    pub fn is_subscribed(&self, name: &ResourceName) -> bool {
        self.types
            .get(&ResourceType::of(name))
            .is_some_and(|own| own.subscriptions.contains_key(name))
    }

    /// Every subscription with the version that the client accepted last; none: nothing, or that it does not exist.
    pub fn accepted(&self) -> impl Iterator<Item = (&ResourceName, Option<&str>)> {
        self.types.values().flat_map(|own| &own.subscriptions).map(|(name, subscription)| {
            (name, subscription.accepted.as_ref().and_then(Option::as_deref))
        })
    }

    /// The version of a resource that the client accepted last; none: none, or that it does not exist.
    pub fn accepted_version(&self, name: &ResourceName) -> Option<&str> {
        let own = self.types.get(&ResourceType::of(name))?;
        own.subscriptions.get(name)?.accepted.as_ref()?.as_deref()
    }

    /// What the client refuses at the moment.
    pub fn rejections(&self) -> impl Iterator<Item = Rejection> {
        self.types.values().flat_map(|own| &own.subscriptions).filter_map(|(name, subscription)| {
            let (offer, reason) = subscription.rejected.as_ref()?;
            let version = offer.clone().unwrap_or_default();
            Some(Rejection { name: name.clone(), version, reason: reason.clone() })
        })
    }
}

impl TypeState {
    /// Settles the response on its way. An answer to any other one is old news.
    fn handle_answer(&mut self, nonce: &str, refusal: Option<&str>, handled: &mut Handled) {
        let Some(in_flight) = self.in_flight.take_if(|sent| sent.nonce == nonce) else { return };
        let alone = in_flight.offers.len() == 1;
        handled.acknowledged = refusal.is_none();
        for (name, offer) in in_flight.offers {
            // Gone, or subscribed to anew since (then `dirty` has it, and it is answered anew).
            let Some(subscription) = self.subscriptions.get_mut(&name) else { continue };
            match refusal {
                None => {
                    subscription.accepted = Some(offer);
                    subscription.rejected = None;
                    subscription.suspect = false;
                }
                Some(reason) if alone => {
                    let version = offer.clone().unwrap_or_default();
                    subscription.rejected = Some((offer, reason.to_owned()));
                    subscription.suspect = false;
                    let reason = reason.to_owned();
                    handled.rejected.push(Rejection { name, version, reason });
                }
                Some(_) => {
                    subscription.suspect = true;
                    self.dirty.insert(name);
                }
            }
        }
    }

    /// Makes a response of what is dirty, as much as fits.
    fn compose(
        &mut self,
        resource_type: ResourceType,
        nonce: String,
        catalog: &mut impl Catalog,
    ) -> Option<DeltaDiscoveryResponse> {
        let mut response = DeltaDiscoveryResponse {
            type_url: resource_type.url().to_owned(),
            nonce: nonce.clone(),
            ..DeltaDiscoveryResponse::default()
        };
        let mut offers: Vec<(ResourceName, Offer)> = Vec::new();
        let mut bytes = 0;
        while let Some(name) = self.dirty.pop_first() {
            let Some(subscription) = self.subscriptions.get_mut(&name) else { continue };
            if subscription.suspect && !offers.is_empty() {
                self.dirty.insert(name);
                break;
            }
            let suspect = subscription.suspect;
            let current = catalog.resource(&name);
            let offer = current.as_ref().map(|encoded| encoded.version.clone());
            if subscription.accepted.as_ref() == Some(&offer) {
                // Also after a refused change that was taken back.
                subscription.rejected = None;
                continue;
            }
            if subscription.rejected.as_ref().is_some_and(|(rejected, _)| *rejected == offer) {
                continue;
            }
            match current {
                Some(encoded) => {
                    bytes += encoded.bytes.len();
                    response.resources.push(on_wire(resource_type, &name, &encoded));
                }
                None => response.removed_resources.push(name_text(&name)),
            }
            offers.push((name, offer));
            let full = bytes > RESPONSE_BYTES_TARGET || offers.len() == RESPONSE_RESOURCES_MAX;
            if suspect || full {
                break;
            }
        }
        if offers.is_empty() {
            return None;
        }
        self.in_flight = Some(InFlight { nonce, offers });
        Some(response)
    }
}

fn on_wire(resource_type: ResourceType, name: &ResourceName, encoded: &Encoded) -> WireResource {
    WireResource {
        version: encoded.version.clone(),
        name: name_text(name),
        resource: Some(Any {
            type_url: resource_type.url().to_owned(),
            value: encoded.bytes.clone(),
        }),
    }
}
