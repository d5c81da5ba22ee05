//! From bytes to documents: size, encoding, and where one document ends and the next begins.
//!
//! Documents are separated the way kubectl does it, by lines that begin with `---`, before any YAML is read. So a
//! syntax error cannot swallow its neighbours.

use heddle_diag::{Code, Position};

use crate::codes;
use crate::yaml::Limits;

/// A part of a file that holds at most one document, or several with `...` between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk<'a> {
    /// The line of the file that the part begins with.
    pub(crate) first_line: u32,
    pub(crate) text: &'a str,
}

/// Why the bytes are no text.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Unreadable {
    pub(crate) code: &'static Code,
    pub(crate) position: Position,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

/// A file is longer than anything that is read.
pub(crate) fn too_large(size_bytes: u64, limits: &Limits) -> Unreadable {
    let message =
        format!("the file has {size_bytes} bytes; at most {} are read", limits.file_bytes_max);
    let position = Position { line: 1, column: 1 };
    let hint = "split the file into several";
    Unreadable { code: codes::TOO_LARGE, position, message, hint }
}

/// The text of a file without its byte order mark.
pub(crate) fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Unreadable> {
    let start = Position { line: 1, column: 1 };
    if bytes.len() > limits.file_bytes_max {
        return Err(too_large(bytes.len() as u64, limits));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "the file is UTF-16".to_owned();
        let hint = "save it as UTF-8";
        return Err(Unreadable { code: codes::ENCODING, position: start, message, hint });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|b| *b == b'\n').count();
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |index| index + 1);
        let column =
            String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count()
                + 1;
        let position = Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        };
        let message = "the file is not UTF-8".to_owned();
        let hint = "save it as UTF-8; if it is a binary file, it is none of heddle's";
        Unreadable { code: codes::ENCODING, position, message, hint }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Splits a text at its document separators. A part begins with its separator line.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut first_line = 1;
    // Only blank lines, comments and directives so far: `%YAML` belongs to the separator after it.
    let mut only_preamble = true;
    let mut offset = 0;
    for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
        if is_separator(line) && !only_preamble {
            chunks.push(Chunk { first_line, text: text.get(start..offset).unwrap_or_default() });
            start = offset;
            first_line = number;
            only_preamble = false;
        } else {
            let trimmed = line.trim_start();
            only_preamble &=
                trimmed.is_empty() || trimmed.starts_with('#') || line.starts_with('%');
        }
        offset += line.len();
    }
    chunks.push(Chunk { first_line, text: text.get(start..).unwrap_or_default() });
    chunks
}

/// A line of `---`, alone or with content after a space.
fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_where_kubectl_does() {
        let text = "# c\n---\na: |\n  ---\n---\n--- # x\nb\n---x\n--- {}";
        let parts: Vec<(u32, &str)> =
            split(text).into_iter().map(|chunk| (chunk.first_line, chunk.text)).collect();
        assert_eq!(
            parts,
            [
                (1, "# c\n---\na: |\n  ---\n"),
                (5, "---\n"),
                (6, "--- # x\nb\n---x\n"),
                (9, "--- {}"),
            ]
        );
    }

    #[test]
    fn refuses_what_is_no_text() {
        let limits = Limits { file_bytes_max: 8, ..Limits::default() };
        assert_eq!(decode(b"123456789", &limits).map_err(|e| e.code), Err(codes::TOO_LARGE));
        assert_eq!(decode(b"\xff\xfea\0", &limits).map_err(|e| e.code), Err(codes::ENCODING));
        let error = decode("é\né\u{e9}".as_bytes().get(..6).unwrap(), &limits).unwrap_err();
        assert_eq!(error.position, Position { line: 2, column: 2 });
        assert_eq!(decode("\u{feff}a".as_bytes(), &limits), Ok("a"));
    }
}
