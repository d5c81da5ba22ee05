//! Which bytes may stand where (RFC 9110 section 5.6.2, RFC 9112 sections 3 and 5).

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const AUTHORITY: u8 = 4;

/// One byte of classes for each byte value.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        let index = byte as usize;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || contains(b"!#$%&'*+-.^_`|~", byte) {
            table[index] |= TOKEN;
        }
        // A fragment never travels (RFC 9110 section 7.1). Bytes from 0x80 do occur in the field and pass
        // through as they are.
        if byte > 0x20 && byte != 0x7f && byte != b'#' {
            table[index] |= TARGET;
        }
        if alphanumeric || contains(b"-._~!$&'()*+;=:%[]", byte) {
            table[index] |= AUTHORITY;
        }
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & class != 0)
}

/// Whether the bytes are a token: a method or a field name. Empty is not.
pub fn is_field_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Whether the bytes may stand in a request target. Empty is not.
pub(super) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TARGET)
}

/// Whether the bytes can be `host[:port]`, without user information. Empty can (RFC 9112 section 3.2).
pub fn is_authority(bytes: &[u8]) -> bool {
    all(bytes, AUTHORITY)
}

/// Whether the bytes may be a field value: no control character but the tab.
pub fn is_field_value(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        // Eight bytes at once: the high bit of a byte is set where it is below 0x20 or equal to 0x7f. The
        // test may be raised falsely by a borrow, never missed, so a raised one is looked at again.
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES) & !(word ^ (ONES * 0x7f)) & HIGH;
        if below | delete != 0 && !word.to_ne_bytes().iter().all(|byte| value_byte(*byte)) {
            return false;
        }
    }
    rest.iter().all(|byte| value_byte(*byte))
}

fn value_byte(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

/// The bytes without spaces and tabs at either end.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_no_control_character_at_any_place() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut value = vec![b'a'; length];
                    value[place] = byte;
                    let expected = value.iter().all(|byte| value_byte(*byte));
                    assert_eq!(is_field_value(&value), expected, "{byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn trimming_takes_both_ends() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }
}
