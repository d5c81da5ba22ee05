//! Streams that are not HTTP.

use std::time::Duration;

use heddle_http::Connection;
use heddle_http::copy::{Carried, TunnelError, tunnel};

/// Copies both ways until both sides have ended.
pub(crate) async fn copy(
    client: &mut Connection,
    server: &mut Connection,
    idle_timeout: Option<Duration>,
) -> (Carried, Result<(), TunnelError>) {
    let mut carried = Carried::default();
    let result = Box::pin(tunnel(client, server, idle_timeout, &mut carried)).await;
    (carried, result)
}
