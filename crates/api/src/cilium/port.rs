//! Ports, and what Cilium's rules ask of the protocol on them.

use std::collections::BTreeMap;

use super::check as own;
use crate::codes;
use crate::decode::Decoder;

object! {
    /// Ports that are allowed, and what may be said on them.
    PortRule {
        /// The ports; any may match. Empty: all of them.
        "ports" => ports: Vec<PortProtocol> [count(0, 40)],
        /// TLS that is taken off on the way in.
        "terminatingTLS" => terminating_tls: Option<TlsContext>,
        /// TLS that is put on on the way out.
        "originatingTLS" => originating_tls: Option<TlsContext>,
        /// Server names of TLS that may be asked for; any may match.
        "serverNames" => server_names: Vec<String> [count(1, usize::MAX), item_len(0, 255), unique(""), item_check(own::server_name)],
        /// A listener of a CiliumEnvoyConfig that traffic goes through.
        "listener" => listener: Option<ListenerReference>,
        /// What may be said.
        "rules" => rules: Option<L7Rules>,
    }
    check layers_fit
}

object! {
    /// Ports that are denied.
    DenyPort {
        /// The ports; any may match. Empty: all of them.
        "ports" => ports: Vec<PortProtocol>,
    }
}

object! {
    /// A port or a range of ports.
    PortProtocol {
        /// By number or name; `0` stands for all.
        "port" => port: Option<String> [required, check(own::port)],
        /// The last port of a range.
        "endPort" => end_port: Option<i32> [range(0.0, 65_535.0)],
        /// The protocol; absent means any.
        "protocol" => protocol: Option<Transport>,
    }
}

choice! {
    /// A transport protocol.
    Transport {
        /// All of them.
        "ANY" => Any,
        /// IGMP.
        "IGMP" => Igmp,
        /// SCTP.
        "SCTP" => Sctp,
        /// TCP.
        "TCP" => Tcp,
        /// UDP.
        "UDP" => Udp,
        /// VRRP.
        "VRRP" => Vrrp,
    }
}

object! {
    /// Certificates for TLS.
    TlsContext {
        /// The secret that holds them.
        "secret" => secret: SecretReference [required],
        /// Key in the secret of the authorities; absent means `ca.crt`.
        "trustedCA" => trusted_ca: Option<String>,
        /// Key in the secret of the certificate; absent means `tls.crt`.
        "certificate" => certificate: Option<String>,
        /// Key in the secret of the private key; absent means `tls.key`.
        "privateKey" => private_key: Option<String>,
    }
}

object! {
    /// A Secret.
    SecretReference {
        /// Its namespace.
        "namespace" => namespace: Option<String>,
        /// Its name.
        "name" => name: String [required],
    }
}

object! {
    /// A listener of a CiliumEnvoyConfig.
    ListenerReference {
        /// The configuration.
        "envoyConfig" => envoy_config: EnvoyConfigReference [required],
        /// The listener's name.
        "name" => name: String [required, len(1, usize::MAX)],
        /// Which listener counts where several do; the least wins.
        "priority" => priority: Option<i32> [range(1.0, 100.0)],
    }
}

object! {
    /// A CiliumEnvoyConfig.
    EnvoyConfigReference {
        /// Its kind; absent means `CiliumEnvoyConfig`.
        "kind" => kind: Option<EnvoyConfigKind>,
        /// Its name.
        "name" => name: String [required, len(1, usize::MAX)],
    }
}

choice! {
    /// A kind of Envoy configuration.
    EnvoyConfigKind {
        /// Of all namespaces.
        "CiliumClusterwideEnvoyConfig" => Clusterwide,
        /// Of one namespace.
        "CiliumEnvoyConfig" => Namespaced,
    }
}

object! {
    /// What may be said on a port, in one protocol.
    L7Rules {
        /// Requests of HTTP; any may match.
        "http" => http: Option<Vec<HttpRule>>,
        /// Names asked for in DNS; any may match.
        "dns" => dns: Option<Vec<super::FqdnSelector>>,
        /// Requests of Kafka; any may match.
        "kafka" => kafka: Option<Vec<KafkaRule>>,
        /// The protocol of `l7`.
        "l7proto" => l7proto: Option<String>,
        /// What may be said in it.
        "l7" => l7: Vec<BTreeMap<String, String>>,
    }
    exactly_one ["http", "dns", "kafka", "l7proto"]
}

object! {
    /// A request of HTTP; all conditions must hold. Regular expressions match the whole value.
    HttpRule {
        /// Regular expression of the path with its query; absent means any.
        "path" => path: Option<String>,
        /// Regular expression of the method; absent means any.
        "method" => method: Option<String>,
        /// Regular expression of the host; absent means any.
        "host" => host: Option<String>,
        /// Headers that must be there, `Name` or `Name: value`.
        "headers" => headers: Vec<String>,
        /// Headers that must have a value, and what is done when they have not.
        "headerMatches" => header_matches: Vec<HeaderMatch>,
    }
}

object! {
    /// A header that must have a value.
    HeaderMatch {
        /// Its name.
        "name" => name: String [required, len(1, usize::MAX)],
        /// Its value; absent means that it is in `secret`, or that the header must be there.
        "value" => value: Option<String>,
        /// The secret that holds the value.
        "secret" => secret: Option<SecretReference>,
        /// What is done when it has not; absent means that the request is refused.
        "mismatch" => mismatch: Option<HeaderMismatch>,
    }
}

choice! {
    /// What is done when a header has not the value.
    HeaderMismatch {
        /// The value is added.
        "ADD" => Add,
        /// The header is removed.
        "DELETE" => Delete,
        /// It is logged.
        "LOG" => Log,
        /// The value takes the place of what is there.
        "REPLACE" => Replace,
    }
}

object! {
    /// A request of Kafka.
    KafkaRule {
        /// Several kinds of request at once.
        "role" => role: Option<KafkaRole>,
        /// One kind of request.
        "apiKey" => api_key: Option<String>,
        /// Its version.
        "apiVersion" => api_version: Option<String>,
        /// The client's name for itself.
        "clientID" => client_id: Option<String>,
        /// The topic.
        "topic" => topic: Option<String> [len(0, 255)],
    }
}

choice! {
    /// Kinds of request of Kafka.
    KafkaRole {
        /// What a consumer needs.
        "consume" => Consume,
        /// What a producer needs.
        "produce" => Produce,
    }
}

/// Rules of layer 7 need a port that a proxy can listen to.
fn layers_fit(decoder: &mut Decoder<'_>, rule: &PortRule) {
    let Some(rules) = &rule.rules else { return };
    let is_dns = rules.dns.is_some();
    for port in &rule.ports {
        let takes = match port.protocol {
            None | Some(Transport::Any | Transport::Tcp) => true,
            Some(Transport::Udp) => is_dns,
            Some(Transport::Igmp | Transport::Sctp | Transport::Vrrp) => false,
        };
        if !takes {
            let message = "rules of layer 7 need TCP (those of DNS: TCP or UDP)";
            decoder.error(codes::RULE, port.at, message, None);
        }
        if port.port.as_deref().is_none_or(|port| port == "0") {
            let message = "rules of layer 7 need a port that is named";
            decoder.error(codes::RULE, port.at, message, None);
        }
        if is_dns && (port.port.as_deref() != Some("53") || port.end_port.is_some_and(|p| p > 0)) {
            let message = "rules of DNS need port 53";
            decoder.error(codes::RULE, port.at, message, None);
        }
    }
    if !rule.server_names.is_empty() && rule.terminating_tls.is_none() {
        let message =
            "`serverNames` and rules of layer 7 exclude each other, unless TLS is terminated";
        decoder.error(codes::RULE, rule.at, message, None);
    }
    if rule.listener.is_some() {
        let message = "`listener` and rules of layer 7 exclude each other";
        decoder.error(codes::RULE, rule.at, message, None);
    }
}
