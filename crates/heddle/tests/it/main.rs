//! The built program in real life: meshes of real processes with real clients, each in a state directory of its own.
//!
//! Nothing here needs root or a fixed port of the host. A test that lacks a program says so and passes, except where
//! `HEDDLE_TEST_NO_SKIPS` is set.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod real_servers;

use heddle_testkit::Mesh;

/// A mesh of the program that was built with these tests.
fn mesh() -> Mesh {
    Mesh::new(env!("CARGO_BIN_EXE_heddle"))
}
