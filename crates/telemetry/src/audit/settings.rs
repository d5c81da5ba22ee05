//! Where the audit log goes, as a user says it.

use std::io;
use std::path::PathBuf;

use super::{AuditLevel, AuditLog, RotatingFile, RotationSettings};
use crate::metrics::Registry;
use crate::{Sink, SinkGuard, SinkSettings};

/// Where the audit log of a process goes, and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditSettings {
    /// Which decisions are written.
    pub level: AuditLevel,
    /// To standard output.
    pub stdout: bool,
    /// Into a rotating file in this folder.
    pub folder: Option<PathBuf>,
    /// Bounds of that file.
    pub rotation: RotationSettings,
}

impl Default for AuditSettings {
    /// What must be accounted for, to standard output.
    fn default() -> Self {
        Self {
            level: AuditLevel::default(),
            stdout: true,
            folder: None,
            rotation: RotationSettings::default(),
        }
    }
}

/// A setting that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of `off`, `stdout`, `all` and an absolute path of a folder")]
pub struct AuditSettingError(pub String);

impl AuditSettings {
    /// Reads a list separated by commas: `off`, `stdout`, the absolute path of a folder, and `all` for allowed decisions
    /// too. `all` alone is `stdout,all`.
    pub fn parse(text: &str) -> Result<Self, AuditSettingError> {
        let mut settings = Self { stdout: false, ..Self::default() };
        let mut is_off = false;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "off" => is_off = true,
                "stdout" => settings.stdout = true,
                "all" => settings.level = AuditLevel::All,
                path if path.starts_with('/') => settings.folder = Some(PathBuf::from(path)),
                other => return Err(AuditSettingError(other.to_owned())),
            }
        }
        settings.stdout |= settings.folder.is_none();
        if is_off {
            settings.stdout = false;
            settings.folder = None;
        }
        Ok(settings)
    }

    /// Opens the log of a process of this name. The guards must live as long as records are to go out.
    pub fn open(&self, name: &str, registry: &Registry) -> io::Result<(AuditLog, Vec<SinkGuard>)> {
        let (mut sinks, mut guards) = (Vec::new(), Vec::new());
        if self.stdout {
            let (sink, guard) = Sink::spawn("audit", io::stdout(), SinkSettings::default())?;
            sinks.push(("stdout", sink));
            guards.push(guard);
        }
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder)?;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
            let path = folder.join(format!("audit-{name}.log"));
            let file = RotatingFile::open(path, self.rotation)?;
            let (sink, guard) = Sink::spawn("audit-file", file, SinkSettings::default())?;
            sinks.push(("file", sink));
            guards.push(guard);
        }
        Ok((AuditLog::new(self.level, sinks, Some(registry)), guards))
    }
}

#[cfg(test)]
mod tests {
    use heddle_diag::Origin;

    use super::*;
    use crate::metrics::RegistrySettings;

    #[test]
    fn settings_are_words_and_a_folder() {
        let of = |text: &str| {
            let settings = AuditSettings::parse(text).unwrap();
            (settings.level, settings.stdout, settings.folder)
        };
        let folder = Some(PathBuf::from("/var/log/x"));
        assert_eq!(of(""), (AuditLevel::Marked, true, None));
        assert_eq!(of("all"), (AuditLevel::All, true, None));
        assert_eq!(of("/var/log/x, all"), (AuditLevel::All, false, folder.clone()));
        assert_eq!(of("stdout,/var/log/x"), (AuditLevel::Marked, true, folder));
        assert_eq!(of("off,/var/log/x"), (AuditLevel::Marked, false, None));
        for text in ["on", "relative/path", "stdout;all"] {
            assert!(AuditSettings::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_writes_into_a_file_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("{}/new", directory.path().display());
        let settings = AuditSettings::parse(&text).unwrap();
        let registry = Registry::new(RegistrySettings::default());
        let (log, guards) = settings.open("standalone/Pod/a/../b-0", &registry).unwrap();
        let rule = Origin::built_in("x");
        log.write(&super::super::tests::record(&rule, "/"));
        drop(guards);
        let file = directory.path().join("new/audit-standalone_Pod_a_.._b-0.log");
        assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 1);
    }
}
