//! Starting, confining, ending processes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use heddle_net::interception::{Interception, PROXY_MARK};
use heddle_net::namespace::{Namespaces, NetworkNamespace};
use heddle_net::netlink::RouteSocket;
use heddle_net::process::{
    Capabilities, Child, ExitStatus, Isolation, Limit, Limited, Mount, Plan, RUN_PLAN, SpawnError,
    Split, Stream, leave_init_behind, protect_memory, spawn, spawn_with, split,
};
use heddle_net::socket::{ListenOptions, SocketFactory};

use crate::harness::{Helper, Test, block_on, helper};

pub(crate) const TESTS: &[Test] = &[
    ("process::the_program_gets_what_the_plan_says", given),
    ("process::descriptors_are_placed_and_others_closed", descriptors),
    ("process::privileges_are_gone_for_good", privileges),
    ("process::chosen_capabilities_are_kept", kept_capabilities),
    ("process::another_user_is_seen", another_user),
    ("process::only_a_proxy_can_leave_interception", marks),
    ("process::a_first_process_leaves_an_init_behind", first_process),
    ("process::an_init_reaps_forwards_and_ends_with_the_program", init),
    ("process::killing_the_init_kills_everything", kill_init),
    ("process::proc_shows_only_the_namespace", own_proc),
    ("process::mounts_and_names_are_its_own", mounts),
    ("process::places_are_made_where_the_host_has_none", places),
    ("process::the_network_namespace_is_the_chosen_one", network),
    ("process::commands_join_a_running_process", join),
    ("process::failures_name_the_step", failures),
    ("process::unusable_plans_are_refused", unusable),
    ("process::it_dies_with_its_parent", dies_with_parent),
    ("process::waiting_is_asynchronous_too", waiting),
    ("process::large_environments_pass", large),
    ("process::memory_can_be_protected", memory),
    ("process::the_runner_refuses_other_callers", runner),
    ("split::inside_is_isolated_and_connected", split_inside),
    ("split::killing_any_part_leaves_nothing", split_killed),
];

/// What this program does with `--helper NAME`, without namespaces and with one thread.
pub(crate) const HELPERS: &[Helper] = &[
    ("first", first_helper),
    ("mark", mark_helper),
    ("nested-mark", nested_mark_helper),
    ("parent", parent),
    ("split", split_helper),
];

const ISOLATED: Namespaces = Namespaces { network: false, ..Namespaces::ALL };

fn shell(script: &str) -> Plan {
    let mut plan = Plan::new("/bin/sh");
    plan.arguments = vec!["-c".into(), script.into()];
    plan.environment = vec![("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into())];
    plan
}

/// Starts a plan with its output in a pipe.
fn started(mut plan: Plan) -> (Child, BufReader<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    plan.stdout = Stream::Descriptor(theirs.into());
    (spawn(plan).unwrap_or_else(|error| panic!("{error:?}")), BufReader::new(ours))
}

/// Runs a plan to its end.
fn output(plan: Plan) -> (String, ExitStatus) {
    let (mut child, mut reader) = started(plan);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap())
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn given() {
    let mut plan = Plan::new("sh");
    plan.arguments = vec![
        "-c".into(),
        "pwd; echo \"$1\"; env | sort; ulimit -n; exit 7".into(),
        "x".into(),
        "ü b".into(),
    ];
    plan.environment =
        vec![("PATH".into(), "/bin:/usr/bin".into()), ("COLOUR".into(), "blue".into())];
    plan.working_directory = Some("/usr".into());
    plan.limits = vec![Limit { of: Limited::OpenFiles, soft: 55, hard: 66 }];
    let (text, status) = output(plan);
    assert_eq!(text, "/usr\nü b\nCOLOUR=blue\nPATH=/bin:/usr/bin\nPWD=/usr\n55\n");
    assert_eq!(status, ExitStatus::Code(7));
    assert_eq!(output(shell("kill -9 $$")).1, ExitStatus::Signal(9));
    // The runtime of this language ignores SIGPIPE; programs must not inherit that.
    let (text, _) = output(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2"));
    let sets: Vec<u64> = text.lines().map(|set| u64::from_str_radix(set, 16).unwrap()).collect();
    assert_eq!((sets[0], sets[1] & (1 << (libc::SIGPIPE - 1))), (0, 0), "{text}");
}

fn descriptors() {
    let file = |content: &str| -> OwnedFd {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content");
        std::fs::write(&path, content).unwrap();
        File::open(path).unwrap().into()
    };
    let leaked = file("leaked");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    for namespaces in [Namespaces::NONE, ISOLATED] {
        let mut plan = shell(
            "cat <&3; cat <&4; cat /proc/self/fd/63; n=0; while [ $n -lt 99 ]; do [ -e /proc/$$/fd/$n ] && printf '%s ' $n; n=$((n+1)); done; exit 0",
        );
        plan.isolation = Isolation::New(namespaces);
        plan.descriptors = vec![(file("one "), 4), (file("two "), 3), (file("three "), 63)];
        if namespaces.pid {
            plan.mounts = vec![Mount::Proc { target: "/proc".into() }];
        }
        let (text, status) = output(plan);
        assert!(status.is_success());
        // Asked one by one: whatever lists a folder has it open.
        assert_eq!(text.trim_end(), "two one three 0 1 2 3 4 63", "{namespaces:?}");
    }
    drop(leaked);
}

/// The lines of `/proc/self/status` of a plan's shell that begin so.
fn status_lines(plan: &mut Plan, pattern: &str) -> String {
    plan.arguments = vec![
        "-c".into(),
        format!("grep -E '^({pattern})' /proc/self/status | cut -f2 | tr '\\n' ' '").into(),
    ];
    plan.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let confined = std::mem::replace(plan, Plan::new("/bin/sh"));
    output(confined).0.trim_end().to_owned()
}

fn privileges() {
    let mut plan = shell("");
    let text = status_lines(&mut plan, "CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs");
    let none = "0000000000000000";
    assert_eq!(text, format!("{none} {none} {none} {none} {none} 1"));
    // And nothing a mount needs, although it is user 0 of the namespace.
    let (_, status) = output(shell("mount -t tmpfs none /mnt 2>/dev/null"));
    assert!(!status.is_success());
    let mut plan = shell("");
    plan.new_privileges = true;
    plan.capabilities = Capabilities::KEEP;
    let text = status_lines(&mut plan, "CapEff|NoNewPrivs");
    assert!(!text.starts_with(none) && text.ends_with(" 0"), "{text}");
}

fn kept_capabilities() {
    let mut plan = shell("");
    plan.capabilities = Capabilities::NET_RAW | Capabilities::NET_BIND_SERVICE;
    let text = status_lines(&mut plan, "CapPrm|CapEff|CapBnd");
    assert_eq!(text, "0000000000002400 0000000000002400 0000000000002400");
}

fn another_user() {
    let mut plan = shell("echo $(id -u) $(id -g); grep -E '^(CapEff|CapBnd)' /proc/self/status");
    plan.user = Some((70, 80));
    let (text, status) = output(plan);
    assert!(status.is_success(), "{text}");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("70 80"), "{text}");
    assert!(lines.all(|line| line.ends_with("0000000000000000")), "{text}");
}

/// Tries what takes a process out of interception.
fn mark_helper() -> i32 {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    block_on(async {
        let marked = SocketFactory::here().with_mark(PROXY_MARK).bind_udp(local).is_ok();
        let options = ListenOptions { transparent: true, ..ListenOptions::default() };
        let transparent = SocketFactory::here().listen(local, options).is_ok();
        let removed = NetworkNamespace::current().is_ok_and(|here| {
            RouteSocket::open().is_ok() && Interception::default().remove(&here).is_ok()
        });
        println!("{marked} {transparent} {removed}");
    });
    0
}

fn marks() {
    let namespace = NetworkNamespace::create().unwrap();
    RouteSocket::open_in(&namespace).unwrap().bring_up_loopback().unwrap();
    let cases = [
        (Capabilities::NONE, "false false false\n"),
        (Capabilities::NET_BIND_SERVICE, "false false false\n"),
        // Enough for a proxy: it marks, and cannot touch the rules.
        (Capabilities::NET_RAW, "true true false\n"),
        (Capabilities::NET_ADMIN, "true true true\n"),
    ];
    for (capabilities, expected) in cases {
        let mut plan = Plan::new(std::env::current_exe().unwrap());
        plan.arguments = vec!["--helper".into(), "mark".into()];
        plan.network = Some(namespace.clone());
        plan.capabilities = capabilities;
        assert_eq!(output(plan).0, expected, "{capabilities:?}");
    }
    // A user namespace of its own gives power over nothing that was there before.
    let mut plan = Plan::new(std::env::current_exe().unwrap());
    plan.arguments = vec!["--helper".into(), "nested-mark".into()];
    plan.network = Some(namespace);
    assert_eq!(output(plan).0, "false false false\n");
}

/// The same in a user namespace below, where the process has every capability.
fn nested_mark_helper() -> i32 {
    // Its user may not be mapped there, which takes nothing from it.
    let _ = heddle_net::namespace::enter_user_namespace();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!status.contains("CapEff:\t0000000000000000"), "{status}");
    mark_helper()
}

/// As the first process of a container: an init stays behind, an orphan is collected.
fn first_helper() -> i32 {
    leave_init_behind().unwrap();
    println!("pid {}", std::process::id());
    6
}

fn first_process() {
    let program = std::env::current_exe().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(arguments).arg(&program).args(["--helper", "first"]);
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    assert_eq!(run(&["--pid", "--fork", "--mount-proc"]), ("pid 2\n".to_owned(), Some(6)));
    let (text, code) = run(&["--mount"]);
    assert!(text != "pid 2\n" && text.starts_with("pid "), "{text}");
    assert_eq!(code, Some(6));
}

fn init() {
    let mut plan = shell(
        // An orphan that ends before the program, a signal that is passed on, a code of its own.
        "sh -c 'sleep 0.01 & exit' ; trap 'echo term; exit 3' TERM; echo $$ ready; while :; do sleep 0.05; done",
    );
    plan.isolation = Isolation::New(ISOLATED);
    plan.mounts = vec![Mount::Proc { target: "/proc".into() }];
    let (mut child, mut reader) = started(plan);
    assert_eq!(line(&mut reader), "2 ready", "the program is the second process");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    for (name, value) in [("CapEff", "0000000000000000"), ("CapBnd", "0000000000000000")] {
        assert!(status.contains(&format!("{name}:\t{value}")), "init kept privileges: {status}");
    }
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(line(&mut reader), "term");
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(3));
    child.signal(libc::SIGTERM).unwrap();
    let mut plan = shell("kill -9 $$");
    plan.isolation = Isolation::New(ISOLATED);
    assert_eq!(output(plan).1, ExitStatus::Code(128 + 9));
    // What the program leaves behind goes with it: the end of the pipe comes at once.
    let mut plan = shell("sleep 1000 & exit 0");
    plan.isolation = Isolation::New(ISOLATED);
    assert_eq!(output(plan).1, ExitStatus::Code(0));
}

fn kill_init() {
    let mut plan =
        shell("trap '' TERM; (trap '' TERM; setsid sleep 1000) & echo ready; sleep 1000");
    plan.isolation = Isolation::New(ISOLATED);
    let (mut child, mut reader) = started(plan);
    assert_eq!(line(&mut reader), "ready");
    child.kill().unwrap();
    assert_eq!(line(&mut reader), "", "the pipe is closed by all");
    assert_eq!(child.wait().unwrap(), ExitStatus::Signal(9));
}

fn own_proc() {
    let mut plan = shell("ls /proc | grep -E '^[0-9]+$' | tr '\\n' ' '");
    plan.isolation = Isolation::New(ISOLATED);
    plan.mounts = vec![Mount::Proc { target: "/proc".into() }];
    let (text, _) = output(plan);
    let pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.starts_with(&[1, 2]) && pids.iter().all(|pid| *pid < 10), "{text}");
}

fn mounts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::create_dir(path("state")).unwrap();
    std::fs::create_dir(path("shown")).unwrap();
    std::fs::write(path("state/key"), "secret").unwrap();
    std::fs::write(path("shown/page"), "public").unwrap();
    std::fs::write(path("hosts"), "10.0.0.1 here").unwrap();
    let mut plan = shell(&format!(
        "ls {state}; cat {state}/in/side/page; echo; echo x 2>/dev/null >{state}/in/side/page || echo refused; cat /etc/hosts; echo; hostname",
        state = path("state").display()
    ));
    plan.isolation = Isolation::New(ISOLATED);
    plan.hostname = Some("reviews-v1".to_owned());
    plan.mounts = vec![
        Mount::Bind { source: path("hosts"), target: "/etc/hosts".into(), read_only: true },
        Mount::Tmpfs { target: path("state"), bytes_max: 1 << 20 },
        Mount::Folder { target: path("state/in/side") },
        Mount::Bind { source: path("shown"), target: path("state/in/side"), read_only: true },
    ];
    let (text, status) = output(plan);
    assert_eq!(text, "in\npublic\nrefused\n10.0.0.1 here\nreviews-v1\n");
    assert!(status.is_success());
    assert_eq!(std::fs::read_to_string(path("state/key")).unwrap(), "secret", "unchanged outside");
}

fn places() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("config/kept")).unwrap();
    std::fs::create_dir(path("volume")).unwrap();
    std::fs::write(path("config/plain"), "plain").unwrap();
    std::fs::write(path("config/replaced"), "old").unwrap();
    std::os::unix::fs::symlink("plain", path("config/link")).unwrap();
    let file = |target: PathBuf, text: &str| Mount::File {
        target,
        content: text.as_bytes().to_vec(),
        mode: 0o640,
    };
    let mut plan = shell(
        "cd $D/config && cat link replaced new/deep linked && ls -d kept && stat -c %a new/deep && \
         cat /heddle-test/a && ls -d /etc/passwd /proc/self/exe && echo x > /heddle-volume/x && pwd",
    );
    plan.environment.push(("D".into(), folder.path().into()));
    plan.isolation = Isolation::New(ISOLATED);
    plan.mounts = vec![
        Mount::Proc { target: "/proc".into() },
        Mount::Open { folder: path("config") },
        file(path("config/replaced"), "new "),
        file(path("config/new/deep"), "deep "),
        Mount::Link { target: path("config/linked"), to: path("config/plain") },
        Mount::Open { folder: "/".into() },
        file("/heddle-test/a".into(), "root\n"),
        Mount::Folder { target: "/heddle-volume".into() },
        Mount::Bind { source: path("volume"), target: "/heddle-volume".into(), read_only: false },
    ];
    let (text, status) = output(plan);
    let here = path("config");
    let expected = format!(
        "plainnew deep plainkept\n640\nroot\n/etc/passwd\n/proc/self/exe\n{}\n",
        here.display()
    );
    assert_eq!((text, status), (expected, ExitStatus::Code(0)));
    assert_eq!(std::fs::read_to_string(path("volume/x")).unwrap(), "x\n");
    assert_eq!(std::fs::read_to_string(path("config/replaced")).unwrap(), "old");
    assert!(!path("config/new").exists() && !Path::new("/heddle-test").exists());
}

fn network() {
    let chosen = NetworkNamespace::create().unwrap();
    let inode = |mut plan: Plan| {
        plan.arguments = vec!["-c".into(), "readlink /proc/self/ns/net".into()];
        output(plan).0.trim_end().to_owned()
    };
    let mut plan = shell("");
    plan.network = Some(chosen.clone());
    assert_eq!(inode(plan), format!("net:[{}]", chosen.inode()));
    let here = NetworkNamespace::current().unwrap();
    assert_eq!(inode(shell("")), format!("net:[{}]", here.inode()));
    let mut plan = shell("");
    plan.isolation = Isolation::New(Namespaces { network: true, ..Namespaces::NONE });
    let own = inode(plan);
    assert!(own != format!("net:[{}]", here.inode()) && own.starts_with("net:["), "{own}");
}

fn join() {
    let namespace = NetworkNamespace::create().unwrap();
    let mut plan = shell("echo ready; sleep 1000");
    plan.isolation = Isolation::New(ISOLATED);
    plan.network = Some(namespace.clone());
    plan.hostname = Some("beside".to_owned());
    plan.mounts = vec![Mount::Proc { target: "/proc".into() }];
    let (mut child, mut reader) = started(plan);
    assert_eq!(line(&mut reader), "ready");
    let mut plan = shell(
        "hostname; readlink /proc/self/ns/net; cat /proc/1/comm >/dev/null && ls /proc | grep -cE '^[0-9]+$'",
    );
    plan.isolation = Isolation::Join(child.pid());
    let (text, _) = output(plan);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["beside", &format!("net:[{}]", namespace.inode())]);
    assert!(lines[2].parse::<u32>().unwrap() < 10, "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn failures() {
    let failure = |change: fn(&mut Plan)| {
        let mut plan = shell("exit 0");
        plan.stderr = Stream::Null;
        change(&mut plan);
        match spawn(plan).unwrap_err() {
            SpawnError::Step { step, source, .. } => (step, source.raw_os_error().unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let absent = |plan: &mut Plan| plan.program = "/no/such".into();
    assert_eq!(failure(absent), ("run /no/such".to_owned(), libc::ENOENT));
    let absent = |plan: &mut Plan| {
        plan.program = "/no/such".into();
        plan.isolation = Isolation::New(ISOLATED);
    };
    assert_eq!(failure(absent), ("run /no/such".to_owned(), libc::ENOENT));
    let folder = |plan: &mut Plan| plan.working_directory = Some("/no/such".into());
    assert_eq!(failure(folder), ("change to the folder /no/such".to_owned(), libc::ENOENT));
    let mount = |plan: &mut Plan| {
        plan.isolation = Isolation::New(ISOLATED);
        plan.mounts = vec![Mount::Tmpfs { target: "/no/such".into(), bytes_max: 1 }];
    };
    assert_eq!(failure(mount), ("mount tmpfs over /no/such".to_owned(), libc::ENOENT));
    let limit = |plan: &mut Plan| {
        plan.limits = vec![Limit { of: Limited::OpenFiles, soft: 9, hard: 8 }];
    };
    assert_eq!(failure(limit), ("limit OpenFiles".to_owned(), libc::EINVAL));
    let left = rustix::process::waitpid(None, rustix::process::WaitOptions::NOHANG);
    assert_eq!(left.unwrap_err(), rustix::io::Errno::CHILD, "no zombie is left");
}

fn unusable() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = shell("exit 0");
        change(&mut plan);
        assert!(matches!(spawn(plan), Err(SpawnError::Plan { .. })));
    };
    refused(&|plan: &mut Plan| plan.hostname = Some("x".to_owned()));
    refused(&|plan: &mut Plan| plan.mounts = vec![Mount::Folder { target: "/tmp".into() }]);
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    refused(&|plan: &mut Plan| plan.descriptors = vec![(null(), 2)]);
    refused(&|plan: &mut Plan| plan.descriptors = vec![(null(), 64)]);
    refused(&|plan: &mut Plan| plan.descriptors = vec![(null(), 5), (null(), 5)]);
    refused(&|plan: &mut Plan| plan.descriptors = (3..40).map(|number| (null(), number)).collect());
    let missing = spawn_with(Path::new("/no/such"), shell("exit 0"));
    assert!(matches!(missing, Err(SpawnError::Prepare { .. })), "{missing:?}");
    let error = spawn_with(Path::new("/bin/true"), shell("exit 0"));
    assert!(
        matches!(error, Err(SpawnError::Ended { .. } | SpawnError::Prepare { .. })),
        "{error:?}"
    );
    let mut plan = shell("exit 0");
    plan.isolation = Isolation::Join(u32::MAX);
    assert!(matches!(spawn(plan), Err(SpawnError::Prepare { .. })));
}

/// Starts one process with and one without an init, says so, and waits for its own end.
fn parent() -> i32 {
    for namespaces in [Namespaces::NONE, ISOLATED] {
        let mut plan = shell("exec sleep 1000");
        plan.isolation = Isolation::New(namespaces);
        // From a thread that ends, as a runtime's may: that is not the parent's end.
        std::thread::spawn(|| spawn(plan).unwrap()).join().unwrap();
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    0
}

fn dies_with_parent() {
    let mut parent = helper("parent").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(parent.stdout.take().unwrap());
    assert_eq!(line(&mut reader), "ready");
    // Both hold the pipe; that it is open shows that the end of the starting thread did not kill them.
    let mut ready = [rustix::event::PollFd::new(reader.get_ref(), rustix::event::PollFlags::IN)];
    let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    assert_eq!(rustix::event::poll(&mut ready, Some(&soon)).unwrap(), 0);
    parent.kill().unwrap();
    assert_eq!(line(&mut reader), "", "the pipe is closed by all");
    parent.wait().unwrap();
}

fn waiting() {
    block_on(async {
        let mut plan = shell("read line; exit 4");
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        plan.stdin = Stream::Descriptor(theirs.into());
        let mut child = spawn(plan).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        let (status, ()) = tokio::join!(child.ended(), async {
            tokio::task::yield_now().await;
            ours.write_all(b"go\n").unwrap();
        });
        assert_eq!(status.unwrap(), ExitStatus::Code(4));
        assert_eq!(child.ended().await.unwrap(), ExitStatus::Code(4));
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(4));
    });
}

fn large() {
    let mut plan = shell("echo ${#LARGE}");
    plan.environment.push(("LARGE".into(), "x".repeat(100_000).into()));
    plan.environment.extend((0..10).map(|n| (format!("L{n}").into(), "y".repeat(50_000).into())));
    assert_eq!(output(plan).0, "100000\n");
}

fn memory() {
    protect_memory().unwrap();
    let behaviour = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(behaviour, rustix::process::DumpableBehavior::NotDumpable);
    // A protected process can still start others, and they are not protected.
    let (text, _) = output(shell("stat -c %u /proc/self/environ; ulimit -c"));
    assert_eq!(text, "0\n0\n");
}

fn runner() {
    let program = std::env::current_exe().unwrap();
    for stdin in [Stdio::null(), Stdio::from(File::open("/etc/passwd").unwrap())] {
        let output =
            std::process::Command::new(&program).arg(RUN_PLAN).stdin(stdin).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("standard input brings no plan"), "{text}");
    }
}

/// Splits, and has the inside tell who it is and hand a descriptor out.
fn split_helper() -> i32 {
    let before = NetworkNamespace::current().unwrap();
    match split(Namespaces::ALL) {
        Ok(Split::Inside(channel)) => {
            let uid = rustix::process::geteuid().as_raw();
            let network = NetworkNamespace::current().unwrap() != before;
            let known = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
                entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            });
            let text = format!(
                "pid {} uid {uid} own {network} sees {}",
                std::process::id(),
                known.count()
            );
            let file = File::open("/proc/self/status").unwrap();
            channel.send(text.as_bytes(), &[file.as_fd()]).unwrap();
            // Something of its own that must not outlive it.
            let mut plan = shell("exec sleep 1000");
            plan.isolation = Isolation::New(ISOLATED);
            spawn(plan).unwrap();
            channel.send(b"started", &[]).unwrap();
            let order = channel.receive().unwrap();
            if order.is_some_and(|message| message.payload == b"die") {
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                )
                .unwrap();
            }
            5
        }
        Ok(Split::Outside(mut outside)) => {
            let first = outside.channel.receive().unwrap().unwrap();
            assert_eq!(NetworkNamespace::current().unwrap(), before);
            println!("{} {}", String::from_utf8(first.payload).unwrap(), first.descriptors.len());
            outside.channel.receive().unwrap().unwrap();
            println!("init {}", outside.init.pid());
            let mut order = String::new();
            std::io::stdin().read_line(&mut order).unwrap();
            if !order.is_empty() {
                outside.channel.send(order.trim().as_bytes(), &[]).unwrap();
            }
            match outside.init.wait().unwrap() {
                ExitStatus::Code(code) => code,
                ExitStatus::Signal(signal) => 200 + signal,
            }
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// The split helper, its input, and its output after the greeting; everything inside holds the output.
fn start_split() -> (std::process::Child, BufReader<std::process::ChildStdout>, u32) {
    let mut outside = helper("split").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(outside.stdout.take().unwrap());
    assert_eq!(line(&mut reader), "pid 2 uid 0 own true sees 2 1");
    let init = line(&mut reader).strip_prefix("init ").unwrap().parse().unwrap();
    (outside, reader, init)
}

fn split_inside() {
    let (mut outside, mut reader, _) = start_split();
    outside.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert_eq!(outside.wait().unwrap().code(), Some(5), "the code of the inside comes out");
    assert_eq!(line(&mut reader), "", "nothing inside is left");
}

fn split_killed() {
    // The outside.
    let (mut outside, mut reader, _) = start_split();
    outside.kill().unwrap();
    assert_eq!(line(&mut reader), "", "nothing inside is left");
    outside.wait().unwrap();
    // The init.
    let (mut outside, mut reader, init) = start_split();
    let pid = rustix::process::Pid::from_raw(i32::try_from(init).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(outside.stdin.take());
    assert_eq!(outside.wait().unwrap().code(), Some(209));
    assert_eq!(line(&mut reader), "", "nothing inside is left");
    // The one inside.
    let (mut outside, mut reader, _) = start_split();
    outside.stdin.take().unwrap().write_all(b"die\n").unwrap();
    assert_eq!(outside.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(line(&mut reader), "", "nothing inside is left");
}
