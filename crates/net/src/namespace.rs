//! Namespaces: entering a user namespace of one's own, network namespaces held by descriptor, mounts.
//!
//! Entering is for the supervisor, which needs no root that way; the proxy only uses
//! [`NetworkNamespace`]. Nothing here sets up links or rules: see [`crate::netlink`] and
//! [`crate::interception`].

mod mount;
mod network;
mod place;
mod user;

pub use mount::{MountError, bind_mount, make_mounts_private, mount_proc, mount_tmpfs};
pub use network::{NamespaceError, NetworkNamespace};
pub use place::{link, open_folder, write_file};
pub(crate) use user::thread_count;
pub use user::{
    EnterError, Forbidden, Namespaces, enter, enter_user_namespace, enter_user_namespace_as,
};

use std::io;

/// Sets the host name of the current UTS namespace; at most 64 bytes.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}
