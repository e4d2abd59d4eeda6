//! One step of a script: what to answer to one request, and in what manner, down to the byte.
//!
//! A step is built by naming what it is (`Step::sse(..)`) and then bending it (`.gap_ms(20).end(End::Cut)`). Whatever
//! is bent on an automatic step is laid over the answer that is worked out for the request.

use serde::Deserialize;
use serde_json::Value;

/// What to do with one request.
#[derive(Clone, Debug)]
pub struct Step {
    pub(super) kind: Kind,
    pub(super) manner: Manner,
}

/// How an answer ends. For answers that are no stream everything but `Done` and `Clean` breaks off in mid-body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A stream says `data: [DONE]`, then the body ends as HTTP wants it.
    Done,
    /// The body ends as HTTP wants it, without `[DONE]`.
    Clean,
    /// FIN without the last chunk; over TLS without close_notify. HTTP/2: the connection is dropped. The kernel makes it
    /// a reset if some of the request was left unread.
    Cut,
    /// TCP reset. HTTP/2: of the whole connection, unless [`Step::h2_rst`] narrows it to the stream.
    Reset,
    /// Nothing more is said, the connection stays open.
    Stall,
    /// A chunk is announced and only its beginning sent, then FIN.
    TruncatedChunk,
}

/// One item of a scripted event stream.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Sent as `data: {...}` and a blank line.
    Json(Value),
    /// Sent as it is.
    Text(String),
    /// Sent as it is.
    Bytes(Vec<u8>),
    /// Milliseconds of silence.
    Pause(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Auto,
    Fixed { content_type: String, body: Vec<u8> },
    Sse(Vec<Frame>),
    Reset,
    Close,
    Hang,
    StopReading,
}

/// The announced length of a fixed body when it is a lie.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lie {
    Exactly(u64),
    Longer(u64),
}

/// Everything about an answer that is not its content.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub interim: Vec<u16>,
    pub delay_ms: Option<u64>,
    pub body_delay_ms: Option<u64>,
    pub gap_ms: Option<u64>,
    /// Gaps vary by a third, as a model's do. Set by the pace, never by a script.
    pub uneven: bool,
    pub hang_ms: Option<u64>,
    pub split: Option<usize>,
    pub eol: Option<String>,
    pub end: Option<End>,
    pub length: Option<Lie>,
    pub gzip: bool,
    pub close: bool,
    pub h2_rst: bool,
    pub goaway: bool,
    pub leave_body: bool,
}

impl Step {
    fn of(kind: Kind) -> Self {
        Self { kind, manner: Manner::default() }
    }

    /// Answers as NanoGPT would, by path and body.
    pub fn auto() -> Self {
        Self::of(Kind::Auto)
    }

    /// Answers with a JSON document.
    pub fn json(status: u16, value: Value) -> Self {
        Self::raw(status, "application/json", value.to_string())
    }

    /// Answers with these bytes.
    pub fn raw(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Kind::Fixed { content_type: content_type.to_owned(), body: bytes.into() }).status(status)
    }

    /// Answers with a stream of server-sent events that ends in `data: [DONE]` unless told otherwise.
    pub fn sse<F: Into<Frame>>(frames: impl IntoIterator<Item = F>) -> Self {
        Self::of(Kind::Sse(frames.into_iter().map(Into::into).collect()))
    }

    /// Resets the connection instead of answering, once the request was read.
    pub fn reset_before_answer() -> Self {
        Self::of(Kind::Reset)
    }

    /// Closes the connection (FIN) instead of answering, once the request was read.
    pub fn close_before_answer() -> Self {
        Self::of(Kind::Close)
    }

    /// Reads the request and never answers.
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// Reads the head, never the body, and never answers. A peer that leaves goes unnoticed: noticing takes reading.
    pub fn stop_reading() -> Self {
        Self::of(Kind::StopReading)
    }

    /// The status, 200 when nothing else is said.
    pub fn status(mut self, status: u16) -> Self {
        self.manner.status = Some(status);
        self
    }

    /// Adds a header; one that the stand-in would send by itself is replaced.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.manner.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends an interim answer (100, 103) first.
    pub fn interim(mut self, status: u16) -> Self {
        self.manner.interim.push(status);
        self
    }

    /// Waits before the head, or before the reset or the close.
    pub fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.manner.delay_ms = Some(delay_ms);
        self
    }

    /// Waits between head and body.
    pub fn body_delay_ms(mut self, delay_ms: u64) -> Self {
        self.manner.body_delay_ms = Some(delay_ms);
        self
    }

    /// Waits between frames (streams) or between pieces (other answers that are split).
    pub fn gap_ms(mut self, gap_ms: u64) -> Self {
        self.manner.gap_ms = Some(gap_ms);
        self
    }

    /// Gives up hanging after this time and closes.
    pub fn hang_ms(mut self, hang_ms: u64) -> Self {
        self.manner.hang_ms = Some(hang_ms);
        self
    }

    /// Writes at most this many bytes at a time, each as a chunk of its own, flushed.
    pub fn split(mut self, bytes: usize) -> Self {
        self.manner.split = Some(bytes.max(1));
        self
    }

    /// The line ending of JSON frames and of `[DONE]`.
    pub fn eol(mut self, eol: &str) -> Self {
        self.manner.eol = Some(eol.to_owned());
        self
    }

    /// How the answer ends.
    pub fn end(mut self, end: End) -> Self {
        self.manner.end = Some(end);
        self
    }

    /// Compresses the body, says so, and flushes the compressor after each frame.
    pub fn gzip(mut self) -> Self {
        self.manner.gzip = true;
        self
    }

    /// Announces this length whatever the body's is, and closes after the body. Only for answers that are no stream.
    pub fn content_length(mut self, bytes: u64) -> Self {
        self.manner.length = Some(Lie::Exactly(bytes));
        self
    }

    /// Says `Connection: close` and closes after the answer.
    pub fn close(mut self) -> Self {
        self.manner.close = true;
        self
    }

    /// Over HTTP/2 a cut or reset ends the stream (RST_STREAM) and not the connection; the end is a reset if none is set.
    pub fn h2_rst(mut self) -> Self {
        self.manner.h2_rst = true;
        self.manner.end.get_or_insert(End::Reset);
        self
    }

    /// Over HTTP/2 sends GOAWAY before the answer; over HTTP/1.1 closes after it.
    pub fn goaway(mut self) -> Self {
        self.manner.goaway = true;
        self
    }

    /// Whether the body is read before the answer (it is, unless this says no). An unread body closes the connection.
    pub fn read_body(mut self, read: bool) -> Self {
        self.manner.leave_body = !read;
        self
    }

    pub(super) fn is_auto(&self) -> bool {
        matches!(self.kind, Kind::Auto)
    }

    /// This step as an answer, bent the way `script` says.
    pub(super) fn bent_by(mut self, script: &Step) -> Self {
        self.manner.bend(&script.manner);
        self
    }
}

impl Manner {
    fn bend(&mut self, over: &Manner) {
        self.status = over.status.or(self.status);
        self.headers.extend(over.headers.iter().cloned());
        self.interim.extend(&over.interim);
        self.delay_ms = over.delay_ms.or(self.delay_ms);
        self.body_delay_ms = over.body_delay_ms.or(self.body_delay_ms);
        if over.gap_ms.is_some() {
            (self.gap_ms, self.uneven) = (over.gap_ms, false);
        }
        self.split = over.split.or(self.split);
        self.eol = over.eol.clone().or(self.eol.take());
        self.end = over.end.or(self.end);
        self.length = over.length.or(self.length);
        self.gzip |= over.gzip;
        self.close |= over.close;
        self.h2_rst |= over.h2_rst;
        self.goaway |= over.goaway;
        self.leave_body |= over.leave_body;
    }
}

impl From<Value> for Frame {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
