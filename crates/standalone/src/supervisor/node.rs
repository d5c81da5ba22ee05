//! The conversation with the control plane: what shall run comes in, what became of it goes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use heddle_proto::node::{DesiredState, WatchRequest};
use heddle_rpc::client::Connection;
use heddle_rpc::{Peer, Status};

use super::Services;
use crate::backoff::{Backoff, Limits};
use crate::status::report;

/// Changes of state that come close together are told together.
const GATHER: Duration = Duration::from_millis(10);
/// A report that is not answered by then means that the control plane is gone.
const REPORT_MAX: Duration = Duration::from_secs(10);

/// Keeps up the conversation for ever; what shall run stays as it is while the control plane is away.
pub(super) async fn run(services: Arc<Services>, desired: watch::Sender<Option<DesiredState>>) {
    let mut backoff = Backoff::new(Limits { longest: Duration::from_millis(400), ..Limits::OWN });
    loop {
        let begun = Instant::now();
        let peer = Peer::Node(services.options.node.clone());
        let ended = match Connection::open(&services.state.stream_socket(), &peer).await {
            Ok(connection) => tokio::select! {
                ended = receive(&services, &connection, &desired) => ended.map_err(|e| e.to_string()),
                ended = tell(&services, &connection) => ended.map_err(|e| e.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "no conversation with the control plane");
        }
        tokio::time::sleep(backoff.after_run(begun.elapsed())).await;
    }
}

async fn receive(
    services: &Services,
    connection: &Connection,
    desired: &watch::Sender<Option<DesiredState>>,
) -> Result<(), Status> {
    let request = WatchRequest {
        node: services.options.node.clone(),
        instance: services.board.snapshot().instance,
    };
    let mut states = connection.watch(request).await?;
    while let Some(state) = states.message().await? {
        let state = match &services.options.local {
            Some(local) => local.restrict(state),
            None => state,
        };
        desired.send_if_modified(|own| {
            let is_new = own.as_ref() != Some(&state);
            if is_new {
                *own = Some(state);
            }
            is_new
        });
    }
    Ok(())
}

async fn tell(services: &Services, connection: &Connection) -> Result<(), Status> {
    let mut changed = services.board.changed();
    let mut told = None;
    loop {
        changed.mark_unchanged();
        let current = report(&services.board.snapshot(), &services.options.node);
        if told.as_ref() != Some(&current) {
            let sent = tokio::time::timeout(REPORT_MAX, connection.report(current.clone())).await;
            sent.map_err(|_| Status::deadline_exceeded("a report is not answered"))??;
            told = Some(current);
        }
        if changed.changed().await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(GATHER).await;
    }
}
