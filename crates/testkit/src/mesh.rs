//! A mesh under test.

use std::ffi::OsString;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Completed, LONG, PROGRAM_FOLDERS, Process, Running, user_namespace_members, wait_for};

const DOWN_TIMEOUT: Duration = Duration::from_secs(50);

/// A mesh in a state directory of its own, which may or may not run; taken down when dropped.
pub struct Mesh {
    program: PathBuf,
    /// What stands before the program, for example `setpriv` and its options.
    before: Vec<OsString>,
    name: String,
    folder: TempDir,
}

impl Mesh {
    /// A mesh that does not run yet.
    #[track_caller]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let folder = tempfile::Builder::new().prefix("heddle-").tempdir();
        let folder = folder.expect("a temporary folder");
        let number = folder.path().file_name().and_then(|name| name.to_str());
        let name = number.unwrap_or("mesh").trim_start_matches("heddle-").to_owned();
        Self { program: program.into(), before: Vec::new(), name: format!("t{name}"), folder }
    }

    /// The same, with every command run through another, such as `setpriv --reuid=65534 …`.
    #[must_use]
    pub fn through(mut self, before: &[&str]) -> Self {
        self.before = before.iter().map(OsString::from).collect();
        self
    }

    /// The folder that holds the state, and whatever a test puts beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state").join(&self.name)
    }

    /// `heddle ARGUMENTS…`, for this mesh.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.before.iter().cloned().chain([self.program.clone().into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        // On the command line and not in the environment, so that the process table tells whose a process is.
        command.args(words).arg("--state").arg(self.folder().join("state"));
        command.args(["--mesh", &self.name]).args(arguments);
        command.env("HOME", self.folder()).env("PATH", PROGRAM_FOLDERS).env("NO_COLOR", "1");
        command
    }

    /// Starts a command.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), "")
    }

    /// Runs a command to its end, whatever its exit code.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Completed {
        self.start(arguments).end()
    }

    /// Runs a command with a text as its standard input.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Completed {
        Running::start(self.command(arguments), input).end()
    }

    /// Runs a command that must succeed, and gives its standard output.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        self.run(arguments).success().stdout
    }

    /// `heddle up -d` with these objects.
    #[track_caller]
    pub fn up(&self, yaml: &str) -> Completed {
        self.run_with(&["up", "-d", "-f", "-"], yaml).success()
    }

    /// The same on an address of the loopback that is this mesh's alone, so that its ports meet nobody's.
    #[track_caller]
    pub fn up_alone(&self, yaml: &str) -> Completed {
        let address = self.loopback().to_string();
        self.run_with(&["up", "-d", "--publish-address", &address, "-f", "-"], yaml).success()
    }

    /// The address of [`Mesh::up_alone`].
    pub fn loopback(&self) -> Ipv4Addr {
        let mut hash = DefaultHasher::new();
        self.folder().hash(&mut hash);
        let [a, b, c, ..] = hash.finish().to_be_bytes();
        // Neither 127.0.0.0/16, where others listen, nor a broadcast address.
        Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))
    }

    /// Applies objects and waits until every proxy concerned has them.
    #[track_caller]
    pub fn apply(&self, yaml: &str) -> Completed {
        self.run_with(&["apply", "--wait", "-f", "-"], yaml).success()
    }

    /// Deletes objects and waits until every proxy concerned knows.
    #[track_caller]
    pub fn delete(&self, yaml: &str) -> Completed {
        self.run_with(&["delete", "-f", "-"], yaml).success()
    }

    /// Runs a command inside a workload.
    #[track_caller]
    pub fn exec(&self, workload: &str, command: &[&str]) -> Completed {
        self.start_exec(workload, command).end()
    }

    /// Starts a command inside a workload.
    #[track_caller]
    pub fn start_exec(&self, workload: &str, command: &[&str]) -> Running {
        let words: Vec<&str> = ["exec", workload, "--"].iter().chain(command).copied().collect();
        self.start(&words)
    }

    /// Sends requests from inside a workload with the sample's load generator: its summary as JSON.
    #[track_caller]
    pub fn load(&self, workload: &str, arguments: &[&str]) -> Value {
        self.start_load(workload, arguments).end().json()
    }

    /// Starts to send requests from inside a workload; SIGINT ends it, with the summary as JSON.
    #[track_caller]
    pub fn start_load(&self, workload: &str, arguments: &[&str]) -> Running {
        let words = ["heddle", "sample", "load", "-o", "json"];
        let words: Vec<&str> = words.iter().chain(arguments).copied().collect();
        self.start_exec(workload, &words)
    }

    /// `heddle status`: `processes` and `control`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(&["status", "-o", "json"]).json()
    }

    /// The status of the workloads of an owner (a Deployment, or the name of a Pod).
    #[track_caller]
    pub fn workloads(&self, owner: &str) -> Vec<Value> {
        let status = self.status();
        let all = status["processes"]["workloads"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|w| w["owner"] == owner || w["name"] == owner).collect()
    }

    /// Waits until the workloads of an owner are as they should be.
    #[track_caller]
    pub fn until(&self, owner: &str, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut last = Vec::new();
        let found = wait_for(LONG, || {
            last = self.workloads(owner);
            is(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{owner}: {what}: {last:#?}"))
    }

    /// The sum of what a workload's proxy counts under a name with all of these labels.
    #[track_caller]
    pub fn metric(&self, workload: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
        let text = self.must(&["metrics", workload]);
        let label = |(key, value): &(&str, &str)| format!("{key}=\"{value}\"");
        let labels: Vec<String> = labels.iter().map(label).collect();
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label.as_str())))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Every process of the running mesh but the broker, which is the host's.
    #[track_caller]
    pub fn processes(&self) -> Vec<Process> {
        let broker = self.broker().expect("the mesh runs");
        user_namespace_members(broker)
    }

    /// The mesh's process in the host's namespaces, whether it runs or ran.
    pub fn broker(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.state().join("run/lock")).ok()?;
        text.trim().parse().ok()
    }

    /// What helps to understand a failure.
    fn report(&self) -> String {
        let status = self.run(&["status"]);
        let read = |path: &str| std::fs::read_to_string(self.state().join("logs").join(path));
        let mut text = format!("{}{}", status.stdout, status.stderr);
        for log in ["mesh.log", "control/0.log"] {
            let whole = read(log).unwrap_or_default();
            let lines: Vec<&str> = whole.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
            text.push_str(&format!("--- {log}\n{}\n", tail.join("\n")));
        }
        text
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({})", self.name)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let Some(process) = self.broker().and_then(Process::of) else { return };
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.report().as_bytes());
        }
        let mut down = Running::start(self.command(&["down"]), "");
        let _ = wait_for(DOWN_TIMEOUT, || (!down.runs()).then_some(()));
        // The number in the lock may be another's by now: only a process that carries this mesh's state directory.
        let ours = process.words.contains(&self.name);
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| ours && process.runs()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
