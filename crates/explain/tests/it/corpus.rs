//! What users paste: every document of the corpus, with what there is to say about it and where its requests go.
//!
//! `testdata/corpus/*.txt` has an entry per document, kept by hand and never written by a program:
//!
//! ```text
//! FOLDER/DOCUMENT.yaml works
//!   HED0502 Kind ns/name spec.field        # why, with the row of API.md
//!   ignored Kind ns/name spec.field        # an outcome that is not `applied`
//!   ask ns/client host:80 GET /path name=value => forward ns/service:80@v1=90
//! ```
//!
//! `works`: everything in it does what its author says, perhaps with a remark. `explained`: something does not, and the
//! lines say why. `unread`: no object of any kind is in it. `with NAME` puts beside it the file of that name in
//! `testdata/corpus` or, with a folder, the document of that name. The application of the documents is always there.

mod application;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use heddle_api::Reader;
use heddle_diag::{Level, Origin, Outcome, Source};
use heddle_explain::{Answer, Query, Verdict, World};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use super::shared::data;

/// An entry of an expectation file.
#[derive(Default)]
struct Expected {
    verdict: String,
    /// Files beside the expectations whose objects are there when requests are asked for.
    with: Vec<String>,
    /// Lines without their reasons, and the reasons.
    lines: Vec<(String, String)>,
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/corpus")
}

fn expectations() -> BTreeMap<String, Expected> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(own()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    let mut all = BTreeMap::new();
    for file in files {
        let mut document = String::new();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(line) = line.strip_prefix("  ") else {
                let (name, verdict) = line.split_once(' ').unwrap();
                name.clone_into(&mut document);
                let verdict = verdict.split(" #").next().unwrap().trim().to_owned();
                let entry = Expected { verdict, ..Expected::default() };
                assert!(all.insert(document.clone(), entry).is_none(), "{document} twice");
                continue;
            };
            let (line, reason) = line.split_once(" #").unwrap_or((line, ""));
            let (line, reason) = (line.trim().to_owned(), reason.trim().to_owned());
            let entry = all.get_mut(&document).unwrap();
            match line.strip_prefix("with ") {
                Some(file) => entry.with.push(file.to_owned()),
                None => entry.lines.push((line, reason)),
            }
        }
    }
    all
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
}

fn place(origin: &Origin) -> String {
    let named = if origin.namespace.is_empty() {
        origin.name.to_string()
    } else {
        format!("{}/{}", origin.namespace, origin.name)
    };
    let line = [&*origin.kind, &named, &*origin.field];
    line.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// What `heddle analyze` says.
#[derive(Default)]
struct Analysis {
    /// A line for each finding and each field that is not applied, sorted; what is said twice stands once.
    lines: Vec<String>,
    /// Lines about no place in the document.
    nowhere: Vec<String>,
    /// Whether the document has objects.
    read: bool,
    /// Fields that do as they say.
    applied: usize,
}

/// What is said about a document beside some others.
fn analysis(name: &str, document: &[u8], others: &[(String, Vec<u8>)]) -> Analysis {
    let reader = Reader::default();
    let mut objects = Vec::new();
    for (path, text) in others {
        objects.extend(reader.read_file(path, text).resources);
    }
    let loaded = reader.read_file(name, document);
    let mut findings: Vec<_> = loaded.diagnostics.iter().cloned().collect();
    let mut outcomes = loaded.outcomes;
    let own = loaded.resources;
    let mut analysis = Analysis { read: !own.is_empty(), ..Analysis::default() };
    findings.extend(heddle_translate::duplicates(&own));
    for object in &own {
        let told = heddle_translate::workloads::report(object);
        findings.extend(told.findings);
        outcomes.extend(told.outcomes);
    }
    objects.extend(own);
    let mut translator = Translator::new(Options::default());
    let expanded = expand(objects, Allocation::default(), true);
    translator.apply(expanded.objects.into_iter().map(Change::Upsert));
    findings.extend(translator.findings().iter().cloned());
    outcomes.extend(translator.outcomes());
    let mut add = |line: String, origin: &Origin| match &origin.source {
        Source::File { path, .. } if **path != *name => {}
        Source::File { position, .. } if position.line > 0 => analysis.lines.push(line),
        _ => analysis.nowhere.push(line),
    };
    for finding in &findings {
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "note",
        };
        let line = format!("{level} {} {}", finding.code.id, place(&finding.origin));
        add(line.trim_end().to_owned(), &finding.origin);
    }
    for record in &outcomes {
        let own = matches!(&record.origin.source, Source::File { path, .. } if **path == *name);
        if record.outcome != Outcome::Applied {
            add(format!("{} {}", record.outcome.as_str(), place(&record.origin)), &record.origin);
        } else if own {
            analysis.applied += 1;
        }
    }
    analysis.lines.sort();
    analysis.lines.dedup();
    analysis
}

/// `CLIENT HOST:PORT METHOD PATH name=value …`; a method of `-` is a stream.
fn question(text: &str) -> Query {
    let mut words = text.split_whitespace();
    let mut query = Query {
        from: words.next().unwrap().to_owned(),
        to: words.next().unwrap().to_owned(),
        ..Query::default()
    };
    match words.next() {
        Some("TLS") => query.protocol = Some("tls".to_owned()),
        Some("TCP") => query.protocol = Some("tcp".to_owned()),
        Some("GRPC") => {
            query.protocol = Some("grpc".to_owned());
            query.path = words.next().map(str::to_owned);
        }
        method => {
            query.method = method.map(str::to_owned);
            query.path = words.next().map(str::to_owned);
        }
    }
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let value = value.replace("%20", " ").replace("%3D", "=");
        match name {
            "host" => query.authority = Some(value),
            "source-ip" => query.source_ip = Some(value.parse().unwrap()),
            _ => query.headers.push((name.to_owned(), value)),
        }
    }
    query
}

/// `VERDICT [STATUS] [SERVICE:PORT[@SUBSET]=WEIGHT …] [mirror SERVICE:PORT PERCENT%] [timeout …] [retries …]`
fn told(answer: &Answer) -> String {
    let mut line = answer.verdict.as_str().to_owned();
    if let Some(status) = answer.status {
        write!(line, " {status}").unwrap();
    }
    if let Some(status) = answer.grpc_status {
        write!(line, " grpc-{status}").unwrap();
    }
    for one in &answer.destinations {
        write!(line, " {}:{}", one.service, one.port).unwrap();
        if let Some(subset) = &one.subset {
            write!(line, "@{subset}").unwrap();
        }
        write!(line, "={}", one.weight).unwrap();
        let mut other: Vec<_> = one.servers.iter().map(|server| server.verdict).collect();
        other.sort();
        other.dedup();
        for verdict in other.iter().filter(|verdict| **verdict != Verdict::Forward) {
            write!(line, "({})", verdict.as_str()).unwrap();
        }
        if answer.request.path != one.request.path {
            write!(line, " as {}", one.request.path).unwrap();
        }
    }
    for one in &answer.mirrors {
        let subset = one.subset.as_ref().map(|subset| format!("@{subset}")).unwrap_or_default();
        write!(line, " mirror {}:{}{subset} {}%", one.service, one.port, one.percent).unwrap();
    }
    for one in &answer.alternatives {
        write!(line, " {}%:{}", one.percent, one.verdict.as_str()).unwrap();
        if let Some(delay) = one.delay_ms {
            write!(line, "+{delay}ms").unwrap();
        }
    }
    if let Some(timeout) = answer.timeout_ms {
        write!(line, " timeout {timeout}ms").unwrap();
    }
    if let Some(location) = &answer.location {
        write!(line, " {location}").unwrap();
    }
    line
}

fn ask(world: &World, question_text: &str) -> String {
    match world.explain(&question(question_text)) {
        Ok(answer) => told(&answer),
        Err(error) => format!("error {error}"),
    }
}

/// The texts that an entry wants beside its document, the application first.
fn beside(entry: &Expected, document: &[u8], corpus: &Path) -> Vec<(String, Vec<u8>)> {
    let files: Vec<_> = entry
        .with
        .iter()
        .map(|file| {
            let path = if file.contains('/') { corpus.join(file) } else { own().join(file) };
            (file.clone(), std::fs::read(path).unwrap())
        })
        .collect();
    let mut named = String::from_utf8_lossy(document).into_owned();
    named.extend(files.iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned()));
    named.extend(entry.lines.iter().map(|(line, _)| line.as_str()));
    let application = ("application".to_owned(), application::yaml(&named).into_bytes());
    std::iter::once(application).chain(files).collect()
}

/// The first of the two guides that the documents are from.
#[test]
fn implementing_service_mesh() {
    every_document_is_as_expected("implementing-service-mesh");
}

/// The second.
#[test]
fn service_mesh_standards() {
    every_document_is_as_expected("service-mesh-standards");
}

/// Every document of a folder has its entry, and what is said about it is what the entry says.
fn every_document_is_as_expected(folder: &str) {
    let Some(root) = data("corpus") else { return };
    let mut found = Vec::new();
    documents(&root.join(folder), &mut found);
    found.sort();
    let mut expected = expectations();
    expected.retain(|name, _| name.starts_with(folder));
    let mut wrong = String::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = std::fs::read(&path).unwrap();
        let Some(entry) = expected.remove(&name) else {
            writeln!(wrong, "{name} has no entry").unwrap();
            continue;
        };
        wrong.push_str(&compare(&name, &text, &entry, &root));
    }
    for name in expected.keys() {
        writeln!(wrong, "{name} is not in the corpus").unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Lines that are missing (`-`), that are not expected (`+`) or that have no position (`?`).
fn compare(name: &str, text: &[u8], entry: &Expected, root: &Path) -> String {
    let others = beside(entry, text, root);
    let Analysis { lines: mut got, nowhere, read, applied } = analysis(name, text, &others);
    // ConfigMaps are data of applications.
    let untold = text.windows(9).any(|word| word == b"ConfigMap");
    let silent = read && applied == 0 && got.is_empty() && !untold;
    let mut objects = Vec::new();
    for (path, text) in &others {
        objects.extend(Reader::default().read_file(path, text).resources);
    }
    objects.extend(Reader::default().read_file(name, text).resources);
    let mut world = None;
    for (line, _) in &entry.lines {
        if let Some((asked, _)) = line.split_once(" => ") {
            let question = asked.strip_prefix("ask ").unwrap();
            let world =
                world.get_or_insert_with(|| World::new(objects.clone(), Options::default()));
            got.push(format!("{asked} => {}", ask(world, question)));
        }
    }
    let expected: Vec<&String> = entry.lines.iter().map(|(line, _)| line).collect();
    let missing =
        expected.iter().filter(|line| !got.contains(line)).map(|line| format!("- {line}"));
    let more = got.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
    let nowhere = nowhere.iter().map(|line| format!("? {line}"));
    let mut wrong: String = missing
        .chain(more)
        .chain(nowhere)
        .fold(String::new(), |all, line| all + "  " + &line + "\n");
    if silent {
        wrong.push_str("  nothing is said about any field\n");
    }
    if !wrong.is_empty() {
        wrong.insert_str(0, &format!("{name}\n"));
    }
    wrong + &unreasoned(name, entry, read)
}

/// What an entry lacks: a reason for each line, and a verdict that fits its lines.
fn unreasoned(name: &str, entry: &Expected, read: bool) -> String {
    let mut wrong = String::new();
    let needs = |line: &str| !line.starts_with("ask ");
    for (line, reason) in &entry.lines {
        if needs(line) && !reason.contains("API ") {
            writeln!(wrong, "{name}: {line}: no row of API.md is cited").unwrap();
        }
    }
    let not_done = |line: &str| {
        ["error ", "unsupported ", "conflict "].iter().any(|word| line.starts_with(word))
    };
    let refused = entry.lines.iter().any(|(line, _)| not_done(line));
    let fits = match &*entry.verdict {
        "works" => read && !refused,
        "explained" => read && entry.lines.iter().any(|(line, _)| needs(line)),
        "unread" => !read,
        _ => false,
    };
    if !fits {
        writeln!(wrong, "{name}: the verdict `{}` does not fit", entry.verdict).unwrap();
    }
    wrong
}
