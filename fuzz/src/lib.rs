//! Fuzz targets: one function per parser that reads bytes of a peer or a user. Beside the layers.
//!
//! A target takes any bytes and panics when a promise of the parser is broken: not only must it not crash, what it
//! accepts must mean one thing, however the bytes arrive. The targets run in two ways: under libFuzzer
//! (`fuzz/libfuzzer`, its own workspace since it needs a nightly compiler), and in this crate's test with seeds and
//! mutations of them, so that a plain `cargo test` exercises each of them. Nothing here is part of the program.

#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a target says by a panic that a promise is broken")]

mod dns;
mod http1;
mod names;
mod paths;
mod resources;
mod sniffing;
mod yaml;

/// A target: its name, what it does, and inputs to begin from.
pub struct Target {
    /// As `cargo fuzz run` calls it.
    pub name: &'static str,
    /// Panics when the parser breaks a promise.
    pub run: fn(&[u8]),
    /// Inputs that reach deep.
    pub seeds: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "chunked_body", run: http1::chunked_body, seeds: http1::BODIES },
    Target { name: "client_hello", run: sniffing::client_hello, seeds: sniffing::SEEDS },
    Target { name: "dns_query", run: dns::query, seeds: dns::SEEDS },
    Target { name: "http1_request", run: http1::request, seeds: http1::REQUESTS },
    Target { name: "http1_response", run: http1::response, seeds: http1::RESPONSES },
    Target { name: "names", run: names::names, seeds: names::SEEDS },
    Target { name: "paths", run: paths::normalize, seeds: paths::SEEDS },
    Target { name: "resources", run: resources::decode, seeds: resources::SEEDS },
    Target { name: "sniff", run: sniffing::sniff, seeds: sniffing::SEEDS },
    Target { name: "yaml", run: yaml::read, seeds: yaml::SEEDS },
];

/// Runs the target of that name.
///
/// # Panics
///
/// When there is none, and when the target finds a promise broken.
pub fn run(name: &str, bytes: &[u8]) {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => (target.run)(bytes),
        None => panic!("no target is called {name}"),
    }
}
