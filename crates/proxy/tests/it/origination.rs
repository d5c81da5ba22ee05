//! TLS to servers outside of the mesh with what secrets hold.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_http::{Buffer, Connection, TlsStream, Transport};
use heddle_ir::destination::{ClientTls, TlsOrigination};
use heddle_ir::gateway::{ClientCertificate, TlsTermination, TlsVersion};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::MeshTransport;
use heddle_sync::Effect;
use heddle_tls::{
    ServerCertificate, SystemClock, TerminationConfig, TerminationMaterial, default_provider,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use crate::authority::{Authority, bytes, key, secret};
use crate::gateway::{Edge, connect, free_port, http, listener, server};
use crate::harness::{Peer, listen, run};
use crate::support::{endpoint, rule};

/// A server of TLS that asks for certificates of this authority and answers each request with 200.
async fn secure(authority: &Authority, host: &str) -> SocketAddr {
    let leaf = authority.leaf(host, 1);
    let termination = TlsTermination {
        certificates: Vec::new(),
        client_certificate: ClientCertificate::Require,
        client_authority: None,
        subject_alt_names: Vec::new(),
        certificate_pins: Vec::new(),
        version_min: TlsVersion::V1_2,
        version_max: TlsVersion::V1_3,
        revocations_path: None,
        cipher_suites: Vec::new(),
    };
    let material = TerminationMaterial {
        certificates: vec![ServerCertificate {
            name: "own".to_owned(),
            chain_pem: bytes(&leaf.chain),
            key_pem: bytes(&leaf.key),
        }],
        authorities_pem: vec![bytes(&authority.pem())],
        revocations_pem: Vec::new(),
    };
    let (provider, clock) = (default_provider(), Arc::new(SystemClock));
    let config = TerminationConfig::new(&provider, clock, &termination, &material, &[]).unwrap();
    let (socket, address) = listen().await;
    spawn_local(async move {
        while let Ok((tcp, _)) = socket.accept().await {
            let config = config.config().clone();
            spawn_local(async move {
                let mut buffer = Buffer::new();
                let Ok(tls) = TlsStream::accept(tcp, config, &[], &mut buffer).await else {
                    return;
                };
                let mut connection = Connection { transport: Transport::Tls(tls), buffer };
                let mut seen = Vec::new();
                while connection.read_buf(&mut seen).await.is_ok_and(|count| count > 0) {
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        connection.write_all(answer).await.unwrap();
                        connection.flush().await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[test]
fn certificates_and_authorities_come_from_secrets() {
    run(async {
        let (authority, other) = (Authority::new("outside"), Authority::new("others"));
        let host = "api.example.com";
        let (address, port) = (secure(&authority, host).await, free_port().await);
        let plain = server(&["*"], None, http(&["*"], vec![rule()]));
        let edge = Edge::new(address, vec![listener(port, vec![plain])], |side| {
            side.endpoints = vec![endpoint(address, MeshTransport::None)];
            side.destination.tls = ClientTls::Originate(TlsOrigination {
                server_name: host.into(),
                ca_certificates_path: None,
                client_certificate_paths: None,
                subject_alt_names: Vec::new(),
                insecure_skip_verify: false,
                credential: Some(key("client")),
                ca_certificates: vec![key("client-cacert"), key("client")],
                revocations_path: None,
            });
        })
        .await;
        let mut client = Peer::new(connect(port).await);
        // There is no secret yet: nothing goes out without.
        assert_eq!(client.get("/").await.status(), 503);
        let publish = |signer: &Authority, trusted: &Authority| {
            let mut own = secret("client", &signer.leaf("client", 2));
            own.authority = bytes(&trusted.pem());
            let name = ResourceName::Secret(own.key.clone());
            edge.publish(Effect::Set(name, Resource::Secret(Arc::new(own))));
        };
        for (signer, trusted, status) in [
            (&authority, &authority, 200),
            (&authority, &other, 503),
            (&other, &authority, 503),
            (&authority, &authority, 200),
        ] {
            publish(signer, trusted);
            assert_eq!(client.get("/").await.status(), status);
        }
        edge.publish(Effect::Unset(ResourceName::Secret(key("client"))));
        assert_eq!(client.get("/").await.status(), 503);
    });
}
