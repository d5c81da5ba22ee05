//! Reads objects, and the optional test data beside the repository.

use std::path::PathBuf;

use heddle_api::Reader;
use heddle_explain::{Answer, Query, World};
use heddle_translate::Options;

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

/// What a mesh would make of texts, by their paths.
pub(crate) fn world(texts: &[(&str, &str)]) -> World {
    let mut objects = Vec::new();
    for (path, text) in texts {
        objects.extend(Reader::default().read_file(path, text.as_bytes()).resources);
    }
    World::new(objects, Options::default())
}

/// A request, as `from`, `to`, and method and path.
pub(crate) fn query(from: &str, to: &str, request: &str) -> Query {
    let mut query = Query { from: from.to_owned(), to: to.to_owned(), ..Query::default() };
    if let Some((method, path)) = request.split_once(' ') {
        query.method = Some(method.to_owned());
        query.path = Some(path.to_owned());
    }
    query
}

pub(crate) fn ask(world: &World, from: &str, to: &str, request: &str) -> Answer {
    world.explain(&query(from, to, request)).unwrap()
}

/// A header.
pub(crate) fn with(mut query: Query, name: &str, value: &str) -> Query {
    query.headers.push((name.to_owned(), value.to_owned()));
    query
}
