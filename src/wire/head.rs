//! Heads of HTTP/1.1 as they are sent (RFC 9112).

use http::HeaderName;

/// Appends a line to a head.
pub fn put_line(name: &HeaderName, value: &[u8], text: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}
