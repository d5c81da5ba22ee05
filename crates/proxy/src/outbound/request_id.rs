//! `x-request-id` for requests that have none.

/// A random UUID (RFC 9562 section 5.4) as text.
pub(crate) fn new(high: u64, low: u64) -> [u8; 36] {
    let high = high & !0xf000 | 0x4000;
    let low = low & !(3 << 62) | 2 << 62;
    let bits = u128::from(high) << 64 | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (place, byte) in text.iter_mut().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            continue;
        }
        shift -= 4;
        *byte = b"0123456789abcdef"[(bits >> shift & 15) as usize];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_a_random_uuid() {
        let text = String::from_utf8(new(u64::MAX, u64::MAX).to_vec()).unwrap();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let text = String::from_utf8(new(0x0123_4567_89ab_cdef, 0).to_vec()).unwrap();
        assert_eq!(text, "01234567-89ab-4def-8000-000000000000");
    }
}
