//! The one model of a mesh that every dialect translates into and every proxy obeys. Layer 1.
//!
//! Values here are immutable and structurally shared: `translate` builds them, `proto` carries them,
//! `route`, `authz` and `balance` decide by them. Every item that can decide something carries the
//! [`heddle_diag::Origin`] of the line that wrote it. The IR knows no dialect: what Istio, Linkerd or the
//! Gateway API mean by a field is resolved before a value of this crate exists. It has no serialisation of
//! its own (`proto` has), no clock and no I/O.
//!
//! A proxy holds [`resource::Resource`]s, each under a [`resource::ResourceName`]:
//!
//! | resource | what a proxy learns from it | held |
//! |---|---|---|
//! | [`proxy::ProxySettings`] | who it is, its scope, limits and mesh-wide settings | always |
//! | [`index::Index`] | visible names, virtual addresses, address ranges | always |
//! | [`inbound::Inbound`] | ports, mutual TLS and authorisation of its own workload | always |
//! | [`trust::TrustBundle`] | the roots that peers are verified against | always |
//! | [`outbound::Outbound`] | routes and destination policies of one (scope, host, port) | while used |
//! | [`gateway::Gateway`] | listeners and routes for clients outside, of a gateway's own | always, at a gateway |
//! | [`secret::Secret`] | a certificate, key or authority that a gateway or destination refers to | while referred to |
//! | [`endpoint::EndpointSet`] | the endpoints of one (host, port) | while used |
//! | [`workload::Workload`] | who is at one address | while used |

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod authentication;
pub mod authorization;
pub mod destination;
pub mod endpoint;
pub mod gateway;
pub mod http_route;
pub mod inbound;
pub mod index;
pub mod matching;
pub mod outbound;
pub mod packet;
pub mod protocol;
pub mod proxy;
pub mod rate_limit;
pub mod request;
pub mod resource;
pub mod secret;
pub mod trust;
pub mod workload;
