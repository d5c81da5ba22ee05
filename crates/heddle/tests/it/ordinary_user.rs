//! Without root, and on a host that forbids user namespaces.

use std::os::unix::fs::{PermissionsExt, chown};

use heddle_testkit::{Mesh, has, skip};

use crate::{PROGRAM, client, sample};

const NOBODY: u32 = 65534;

#[test]
fn needs_no_root() {
    if !rustix::process::geteuid().is_root() {
        // Every other test shows it then.
        return;
    }
    if !has(&["setpriv"]) {
        return;
    }
    // Outside of the folders of a developer, which others may not read.
    let programs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = programs.path().join("heddle");
    std::fs::copy(PROGRAM, &program).unwrap();
    let before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mesh = Mesh::new(&program).through(&before);
    chown(mesh.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    mesh.up(&[sample("ratings", "ratings", "v1", 1), client("client")].concat());
    let summary = mesh.load("client", &["--count", "5", "http://ratings:9080/ratings/0"]);
    assert_eq!(summary["statuses"]["200"], 5, "{summary:#}");
    mesh.must(&["down"]);
}

/// A user namespace in which no other may be made stands for a host that forbids them.
#[test]
fn a_host_that_forbids_user_namespaces_is_named() {
    if !has(&["unshare", "setpriv", "sh"]) {
        return;
    }
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
         exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"];
    let mesh = Mesh::new(PROGRAM).through(&before);
    let probe = std::process::Command::new(before[0])
        .args(&before[1..])
        .arg("true")
        .stderr(std::process::Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        skip("this machine forbids user namespaces itself, or has no limit of them");
        return;
    }
    let told = mesh.run_with(&["up", "-d", "-f", "-"], &client("client"));
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(told.stderr.contains("this host forbids user namespaces"), "the cause: {told:#?}");
    assert!(told.stderr.contains("sysctl user.max_user_namespaces"), "what to change: {told:#?}");
}
