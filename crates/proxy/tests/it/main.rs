//! A pair of proxies with real sockets between a client and a server that the tests play.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod access_log;
mod attacks;
mod authority;
mod authorizers;
mod changes;
mod desync;
mod desync_http2;
mod egress;
mod endpoints;
mod ends;

mod events;
mod gateway;
mod gateway_tls;
mod harness;
mod health;
mod http1;
mod http2;
mod impostors;
mod limits;
mod limits_http2;
mod limits_inside;
mod origination;
mod rate_limits;
mod raw_http2;
mod recorder;
mod resilience;
mod revocation;
mod stream;
mod support;
mod tokens;
mod upgraded;
