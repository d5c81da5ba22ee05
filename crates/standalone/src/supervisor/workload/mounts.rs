//! What a container sees of the file system: the host's, with the workload's own files in it and the mesh's
//! state out of it.
//!
//! Pure but for looking whether paths exist; `net` carries the mounts out. Their order matters: a source must
//! still be visible when it is shown elsewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use heddle_net::process::Mount;
use heddle_proto::node;

/// What hides the state directory holds nothing but a link.
const HIDING_BYTES_MAX: u64 = 64 * 1024;
/// `/dev/shm` of a container, as container runtimes give it.
const SHARED_MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where the name service cache daemon listens: it would answer with the host's view.
const NAME_CACHES: [&str; 2] = ["/run/nscd", "/var/run/nscd"];

/// Collects mounts in the order in which they are made.
pub(super) struct Mounts {
    list: Vec<Mount>,
    opened: BTreeSet<PathBuf>,
    /// Folders shown at places of their own, and whether they are the workload's.
    shown: Vec<(PathBuf, bool)>,
}

impl Mounts {
    /// What every container needs.
    pub(super) fn new() -> Self {
        // The kernel's settings of the workload's network are not the workload's to change.
        let settings = PathBuf::from("/proc/sys");
        let mut list = vec![
            Mount::Proc { target: "/proc".into() },
            Mount::Bind { source: settings.clone(), target: settings, read_only: true },
        ];
        let hidden = NAME_CACHES.map(Path::new).into_iter().filter(|path| !path.is_symlink());
        let covers = hidden.map(|path| (path, HIDING_BYTES_MAX));
        for (path, bytes_max) in covers.chain([(Path::new("/dev/shm"), SHARED_MEMORY_BYTES_MAX)]) {
            if path.is_dir() {
                list.push(Mount::Tmpfs { target: path.to_owned(), bytes_max });
            }
        }
        Self { list, opened: BTreeSet::new(), shown: Vec::new() }
    }

    /// Shows a file in place of one that the host has; nothing happens where it has none.
    pub(super) fn replace(&mut self, target: &Path, source: PathBuf) {
        if target.is_file() {
            let target = target.to_owned();
            self.list.push(Mount::Bind { source, target, read_only: true });
        }
    }

    /// Shows a folder at an absolute path, which need not be there. `own` says that it is the workload's and may
    /// be written to.
    pub(super) fn folder(
        &mut self,
        target: &Path,
        source: PathBuf,
        read_only: bool,
        own: bool,
    ) -> Result<(), String> {
        let target = absolute(target)?;
        if !target.is_dir() {
            self.open(&target)?;
            self.list.push(Mount::Folder { target: target.clone() });
        }
        self.shown.push((target.clone(), own));
        self.list.push(Mount::Bind { source, target, read_only });
        Ok(())
    }

    /// Puts a file at an absolute path, in place of what is there.
    pub(super) fn file(&mut self, file: &node::MountedFile) -> Result<(), String> {
        let target = absolute(Path::new(&file.path))?;
        match self.shown.iter().find(|(folder, _)| target.starts_with(folder)) {
            Some((_, true)) => {}
            Some((folder, false)) => {
                return Err(format!(
                    "the file {} would be written into the host's folder that is mounted at {}",
                    target.display(),
                    folder.display()
                ));
            }
            None => self.open(&target)?,
        }
        let (content, mode) = (file.content.clone(), file.mode);
        self.list.push(Mount::File { target, content, mode });
        Ok(())
    }

    /// Hides the state directory; below it, this program is found under its name. Where a volume covers it
    /// already, there is nothing to hide, and no place for a name.
    pub(super) fn finish(mut self, state: &Path, program: Option<&Path>) -> Vec<Mount> {
        if self.shown.iter().any(|(folder, _)| state.starts_with(folder)) {
            return self.list;
        }
        self.list.push(hide(state));
        if let Some(program) = program {
            let target = programs_below(state).join("heddle");
            self.list.push(Mount::Link { target, to: program.to_owned() });
        }
        self.list
    }

    /// Makes new entries possible in the nearest folder above a path that exists.
    fn open(&mut self, target: &Path) -> Result<(), String> {
        let above = target.ancestors().skip(1).find(|path| path.is_dir());
        let folder = above.unwrap_or(Path::new("/"));
        let folder = folder
            .canonicalize()
            .map_err(|error| format!("cannot make a place for {}: {error}", target.display()))?;
        if self.opened.insert(folder.clone()) {
            self.list.push(Mount::Open { folder });
        }
        Ok(())
    }
}

/// Covers the state directory.
pub(super) fn hide(state: &Path) -> Mount {
    Mount::Tmpfs { target: state.to_owned(), bytes_max: HIDING_BYTES_MAX }
}

/// The last folder of a container's `PATH`.
pub(super) fn programs_below(state: &Path) -> PathBuf {
    state.join("bin")
}

/// The path, when it is absolute and leads nowhere else.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path != Path::new("/") {
        Ok(path.components().collect())
    } else {
        Err(format!("{} is not a path that something can be mounted at", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> node::MountedFile {
        node::MountedFile { path: path.display().to_string(), content: vec![1], mode: 0o600 }
    }

    /// The mounts after those that every container has.
    fn added(mounts: Mounts) -> Vec<Mount> {
        mounts.list.into_iter().skip(Mounts::new().list.len()).collect()
    }

    #[test]
    fn places_are_made_once_in_the_nearest_folder_there_is() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().canonicalize().unwrap();
        let mut mounts = Mounts::new();
        mounts.file(&file(&root.join("new/a"))).unwrap();
        mounts.file(&file(&root.join("b"))).unwrap();
        mounts.folder(&root.join("c"), "/v".into(), false, true).unwrap();
        mounts.file(&file(&root.join("c/d"))).unwrap();
        let list = added(mounts);
        assert_eq!(list[0], Mount::Open { folder: root.clone() });
        let opens = list.iter().filter(|mount| matches!(mount, Mount::Open { .. })).count();
        assert_eq!((opens, list.len()), (1, 6), "{list:?}");
    }

    #[test]
    fn a_folder_of_the_host_is_not_written_to() {
        let host = tempfile::tempdir().unwrap();
        let mut mounts = Mounts::new();
        mounts.folder(host.path(), "/v".into(), false, false).unwrap();
        assert!(mounts.file(&file(&host.path().join("x"))).is_err());
        let list = added(mounts);
        assert_eq!(list.len(), 1, "what is there needs no place: {list:?}");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let mut mounts = Mounts::new();
        for path in ["relative", "/a/../b", "/", ""] {
            assert!(mounts.file(&file(Path::new(path))).is_err(), "{path}");
        }
    }

    #[test]
    fn the_state_is_hidden_last() {
        let list = Mounts::new().finish(Path::new("/s"), Some(Path::new("/p/heddle")));
        let [.., hidden, link] = list.as_slice() else { panic!() };
        assert_eq!(hidden, &hide(Path::new("/s")));
        let target = PathBuf::from("/s/bin/heddle");
        assert_eq!(link, &Mount::Link { target, to: "/p/heddle".into() });
        let mut covered = Mounts::new();
        covered.folder(Path::new("/"), "/v".into(), false, true).unwrap_err();
        covered.folder(Path::new("/tmp"), "/v".into(), false, true).unwrap();
        let list = covered.finish(Path::new("/tmp/s"), None);
        assert!(matches!(list.last(), Some(Mount::Bind { .. })), "{list:?}");
    }
}
