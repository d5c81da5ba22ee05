//! Gateways and the secrets they refer to.

use heddle_ir::gateway::{
    AuthoritySource, CertificatePin, CertificateSource, ClientCertificate, Gateway, Listener,
    Server, ServerProtocol, ServerTls, TlsTermination, TlsVersion, VirtualHost,
};
use heddle_ir::secret::{Secret, SecretKey, SecretKind};

use crate::wire::{choice, codes, message};

message!(Gateway { 1 workload, 2 listeners, 3 destinations });
message!(Listener { 1 port, 2 bind, 3 proxy_protocol, 4 servers, 5 client_port });
message!(Server { 1 origin, 2 name, 3 hosts, 4 tls, 5 protocol, 6 rate_limits });
choice!(ServerProtocol {
    1 Http(2 hosts), 2 HttpsRedirect, 3 Tcp(3 rules), 4 Tls(4 rules), 5 Udp(5 rules),
});
message!(VirtualHost { 1 hosts, 2 table });
choice!(ServerTls { 1 AutoPassthrough, 2 Passthrough, 3 Terminate(2 termination) });
message!(TlsTermination {
    1 certificates, 2 client_certificate, 3 client_authority, 4 subject_alt_names,
    5 certificate_pins, 6 version_min, 7 version_max, 8 cipher_suites,
    9 revocations_path,
});
codes!(ClientCertificate { 1 Ignore, 2 Optional, 3 Unverified, 4 Require });
choice!(CertificateSource { 1 Files { 2 chain_path, 3 key_path }, 2 Mesh, 3 Secret(4 key) });
choice!(AuthoritySource { 1 File(2 path), 2 Mesh, 3 Secrets(3 keys) });
choice!(CertificatePin { 1 Certificate(2 digest), 2 PublicKey(2 digest) });
codes!(TlsVersion { 1 V1_2, 2 V1_3 });

message!(SecretKey { 1 kind, 2 namespace, 3 name });
codes!(SecretKind { 1 ConfigMap, 2 Secret });
message!(Secret { 1 key, 2 certificate_chain, 3 private_key, 4 authority, 5 revocations });
