//! What becomes of each field of Linkerd's kinds.

use crate::outcomes::{Becomes, Table};

use Becomes::Applied;

const SERVICE_PROFILE: Table = &[
    ("routes", Applied),
    ("retryBudget", Applied),
    ("dstOverrides", Applied),
    ("opaquePorts", Applied),
];

/// The tables, by kind.
pub(crate) const TABLES: &[(&str, Table)] = &[("ServiceProfile", SERVICE_PROFILE)];

/// Kinds of which nothing is done.
pub(crate) const NOT_ENFORCED: &[(&str, &str)] =
    &[("Link", "other clusters are not linked yet: nothing is mirrored")];
