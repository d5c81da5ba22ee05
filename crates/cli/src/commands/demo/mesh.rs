//! The demo's hands: it uses a mesh through the commands that a user types, so that every scene can be
//! repeated by hand.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use heddle_sample::LoadSummary;
use heddle_standalone::status::MeshStatus;
use heddle_standalone::{CaptureReport, Client, StateDirectory};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::commands::workload::told;

/// The longest that any one command of the demo may take.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(5);

/// A running mesh and the program that speaks to it.
pub(crate) struct Mesh {
    program: PathBuf,
    name: String,
    state: PathBuf,
    client: Client,
}

/// What a command wrote.
pub(crate) struct Completed {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Mesh {
    /// The mesh `name` in the folder `state`, which need not run yet.
    pub(crate) fn new(name: &str, state: &Path) -> Result<Self> {
        let directory = StateDirectory::new(state.join(name));
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program")?,
            name: name.to_owned(),
            state: state.to_owned(),
            client: Client::new(directory.context("cannot use the state directory")?),
        })
    }

    /// The supervisor.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// `heddle --mesh NAME --state DIR ARGUMENTS…`
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--mesh").arg(&self.name).arg("--state").arg(&self.state).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end, whatever its exit status.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Completed> {
        let output = tokio::time::timeout(COMMAND_TIMEOUT, self.command(arguments).output())
            .await
            .with_context(|| format!("`heddle {}` did not end", arguments.join(" ")))?
            .with_context(|| format!("cannot run `heddle {}`", arguments.join(" ")))?;
        Ok(Completed {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub(crate) async fn must(&self, arguments: &[&str]) -> Result<String> {
        let completed = self.run(arguments).await?;
        ensure!(
            completed.success,
            "`heddle {}` failed: {}",
            arguments.join(" "),
            completed.stderr.trim()
        );
        Ok(completed.stdout)
    }

    /// Applies a text and waits until every proxy concerned has it.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<()> {
        self.with_text("apply", &["--wait"], yaml).await
    }

    /// Deletes the objects of a text.
    pub(crate) async fn delete(&self, yaml: &str) -> Result<()> {
        self.with_text("delete", &[], yaml).await
    }

    async fn with_text(&self, verb: &str, options: &[&str], yaml: &str) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        let mut arguments = vec![verb, "-f", "-"];
        arguments.extend(options);
        let mut child = self
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run heddle")?;
        let mut stdin = child.stdin.take().context("the command has no standard input")?;
        stdin.write_all(yaml.as_bytes()).await.context("cannot pass the objects")?;
        drop(stdin);
        let output = tokio::time::timeout(COMMAND_TIMEOUT, child.wait_with_output())
            .await
            .with_context(|| format!("`heddle {verb}` did not end"))??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`heddle {verb}` failed: {}", stderr.trim());
        Ok(())
    }

    /// Sends requests from inside a workload and counts the answers.
    pub(crate) async fn load(&self, workload: &str, arguments: &[&str]) -> Result<LoadSummary> {
        let mut words = vec!["exec", workload, "--", "heddle", "sample", "load", "-o", "json"];
        words.extend(arguments);
        let completed = self.run(&words).await?;
        summary(&completed.stdout).with_context(|| {
            format!("`heddle {}` gave no summary: {}", words.join(" "), completed.stderr.trim())
        })
    }

    /// One request from inside a workload.
    pub(crate) async fn request(
        &self,
        workload: &str,
        method: &str,
        url: &str,
    ) -> Result<LoadSummary> {
        self.load(workload, &["--count", "1", "--timeout", "5s", "-X", method, url]).await
    }

    /// How often the control plane was started again.
    pub(crate) async fn control_plane_restarts(&self) -> Result<u32> {
        Ok(self.client.status().await.map_err(told)?.control.restarts)
    }

    /// Kills the control plane and waits until another one answers.
    pub(crate) async fn kill_control_plane(&self) -> Result<()> {
        let before = self.control_plane_restarts().await?;
        self.client.kill_control().await.map_err(told)?;
        let what = "the control plane did not come back";
        let back = |status: &MeshStatus| status.control.ready && status.control.restarts > before;
        self.client.wait_until(Duration::from_secs(30), what, back).await.map_err(told)?;
        Ok(())
    }

    /// The IPv4 address of the only replica of a Deployment.
    pub(crate) async fn workload_address(&self, namespace: &str, owner: &str) -> Result<IpAddr> {
        let status = self.client.status().await.map_err(told)?;
        let mut workloads = status.workloads.iter();
        let workload =
            workloads.find(|workload| workload.namespace == namespace && workload.owner == owner);
        let addresses = workload.with_context(|| format!("no workload of {namespace}/{owner}"))?;
        let v4 = addresses.addresses.iter().find(|address| address.is_ipv4());
        v4.copied().with_context(|| format!("{namespace}/{owner} has no IPv4 address"))
    }

    /// What goes over the wire between workloads for a while.
    pub(crate) async fn capture(&self, time: Duration) -> Result<CaptureReport> {
        self.client.capture(time).await.map_err(told)
    }

    /// What the control plane says of certificates.
    pub(crate) async fn certificates(&self) -> Result<Value> {
        serde_json::from_str(&self.must(&["certs", "-o", "json"]).await?)
            .context("`heddle certs` printed no JSON")
    }

    /// Sends requests in the background until [`BackgroundLoad::stop`].
    pub(crate) fn background_load(
        &self,
        workload: &str,
        arguments: &[&str],
    ) -> Result<BackgroundLoad> {
        let mut words = vec!["exec", workload, "--", "heddle", "sample", "load", "-o", "json"];
        words.extend(arguments);
        let child = self
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run heddle")?;
        Ok(BackgroundLoad(child))
    }
}

/// Requests under way.
pub(crate) struct BackgroundLoad(Child);

impl BackgroundLoad {
    /// Stops sending and gives the count of all answers.
    pub(crate) async fn stop(self) -> Result<LoadSummary> {
        let pid = self.0.id().context("the load generator has ended by itself")?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::INT).context("cannot stop the load generator")?;
        let output = tokio::time::timeout(Duration::from_secs(30), self.0.wait_with_output())
            .await
            .context("the load generator did not stop")??;
        match summary(&String::from_utf8_lossy(&output.stdout)) {
            Some(summary) => Ok(summary),
            None => {
                bail!("no summary: {}", String::from_utf8_lossy(&output.stderr).trim())
            }
        }
    }
}

/// The last line that is a summary.
fn summary(stdout: &str) -> Option<LoadSummary> {
    stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}
