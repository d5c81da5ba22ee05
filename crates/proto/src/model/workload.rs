//! Workloads, proxies and roots.

use heddle_ident::Locality;
use heddle_ir::proxy::{AccessLog, Limits, ProxyRole, ProxySettings};
use heddle_ir::trust::{TrustBundle, TrustedDomain};
use heddle_ir::workload::{MeshTransport, Workload};

use crate::wire::{codes, message};

message!(Locality { 1 region, 2 zone, 3 subzone });
codes!(MeshTransport { 1 None, 2 MutualTls });
message!(Workload {
    1 id, 2 name, 3 namespace, 4 cluster, 5 network, 6 addresses, 7 identity, 8 labels,
    9 workload_name, 10 canonical_name, 11 canonical_revision, 12 locality, 13 transport,
    14 is_gateway,
});
message!(ProxySettings {
    1 workload, 2 scope, 3 trust_domain, 4 trust_domain_aliases, 5 limits, 6 drain_duration,
    7 detection_timeout, 8 access_log, 9 role, 10 egress, 11 access_log_path,
    12 access_log_format,
});
codes!(ProxyRole, absent Sidecar { 1 Sidecar, 2 Gateway });
codes!(AccessLog { 1 Json, 2 Off, 3 Text });
message!(Limits {
    1 connections_max, 2 head_bytes_max, 3 headers_max, 4 retry_body_bytes_max, 5 idle_timeout,
    6 head_timeout, 7 concurrent_streams_max, 8 config_wait_max,
});
message!(TrustBundle {
    1 generation, 2 domains, 3 trust_domain, 4 signer, 5 revoked, 6 revocation_lists,
});
message!(TrustedDomain { 1 trust_domain, 2 roots });
