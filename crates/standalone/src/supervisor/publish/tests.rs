use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use heddle_net::broker::{Server, pair};

/// A publisher with the real broker behind it.
async fn with_publisher<T>(work: impl AsyncFnOnce(Publisher) -> T) -> T {
    let (near, far) = pair().unwrap();
    let (client, driver) = Client::new(near).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        crate::host::serve(Server::new(far).unwrap(), None).await.unwrap();
    });
    tasks.spawn(async move {
        driver.run().await.unwrap();
    });
    work(Publisher::new(client)).await
}

/// A workload that greets with its name.
async fn greeter(tasks: &mut JoinSet<()>, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(name.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn greeting(address: SocketAddr) -> String {
    let mut text = String::new();
    TcpStream::connect(address).await.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

fn wish(host: &str, target: SocketAddr, workload: &str, ready: bool) -> Wish {
    let (host, workload) = (host.parse().unwrap(), workload.into());
    Wish { host, target, workload, service: String::new(), ready, udp: false }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn workloads_with_the_same_port_share_it_and_only_ready_ones_get_connections() {
    with_publisher(async |mut publisher| {
        let mut tasks = JoinSet::new();
        let (a, b) = (greeter(&mut tasks, "a").await, greeter(&mut tasks, "b").await);
        let host = format!("127.0.0.1:{}", free_port());
        let wishes = [wish(&host, a, "x/a", true), wish(&host, b, "x/b", true)];
        let outcomes = publisher.apply(&wishes).await;
        let address = *outcomes[0].as_ref().unwrap();
        assert_eq!((outcomes[1].as_ref(), address.to_string()), (Ok(&address), host.clone()));
        let mut seen = [greeting(address).await, greeting(address).await];
        seen.sort();
        assert_eq!(seen, ["a", "b"]);

        publisher.apply(&[wish(&host, a, "x/a", false), wish(&host, b, "x/b", true)]).await;
        assert_eq!([greeting(address).await, greeting(address).await], ["b", "b"]);
        publisher.apply(&[wish(&host, a, "x/a", false)]).await;
        assert_eq!(greeting(address).await, "", "closed at once when nobody is ready");

        publisher.apply(&[]).await;
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(address).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_names_itself_and_who_wanted_it_and_the_rest_goes_on() {
    with_publisher(async |mut publisher| {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_address = taken.local_addr().unwrap();
        let target = "127.0.0.1:1".parse().unwrap();
        let wishes = [
            wish(&taken_address.to_string(), target, "shop/web", true),
            wish("127.0.0.1:0", target, "shop/web", true),
            wish("127.0.0.1:0", target, "shop/api", true),
        ];
        let outcomes = publisher.apply(&wishes).await;
        let message = outcomes[0].as_ref().unwrap_err();
        assert!(message.contains(&format!("port {}", taken_address.port())), "{message}");
        assert!(message.contains("shop/web"), "{message}");
        assert_ne!(outcomes[1].as_ref().unwrap(), outcomes[2].as_ref().unwrap());
        drop(taken);
        let outcomes = publisher.apply(&wishes).await;
        assert_eq!(outcomes[0], Ok(taken_address));
    })
    .await;
}

#[tokio::test]
async fn services_with_the_same_port_get_one_each() {
    with_publisher(async |mut publisher| {
        let mut tasks = JoinSet::new();
        let (a, b) = (greeter(&mut tasks, "a").await, greeter(&mut tasks, "b").await);
        let host = format!("127.0.0.1:{}", free_port());
        let of = |target, service: &str| Wish {
            service: service.into(),
            ..wish(&host, target, "x/pod", true)
        };
        let outcomes = publisher.apply(&[of(a, "x/a"), of(b, "x/b"), of(a, "x/a")]).await;
        let [first, second, third] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let (first, second) = (*first.as_ref().unwrap(), *second.as_ref().unwrap());
        assert_eq!((first.to_string(), third.as_ref()), (host.clone(), Ok(&first)));
        assert_ne!(first, second);
        assert_eq!([greeting(first).await, greeting(second).await], ["a", "b"]);
        // What a program outside of the mesh has is not replaced in silence.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = Wish { host: taken.local_addr().unwrap(), ..of(a, "x/a") };
        let outcomes = publisher.apply(&[busy]).await;
        let message = outcomes[0].as_ref().unwrap_err();
        assert!(message.contains("Service x/a") && message.contains("taken"), "{message}");
    })
    .await;
}
