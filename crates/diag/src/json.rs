//! The JSON form of findings (`analyze -o json`) and the small writer behind it.

use std::fmt::Write;

use crate::{Diagnostic, Origin, OutcomeRecord, Source};

/// Writes JSON text piece by piece and places the commas. The caller closes what it opens.
#[derive(Default, Debug)]
pub struct JsonWriter {
    out: String,
}

impl JsonWriter {
    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.out
    }

    fn comma(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(',');
        }
    }

    /// Opens an object as the next value.
    pub fn open_object(&mut self) {
        self.comma();
        self.out.push('{');
    }

    /// Closes the object.
    pub fn close_object(&mut self) {
        self.out.push('}');
    }

    /// Opens a list as the next value.
    pub fn open_list(&mut self) {
        self.comma();
        self.out.push('[');
    }

    /// Closes the list.
    pub fn close_list(&mut self) {
        self.out.push(']');
    }

    /// The key of the next value of an object.
    pub fn key(&mut self, key: &str) {
        self.comma();
        self.quote(key);
        self.out.push(':');
    }

    /// A text as the next value.
    pub fn string(&mut self, text: &str) {
        self.comma();
        self.quote(text);
    }

    /// A value that is JSON already: a number, `true`, `null`.
    pub fn raw(&mut self, json: &str) {
        self.comma();
        self.out.push_str(json);
    }

    /// Key and text in one.
    pub fn field(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if c < ' ' => {
                    // Writing to a String cannot fail.
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    /// An origin as the next value; what is absent is left out.
    pub fn origin(&mut self, origin: &Origin) {
        self.open_object();
        self.field("dialect", origin.dialect.as_str());
        for (key, text) in [
            ("group", &origin.group),
            ("kind", &origin.kind),
            ("namespace", &origin.namespace),
            ("name", &origin.name),
            ("cluster", &origin.cluster),
        ] {
            if !text.is_empty() {
                self.field(key, text);
            }
        }
        match &origin.source {
            Source::BuiltIn => {}
            Source::Cluster { uid, generation } => {
                self.field("uid", uid);
                self.key("generation");
                self.raw(&generation.to_string());
            }
            Source::File { path, position } => {
                self.field("file", path);
                self.key("line");
                self.raw(&position.line.to_string());
                self.key("column");
                self.raw(&position.column.to_string());
            }
        }
        if !origin.field.is_empty() {
            self.field("field", &origin.field);
        }
        self.close_object();
    }

    fn finding(&mut self, diagnostic: &Diagnostic) {
        self.open_object();
        self.field("code", diagnostic.code.id);
        self.key("upstream");
        self.open_list();
        for upstream in diagnostic.code.upstream {
            self.string(upstream);
        }
        self.close_list();
        self.field("level", diagnostic.level.as_str());
        self.field("message", &diagnostic.message);
        self.key("hint");
        match &diagnostic.hint {
            Some(hint) => self.string(hint),
            None => self.raw("null"),
        }
        self.key("origin");
        self.origin(&diagnostic.origin);
        if !diagnostic.related.is_empty() {
            self.key("related");
            self.open_list();
            for related in &diagnostic.related {
                self.open_object();
                self.field("note", &related.note);
                self.key("origin");
                self.origin(&related.origin);
                self.close_object();
            }
            self.close_list();
        }
        self.close_object();
    }

    fn outcome(&mut self, record: &OutcomeRecord) {
        self.open_object();
        self.key("origin");
        self.origin(&record.origin);
        self.field("outcome", record.outcome.as_str());
        self.field("detail", &record.detail);
        self.close_object();
    }
}

/// What `analyze -o json` prints: `{"findings": […], "outcomes": […]}` on one line.
pub fn findings_json<'a>(
    findings: impl IntoIterator<Item = &'a Diagnostic>,
    outcomes: impl IntoIterator<Item = &'a OutcomeRecord>,
) -> String {
    let mut json = JsonWriter::new();
    json.open_object();
    json.key("findings");
    json.open_list();
    for diagnostic in findings {
        json.finding(diagnostic);
    }
    json.close_list();
    json.key("outcomes");
    json.open_list();
    for record in outcomes {
        json.outcome(record);
    }
    json.close_list();
    json.close_object();
    json.finish()
}

#[cfg(test)]
mod tests;
