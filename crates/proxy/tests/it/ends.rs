//! How connections end: what is whole is seen to be whole, what is not is seen not to be.

use std::time::Duration;

use heddle_ir::inbound::MutualTlsMode::Permissive;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Pair, application, run};

const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";

#[test]
fn a_body_that_ends_with_its_connection_is_whole_on_every_hop() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send(UNTIL_CLOSE).await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(client.rest().await, b"hello");
        for registry in [&pair.server_registry, &pair.client_registry] {
            let parts = ["response_code=\"200\"", "response_flags=\"-\""];
            Pair::counts(registry, "istio_requests_total", &parts, 1).await;
        }
    });
}

#[test]
fn a_body_that_is_cut_off_is_not_taken_for_whole() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send(UNTIL_CLOSE).await;
            // Until the client has it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.stream.set_zero_linger().unwrap();
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await;
        assert_eq!(client.exactly(5).await, b"hello");
        let end = client.stream.read_buf(&mut client.buffer).await;
        assert!(end.is_err(), "taken for the end of the body: {end:?}");
        let parts = ["response_flags=\"UC\""];
        Pair::counts(&pair.client_registry, "istio_requests_total", &parts, 1).await;
    });
}

#[test]
fn an_answer_that_comes_before_the_body_was_sent_is_read_to_its_end() {
    const SAID: usize = 10_000;
    run(async {
        for is_outside in [true, false] {
            let app = application(|mut peer| async move {
                peer.head().await;
                let head = format!("HTTP/1.1 413 Too Large\r\nContent-Length: {SAID}\r\n\r\n");
                peer.send(head + &"x".repeat(SAID)).await;
                // Reads no more, and leaves the connection open.
                std::future::pending::<()>().await;
            })
            .await;
            let pair = Pair::with(app, |_| {}, |server| server.mode = Permissive).await;
            let address = if is_outside { pair.inbound } else { pair.outbound };
            let (mut answers, mut body) = TcpStream::connect(address).await.unwrap().into_split();
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
            body.write_all(head.as_bytes()).await.unwrap();
            // A client that sends on for a moment, and looks only then.
            for _ in 0..5 {
                body.write_all(&vec![b'y'; 100_000]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // In order and to its end: where a reset comes instead, some systems throw away what came before it.
            let mut answer = Vec::new();
            answers.read_to_end(&mut answer).await.unwrap();
            assert!(answer.len() > SAID, "{is_outside}");
            assert!(answer.starts_with(b"HTTP/1.1 413 "), "{is_outside}");
        }
    });
}
