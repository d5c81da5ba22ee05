//! Issuing, renewing and rotating certificates and trust bundles, as state machines.
