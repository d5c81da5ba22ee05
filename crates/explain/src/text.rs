//! An answer for people: the verdict first, then phase by phase, with the lines that decided.

use std::fmt::Write;

use heddle_diag::{Origin, Source, render_place};

use crate::answer::{Answer, Considered, PhaseView, RequestView};

/// Rules that are listed of a phase.
const CONSIDERED_MAX: usize = 20;

impl Answer {
    /// Several lines. `source` gives the text of a file, by the path that origins name, for excerpts.
    pub fn text<'a>(&self, source: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}", self.headline());
        let status = self.status.map_or_else(String::new, |status| format!(" {status}"));
        let grpc = self.grpc_status.map_or_else(String::new, |code| format!(" (gRPC {code})"));
        let _ = writeln!(out, "{}{status}{grpc}: {}", self.verdict.as_str(), self.reason);
        for reason in &self.depends_on {
            let _ = writeln!(out, "  depends on {reason}");
        }
        for alternative in &self.alternatives {
            let status = alternative.status.map_or_else(String::new, |status| format!(" {status}"));
            let delay =
                alternative.delay_ms.map_or_else(String::new, |ms| format!(", after {ms} ms"));
            let _ = writeln!(
                out,
                "  {} %: {}{status}{delay}: {}",
                alternative.percent,
                alternative.verdict.as_str(),
                alternative.reason
            );
        }
        for assumption in &self.assumptions {
            let _ = writeln!(out, "  assumed: {assumption}");
        }
        out.push('\n');
        for phase in &self.phases {
            write_phase(&mut out, phase, &source);
            if phase.phase == "forward" {
                self.write_sent(&mut out);
            }
        }
        out
    }

    fn headline(&self) -> String {
        if self.protocol.is_http() {
            let RequestView { method, path, authority, .. } = &self.request;
            format!(
                "{method} http://{authority}{path} from {} ({})",
                self.from,
                self.protocol.as_str()
            )
        } else {
            format!("{} to {} from {}", self.protocol.as_str(), self.to, self.from)
        }
    }

    /// What the destinations get, where it is not what the client sent.
    fn write_sent(&self, out: &mut String) {
        for view in &self.destinations {
            let name = crate::branch::name(view);
            if view.request != self.request {
                let RequestView { method, path, authority, headers } = &view.request;
                let _ = writeln!(out, "{INDENT}{name} gets {method} http://{authority}{path}");
                for (name, value) in headers {
                    let _ = writeln!(out, "{INDENT}  {name}: {value}");
                }
            }
            for (header, value) in &view.response_headers {
                let _ = match value {
                    Some(value) => {
                        writeln!(out, "{INDENT}the response of {name} gets {header}: {value}")
                    }
                    None => writeln!(out, "{INDENT}the response of {name} loses {header}"),
                };
            }
        }
        for mirror in &self.mirrors {
            let _ = writeln!(
                out,
                "{INDENT}{} % are copied to {}:{}",
                mirror.percent, mirror.service, mirror.port
            );
        }
    }
}

/// As wide as the longest name of a phase, and a space.
const INDENT: &str = "          ";

fn write_phase<'a>(out: &mut String, phase: &PhaseView, source: impl Fn(&str) -> Option<&'a str>) {
    let _ = writeln!(out, "{:<9} {}", phase.phase, phase.outcome);
    for note in &phase.notes {
        let _ = writeln!(out, "{INDENT}{note}");
    }
    if let Some(origin) = &phase.origin {
        for line in render_place(origin, &source).lines() {
            let _ = writeln!(out, "{INDENT}{line}");
        }
    }
    let mut groups: Vec<(&Considered, Vec<&str>)> = Vec::new();
    for each in &phase.considered {
        let workload = each.workload.as_deref();
        let alike =
            |known: &Considered| (&known.outcome, &known.origin) == (&each.outcome, &each.origin);
        match groups.iter_mut().find(|(known, _)| alike(known)) {
            Some((_, workloads)) => workloads.extend(workload),
            None => groups.push((each, workload.into_iter().collect())),
        }
    }
    for (each, workloads) in groups.iter().take(CONSIDERED_MAX) {
        let at = if workloads.is_empty() {
            String::new()
        } else {
            format!("{}: ", workloads.join(", "))
        };
        let _ = writeln!(out, "{INDENT}- {at}{}  {}", each.outcome, short(&each.origin));
    }
    if groups.len() > CONSIDERED_MAX {
        let _ = writeln!(out, "{INDENT}- and {} more", groups.len() - CONSIDERED_MAX);
    }
}

/// The place in one line.
fn short(origin: &Origin) -> String {
    match &origin.source {
        Source::BuiltIn => format!("[{}]", origin.name),
        Source::Cluster { .. } | Source::File { .. } => format!("[{origin}]"),
    }
}
