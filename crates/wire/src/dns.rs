//! DNS messages as far as a proxy answers them: one question in, addresses out (RFC 1035, RFC 3596, RFC 6891).
//!
//! The proxy answers names of the mesh from its index and asks its supervisor for all others, so that no
//! response of a server is ever parsed here. It must not decide what a name means; `proxy::dns` does.

use std::net::IpAddr;

/// Header of every message (RFC 1035 section 4.1.1).
const HEADER_BYTES: usize = 12;
/// A name in its wire form (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// What a client without EDNS takes over UDP (RFC 1035 section 2.3.4).
const UDP_BYTES_MIN: usize = 512;
/// The most that is ever sent over UDP, whatever a client announces: what passes most links in one piece.
const UDP_BYTES_MAX: u16 = 1232;
/// Longest message over TCP that is read; a question is never longer.
pub const QUERY_BYTES_MAX: usize = 1024;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const OPCODE_MASK: u16 = 0x7800;

/// What a question asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Anything else; names that exist have no such record here.
    Other(u16),
}

impl QueryType {
    /// Whether `address` answers a question of this type.
    pub fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::A => address.is_ipv4(),
            Self::Aaaa => address.is_ipv6(),
            Self::Other(_) => false,
        }
    }
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// Lower case, without trailing dot; empty for the root.
    pub name: String,
    /// What is asked for.
    pub query_type: QueryType,
    id: u16,
    recursion_desired: bool,
    /// The question as received; an answer repeats it, its letters' case included.
    question: Vec<u8>,
    /// What the client takes over UDP; none: it sent no EDNS record.
    udp_bytes: Option<u16>,
}

/// How a question is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseCode {
    /// The name exists; it may have no record of the type.
    NoError = 0,
    /// The name does not exist.
    NameError = 3,
    /// Policy does not allow the question.
    Refused = 5,
    /// Ask again later.
    ServerFailure = 2,
}

/// Over what a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A stream; a two-byte length stands before every message (RFC 1035 section 4.2.2).
    Tcp,
    /// Datagrams; a long answer is truncated and asked for again over TCP.
    Udp,
}

/// A datagram or stream holds no question that can be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryError {
    /// Not a query, or so broken that there is nothing to answer to.
    Drop,
    /// A query that must be refused: this is the whole answer (FORMERR or NOTIMP).
    Answer(Vec<u8>),
}

impl Query {
    /// Parses a message with exactly one question of class IN.
    pub fn parse(message: &[u8]) -> Result<Self, QueryError> {
        let header = message.get(..HEADER_BYTES).ok_or(QueryError::Drop)?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (id, flags) = (field(0), field(2));
        if flags & FLAG_RESPONSE != 0 {
            return Err(QueryError::Drop);
        }
        let refuse = |code: u16| QueryError::Answer(refusal(id, flags, code));
        if flags & OPCODE_MASK != 0 {
            return Err(refuse(4));
        }
        let malformed = || refuse(1);
        if field(4) != 1 {
            return Err(malformed());
        }
        let (name, after_name) = parse_name(message, HEADER_BYTES).ok_or_else(malformed)?;
        let fixed = message.get(after_name..after_name + 4).ok_or_else(malformed)?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        if u16::from_be_bytes([fixed[2], fixed[3]]) != CLASS_IN {
            return Err(refuse(4));
        }
        let question = message.get(HEADER_BYTES..after_name + 4).ok_or_else(malformed)?.to_vec();
        let others = field(6) == 0 && field(8) == 0 && field(10) == 1;
        let udp_bytes = if others { edns_udp_bytes(message, after_name + 4) } else { None };
        Ok(Self {
            name,
            query_type: match kind {
                TYPE_A => QueryType::A,
                TYPE_AAAA => QueryType::Aaaa,
                other => QueryType::Other(other),
            },
            id,
            recursion_desired: flags & FLAG_RECURSION_DESIRED != 0,
            question,
            udp_bytes,
        })
    }

    /// The answer. Addresses that the question did not ask for are left out; over UDP an answer that does not
    /// fit is cut and marked as truncated.
    pub fn answer(
        &self,
        code: ResponseCode,
        addresses: &[IpAddr],
        ttl_seconds: u32,
        transport: Transport,
    ) -> Vec<u8> {
        let room = match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => self
                .udp_bytes
                .map_or(UDP_BYTES_MIN, usize::from)
                .clamp(UDP_BYTES_MIN, usize::from(UDP_BYTES_MAX)),
        };
        let edns_bytes = if self.udp_bytes.is_some() { 11 } else { 0 };
        let mut message = vec![0; HEADER_BYTES];
        message.extend_from_slice(&self.question);
        let mut count = 0_u16;
        let mut truncated = false;
        for address in addresses.iter().filter(|address| self.query_type.takes(**address)) {
            let octets: &[u8] = match address {
                IpAddr::V4(v4) => &v4.octets(),
                IpAddr::V6(v6) => &v6.octets(),
            };
            if message.len() + 12 + octets.len() + edns_bytes > room {
                truncated = true;
                break;
            }
            // A pointer to the name of the question.
            message.extend_from_slice(&[0xC0, 0x0C]);
            let kind = if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&ttl_seconds.to_be_bytes());
            message.extend_from_slice(&(if address.is_ipv4() { 4_u16 } else { 16 }).to_be_bytes());
            message.extend_from_slice(octets);
            count += 1;
        }
        let mut flags = FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE | code as u16;
        if self.recursion_desired {
            flags |= FLAG_RECURSION_DESIRED;
        }
        if truncated {
            flags |= FLAG_TRUNCATED;
        }
        let additional = u16::from(self.udp_bytes.is_some());
        if additional == 1 {
            message.push(0);
            message.extend_from_slice(&TYPE_OPT.to_be_bytes());
            message.extend_from_slice(&UDP_BYTES_MAX.to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        let header = [self.id, flags, 1, count, 0, additional];
        for (slot, value) in message.chunks_exact_mut(2).zip(header) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        message
    }
}

/// A header alone.
fn refusal(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let flags = FLAG_RESPONSE | (flags & (OPCODE_MASK | FLAG_RECURSION_DESIRED)) | code;
    [id, flags, 0, 0, 0, 0].iter().flat_map(|field| field.to_be_bytes()).collect()
}

/// The name at `at` and where it ends. A question's name is never compressed, so pointers are refused.
fn parse_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let begun = at;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || at + length - begun > NAME_BYTES_MAX {
            return None;
        }
        let label = message.get(at..at + length)?;
        // Only what can be a host name; anything else is not one of ours and cannot be passed on as text.
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        at += length;
    }
}

/// The payload size of the EDNS record that follows the question (RFC 6891 section 6.1.2).
fn edns_udp_bytes(message: &[u8], at: usize) -> Option<u16> {
    let record = message.get(at..at + 5)?;
    (record[0] == 0 && u16::from_be_bytes([record[1], record[2]]) == TYPE_OPT)
        .then(|| u16::from_be_bytes([record[3], record[4]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        if let Some(bytes) = edns {
            message.extend_from_slice(&[0, 0, 41]);
            message.extend_from_slice(&bytes.to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        message
    }

    #[test]
    fn a_question_is_read_and_its_case_kept_in_the_answer() {
        let message = query("Reviews.Default.svc", 1, None);
        let parsed = Query::parse(&message).unwrap();
        assert_eq!(
            (parsed.name.as_str(), parsed.query_type),
            ("reviews.default.svc", QueryType::A)
        );
        let answer = parsed.answer(
            ResponseCode::NoError,
            &["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            30,
            Transport::Udp,
        );
        assert_eq!(&answer[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(&answer[12..message.len()], &message[12..]);
        assert_eq!(
            &answer[message.len()..],
            [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]
        );
    }

    #[test]
    fn a_long_answer_is_truncated_over_udp_only() {
        let addresses: Vec<IpAddr> = (0..200).map(|i| IpAddr::from([10, 0, 0, i])).collect();
        let truncated = |edns, transport| {
            let answer = Query::parse(&query("a.b", 1, edns)).unwrap().answer(
                ResponseCode::NoError,
                &addresses,
                1,
                transport,
            );
            (answer[2] & 2 != 0, answer.len())
        };
        let (cut, length) = truncated(None, Transport::Udp);
        assert!(cut && length <= 512);
        let (cut, length) = truncated(Some(4096), Transport::Udp);
        assert!(cut && length <= 1232 && length > 512);
        assert!(!truncated(None, Transport::Tcp).0);
    }

    #[test]
    fn what_is_not_a_question_is_dropped_or_refused() {
        assert_eq!(Query::parse(&[0; 11]), Err(QueryError::Drop));
        let mut response = query("a", 1, None);
        response[2] |= 0x80;
        assert_eq!(Query::parse(&response), Err(QueryError::Drop));
        let mut update = query("a", 1, None);
        update[2] |= 0x28;
        assert!(
            matches!(Query::parse(&update), Err(QueryError::Answer(answer)) if answer[3] & 15 == 4)
        );
        let mut pointer = query("a", 1, None);
        pointer[12] = 0xC0;
        assert!(
            matches!(Query::parse(&pointer), Err(QueryError::Answer(answer)) if answer[3] & 15 == 1)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(query) = Query::parse(&message) {
                query.answer(ResponseCode::NoError, &["10.0.0.1".parse().unwrap()], 1, Transport::Udp);
            }
        }

        #[test]
        fn every_name_is_read_back(labels in proptest::collection::vec("[a-z0-9-]{1,20}", 1..8)) {
            let name = labels.join(".");
            prop_assert_eq!(Query::parse(&query(&name, 28, Some(1232))).unwrap().name, name);
        }
    }
}
