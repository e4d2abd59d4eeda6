//! One frame read by the rules of the event stream format, and its data replaced with everything else kept.
//!
//! Fields are read anew at each call: most frames are asked one thing, and their first line answers it.

use std::ops::Range;

use bytes::Bytes;

/// The bytes of one event, exactly as they came, with the blank line that ends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// All of it, line endings and comments included.
    pub bytes: Bytes,
    fragment: bool,
}

/// The data of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// All in one line: where it is in the frame's bytes.
    Line(Range<usize>),
    /// From several lines, joined with LF.
    Joined(Vec<u8>),
}

impl Data {
    /// The data itself; `frame` must be the frame it was read from.
    pub fn bytes<'b>(&'b self, frame: &'b Frame) -> &'b [u8] {
        match self {
            Self::Line(range) => frame.bytes.get(range.clone()).unwrap_or_default(),
            Self::Joined(bytes) => bytes,
        }
    }

    /// Whether it is `[DONE]`, OpenAI's mark for the end of a stream; `frame` as above.
    pub fn is_done(&self, frame: &Frame) -> bool {
        self.bytes(frame).trim_ascii() == b"[DONE]"
    }

    /// The data itself, sharing the frame's memory where it lies in one line.
    pub fn to_bytes(self, frame: &Frame) -> Bytes {
        match self {
            Self::Line(range) => frame.bytes.slice(range),
            Self::Joined(bytes) => bytes.into(),
        }
    }
}

impl Frame {
    /// A frame of these bytes, also when its blank line is missing at the end of a stream.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, fragment: false }
    }

    /// A piece of a frame too long to be held whole.
    pub(super) fn fragment(bytes: Bytes) -> Self {
        Self { bytes, fragment: true }
    }

    /// Whether this is only a piece of a frame. It can be passed on, and every question about its event is answered
    /// with no.
    pub fn is_fragment(&self) -> bool {
        self.fragment
    }

    /// The event's data, without one space after the colon; `None` when it has no data line.
    pub fn data(&self) -> Option<Data> {
        let mut data = None;
        for line in self.lines().filter(|line| line.is_field(&self.bytes, b"data")) {
            data = Some(match data {
                None => Data::Line(line.value),
                Some(Data::Line(first)) => Data::Joined([&self.bytes[first], &self.bytes[line.value]].join(&b'\n')),
                Some(Data::Joined(mut joined)) => {
                    joined.push(b'\n');
                    joined.extend_from_slice(&self.bytes[line.value]);
                    Data::Joined(joined)
                }
            });
        }
        data
    }

    /// The event's type; the last one named counts. `None` when none is named.
    pub fn event(&self) -> Option<&[u8]> {
        let line = self.lines().filter(|line| line.is_field(&self.bytes, b"event")).last()?;
        Some(&self.bytes[line.value])
    }

    /// Whether there is no event in it: nothing but comments and blank lines.
    pub fn is_comment_only(&self) -> bool {
        !self.fragment && self.lines().all(|line| line.name.is_empty())
    }

    /// Whether the data is `[DONE]`, OpenAI's mark for the end of a stream.
    pub fn is_done(&self) -> bool {
        self.data().is_some_and(|data| data.is_done(self))
    }

    /// The frame with other data: `json` takes the place of the first data line's content, further data lines go, and
    /// everything else stays as it came. Unchanged when the event has no data.
    ///
    /// Line ends inside `json` become lines of their own, as the format demands.
    pub fn with_data(&self, json: &[u8]) -> Bytes {
        let mut edited = Vec::with_capacity(self.bytes.len() + json.len());
        let mut copied = 0;
        let mut is_first = true;
        for line in self.lines().filter(|line| line.is_field(&self.bytes, b"data")) {
            edited.extend_from_slice(&self.bytes[copied..line.start]);
            copied = line.end;
            if std::mem::take(&mut is_first) {
                self.write_data(&mut edited, &line, json);
            }
        }
        if is_first {
            return self.bytes.clone();
        }
        edited.extend_from_slice(&self.bytes[copied..]);
        edited.into()
    }

    /// Writes `json` in the manner of a data line: its spacing, its line ending.
    fn write_data(&self, out: &mut Vec<u8>, line: &Line, json: &[u8]) {
        let prefix = &self.bytes[line.start..line.value.start];
        let ending = &self.bytes[line.value.end..line.end];
        let mut rest = json;
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(prefix);
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(if ending.is_empty() { b"\n" } else { ending });
            rest = rest[at..].strip_prefix(b"\r\n").unwrap_or(&rest[at + 1..]);
        }
        out.extend_from_slice(prefix);
        out.extend_from_slice(rest);
        out.extend_from_slice(ending);
    }

    /// The frame's lines; none for a fragment, whose first line may be the tail of another.
    fn lines(&self) -> impl Iterator<Item = Line> {
        // A stream may start with a byte order mark, which is no part of its first field's name.
        let mut at = match (self.fragment, self.bytes.starts_with(b"\xEF\xBB\xBF")) {
            (true, _) => self.bytes.len(),
            (false, true) => 3,
            (false, false) => 0,
        };
        std::iter::from_fn(move || {
            let line = Line::read(&self.bytes, at)?;
            at = line.end;
            Some(line)
        })
    }
}

/// Where the parts of a line are in the frame's bytes.
struct Line {
    start: usize,
    /// The field's name; empty for a comment and for a blank line.
    name: Range<usize>,
    /// Behind the colon and one space; empty at the line's end when there is no colon.
    value: Range<usize>,
    /// Behind the line ending.
    end: usize,
}

impl Line {
    fn read(bytes: &[u8], start: usize) -> Option<Self> {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let ending = match &rest[length..] {
            [b'\r', b'\n', ..] => 2,
            ending => ending.len().min(1),
        };
        let line = &rest[..length];
        let name = memchr::memchr(b':', line).unwrap_or(length);
        let value = match &line[name..] {
            [b':', b' ', ..] => name + 2,
            [b':', ..] => name + 1,
            _ => length,
        };
        let end = start + length + ending;
        Some(Self { start, name: start..start + name, value: start + value..start + length, end })
    }

    fn is_field(&self, bytes: &[u8], name: &[u8]) -> bool {
        &bytes[self.name.clone()] == name
    }
}
