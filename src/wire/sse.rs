//! Server-sent events across reads: bytes in as they arrive, whole frames out, not a byte lost or moved.
//!
//! A frame is everything up to and including the blank line that ends an event. Frames are slices of the read they
//! came in; only a frame that spans reads is copied, once. What an event says is not known here.
//!
//! Lines end with LF, CR or CRLF, so a CR at the end of a read may be half an ending. A blank line that may yet turn
//! out to be CRLF is waited for; but after a line that ended with a CR alone, a blank line's CR ends the frame at once,
//! since such a stream would otherwise always be one read late. Should an LF follow even so, it is an empty frame of
//! its own. Where frames end therefore depends on the bytes alone, never on how reads cut them.

mod frame;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use frame::{Data, Frame};

/// Bytes of one frame that are held back at most, unless configured otherwise.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 16 << 20;

/// Cuts a stream into frames: [`Framer::push`] a read, then iterate until `None`, which means "until the next read".
#[derive(Debug)]
pub struct Framer {
    frame_bytes_max: usize,
    /// The part of an unfinished frame from earlier reads; already scanned.
    held: BytesMut,
    /// What is left of the newest read; not scanned yet.
    read: Bytes,
    border: Border,
    /// A part of the current frame has been handed on as a fragment.
    fragmented: bool,
}

impl Framer {
    /// A frame longer than `frame_bytes_max` is handed on in fragments of that many bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max: frame_bytes_max.max(1),
            held: BytesMut::new(),
            read: Bytes::new(),
            border: Border::default(),
            fragmented: false,
        }
    }

    /// Takes one read. Whoever drains the frames before the next push never pays for joining reads.
    pub fn push(&mut self, read: Bytes) {
        self.read = if self.read.is_empty() { read } else { [&self.read[..], &read].concat().into() };
    }

    /// Bytes taken in and not yet handed on.
    pub fn pending(&self) -> usize {
        self.held.len() + self.read.len()
    }

    /// At the end of the stream: what no blank line has ended, often nothing. The framer is as new afterwards.
    ///
    /// A sender may have left out the last blank line, so this can still hold an event; see [`Frame::new`].
    pub fn rest(&mut self) -> Bytes {
        let rest = self.take(self.read.len());
        *self = Self::new(self.frame_bytes_max);
        rest
    }

    /// The held bytes and the first `length` of the read, as one.
    fn take(&mut self, length: usize) -> Bytes {
        let part = self.read.split_to(length);
        if self.held.is_empty() {
            return part;
        }
        self.held.extend_from_slice(&part);
        self.held.split().freeze()
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(FRAME_BYTES_MAX_DEFAULT)
    }
}

impl Iterator for Framer {
    type Item = Frame;

    /// The next whole frame or fragment of the reads so far. `None` is not final: another read may follow.
    fn next(&mut self) -> Option<Frame> {
        while !self.read.is_empty() {
            let window = self.read.len().min(self.frame_bytes_max - self.held.len());
            let Some(end) = self.border.find(&self.read[..window]) else {
                if window == self.read.len() {
                    let part = std::mem::take(&mut self.read);
                    self.held.extend_from_slice(&part);
                    return None;
                }
                self.fragmented = true;
                return Some(Frame::fragment(self.take(window)));
            };
            let bytes = self.take(end);
            let fragmented = std::mem::take(&mut self.fragmented);
            // A fragment may have reached exactly to a border that only the byte behind it proved.
            if !bytes.is_empty() {
                return Some(if fragmented { Frame::fragment(bytes) } else { Frame::new(bytes) });
            }
        }
        None
    }
}

/// Finds frame borders in a stream that it sees piece by piece, each byte once.
#[derive(Default, Debug)]
struct Border {
    place: Place,
    /// The last line known to be over ended with a CR alone.
    lone_cr: bool,
}

#[derive(Clone, Copy, Default, Debug)]
enum Place {
    /// Nothing of the line yet.
    #[default]
    LineStart,
    InLine,
    /// Behind a CR that ended a line, and may have an LF to come; whether that line was blank.
    BehindCr {
        blank: bool,
    },
}

impl Border {
    /// Where the frame ends in the bytes that come next, or `None` when they all belong to it. Zero when the byte
    /// before them was its last. Bytes up to the answer count as seen.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.place {
                Place::BehindCr { blank } => {
                    self.lone_cr = byte != b'\n';
                    at += usize::from(byte == b'\n');
                    self.place = Place::LineStart;
                    if blank {
                        return Some(at);
                    }
                }
                Place::LineStart if byte == b'\n' => {
                    self.lone_cr = false;
                    return Some(at + 1);
                }
                Place::LineStart if byte == b'\r' && self.lone_cr => return Some(at + 1),
                Place::LineStart if byte == b'\r' => {
                    at += 1;
                    self.place = Place::BehindCr { blank: true };
                }
                Place::LineStart | Place::InLine => {
                    self.place = Place::InLine;
                    at += memchr::memchr2(b'\n', b'\r', &bytes[at..])?;
                    self.line_end(bytes[at]);
                    at += 1;
                }
            }
        }
        None
    }

    /// Steps over the end of a line that was not blank.
    fn line_end(&mut self, ending: u8) {
        if ending == b'\n' {
            self.lone_cr = false;
            self.place = Place::LineStart;
        } else {
            self.place = Place::BehindCr { blank: false };
        }
    }
}
