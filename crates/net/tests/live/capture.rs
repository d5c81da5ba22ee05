//! Capture between two workloads.

use std::net::SocketAddr;

use heddle_net::capture::{Capture, CaptureError};
use heddle_net::namespace::NetworkNamespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Test, block_on};
use crate::topology::{listen, meet, two_workloads};

pub(crate) const TESTS: &[Test] = &[
    ("capture::everything_between_two_workloads_is_seen", seen),
    ("capture::the_buffer_is_bounded", bounded),
    ("capture::absent_interfaces_are_named", absent),
];

fn seen() {
    let (one, other) = two_workloads();
    let here = NetworkNamespace::current().unwrap();
    let ends = [
        Capture::start(&one.namespace, "eth0", 1 << 20).unwrap(),
        Capture::start(&here, "veth2", 1 << 20).unwrap(),
    ];
    let elsewhere = Capture::start(&one.namespace, "lo", 1 << 20).unwrap();
    block_on(async {
        let listener = listen(&other.application(), 8080);
        for address in other.addresses() {
            let asked = SocketAddr::new(address, 8080);
            let (mut client, mut server) = meet(&one.application(), asked, &listener).await;
            client.write_all(b"a question").await.unwrap();
            server.read_exact(&mut [0; 10]).await.unwrap();
            server.write_all(&vec![b'z'; 100_000]).await.unwrap();
            client.read_exact(&mut vec![0; 100_000]).await.unwrap();
        }
    });
    for capture in ends {
        let captured = capture.finish().unwrap();
        assert_eq!(captured.dropped, 0);
        assert!(captured.contains(b"a question"));
        let streams = captured.streams().streams;
        for address in other.addresses() {
            let server = SocketAddr::new(address, 8080);
            let to = streams.iter().find(|((_, to), _)| *to == server).unwrap().1;
            assert_eq!(to, b"aa question");
            let from = streams.iter().find(|((from, _), _)| *from == server).unwrap().1;
            assert_eq!((from.len(), from[0]), (100_001, b'b'));
        }
    }
    let captured = elsewhere.finish().unwrap();
    assert!(!captured.contains(b"a question"), "another interface shows none of it");
}

fn bounded() {
    let (one, other) = two_workloads();
    let capture = Capture::start(&one.namespace, "eth0", 1000).unwrap();
    block_on(async {
        let listener = listen(&other.application(), 8080);
        let (mut client, mut server) =
            meet(&one.application(), (other.ipv4, 8080).into(), &listener).await;
        client.write_all(&[1; 10_000]).await.unwrap();
        server.read_exact(&mut [0; 10_000]).await.unwrap();
    });
    let captured = capture.finish().unwrap();
    assert!(captured.dropped > 0);
    assert!(captured.frames.iter().map(Vec::len).sum::<usize>() <= 1000);
}

fn absent() {
    let here = NetworkNamespace::current().unwrap();
    let error = Capture::start(&here, "eth7", 1).unwrap_err();
    assert!(matches!(&error, CaptureError::Interface { interface, .. } if interface == "eth7"));
}
