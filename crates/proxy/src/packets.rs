//! Keeps the kernel's rules for packets that pass no proxy as the policies say: datagrams, ICMP, excluded ports.
//!
//! The proxy stands in the workload's own namespace and holds its policies, so nobody else needs to know them. A proxy that
//! may not change the namespace (an injected sidecar without privilege) leaves it to whoever owns it, and says so.

pub(crate) mod account;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_authz::{PacketDirection, packet_policy};
use heddle_ir::proxy::ProxyRole;
use heddle_net::interception::{DELIVERY_MARK, OwnPackets, PROXY_MARK, ProxyPorts};
use heddle_net::packet_filter::PacketFilter;
use tracing::{info, warn};

use self::account::{Accounts, Origins};
use crate::configuration::Configuration;
use crate::names::{LearnedNames, now_s};
use crate::snapshot::Snapshot;

/// Before another try when the kernel refused.
const PAUSE: Duration = Duration::from_secs(5);
/// Changes within this become one.
const SETTLE: Duration = Duration::from_millis(20);

/// Where rules are about names.
const NAMES_PERIOD: Duration = Duration::from_mins(1);

fn depends_on_names(configuration: &Configuration) -> bool {
    configuration.snapshot().egress.as_ref().is_some_and(|egress| egress.needs_names())
}

/// What is to be enforced, and where it was written; none while the policies have not come.
fn filter_of(snapshot: &Snapshot, names: &LearnedNames) -> Option<(PacketFilter, Origins)> {
    let settings = snapshot.settings.as_ref()?;
    let inbound = snapshot.inbound.as_ref()?;
    let learned = names.all(now_s());
    let (output, of_output) = settings
        .egress
        .as_ref()
        .and_then(|egress| packet_policy(egress, PacketDirection::Out, &learned))
        .unzip();
    // A gateway takes its clients' connections itself.
    let (input, of_input) = match settings.role {
        ProxyRole::Gateway => None,
        ProxyRole::Sidecar => {
            packet_policy(&inbound.inbound().authorization, PacketDirection::In, &[])
        }
    }
    .unzip();
    let origins =
        Origins { output: of_output.unwrap_or_default(), input: of_input.unwrap_or_default() };
    let filter = PacketFilter {
        own: OwnPackets::Mark(PROXY_MARK),
        delivery_mark: DELIVERY_MARK,
        ports: ProxyPorts::default(),
        output,
        input,
    };
    Some((filter, origins))
}

/// Enforces what each configuration says; never ends. `enforced` tells that what came first is in force, without which the
/// workload must not begin.
pub(crate) async fn enforce(
    configuration: Configuration,
    accounts: Arc<Accounts>,
    names: Arc<LearnedNames>,
    enforced: Arc<AtomicBool>,
) {
    let (mut changes, mut learned) = (configuration.changes(), names.changes());
    let mut installed = None;
    loop {
        changes.mark_unchanged();
        learned.mark_unchanged();
        let wanted = filter_of(&configuration.snapshot(), &names);
        if let Some(wanted) = wanted.filter(|wanted| installed.as_ref() != Some(wanted)) {
            let ((filter, origins), accounts) = (wanted.clone(), accounts.clone());
            let install = move || accounts.install(&filter, origins);
            let result = tokio::task::spawn_blocking(install).await;
            match result {
                Ok(Ok(())) => installed = Some(wanted),
                Ok(Err(error)) if wanted.0.is_empty() || error.is_not_permitted() => {
                    if !wanted.0.is_empty() {
                        let error = heddle_diag::error_chain(&error);
                        let hint = "whoever owns this network namespace must enforce policies on datagrams and ICMP";
                        warn!(error, hint, "packets that pass no proxy are not filtered here");
                    }
                    installed = Some(wanted);
                }
                Ok(Err(error)) => {
                    let error = heddle_diag::error_chain(&error);
                    warn!(error, "the kernel does not take the rules for packets; tried again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => {
                    warn!(%error, "the rules for packets were not installed; tried again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            if !enforced.swap(true, Ordering::Release) {
                info!("policies on packets are in force");
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = learned.changed() => {}
            // Names end to count without a sign.
            () = tokio::time::sleep(NAMES_PERIOD), if depends_on_names(&configuration) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}
