//! What a mesh must do.

use std::process::Command;
use std::time::Duration;

use heddle_proto::node::handler::Action;
use heddle_proto::node::{
    ExecAction, HttpAction, MountedDirectory, MountedFile, Phase as ReportPhase, PublishedPort,
    RestartPolicy,
};
use heddle_standalone::LogRequest;
use heddle_standalone::status::Phase;

use crate::mesh::{LONG, Mesh, User, container, probe, processes_in, server, wait, workload};
use crate::roles::get;

type Test = (&'static str, fn(User));

pub(crate) const ALL: &[Test] = &[
    ("two_workloads_reach_each_other_by_name", reach_by_name),
    ("a_workload_sees_nothing_of_the_mesh", isolation),
    ("files_and_volumes_are_where_they_were_asked_for", files),
    ("what_a_container_prints_is_kept", logs),
    ("commands_run_beside_the_application", exec),
    ("a_crash_is_followed_by_a_new_start_after_a_pause", crash),
    ("containers_run_in_their_order_and_to_their_end", order),
    ("probes_decide_about_readiness_and_restarts", probes),
    ("a_proxy_comes_first_and_nothing_goes_around_it", proxy),
    ("a_workload_that_is_not_wanted_is_stopped_in_order", stop_one),
    ("ports_of_the_host_lead_into_the_mesh", published),
    ("the_control_plane_may_die", control),
    ("a_stop_leaves_nothing", stop),
    ("kill_minus_nine_leaves_nothing", kill),
    ("a_capture_shows_what_goes_over_the_bridge", capture),
    ("one_state_directory_is_for_one_mesh", locked),
];

/// A program that runs until it is killed, and minds SIGTERM.
const IDLE: &[&str] = &["sleep", "1000"];

fn reach_by_name(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![server("server", 10, 80, "hello"), workload("client", 11, IDLE)]);
    mesh.until_ready("server");
    mesh.until_ready("client");
    for target in
        ["server:80", "server.default:80", "server.default.svc.cluster.local:80", "10.244.0.10:80"]
    {
        let (code, text) = mesh.exec("client", &["heddle", "fetch", target]);
        assert_eq!((code, text.as_str()), (0, "hello\n"), "{target}");
    }
    let (code, _) = mesh.exec("client", &["heddle", "fetch", "nobody:80"]);
    assert_eq!(code, 7);
    let (_, text) =
        mesh.exec("client", &["sh", "-c", "heddle fetch server:80; cat /etc/resolv.conf"]);
    assert_eq!(
        text,
        "hello\nnameserver 10.244.0.1\nnameserver fd00:244::1\n\
         search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    let report = mesh.report();
    let ready: Vec<_> = report.workloads.iter().map(|w| (w.id.as_str(), w.ready)).collect();
    assert_eq!(
        ready,
        [("standalone/Pod/default/client", true), ("standalone/Pod/default/server", true)]
    );
    assert!(report.complete && !report.instance.is_empty());
}

fn isolation(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![workload("one", 10, IDLE)]);
    mesh.until_ready("one");
    let run = |script: &str| {
        let (code, text) = mesh.exec("one", &["sh", "-c", script]);
        assert_eq!(code, 0, "{script}: {text}");
        text
    };
    let root = mesh.root();
    assert_eq!(run(&format!("ls {}", root.display())), "bin\n", "the state is out of sight");
    // The shell and what it starts have their own ids; the application is the child of its init.
    assert_eq!(run("cat /proc/1/comm /proc/2/comm | tail -1"), "sleep\n");
    assert!(run("ls -d /proc/[0-9]* | wc -l").trim().parse::<u32>().unwrap() < 10);
    let status = run("cat /proc/2/status");
    for (name, value) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        let line = format!("{name}:\t{value}");
        assert!(status.lines().any(|own| own == line), "{line} in {status}");
    }
    assert_eq!(run("hostname; cat /etc/hostname"), "one\none\n");
    assert!(run("cat /etc/hosts").contains("10.244.0.10 one\n"));
    assert!(run("cat /etc/nsswitch.conf").ends_with("hosts: files dns\n"));
    assert_eq!(run("ls /sys/class/net /proc/self/fd >/dev/null; echo $HOSTNAME"), "one\n");
    let refused = run("echo 1 2>&1 >/proc/sys/net/ipv4/ip_forward || true");
    assert!(refused.contains("Read-only"), "{refused}");
    let (code, _) =
        mesh.exec("one", &["sh", "-c", "umount /etc/hosts || ip link add x type dummy"]);
    assert_ne!(code, 0);
    // The command has no capability either.
    assert!(run("cat /proc/self/status").contains("CapBnd:\t0000000000000000\n"));
}

fn files(user: User) {
    let mesh = Mesh::start(user);
    let file = |path: &str, text: &str| MountedFile {
        path: path.into(),
        content: text.as_bytes().to_vec(),
        mode: 0o640,
    };
    let volume = |path: &str| MountedDirectory {
        path: path.into(),
        volume: "shared".into(),
        ..MountedDirectory::default()
    };
    let mut one = workload("one", 10, IDLE);
    one.containers[0].files = vec![
        file("/heddle-config/deep/a", "alpha"),
        file("/etc/heddle-test", "beta"),
        file("/etc/passwd", "root:x:0:0::/:/bin/sh\n"),
    ];
    one.containers[0].directories = vec![volume("/heddle-data"), volume("/tmp")];
    one.containers.push(container("other", IDLE));
    one.containers[1].directories = vec![volume("/var/tmp")];
    one.containers[0].env = vec![heddle_proto::node::EnvironmentVariable {
        name: "GREETING".into(),
        value: "good day".into(),
    }];
    one.containers[0].working_dir = "/heddle-data".into();
    let mut missing = workload("missing", 11, IDLE);
    missing.containers[0].directories = vec![MountedDirectory {
        path: "/mnt".into(),
        volume: "v".into(),
        host_path: "/no/such/folder".into(),
        read_only: true,
    }];
    mesh.want(vec![one, missing]);
    mesh.until_ready("one");
    let script = "cat /heddle-config/deep/a /etc/heddle-test; stat -c ' %a' /etc/heddle-test; wc -l </etc/passwd; \
                  echo $GREETING; pwd; echo x >/heddle-data/x; ls /tmp";
    let (code, text) = mesh.exec("one", &["sh", "-c", script]);
    assert_eq!((code, text.as_str()), (0, "alphabeta 640\n1\ngood day\n/heddle-data\nx\n"));
    let missing = mesh.until_workload("missing", "no back-off", |w| w.phase == Phase::BackOff);
    assert!(missing.containers[0].process.message.contains("/no/such/folder"), "{missing:?}");
    mesh.want(Vec::new());
    mesh.until("the workloads are still there", |status| status.workloads.is_empty());
    let folder = mesh.root().join("workloads");
    let is_empty = || std::fs::read_dir(&folder).unwrap().count() == 0;
    mesh.until("files go with their workload", |_| is_empty());
}

fn logs(user: User) {
    let mesh = Mesh::start(user);
    let script = "echo one; echo two >&2; while :; do sleep 0.05; echo tick; done";
    mesh.want(vec![workload("talker", 10, &["sh", "-c", script])]);
    mesh.until_ready("talker");
    let request = LogRequest { workload: Some("talker".into()), ..LogRequest::default() };
    wait("both streams are stored", || {
        let text = mesh.log(&request);
        text.contains("one\n") && text.contains("two\n") && text.contains("tick\n")
    });
    let tail = mesh.log(&LogRequest { tail: Some(1), timestamps: true, ..request.clone() });
    assert!(tail.ends_with("Z tick\n") && tail.lines().count() == 1, "{tail}");
    let follow = LogRequest { follow: true, tail: Some(0), ..request };
    let mut seen = String::new();
    let followed = mesh.block(async |client| {
        let take = |bytes: &[u8]| {
            seen.push_str(std::str::from_utf8(bytes).unwrap());
            if seen.lines().count() > 3 { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
        };
        tokio::time::timeout(LONG, client.logs(&follow, take)).await
    });
    assert!(followed.is_ok() && seen.lines().all(|line| line == "tick"), "{seen}");
}

fn exec(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![workload("one", 10, IDLE)]);
    mesh.until_ready("one");
    assert_eq!(mesh.exec("one", &["sh", "-c", "exit 42"]).0, 42);
    assert_eq!(mesh.exec("default/one", &["sh", "-c", "kill -9 $$"]).0, 137);
    let (code, text) = mesh.exec("one", &["sh", "-c", "test -t 0 || echo no terminal"]);
    assert_eq!((code, text.as_str()), (0, "no terminal\n"));
    for (workload, command, word) in
        [("two", "true", "no workload default/two"), ("one", "/no/such/program", "No such file")]
    {
        let error = mesh.try_exec(workload, &[command]).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let (code, text) = mesh.exec_in_terminal("one", &["sh", "-c", "tty >/dev/null && echo $TERM && ps -o tty= -p $$ | grep -v '?' >/dev/null && stty size"]);
    assert_eq!((code, text.as_str()), (0, "xterm-test\r\n24 80\r\n"), "{text}");
}

fn crash(user: User) {
    let mesh = Mesh::start(user);
    let mut none = workload("none", 11, &[]);
    none.containers[0].image = "nginx".into();
    mesh.want(vec![
        workload("crasher", 10, &["sh", "-c", "echo run; exit 3"]),
        none,
        workload("absent", 12, &["heddle-no-such-program"]),
    ]);
    let crasher = mesh.until_workload("crasher", "no second back-off", |w| {
        w.phase == Phase::BackOff && w.restarts() >= 2
    });
    assert_eq!(crasher.containers[0].process.exit_code, Some(3));
    let message = &crasher.containers[0].process.message;
    assert!(message.contains("exited with 3") && message.contains("again in 4s"), "{message}");
    let none = mesh.until_workload("none", "not failed", |w| w.phase == Phase::Failed);
    assert!(none.containers[0].process.message.contains("has no command"), "{none:?}");
    let absent = mesh.until_workload("absent", "no back-off", |w| w.phase == Phase::BackOff);
    let message = &absent.containers[0].process.message;
    assert!(message.contains("heddle-no-such-program"), "{message}");
    let previous =
        LogRequest { workload: Some("crasher".into()), previous: true, ..LogRequest::default() };
    assert_eq!(mesh.log(&previous), "run\n");
    wait("the report tells it", || {
        let report = mesh.report();
        report
            .workloads
            .iter()
            .any(|w| w.phase() == ReportPhase::BackOff && w.exit_code == Some(3) && w.restarts >= 2)
    });
    // The operator does not wait for the pause.
    mesh.block(async |client| client.restart("crasher").await).unwrap();
    mesh.until_workload("crasher", "not restarted", |w| w.restarts() > 2);
}

fn order(user: User) {
    let mesh = Mesh::start(user);
    let mut job = workload("job", 10, &["sh", "-c", "cat /tmp/word; exit 0"]);
    let share = |container: &mut heddle_proto::node::Container| {
        container.directories = vec![MountedDirectory {
            path: "/tmp".into(),
            volume: "v".into(),
            ..MountedDirectory::default()
        }];
    };
    job.restart_policy = RestartPolicy::OnFailure.into();
    job.init_containers = vec![
        container("first", &["sh", "-c", "echo a >>/tmp/word"]),
        container("beside", &["sh", "-c", "echo b >>/tmp/word; exec sleep 1000"]),
        container(
            "second",
            &["sh", "-c", "until grep -q b /tmp/word; do :; done; echo c >>/tmp/word"],
        ),
    ];
    job.init_containers[1].restart_always = true;
    job.init_containers.iter_mut().chain(&mut job.containers).for_each(share);
    let mut failing = workload("failing", 11, IDLE);
    failing.restart_policy = RestartPolicy::Never.into();
    failing.init_containers = vec![container("first", &["false"])];
    mesh.want(vec![job, failing]);
    let job = mesh.until_workload("job", "not done", |w| w.phase == Phase::Succeeded);
    let phases: Vec<_> = job.containers.iter().map(|c| c.process.phase).collect();
    assert_eq!(phases[0], Phase::Succeeded);
    mesh.until_workload("job", "the sidecar goes on", |w| {
        w.containers[1].process.phase == Phase::Stopped
    });
    let request = LogRequest { workload: Some("job".into()), ..LogRequest::default() };
    assert_eq!(mesh.log(&request), "a\nb\nc\n");
    let failing = mesh.until_workload("failing", "not failed", |w| w.phase == Phase::Failed);
    assert_eq!(failing.containers[1].process.phase, Phase::Pending);
}

fn probes(user: User) {
    let mesh = Mesh::start(user);
    let mut web = server("web", 10, 8080, "fine");
    web.containers[0].readiness_probe = Some(probe(Action::Http(HttpAction {
        port: 8080,
        path: "/".into(),
        ..HttpAction::default()
    })));
    let flag = |path: &str| {
        probe(Action::Exec(ExecAction {
            command: vec!["sh".into(), "-c".into(), format!("test ! -e {path}")],
        }))
    };
    let mut ill = workload("ill", 11, IDLE);
    let data = MountedDirectory {
        path: "/heddle-data".into(),
        volume: "v".into(),
        ..MountedDirectory::default()
    };
    ill.containers[0].directories = vec![data];
    ill.containers[0].readiness_probe = Some(flag("/heddle-data/busy"));
    ill.containers[0].liveness_probe = Some(flag("/heddle-data/dead"));
    mesh.want(vec![web, ill]);
    mesh.until_ready("web");
    mesh.until_ready("ill");
    let touch = |script: &str| assert_eq!(mesh.exec("ill", &["sh", "-c", script]).0, 0);
    touch("touch /heddle-data/busy");
    mesh.until_workload("ill", "still ready", |w| !w.ready && w.phase == Phase::Running);
    touch("rm /heddle-data/busy");
    mesh.until_ready("ill");
    touch("touch /heddle-data/dead");
    let ill = mesh.until_workload("ill", "not restarted", |w| w.phase == Phase::BackOff);
    let message = &ill.containers[0].process.message;
    assert!(message.contains("liveness probe failed: command exited with 1"), "{message}");
}

fn proxy(user: User) {
    let mesh = Mesh::start(user);
    let mut meshed = server("meshed", 10, 8080, "secret");
    meshed.meshed = true;
    mesh.want(vec![meshed, server("plain", 11, 8080, "public")]);
    let status = mesh.until_ready("meshed");
    mesh.until_ready("plain");
    assert!(status.proxy.as_ref().unwrap().ready);
    // The proxy under test passes nothing on: whatever is intercepted is refused, both ways.
    let (code, text) = mesh.exec("plain", &["heddle", "fetch", "10.244.0.10:8080"]);
    assert_eq!(code, 7, "{text}");
    let (code, text) = mesh.exec("meshed", &["heddle", "fetch", "10.244.0.11:8080"]);
    assert_eq!(code, 7, "{text}");
    // Its health is open to the network, and it is told whose it is.
    let (code, text) = mesh.exec("plain", &["heddle", "fetch", "10.244.0.10:15021"]);
    assert_eq!((code, text.as_str()), (0, "ready\n"));
    let request = LogRequest {
        workload: Some("meshed".into()),
        container: Some("istio-proxy".into()),
        ..LogRequest::default()
    };
    let log = mesh.log(&request);
    for line in [
        "proxy --control-fd 3 --names-fd 5 --workload standalone/Pod/default/meshed --workload-api-fd 4\n",
        "control plane: reached\n",
        "localhost: resolved\n",
        "the host's loopback: denied\n",
        "a port of the host: denied\n",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    // The application finds the Workload API, before and after its proxy was another process; a plain one has none.
    let finds = || {
        let script = "test -S ${SPIFFE_ENDPOINT_SOCKET#unix://} && stat -c %a ${SPIFFE_ENDPOINT_SOCKET#unix://}";
        mesh.exec("meshed", &["sh", "-c", script])
    };
    assert_eq!(finds(), (0, "600\n".to_owned()));
    let (_, text) = mesh.exec("plain", &["sh", "-c", "echo \"[$SPIFFE_ENDPOINT_SOCKET]\""]);
    assert_eq!(text, "[]\n");
    let before = status.proxy.unwrap().pid;
    mesh.block(async |client| client.kill_proxy("meshed").await).unwrap();
    let after = mesh.until_workload("meshed", "the proxy is not back", |w| {
        w.ready && w.proxy.as_ref().is_some_and(|p| p.pid != before && p.restarts == 1)
    });
    assert_eq!(after.restarts(), 0, "the application goes on");
    assert_eq!(finds().0, 0);
    let (code, _) = mesh.exec("plain", &["heddle", "fetch", "10.244.0.10:8080"]);
    assert_eq!(code, 7);
}

fn stop_one(user: User) {
    let mesh = Mesh::start(user);
    let script = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done";
    let mut polite = workload("polite", 10, &["sh", "-c", script]);
    let mut deaf =
        workload("deaf", 11, &["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"]);
    deaf.termination_grace_ms = 300;
    mesh.want(vec![polite.clone(), deaf]);
    mesh.until_ready("polite");
    mesh.until_ready("deaf");
    mesh.want(Vec::new());
    mesh.until("they still run", |status| status.workloads.is_empty());
    // Its address is free again, for another one of the same name.
    polite.uid = "another".into();
    mesh.want(vec![polite]);
    let status = mesh.until_ready("polite");
    assert_eq!(status.uid, "another");
    let previous =
        LogRequest { workload: Some("polite".into()), previous: true, ..LogRequest::default() };
    assert_eq!(mesh.log(&previous), "bye\n");
}

fn published(user: User) {
    let mesh = Mesh::start(user);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |host_port: u16| PublishedPort {
        host_port: host_port.into(),
        workload_port: 8080,
        ..PublishedPort::default()
    };
    let mut web = server("web", 10, 8080, "hello outside");
    web.published_ports = vec![port(0), port(taken.local_addr().unwrap().port())];
    mesh.want(vec![web]);
    mesh.until_ready("web");
    let web = mesh.until_workload("web", "nothing published", |w| w.published.len() == 2);
    let open = &web.published[0];
    assert_eq!(open.error, None);
    assert_eq!(get(&format!("127.0.0.1:{}", open.host_port)).unwrap(), "hello outside");
    let error = web.published[1].error.clone().unwrap();
    let number = taken.local_addr().unwrap().port().to_string();
    assert!(error.contains(&number) && error.contains("default/web"), "{error}");
    drop(taken);
    mesh.until_workload("web", "the freed port is not opened", |w| {
        w.published.iter().all(|port| port.error.is_none())
    });
}

fn control(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![server("web", 10, 8080, "on"), workload("client", 11, IDLE)]);
    let before = mesh.until_ready("web");
    mesh.until_ready("client");
    let pid = mesh.until("no control plane", |status| status.control.ready).control.pid;
    mesh.block(async |client| client.kill_control().await).unwrap();
    let after = mesh.until("the control plane is not back", |status| {
        status.control.ready && status.control.pid != pid
    });
    assert_eq!(after.control.restarts, 1);
    assert_eq!(mesh.until_ready("web"), before, "workloads do not notice");
    mesh.want(vec![workload("client", 11, IDLE)]);
    mesh.until("the new one is not followed", |status| status.workloads.len() == 1);
}

fn stop(user: User) {
    let mut mesh = Mesh::start(user);
    mesh.want(vec![workload("one", 10, IDLE)]);
    mesh.until_ready("one");
    let namespace = mesh.user_namespace();
    assert!(processes_in(&namespace).len() > 3);
    mesh.block(async |client| client.stop(LONG).await).unwrap();
    assert_eq!(mesh.ended(), Some(0));
    assert_eq!(processes_in(&namespace), [0; 0]);
    let run = std::fs::read_dir(mesh.root().join("run")).unwrap();
    let left: Vec<_> = run.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    assert!(!mesh.root().join("workloads").exists());
    // SIGTERM to the broker is as good.
    let mut mesh = Mesh::start(user);
    mesh.want(vec![workload("one", 10, IDLE)]);
    mesh.until_ready("one");
    let namespace = mesh.user_namespace();
    let pid = mesh.broker.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(mesh.ended(), Some(0));
    assert_eq!(processes_in(&namespace), [0; 0]);
}

fn kill(user: User) {
    let mut mesh = Mesh::start(user);
    mesh.want(vec![server("web", 10, 8080, "x"), workload("one", 11, IDLE)]);
    mesh.until_ready("web");
    let namespace = mesh.user_namespace();
    mesh.broker.kill().unwrap();
    mesh.broker.wait().unwrap();
    wait("processes are left", || processes_in(&namespace).is_empty());
    assert!(mesh.root().join("run/supervisor.sock").exists(), "a stale socket");
    // The next start cleans up.
    let mesh = mesh.restart();
    mesh.until_ready("web");
    // The supervisor's death is everything's, too.
    let namespace = mesh.user_namespace();
    let mut mesh = mesh;
    let supervisor = mesh.supervisor_pid().to_string();
    assert!(Command::new("kill").args(["-9", &supervisor]).status().unwrap().success());
    assert_eq!(mesh.ended(), Some(4));
    wait("processes are left", || processes_in(&namespace).is_empty());
}

fn capture(user: User) {
    let mesh = Mesh::start(user);
    mesh.want(vec![server("web", 10, 8080, "in the clear"), workload("client", 11, IDLE)]);
    mesh.until_ready("web");
    mesh.until_ready("client");
    let client = mesh.client.clone();
    let capturing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { client.capture(Duration::from_millis(600)).await.unwrap() })
    });
    while !capturing.is_finished() {
        mesh.exec("client", &["heddle", "fetch", "web:8080"]);
    }
    let report = capturing.join().unwrap();
    assert_eq!(report.dropped, 0);
    let hex = "474554202f20485454502f312e31"; // GET / HTTP/1.1
    let plain = report.connections.iter().any(|c| !c.tls && c.head.starts_with(hex));
    assert!(plain && report.connections.len() > 1, "{report:?}");
}

fn locked(user: User) {
    let mesh = Mesh::start(user);
    let root = mesh.root();
    let output = user
        .command(&["broker", root.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    let pid = mesh.broker.id().to_string();
    assert!(text.contains(&pid) && text.contains("heddle down"), "{text}");
    std::thread::sleep(Duration::from_millis(1));
    mesh.until("the first goes on", |status| status.control.ready);
}
