//! The resolver for workloads without a proxy, on the fabric's addresses.
//!
//! Names of the mesh lead where the control plane says: to virtual addresses that the kernel knows, or to endpoints, as
//! those of a headless service do. Other names are the host's to resolve. A meshed workload never asks here, since its proxy takes
//! its questions.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use heddle_net::broker::{Client, Error, Grant, RefusalKind, Request};
use heddle_proto::node::NameRecord;
use heddle_wire::dns::{QUERY_BYTES_MAX, Query, QueryError, ResponseCode, Transport};

/// How long an answer may be kept; endpoints come and go.
const TTL_MESH_SECONDS: u32 = 5;
/// The same for names of the outside, whose own time the host's resolver does not tell.
const TTL_OUTSIDE_SECONDS: u32 = 30;
/// So many addresses fit into every answer without truncation.
const ADDRESSES_MAX: usize = 16;
/// Questions answered at once; more wait in the kernel's queue.
const QUESTIONS_MAX: usize = 64;

/// The names of the mesh, shared by the sockets.
#[derive(Default)]
pub(crate) struct Names {
    records: Mutex<Records>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Records {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Everything under it is the mesh's.
    zone: String,
}

impl Names {
    /// Replaces the names. `zone` is the domain that is the mesh's alone (`cluster.local`): a name under it
    /// that is not known does not exist.
    pub(crate) fn set(&self, records: &[NameRecord], zone: &str) {
        let addresses = records.iter().map(|record| {
            let addresses = record.addresses.iter().filter_map(|text| text.parse().ok());
            (record.name.clone(), addresses.collect())
        });
        let mut own = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        *own = Records { addresses: addresses.collect(), zone: zone.to_owned() };
    }

    /// The addresses of a name of the mesh, each time beginning with another one; none where it is not the
    /// mesh's.
    fn find(&self, name: &str) -> Option<Result<Vec<IpAddr>, ResponseCode>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = records.addresses.get(name) {
            let mut addresses = addresses.clone();
            if !addresses.is_empty() {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
                addresses.rotate_left(turn);
            }
            addresses.truncate(ADDRESSES_MAX);
            return Some(Ok(addresses));
        }
        let in_zone = !records.zone.is_empty()
            && name.strip_suffix(&records.zone).is_some_and(|rest| rest.ends_with('.'));
        // A name without a dot is one of the search list's tries: no resolver outside knows it.
        (in_zone || !name.contains('.')).then_some(Err(ResponseCode::NameError))
    }

    /// The answer to a datagram; none when it deserves none.
    async fn answer(&self, message: &[u8], broker: &Client) -> Option<Vec<u8>> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(QueryError::Answer(answer)) => return Some(answer),
            Err(QueryError::Drop) => return None,
        };
        let (code, addresses, ttl) = match self.find(&query.name) {
            Some(Ok(addresses)) => (ResponseCode::NoError, addresses, TTL_MESH_SECONDS),
            Some(Err(code)) => (code, Vec::new(), TTL_MESH_SECONDS),
            None => {
                let (code, addresses) = resolve_outside(&query.name, broker).await;
                (code, addresses, TTL_OUTSIDE_SECONDS)
            }
        };
        Some(query.answer(code, &addresses, ttl, Transport::Udp))
    }
}

async fn resolve_outside(name: &str, broker: &Client) -> (ResponseCode, Vec<IpAddr>) {
    match broker.request(&Request::Resolve(name.to_owned())).await {
        Ok(Grant::Addresses(mut addresses)) => {
            addresses.truncate(ADDRESSES_MAX);
            (ResponseCode::NoError, addresses)
        }
        Err(Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
            (ResponseCode::NameError, Vec::new())
        }
        _ => (ResponseCode::ServerFailure, Vec::new()),
    }
}

/// Answers questions that come to a socket, until it fails.
pub(crate) async fn serve(socket: UdpSocket, names: Arc<Names>, broker: Client) -> io::Result<()> {
    let socket = Arc::new(socket);
    let slots = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut questions = JoinSet::new();
    let mut buffer = [0; QUERY_BYTES_MAX];
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        let (length, peer): (usize, SocketAddr) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer did not arrive (ICMP); the socket is as good as before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let message = buffer[..length].to_vec();
        let (socket, names, broker) = (Arc::clone(&socket), Arc::clone(&names), broker.clone());
        questions.spawn(async move {
            let answer = names.answer(&message, &broker);
            if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(10), answer).await {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, peer).await;
            }
            drop(slot);
        });
        while questions.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, addresses: &[&str]) -> NameRecord {
        NameRecord {
            name: name.into(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_name_leads_to_its_endpoints_in_turn() {
        let names = Names::default();
        names.set(&[record("a.b.svc.cluster.local", &["10.0.0.1", "10.0.0.2"])], "cluster.local");
        let first = |name| names.find(name).unwrap().unwrap()[0].to_string();
        let name = "a.b.svc.cluster.local";
        assert_eq!([first(name), first(name), first(name)], ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
    }

    #[test]
    fn what_is_under_the_meshs_zone_is_not_asked_outside() {
        let names = Names::default();
        names.set(&[record("a.cluster.local", &[])], "cluster.local");
        assert_eq!(names.find("a.cluster.local"), Some(Ok(Vec::new())));
        assert_eq!(names.find("b.cluster.local"), Some(Err(ResponseCode::NameError)));
        assert_eq!(names.find("a"), Some(Err(ResponseCode::NameError)));
        assert_eq!(names.find("xcluster.local"), None);
        assert_eq!(names.find("example.com"), None);
    }

    #[tokio::test]
    async fn a_question_gets_its_answer() {
        let (near, far) = heddle_net::broker::pair().unwrap();
        let (broker, _driver) = Client::new(near).unwrap();
        drop(far);
        let names = Arc::new(Names::default());
        names.set(&[record("a.cluster.local", &["10.0.0.9"])], "cluster.local");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, names, broker));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend_from_slice(b"\x01a\x07cluster\x05local\x00\x00\x01\x00\x01");
        client.send_to(&question, address).await.unwrap();
        let mut buffer = [0; 512];
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!(buffer[..2], [0x12, 0x34]);
        assert!(buffer[..length].ends_with(&[10, 0, 0, 9]), "{:?}", &buffer[..length]);
    }
}
