//! Lines of heads of HTTP/1.1 (RFC 9112), as both sides read and write them.

use http::HeaderName;

/// Appends a line to a head.
pub fn put_line(name: &HeaderName, value: &[u8], text: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// What a list consists of (RFC 9110, section 5.6.1).
pub fn tokens(list: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The length that a `Content-Length` names behind one that named `before`; none when it is no length, or another one. The
/// same length said twice is one length (RFC 9112, section 6.3).
pub fn length(value: &[u8], before: Option<u64>) -> Option<u64> {
    tokens(value).try_fold(before, |before, token| {
        let length = number(token).filter(|length| before.is_none_or(|before| before == *length));
        length.map(Some)
    })?
}

/// A number of digits alone.
pub fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}
