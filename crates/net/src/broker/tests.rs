use std::io::{Read, Write};
use std::net::Ipv4Addr;

use super::*;

#[test]
fn messages_survive_the_wire() {
    for request in [
        Request::Connect("1.2.3.4:80".parse().unwrap()),
        Request::Connect("[fd00::1]:443".parse().unwrap()),
        Request::Control,
        Request::Listen("127.0.0.1:8080".parse().unwrap()),
        Request::Resolve("example.com".to_owned()),
    ] {
        assert_eq!(decode_request(&encode_request(7, &request)), Some((7, request)));
    }
    for kind in RefusalKind::ALL.map(|(kind, _)| kind) {
        let refusal = Refusal::new(kind, "a sentence with spaces");
        let (id, reply) = decode_reply(&encode_reply(9, &Err(refusal.clone())), None).unwrap();
        assert_eq!((id, reply.unwrap_err()), (9, refusal));
    }
    let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), "fd00::2".parse().unwrap()];
    let text = encode_reply(1, &Ok(Grant::Addresses(addresses.clone())));
    let Some((1, Ok(Grant::Addresses(decoded)))) = decode_reply(&text, None) else {
        panic!("{text}")
    };
    assert_eq!(decoded, addresses);
}

#[test]
fn what_is_no_message_is_refused() {
    for text in ["", "1", "x control", "1 connect", "1 connect host:80", "1 resolve ", "1 grant x"]
    {
        assert_eq!(decode_request(text), None, "{text}");
    }
    for text in ["", "1", "1 ok", "1 ok descriptor", "1 ok addresses x", "1 maybe x"] {
        assert!(decode_reply(text, None).is_none(), "{text}");
    }
}

#[tokio::test]
async fn a_descriptor_reaches_the_client_that_asked() {
    let (near, far) = pair().unwrap();
    let (client, driver) = Client::new(near).unwrap();
    let driver = tokio::spawn(driver.run());
    let server = Server::new(far).unwrap();
    let serve = async {
        let calls = [server.accept().await, server.accept().await].map(|c| c.unwrap().unwrap());
        let (second, first): (Vec<_>, Vec<_>) =
            calls.into_iter().partition(|call| call.request == Request::Control);
        let [second, first] = [second, first].map(|mut calls| calls.pop().unwrap());
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        // Not in the order of the requests: replies are told apart by id.
        second.reply(Ok(Grant::Descriptor(theirs.into()))).await.unwrap();
        first.reply(Err(Refusal::new(RefusalKind::Refused, "nobody there"))).await.unwrap();
        ours.write_all(b"hello").unwrap();
    };
    let connect = Request::Connect("192.0.2.1:80".parse().unwrap());
    let (refused, granted, ()) =
        tokio::join!(client.request(&connect), client.descriptor(&Request::Control), serve);
    let Err(Error::Refused(refusal)) = refused else { panic!("granted") };
    assert_eq!(refusal, Refusal::new(RefusalKind::Refused, "nobody there"));
    let mut text = String::new();
    std::os::unix::net::UnixStream::from(granted.unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");

    drop(server);
    driver.await.unwrap().unwrap();
    assert!(matches!(client.request(&Request::Control).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_dropped_request_is_forgotten_and_its_late_reply_is_dropped() {
    let (near, far) = pair().unwrap();
    let (client, driver) = Client::new(near).unwrap();
    let _driver = tokio::spawn(driver.run());
    let server = Server::new(far).unwrap();
    let call = tokio::select! {
        biased;
        _ = client.request(&Request::Control) => panic!("answered"),
        call = server.accept() => call.unwrap().unwrap(),
    };
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    call.reply(Ok(Grant::Descriptor(theirs.into()))).await.unwrap();
    // The other end of the pair closes, because nobody waits for the descriptor.
    ours.set_nonblocking(true).unwrap();
    let mut stream = tokio::net::UnixStream::from_std(ours.try_clone().unwrap()).unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await.unwrap();
    assert_eq!(read, 0);
    assert!(ours.write_all(b"x").is_err());
}
