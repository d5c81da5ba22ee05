//! The JSON of an answer (DESIGN section 9; fields may be added, none renamed).

use heddle_diag::{JsonWriter, Origin};

use crate::answer::{
    Alternative, Answer, Considered, DestinationView, MirrorView, PhaseView, RequestView,
    RetriesView, ServerView,
};

impl Answer {
    /// The answer on one line.
    pub fn json(&self) -> String {
        let mut json = JsonWriter::new();
        json.open_object();
        json.field("verdict", self.verdict.as_str());
        texts(&mut json, "depends_on", &self.depends_on);
        number(&mut json, "status", self.status);
        if self.grpc_status.is_some() {
            number(&mut json, "grpc_status", self.grpc_status);
        }
        json.field("protocol", self.protocol.as_str());
        json.field("transport", self.transport.as_str());
        json.field("reason", &self.reason);
        json.field("from", &self.from);
        json.field("to", &self.to);
        json.key("request");
        request(&mut json, &self.request);
        json.key("response_headers");
        changes(&mut json, &self.response_headers);
        text_or_null(&mut json, "location", self.location.as_deref());
        if let Some(body) = &self.body {
            json.field("body", body);
        }
        list(&mut json, "destinations", &self.destinations, destination);
        list(&mut json, "mirrors", &self.mirrors, mirror);
        number(&mut json, "timeout_ms", self.timeout_ms);
        json.key("retries");
        match &self.retries {
            Some(own) => retries(&mut json, own),
            None => json.raw("null"),
        }
        if self.delay_ms.is_some() {
            number(&mut json, "delay_ms", self.delay_ms);
        }
        list(&mut json, "alternatives", &self.alternatives, alternative);
        texts(&mut json, "assumptions", &self.assumptions);
        list(&mut json, "phases", &self.phases, phase);
        json.close_object();
        json.finish()
    }
}

fn list<T>(json: &mut JsonWriter, key: &str, items: &[T], write: impl Fn(&mut JsonWriter, &T)) {
    json.key(key);
    json.open_list();
    for item in items {
        write(json, item);
    }
    json.close_list();
}

fn texts(json: &mut JsonWriter, key: &str, texts: &[String]) {
    list(json, key, texts, |json, text| json.string(text));
}

fn number(json: &mut JsonWriter, key: &str, number: Option<impl ToString>) {
    json.key(key);
    match number {
        Some(number) => json.raw(&number.to_string()),
        None => json.raw("null"),
    }
}

fn text_or_null(json: &mut JsonWriter, key: &str, text: Option<&str>) {
    json.key(key);
    match text {
        Some(text) => json.string(text),
        None => json.raw("null"),
    }
}

fn origin_or_null(json: &mut JsonWriter, origin: Option<&Origin>) {
    json.key("origin");
    match origin {
        Some(origin) => json.origin(origin),
        None => json.raw("null"),
    }
}

/// A name that comes several times has its values joined with commas, as HTTP means it.
fn headers(json: &mut JsonWriter, headers: &[(String, String)]) {
    let mut joined: Vec<(&str, String)> = Vec::new();
    for (name, value) in headers {
        match joined.iter_mut().find(|(own, _)| own == name) {
            Some((_, before)) => {
                before.push(',');
                before.push_str(value);
            }
            None => joined.push((name, value.clone())),
        }
    }
    json.open_object();
    for (name, value) in joined {
        json.field(name, &value);
    }
    json.close_object();
}

fn changes(json: &mut JsonWriter, changes: &[(String, Option<String>)]) {
    json.open_object();
    for (name, value) in changes {
        text_or_null(json, name, value.as_deref());
    }
    json.close_object();
}

fn request(json: &mut JsonWriter, request: &RequestView) {
    json.open_object();
    if !request.method.is_empty() {
        json.field("method", &request.method);
        json.field("path", &request.path);
    }
    json.field("authority", &request.authority);
    json.key("headers");
    headers(json, &request.headers);
    json.close_object();
}

fn destination(json: &mut JsonWriter, view: &DestinationView) {
    json.open_object();
    json.field("service", &view.service);
    number(json, "port", Some(view.port));
    text_or_null(json, "subset", view.subset.as_deref());
    number(json, "weight", Some(view.weight));
    texts(json, "workloads", &view.workloads);
    json.key("request");
    request(json, &view.request);
    json.key("response_headers");
    changes(json, &view.response_headers);
    origin_or_null(json, Some(&view.origin));
    list(json, "servers", &view.servers, server);
    json.close_object();
}

fn server(json: &mut JsonWriter, view: &ServerView) {
    json.open_object();
    json.field("workload", &view.workload);
    json.field("verdict", view.verdict.as_str());
    number(json, "status", view.status);
    json.field("protocol", view.handled.as_str());
    json.field("transport", view.transport.as_str());
    json.field("reason", &view.reason);
    origin_or_null(json, view.origin.as_ref());
    if let Some(own) = &view.request {
        json.key("request");
        request(json, own);
    }
    if !view.then.is_empty() {
        list(json, "then", &view.then, destination);
    }
    if let Some((mode, origin)) = &view.mutual_tls {
        json.key("mutual_tls");
        json.open_object();
        json.field("mode", mode);
        origin_or_null(json, Some(origin));
        json.close_object();
    }
    json.close_object();
}

fn mirror(json: &mut JsonWriter, view: &MirrorView) {
    json.open_object();
    json.field("service", &view.service);
    number(json, "port", Some(view.port));
    text_or_null(json, "subset", view.subset.as_deref());
    number(json, "percent", Some(view.percent));
    json.close_object();
}

fn retries(json: &mut JsonWriter, view: &RetriesView) {
    json.open_object();
    number(json, "attempts", Some(view.attempts));
    texts(json, "on", &view.on);
    if view.per_try_timeout_ms.is_some() {
        number(json, "per_try_timeout_ms", view.per_try_timeout_ms);
    }
    json.close_object();
}

fn alternative(json: &mut JsonWriter, view: &Alternative) {
    json.open_object();
    number(json, "percent", Some(view.percent));
    json.field("verdict", view.verdict.as_str());
    number(json, "status", view.status);
    if view.delay_ms.is_some() {
        number(json, "delay_ms", view.delay_ms);
    }
    json.field("reason", &view.reason);
    json.close_object();
}

fn phase(json: &mut JsonWriter, view: &PhaseView) {
    json.open_object();
    json.field("phase", view.phase);
    json.field("outcome", &view.outcome);
    origin_or_null(json, view.origin.as_ref());
    list(json, "considered", &view.considered, considered);
    if !view.notes.is_empty() {
        texts(json, "notes", &view.notes);
    }
    json.close_object();
}

fn considered(json: &mut JsonWriter, view: &Considered) {
    json.open_object();
    origin_or_null(json, Some(&view.origin));
    json.field("outcome", &view.outcome);
    if let Some(workload) = &view.workload {
        json.field("workload", workload);
    }
    json.close_object();
}
