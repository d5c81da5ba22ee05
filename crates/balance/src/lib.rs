//! Picks endpoints, watches them, and counts what is under way. Layer 3.
//!
//! A [`Balancer`] is an immutable view of the endpoints of one destination, made anew when endpoints or policy change;
//! what is known of an endpoint ([`EndpointState`]) is kept under its address from one to the next and shared by all
//! workers of the process. [`Breakers`] hold the limits of a destination, [`retry`] and [`budget`] say what is tried again,
//! [`rate_limit`] and [`counting`] what is refused, [`health`] what checks of endpoints add up to, [`session`] where a client stays.
//! Picking allocates nothing and takes no lock. Time and randomness are passed in: times are milliseconds on any clock
//! that does not go back, random numbers must be spread evenly over `u64`. This crate opens nothing and logs nothing.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod accrual;
mod balancer;
mod breaker;
pub mod bucket;
pub mod budget;
pub mod counting;
mod endpoint;
mod group;
mod hash;
pub mod health;
mod key;
mod latency;
pub mod locality;
mod maglev;
mod outlier;
pub mod priority;
pub mod rate_limit;
pub mod retry;
mod ring;
pub mod session;
mod slow_start;
mod spread;

pub use balancer::{Balancer, Pick, Picked, Slot};
pub use breaker::{Breakers, Overflow, Resource, Token};
pub use endpoint::{ActiveRequest, EndpointState};
pub use key::{HashedRequest, NewCookie};
pub use outlier::{Observation, grpc_as_http_status};
