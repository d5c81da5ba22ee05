//! Pods and addresses out of Deployments and their kin, where no cluster makes them.

mod address;

pub use address::{Allocation, Slots};

/// Addresses of pods.
pub const POD_RANGE_V4: &str = "10.244.0.0/16";
/// Addresses of pods, IPv6.
pub const POD_RANGE_V6: &str = "fd68:6564:646c:10::/64";
/// Virtual addresses of Services.
pub const SERVICE_RANGE_V4: &str = "10.96.0.0/12";
/// Virtual addresses of Services, IPv6.
pub const SERVICE_RANGE_V6: &str = "fd68:6564:646c:96::/112";
/// Virtual addresses of ServiceEntries that list none.
pub const ENTRY_RANGE_V4: &str = "240.240.0.0/16";
