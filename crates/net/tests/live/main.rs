//! Tests against the kernel, inside a user namespace and network namespace of their own.
//!
//! Each test is a process: this program runs itself again with `--live NAME`, and that process enters
//! its namespaces while it has one thread. So root is not needed and nothing of the host is touched. A
//! host that forbids user namespaces has its tests skipped, with the reason printed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails says where")]

mod capture;
mod harness;
mod interception;
mod interception_inbound;
mod namespace;
mod netlink;
mod packet_filter;
mod process;
mod topology;

use harness::Test;

fn main() -> std::process::ExitCode {
    let tests: Vec<Test> = [
        namespace::TESTS,
        netlink::TESTS,
        interception::TESTS,
        interception_inbound::TESTS,
        packet_filter::TESTS,
        process::TESTS,
        capture::TESTS,
    ]
    .concat();
    harness::run(&tests, process::HELPERS)
}
