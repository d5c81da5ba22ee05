//! rustls configuration, keys, certificate signing and verification.
