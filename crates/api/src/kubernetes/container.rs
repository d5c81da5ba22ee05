//! Containers of a pod: what to run, with what environment, and how to tell that it works.

use std::collections::BTreeMap;

use crate::value::{Free, IntOrText, Quantity};

object! {
    /// A container.
    Container {
        /// Its name within the pod.
        "name" => name: String [required, check(crate::check::dns_label)],
        /// Its image; not used standalone, where the command must exist on the host.
        "image" => image: Option<String>,
        /// The program and its first arguments.
        "command" => command: Vec<String>,
        /// Further arguments.
        "args" => args: Vec<String>,
        /// Directory to run in.
        "workingDir" => working_dir: Option<String>,
        /// Ports it listens on; a list for people, except for names that Services refer to.
        "ports" => ports: Vec<ContainerPort>,
        /// Environment, later entries win.
        "env" => env: Vec<EnvVar>,
        /// Environment from whole ConfigMaps and Secrets, before `env`.
        "envFrom" => env_from: Vec<EnvFrom>,
        /// What it may and must have of the machine.
        "resources" => resources: Option<ResourceRequirements>,
        /// Restarts it when failing.
        "livenessProbe" => liveness_probe: Option<Probe>,
        /// Keeps traffic away while failing.
        "readinessProbe" => readiness_probe: Option<Probe>,
        /// Holds the other probes back until it succeeds.
        "startupProbe" => startup_probe: Option<Probe>,
        /// What to do after start and before stop.
        "lifecycle" => lifecycle: Option<Lifecycle>,
        /// Volumes in its file tree.
        "volumeMounts" => volume_mounts: Vec<VolumeMount>,
        /// For init containers: `Always` makes it a sidecar.
        "restartPolicy" => restart_policy: Option<String>,
        /// Whether it has a terminal.
        "tty" => tty: Option<bool>,
        /// Whether its standard input stays open.
        "stdin" => stdin: Option<bool>,
        /// User, capabilities and the like of its processes.
        "securityContext" => security_context: Option<Free>,
    }
    ignored {
        "imagePullPolicy": "images are the container runtime's business",
        "terminationMessagePath": "termination messages are the kubelet's business",
        "terminationMessagePolicy": "termination messages are the kubelet's business",
        "stdinOnce": "standard input is the container runtime's business",
        "volumeDevices": "block devices are the kubelet's business",
        "resizePolicy": "resizing is the kubelet's business",
        "restartPolicyRules": "restart rules are the kubelet's business"
    }
}

choice! {
    /// A transport protocol.
    Protocol {
        /// TCP.
        "TCP" => Tcp,
        /// UDP.
        "UDP" => Udp,
        /// SCTP.
        "SCTP" => Sctp,
    }
}

object! {
    /// A port a container listens on.
    ContainerPort {
        /// Its name, which Services may refer to.
        "name" => name: Option<String>,
        /// Its number.
        "containerPort" => container_port: u16 [required, port],
        /// Transport protocol; absent means TCP.
        "protocol" => protocol: Option<Protocol>,
        /// The same port on the host.
        "hostPort" => host_port: Option<u16>,
        /// The host address it is bound to.
        "hostIP" => host_ip: Option<String>,
    }
}

object! {
    /// An environment variable.
    EnvVar {
        /// Its name.
        "name" => name: String [required, not_empty],
        /// Its value, in which `$(NAME)` stands for earlier ones.
        "value" => value: Option<String>,
        /// Where its value comes from instead.
        "valueFrom" => value_from: Option<EnvVarSource>,
    }
    at_most_one ["value", "valueFrom"]
}

object! {
    /// Where the value of an environment variable comes from.
    EnvVarSource {
        /// A key of a ConfigMap.
        "configMapKeyRef" => config_map_key_ref: Option<KeySelector>,
        /// A key of a Secret.
        "secretKeyRef" => secret_key_ref: Option<KeySelector>,
        /// A field of the pod.
        "fieldRef" => field_ref: Option<FieldSelector>,
        /// A resource of a container.
        "resourceFieldRef" => resource_field_ref: Option<ResourceFieldSelector>,
        /// A key of a file in a volume.
        "fileKeyRef" => file_key_ref: Option<Free>,
    }
    exactly_one ["configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef", "fileKeyRef"]
}

object! {
    /// A key of a ConfigMap or Secret.
    KeySelector {
        /// The object.
        "name" => name: String,
        /// The key.
        "key" => key: String [required],
        /// Whether it may be missing.
        "optional" => optional: Option<bool>,
    }
}

object! {
    /// A field of the pod.
    FieldSelector {
        /// Version of the path, `v1`.
        "apiVersion" => api_version: Option<String>,
        /// Path, for example `metadata.name` or `status.podIP`.
        "fieldPath" => field_path: String [required],
    }
}

object! {
    /// A resource of a container.
    ResourceFieldSelector {
        /// The container; absent means this one.
        "containerName" => container_name: Option<String>,
        /// For example `limits.cpu`.
        "resource" => resource: String [required],
        /// The unit.
        "divisor" => divisor: Option<Quantity>,
    }
}

object! {
    /// Every key of a ConfigMap or Secret as environment.
    EnvFrom {
        /// Put before every name.
        "prefix" => prefix: Option<String>,
        /// A ConfigMap.
        "configMapRef" => config_map_ref: Option<ConfigMapEnvSource>,
        /// A Secret.
        "secretRef" => secret_ref: Option<ConfigMapEnvSource>,
    }
    exactly_one ["configMapRef", "secretRef"]
}

object! {
    /// A whole ConfigMap or Secret.
    ConfigMapEnvSource {
        /// The object.
        "name" => name: String,
        /// Whether it may be missing.
        "optional" => optional: Option<bool>,
    }
}

object! {
    /// What a container may and must have of the machine.
    ResourceRequirements {
        /// At most this.
        "limits" => limits: BTreeMap<String, Quantity>,
        /// At least this.
        "requests" => requests: BTreeMap<String, Quantity>,
    }
    ignored { "claims": "dynamic resources are the scheduler's business" }
}

object! {
    /// How to tell that a container works.
    Probe {
        /// A command that exits with 0.
        "exec" => exec: Option<ExecAction>,
        /// A request answered with 200 to 399.
        "httpGet" => http_get: Option<HttpGetAction>,
        /// A port that accepts connections.
        "tcpSocket" => tcp_socket: Option<TcpSocketAction>,
        /// A gRPC health check.
        "grpc" => grpc: Option<GrpcAction>,
        /// Seconds before the first probe; absent means 0.
        "initialDelaySeconds" => initial_delay_seconds: Option<u32>,
        /// Seconds between probes; absent means 10.
        "periodSeconds" => period_seconds: Option<u32>,
        /// Seconds a probe may take; absent means 1.
        "timeoutSeconds" => timeout_seconds: Option<u32>,
        /// Successes in a row that count; absent means 1.
        "successThreshold" => success_threshold: Option<u32>,
        /// Failures in a row that count; absent means 3.
        "failureThreshold" => failure_threshold: Option<u32>,
        /// Seconds to end after a failed liveness probe.
        "terminationGracePeriodSeconds" => termination_grace_period_seconds: Option<i64>,
    }
    exactly_one ["exec", "httpGet", "tcpSocket", "grpc"]
}

object! {
    /// A command.
    ExecAction {
        /// The program and its arguments.
        "command" => command: Vec<String>,
    }
}

object! {
    /// A request.
    HttpGetAction {
        /// Path; absent means `/`.
        "path" => path: Option<String>,
        /// Port, by number or name.
        "port" => port: IntOrText [required],
        /// Host to connect to; absent means the pod.
        "host" => host: Option<String>,
        /// `HTTP` or `HTTPS`; absent means `HTTP`.
        "scheme" => scheme: Option<String>,
        /// Headers to send.
        "httpHeaders" => http_headers: Vec<HttpHeader>,
    }
}

object! {
    /// A header.
    HttpHeader {
        /// Its name.
        "name" => name: String [required],
        /// Its value.
        "value" => value: String,
    }
}

object! {
    /// A port to connect to.
    TcpSocketAction {
        /// Port, by number or name.
        "port" => port: IntOrText [required],
        /// Host to connect to; absent means the pod.
        "host" => host: Option<String>,
    }
}

object! {
    /// A gRPC health check.
    GrpcAction {
        /// Port.
        "port" => port: u16 [required, port],
        /// Service to ask for.
        "service" => service: Option<String>,
    }
}

object! {
    /// What to do after start and before stop.
    Lifecycle {
        /// Right after start.
        "postStart" => post_start: Option<LifecycleHandler>,
        /// Before the signal to stop.
        "preStop" => pre_stop: Option<LifecycleHandler>,
        /// The signal to stop with; absent means what the image says, or SIGTERM.
        "stopSignal" => stop_signal: Option<String>,
    }
}

object! {
    /// Something to do.
    LifecycleHandler {
        /// Run a command.
        "exec" => exec: Option<ExecAction>,
        /// Send a request.
        "httpGet" => http_get: Option<HttpGetAction>,
        /// Connect.
        "tcpSocket" => tcp_socket: Option<TcpSocketAction>,
        /// Wait.
        "sleep" => sleep: Option<SleepAction>,
    }
    exactly_one ["exec", "httpGet", "tcpSocket", "sleep"]
}

object! {
    /// A wait.
    SleepAction {
        /// How long, in seconds.
        "seconds" => seconds: i64 [required, min(0.0)],
    }
}

object! {
    /// A volume in the file tree of a container.
    VolumeMount {
        /// The volume.
        "name" => name: String [required],
        /// Where it appears.
        "mountPath" => mount_path: String [required],
        /// Whether it cannot be written.
        "readOnly" => read_only: Option<bool>,
        /// A path within the volume.
        "subPath" => sub_path: Option<String>,
        /// The same with environment variables.
        "subPathExpr" => sub_path_expr: Option<String>,
        /// Whether later mounts are seen.
        "mountPropagation" => mount_propagation: Option<String>,
    }
    ignored { "recursiveReadOnly": "mount details are the kubelet's business" }
}
