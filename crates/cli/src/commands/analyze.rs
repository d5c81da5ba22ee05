//! `heddle analyze`: every finding about files, and what would become of every field.

use std::process::ExitCode;

use anyhow::Result;
use heddle_api::{Reader, Resource};
use heddle_diag::{Diagnostic, Level, Outcome, OutcomeRecord, findings_json, render_text};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use super::files::Sources;
use super::objects;
use super::print::{out, table};
use crate::arguments::{AnalyzeArguments, FailureLevel, MeshArguments, Output};

/// What istioctl exits with, too, when it finds something at the failure level.
const FOUND: u8 = 79;

/// Everything there is to say about some files.
pub(crate) struct Analysis {
    pub(crate) findings: Vec<Diagnostic>,
    pub(crate) outcomes: Vec<OutcomeRecord>,
    pub(crate) objects: usize,
}

/// Reads and translates files, as a mesh that holds nothing else would.
pub(crate) fn analyze_sources(sources: &Sources) -> Analysis {
    let reader = Reader::default();
    let mut findings = Vec::new();
    let mut outcomes = Vec::new();
    let mut objects: Vec<Resource> = Vec::new();
    for (path, bytes) in sources.iter() {
        let loaded = reader.read_beginning(path, bytes, sources.size_bytes(path));
        findings.extend(loaded.diagnostics.iter().cloned());
        outcomes.extend(loaded.outcomes);
        objects.extend(loaded.resources);
    }
    let count = objects.len();
    findings.extend(heddle_translate::duplicates(&objects));
    for object in &objects {
        let told = heddle_translate::workloads::report(object);
        findings.extend(told.findings);
        outcomes.extend(told.outcomes);
    }
    let mut translator = Translator::new(Options::default());
    let now = std::time::SystemTime::now();
    findings.extend(heddle_control::certificates::findings(&objects, &[], now));
    // Replicas that would run are ready, so that their services have endpoints.
    let expanded = expand(objects, Allocation::default(), true);
    translator.apply(expanded.objects.into_iter().map(Change::Upsert));
    findings.extend(translator.findings().iter().cloned());
    outcomes.extend(translator.outcomes());
    let authorities = translator.trust_settings().authorities;
    findings.extend(heddle_control::certificates::findings(&[], &authorities, now));
    findings.sort_by_key(|finding| order(&finding.origin));
    outcomes.sort_by_key(|record| order(&record.origin));
    Analysis { findings, outcomes, objects: count }
}

/// By file, then by place.
fn order(origin: &heddle_diag::Origin) -> (String, u32, u32) {
    match &origin.source {
        heddle_diag::Source::File { path, position } => {
            (path.to_string(), position.line, position.column)
        }
        heddle_diag::Source::BuiltIn | heddle_diag::Source::Cluster { .. } => (String::new(), 0, 0),
    }
}

pub(crate) fn run(mesh: &MeshArguments, arguments: &AnalyzeArguments) -> Result<ExitCode> {
    if arguments.files.is_empty() {
        return run_live(mesh, arguments);
    }
    let sources = Sources::read(&arguments.files)?;
    let analysis = analyze_sources(&sources);
    match arguments.output.output {
        Output::Json | Output::Yaml => {
            let json = findings_json(&analysis.findings, &analysis.outcomes);
            out(&format!("{json}\n"))?;
        }
        Output::Text => out(&text(&analysis, &sources, arguments.all))?,
    }
    let threshold = match arguments.failure_threshold {
        FailureLevel::Info => Level::Info,
        FailureLevel::Warning => Level::Warning,
        FailureLevel::Error => Level::Error,
    };
    let failed = analysis.findings.iter().any(|finding| finding.level >= threshold);
    Ok(if failed { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// The same of a running mesh's objects.
fn run_live(mesh: &MeshArguments, arguments: &AnalyzeArguments) -> Result<ExitCode> {
    let analysis = objects::analysis_of_mesh(mesh)?;
    let findings = analysis["findings"].as_array().cloned().unwrap_or_default();
    match arguments.output.output {
        Output::Json | Output::Yaml => out(&format!("{analysis}\n"))?,
        Output::Text => {
            for finding in &findings {
                out(&format!("{}\n", objects::finding_text(finding)))?;
            }
            let outcomes = analysis["outcomes"].as_array().map_or(0, Vec::len);
            out(&format!("{} findings, {outcomes} fields not as written\n", findings.len()))?;
        }
    }
    let failing: &[&str] = match arguments.failure_threshold {
        FailureLevel::Info => &["info", "warning", "error"],
        FailureLevel::Warning => &["warning", "error"],
        FailureLevel::Error => &["error"],
    };
    let failed = findings
        .iter()
        .any(|finding| finding["level"].as_str().is_some_and(|level| failing.contains(&level)));
    Ok(if failed { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn text(analysis: &Analysis, sources: &Sources, all: bool) -> String {
    let mut text = String::new();
    for finding in &analysis.findings {
        text.push_str(&render_text(finding, |path| sources.text(path)));
        text.push('\n');
    }
    let rows: Vec<Vec<String>> = analysis
        .outcomes
        .iter()
        .filter(|record| all || record.outcome != Outcome::Applied)
        .map(|record| {
            vec![
                record.outcome.as_str().to_owned(),
                record.origin.to_string(),
                record.detail.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(&rows));
        text.push('\n');
    }
    let count = |level| analysis.findings.iter().filter(|finding| finding.level == level).count();
    text.push_str(&format!(
        "{} objects, {} errors, {} warnings, {} notes; {} fields applied, {} not as written\n",
        analysis.objects,
        count(Level::Error),
        count(Level::Warning),
        count(Level::Info),
        analysis.outcomes.iter().filter(|record| record.outcome == Outcome::Applied).count(),
        rows_not_applied(&analysis.outcomes),
    ));
    text
}

fn rows_not_applied(outcomes: &[OutcomeRecord]) -> usize {
    outcomes.iter().filter(|record| record.outcome != Outcome::Applied).count()
}
