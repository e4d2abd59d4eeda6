//! Bodies in chunks (RFC 9112, section 7.1): where one chunk ends and the next begins.
//!
//! For those who look at a body that somebody else decodes. Only the plain form is known: a size in hexadecimal digits,
//! CRLF, so many bytes, CRLF. A size with an extension, a line without CR and the last chunk are left to the decoder.

/// More digits than the largest size that is known.
const DIGITS_MAX: usize = 8;

/// The last chunk of a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin<'b> {
    /// A whole chunk.
    Chunk {
        /// What it carries; never empty.
        data: &'b [u8],
        /// Its length, framing included.
        length: usize,
    },
    /// The beginning of a chunk.
    Part,
    /// Anything else.
    Other,
}

/// What `bytes` begin with.
pub fn begin(bytes: &[u8]) -> Begin<'_> {
    let mut size = 0usize;
    let mut digits = 0;
    let after_line = loop {
        match bytes.get(digits).map(|byte| (*byte, (*byte as char).to_digit(16))) {
            None => return Begin::Part,
            Some((_, Some(digit))) if digits < DIGITS_MAX => size = size << 4 | digit as usize,
            Some((b'\r', _)) if size > 0 => match bytes.get(digits + 1) {
                None => return Begin::Part,
                Some(b'\n') => break digits + 2,
                Some(_) => return Begin::Other,
            },
            Some(_) => return Begin::Other,
        }
        digits += 1;
    };
    let end = after_line + size;
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..]) => Begin::Chunk { data: &bytes[after_line..end], length: end + 2 },
        None | Some([] | [b'\r']) => Begin::Part,
        Some(_) => Begin::Other,
    }
}

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

/// Where a message has been read to, from its head on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a head; so many bytes of the blank line at its end have come.
    Head(u8),
    /// In a size of so many digits.
    Size(usize, u8),
    /// After the CR behind a size.
    SizeEnd(usize),
    /// In the data, so many bytes before its end.
    Data(usize),
    /// After the data; so many bytes of its CRLF have come.
    DataEnd(u8),
    /// In the last chunk, or in what is not known.
    Elsewhere,
}

/// Follows a message with a body in chunks while it is read.
#[derive(Clone, Debug)]
pub struct Follower {
    place: Place,
    data_bytes: u64,
}

impl Default for Follower {
    /// Before the head of a message.
    fn default() -> Self {
        Follower { place: Place::Head(0), data_bytes: 0 }
    }
}

impl Follower {
    /// Takes note of what was read next.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            bytes = rest;
            self.place = match (self.place, *first) {
                (Place::Head(come), byte) => Self::in_head(come, byte),
                (Place::Size(size, digits), byte) => Self::in_size(size, digits, byte),
                (Place::SizeEnd(size), b'\n') => Place::Data(size),
                (Place::Data(left), _) => {
                    let more = rest.len().min(left - 1);
                    bytes = &rest[more..];
                    self.data_bytes += 1 + more as u64;
                    if left == 1 + more { Place::DataEnd(0) } else { Place::Data(left - 1 - more) }
                }
                (Place::DataEnd(0), b'\r') => Place::DataEnd(1),
                (Place::DataEnd(1), b'\n') => Place::Size(0, 0),
                _ => Place::Elsewhere,
            };
            if self.place == Place::Elsewhere {
                return;
            }
        }
    }

    fn in_head(come: u8, byte: u8) -> Place {
        match (come, byte) {
            (3, b'\n') => Place::Size(0, 0),
            (1, b'\n') => Place::Head(2),
            (0, b'\r') | (2, b'\r') => Place::Head(come + 1),
            (_, b'\r') => Place::Head(1),
            _ => Place::Head(0),
        }
    }

    fn in_size(size: usize, digits: u8, byte: u8) -> Place {
        match (byte as char).to_digit(16) {
            Some(digit) if usize::from(digits) < DIGITS_MAX => Place::Size(size << 4 | digit as usize, digits + 1),
            None if byte == b'\r' && size > 0 => Place::SizeEnd(size),
            _ => Place::Elsewhere,
        }
    }

    /// Whether all that was read are whole chunks behind a head, and the last chunk has not begun.
    pub fn is_between_chunks(&self) -> bool {
        self.place == Place::Size(0, 0)
    }

    /// Bytes that the chunks carried so far.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_told_from_its_part_and_from_what_is_none() {
        let whole = b"b\r\nhello world\r\n";
        assert_eq!(begin(whole), Begin::Chunk { data: b"hello world", length: whole.len() });
        assert_eq!(begin(b"1\r\nxyz"), Begin::Other);
        for part in 0..whole.len() {
            assert_eq!(begin(&whole[..part]), Begin::Part, "{part}");
        }
        let odd: [&[u8]; 8] = [
            b"0\r\n\r\n",
            b"5;a=b\r\nhello\r\n",
            b"5\nhello\n",
            b"5\rhello",
            b"\r\n",
            b"zz",
            b"1ffffffff\r\n",
            b"5 \r\n",
        ];
        for bytes in odd {
            assert_eq!(begin(bytes), Begin::Other, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_put_is_found_again() {
        for length in [1, 9, 15, 16, 17, 255, 256, 4096, 65_537] {
            let (data, mut chunk) = (vec![b'x'; length], Vec::new());
            put(&data, &mut chunk);
            assert!(chunk.starts_with(format!("{length:X}\r\n").as_bytes()));
            assert_eq!(begin(&chunk), Begin::Chunk { data: &data, length: chunk.len() });
        }
    }

    #[test]
    fn a_follower_knows_the_borders_however_reads_cut_them() {
        let pieces: [&[u8]; 4] =
            [b"HTTP/1.1 200 OK\r\na: b\r\r\n\r\n", b"3\r\nabc\r\n", b"00A\r\n0123456789\r\n", b"0\r\n\r\n"];
        let message = pieces.concat();
        let borders = [pieces[0].len(), pieces[0].len() + pieces[1].len(), message.len() - pieces[3].len()];
        for step in 1..message.len() {
            let mut follower = Follower::default();
            let mut at = 0;
            for read in message.chunks(step) {
                follower.read(read);
                at += read.len();
                assert_eq!(follower.is_between_chunks(), borders.contains(&at), "{at} of {step}");
            }
            assert_eq!(follower.data_bytes(), 13);
        }
    }

    #[test]
    fn a_follower_that_lost_its_way_says_no_for_ever() {
        for odd in [&b"5;a=b\r\n"[..], b"3\r\nabcd", b"3\nabc", b"123456789\r\n", b"HTTP/1.1"] {
            let mut follower = Follower::default();
            follower.read(b"HTTP/1.1 200 OK\r\n\r\n");
            assert!(follower.is_between_chunks());
            follower.read(odd);
            follower.read(b"\r\n\r\n3\r\nabc\r\n");
            assert!(!follower.is_between_chunks(), "{odd:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_either_panic(reads in proptest::collection::vec(proptest::collection::vec(0..=255u8, 0..40), 0..8)) {
            let mut follower = Follower::default();
            for read in &reads {
                let _ = begin(read);
                follower.read(read);
            }
        }
    }
}
