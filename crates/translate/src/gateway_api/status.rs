//! Statuses of the Gateway API's objects, as its specification words them. Pure: of objects and nothing else.
//!
//! They are values here; whoever writes them into a cluster or shows them adds the times of transitions.

use std::sync::Arc;

use heddle_diag::JsonWriter;

pub use super::class::CONTROLLER;
use crate::status::Condition;

/// The status of an object of the Gateway API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GatewayApiStatus {
    /// Of a BackendTLSPolicy.
    BackendTlsPolicy {
        /// For each Gateway (or Service of the mesh) that it acts for.
        ancestors: Vec<Ancestor>,
    },
    /// Of a Gateway.
    Gateway {
        /// Addresses that it asks for and gets.
        addresses: Vec<Arc<str>>,
        /// ListenerSets whose listeners it has.
        attached_listener_sets: usize,
        /// Of the whole.
        conditions: Vec<Condition>,
        /// Of each listener.
        listeners: Vec<ListenerStatus>,
    },
    /// Of a GatewayClass.
    GatewayClass {
        /// Of the whole.
        conditions: Vec<Condition>,
        /// Names of the conformance suite.
        supported_features: &'static [&'static str],
    },
    /// Of a ListenerSet.
    ListenerSet {
        /// Of the whole.
        conditions: Vec<Condition>,
        /// Of each listener.
        listeners: Vec<ListenerStatus>,
    },
    /// Of a route.
    Route {
        /// For each parent reference that heddle is responsible for.
        parents: Vec<ParentStatus>,
    },
}

/// The status of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Kinds of routes that may attach.
    pub supported_kinds: Vec<&'static str>,
    /// Routes that are attached.
    pub attached_routes: usize,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// What became of a route's reference to a parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentStatus {
    /// The reference.
    pub parent: Reference,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// What a policy does for an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ancestor {
    /// The object.
    pub ancestor: Reference,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// A reference with its defaults written out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// API group; empty for the core group.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Listener or port, by name.
    pub section_name: Option<Arc<str>>,
    /// Listener or port, by number.
    pub port: Option<u16>,
}

impl GatewayApiStatus {
    /// Writes the status as the next JSON value. `generation` is what the object's conditions were computed of, `since`
    /// the time of their last transition (RFC 3339).
    pub fn write_json(&self, generation: i64, since: &str, json: &mut JsonWriter) {
        let times = Times { generation, since };
        json.open_object();
        match self {
            Self::BackendTlsPolicy { ancestors } => {
                json.key("ancestors");
                json.open_list();
                for one in ancestors {
                    json.open_object();
                    json.key("ancestorRef");
                    one.ancestor.write_json(json);
                    times.conditions(&one.conditions, json);
                    json.key("controllerName");
                    json.string(CONTROLLER);
                    json.close_object();
                }
                json.close_list();
            }
            Self::Gateway { addresses, attached_listener_sets, conditions, listeners } => {
                json.key("addresses");
                json.open_list();
                for address in addresses {
                    json.open_object();
                    json.key("type");
                    let is_address = address.parse::<std::net::IpAddr>().is_ok();
                    json.string(if is_address { "IPAddress" } else { "Hostname" });
                    json.key("value");
                    json.string(address);
                    json.close_object();
                }
                json.close_list();
                json.key("attachedListenerSets");
                json.raw(&attached_listener_sets.to_string());
                times.conditions(conditions, json);
                times.listeners(listeners, json);
            }
            Self::GatewayClass { conditions, supported_features } => {
                times.conditions(conditions, json);
                json.key("supportedFeatures");
                json.open_list();
                for feature in *supported_features {
                    json.open_object();
                    json.key("name");
                    json.string(feature);
                    json.close_object();
                }
                json.close_list();
            }
            Self::ListenerSet { conditions, listeners } => {
                times.conditions(conditions, json);
                times.listeners(listeners, json);
            }
            Self::Route { parents } => {
                json.key("parents");
                json.open_list();
                for one in parents {
                    json.open_object();
                    times.conditions(&one.conditions, json);
                    json.key("controllerName");
                    json.string(CONTROLLER);
                    json.key("parentRef");
                    one.parent.write_json(json);
                    json.close_object();
                }
                json.close_list();
            }
        }
        json.close_object();
    }
}

impl Reference {
    fn write_json(&self, json: &mut JsonWriter) {
        json.open_object();
        for (key, value) in [
            ("group", Some(&self.group)),
            ("kind", Some(&self.kind)),
            ("name", Some(&self.name)),
            ("namespace", Some(&self.namespace)),
            ("sectionName", self.section_name.as_ref()),
        ] {
            if let Some(value) = value {
                json.key(key);
                json.string(value);
            }
        }
        if let Some(port) = self.port {
            json.key("port");
            json.raw(&port.to_string());
        }
        json.close_object();
    }
}

/// What every condition carries.
struct Times<'a> {
    generation: i64,
    since: &'a str,
}

impl Times<'_> {
    fn conditions(&self, conditions: &[Condition], json: &mut JsonWriter) {
        json.key("conditions");
        json.open_list();
        for condition in conditions {
            json.open_object();
            json.key("lastTransitionTime");
            json.string(self.since);
            json.key("message");
            json.string(&condition.message);
            json.key("observedGeneration");
            json.raw(&self.generation.to_string());
            json.key("reason");
            json.string(condition.reason);
            json.key("status");
            json.string(if condition.holds { "True" } else { "False" });
            json.key("type");
            json.string(condition.kind);
            json.close_object();
        }
        json.close_list();
    }

    fn listeners(&self, listeners: &[ListenerStatus], json: &mut JsonWriter) {
        json.key("listeners");
        json.open_list();
        for listener in listeners {
            json.open_object();
            json.key("attachedRoutes");
            json.raw(&listener.attached_routes.to_string());
            self.conditions(&listener.conditions, json);
            json.key("name");
            json.string(&listener.name);
            json.key("supportedKinds");
            json.open_list();
            for kind in &listener.supported_kinds {
                json.open_object();
                json.key("group");
                json.string(heddle_api::gateway_api::GROUP);
                json.key("kind");
                json.string(kind);
                json.close_object();
            }
            json.close_list();
            json.close_object();
        }
        json.close_list();
    }
}
