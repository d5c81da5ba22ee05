//! Input that is wrong: told where and why, quickly, and with the exit codes that scripts rely on.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use heddle_testkit::{Completed, LONG, Mesh, Running, has, skip};

use crate::{PROGRAM, client, mesh, sample};

/// `heddle analyze` of one file of a test's folder.
fn analyze(mesh: &Mesh, name: &str, text: &str, options: &[&str]) -> (Completed, PathBuf) {
    let file = mesh.folder().join(name);
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let words: Vec<&str> = ["analyze", "-f", &path].iter().chain(options).copied().collect();
    (mesh.run(&words), file)
}

#[test]
fn says_file_line_and_column() {
    let mesh = mesh();
    for (name, text, place, says) in [
        ("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [}\n", ":3:", "error"),
        (
            "typo.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selectr: {app: a}\n  ports: [{port: 80}]\n",
            ":5:3",
            "selector",
        ),
        (
            "twice.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  name: b\nspec: {ports: [{port: 80}]}\n",
            ":5:3",
            "name",
        ),
    ] {
        let (told, file) = analyze(&mesh, name, text, &[]);
        let place = format!("{}{place}", file.display());
        assert_eq!(told.code, Some(79), "{told:#?}");
        assert!(told.stdout.contains(&place), "{place} is not named: {told:#?}");
        assert!(told.stdout.contains(says), "{says:?} is not said: {told:#?}");
    }
}

#[test]
fn json_has_the_fields_that_other_programs_read() {
    let mesh = mesh();
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [nowhere]
  http:
    - route:
        - destination: {host: nowhere, subset: none}
";
    let (told, file) = analyze(&mesh, "a.yaml", text, &["-o", "json"]);
    let json = told.json();
    let findings = json["findings"].as_array().unwrap();
    assert!(!findings.is_empty(), "{json:#}");
    for finding in findings {
        assert!(finding["code"].as_str().unwrap().starts_with("HED"), "{finding:#}");
        let level = finding["level"].as_str().unwrap();
        assert!(["error", "warning", "info"].contains(&level), "{finding:#}");
        assert!(finding["upstream"].is_array() && finding["message"].is_string(), "{finding:#}");
        assert_eq!(finding["origin"]["kind"], "VirtualService");
        assert_eq!(finding["origin"]["file"], file.display().to_string());
        assert!(finding["origin"]["line"].as_u64().unwrap() > 1, "{finding:#}");
        assert!(finding["origin"]["column"].is_u64(), "{finding:#}");
    }
    let outcomes = json["outcomes"].as_array().unwrap();
    assert!(!outcomes.is_empty(), "{json:#}");
    for outcome in outcomes {
        let word = outcome["outcome"].as_str().unwrap();
        let words = ["applied", "translated", "ignored", "unsupported", "conflict"];
        assert!(words.contains(&word) && outcome["origin"].is_object(), "{outcome:#}");
    }
}

#[test]
fn a_hundred_megabytes_are_refused_at_once() {
    let mesh = mesh();
    let file = mesh.folder().join("big.yaml");
    let mut writer = std::fs::File::create(&file).unwrap();
    let line = "# nothing but words, again and again and again and again and again and again\n";
    let block = line.repeat(10_000);
    for _ in 0..=100_000_000 / block.len() {
        writer.write_all(block.as_bytes()).unwrap();
    }
    let path = file.display().to_string();
    for command in [["analyze", "-f", &path], ["up", "-f", &path]] {
        let told = mesh.start(&command).end();
        let text = format!("{}{}", told.stdout, told.stderr);
        assert!(matches!(told.code, Some(1 | 79)), "{told:#?}");
        assert!(text.contains("big.yaml") && text.contains("bytes"), "{text}");
        assert!(told.took < Duration::from_secs(20), "{:?}", told.took);
    }
}

#[test]
fn exit_codes_are_those_that_scripts_rely_on() {
    let mesh = mesh();
    let fine = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    assert_eq!(analyze(&mesh, "fine.yaml", fine, &[]).0.code, Some(0));
    assert_eq!(mesh.run(&["no-such-command"]).code, Some(2));
    assert_eq!(mesh.run(&["apply"]).code, Some(2), "an argument is missing");
    let missing = mesh.run(&["analyze", "-f", "/nowhere/at-all.yaml"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("/nowhere/at-all.yaml"), "{missing:#?}");
    assert!(missing.stderr.contains("hint: "), "{missing:#?}");
    let empty = mesh.folder().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let told = mesh.run(&["up", "-d", "-f", &empty.display().to_string()]);
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("no .yaml"), "{told:#?}");
    for command in [&["status"][..], &["get", "all"], &["exec", "a", "--", "true"]] {
        let told = mesh.run(command);
        assert_eq!(told.code, Some(1), "no mesh runs: {told:#?}");
        assert!(told.stderr.contains("hint: "), "{told:#?}");
    }
}

/// Fills the disk under a running mesh, and makes room again.
const FULL_DISK: &str = r#"
set -e
mount -t tmpfs -o size=2m none "$STATE"
trap '"$HEDDLE" down >/dev/null' EXIT
"$HEDDLE" up -d -f application.yaml
cat /dev/zero > "$STATE/fill" 2>/dev/null || true
echo "--- full"
"$HEDDLE" apply -f big.yaml && echo "kept though there is no room"
"$HEDDLE" exec client -- heddle sample load --count 1 http://ratings:9080/ratings/0
rm "$STATE/fill"
echo "--- room"
"$HEDDLE" apply -f big.yaml
"$HEDDLE" get configmap big
"#;

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let before = ["--user", "--map-root-user", "--mount"];
    let probe = std::process::Command::new("unshare").args(before).arg("true").output();
    if !has(&["unshare", "mount"]) || !probe.is_ok_and(|probe| probe.status.success()) {
        skip("this machine does not let a test mount");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let application = [sample("ratings", "ratings", "v1", 1), client("client")].concat();
    std::fs::write(folder.path().join("application.yaml"), application).unwrap();
    let big = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{a: \"{}\"}}\n",
        "x".repeat(400_000)
    );
    std::fs::write(folder.path().join("big.yaml"), big).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(before).args(["sh", "-c", FULL_DISK]).current_dir(folder.path());
    command.env("HEDDLE", PROGRAM).env("STATE", &state).env("HEDDLE_STATE", &state);
    command.env("PATH", heddle_testkit::PROGRAM_FOLDERS).env("HOME", folder.path());
    let told = Running::start(command, "").end_within(LONG * 2);
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.stderr.contains("no space left"), "the cause: {told:#?}");
    assert!(told.stderr.contains("hint: make room"), "what to do: {told:#?}");
    let (before, after) = told.stdout.split_once("--- room").unwrap();
    assert!(!before.contains("configmap default/big created"), "{told:#?}");
    assert!(after.contains("configmap default/big created"), "{told:#?}");
}

#[test]
fn what_a_secret_holds_is_not_in_the_store() {
    const WORDS: &str = "correct-horse-battery-staple";
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: {WORDS}}}\n"
    );
    let mesh = mesh();
    mesh.up(&secret);
    mesh.apply(&secret.replace("staple", "staple-2"));
    let shown = mesh.must(&["get", "secret", "s", "-o", "yaml"]);
    assert!(shown.contains(WORDS), "{shown}");
    mesh.must(&["down"]);
    let mut files = 0;
    for entry in std::fs::read_dir(mesh.state()).unwrap().flatten() {
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        files += 1;
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains(WORDS) && !text.contains("PRIVATE KEY"),
            "{}",
            entry.path().display()
        );
    }
    assert!(files >= 2, "the store and its key");
    mesh.up("");
    assert!(mesh.must(&["get", "secret", "s", "-o", "yaml"]).contains("staple-2"));
}

#[test]
fn up_does_not_wait_for_what_cannot_become_ready() {
    let without = "
apiVersion: v1
kind: Pod
metadata: {name: image-only}
spec: {containers: [{name: main, image: example/app}]}
---
";
    let mesh = mesh();
    let told = mesh.run_with(
        &["up", "-d", "--timeout", "10m", "-f", "-"],
        &[without, &client("client")].concat(),
    );
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(told.stderr.contains("will not become so"), "{told:#?}");
    assert!(
        told.stderr.contains("image-only") && told.stderr.contains("has no command"),
        "{told:#?}"
    );
    assert!(told.stdout.contains("1 of 2 workloads ready"), "{told:#?}");
    mesh.must(&["down"]);
}
