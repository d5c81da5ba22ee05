//! A test harness that gives every test a fresh process.

use std::process::{Command, ExitCode, Stdio};

use heddle_net::namespace::{self, EnterError, Namespaces};

/// A test: its name, and what it does.
pub(crate) type Test = (&'static str, fn());

/// A part of a test that needs a process with one thread; its result is the exit code.
pub(crate) type Helper = (&'static str, fn() -> i32);

const SKIPPED: u8 = 77;

/// Runs what the arguments ask for, in the manner of the usual harness.
pub(crate) fn run(tests: &[Test], helpers: &[Helper]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--live") => live(tests, arguments.get(1).map_or("", String::as_str)),
        Some("--helper") => {
            let name = arguments.get(1).map_or("", String::as_str);
            let body = helpers.iter().find(|(known, _)| *known == name).expect("a known helper").1;
            std::process::exit(body())
        }
        Some(heddle_net::process::RUN_PLAN) => {
            let error = heddle_net::process::run_plan();
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        _ => all(tests, &arguments),
    }
}

fn all(tests: &[Test], arguments: &[String]) -> ExitCode {
    let list = arguments.iter().any(|argument| argument == "--list");
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| if exact { name == *f } else { name.contains(f.as_str()) })
    };
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| wanted(name)).collect();
    if list {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, _) in &chosen {
        let program = std::env::current_exe().expect("a running program has a path");
        let output = Command::new(program)
            .args(["--live", name])
            .stdin(Stdio::null())
            .output()
            .expect("this program can be started again");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Some(code) if code == i32::from(SKIPPED) => {
                skipped += 1;
                println!("test {name} ... ignored, {}", text.trim());
            }
            _ => {
                println!("test {name} ... FAILED ({})\n{text}", output.status);
                failed.push(*name);
            }
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished\n",
        failed.len(),
        tests.len() - chosen.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn live(tests: &[Test], name: &str) -> ExitCode {
    let Some((_, body)) = tests.iter().find(|(known, _)| *known == name) else {
        eprintln!("no test {name}");
        return ExitCode::FAILURE;
    };
    match namespace::enter_user_namespace() {
        Ok(()) => {}
        Err(error @ EnterError::Forbidden { .. }) => {
            println!("{error}: {}", error.hint().unwrap_or_default());
            return ExitCode::from(SKIPPED);
        }
        Err(error) => panic!("{error:?}"),
    }
    let wanted = Namespaces { mount: true, network: true, ..Namespaces::NONE };
    namespace::enter(wanted).expect("namespaces can be made in one's own user namespace");
    namespace::make_mounts_private().expect("mounts can be made private");
    // A test that hangs must not hang the run; the process and all it started end with it.
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_mins(1));
        eprintln!("the test took more than 60 s");
        std::process::exit(1);
    });
    body();
    ExitCode::SUCCESS
}

/// The command that runs a helper.
pub(crate) fn helper(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(["--helper", name]);
    command
}

/// Runs a future on a runtime of one thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(future)
}
