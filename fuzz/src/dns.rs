//! DNS: whatever is asked, the answer is a message that fits and repeats the question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_wire::dns::{Query, QueryError, ResponseCode, Transport};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07reviews\x07default\x00\x00\x01\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x00\x00\x1c\x00\x01\
      \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
    b"\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01",
];

pub(crate) fn query(bytes: &[u8]) {
    let addresses: Vec<IpAddr> = (0..60)
        .flat_map(|n| {
            [IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), IpAddr::V6(Ipv6Addr::from(u128::from(n)))]
        })
        .collect();
    match Query::parse(bytes) {
        Ok(query) => {
            for transport in [Transport::Udp, Transport::Tcp] {
                let answer = query.answer(ResponseCode::NoError, &addresses, 30, transport);
                assert!(u16::try_from(answer.len()).is_ok(), "an answer does not fit");
                assert_eq!(answer.get(..2), bytes.get(..2), "the answer is for another query");
                assert!(answer[2] & 0x80 != 0, "the answer is not marked as one");
            }
        }
        Err(QueryError::Answer(answer)) => {
            assert_eq!(answer.get(..2), bytes.get(..2), "the answer is for another query");
            assert!(answer[2] & 0x80 != 0, "the answer is not marked as one");
        }
        Err(QueryError::Drop) => {}
    }
}
