//! Request bodies that come compressed (gzip, deflate, br), inflated under the same limit as plain ones.

use crate::api::error::{self, ApiError};
use bytes::Bytes;
use http::HeaderValue;
use std::io::{self, Read};

/// Above this size a body is inflated away from the threads that serve streams.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// `Content-Encoding` may stack codings; more than this is no client.
const CODINGS_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// The plain bytes of a body. A bomb stops at `limit`.
///
/// # Errors
/// 415 for a coding that is not known, 413 above the limit, 400 when it cannot be inflated.
pub async fn body(encoding: &HeaderValue, body: Bytes, limit: u64) -> Result<Bytes, ApiError> {
    let codings = codings(encoding)?;
    if codings.is_empty() || body.is_empty() {
        return Ok(body);
    }
    if body.len() <= INLINE_BYTES_MAX && limit <= INLINE_BYTES_MAX as u64 {
        return inflate_all(&codings, body, limit);
    }
    let inflating = tokio::task::spawn_blocking(move || inflate_all(&codings, body, limit));
    inflating.await.unwrap_or_else(|_| Err(ApiError::new(&error::INTERNAL, "the request body could not be inflated")))
}

fn codings(value: &HeaderValue) -> Result<Vec<Coding>, ApiError> {
    let text = value.to_str().unwrap_or("?");
    let mut codings = Vec::new();
    for name in text.split(',').map(|name| name.trim().to_ascii_lowercase()) {
        match name.as_str() {
            "" | "identity" => {}
            "gzip" | "x-gzip" => codings.push(Coding::Gzip),
            "deflate" => codings.push(Coding::Deflate),
            "br" => codings.push(Coding::Brotli),
            _ => return Err(unsupported()),
        }
    }
    if codings.len() > CODINGS_MAX { Err(unsupported()) } else { Ok(codings) }
}

fn unsupported() -> ApiError {
    let words = "this Content-Encoding is not supported; use gzip, deflate, br or none";
    ApiError::new(&error::UNSUPPORTED_ENCODING, words).param("content-encoding")
}

/// The coding named last was applied last.
fn inflate_all(codings: &[Coding], mut body: Bytes, limit: u64) -> Result<Bytes, ApiError> {
    for coding in codings.iter().rev() {
        body = inflate(*coding, &body, limit)?.into();
    }
    Ok(body)
}

fn inflate(coding: Coding, body: &[u8], limit: u64) -> Result<Vec<u8>, ApiError> {
    let read = match coding {
        Coding::Gzip => take(flate2::read::MultiGzDecoder::new(body), limit),
        // RFC 9110 means zlib; some clients send the bare stream.
        Coding::Deflate => take(flate2::read::ZlibDecoder::new(body), limit)
            .or_else(|_| take(flate2::read::DeflateDecoder::new(body), limit)),
        Coding::Brotli => take(brotli_decompressor::Decompressor::new(body, 4096), limit),
    };
    let plain = read.map_err(|_| {
        let words = format!("the request body is not valid {coding:?}").to_lowercase();
        ApiError::new(&error::BAD_REQUEST, words).param("request_body")
    })?;
    if plain.len() as u64 > limit {
        let words = format!("the inflated request body is larger than {limit} bytes");
        return Err(ApiError::new(&error::TOO_LARGE, words));
    }
    Ok(plain)
}

/// One byte above the limit tells that there was more.
fn take(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zlib(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    async fn decoded(encoding: &'static str, bytes: Bytes, limit: u64) -> Result<Bytes, u16> {
        body(&HeaderValue::from_static(encoding), bytes, limit).await.map_err(|error| error.row.status)
    }

    #[tokio::test]
    async fn every_coding_and_a_stack_of_two() {
        let brotli = Bytes::from_static(&[0x0b, 0x01, 0x80, 0x7b, 0x7d, 0x0a, 0x03]);
        assert_eq!(decoded("gzip", gzip(b"{}"), 100).await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(decoded("x-gzip", gzip(b"{}"), 1_000_000).await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(decoded("deflate", zlib(b"{}"), 100).await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(decoded("br", brotli, 100).await, Ok(Bytes::from_static(b"{}\n")));
        assert_eq!(decoded("deflate, gzip", gzip(&zlib(b"{}")), 100).await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(decoded("identity", Bytes::from_static(b"{}"), 100).await, Ok(Bytes::from_static(b"{}")));
    }

    #[tokio::test]
    async fn bombs_stop_and_nonsense_is_named() {
        let bomb = gzip(&vec![b'x'; 5_000_000]);
        assert_eq!(decoded("gzip", bomb, 1_000_000).await, Err(413));
        assert_eq!(decoded("gzip", Bytes::from_static(b"not gzip"), 100).await, Err(400));
        assert_eq!(decoded("zstd", Bytes::from_static(b"x"), 100).await, Err(415));
        assert_eq!(decoded("gzip, gzip, gzip", gzip(b"{}"), 100).await, Err(415));
    }
}
