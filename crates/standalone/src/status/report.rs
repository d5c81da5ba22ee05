//! The same facts as the control plane wants them (`heddle.node.v1`).

use heddle_proto::node;

use super::{MeshStatus, Phase, WorkloadStatus};

/// A complete report of everything.
pub(crate) fn report(status: &MeshStatus, node_name: &str) -> node::NodeReport {
    node::NodeReport {
        node: node_name.to_owned(),
        instance: status.instance.clone(),
        complete: true,
        workloads: status.workloads.iter().map(workload_report).collect(),
    }
}

/// One workload's part.
pub(super) fn workload_report(status: &WorkloadStatus) -> node::WorkloadReport {
    let containers = status.containers.iter().map(|container| node::ContainerReport {
        name: container.name.clone(),
        phase: phase(container.process.phase).into(),
        ready: container.process.ready,
        restarts: container.process.restarts,
        exit_code: container.process.exit_code,
        message: container.process.message.clone(),
    });
    let published = status.published.iter().filter(|port| port.error.is_none());
    node::WorkloadReport {
        id: status.id.clone(),
        uid: status.uid.clone(),
        phase: phase(status.phase).into(),
        ready: status.ready,
        restarts: status.restarts(),
        exit_code: status.containers.iter().rev().find_map(|c| c.process.exit_code),
        message: message(status),
        started_at_ms: status.started_at_ms,
        containers: containers.collect(),
        published_ports: published
            .map(|port| node::PublishedPort {
                host_address: port.host_address.to_string(),
                host_port: port.host_port.into(),
                workload_port: port.workload_port.into(),
                protocol: if port.udp {
                    node::TransportProtocol::Udp.into()
                } else {
                    node::TransportProtocol::Tcp.into()
                },
                service: port.service.clone(),
            })
            .collect(),
    }
}

/// The workload's own sentence, else the first that a part of it has.
fn message(status: &WorkloadStatus) -> String {
    let own = Some(&status.message);
    let proxy = status.proxy.as_ref().map(|proxy| &proxy.message);
    let containers = status.containers.iter().map(|container| &container.process.message);
    let published = status.published.iter().filter_map(|port| port.error.as_ref());
    let mut all = own.into_iter().chain(containers).chain(proxy).chain(published);
    all.find(|text| !text.is_empty()).cloned().unwrap_or_default()
}

fn phase(phase: Phase) -> node::Phase {
    match phase {
        Phase::BackOff => node::Phase::BackOff,
        Phase::Failed => node::Phase::Failed,
        Phase::Pending => node::Phase::Pending,
        Phase::Running => node::Phase::Running,
        Phase::Stopped => node::Phase::Stopped,
        Phase::Stopping => node::Phase::Stopping,
        Phase::Succeeded => node::Phase::Succeeded,
    }
}
