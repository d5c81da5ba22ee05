//! What a control plane elsewhere may decide about this machine: policy, addresses and names, and no command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_proto::node::handler::Action;
use heddle_proto::node::{DesiredState, RestartPolicy, TransportProtocol};

use crate::options::LocalWorkload;

impl LocalWorkload {
    /// What is left of a state: this workload with this machine's own application, behind its proxy.
    pub(super) fn restrict(&self, mut state: DesiredState) -> DesiredState {
        state.workloads.retain(|workload| workload.id == self.id);
        for workload in &mut state.workloads {
            let probe = workload.containers.first().and_then(|first| first.readiness_probe.clone());
            let is_command = |action: Option<&Action>| matches!(action, Some(Action::Exec(_)));
            let probe = probe.filter(|probe| {
                let action = probe.handler.as_ref().and_then(|handler| handler.action.as_ref());
                !is_command(action)
            });
            let mut container = self.application.container();
            container.readiness_probe = probe;
            workload.containers = vec![container];
            workload.init_containers.clear();
            workload.meshed = true;
            workload.gateway = false;
            workload.restart_policy = RestartPolicy::Always.into();
            workload.addresses = vec![self.address.to_string()];
            workload.published_ports.retain_mut(|port| {
                port.host_address = self.address.to_string();
                let number = u16::try_from(port.host_port).ok();
                port.host_port == port.workload_port
                    && port.protocol() == TransportProtocol::Tcp
                    && number.is_some_and(|number| {
                        self.ports.as_ref().is_none_or(|open| open.contains(&number))
                    })
            });
        }
        state.workload_ranges = vec![range_around(self.address)];
        state.names.clear();
        state.virtual_addresses.clear();
        state
    }
}

/// A range with the address in it, whose first address, the bridge's, is another one. Nothing is sent to the other
/// addresses of the range inside: the proxy takes every connection, and the host makes its own.
fn range_around(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            let prefix = (0..=31_u32).rev().find(|prefix| first_v4(bits, *prefix) != bits);
            let prefix = prefix.unwrap_or(0);
            format!("{}/{prefix}", Ipv4Addr::from_bits(bits & mask_v4(prefix)))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let mask = |prefix: u32| u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            let other = |prefix: &u32| (bits & mask(*prefix)) | 1 != bits;
            let prefix = (0..=127_u32).rev().find(other).unwrap_or(0);
            format!("{}/{prefix}", Ipv6Addr::from_bits(bits & mask(prefix)))
        }
    }
}

fn mask_v4(prefix: u32) -> u32 {
    u32::MAX.checked_shl(32 - prefix).unwrap_or(0)
}

fn first_v4(bits: u32, prefix: u32) -> u32 {
    (bits & mask_v4(prefix)) | 1
}

#[cfg(test)]
mod tests {
    use heddle_ident::Cidr;
    use heddle_proto::node::{
        Container, DesiredWorkload, ExecAction, Handler, Probe, PublishedPort,
    };

    use super::*;
    use crate::options::Application;

    #[test]
    fn the_bridge_has_another_address_than_the_machine() {
        for text in
            ["10.0.0.1", "192.168.1.1", "10.1.2.2", "10.1.2.3", "172.16.0.5", "fd00::1", "fd00::2"]
        {
            let address: IpAddr = text.parse().unwrap();
            let range = Cidr::parse(&range_around(address)).unwrap();
            assert!(range.contains(address), "{text}");
            let first = match range.network() {
                IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() | 1)),
                IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | 1)),
            };
            assert_ne!(first, address, "{text} in {range}");
        }
    }

    #[test]
    fn a_control_plane_runs_no_command_and_opens_no_port_that_the_owner_does_not_want() {
        let local = LocalWorkload {
            id: "vm".into(),
            address: "10.1.2.3".parse().unwrap(),
            application: Application {
                command: vec!["mine".into()],
                environment: Vec::new(),
                folder: "/".into(),
            },
            ports: Some(vec![8080]),
        };
        let theirs = Container {
            command: vec!["theirs".into()],
            readiness_probe: Some(Probe {
                handler: Some(Handler {
                    action: Some(Action::Exec(ExecAction { command: vec!["theirs".into()] })),
                }),
                ..Probe::default()
            }),
            ..Container::default()
        };
        let port = |number| PublishedPort {
            host_address: "0.0.0.0".into(),
            host_port: number,
            workload_port: number,
            ..PublishedPort::default()
        };
        let workload = |id: &str| DesiredWorkload {
            id: id.into(),
            containers: vec![theirs.clone(), theirs.clone()],
            init_containers: vec![theirs.clone()],
            published_ports: vec![port(8080), port(22)],
            addresses: vec!["127.0.0.1".into()],
            ..DesiredWorkload::default()
        };
        let state = DesiredState {
            workloads: vec![workload("vm"), workload("other")],
            ..DesiredState::default()
        };
        let restricted = local.restrict(state);
        assert!(!format!("{restricted:?}").contains("theirs"));
        let [own] = restricted.workloads.as_slice() else { panic!("{restricted:?}") };
        assert!(own.meshed);
        assert_eq!(own.addresses, ["10.1.2.3"]);
        let open: Vec<_> =
            own.published_ports.iter().map(|p| (p.host_address.as_str(), p.host_port)).collect();
        assert_eq!(open, [("10.1.2.3", 8080)]);
    }
}
