//! Sockets: the factory every one of the proxy's comes from, original destinations, Unix sockets.
//!
//! A [`SocketFactory`] is bound to a network namespace and a mark, so that a connection can neither
//! leave from another workload's namespace nor be intercepted as if the application had made it.
//! Nothing here reads or writes payload, and nothing decides where to connect.

mod descriptor;
mod factory;
mod local;
mod original;
mod unix;

pub use descriptor::{
    AsyncDescriptorChannel, DESCRIPTORS_MAX, DescriptorChannel, MESSAGE_BYTES_MAX, Message,
    receive_descriptors, send_descriptors,
};
pub use factory::{ConnectError, KeepAlive, ListenOptions, SocketFactory, Source};
pub use original::original_destination;
pub use unix::{PeerCredentials, listen_unix, peer_credentials, socket_pair};
