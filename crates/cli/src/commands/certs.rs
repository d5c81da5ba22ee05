//! `certs`: every certificate, the roots, and their rotation.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::api::ControlApi;
use super::print::{out, table};
use super::state::{client, runtime};
use crate::arguments::{
    CertsArguments, CertsCommand, FederateArguments, MeshArguments, Output, RevokeArguments,
    TokenArguments, TokenCommand,
};

/// So much of a root's id is shown beside certificates.
const ROOT_SHOWN: usize = 12;

pub(crate) fn certs(mesh: &MeshArguments, arguments: &CertsArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    runtime()?.block_on(async {
        let api = ControlApi::of(&client);
        if let Some(command) = &arguments.command {
            return carry_out(&api, command).await;
        }
        if arguments.rotate_root {
            let rotated = api.post("/v1/authority/rotate", &json!({})).await?;
            out(&format!("new root {}\n", rotated["root"].as_str().unwrap_or("")))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(root) = &arguments.retire_root {
            api.post("/v1/authority/retire", &json!({"root": root})).await?;
            out(&format!("root {root} is removed\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let answer = api.get("/v1/certs").await?;
        match arguments.output.output {
            Output::Text => out(&text_of(&answer))?,
            Output::Json | Output::Yaml => out(&format!("{answer}\n"))?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn carry_out(api: &ControlApi, command: &CertsCommand) -> Result<ExitCode> {
    match command {
        CertsCommand::Federate(arguments) => federate(api, arguments).await,
        CertsCommand::Revoke(arguments) => revoke(api, arguments).await,
        CertsCommand::Token(TokenCommand::Create(arguments)) => create_token(api, arguments).await,
    }
}

async fn federate(api: &ControlApi, arguments: &FederateArguments) -> Result<ExitCode> {
    let pem = match &arguments.file {
        None => String::new(),
        Some(file) if file.as_os_str() == "-" => {
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
        }
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?,
    };
    if pem.trim().is_empty() && !arguments.remove {
        anyhow::bail!("the file is empty; --remove ends the trust in {}", arguments.domain);
    }
    let body = json!({"domain": arguments.domain, "pem": pem});
    let answer = api.post("/v1/authority/federate", &body).await?;
    let count = answer["roots"].as_array().map_or(0, Vec::len);
    let domain = &arguments.domain;
    out(&match count {
        0 => format!("{domain} is not trusted any more\n"),
        count => format!("{domain} is trusted by {count} roots\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(api: &ControlApi, arguments: &RevokeArguments) -> Result<ExitCode> {
    let body = match (&arguments.serial, &arguments.workload) {
        (Some(serial), _) => json!({"serial": serial}),
        (None, workload) => json!({"workload": workload}),
    };
    let answer = api.post("/v1/authority/revoke", &body).await?;
    for serial in answer["revoked"].as_array().into_iter().flatten() {
        out(&format!("{} is revoked\n", serial.as_str().unwrap_or("")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_token(api: &ControlApi, arguments: &TokenArguments) -> Result<ExitCode> {
    let lifetime_ms = u64::try_from(arguments.ttl.as_millis()).unwrap_or(u64::MAX);
    let body = json!({"for": arguments.account, "lifetime_ms": lifetime_ms});
    let answer = api.post("/v1/authority/token", &body).await?;
    let text = |name: &str| answer[name].as_str().unwrap_or("").to_owned();
    match arguments.output.output {
        // Alone on standard output, so that it can be piped.
        Output::Text => {
            out(&format!("{}\n", text("token")))?;
            eprintln!("good once, for {}, until {}", text("identity"), text("expires"));
            eprintln!("{}", how_to_join(&arguments.account, &answer));
        }
        Output::Json | Output::Yaml => out(&format!("{answer}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What to do with a token.
fn how_to_join(account: &str, answer: &Value) -> String {
    let Some(port) = answer["port"].as_str() else {
        return "hint: machines reach this mesh once it is started with --join-listen ADDRESS:PORT"
            .to_owned();
    };
    let root = answer["root"].as_str().unwrap_or("");
    format!(
        "heddle agent --control-plane {port} --ca-sha256 {root} --for {account} --workload-group GROUP --address ADDRESS --token-file FILE -- COMMAND"
    )
}

/// The answer of the control plane for people.
fn text_of(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let rows = |list: &Value, row: &dyn Fn(&Value) -> Vec<String>| -> Vec<Vec<String>> {
        list.as_array().into_iter().flatten().map(row).collect()
    };
    let mut shown = format!(
        "trust domain {}, bundle generation {}, {} certificates issued, rotation: {}",
        text(&answer["trust_domain"]),
        answer["generation"],
        answer["issued"],
        text(&answer["rotation"]["stage"])
    );
    if let Some(waiting) = answer["waiting"].as_u64().filter(|waiting| *waiting > 0) {
        shown.push_str(&format!(", waiting for {waiting} proxies"));
    }
    shown.push_str("\n\n");
    let mut roots =
        vec![["ROOT", "NOT BEFORE", "NOT AFTER", "DAYS LEFT", "SIGNS"].map(String::from).to_vec()];
    roots.extend(rows(&answer["roots"], &|root| {
        let signs = if root["signs"] == true { "yes" } else { "no" };
        vec![
            text(&root["id"]),
            text(&root["not_before"]),
            text(&root["not_after"]),
            root["days_left"].to_string(),
            signs.to_owned(),
        ]
    }));
    shown.push_str(&table(&roots));
    shown.push_str(&others_of(answer));
    let head =
        ["WORKLOAD", "IDENTITY", "SERIAL", "NOT BEFORE", "NOT AFTER", "LEFT", "ROOT", "BUNDLE"];
    let mut leaves = vec![head.map(String::from).to_vec()];
    leaves.extend(rows(&answer["certificates"], &|leaf| {
        let workload = text(&leaf["workload"]);
        let name = workload.split_once("/Pod/").map_or(&*workload, |(_, name)| name);
        vec![
            name.to_owned(),
            text(&leaf["identity"]),
            text(&leaf["serial"]),
            text(&leaf["not_before"]),
            text(&leaf["not_after"]),
            left(leaf["minutes_left"].as_u64().unwrap_or(0)),
            text(&leaf["issuer"]).chars().take(ROOT_SHOWN).collect(),
            leaf["bundle_generation"].to_string(),
        ]
    }));
    if leaves.len() > 1 {
        shown.push('\n');
        shown.push_str(&table(&leaves));
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        shown.push_str(&format!("\nwarning: {}\n", text(warning)));
    }
    shown
}

/// Tables of what there is only in some meshes.
fn others_of(answer: &Value) -> String {
    const TABLES: [(&str, &[(&str, &str)]); 4] = [
        (
            "intermediates",
            &[
                ("INTERMEDIATE", "id"),
                ("NOT BEFORE", "not_before"),
                ("NOT AFTER", "not_after"),
                ("DAYS LEFT", "days_left"),
            ],
        ),
        (
            "trusted",
            &[
                ("TRUST DOMAIN", "trust_domain"),
                ("ROOT", "id"),
                ("NOT AFTER", "not_after"),
                ("DAYS LEFT", "days_left"),
            ],
        ),
        ("revoked", &[("REVOKED", "serial"), ("NOT AFTER", "not_after")]),
        (
            "tokens",
            &[
                ("JOIN TOKEN", "id"),
                ("IDENTITY", "identity"),
                ("EXPIRES", "expires"),
                ("STATE", "state"),
            ],
        ),
    ];
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut shown = String::new();
    for (list, columns) in TABLES {
        let Some(items) = answer[list].as_array().filter(|items| !items.is_empty()) else {
            continue;
        };
        let mut rows: Vec<Vec<String>> =
            vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()];
        rows.extend(items.iter().map(|item| {
            columns.iter().map(|(_, name)| cell(&item[*name])).collect::<Vec<String>>()
        }));
        shown.push('\n');
        shown.push_str(&table(&rows));
    }
    shown
}

/// What is left of a certificate's life.
fn left(minutes: u64) -> String {
    match minutes {
        0..120 => format!("{minutes}m"),
        120..2880 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_the_answer_is_shown() {
        let answer = json!({
            "trust_domain": "td", "generation": 7, "issued": 2, "rotation": {"stage": "renew"}, "waiting": 1,
            "roots": [{"id": "abc", "not_before": "n1", "not_after": "n2", "days_left": 6, "signs": true}],
            "certificates": [{
                "workload": "standalone/Pod/default/web-0", "identity": "spiffe://td/ns/default/sa/web",
                "serial": "0f", "not_before": "b", "not_after": "a", "issuer": "abcdefabcdefabcdef",
                "days_left": 0, "minutes_left": 1439, "bundle_generation": 7,
            }],
            "intermediates": [{"id": "middle", "not_before": "b", "not_after": "a", "days_left": 3}],
            "trusted": [{"trust_domain": "partner", "id": "theirs", "not_after": "a", "days_left": 9}],
            "revoked": [{"serial": "41", "not_after": "a"}],
            "tokens": [{"id": "0102", "identity": "spiffe://td/ns/n/sa/vm", "expires": "e", "state": "used"}],
            "warnings": ["root abc expires"],
        });
        let text = text_of(&answer);
        for part in [
            "waiting for 1 proxies",
            "abc",
            "n2",
            "default/web-0",
            "spiffe://td/ns/default/sa/web",
            "0f",
            "23h",
            "abcdefabcdef ",
            "warning: root abc expires",
            "middle",
            "partner        theirs",
            "REVOKED",
            "spiffe://td/ns/n/sa/vm",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
