//! From the workload to others: accept, detect, route, pick, connect, forward, record.

mod http1;
mod request_id;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use heddle_http::{Connection, Transport};
use heddle_net::socket::original_destination;
use tokio::net::{TcpListener, TcpStream};

use crate::worker::Worker;

/// A connection of the workload, and where it was meant to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// Accepts connections until the thread drains. Each is a task of the thread's local set.
pub async fn serve(worker: Rc<Worker>, listener: TcpListener) {
    crate::accept::serve(worker, listener, |worker, tcp, source| {
        Box::pin(async move {
            let Ok(accepted) = accept(&worker, &tcp, source) else { return };
            serve_connection(&worker, accepted, tcp).await;
        })
    })
    .await;
}

fn accept(worker: &Worker, tcp: &TcpStream, source: SocketAddr) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let destination = match worker.shared.overrides.outbound_destination {
        Some(destination) => destination,
        None => original_destination(tcp)?,
    };
    Ok(Accepted { source, destination })
}

async fn serve_connection(worker: &Rc<Worker>, accepted: Accepted, tcp: TcpStream) {
    let connection = Connection::new(Transport::Plain(tcp));
    http1::serve(worker, accepted, connection).await;
}
