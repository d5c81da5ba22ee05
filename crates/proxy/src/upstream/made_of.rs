//! What the settings of an endpoint's connections were made of, so that other settings are noticed.

use std::sync::Arc;

use heddle_ir::destination::Destination;
use heddle_ir::endpoint::Endpoint;
use heddle_ir::secret::Secret;

use super::Target;
use crate::snapshot::DestinationState;

/// A destination's policy with its secrets, and the endpoint.
pub(super) struct MadeOf {
    destination: Arc<Destination>,
    credentials: Arc<[Arc<Secret>]>,
    endpoint: Option<Arc<Endpoint>>,
}

impl MadeOf {
    pub(super) fn new(state: &DestinationState, target: &Target) -> Self {
        Self {
            destination: state.destination.clone(),
            credentials: state.credentials.clone(),
            endpoint: target.endpoint().cloned(),
        }
    }

    /// Whether connections made of these are those that the others ask for too. From then on it stands for the others,
    /// which are likely to be asked about again.
    pub(super) fn suits(&mut self, state: &DestinationState, target: &Target) -> bool {
        let (destination, endpoint) = (&state.destination, target.endpoint());
        let same_endpoint = match (&self.endpoint, endpoint) {
            (Some(own), Some(endpoint)) => Arc::ptr_eq(own, endpoint),
            (own, endpoint) => own.is_none() && endpoint.is_none(),
        };
        let same_policy = Arc::ptr_eq(&self.destination, destination)
            && Arc::ptr_eq(&self.credentials, &state.credentials);
        if same_policy && same_endpoint {
            return true;
        }
        let suits = is_alike(&self.destination, destination)
            && self.credentials == state.credentials
            && match (&self.endpoint, endpoint) {
                (Some(own), Some(endpoint)) => is_same_peer(own, endpoint),
                (own, endpoint) => own.is_none() && endpoint.is_none(),
            };
        if suits {
            *self = Self::new(state, target);
        }
        suits
    }
}

fn is_alike(own: &Destination, other: &Destination) -> bool {
    own.id == other.id
        && own.tls == other.tls
        && own.subject_alt_names == other.subject_alt_names
        && own.mesh_server_name == other.mesh_server_name
        && own.connection_pool == other.connection_pool
}

fn is_same_peer(own: &Endpoint, other: &Endpoint) -> bool {
    own.identity == other.identity
        && own.transport == other.transport
        && own.workload == other.workload
}
