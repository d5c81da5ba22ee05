//! HTTP connections and pools.
