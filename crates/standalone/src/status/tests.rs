use super::report::workload_report;
use super::*;

fn container(kind: ContainerKind, phase: Phase, ready: bool) -> ContainerStatus {
    ContainerStatus {
        name: "c".into(),
        kind,
        command: vec!["x".into()],
        process: ProcessStatus { phase, ready, ..ProcessStatus::default() },
    }
}

#[test]
fn the_phase_follows_from_the_containers() {
    use ContainerKind::{Application as App, Init, Sidecar};
    use Phase::{BackOff, Failed, Pending, Running, Succeeded};
    for (containers, phase, ready) in [
        (vec![(App, Pending, false)], Pending, false),
        (vec![(Init, Running, false), (App, Pending, false)], Pending, false),
        (vec![(Init, Failed, false), (App, Pending, false)], Failed, false),
        (vec![(Init, BackOff, false), (App, Pending, false)], BackOff, false),
        (vec![(Init, Succeeded, false), (App, Running, true)], Running, true),
        (vec![(App, Running, true), (App, Running, false)], Running, false),
        (vec![(App, Running, true), (App, BackOff, false)], BackOff, false),
        (vec![(Sidecar, Running, false), (App, Running, true)], Running, false),
        (vec![(App, Succeeded, false), (App, Running, true)], Running, false),
        (vec![(App, Succeeded, false), (App, Succeeded, false)], Succeeded, false),
        (vec![(App, Succeeded, false), (App, Failed, false)], Failed, false),
    ] {
        let mut status = WorkloadStatus {
            containers: containers.iter().map(|(k, p, r)| container(*k, *p, *r)).collect(),
            ..WorkloadStatus::default()
        };
        status.settle();
        assert_eq!((status.phase, status.ready), (phase, ready), "{containers:?}");
    }
}

#[test]
fn a_workload_is_not_ready_before_its_proxy_and_never_while_it_stops() {
    let mut status = WorkloadStatus {
        containers: vec![container(ContainerKind::Application, Phase::Running, true)],
        proxy: Some(ProcessStatus::default()),
        ..WorkloadStatus::default()
    };
    status.settle();
    assert!(!status.ready);
    status.proxy = Some(ProcessStatus { ready: true, ..ProcessStatus::default() });
    status.settle();
    assert!(status.ready);
    status.phase = Phase::Stopping;
    status.settle();
    assert_eq!((status.phase, status.ready), (Phase::Stopping, false));
}

#[test]
fn the_board_ignores_what_a_replaced_workload_says() {
    let board = Board::new(MeshStatus::default());
    let mut changed = board.changed();
    let status =
        |uid: &str| WorkloadStatus { id: "a".into(), uid: uid.into(), ..WorkloadStatus::default() };
    board.enter(status("1"));
    board.enter(status("2"));
    changed.mark_unchanged();
    board.update("a", "1", |status| status.ready = true);
    board.leave("a", "1");
    assert!(!board.workload("a").unwrap().ready);
    board.update("a", "2", |status| status.message.clear());
    board.update("a", "2", |status| status.ready = true);
    assert!(changed.has_changed().unwrap());
    assert_eq!(board.snapshot().workloads.len(), 1);
}

#[test]
fn a_report_says_what_failed_and_which_ports_are_open() {
    let port = |host_port, error: Option<&str>| PublishedStatus {
        host_address: "127.0.0.1".parse().unwrap(),
        host_port,
        workload_port: 80,
        wanted_port: host_port,
        service: String::new(),
        udp: false,
        error: error.map(Into::into),
    };
    let mut failed = container(ContainerKind::Application, Phase::BackOff, false);
    failed.process.restarts = 3;
    failed.process.exit_code = Some(137);
    let status = WorkloadStatus {
        id: "a".into(),
        containers: vec![failed],
        published: vec![port(8080, Some("port 8080 is taken")), port(8081, None)],
        ..WorkloadStatus::default()
    };
    let report = workload_report(&status);
    assert_eq!((report.restarts, report.exit_code), (3, Some(137)));
    assert_eq!(report.message, "port 8080 is taken");
    let open: Vec<_> = report.published_ports.iter().map(|port| port.host_port).collect();
    assert_eq!(open, [8081]);
}

#[test]
fn a_gateway_is_what_its_proxy_is() {
    let mut status = WorkloadStatus {
        gateway: true,
        proxy: Some(ProcessStatus::default()),
        ..WorkloadStatus::default()
    };
    status.settle();
    assert_eq!((status.ready, status.phase), (false, Phase::Pending));
    let proxy = status.proxy.as_mut().unwrap();
    (proxy.ready, proxy.phase) = (true, Phase::Running);
    status.settle();
    assert_eq!((status.ready, status.phase), (true, Phase::Running));
}
