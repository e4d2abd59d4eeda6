//! Bodies in chunks (RFC 9112, section 7.1): taken apart as they come, and put together.

use std::fmt;

/// More digits than the largest size that is believed.
const DIGITS_MAX: u8 = 15;
/// Chunk extensions and trailers mean nothing here; more than this of either is no message worth reading.
const IGNORED_BYTES_MAX: u16 = 16 * 1024;

/// The last chunk of a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a chunk; `data` may not be empty.
pub fn put(data: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!data.is_empty(), "an empty chunk is the last one");
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(b"0123456789ABCDEF"[data.len() >> (4 * place) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Bytes that are no body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("malformed chunks")
    }
}

impl std::error::Error for Malformed {}

/// Where a body has been read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a size of so many digits.
    Size(u64, u8),
    /// In the white space and extensions behind a size; so many bytes of them have come.
    Extension(u64, u16),
    /// After the CR behind a size.
    SizeEnd(u64),
    /// In the data, so many bytes before its end.
    Data(u64),
    /// Before the CR behind the data.
    DataEnd,
    /// Before the LF behind the data.
    DataLine,
    /// At the beginning of a line of the trailers; so many bytes of them have come.
    Trailers(u16),
    /// Within such a line.
    Trailer(u16),
    /// Before the LF that ends the body.
    LastLine,
    /// Behind the body.
    Done,
}

/// Takes a body apart, however reads cut it.
#[derive(Clone, Debug)]
pub struct Decoder {
    place: Place,
}

impl Default for Decoder {
    /// Before the first chunk.
    fn default() -> Self {
        Decoder { place: Place::Size(0, 0) }
    }
}

impl Decoder {
    /// The next data at the beginning of `bytes`, which then begin behind it; none when there is no more, which is at the
    /// end of the bytes or at that of the body.
    ///
    /// # Errors
    /// When they are no chunks.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Malformed> {
        while let [first, rest @ ..] = *bytes {
            if let Place::Data(left) = self.place {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (data, behind) = bytes.split_at(count);
                *bytes = behind;
                let left = left - count as u64;
                self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                return Ok(Some(data));
            }
            if self.place == Place::Done {
                break;
            }
            self.place = self.step(*first)?;
            *bytes = rest;
        }
        Ok(None)
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    fn step(&self, byte: u8) -> Result<Place, Malformed> {
        Ok(match (self.place, byte) {
            (Place::Size(size, digits), _) => match (byte as char).to_digit(16) {
                Some(digit) if digits < DIGITS_MAX => Place::Size(size << 4 | u64::from(digit), digits + 1),
                None if digits > 0 && byte == b'\r' => Place::SizeEnd(size),
                None if digits > 0 && matches!(byte, b';' | b' ' | b'\t') => Place::Extension(size, 0),
                _ => return Err(Malformed),
            },
            (Place::Extension(size, _), b'\r') => Place::SizeEnd(size),
            (Place::Extension(..), b'\n') => return Err(Malformed),
            (Place::Extension(size, come), _) if come < IGNORED_BYTES_MAX => Place::Extension(size, come + 1),
            (Place::SizeEnd(0), b'\n') => Place::Trailers(0),
            (Place::SizeEnd(size), b'\n') => Place::Data(size),
            (Place::DataEnd, b'\r') => Place::DataLine,
            (Place::DataLine, b'\n') => Place::Size(0, 0),
            (Place::Trailers(_), b'\r') => Place::LastLine,
            (Place::Trailers(come) | Place::Trailer(come), _) if come < IGNORED_BYTES_MAX => match byte {
                b'\n' => Place::Trailers(come + 1),
                _ => Place::Trailer(come + 1),
            },
            (Place::LastLine, b'\n') => Place::Done,
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body carries when it is read in pieces of `step` bytes, and what lies behind it.
    fn decoded(body: &[u8], step: usize) -> Result<(Vec<u8>, bool, usize), Malformed> {
        let (mut decoder, mut data, mut behind) = (Decoder::default(), Vec::new(), 0);
        for mut read in body.chunks(step) {
            while let Some(piece) = decoder.next(&mut read)? {
                data.extend_from_slice(piece);
            }
            behind += read.len();
        }
        Ok((data, decoder.is_done(), behind))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let body = b"3\r\nabc\r\n00A;a=\"b\"\r\n0123456789\r\n1 \r\nz\r\n0\r\nx: y\r\n\r\nHTTP";
        for step in 1..=body.len() {
            assert_eq!(decoded(body, step), Ok((b"abc0123456789z".to_vec(), true, 4)), "{step}");
        }
        for length in 0..body.len() - 4 {
            assert!(!decoded(&body[..length], 7).unwrap().1, "{length}");
        }
    }

    #[test]
    fn what_is_put_is_found_again() {
        for length in [1, 9, 15, 16, 17, 255, 256, 4096, 65_537] {
            let (data, mut body) = (vec![b'x'; length], Vec::new());
            put(&data, &mut body);
            assert!(body.starts_with(format!("{length:X}\r\n").as_bytes()));
            body.extend_from_slice(LAST_CHUNK);
            assert_eq!(decoded(&body, 1000), Ok((data, true, 0)));
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let odd: [&[u8]; 10] = [
            b"\r\n",
            b"zz",
            b"5\nhello\n",
            b"5\rhello",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"5;a\nhello",
            b"1234567890123456\r\n",
            b"0\r\n\rx",
            b"-1\r\n",
        ];
        for body in odd {
            assert_eq!(decoded(body, 3), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn what_is_ignored_is_bounded() {
        let extension = [b"5;".to_vec(), vec![b'a'; 20_000]].concat();
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(5_000)].concat();
        assert_eq!(decoded(&extension, 4096), Err(Malformed));
        assert_eq!(decoded(&trailers, 4096), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(reads in proptest::collection::vec(proptest::collection::vec(0..=255u8, 0..40), 0..8)) {
            let mut decoder = Decoder::default();
            for read in &reads {
                let mut read = &read[..];
                while let Ok(Some(_)) = decoder.next(&mut read) {}
            }
        }
    }
}
