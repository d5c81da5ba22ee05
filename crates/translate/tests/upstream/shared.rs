//! Reads the optional test data beside the repository.

use std::path::PathBuf;

/// Where the data is; none, and a line that says so, where it is not.
#[expect(clippy::print_stdout, reason = "a test says why it skips")]
pub(crate) fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there (HEDDLE_SHARED names its folder)", path.display());
    None
}
