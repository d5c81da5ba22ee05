//! `heddle demo`: the sample application in a mesh on this machine, to be watched, or driven through every scene.
//!
//! This process is the mesh's broker, so that nothing is left behind however it ends.

mod mesh;
mod scenes;
mod statistics;
mod view;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::mesh::Mesh;
use self::scenes::SCENES;
use super::print::out;
use super::signals::stop_signal;
use super::state::{folder, runtime};
use super::up;
use crate::arguments::{DemoArguments, MeshArguments};

const BOOKINFO: &str = include_str!("../../../../examples/bookinfo.yaml");
const TRAFFIC: &str = include_str!("../../../../examples/traffic.yaml");
/// So short that the rotation scene sees 20 of them in a minute.
const CHECK_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(6);
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(24);

pub(crate) fn run(
    arguments_of_mesh: &MeshArguments,
    arguments: &DemoArguments,
) -> Result<ExitCode> {
    if let Some(wrong) = arguments.scenes.iter().find(|scene| !(1..=SCENES.len()).contains(scene)) {
        bail!("there is no scene {wrong}; they are numbered 1 to {}", SCENES.len());
    }
    let state = folder(arguments_of_mesh)?;
    let name = if arguments.check { "demo-check" } else { "demo" };
    let mesh = Mesh::new(name, &state)?;
    let directory = state.join(name);
    if let Some(pid) = mesh.client().state().running() {
        bail!("a demo runs already, process {pid}");
    }
    // A demo begins from nothing.
    let files = prepare(&directory)?;
    let certificate_lifetime =
        if arguments.check { CHECK_CERTIFICATE_LIFETIME } else { CERTIFICATE_LIFETIME };
    let publish_address = std::net::Ipv4Addr::LOCALHOST.into();
    let settings = up::Settings {
        certificate_lifetime,
        ca: None,
        publish_address,
        join_listen: None,
        svid_source: None,
    };
    let started = up::start(&directory, &settings)?;
    let result = runtime()?.block_on(async {
        let (told_to_stop, stop) = tokio::sync::oneshot::channel::<()>();
        let running = started.run(async move {
            let _ = stop.await;
        });
        tokio::pin!(running);
        let signal = stop_signal()?;
        let outcome = tokio::select! {
            ended = &mut running => return Err(up::ended_early(ended?, mesh.client())),
            () = signal => Ok(ExitCode::from(130)),
            outcome = play(&mesh, &files, arguments) => outcome,
        };
        drop(told_to_stop);
        running.await.context("the mesh did not stop in order")?;
        outcome
    });
    if result.is_ok() {
        // Its logs are worth something only where something went wrong.
        std::fs::remove_dir_all(&directory).context("cannot remove the demo's state")?;
    }
    result
}

fn prepare(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("cannot remove the last demo's state");
        }
        _ => {}
    }
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(directory).context("cannot make the demo's state directory")?;
    let files = [("bookinfo.yaml", BOOKINFO), ("traffic.yaml", TRAFFIC)];
    files
        .into_iter()
        .map(|(name, text)| {
            let path = directory.join(name);
            std::fs::write(&path, text).context("cannot write the demo's files")?;
            Ok(path)
        })
        .collect()
}

async fn play(mesh: &Mesh, files: &[PathBuf], arguments: &DemoArguments) -> Result<ExitCode> {
    let begun = Instant::now();
    up::bring_up(mesh.client(), &super::files::Sources::read(files)?, Duration::from_mins(1))
        .await?;
    out(&format!("ready after {:.1} s\n", begun.elapsed().as_secs_f64()))?;
    if arguments.check {
        return check(mesh, &arguments.scenes).await;
    }
    view::show(mesh, arguments.plain).await?;
    Ok(ExitCode::SUCCESS)
}

/// Every scene, a line each.
async fn check(mesh: &Mesh, wanted: &[usize]) -> Result<ExitCode> {
    let mut failed = 0;
    for (number, scene) in (1..).zip(&SCENES) {
        if !wanted.is_empty() && !wanted.contains(&number) {
            continue;
        }
        let begun = Instant::now();
        let outcome = (scene.run)(mesh).await;
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(seen) => out(&format!("ok   {number} {}: {seen} ({seconds:.1} s)\n", scene.title))?,
            Err(error) => {
                failed += 1;
                out(&format!("FAIL {number} {}: {error:#} ({seconds:.1} s)\n", scene.title))?;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} scenes failed; logs are in {}", mesh.client().state().logs().display());
    }
    Ok(ExitCode::SUCCESS)
}
