//! Sockets, namespaces, interception. The only home of unsafe code.

pub mod broker;
