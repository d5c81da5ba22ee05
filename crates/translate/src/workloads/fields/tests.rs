use heddle_api::Reader;
use heddle_api::kinds;
use heddle_api::schema::TypeSchema;
use heddle_diag::Level;

use super::*;

fn told(text: &str) -> Report {
    let loaded = Reader::default().read_file("in.yaml", text.as_bytes());
    assert_eq!(loaded.diagnostics.iter().next(), None);
    report(&loaded.resources[0])
}

/// The outcome of a field, with its position.
fn outcome(report: &Report, field: &str) -> (Outcome, String) {
    let mut of = report.outcomes.iter().filter(|record| &*record.origin.field == field);
    let record = of.next().unwrap_or_else(|| panic!("{field}: {:?}", report.outcomes));
    assert!(of.next().is_none(), "{field} is told twice");
    (record.outcome, record.origin.to_string())
}

const POD_TEXT: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: true
  securityContext: {runAsUser: 5}
  volumes:
  - name: v
    persistentVolumeClaim: {claimName: c}
  containers:
  - name: c
    command: [a]
    resources: {limits: {cpu: 1}, requests: {cpu: 1}}
    securityContext: {privileged: false, runAsNonRoot: true}
    ports:
    - {containerPort: 1, hostPort: 1, protocol: UDP}
";

#[test]
fn what_is_not_done_is_told_with_its_place() {
    let report = told(POD_TEXT);
    for (field, expected, place) in [
        ("spec.hostNetwork", Outcome::Unsupported, "in.yaml:5:3"),
        ("spec.securityContext.runAsUser", Outcome::Translated, "in.yaml:6:21"),
        ("spec.volumes[0].persistentVolumeClaim", Outcome::Unsupported, "in.yaml:9:5"),
        ("spec.containers[0].resources.limits", Outcome::Unsupported, "in.yaml:13:17"),
        ("spec.containers[0].resources.requests", Outcome::Ignored, "in.yaml:13:35"),
        ("spec.containers[0].securityContext.privileged", Outcome::Applied, "in.yaml:14:23"),
        ("spec.containers[0].securityContext.runAsNonRoot", Outcome::Unsupported, "in.yaml:14:42"),
        ("spec.containers[0].command[0]", Outcome::Applied, "in.yaml:12:15"),
    ] {
        let (found, at) = outcome(&report, field);
        assert_eq!(found, expected, "{field}");
        assert!(at.contains(place), "{field}: {at}");
    }
    let warned = report.findings.iter().filter(|finding| finding.level == Level::Warning);
    let warned: Vec<&str> = warned.map(|finding| &*finding.origin.field).collect();
    assert_eq!(warned, ["spec.hostNetwork", "spec.volumes[0].persistentVolumeClaim"]);
}

#[test]
fn fields_of_templates_are_told_where_they_stand() {
    let report = told(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  paused: true\n  selector: {matchLabels: {a: b}}\n  \
         template:\n    metadata: {labels: {a: b}}\n    spec:\n      hostPID: true\n      containers: [{name: c, command: [a]}]\n",
    );
    assert_eq!(outcome(&report, "spec.template.spec.hostPID").0, Outcome::Unsupported);
    assert_eq!(outcome(&report, "spec.paused").0, Outcome::Unsupported);
    assert_eq!(outcome(&report, "spec.template.metadata.labels.a").0, Outcome::Applied);
    assert_eq!(outcome(&report, "spec.template.spec.containers[0].name").0, Outcome::Applied);
}

#[test]
fn a_cron_job_is_told_as_a_whole_and_field_by_field() {
    let report = told(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec:\n  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n      \
         template:\n        spec: {restartPolicy: Never, containers: [{name: c, command: [a]}]}\n",
    );
    assert_eq!(report.findings.len(), 1);
    assert_eq!(outcome(&report, "spec.schedule").0, Outcome::Unsupported);
}

#[test]
fn what_every_cluster_refuses_is_refused() {
    let report = told(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {a: x}}\n  template:\n    \
         metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, command: [a]}]}\n",
    );
    assert!(report.has_errors());
}

/// Fields that no table names: what is new in `api` must be decided on here.
#[test]
fn every_field_of_workloads_is_decided() {
    let pod = <PodSpec as Decode>::SCHEMA;
    let mut paths = Vec::new();
    top(&pod, &mut paths);
    for path in paths {
        assert!(
            POD.iter().any(|(known, _)| known.split(['[', '.']).next() == Some(path)),
            "{path}"
        );
    }
    for (kind, table) in [
        ("Deployment", DEPLOYMENT),
        ("StatefulSet", DEPLOYMENT),
        ("DaemonSet", DEPLOYMENT),
        ("ReplicaSet", DEPLOYMENT),
        ("Job", JOB),
    ] {
        let schemas = kinds::schemas();
        let (_, schema) = schemas.iter().find(|(known, _)| known.kind == kind).unwrap();
        let mut paths = Vec::new();
        top(schema, &mut paths);
        for path in paths {
            assert!(table.iter().any(|(known, _)| *known == path), "{kind}: {path}");
        }
    }
}

fn top<'a>(schema: &TypeSchema, paths: &mut Vec<&'a str>)
where
    'static: 'a,
{
    let TypeSchema::Object(object) = schema else { panic!("no object") };
    paths.extend(object.fields.iter().map(|field| field.name));
}
