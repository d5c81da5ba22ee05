//! The mesh configuration.

object! {
    /// The mesh configuration.
    MeshConfig {
    }
}
