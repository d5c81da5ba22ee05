//! The embedded store of a standalone mesh: objects, history, authority keys.
