//! The `heddle` binary: arguments and exit codes are `cli`'s, the allocator is chosen here.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    heddle_cli::main()
}
