//! Permits for connections that the local workload opens.

use std::fmt;
use std::net::IpAddr;

use heddle_ir::index::{Index, UnknownDestinations};
use heddle_ir::request::{NoRequest, RequestHead};

use crate::connection::Connection;
use crate::decision::Denial;
use crate::egress::CompiledEgress;
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

/// Why the local workload gets no permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutboundDenial<'a> {
    /// A policy on what the workload does to others.
    Policy(Denial<'a>),
    /// What the index says of the destination.
    Refused(OutboundRefusal),
}

impl fmt::Display for OutboundDenial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(denial) => denial.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for OutboundDenial<'_> {}

/// What decides about connections that the local workload opens.
#[derive(Clone, Copy, Debug)]
pub struct OutboundPolicy<'a> {
    index: &'a Index,
    egress: Option<&'a CompiledEgress>,
    generation: u64,
}

impl<'a> OutboundPolicy<'a> {
    /// `egress` is compiled of the proxy's settings; `generation` is that of the configuration that all of it belongs to.
    pub fn new(index: &'a Index, egress: Option<&'a CompiledEgress>, generation: u64) -> Self {
        Self { index, egress, generation }
    }

    /// Whether anything can be reached there at all. It grants nothing: every permit asks again.
    pub fn admits(&self, target: OutboundTarget) -> Result<(), OutboundRefusal> {
        match target {
            OutboundTarget::Configured => Ok(()),
            OutboundTarget::Unknown(address)
                if self.index.mesh_ranges.iter().any(|range| range.contains(address)) =>
            {
                Err(OutboundRefusal::InsideMesh(address))
            }
            OutboundTarget::Unknown(address) => match self.index.unknown_destinations {
                UnknownDestinations::PassThrough => Ok(()),
                UnknownDestinations::Refuse => Err(OutboundRefusal::NotConfigured(address)),
            },
        }
    }

    /// Decides whether a stream that is not HTTP may go on to where `connection` leads, which is looked at only where there
    /// are policies.
    pub fn permit_stream(
        &self,
        target: OutboundTarget,
        connection: impl FnOnce() -> Connection,
    ) -> Result<Permit, OutboundDenial<'a>> {
        self.permit(target, connection, None::<&NoRequest>)
    }

    /// Decides whether a request may go on to where `connection` leads.
    pub fn permit_request(
        &self,
        target: OutboundTarget,
        connection: impl FnOnce() -> Connection,
        request: &impl RequestHead,
    ) -> Result<Permit, OutboundDenial<'a>> {
        self.permit(target, connection, Some(request))
    }

    /// Decides about what the proxy itself asks for because it is configured to. Policies on the workload are not about that.
    pub fn permit_unjudged(&self, target: OutboundTarget) -> Result<Permit, OutboundRefusal> {
        self.admits(target).map(|()| Permit::new(self.generation))
    }

    fn permit<R: RequestHead>(
        &self,
        target: OutboundTarget,
        connection: impl FnOnce() -> Connection,
        request: Option<&R>,
    ) -> Result<Permit, OutboundDenial<'a>> {
        self.admits(target).map_err(OutboundDenial::Refused)?;
        if let Some(egress) = self.egress {
            let connection = connection();
            let decided = match request {
                Some(request) => egress.decide_request(&connection, request),
                None => egress.decide_stream(&connection),
            };
            decided.map_err(OutboundDenial::Policy)?;
        }
        Ok(Permit::new(self.generation))
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
            OutboundPolicy::new(&index, None, 7).admits(OutboundTarget::Unknown(address))
        };
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(decide(PassThrough, "1.1.1.1"), Ok(()));
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
        let policy = OutboundPolicy::new(&index, None, 7);
        let unasked = || panic!("there are no policies that would look at it");
        let permit = policy.permit_stream(OutboundTarget::Configured, unasked);
        assert_eq!(permit.map(|permit| permit.generation()), Ok(7));
        let unknown = OutboundTarget::Unknown(address("1.1.1.1"));
        assert!(policy.permit_stream(unknown, unasked).is_err());
    }
}
