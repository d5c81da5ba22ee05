//! Who is at the other end of a connection.
//!
//! A connection over a Unix socket begins with one line of JSON that says for whom it is. The socket's permissions
//! let only the mesh's owner write it: the supervisor opens the connection, writes the line, and hands the
//! descriptor to the proxy, which can write nothing but HTTP/2 any more.

use heddle_ident::WorkloadId;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest preamble in bytes.
const PREAMBLE_BYTES_MAX: usize = 1024;

/// Who is at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Somebody who has no name yet: a machine with a join token, which may call `Join` and nothing else.
    Guest,
    /// A machine that has joined, known by its certificate: the supervisor and the proxy of that workload.
    Machine(WorkloadId),
    /// The supervisor of the node of that name.
    Node(String),
    /// The proxy of that workload.
    Workload(WorkloadId),
}

/// The preamble as it stands in JSON.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Preamble {
    Guest,
    Node(String),
    Workload(String),
}

/// A preamble that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The connection failed or ended first.
    #[error("connection ended before its preamble")]
    Io(#[from] std::io::Error),
    /// It is not the JSON expected.
    #[error("preamble is not {{\"workload\": …}}, {{\"node\": …}} or \"guest\"")]
    Json(#[from] serde_json::Error),
    /// No line end within the limit.
    #[error("preamble is longer than {PREAMBLE_BYTES_MAX} bytes")]
    TooLong,
}

impl Peer {
    /// The line that a connection of this peer begins with, line feed included. Machines prove themselves by certificates
    /// and say nothing.
    pub fn preamble(&self) -> Vec<u8> {
        let preamble = match self {
            Self::Guest => Preamble::Guest,
            Self::Machine(_) => return Vec::new(),
            Self::Node(name) => Preamble::Node(name.clone()),
            Self::Workload(id) => Preamble::Workload(id.as_str().to_owned()),
        };
        // An enum of strings has no way to fail; an empty line would be refused by the reader.
        let mut line = serde_json::to_vec(&preamble).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Reads the line. Not one byte more is taken, since HTTP/2 follows.
    pub async fn read_preamble(
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Self, PreambleError> {
        let mut line = Vec::new();
        loop {
            match stream.read_u8().await? {
                b'\n' => break,
                _ if line.len() == PREAMBLE_BYTES_MAX => return Err(PreambleError::TooLong),
                byte => line.push(byte),
            }
        }
        Ok(match serde_json::from_slice(&line)? {
            Preamble::Guest => Self::Guest,
            Preamble::Node(name) => Self::Node(name),
            Preamble::Workload(id) => Self::Workload(WorkloadId::new(id)),
        })
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Guest => f.write_str("machine with a join token"),
            Self::Machine(id) => write!(f, "machine of {id}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Workload(id) => write!(f, "proxy of {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preamble_is_read_back_and_no_byte_beyond() {
        for peer in [
            Peer::Workload(WorkloadId::new("standalone/Pod/default/a-0")),
            Peer::Node("local\"\n".into()),
            Peer::Guest,
        ] {
            let mut bytes = peer.preamble();
            bytes.extend_from_slice(b"PRI");
            let mut input = bytes.as_slice();
            assert_eq!(Peer::read_preamble(&mut input).await.unwrap(), peer);
            assert_eq!(input, b"PRI");
        }
        assert_eq!(Peer::Workload(WorkloadId::new("x")).preamble(), b"{\"workload\":\"x\"}\n");
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for bytes in
            [&b"\n"[..], b"{}\n", b"{\"workload\":1}\n", b"{\"workload\":\"x\"}", b"PRI * H\n"]
        {
            assert!(Peer::read_preamble(&mut &*bytes).await.is_err());
        }
        let long = vec![b' '; PREAMBLE_BYTES_MAX + 2];
        let error = Peer::read_preamble(&mut &*long).await.unwrap_err();
        assert!(matches!(error, PreambleError::TooLong));
    }
}
