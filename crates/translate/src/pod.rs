//! What the status of a Pod says; the kubelet, or the supervisor of a standalone mesh, writes it.

use std::net::IpAddr;

use heddle_api::{At, Written};

use crate::workloads::PodPhase;

/// The addresses of a pod, the primary one first.
pub(crate) fn addresses(written: &Written) -> Vec<IpAddr> {
    let tree = written.tree();
    let Some(status) = written.field(written.root(), "status") else { return Vec::new() };
    let primary = tree.field(status, "podIP").into_iter();
    let all = tree
        .field(status, "podIPs")
        .into_iter()
        .flat_map(|list| tree.children(list))
        .filter_map(|entry| tree.field(entry, "ip"));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in primary.chain(all).filter_map(|at| tree.text(at).parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Whether the condition `Ready` is true.
pub(crate) fn is_ready(written: &Written) -> bool {
    let tree = written.tree();
    let Some(status) = written.field(written.root(), "status") else { return false };
    let is = |at: Option<At>, text: &str| at.is_some_and(|at| &**tree.text(at) == text);
    tree.field(status, "conditions").into_iter().flat_map(|list| tree.children(list)).any(
        |condition| {
            is(tree.field(condition, "type"), "Ready")
                && is(tree.field(condition, "status"), "True")
        },
    )
}

/// Whether the pod has come to its end.
pub(crate) fn is_over(written: &Written) -> bool {
    matches!(phase(written), PodPhase::Failed | PodPhase::Succeeded)
}

/// Where the pod is in its life.
pub(crate) fn phase(written: &Written) -> PodPhase {
    let tree = written.tree();
    let phase = written
        .field(written.root(), "status")
        .and_then(|status| tree.field(status, "phase"))
        .map(|phase| &**tree.text(phase));
    match phase {
        Some("Failed") => PodPhase::Failed,
        Some("Pending") => PodPhase::Pending,
        Some("Succeeded") => PodPhase::Succeeded,
        _ => PodPhase::Running,
    }
}
