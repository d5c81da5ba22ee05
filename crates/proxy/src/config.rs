//! The control thread: keeps the config stream and the certificate, and publishes snapshots.
//!
//! The data plane only reads snapshots and notes what it lacks ([`Demands`]); compiling, decoding and waiting for the
//! control plane happen here. Nothing here forwards traffic.

mod application_tokens;
mod applications;
mod connector;
mod driver;
mod issue;
mod svid_source;

use heddle_ir::resource::ResourceName;
use tokio::sync::mpsc;

pub(crate) use connector::Connector;
pub(crate) use driver::{Driver, Setup};
pub(crate) use issue::FixedIssuer;

use crate::configuration::Demand;

/// Names asked for and not yet taken up. When it is full the control thread is behind, and who asked waits for its
/// bound and then fails.
const DEMANDS_MAX: usize = 1024;

/// The data plane's end of the queue of names that it lacks.
pub(crate) struct Demands(mpsc::Sender<ResourceName>);

impl Demands {
    /// The queue; the driver takes the other end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ResourceName>) {
        let (sender, receiver) = mpsc::channel(DEMANDS_MAX);
        (Self(sender), receiver)
    }
}

impl Demand for Demands {
    fn want(&self, name: ResourceName) {
        // Full or closed: the bound of the waiting request tells.
        let _ = self.0.try_send(name);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use heddle_ident::NetworkName;

    use super::*;

    #[test]
    fn so_many_names_wait_to_be_asked_for() {
        let (demands, mut wanted) = Demands::new();
        for number in 0..=u32::try_from(DEMANDS_MAX).unwrap() {
            let address = IpAddr::from(Ipv4Addr::from(number));
            demands.want(ResourceName::Workload(NetworkName::new(""), address));
        }
        let taken = std::iter::from_fn(|| wanted.try_recv().ok()).count();
        assert_eq!(taken, DEMANDS_MAX);
    }
}
