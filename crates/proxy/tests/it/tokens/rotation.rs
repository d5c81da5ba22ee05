//! An issuer that changes its keys, and one that goes away.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_ir::authentication::JwtKeys;

use super::{Issuer, allow_sub_1, claims, jwt_rule, server, with_token};
use crate::harness::{Pair, Peer, mirror, run};
use crate::support::service_host;

/// Asks until the answer has this status; how often.
async fn until(peer: &mut Peer, token: &str, status: u16) -> u32 {
    for asked in 1.. {
        let answer = with_token(peer, token).await;
        if answer.status() == status {
            return asked;
        }
        assert_eq!(answer.status(), 401, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!()
}

#[test]
fn new_keys_are_fetched_when_they_are_needed_and_the_last_good_ones_stay() {
    run(async {
        let (old, new, stranger) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("none"));
        // What the issuer serves; none: it is down.
        let served: Rc<RefCell<Option<String>>> = Rc::new(RefCell::new(Some(old.key_set())));
        let fetches: Rc<RefCell<Vec<Instant>>> = Rc::default();
        let (serve, times) = (served.clone(), fetches.clone());
        let keys = server(move |_| {
            times.borrow_mut().push(Instant::now());
            serve.borrow().clone()
        })
        .await;
        let url = format!("http://{}:8080/jwks", service_host("keys"));
        let pair = Pair::with(
            mirror().await,
            |_| {},
            |server| {
                server.jwt_rules = vec![Arc::new(jwt_rule(JwtKeys::Url(url.into())))];
                server.services = vec![("keys", keys)];
                server.authorization = allow_sub_1();
            },
        )
        .await;
        let mut peer = pair.connect().await;
        let of = |issuer: &Issuer| issuer.token(&claims("sub-1"));
        until(&mut peer, &of(&old), 200).await;

        // The issuer has other keys: whoever shows one of them makes the set be fetched again, soon and once.
        *served.borrow_mut() = Some(new.key_set());
        assert_eq!(with_token(&mut peer, &of(&old)).await.status(), 200, "nobody has asked yet");
        until(&mut peer, &of(&new), 200).await;
        assert_eq!(with_token(&mut peer, &of(&old)).await.status(), 401, "withdrawn by its issuer");
        assert_eq!(fetches.borrow().len(), 2);

        // The issuer is down: what it has said last holds, whatever unknown keys ask for.
        *served.borrow_mut() = None;
        while fetches.borrow().len() < 3 {
            assert_eq!(with_token(&mut peer, &of(&stranger)).await.status(), 401);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..50 {
            assert_eq!(with_token(&mut peer, &of(&stranger)).await.status(), 401);
            assert_eq!(with_token(&mut peer, &of(&new)).await.status(), 200);
            assert_eq!(with_token(&mut peer, &of(&old)).await.status(), 401);
        }
        // Unknown keys alone do not make it be asked more often than every 5 seconds.
        let times = fetches.borrow();
        for pair in times[..3].windows(2) {
            let between = pair[1] - pair[0];
            assert!(between >= Duration::from_millis(4900), "{between:?}");
        }
    });
}
