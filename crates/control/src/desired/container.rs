//! Containers: commands, probes and hooks.

use heddle_api::IntOrText;
use heddle_api::kubernetes as k8s;
use heddle_proto::node::{self, handler::Action};

use super::{Surroundings, environment, volumes};

/// A container, resolved.
pub(super) fn container(
    container: &k8s::Container,
    surroundings: &Surroundings<'_>,
) -> node::Container {
    let env = environment::resolve(container, surroundings);
    // Without a command the image would say what to run, and there is none.
    let command = if container.command.is_empty() {
        Vec::new()
    } else {
        let words = container.command.iter().chain(&container.args);
        words.map(|word| environment::substitute(word, &env)).collect()
    };
    let probe = |probe: &Option<k8s::Probe>| probe.as_ref().map(|p| self::probe(p, container));
    let lifecycle = container.lifecycle.as_ref();
    let run_as = |field: &str| security_number(container, surroundings, field);
    let hook =
        |handler: Option<&k8s::LifecycleHandler>| handler.map(|h| lifecycle_action(h, container));
    node::Container {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        command,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        folder: surroundings.folder.to_owned(),
        ports: container.ports.iter().map(port).collect(),
        startup_probe: probe(&container.startup_probe),
        readiness_probe: probe(&container.readiness_probe),
        liveness_probe: probe(&container.liveness_probe),
        files: volumes::files(container, surroundings),
        directories: volumes::directories(container, surroundings),
        pre_stop: hook(lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref())),
        post_start: hook(lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref())),
        run_as_user: run_as("runAsUser"),
        run_as_group: run_as("runAsGroup"),
        restart_always: container.restart_policy.as_deref() == Some("Always"),
        env: env
            .into_iter()
            .map(|(name, value)| node::EnvironmentVariable { name, value })
            .collect(),
    }
}

/// A number of the container's security context, or of its pod's; 0 where neither has it.
fn security_number(
    container: &k8s::Container,
    surroundings: &Surroundings<'_>,
    field: &str,
) -> u32 {
    let written = &surroundings.pod.written;
    let of = |at: heddle_api::At| {
        let context = written.field(at, "securityContext")?;
        let number = written.field(context, field)?;
        written.tree().text(number).parse().ok()
    };
    of(container.at).or_else(|| of(surroundings.pod.spec.at)).unwrap_or(0)
}

fn port(port: &k8s::ContainerPort) -> node::ContainerPort {
    node::ContainerPort {
        name: port.name.clone().unwrap_or_default(),
        number: port.container_port.into(),
        protocol: protocol(port).into(),
        host_port: port.host_port.unwrap_or(0).into(),
    }
}

/// Datagrams are told apart; everything else is a stream.
pub(super) fn protocol(port: &k8s::ContainerPort) -> node::TransportProtocol {
    match port.protocol {
        Some(k8s::Protocol::Udp) => node::TransportProtocol::Udp,
        None | Some(k8s::Protocol::Tcp | k8s::Protocol::Sctp) => node::TransportProtocol::Tcp,
    }
}

fn probe(probe: &k8s::Probe, container: &k8s::Container) -> node::Probe {
    let action = if let Some(exec) = &probe.exec {
        Some(Action::Exec(node::ExecAction { command: exec.command.clone() }))
    } else if let Some(http) = &probe.http_get {
        http_action(http, container)
    } else if let Some(tcp) = &probe.tcp_socket {
        tcp_action(tcp, container)
    } else {
        probe.grpc.as_ref().map(|grpc| {
            let service = grpc.service.clone().unwrap_or_default();
            Action::Grpc(node::GrpcAction { port: grpc.port.into(), service })
        })
    };
    let milliseconds = |seconds: Option<u32>, default: u64| {
        seconds.map_or(default, |seconds| u64::from(seconds).max(1) * 1000)
    };
    node::Probe {
        handler: Some(node::Handler { action }),
        initial_delay_ms: u64::from(probe.initial_delay_seconds.unwrap_or(0)) * 1000,
        period_ms: milliseconds(probe.period_seconds, 10_000),
        timeout_ms: milliseconds(probe.timeout_seconds, 1000),
        success_threshold: probe.success_threshold.unwrap_or(1).max(1),
        failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
    }
}

fn lifecycle_action(handler: &k8s::LifecycleHandler, container: &k8s::Container) -> node::Handler {
    let action = if let Some(exec) = &handler.exec {
        Some(Action::Exec(node::ExecAction { command: exec.command.clone() }))
    } else if let Some(http) = &handler.http_get {
        http_action(http, container)
    } else if let Some(tcp) = &handler.tcp_socket {
        tcp_action(tcp, container)
    } else {
        handler.sleep.as_ref().map(|sleep| {
            Action::SleepMs(u64::try_from(sleep.seconds).unwrap_or(0).saturating_mul(1000))
        })
    };
    node::Handler { action }
}

fn http_action(http: &k8s::HttpGetAction, container: &k8s::Container) -> Option<Action> {
    let path = http.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(Action::Http(node::HttpAction {
        host: http.host.clone().unwrap_or_default(),
        port: number(&http.port, container)?,
        path,
        https: http.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        headers: http
            .http_headers
            .iter()
            .map(|header| node::HttpHeader {
                name: header.name.clone(),
                value: header.value.clone(),
            })
            .collect(),
    }))
}

fn tcp_action(tcp: &k8s::TcpSocketAction, container: &k8s::Container) -> Option<Action> {
    let host = tcp.host.clone().unwrap_or_default();
    Some(Action::Tcp(node::TcpAction { host, port: number(&tcp.port, container)? }))
}

/// A port by number or by the name of one of the container's own. None: an action without effect, which fails.
fn number(port: &IntOrText, container: &k8s::Container) -> Option<u32> {
    match port {
        IntOrText::Int(number) => u32::try_from(*number).ok(),
        IntOrText::Text(text) => text.parse().ok().or_else(|| {
            let mut ports = container.ports.iter();
            let named = ports.find(|port| port.name.as_deref() == Some(text.as_str()));
            named.map(|port| port.container_port.into())
        }),
    }
}
