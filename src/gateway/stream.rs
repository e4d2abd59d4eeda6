//! One stream of events on its way to the client: frames are shown as the request wants them, errors become one pure
//! error frame, and an end that is no end is said to be one.

use super::likeness::Likeness;
use crate::api::dialect::Dialect;
use crate::api::error::{self, ApiError};
use crate::api::face::{self, Face, Facts, Shown};
use crate::api::render;
use crate::usage::Meter;
use crate::wire::sse::{Frame, Framer};
use bytes::{Bytes, BytesMut};

/// The state of one stream.
pub struct Stream {
    dialect: Dialect,
    face: Face,
    framer: Framer,
    likeness: Likeness,
    /// Whether an end without an end mark is an error on this route.
    ends_with_mark: bool,
    /// Choices that were spoken of, and those that named their finish reason (see [`Facts`]).
    choices: u64,
    /// See `choices`.
    finished: u64,
    /// A frame too long to be held has been passed on in part.
    within_frame: bool,
    /// `[DONE]`, or the dialect's last event.
    done: bool,
    /// Nothing but announcements came so far.
    announcing: bool,
    announced_bytes: usize,
    frames: u64,
    odd_frames: u64,
    said_last_words: bool,
}

/// What one read becomes.
pub struct Passed {
    /// Whole frames, as the client sees them.
    pub bytes: Bytes,
    /// When set, nothing may follow: `bytes` and an error frame, to be sent as the end of the stream.
    pub last_words: Option<LastWords>,
}

/// The end of a stream that went wrong.
pub struct LastWords {
    /// Everything still to be sent.
    pub bytes: Bytes,
    /// The word for metrics and the access line.
    pub cause: &'static str,
    /// The status that fits.
    pub status: u16,
}

impl Stream {
    /// A stream that begins. `ends_with_mark` says whether the route's streams have an end mark at all.
    pub fn new(dialect: Dialect, face: Face, frame_bytes_max: usize, ends_with_mark: bool) -> Self {
        Stream {
            dialect,
            face,
            framer: Framer::new(frame_bytes_max),
            likeness: Likeness::default(),
            ends_with_mark,
            choices: 0,
            finished: 0,
            within_frame: false,
            done: false,
            announcing: true,
            announced_bytes: 0,
            frames: 0,
            odd_frames: 0,
            said_last_words: false,
        }
    }

    /// Passes one read; `end` says that the upstream ended its body cleanly.
    pub fn pass(&mut self, read: Bytes, end: bool, meter: &mut Meter) -> Passed {
        if self.said_last_words {
            return Passed { bytes: Bytes::new(), last_words: None };
        }
        if self.announcing {
            self.announced_bytes += read.len();
        }
        let mut out = Output::with_capacity(read.len());
        self.framer.push(read);
        while let Some(frame) = self.framer.next() {
            if let Some(words) = self.show(&frame, &mut out, meter) {
                return words;
            }
        }
        if end {
            return self.end(out, meter);
        }
        Passed { bytes: out.finish(), last_words: None }
    }

    /// The error frame for a stream whose upstream broke off.
    pub fn broken(&self, words: &str) -> Bytes {
        let mut bytes = if self.within_frame { b"\n\n".to_vec() } else { Vec::new() };
        bytes.extend(render::frame(self.dialect, &ApiError::new(&error::STREAM_TRUNCATED, words)));
        bytes.into()
    }

    /// Frames passed and frames that were no JSON since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.frames), std::mem::take(&mut self.odd_frames))
    }

    /// Whether the stream has said that it is over.
    pub fn is_over(&self) -> bool {
        let finished = self.choices != 0 && self.finished == self.choices;
        self.done || (finished && self.dialect == Dialect::Chat)
    }

    /// Whether nothing has come yet but announcements of an answer.
    pub fn is_announcing(&self) -> bool {
        self.announcing
    }

    /// Bytes read while nothing but announcements came.
    pub fn announced_bytes(&self) -> usize {
        self.announced_bytes
    }

    /// Whether its end mark came: `[DONE]`, or the dialect's last event.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the client has the beginning of a frame and not its end: nothing else may be said now.
    pub fn is_within_frame(&self) -> bool {
        self.within_frame
    }

    /// Shows one frame; last words when it is an error.
    fn show(&mut self, frame: &Frame, out: &mut Output, meter: &mut Meter) -> Option<Passed> {
        self.frames += 1;
        if let Some(pieces) = self.likeness.show(frame).filter(|_| !self.announcing) {
            out.put_all(pieces);
            self.within_frame = false;
            return None;
        }
        let ends = || [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"].iter().any(|end| frame.bytes.ends_with(end));
        self.within_frame = frame.is_fragment() && !ends();
        let data = frame.data();
        let is_done = data.as_ref().is_some_and(|data| data.is_done(frame));
        if frame.is_fragment() || is_done {
            self.announcing = false;
            self.done |= is_done;
            out.put(&frame.bytes);
            return None;
        }
        let Some(data) = data.map(|data| data.to_bytes(frame)) else {
            out.put(&frame.bytes);
            return None;
        };
        let Ok((shown, facts)) = face::frame(self.dialect, &data, &self.face) else {
            self.announcing = false;
            self.odd_frames += 1;
            out.put(&frame.bytes);
            return None;
        };
        self.note(&facts, meter);
        if let Some((error, status)) = &facts.error {
            let words = render::frame_of_upstream(self.dialect, status.unwrap_or(500), error);
            out.put(&words.into());
            self.said_last_words = true;
            let status = status.unwrap_or(500);
            let last = LastWords { bytes: std::mem::take(out).finish(), cause: "upstream_error_frame", status };
            return Some(Passed { bytes: Bytes::new(), last_words: Some(last) });
        }
        self.announcing &= !facts.speaks;
        let shown = match shown {
            Shown::AsIs => frame.bytes.clone(),
            Shown::Changed(data) => frame.with_data(&data),
            Shown::Dropped => return None,
        };
        if facts.is_plain_piece() && !self.announcing {
            self.likeness.learn(frame, &shown);
        }
        out.put(&shown);
        None
    }

    fn note(&mut self, facts: &Facts, meter: &mut Meter) {
        self.choices |= facts.choices;
        self.finished |= facts.finished;
        self.done |= facts.ended;
        if let Some(usage) = &facts.usage {
            meter.read_usage(usage);
        }
        if let Some(pricing) = &facts.pricing {
            meter.read_pricing(pricing);
        }
    }

    /// A last frame may lack its blank line; what is no frame at all was cut.
    fn end(&mut self, mut out: Output, meter: &mut Meter) -> Passed {
        let rest = self.framer.rest();
        if !rest.trim_ascii().is_empty() {
            let mut whole = BytesMut::from(&rest[..]);
            whole.extend_from_slice(if rest.ends_with(b"\n") { b"\n" } else { b"\n\n" });
            let frame = Frame::new(whole.freeze());
            let is_whole = frame.is_done()
                || frame
                    .data()
                    .is_some_and(|data| face::frame(self.dialect, &data.to_bytes(&frame), &self.face).is_ok());
            if let Some(words) = is_whole.then(|| self.show(&frame, &mut out, meter)).flatten() {
                return words;
            }
        }
        if !self.ends_with_mark || self.is_over() {
            return Passed { bytes: out.finish(), last_words: None };
        }
        out.put(&self.broken("the upstream ended its stream without finishing the answer"));
        let last = LastWords { bytes: out.finish(), cause: "upstream_truncated", status: 502 };
        Passed { bytes: Bytes::new(), last_words: Some(last) }
    }
}

/// Collects frames; a single untouched one is passed on without a copy.
#[derive(Default)]
struct Output {
    only: Bytes,
    joined: BytesMut,
    capacity: usize,
}

impl Output {
    fn with_capacity(capacity: usize) -> Self {
        Output { capacity: capacity + 64, ..Output::default() }
    }

    fn put(&mut self, bytes: &Bytes) {
        if self.only.is_empty() && self.joined.is_empty() {
            self.only = bytes.clone();
            return;
        }
        self.put_all([bytes]);
    }

    fn put_all<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        if self.joined.is_empty() {
            self.joined.reserve(self.capacity);
            self.joined.extend_from_slice(&std::mem::take(&mut self.only));
        }
        for piece in pieces {
            self.joined.extend_from_slice(piece);
        }
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.only } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::face::Reasoning;

    fn stream(dialect: Dialect) -> Stream {
        let face = Face { model: Some("\"mine\"".into()), usage: false, reasoning: Reasoning::Renamed };
        Stream::new(dialect, face, 1 << 20, true)
    }

    fn run(stream: &mut Stream, reads: &[&'static str]) -> (String, Option<&'static str>) {
        let mut meter = Meter::default();
        let mut text = String::new();
        for (index, read) in reads.iter().enumerate() {
            let end = index + 1 == reads.len();
            let passed = stream.pass(Bytes::from_static(read.as_bytes()), end, &mut meter);
            text.push_str(std::str::from_utf8(&passed.bytes).unwrap());
            if let Some(last) = passed.last_words {
                text.push_str(std::str::from_utf8(&last.bytes).unwrap());
                return (text, Some(last.cause));
            }
        }
        (text, None)
    }

    const CONTENT: &str =
        "data: {\"model\":\"up\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    const CONTENT_SHOWN: &str =
        "data: {\"model\":\"mine\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn frames_survive_any_cut() {
        let source = format!(": hi\r\n\r\n{CONTENT}event: x\nid: 7\n{CONTENT}{DONE}");
        let expected = format!(": hi\r\n\r\n{CONTENT_SHOWN}event: x\nid: 7\n{CONTENT_SHOWN}{DONE}");
        for size in 1..source.len() {
            let mut stream = stream(Dialect::Chat);
            let mut meter = Meter::default();
            let mut text = Vec::new();
            for piece in source.as_bytes().chunks(size) {
                text.extend_from_slice(&stream.pass(Bytes::copy_from_slice(piece), false, &mut meter).bytes);
            }
            let last = stream.pass(Bytes::new(), true, &mut meter);
            assert!(last.last_words.is_none());
            text.extend_from_slice(&last.bytes);
            assert_eq!(String::from_utf8(text).unwrap(), expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn announcements_are_told_from_content() {
        let mut stream = stream(Dialect::Chat);
        let mut meter = Meter::default();
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
        for (read, announcing) in [(": hi\n\n", true), (role, true), (CONTENT, false), (role, false)] {
            stream.pass(Bytes::from_static(read.as_bytes()), false, &mut meter);
            assert_eq!(stream.is_announcing(), announcing, "{read}");
        }
    }

    #[test]
    fn an_end_without_its_mark_is_an_error() {
        let (text, cause) = run(&mut stream(Dialect::Chat), &[CONTENT, ""]);
        assert_eq!(cause, Some("upstream_truncated"));
        assert!(text.starts_with(CONTENT_SHOWN) && text.contains("upstream_stream_truncated"), "{text}");
        let (text, cause) = run(&mut stream(Dialect::Chat), &[CONTENT, "data: {\"model\":\"up\",\"cho"]);
        assert_eq!(cause, Some("upstream_truncated"));
        assert!(!text.contains("\"cho\n"), "{text}");
        for end in [DONE, "data: [DONE]", "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"] {
            let (_, cause) = run(&mut stream(Dialect::Chat), &[CONTENT, end]);
            assert_eq!(cause, None, "{end}");
        }
    }

    #[test]
    fn a_mixed_error_frame_becomes_a_pure_one_and_nothing_follows() {
        let mixed = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}],\"error\":{\"message\":\"died\",\"code\":503}}\n\ndata: [DONE]\n\n";
        let (text, cause) = run(&mut stream(Dialect::Chat), &[CONTENT, mixed]);
        assert_eq!(cause, Some("upstream_error_frame"));
        assert!(
            text.contains("{\"error\":{\"message\":\"died\"") && !text.contains("choices\":[{\"delta\":{},"),
            "{text}"
        );
        assert!(!text.contains("[DONE]"), "{text}");
    }

    #[test]
    fn odd_frames_pass_and_are_counted() {
        let mut stream = stream(Dialect::Chat);
        let (text, cause) = run(&mut stream, &["data: {not json\n\n", DONE]);
        assert_eq!((text.as_str(), cause), ("data: {not json\n\ndata: [DONE]\n\n", None));
        assert_eq!(stream.take_counts(), (2, 1));
    }

    proptest::proptest! {
        #[test]
        fn a_frame_is_shown_the_same_whatever_came_before_it(texts in proptest::collection::vec((0..6usize, ".{0,12}"), 1..20)) {
            let frames: Vec<String> = texts.iter().map(|(kind, text)| {
                let text = serde_json::Value::from(text.as_str());
                match kind {
                    0 => format!("data: {{\"model\":\"up\",\"choices\":[{{\"delta\":{{\"content\":{text}}}}}]}}\n\n"),
                    1 => format!("data: {{\"model\":\"up\",\"choices\":[{{\"delta\":{{\"reasoning\":{text}}}}}]}}\n\n"),
                    2 => format!("data: {{\"content\":{text},\"choices\":[{{\"delta\":{{\"content\":{text},\"n\":1}}}}]}}\n\n"),
                    3 => format!("id: 1\ndata: {{{text}:{text},\"choices\":[{{\"delta\":{{\"content\":\"\"}}}}]}}\n\n"),
                    4 => format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"\"}}}}],{text}:\"content\"}}\n\n"),
                    _ => format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text}}}}}],\"usage\":{{\"prompt_tokens\":1}}}}\n\n"),
                }
            }).collect();
            let mut meter = Meter::default();
            let mut begun = |frame: &str| {
                let mut stream = stream(Dialect::Chat);
                stream.pass(Bytes::from_static(CONTENT.as_bytes()), false, &mut meter);
                // Learned from nothing but the first, and that is forgotten.
                stream.likeness = Likeness::default();
                stream.pass(Bytes::copy_from_slice(frame.as_bytes()), false, &mut meter).bytes
            };
            let alone: Vec<u8> = frames.iter().flat_map(|frame| begun(frame)).collect();
            let mut stream = stream(Dialect::Chat);
            stream.pass(Bytes::from_static(CONTENT.as_bytes()), false, &mut meter);
            let together = stream.pass(frames.concat().into(), false, &mut meter).bytes;
            proptest::prop_assert_eq!(String::from_utf8(together.to_vec()).unwrap(), String::from_utf8(alone).unwrap());
        }
    }

    #[test]
    fn the_other_dialects_end_with_their_own_event() {
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        assert_eq!(run(&mut stream(Dialect::Messages), &[stop]).1, None);
        let (text, cause) = run(&mut stream(Dialect::Messages), &["event: ping\ndata: {\"type\":\"ping\"}\n\n", ""]);
        assert_eq!(cause, Some("upstream_truncated"));
        assert!(text.contains("event: error\ndata: {\"type\":\"error\""), "{text}");
        let done = "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"m\"}}}\n\n";
        assert_eq!(run(&mut stream(Dialect::Responses), &[done]).1, None);
    }
}
