//! `heddle explain`: what happens to a request and why; or what a finding's code means.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use heddle_api::Reader;
use heddle_control::explain::{TokenVerifier, read_query};
use heddle_diag::{Diagnostic, Level};
use heddle_explain::{Query, World};
use heddle_translate::{Options, Profile};
use serde_json::{Value, json};

use super::codes;
use super::files::Sources;
use super::objects;
use super::print::out;
use crate::arguments::{ExplainArguments, Meaning, MeshArguments, Output};
use crate::failure::hinted;

pub(crate) fn run(mesh: &MeshArguments, arguments: &ExplainArguments) -> Result<ExitCode> {
    if arguments.requests.is_none() && arguments.from.is_none() {
        let is_method = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
        if let [code] = arguments.words.as_slice()
            && !code.starts_with('/')
            && !is_method(code)
        {
            return codes::explain(Some(code));
        }
        if arguments.words.is_empty() && arguments.files.is_empty() {
            return codes::explain(None);
        }
        let error = anyhow::anyhow!("who asks, and for what, is missing");
        return Err(hinted(error, "heddle explain --from shop/frontend --to reviews:9080 GET /x"));
    }
    if arguments.files.is_empty() {
        return live(mesh, arguments);
    }
    let sources = Sources::read(&arguments.files)?;
    let (world, errors) = world_of(&sources, arguments.profile);
    warn(&errors)?;
    if let Some(path) = &arguments.requests {
        return many(&world, path);
    }
    let answer = world.explain(&query(arguments)?)?;
    match arguments.output.output {
        Output::Json | Output::Yaml => out(&format!("{}\n", answer.json()))?,
        Output::Text => out(&answer.text(|path| sources.text(path)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a mesh would make of files, and what cannot be read in them.
pub(crate) fn world_of(sources: &Sources, meaning: Meaning) -> (World, Vec<Diagnostic>) {
    let reader = Reader::default();
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for (path, bytes) in sources.iter() {
        let loaded = reader.read_file(path, bytes);
        errors.extend(loaded.diagnostics.iter().filter(|f| f.level == Level::Error).cloned());
        objects.extend(loaded.resources);
    }
    let profile = match meaning {
        Meaning::Heddle => Profile::Heddle,
        Meaning::IstioSidecar => Profile::IstioSidecar,
    };
    let tokens = Box::new(TokenVerifier::new(SystemTime::now()));
    let world = World::new(objects, Options { profile, ..Options::default() });
    (world.with_tokens(tokens), errors)
}

/// Objects with errors have their safe meaning; the answer must not look as if all were well.
fn warn(errors: &[Diagnostic]) -> Result<()> {
    const SHOWN_MAX: usize = 3;
    let mut text = String::new();
    for error in errors.iter().take(SHOWN_MAX) {
        text.push_str(&format!("warning: {}: {}\n", error.origin, error.message));
    }
    if errors.len() > SHOWN_MAX {
        text.push_str(&format!("warning: and {} more errors\n", errors.len() - SHOWN_MAX));
    }
    if !errors.is_empty() {
        text.push_str(
            "warning: objects with errors act by their safe meaning; see `heddle analyze`\n",
        );
    }
    std::io::stderr().write_all(text.as_bytes()).context("cannot write to standard error")
}

/// The request of the arguments.
fn query(arguments: &ExplainArguments) -> Result<Query> {
    let mut query = Query {
        from: arguments.from.clone().unwrap_or_default(),
        to: arguments.to.clone().unwrap_or_default(),
        protocol: arguments.protocol.clone(),
        source_ip: arguments.source_ip,
        jwt: arguments.jwt.clone(),
        ..Query::default()
    };
    for word in &arguments.words {
        if word.starts_with('/') || word == "*" {
            query.path = Some(word.clone());
        } else {
            query.method = Some(word.clone());
        }
    }
    for header in &arguments.headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("a header is written as `name: value`, not {header:?}"))?;
        if name.trim().is_empty() {
            bail!("a header has a name: {header:?}");
        }
        query.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(query)
}

/// A JSON line for every line.
fn many(world: &World, path: &Path) -> Result<ExitCode> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = false;
    for_each(path, |line| {
        let answer = serde_json::from_str::<Value>(line)
            .map_err(|error| error.to_string())
            .and_then(|value| read_query(&value))
            .and_then(|query| world.explain(&query).map_err(|error| error.to_string()));
        let text = match answer {
            Ok(answer) => answer.json(),
            Err(error) => {
                failed = true;
                json!({ "error": error }).to_string()
            }
        };
        writeln!(output, "{text}").context("cannot write to standard output")
    })?;
    output.flush().context("cannot write to standard output")?;
    Ok(ExitCode::from(u8::from(failed)))
}

fn for_each(path: &Path, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let name = path.display();
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
        Box::new(BufReader::new(file))
    };
    for line in reader.lines() {
        let line = line.with_context(|| format!("cannot read {name}"))?;
        if !line.trim().is_empty() {
            each(&line)?;
        }
    }
    Ok(())
}

/// The running mesh answers.
fn live(mesh: &MeshArguments, arguments: &ExplainArguments) -> Result<ExitCode> {
    let mut requests = Vec::new();
    match &arguments.requests {
        Some(path) => for_each(path, |line| {
            requests.push(serde_json::from_str::<Value>(line).unwrap_or(Value::Null));
            Ok(())
        })?,
        None => requests.push(json_of(&query(arguments)?)),
    }
    let answer = objects::explain_of_mesh(mesh, &requests)?;
    let answers = answer["answers"].as_array().cloned().unwrap_or_default();
    let failed = answers.iter().any(|answer| answer.get("error").is_some());
    if arguments.requests.is_none() {
        if let Some(error) = answers.first().and_then(|answer| answer["error"].as_str()) {
            bail!("{error}");
        }
        if arguments.output.output == Output::Text {
            out(answer["texts"][0].as_str().unwrap_or_default())?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    for answer in &answers {
        out(&format!("{answer}\n"))?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn json_of(query: &Query) -> Value {
    let mut headers = serde_json::Map::new();
    for (name, value) in &query.headers {
        let values = headers.entry(name.clone()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.clone().into());
        }
    }
    json!({
        "from": query.from,
        "to": query.to,
        "protocol": query.protocol,
        "method": query.method,
        "path": query.path,
        "authority": query.authority,
        "headers": headers,
        "source_ip": query.source_ip,
        "jwt": query.jwt,
    })
}
