//! Which mesh a command speaks to: its state directory, by name.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use heddle_standalone::{Client, StateDirectory};

use crate::arguments::MeshArguments;
use crate::failure::hinted;

/// The folder of all meshes: `--state`, `$XDG_STATE_HOME/heddle`, `~/.local/state/heddle`.
pub(crate) fn folder(mesh: &MeshArguments) -> Result<PathBuf> {
    let absolute = |path: PathBuf| std::path::absolute(path).context("cannot find this directory");
    if let Some(state) = &mesh.state {
        return absolute(state.clone());
    }
    if let Some(base) = std::env::var_os("XDG_STATE_HOME").filter(|base| !base.is_empty()) {
        return absolute(PathBuf::from(base).join("heddle"));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => absolute(PathBuf::from(home).join(".local/state/heddle")),
        None => Err(hinted(
            anyhow::anyhow!("there is no place for the mesh's state"),
            "set HOME, or name a folder with --state",
        )),
    }
}

/// The state directory of the mesh.
pub(crate) fn directory(mesh: &MeshArguments) -> Result<PathBuf> {
    let name = &mesh.mesh;
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(valid) {
        bail!("{name:?} is no name for a mesh: letters, digits, - and _, at most 63");
    }
    Ok(folder(mesh)?.join(name))
}

/// A client of the mesh's supervisor.
pub(crate) fn client(mesh: &MeshArguments) -> Result<Client> {
    let directory = directory(mesh)?;
    let state = StateDirectory::new(directory).context("cannot use the state directory")?;
    Ok(Client::new(state))
}

/// The runtime of a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
}
