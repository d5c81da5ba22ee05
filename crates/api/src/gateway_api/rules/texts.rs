//! Patterns of texts. Each returns what was expected, to be read after "is not".

use crate::check;

/// A host name, or `*.` and one.
pub(crate) fn hostname(text: &str) -> Result<(), &'static str> {
    check::dns_name(text.strip_prefix("*.").unwrap_or(text))
        .map_err(|_| "a host name in lower case, or `*.` and one")
}

/// `domain/path`.
pub(crate) fn controller_name(text: &str) -> Result<(), &'static str> {
    is_prefixed(text).then_some(()).ok_or("a name as `example.com/controller`")
}

/// `System`, or `domain/name`.
pub(crate) fn well_known_ca(text: &str) -> Result<(), &'static str> {
    let named = || {
        let (domain, name) = text.split_once('/')?;
        let edges = |b: &u8| b.is_ascii_alphanumeric();
        let bytes = name.as_bytes();
        (check::dns_name(domain).is_ok()
            && bytes.len() <= 63
            && bytes.first().is_some_and(edges)
            && bytes.last().is_some_and(edges)
            && bytes.iter().all(|b| edges(b) || matches!(b, b'-' | b'_' | b'.')))
        .then_some(())
    };
    (text == "System" || named().is_some()).then_some(()).ok_or("`System`")
}

/// A domain, a slash, and characters that a path may have.
fn is_prefixed(text: &str) -> bool {
    text.split_once('/').is_some_and(|(domain, path)| {
        check::dns_name(domain).is_ok()
            && !path.is_empty()
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
    })
}

/// The type of an address. Upstream's pattern binds its anchors to the outer alternatives only; kept as it is.
pub(crate) fn address_type(text: &str) -> Result<(), &'static str> {
    let vendor = || {
        let (before, path) = text.split_once('/')?;
        // Unanchored at its beginning: the domain may follow anything.
        let last = before.bytes().last()?;
        ((last.is_ascii_lowercase() || last.is_ascii_digit())
            && !path.is_empty()
            && path
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)))
        .then_some(())
    };
    (text.starts_with("Hostname")
        || text.contains("IPAddress")
        || text.contains("NamedAddress")
        || vendor().is_some())
    .then_some(())
    .ok_or("`IPAddress`, `Hostname`, or a type as `example.com/type`")
}

/// A protocol: a word, or `domain/NAME`.
pub(crate) fn protocol(text: &str) -> Result<(), &'static str> {
    let word = |text: &str| {
        let bytes = text.as_bytes();
        let edges = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        edges(bytes.first())
            && edges(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let vendor = || {
        let (domain, name) = text.rsplit_once('/')?;
        let last = domain.bytes().last()?;
        ((last.is_ascii_lowercase() || last.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric()))
        .then_some(())
    };
    (word(text) || vendor().is_some()).then_some(()).ok_or("the name of a protocol")
}

/// A duration of the Gateway API (GEP-2257): one to four numbers of at most five digits, with `h`, `m`, `s` or `ms`.
/// What is no duration at all is reported where it is decoded.
pub(crate) fn duration(text: &str) -> Result<(), &'static str> {
    const EXPECTED: &str = "a duration of up to four whole numbers with `h`, `m`, `s` or `ms`";
    if crate::value::Duration::parse(text).is_none() {
        return Ok(());
    }
    let (mut rest, mut parts) = (text, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest.get(digits..).unwrap_or_default();
        let unit_bytes =
            if unit.starts_with("ms") { 2 } else { usize::from(unit.starts_with(['h', 'm', 's'])) };
        parts += 1;
        if !(1..=5).contains(&digits) || unit_bytes == 0 || parts > 4 {
            return Err(EXPECTED);
        }
        rest = unit.get(unit_bytes..).unwrap_or_default();
    }
    if parts == 0 { Err(EXPECTED) } else { Ok(()) }
}

/// A token of HTTP (RFC 9110 section 5.6.2).
pub(crate) fn token(text: &str) -> Result<(), &'static str> {
    (!text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)))
    .then_some(())
    .ok_or("a name of letters, digits and `!#$%&'*+-.^_|~`")
}

/// Visible ASCII, with single spaces or tabs in between.
pub(crate) fn header_value(text: &str) -> Result<(), &'static str> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_graphic);
    let twice = bytes.windows(2).any(|pair| pair.iter().all(blank));
    (ends(bytes.first())
        && ends(bytes.last())
        && !twice
        && bytes.iter().all(|b| b.is_ascii_graphic() || blank(b)))
    .then_some(())
    .ok_or("a header value of visible ASCII characters with single spaces in between")
}

/// Characters that a path may have (RFC 3986 section 3.3).
pub(crate) fn path_text(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    let mut sound = !text.is_empty();
    while let Some(byte) = bytes.next() {
        sound &= match byte {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
                hex() && hex()
            }
            byte => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
        };
    }
    sound.then_some(()).ok_or("a path of the characters that URLs allow")
}

/// A method, or `*`.
pub(crate) fn cors_method(text: &str) -> Result<(), &'static str> {
    (text == "*" || super::super::HttpMethod::TEXTS.contains(&text))
        .then_some(())
        .ok_or("a method in upper case, or `*`")
}

/// `scheme://host[:port]`, the host perhaps `*` or with `*.` before it; or `*`.
pub(crate) fn cors_origin(text: &str) -> Result<(), &'static str> {
    let origin = || {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
        let (host, port) = rest.split_once(':').map_or((rest, None), |(h, p)| (h, Some(p)));
        let port = port.is_none_or(|port| {
            (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
        });
        let named = host == "*"
            || host.strip_prefix("*.").unwrap_or(host).split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
        (port && named).then_some(())
    };
    (text == "*" || origin().is_some())
        .then_some(())
        .ok_or("an origin as `https://example.com`, `https://*.example.com`, or `*`")
}

/// A URI with scheme and authority.
pub(crate) fn absolute_uri(text: &str) -> Result<(), &'static str> {
    text.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains([':', '/', '?', '#']))
        .then_some(())
        .ok_or("a URI as `spiffe://example.com/name`")
}

/// The key of a label or annotation.
pub(crate) fn qualified_key(text: &str) -> Result<(), &'static str> {
    check::label_key(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for text in ["0s", "1h", "10s", "1h30m", "500ms", "99999h", "1h2m3s4ms", "1m1m"] {
            assert_eq!(duration(text), Ok(()), "{text}");
        }
        for text in ["1.5s", "100000s", "-1s", "+1s", "1us", "1h1m1s1ms1s", "0"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_take_what_upstream_takes() {
        type Case = (
            fn(&str) -> Result<(), &'static str>,
            &'static [&'static str],
            &'static [&'static str],
        );
        let cases: [Case; 7] = [
            (hostname, &["a", "*.a.b", "1.2"], &["*", "A", "a.*", "*a.b", ".a", "a..b", "-a"]),
            (
                controller_name,
                &["example.net/x", "a/b/c~!"],
                &["example.net", "example.net/", "A/b", "a/b c"],
            ),
            (protocol, &["HTTP", "tcp-x", "example.com/bar"], &["-HTTP", "a/", "a_b", "A/b-c"]),
            (header_value, &["a", "a b", "a\tb", "!~"], &["", " a", "a ", "a  b", "é"]),
            (path_text, &["/a%2F", "/a:b@c"], &["", "/a%2", "/a b", "/ä", "%zz"]),
            (
                cors_origin,
                &["*", "http://*", "https://*.a.b:8080", "http://A-1.x"],
                &["ftp://a", "https://", "https://a:123456", "https://a.*", "https://a/", "a"],
            ),
            (address_type, &["IPAddress", "Hostname", "example.com/x"], &["ip", "Named", "X/"]),
        ];
        for (number, (check, right, wrong)) in cases.iter().enumerate() {
            for text in *right {
                assert_eq!(check(text), Ok(()), "{number} {text}");
            }
            for text in *wrong {
                assert!(check(text).is_err(), "{number} {text}");
            }
        }
    }
}
