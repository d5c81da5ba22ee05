//! HTTP/2 towards endpoints: one connection shared by many requests.

/// A connection that requests of one endpoint share.
pub struct SharedConnection {
    pub(crate) sender: h2::client::SendRequest<bytes::Bytes>,
}
