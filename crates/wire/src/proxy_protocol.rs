//! The header of the PROXY protocol, which tells a server whom a connection is made for (the protocol's specification,
//! sections 2.1 and 2.2).

use std::net::{IpAddr, SocketAddr};

/// The text version. Without addresses, or with addresses of two families, it says that they are not known.
pub fn write_v1(addresses: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let line = match addresses.map(canonical) {
        Some((source, destination)) if source.is_ipv4() == destination.is_ipv4() => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    };
    out.extend_from_slice(line.as_bytes());
}

/// The binary version. Without addresses it says that the proxy connects for itself.
pub fn write_v2(addresses: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    out.extend_from_slice(SIGNATURE);
    let Some((source, destination)) = addresses.map(canonical) else {
        out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return;
    };
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) {
        out.extend_from_slice(&[PROXY, TCP_OVER_IPV4, 0, 12]);
        out.extend_from_slice(&from.octets());
        out.extend_from_slice(&to.octets());
    } else {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        out.extend_from_slice(&[PROXY, TCP_OVER_IPV6, 0, 36]);
        out.extend_from_slice(&octets(source));
        out.extend_from_slice(&octets(destination));
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// IPv4 as such, also where it came through a listener of both families.
fn canonical((source, destination): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let own = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    (own(source), own(destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parties(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
        (source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn headers_are_those_of_the_specification() {
        let four = Some(parties("[::ffff:10.0.0.1]:4660", "10.0.0.2:80"));
        let six = Some(parties("[2001:db8::1]:1", "[2001:db8::2]:2"));
        let mixed = Some(parties("10.0.0.1:1", "[2001:db8::2]:2"));
        let v1 = |addresses| {
            let mut out = Vec::new();
            write_v1(addresses, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(v1(four), "PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n");
        assert_eq!(v1(six), "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
        assert_eq!(v1(mixed), "PROXY UNKNOWN\r\n");
        assert_eq!(v1(None), "PROXY UNKNOWN\r\n");
        let v2 = |addresses| {
            let mut out = Vec::new();
            write_v2(addresses, &mut out);
            assert_eq!(out[..12], [13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10]);
            assert_eq!(usize::from(out[14]) * 256 + usize::from(out[15]), out.len() - 16);
            out.split_off(12)
        };
        assert_eq!(v2(four), [0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
        let of_six = v2(six);
        assert_eq!((&of_six[..4], of_six.len()), (&[0x21, 0x21, 0, 36][..], 40));
        assert_eq!(of_six[4..8], [0x20, 1, 0x0d, 0xb8]);
        assert_eq!(v2(mixed)[4..20], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]);
        assert_eq!(v2(None), [0x20, 0, 0, 0]);
    }
}
