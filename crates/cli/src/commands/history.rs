//! `history` and `rollback`: what changed, when and by whom, and the way back.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::ControlApi;
use super::objects::{print_applied, wait_applied};
use super::print::{out, table};
use super::state::{client, runtime};
use crate::arguments::{HistoryArguments, MeshArguments, Output, RollbackArguments};

/// Objects named in a line of history.
const NAMED_MAX: usize = 3;

pub(crate) fn history(mesh: &MeshArguments, arguments: &HistoryArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    let path = format!("/v1/history?limit={}", arguments.limit);
    let answer = runtime()?.block_on(ControlApi::of(&client).get(&path))?;
    match arguments.output.output {
        Output::Text => {
            let mut rows = vec![["REVISION", "TIME", "BY", "CHANGE"].map(String::from).to_vec()];
            rows.extend(answer["revisions"].as_array().into_iter().flatten().map(row));
            out(&table(&rows))?;
        }
        Output::Json | Output::Yaml => out(&format!("{answer}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn row(step: &Value) -> Vec<String> {
    vec![
        step["revision"].to_string(),
        step["time"].as_str().unwrap_or("").to_owned(),
        step["by"].as_str().unwrap_or("").to_owned(),
        summary(step),
    ]
}

/// What a step did, in a line.
fn summary(step: &Value) -> String {
    let changes = step["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |change: &Value| {
        let text = |field: &str| change["key"][field].as_str().unwrap_or("").to_owned();
        let namespace = match text("namespace") {
            empty if empty.is_empty() => empty,
            namespace => format!("{namespace}/"),
        };
        let kind = change["change"].as_str().unwrap_or("");
        format!("{} {namespace}{} {kind}", text("kind"), text("name"))
    };
    let mut parts: Vec<String> = changes.iter().take(NAMED_MAX).map(named).collect();
    if changes.len() > NAMED_MAX {
        parts.push(format!("{} more", changes.len() - NAMED_MAX));
    }
    let note = step["note"].as_str().filter(|note| !note.is_empty());
    let note = note.map(|note| format!("{note}: ")).unwrap_or_default();
    format!("{note}{}", parts.join(", "))
}

pub(crate) fn rollback(mesh: &MeshArguments, arguments: &RollbackArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    runtime()?.block_on(async {
        let api = ControlApi::of(&client);
        let revision = if let Some(revision) = arguments.revision {
            revision
        } else {
            let history = api.get("/v1/history?limit=1").await?;
            let newest = history["revisions"][0]["revision"].as_u64();
            match newest.context("nothing was applied yet")? {
                0 => bail!("nothing was applied yet"),
                newest => newest - 1,
            }
        };
        let request =
            json!({"revision": revision, "dry_run": arguments.dry_run, "by": super::objects::person()});
        let answer = api.post("/v1/rollback", &request).await?;
        match arguments.output.output {
            Output::Text => {
                print_applied(&answer)?;
                if answer["results"].as_array().is_none_or(Vec::is_empty) {
                    out("nothing has changed since\n")?;
                }
            }
            Output::Json | Output::Yaml => out(&format!("{answer}\n"))?,
        }
        if !arguments.dry_run {
            wait_applied(&client, arguments.timeout).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_summed_up_in_a_line() {
        let change = |name: &str| json!({"key": {"kind": "Service", "namespace": "a", "name": name}, "change": "created"});
        let step = |count: usize| {
            let names = ["b", "c", "d", "e", "f"];
            json!({"note": "", "changes": names.iter().take(count).map(|n| change(n)).collect::<Vec<_>>()})
        };
        assert_eq!(summary(&step(1)), "Service a/b created");
        assert_eq!(
            summary(&step(5)),
            "Service a/b created, Service a/c created, Service a/d created, 2 more"
        );
        let back = json!({"note": "back to revision 3", "changes": [change("b")]});
        assert_eq!(summary(&back), "back to revision 3: Service a/b created");
    }
}
