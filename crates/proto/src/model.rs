//! Field numbers of everything in the IR. Numbers are never used again for anything else.

mod authentication;
mod authorization;
mod destination;
mod gateway;
mod origin;
mod rate_limit;
mod route;
mod traffic;
mod workload;
