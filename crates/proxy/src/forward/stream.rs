//! Streams that are not HTTP.
