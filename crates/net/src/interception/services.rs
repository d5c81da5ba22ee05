//! Virtual addresses of services that no proxy takes care of: all of a workload that has none, and of every workload those
//! of UDP.
//!
//! As in a cluster without a mesh: the kernel puts an endpoint in the place of the virtual address, drawn at random for
//! each connection, or for what one socket sends to the address as long as it does.

use std::net::SocketAddr;

use super::InterceptionError;
use crate::namespace::NetworkNamespace;
use crate::nftables::{Batch, Chain, ChainKind, Hook, Policy, Rule, TCP, UDP};

const TABLE: &str = "heddle-services";
/// At most so many endpoints in all; what comes later is left out.
pub const SERVICE_ENDPOINTS_MAX: usize = 1024;

/// A port of a service and who answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// What clients connect to.
    pub address: SocketAddr,
    /// Where they get; of the same family. None: connections find nobody.
    pub endpoints: Vec<SocketAddr>,
    /// Whether it is one of UDP; else of TCP.
    pub udp: bool,
}

/// Makes connections of a namespace to these addresses go to their endpoints, in place of what an earlier call said.
/// Connections that are open stay where they are.
///
/// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
pub fn serve_virtual_addresses(
    addresses: &[VirtualAddress],
    namespace: &NetworkNamespace,
) -> Result<(), InterceptionError> {
    let mut batch = Batch::new();
    batch.remove_table(TABLE);
    batch.add_table(TABLE);
    batch.add_chain(TABLE, &chain(addresses));
    batch.commit(namespace).map_err(|source| InterceptionError::Rules {
        action: "install the addresses of services",
        namespace: namespace.clone(),
        source,
    })
}

fn chain(addresses: &[VirtualAddress]) -> Chain {
    let mut rules = Vec::new();
    for VirtualAddress { address, endpoints, udp } in addresses {
        let protocol = if *udp { UDP } else { TCP };
        let same = |endpoint: &&SocketAddr| endpoint.is_ipv4() == address.is_ipv4();
        let mut left = u32::try_from(endpoints.iter().filter(same).count()).unwrap_or(0);
        for endpoint in endpoints.iter().filter(same) {
            // Each takes its share of what those before it have left: all get the same in the end.
            let rule = Rule::new().protocol(protocol).destination_address(address.ip());
            let rule = rule.destination_port(address.port());
            let rule = if left > 1 { rule.one_of(left) } else { rule };
            rules.push(rule.redirected_to(*endpoint));
            left -= 1;
        }
    }
    rules.truncate(SERVICE_ENDPOINTS_MAX);
    Chain {
        name: "services",
        kind: ChainKind::Nat,
        hook: Hook::Output,
        priority: Chain::PRIORITY_NAT,
        policy: Policy::Accept,
        rules,
    }
}
