//! The config stream as state machines, both ends.
