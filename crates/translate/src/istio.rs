//! Istio's networking and security objects.

pub(crate) mod authorization_policy;
mod authorization_values;
pub(crate) mod authorizer;
mod delegate;
pub(crate) mod destination_rule_report;
mod export_to;
pub(crate) mod grpc_status;
mod header_edits;
mod http_action;
mod http_match;
pub(crate) mod http_rule;
pub(crate) mod l4_rule;
mod load_balancer;
mod mirror;
pub(crate) mod peer_authentication;
mod reach;
pub(crate) mod regex;
pub(crate) mod request_authentication;
pub(crate) mod retry;
pub(crate) mod selector;
pub(crate) mod service_entry_report;
pub(crate) mod targeting;
pub(crate) mod traffic_policy;
pub(crate) mod virtual_service;
pub(crate) mod virtual_service_report;
