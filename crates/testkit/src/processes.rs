//! Processes of this machine, told apart by more than their number.

use std::fs;
use std::path::Path;

/// A process: its id and the time it was started, since ids are used again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    started: String,
    /// Its command line, for messages.
    pub words: String,
}

impl Process {
    /// The process of an id; none when there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may hold anything but ends with the last parenthesis: state is field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        let started = (*fields.get(19)?).to_owned();
        let words = fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        Some(Self { pid, started, words })
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }
}

/// All processes in the user namespaces that the children of `parent` have made: everything that a mesh runs.
pub fn user_namespace_members(parent: u32) -> Vec<Process> {
    let own = user_namespace(std::process::id());
    let made: Vec<String> = children(parent)
        .into_iter()
        .filter_map(user_namespace)
        .filter(|namespace| Some(namespace) != own.as_ref())
        .collect();
    all()
        .filter(|pid| user_namespace(*pid).is_some_and(|namespace| made.contains(&namespace)))
        .filter_map(Process::of)
        .collect()
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn user_namespace(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
