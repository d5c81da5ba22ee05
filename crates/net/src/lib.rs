//! Sockets, namespaces, interception, processes: everything heddle asks of Linux. Layer 5.
//!
//! The only crate with `unsafe` in it, and the only one that opens a socket for the mesh. It does what
//! it is told and decides nothing: which packets are the mesh's is said by an
//! [`interception::Interception`] value, what a process may do by a [`process::Plan`].
//!
//! The main types are [`namespace::NetworkNamespace`], [`interception::Interception`],
//! [`socket::SocketFactory`] (the one source of the proxy's sockets), [`process::Plan`] and
//! [`drain::Drain`].

pub mod broker;
pub mod capture;
pub mod datagrams;
pub mod drain;
pub mod interception;
pub mod memory;
pub mod namespace;
pub mod netlink;
mod nftables;
mod option;
pub mod packet_filter;
pub mod process;
pub mod socket;
