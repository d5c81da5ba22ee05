//! What a proxy does with connections of its own workload, and how it finds others.

use heddle_ir::inbound::{
    ClientAddress, Forwarders, Inbound, InboundPort, MutualTls, MutualTlsMode, PathNormalization,
    ServiceReference,
};
use heddle_ir::index::{
    Frontend, FrontendPort, Index, NetworkFrontend, RoutedHost, UnknownDestinations,
};
use heddle_ir::outbound::{Outbound, OutboundKey, TcpBackend, TcpRule, TlsRule};
use heddle_ir::protocol::Protocol;

use crate::wire::{choice, codes, message};

codes!(Protocol { 1 Detect, 2 Grpc, 3 Http1, 4 Http2, 5 Tcp, 6 Tls, 7 Udp });

message!(OutboundKey { 1 scope, 2 host, 3 port });
message!(Outbound {
    1 key, 2 protocol, 3 host, 4 http, 5 tls, 6 tcp, 7 destinations,
});
message!(TlsRule { 1 origin, 2 server_names, 3 destination_ranges, 4 backends });
message!(TcpRule { 1 origin, 2 destination_ranges, 3 backends });
message!(TcpBackend { 1 origin, 2 destination, 3 weight });

message!(Inbound {
    1 workload, 2 ports, 3 mutual_tls, 4 mutual_tls_by_port, 5 authorization,
    6 path_normalization, 7 connection_pool, 8 retry, 9 probe_sources, 10 rate_limits,
    11 jwt_rules, 12 client_address,
});
message!(InboundPort {
    1 port, 2 protocol, 3 services, 4 probe_paths, 5 application, 6 connection_pool,
    7 routes, 8 application_socket,
});
message!(ClientAddress, absent default { 1 forwarders, 2 trusted_hops });
choice!(Forwarders, absent Nobody { 1 Everyone, 2 Identities(2 identities), 3 Nobody });
message!(ServiceReference { 1 host, 2 name, 3 namespace, 4 port });
message!(MutualTls { 1 mode, 2 origin });
codes!(MutualTlsMode { 1 Disable, 2 Permissive, 3 Strict });
codes!(PathNormalization { 1 Base, 2 DecodeAndMergeSlashes, 3 MergeSlashes, 4 None });

message!(Index {
    1 frontends, 2 routed_hosts, 3 mesh_ranges, 4 unknown_destinations, 5 networks,
});
message!(NetworkFrontend { 1 table, 2 ranges, 3 except });
codes!(UnknownDestinations { 1 PassThrough, 2 Refuse });
message!(Frontend { 1 host, 2 addresses, 3 ranges, 4 ports, 5 headless });
message!(FrontendPort { 1 number, 2 protocol });
message!(RoutedHost { 1 host, 2 port, 3 table });
