//! Permits for connections that the local workload opens.

use std::fmt;
use std::net::IpAddr;

use heddle_ir::index::{Index, UnknownDestinations};

use crate::permit::Permit;

/// Where the local workload wants to connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutboundTarget {
    /// Something that configuration which the proxy holds says how to reach: a route's destination, or a workload of the
    /// mesh at its own address.
    Configured,
    /// An address that no frontend and no workload has.
    Unknown(IpAddr),
}

/// Why an outbound connection is not permitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutboundRefusal {
    /// The address lies in a range of the mesh, and what is configured for it has not come or does not exist.
    InsideMesh(IpAddr),
    /// Destinations outside the mesh must be configured (Istio's REGISTRY_ONLY).
    NotConfigured(IpAddr),
}

impl fmt::Display for OutboundRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideMesh(address) => write!(
                f,
                "{address} belongs to the mesh, but nothing is configured for it; it is never passed through"
            ),
            Self::NotConfigured(address) => write!(
                f,
                "{address} is outside of the mesh and no ServiceEntry names it (REGISTRY_ONLY)"
            ),
        }
    }
}

impl std::error::Error for OutboundRefusal {}

/// Decides whether the local workload may connect to `target`; `generation` is that of the configuration that `index`
/// and the target's configuration belong to.
pub fn permit_outbound(
    index: &Index,
    generation: u64,
    target: OutboundTarget,
) -> Result<Permit, OutboundRefusal> {
    match target {
        OutboundTarget::Configured => Ok(Permit::new(generation)),
        OutboundTarget::Unknown(address)
            if index.mesh_ranges.iter().any(|range| range.contains(address)) =>
        {
            Err(OutboundRefusal::InsideMesh(address))
        }
        OutboundTarget::Unknown(address) => match index.unknown_destinations {
            UnknownDestinations::PassThrough => Ok(Permit::new(generation)),
            UnknownDestinations::Refuse => Err(OutboundRefusal::NotConfigured(address)),
        },
    }
}

#[cfg(test)]
mod tests {
    use heddle_ident::Cidr;

    use super::*;
    use UnknownDestinations::{PassThrough, Refuse};

    #[test]
    fn unknown_addresses_follow_the_egress_policy_but_never_inside_the_mesh() {
        let decide = |unknown_destinations, address: &str| {
            let mesh_ranges = vec![Cidr::parse("10.0.0.0/8").unwrap()];
            let index = Index { mesh_ranges, unknown_destinations, ..Index::default() };
            let address = address.parse().unwrap();
            permit_outbound(&index, 7, OutboundTarget::Unknown(address)).map(|p| p.generation())
        };
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(decide(PassThrough, "1.1.1.1"), Ok(7));
        assert_eq!(
            decide(PassThrough, "10.9.9.9"),
            Err(OutboundRefusal::InsideMesh(address("10.9.9.9")))
        );
        assert_eq!(
            decide(Refuse, "1.1.1.1"),
            Err(OutboundRefusal::NotConfigured(address("1.1.1.1")))
        );
        assert_eq!(
            decide(Refuse, "::ffff:10.0.0.1"),
            Err(OutboundRefusal::InsideMesh(address("::ffff:10.0.0.1")))
        );
        let index = Index { unknown_destinations: Refuse, ..Index::default() };
        assert!(permit_outbound(&index, 1, OutboundTarget::Configured).is_ok());
    }
}
