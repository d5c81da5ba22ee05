//! Normalisation of request paths, before any rule sees them.
//!
//! Rules compare paths as text, and servers often do not: without normalisation `/admin/../public` or
//! `/%61dmin` would get past a rule about `/admin`. What is normalised is also what is forwarded, so that the
//! server cannot understand another path than the rules did.

use heddle_ir::inbound::PathNormalization;

/// The path cannot be normalised; the request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%00` ends the path early in many servers.
    #[error("the path has an encoded NUL")]
    EncodedNul,
}

/// Normalises a path, without query. Answers nothing where it is normal already, so that most requests cost one
/// scan. In the order of Envoy: encoded slashes are decoded, where the mode says so; unreserved characters are decoded and
/// dot segments removed; slashes are merged. Without a leading `/` (`*` of OPTIONS) it stays as it is.
pub fn normalize(path: &str, mode: PathNormalization) -> Result<Option<String>, PathError> {
    if mode == PathNormalization::None || !path.starts_with('/') || is_normal(path, mode) {
        return Ok(None);
    }
    let decoded = decode(path, mode)?;
    let mut normal = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." if is_last => normal.push('/'),
            "." => {}
            ".." => {
                normal.truncate(normal.rfind('/').unwrap_or(0));
                if is_last {
                    normal.push('/');
                }
            }
            _ => {
                normal.push('/');
                normal.push_str(segment);
            }
        }
    }
    if normal.is_empty() {
        normal.push('/');
    }
    if mode != PathNormalization::Base {
        merge_slashes(&mut normal);
    }
    Ok((normal != path).then_some(normal))
}

/// Makes one slash of several. Only once dot segments are gone, as Envoy does: an empty segment is a segment, so that
/// `/a//../b` is `/a/b`; merged before, it would be `/b`, which a server that keeps empty segments does not serve.
fn merge_slashes(path: &mut String) {
    let mut after_slash = false;
    path.retain(|character| {
        let doubled = after_slash && character == '/';
        after_slash = character == '/';
        !doubled
    });
}

/// Whether nothing in the path can need a change. May say no for a normal path, never yes for another.
fn is_normal(path: &str, mode: PathNormalization) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr2(b'%', b'\\', bytes).is_none()
        && memchr::memmem::find(bytes, b"/.").is_none()
        && (mode == PathNormalization::Base || memchr::memmem::find(bytes, b"//").is_none())
}

/// Decodes unreserved characters (RFC 3986 section 6.2.2.2) and makes `\` a slash; with
/// `DecodeAndMergeSlashes` encoded slashes of both kinds too. Other encodings, and what is not a valid
/// encoding, stay as they are.
fn decode(path: &str, mode: PathNormalization) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(place) = rest.find(['%', '\\']) {
        let (before, found) = rest.split_at(place);
        decoded.push_str(before);
        if let Some(after) = found.strip_prefix('\\') {
            decoded.push('/');
            rest = after;
            continue;
        }
        match found.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            // `from_str_radix` takes a sign.
            Some(_) if found.as_bytes()[1] == b'+' => {
                decoded.push('%');
                rest = &found[1..];
                continue;
            }
            Some(0) => return Err(PathError::EncodedNul),
            // `/%6%31dmin` must not become `/%61dmin`, which the server would decode once more.
            Some(byte) if byte.is_ascii_hexdigit() && ends_within_encoding(&decoded) => {
                decoded.push_str(&found[..3]);
            }
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
            }
            Some(b'/' | b'\\') if mode == PathNormalization::DecodeAndMergeSlashes => {
                decoded.push('/');
            }
            Some(_) => decoded.push_str(&found[..3]),
            None => {
                decoded.push('%');
                rest = &found[1..];
                continue;
            }
        }
        rest = &found[3..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// Whether one or two hexadecimal digits more would make an encoding of the last bytes.
fn ends_within_encoding(text: &str) -> bool {
    match text.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str, mode: PathNormalization) -> String {
        normalize(path, mode).unwrap().unwrap_or_else(|| path.to_owned())
    }

    #[test]
    fn each_mode_does_what_the_one_before_does_and_more() {
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
        let cases = [
            // received, base, merge, decode and merge
            ("/", "/", "/", "/"),
            ("/a/b", "/a/b", "/a/b", "/a/b"),
            ("/a/./b", "/a/b", "/a/b", "/a/b"),
            ("/a/../b", "/b", "/b", "/b"),
            ("/../../b", "/b", "/b", "/b"),
            ("/a/..", "/", "/", "/"),
            ("/a/.", "/a/", "/a/", "/a/"),
            ("/a/b/..", "/a/", "/a/", "/a/"),
            ("/%61dmin", "/admin", "/admin", "/admin"),
            ("/a/%2e%2E/b", "/b", "/b", "/b"),
            ("/a\\..\\b", "/b", "/b", "/b"),
            ("//a///b/", "//a///b/", "/a/b/", "/a/b/"),
            ("/a//../b", "/a/b", "/a/b", "/a/b"),
            ("/a/..//b", "//b", "/b", "/b"),
            ("/a/b//../../c", "/a/c", "/a/c", "/a/c"),
            ("//..//b", "//b", "/b", "/b"),
            ("/a//.", "/a//", "/a/", "/a/"),
            ("/a//..", "/a/", "/a/", "/a/"),
            ("/a/%2e%2e//b//", "//b//", "/b/", "/b/"),
            ("/a\\\\..\\b", "/a/b", "/a/b", "/a/b"),
            ("/a/%2F../b", "/a/%2F../b", "/a/%2F../b", "/a/b"),
            ("/a%2F%2e%2E%2Fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "/b"),
            ("/a%2fb", "/a%2fb", "/a%2fb", "/a/b"),
            ("/a%2F..%5Cb", "/a%2F..%5Cb", "/a%2F..%5Cb", "/b"),
            ("/a%20b%zz%", "/a%20b%zz%", "/a%20b%zz%", "/a%20b%zz%"),
            ("/%6%31dmin", "/%6%31dmin", "/%6%31dmin", "/%6%31dmin"),
            ("/%%36%31dmin", "/%%361dmin", "/%%361dmin", "/%%361dmin"),
            ("/%+1", "/%+1", "/%+1", "/%+1"),
            ("/.hidden/..x", "/.hidden/..x", "/.hidden/..x", "/.hidden/..x"),
            ("*", "*", "*", "*"),
        ];
        for (received, base, merged, decoded) in cases {
            assert_eq!(normal(received, None), received);
            assert_eq!(normal(received, Base), base, "{received}");
            assert_eq!(normal(received, MergeSlashes), merged, "{received}");
            assert_eq!(normal(received, DecodeAndMergeSlashes), decoded, "{received}");
        }
        assert_eq!(normalize("/a%00b", Base), Err(PathError::EncodedNul));
    }

    proptest::proptest! {
        #[test]
        fn a_normal_path_stays_normal(path in "/[a.%25\\\\/2eéfF5c]{0,12}") {
            use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes};
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                if let Ok(Some(once)) = normalize(&path, mode) {
                    // `%2525` may decode into nothing further: only unreserved characters are decoded.
                    proptest::prop_assert_eq!(normalize(&once, mode), Ok(None), "{}", once);
                }
            }
        }

        #[test]
        fn what_is_merged_is_the_base_without_doubled_slashes(path in "/[a./]{0,12}") {
            use PathNormalization::{Base, MergeSlashes};
            let mut base = normal(&path, Base);
            while base.contains("//") {
                base = base.replace("//", "/");
            }
            proptest::prop_assert_eq!(normal(&path, MergeSlashes), base);
        }
    }
}
