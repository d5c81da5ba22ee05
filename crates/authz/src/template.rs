//! Path templates (Envoy's URI templates as Istio's `paths` take them) and globs.

/// A compiled path template: literal segments, `{*}` for one segment that is not empty, and at most one `{**}` for any
/// text at all, which is the last operator but may be followed by literal segments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    /// Segments before `{**}`, or all of them; none stands for `{*}`.
    head: Box<[Option<Box<str>>]>,
    /// What follows `{**}`, with its leading slash; none when there is no `{**}`.
    tail: Option<Box<str>>,
}

impl PathTemplate {
    /// Parses a template; the error is a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let segments = text.strip_prefix('/').ok_or("a path template must begin with a slash")?;
        let mut head = Vec::new();
        let mut tail: Option<String> = None;
        for segment in segments.split('/') {
            match (segment, &mut tail) {
                ("{*}" | "{**}", Some(_)) => return Err("{**} must be the last operator"),
                ("{*}", None) => head.push(None),
                ("{**}", None) => tail = Some(String::new()),
                (segment, _) if segment.contains(['{', '}', '*']) => {
                    return Err("{*} and {**} must stand alone in a segment");
                }
                (literal, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(literal);
                }
                (literal, None) => head.push(Some(literal.into())),
            }
        }
        Ok(Self { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether the template takes the whole path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        let mut head = self.head.iter().peekable();
        while let Some(wanted) = head.next() {
            let (segment, after) = match rest.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (rest, None),
            };
            let equal = wanted.as_ref().map_or(!segment.is_empty(), |wanted| **wanted == *segment);
            if !equal {
                return false;
            }
            let more = head.peek().is_some() || self.tail.is_some();
            match (after, more) {
                (Some(after), true) => rest = after,
                (None, false) => return true,
                (Some(_), false) | (None, true) => return false,
            }
        }
        self.tail.as_ref().is_some_and(|tail| rest.ends_with(&**tail))
    }
}

/// Whether `pattern`, in which `*` stands for any run of bytes, takes the whole of `text`.
pub(crate) fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: the star may take one byte more.
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            p = after_star;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_segments() {
        let cases = [
            ("/foo", "/foo", true),
            ("/foo", "/foo/", false),
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{*}", "/foo", false),
            ("/foo/{*}", "/foo/bar/baz", false),
            ("/foo/{*}/bar", "/foo/x/bar", true),
            ("/foo/{*}/bar", "/foo/x/y/bar", false),
            ("/foo/{**}", "/foo/", true),
            ("/foo/{**}", "/foo/bar/baz.txt", true),
            ("/foo/{**}", "/foo//", true),
            ("/foo/{**}", "/foo", false),
            ("/foo/{**}", "/foobar/x", false),
            ("/{**}", "/", true),
            ("/{**}", "/a/b", true),
            ("/{**}", "*", false),
            ("/{*}/{*}", "/a/b", true),
            ("/{*}/{*}", "/a", false),
            ("/foo/{*}/{**}", "/foo/a/", true),
            ("/foo/{*}/{**}", "/foo/a", false),
            ("/foo/{**}/bar", "/foo/a/b/bar", true),
            ("/foo/{**}/bar", "/foo//bar", true),
            ("/foo/{**}/bar", "/foo/bar", false),
            ("/foo/{**}/bar", "/foo/a/bar/x", false),
            ("/", "/", true),
        ];
        for (template, path, expected) in cases {
            let parsed = PathTemplate::parse(template).unwrap();
            assert_eq!(parsed.matches(path), expected, "{template} {path}");
        }
    }

    #[test]
    fn templates_that_envoy_refuses_are_refused() {
        for template in [
            "",
            "foo/{*}",
            "/{**}/{*}",
            "/{**}/{**}",
            "/a{*}",
            "/{*}.txt",
            "/{a}",
            "/a*",
            "/{",
            "/{**}x",
        ] {
            assert!(PathTemplate::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn stars_of_a_glob_take_any_run() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("prod-*", "prod-a", true),
            ("prod-*", "prod", false),
            ("*-prod", "a-prod-prod", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("a**c", "ac", true),
            ("*a", "b", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                glob_matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
