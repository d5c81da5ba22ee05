//! `apply`, `delete`, `get`, `wait`, `status`: what the control plane holds and says.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use heddle_api::Kind;
use heddle_standalone::Client;
use serde_json::{Value, json};

use super::api::{ControlApi, escape};
use super::files::Sources;
use super::kinds;
use super::print::{out, table};
use super::state::{client, runtime};
use super::up::why;
use super::workload::told;
use crate::arguments::{
    ApplyArguments, Condition, DeleteArguments, GetArguments, MeshArguments, Output,
    OutputArguments, WaitArguments,
};

fn files_of(sources: &Sources) -> Result<Vec<Value>> {
    sources
        .iter()
        .map(|(path, bytes)| {
            let text =
                std::str::from_utf8(bytes).with_context(|| format!("{path} is not UTF-8 text"))?;
            let size_bytes = sources.size_bytes(path);
            Ok(json!({"path": path, "folder": folder_of(path), "text": text, "size_bytes": size_bytes}))
        })
        .collect()
}

/// Who types this, for history.
pub(crate) fn person() -> String {
    let named = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    if named.is_empty() { format!("uid {}", rustix::process::getuid().as_raw()) } else { named }
}

/// Where the commands of a file start: its folder, or this one for standard input; empty where there is none.
fn folder_of(path: &str) -> String {
    let above = std::path::Path::new(path).parent().filter(|_| path != "-");
    let above = above.filter(|folder| !folder.as_os_str().is_empty());
    let folder = std::path::absolute(above.unwrap_or(std::path::Path::new(".")));
    folder.map(|folder| folder.display().to_string()).unwrap_or_default()
}

/// Applies files and prints a line per object and finding. What has an error gets its safe meaning and everything
/// else goes on; gives the number of objects that are not as written.
pub(crate) async fn apply_and_print(client: &Client, sources: &Sources) -> Result<usize> {
    let api = ControlApi::of(client);
    let request = json!({"files": files_of(sources)?, "keep_broken": true, "by": person()});
    let answer = api.post("/v1/objects", &request).await?;
    print_applied(&answer)?;
    let errors = answer["findings"].as_array().map_or(0, |findings| {
        findings.iter().filter(|finding| finding["level"] == "error").count()
    });
    if errors > 0 && answer["results"].as_array().is_none_or(Vec::is_empty) {
        bail!("the files hold nothing that can be applied");
    }
    Ok(errors.max(rejected(&answer)))
}

/// Whether the mesh has no objects; those of an earlier run are kept.
pub(crate) async fn is_empty(client: &Client) -> Result<bool> {
    let status = ControlApi::of(client).get("/v1/status").await?;
    Ok(status["objects"] == 0)
}

/// What a running mesh says of its objects: findings and outcomes, as `analyze -o json` prints them.
pub(crate) fn analysis_of_mesh(mesh: &MeshArguments) -> Result<Value> {
    let client = client(mesh)?;
    let answer = runtime()?.block_on(ControlApi::of(&client).get("/v1/objects"))?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let all = |field: &str| -> Vec<Value> {
        items.iter().filter_map(|item| item[field].as_array()).flatten().cloned().collect()
    };
    Ok(json!({"findings": all("findings"), "outcomes": all("outcomes")}))
}

/// What a running mesh says of requests: `{"answers": […], "texts": […]}`.
pub(crate) fn explain_of_mesh(mesh: &MeshArguments, requests: &[Value]) -> Result<Value> {
    let client = client(mesh)?;
    let body = json!({ "requests": requests });
    runtime()?.block_on(ControlApi::of(&client).post("/v1/explain", &body))
}

/// Whether every replica that shall run is ready, waiting for it as long as `patience`.
pub(crate) async fn ready_within(client: &Client, patience: Duration) -> Result<bool> {
    let path = format!("/v1/wait?for=ready&timeout_ms={}", patience.as_millis());
    ControlApi::of(client).reached(&path).await
}

/// Waits until every proxy concerned has acknowledged everything.
pub(crate) async fn wait_applied(client: &Client, timeout: Duration) -> Result<()> {
    wait_for(&ControlApi::of(client), "applied", timeout).await.map(drop)
}

fn rejected(answer: &Value) -> usize {
    let results = answer["results"].as_array();
    results
        .map_or(0, |results| results.iter().filter(|result| result["action"] == "rejected").count())
}

pub(crate) fn print_applied(answer: &Value) -> Result<()> {
    for finding in answer["findings"].as_array().into_iter().flatten() {
        out(&finding_text(finding))?;
    }
    for result in answer["results"].as_array().into_iter().flatten() {
        let text = |field: &str| result[field].as_str().unwrap_or("").to_owned();
        let namespace = match text("namespace") {
            empty if empty.is_empty() => String::new(),
            namespace => format!("{namespace}/"),
        };
        let kind = text("kind").to_lowercase();
        out(&format!("{kind} {namespace}{} {}\n", text("name"), text("action")))?;
    }
    Ok(())
}

/// A finding as the control plane's JSON has it, on a line or two.
pub(crate) fn finding_text(finding: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let origin = &finding["origin"];
    let mut line = format!(
        "{}[{}]: {}\n",
        text(&finding["level"]),
        text(&finding["code"]),
        text(&finding["message"])
    );
    let file = text(&origin["file"]);
    if !file.is_empty() {
        line.push_str(&format!("  --> {file}:{}:{}", origin["line"], origin["column"]));
        let namespace = match text(&origin["namespace"]) {
            empty if empty.is_empty() => empty,
            namespace => format!("{namespace}/"),
        };
        let named = format!("{namespace}{}", text(&origin["name"]));
        // A document that cannot be read is no object: then there is only the place.
        let subject = [text(&origin["kind"]), named, text(&origin["field"])];
        let subject: Vec<String> = subject.into_iter().filter(|part| !part.is_empty()).collect();
        if !subject.is_empty() {
            line.push_str(&format!("  {}", subject.join(" ")));
        }
        line.push('\n');
    }
    if let Some(hint) = finding["hint"].as_str() {
        line.push_str(&format!("hint: {hint}\n"));
    }
    line
}

pub(crate) fn apply(mesh: &MeshArguments, arguments: &ApplyArguments) -> Result<ExitCode> {
    let sources = Sources::read(&arguments.files)?;
    let client = client(mesh)?;
    runtime()?.block_on(async {
        let api = ControlApi::of(&client);
        let request =
            json!({"files": files_of(&sources)?, "dry_run": arguments.dry_run, "by": person()});
        let answer = api.post("/v1/objects", &request).await?;
        match arguments.output.output {
            Output::Text => print_applied(&answer)?,
            Output::Json | Output::Yaml => out(&format!("{answer}\n"))?,
        }
        if rejected(&answer) > 0 {
            return Ok(ExitCode::from(1));
        }
        if arguments.wait && !arguments.dry_run {
            wait_for(&api, "applied", arguments.timeout).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn delete(mesh: &MeshArguments, arguments: &DeleteArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    runtime()?.block_on(async {
        let api = ControlApi::of(&client);
        let request = match &arguments.kind {
            None => {
                json!({"files": files_of(&Sources::read(&arguments.files)?)?, "by": person()})
            }
            Some(kind) => {
                let kinds = kinds::find(kind)?;
                let mut objects = Vec::new();
                for name in &arguments.names {
                    let kind = one_of(&api, &kinds, &arguments.namespace, name).await?;
                    let namespace = if kind.namespaced { arguments.namespace.as_str() } else { "" };
                    objects.push(json!({
                        "group": kind.group, "kind": kind.kind, "namespace": namespace, "name": name,
                    }));
                }
                json!({"objects": objects, "by": person()})
            }
        };
        let answer = api.post("/v1/delete", &request).await?;
        print_applied(&answer)?;
        wait_for(&api, "applied", Duration::from_secs(30)).await?;
        let results = answer["results"].as_array().map_or(0, Vec::len);
        if results == 0 {
            bail!("there was nothing of that name");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Of kinds of one name the one that has this object: what is deleted must not be guessed.
async fn one_of(
    api: &ControlApi,
    kinds: &[&'static Kind],
    namespace: &str,
    name: &str,
) -> Result<&'static Kind> {
    let mut there = Vec::new();
    for &kind in kinds.iter().filter(|_| kinds.len() > 1) {
        let mut path =
            format!("/v1/objects?kind={}&group={}&name={}", kind.kind, kind.group, escape(name));
        if kind.namespaced {
            path.push_str(&format!("&namespace={}", escape(namespace)));
        }
        let answer = api.get(&path).await?;
        if answer["items"].as_array().is_some_and(|items| !items.is_empty()) {
            there.push(kind);
        }
    }
    match there.as_slice() {
        [first, second, ..] => {
            let either = [first, second]
                .map(|kind| format!("`{}.{}`", kind.plural, kind.group))
                .join(" or ");
            bail!("several groups have a {} of the name {name}: write {either}", first.kind)
        }
        [one] => Ok(one),
        [] => Ok(kinds[0]),
    }
}

async fn wait_for(api: &ControlApi, goal: &str, timeout: Duration) -> Result<Value> {
    let path = format!("/v1/wait?for={goal}&timeout_ms={}", timeout.as_millis());
    api.get(&path).await
}

pub(crate) fn wait(mesh: &MeshArguments, arguments: &WaitArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    let goal = match arguments.condition {
        Condition::Applied => "applied",
        Condition::Ready => "ready",
    };
    let reached =
        runtime()?.block_on(wait_for(&ControlApi::of(&client), goal, arguments.timeout))?;
    out(&format!("{goal}, revision {}\n", reached["revision"]))?;
    for rejection in reached["rejections"].as_array().into_iter().flatten() {
        out(&format!("warning: {}\n", rejection.as_str().unwrap_or("")))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn get(mesh: &MeshArguments, arguments: &GetArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    let mut query = Vec::new();
    if arguments.kind != "all" {
        let kinds = kinds::find(&arguments.kind)?;
        query.push(format!("kind={}", kinds[0].kind));
        if let [kind] = kinds.as_slice() {
            query.push(format!("group={}", kind.group));
        }
    }
    query.extend(arguments.namespace.iter().map(|text| format!("namespace={}", escape(text))));
    query.extend(arguments.name.iter().map(|text| format!("name={}", escape(text))));
    let path = format!("/v1/objects?{}", query.join("&"));
    let answer = runtime()?.block_on(ControlApi::of(&client).get(&path))?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    match arguments.output.output {
        Output::Json => out(&format!("{answer}\n"))?,
        Output::Yaml => {
            for item in &items {
                out(&kinds::yaml_of(item))?;
            }
        }
        Output::Text => out(&table(&object_rows(&items)))?,
    }
    if items.is_empty() && arguments.name.is_some() {
        bail!("there is no such object");
    }
    Ok(ExitCode::SUCCESS)
}

fn object_rows(items: &[Value]) -> Vec<Vec<String>> {
    let head = ["NAMESPACE", "KIND", "NAME", "OUTCOME", "FILE"].map(String::from).to_vec();
    let mut rows = vec![head];
    for item in items {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let count = |field: &str| item[field].as_array().map_or(0, Vec::len);
        let outcome = match (count("findings"), count("outcomes")) {
            (0, 0) => "applied".to_owned(),
            (0, fields) => format!("{fields} fields not as written"),
            (findings, _) => format!("{findings} findings"),
        };
        rows.push(vec![
            text(&item["namespace"]),
            text(&item["kind"]),
            text(&item["name"]),
            outcome,
            text(&item["file"]),
        ]);
    }
    rows
}

pub(crate) fn status(mesh: &MeshArguments, arguments: &OutputArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    runtime()?.block_on(async {
        let processes = client.status().await.map_err(told)?;
        let control = ControlApi::of(&client).get("/v1/status").await;
        if arguments.output != Output::Text {
            let control = control.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
            let all = json!({"processes": processes, "control": control});
            return out(&format!("{all}\n")).map(|()| ExitCode::SUCCESS);
        }
        let mut rows = vec![
            ["WORKLOAD", "STATE", "RESTARTS", "PROXY", "ADDRESSES", "WHY"]
                .map(String::from)
                .to_vec(),
        ];
        for workload in &processes.workloads {
            let proxy = match &workload.proxy {
                None => "none".to_owned(),
                Some(proxy) if proxy.ready => "ready".to_owned(),
                Some(proxy) => format!("{:?}", proxy.phase).to_lowercase(),
            };
            rows.push(vec![
                format!("{}/{}", workload.namespace, workload.name),
                if workload.ready {
                    "ready".to_owned()
                } else {
                    format!("{:?}", workload.phase).to_lowercase()
                },
                workload.restarts().to_string(),
                proxy,
                workload.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                if workload.ready { String::new() } else { why(workload) },
            ]);
        }
        out(&table(&rows))?;
        for line in super::up::published(&processes) {
            out(&format!("{}\n", line.unwrap_or_else(|error| format!("not open: {error}"))))?;
        }
        match control {
            Ok(control) => {
                let proxies = control["proxies"].as_array().map_or(0, Vec::len);
                let unsettled = control["unsettled"].as_array().cloned().unwrap_or_default();
                out(&format!(
                    "\ncontrol plane: revision {}, {} objects, {proxies} proxies connected, {}\n",
                    control["revision"],
                    control["objects"],
                    if unsettled.is_empty() {
                        "all have everything".to_owned()
                    } else {
                        format!("{} are behind", unsettled.len())
                    }
                ))?;
                for line in control["rejections"].as_array().into_iter().flatten().chain(&unsettled)
                {
                    out(&format!("  {}\n", line.as_str().unwrap_or("")))?;
                }
            }
            Err(error) => out(&format!("\ncontrol plane: {error:#}\n"))?,
        }
        let all_ready = processes.workloads.iter().all(|workload| workload.ready);
        Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::from(1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_start_in_the_folder_of_their_file() {
        let here = std::path::absolute(".").unwrap().display().to_string();
        assert_eq!(folder_of("/x/y/app.yaml"), "/x/y");
        assert_eq!(folder_of("-"), here);
        assert_eq!(folder_of("app.yaml"), here);
        assert_eq!(folder_of("deep/app.yaml"), format!("{here}/deep"));
    }

    #[test]
    fn a_finding_names_only_what_it_has() {
        let place = json!({"file": "x.yaml", "line": 2, "column": 5});
        let finding =
            json!({"level": "error", "code": "HED0001", "message": "not YAML", "origin": place});
        assert_eq!(finding_text(&finding), "error[HED0001]: not YAML\n  --> x.yaml:2:5\n");
        let place = json!({"file": "x.yaml", "line": 2, "column": 5, "kind": "Node", "name": "n"});
        let finding = json!({"level": "info", "code": "HED0104", "message": "m", "origin": place});
        assert_eq!(finding_text(&finding), "info[HED0104]: m\n  --> x.yaml:2:5  Node n\n");
    }
}
