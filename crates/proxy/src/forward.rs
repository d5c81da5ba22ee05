//! Moving requests and streams once it is decided where they go.

pub(crate) mod answer;
pub(crate) mod attempts;
pub(crate) mod bridge;
pub(crate) mod client;
pub(crate) mod copies;
mod either;
pub(crate) mod exchange;
pub(crate) mod http2;
pub(crate) mod http2_attempts;
pub(crate) mod http2_client;
pub(crate) mod retries;
pub(crate) mod stream;
pub(crate) mod upgraded;
pub(crate) mod watch;
