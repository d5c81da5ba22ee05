//! Taking connections from a listener: as many at a time as the limits say, until the thread drains.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use heddle_http::drain::DrainGuard;
use heddle_ir::proxy::Limits;
use tokio::net::{TcpListener, TcpStream};

use crate::worker::Worker;

/// After a failed accept (no descriptors left); connections wait in the kernel's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What serves one connection.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Accepts until the thread drains; every connection is a task of the thread's local set.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: TcpListener,
    connection: impl Fn(Rc<Worker>, TcpStream, SocketAddr, DrainGuard) -> Serving,
) {
    let guard = worker.drain.watch();
    loop {
        let accepted = poll_fn(|cx| {
            if guard.poll_draining(cx) {
                return Poll::Ready(None);
            }
            listener.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => return,
            Some(Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Some(Ok((tcp, source))) => {
                tokio::task::spawn_local(connection(
                    worker.clone(),
                    tcp,
                    source,
                    worker.drain.enter(),
                ));
                let draining =
                    poll_fn(
                        |cx| {
                            if guard.poll_draining(cx) { Poll::Ready(()) } else { Poll::Pending }
                        },
                    );
                tokio::select! {
                    biased;
                    () = draining => return,
                    () = wait_for_room(&worker) => {}
                }
            }
        }
    }
}

/// Over the limit further connections wait in the kernel's queue.
pub(crate) async fn wait_for_room(worker: &Worker) {
    let settings = worker.shared.configuration.snapshot().settings.clone();
    let limits = settings.map_or_else(Limits::default, |settings| settings.limits);
    worker.drain.below(limits.connections_max as usize).await;
}
