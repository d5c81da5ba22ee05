//! Files and folders that a person names with `-f`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heddle_api::Limits;

use crate::failure::hinted;

/// Files in one folder tree, at most; a wrong folder (`-f /`) shall not be read to its end.
const FILES_MAX: usize = 10_000;

/// Texts by the path that the person knows them by, in the order in which they were named.
pub(crate) struct Sources(Vec<SourceFile>);

struct SourceFile {
    path: String,
    /// Not more than is read of any file.
    bytes: Vec<u8>,
    /// Of the whole file.
    size_bytes: u64,
}

impl Sources {
    /// Reads what `-f` names: files as they are, folders with every `.yaml`, `.yml` and `.json` below them, `-`
    /// for standard input. One byte more than the limit is read of a longer file, so that `api` refuses it.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut sources: Vec<SourceFile> = Vec::new();
        let mut add = |path: String, bytes: Vec<u8>, size_bytes: u64| {
            // A file that is named twice is one file, and comes last.
            sources.retain(|known| known.path != path);
            sources.push(SourceFile { path, bytes, size_bytes });
        };
        for path in paths {
            if path.as_os_str() == "-" {
                let bytes =
                    bounded(std::io::stdin().lock()).context("cannot read standard input")?;
                let size_bytes = bytes.len() as u64;
                add("-".to_owned(), bytes, size_bytes);
                continue;
            }
            let mut files = Vec::new();
            collect(path, &mut files, true)?;
            if files.is_empty() {
                bail!("{} has no .yaml, .yml or .json file", path.display());
            }
            for file in files {
                let (bytes, size_bytes) = std::fs::File::open(&file)
                    .and_then(|file| {
                        let size_bytes = file.metadata()?.len();
                        Ok((bounded(file)?, size_bytes))
                    })
                    .with_context(|| format!("cannot read {}", file.display()))?;
                add(file.display().to_string(), bytes, size_bytes);
            }
        }
        Ok(Self(sources))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|file| (file.path.as_str(), file.bytes.as_slice()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a file, for excerpts.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(&self.file(path)?.bytes).ok()
    }

    /// How long a file is, of which only the beginning may have been read.
    pub(crate) fn size_bytes(&self, path: &str) -> u64 {
        self.file(path).map_or(0, |file| file.size_bytes)
    }

    fn file(&self, path: &str) -> Option<&SourceFile> {
        self.0.iter().find(|file| file.path == path)
    }
}

fn bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let limit = u64::try_from(Limits::default().file_bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, named: bool) -> Result<()> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // A broken link inside a folder is not what the person asked for.
        Err(_) if !named => return Ok(()),
        Err(error) => {
            let error =
                anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
            return Err(hinted(error, "-f takes a file, a folder, or - for standard input"));
        }
    };
    if metadata.is_dir() {
        let mut entries = std::fs::read_dir(path)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>()
            })
            .with_context(|| format!("cannot read the folder {}", path.display()))?;
        entries.sort();
        for entry in entries {
            collect(&entry, files, false)?;
        }
        return Ok(());
    }
    let object_file = path
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
    if named || object_file {
        if files.len() >= FILES_MAX {
            bail!("more than {FILES_MAX} files below the folder");
        }
        files.push(path.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_object_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "notes.txt"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/d.yaml"), "{}").unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("broken.yaml")).unwrap();
        let sources = Sources::read(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = sources
            .iter()
            .map(|(path, _)| path.strip_prefix(folder.path().to_str().unwrap()).unwrap())
            .collect();
        assert_eq!(names, ["/a.yaml", "/b.yml", "/c.json", "/deep/d.yaml"]);
        assert!(Sources::read(&[folder.path().join("absent.yaml")]).is_err());
    }
}
