//! Frames that differ from one before in nothing but their text: most of any stream.
//!
//! A frame of tokens repeats the one before it byte for byte, except for the text of its delta. What the long way found out
//! about one frame holds for the next one that begins and ends with the same bytes, when what is between them is the
//! text of a JSON string again: it is built of the same parts and is shown with the same edits.

use crate::wire::json;
use crate::wire::sse::Frame;
use bytes::Bytes;
use memchr::memmem::Finder;
use std::ops::Range;
use std::sync::LazyLock;

/// Members whose text nobody looks at: neither the editor nor the end mark nor an error depends on it.
static TEXT_MEMBERS: &[&[u8]] =
    &[b"\"content\":", b"\"reasoning_content\":", b"\"reasoning\":", b"\"text\":", b"\"thinking\":"];

/// A longer frame holds more than a few words, and looking for its text would cost more than the long way.
const LEARNED_BYTES_MAX: usize = 4096;
/// A stream that has not repeated itself for so many frames is not looked at any more.
const MISSES_MAX: u32 = 16;

/// Searchers of the same.
static SEARCHERS: LazyLock<Vec<Finder<'static>>> = LazyLock::new(|| TEXT_MEMBERS.iter().map(Finder::new).collect());

/// Makes now what the first stream would have to wait for.
pub fn prepare() {
    LazyLock::force(&SEARCHERS);
}

/// The frame that others are compared with.
#[derive(Default)]
pub struct Likeness {
    /// A frame that went the long way, and how it was shown: looked at when the next one comes, so that the first of a
    /// stream need not wait for it.
    lesson: Option<(Bytes, Bytes)>,
    /// The upstream's bytes before and behind the text; nothing is like an empty one.
    before: Vec<u8>,
    /// See `before`.
    behind: Vec<u8>,
    /// The same in the frame that was shown.
    shown_before: Vec<u8>,
    /// See `shown_before`.
    shown_behind: Vec<u8>,
    misses: u32,
}

impl Likeness {
    /// The pieces of a frame shown as the one before it was; none when it is not like that.
    pub fn show<'a>(&'a mut self, frame: &'a Frame) -> Option<[&'a [u8]; 3]> {
        if let Some((taught, shown)) = self.lesson.take() {
            self.study(&taught, &shown);
        }
        if self.before.is_empty() || frame.is_fragment() {
            return None;
        }
        let text = frame.bytes.strip_prefix(&*self.before)?.strip_suffix(&*self.behind)?;
        if !json::is_text(text) {
            return None;
        }
        self.misses = 0;
        Some([&self.shown_before, text, &self.shown_behind])
    }

    /// Notes how a frame was shown that went the long way. It must be one whose facts are those of any piece of an
    /// answer: no usage, no finish reason, no end, no error.
    pub fn learn(&mut self, frame: &Frame, shown: &[u8]) {
        self.before.clear();
        if self.misses < MISSES_MAX && frame.bytes.len() <= LEARNED_BYTES_MAX {
            self.misses += 1;
            // Copies, since the bytes may be a part of a much longer read.
            self.lesson = Some((Bytes::copy_from_slice(&frame.bytes), Bytes::copy_from_slice(shown)));
        }
    }

    fn study(&mut self, frame: &[u8], shown: &[u8]) {
        let (Some(text), Some(shown_text)) = (text_of(frame), text_of(shown)) else { return };
        if frame[text.clone()] != shown[shown_text.clone()] {
            return;
        }
        for (part, bytes) in [
            (&mut self.before, &frame[..text.start]),
            (&mut self.behind, &frame[text.end..]),
            (&mut self.shown_before, &shown[..shown_text.start]),
            (&mut self.shown_behind, &shown[shown_text.end..]),
        ] {
            part.clear();
            part.extend_from_slice(bytes);
        }
    }
}

/// Where the text of the last such member lies in the bytes of a frame whose data is valid JSON.
///
/// A name's first quote could also be an escaped one inside of a string, and is then preceded by its backslash. It cannot
/// be a closing one, since no closing quote is followed by a letter.
fn text_of(frame: &[u8]) -> Option<Range<usize>> {
    let starts = SEARCHERS.iter().filter_map(|name| {
        let at = name.find_iter(frame).last()?;
        let value = frame[at + name.needle().len()..].trim_ascii_start();
        let is_member = at > 0 && frame[at - 1] != b'\\' && value.starts_with(b"\"");
        is_member.then_some(frame.len() - value.len() + 1)
    });
    let start = starts.max()?;
    let length = json::text_length(&frame[start..])?;
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::new(Bytes::from(format!("data: {text}\n\n")))
    }

    fn shown(likeness: &mut Likeness, text: &str) -> Option<String> {
        likeness.show(&frame(text)).map(|pieces| String::from_utf8(pieces.concat()).unwrap())
    }

    fn learned() -> Likeness {
        let mut likeness = Likeness::default();
        let first = frame(r#"{"model":"up","choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#);
        likeness.learn(
            &first,
            b"data: {\"model\":\"mine\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
        );
        likeness
    }

    #[test]
    fn only_the_text_may_differ() {
        let mut likeness = learned();
        for text in ["", "b", "two words", r#"a \"quoted\" line\n"#, "\u{e9}\u{1f600}"] {
            let next =
                format!(r#"{{"model":"up","choices":[{{"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#);
            let expected = format!("data: {}\n\n", next.replace("\"up\"", "\"mine\""));
            assert_eq!(shown(&mut likeness, &next), Some(expected));
        }
        for other in [
            r#"{"model":"up2","choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#,
            r#"{"model":"up","choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"model":"up","choices":[{"delta":{"content":"a","x":"b"},"finish_reason":null}]}"#,
            r#"{"model":"up","choices":[{"delta":{"content":"a\u00zz"},"finish_reason":null}]}"#,
            r#"{"model":"up","choices":[{"delta":{"content":"a\"},"finish_reason":null}]}"#,
            r#"{"model":"up","choices":[{"delta":{"content":null},"finish_reason":null}]}"#,
            "{\"model\":\"up\",\"choices\":[{\"delta\":{\"content\":\"a\nb\"},\"finish_reason\":null}]}",
        ] {
            assert_eq!(shown(&mut likeness, other), None, "{other}");
        }
        let mut invalid = b"data: {\"model\":\"up\",\"choices\":[{\"delta\":{\"content\":\"".to_vec();
        invalid.extend_from_slice(b"\xff\"},\"finish_reason\":null}]}\n\n");
        assert_eq!(likeness.show(&Frame::new(invalid.into())), None);
    }

    #[test]
    fn a_name_inside_of_a_text_is_no_member() {
        let mut likeness = Likeness::default();
        let odd = frame(r#"{"x":"say \"content\":\"a\"","n":1}"#);
        likeness.learn(&odd, &odd.bytes);
        assert_eq!(shown(&mut likeness, r#"{"x":"say \"content\":\"b\"","n":1}"#), None);
        let spaced = frame(r#"{"content": "a", "n": 1}"#);
        likeness.learn(&spaced, &spaced.bytes);
        assert!(shown(&mut likeness, r#"{"content": "b", "n": 1}"#).is_some());
        let odd = frame(r#"{"x\"content":"a","n":1}"#);
        likeness.learn(&odd, &odd.bytes);
        assert_eq!(shown(&mut likeness, r#"{"x\"content":"b","n":1}"#), None);
    }

    #[test]
    fn a_stream_that_never_repeats_itself_is_left_alone() {
        let mut likeness = Likeness::default();
        for number in 0..100 {
            let text = format!(r#"{{"n":{number},"content":"a"}}"#);
            assert_eq!(shown(&mut likeness, &text), None);
            likeness.learn(&frame(&text), &frame(&text).bytes);
        }
        assert_eq!(likeness.misses, MISSES_MAX);
        assert_eq!(shown(&mut likeness, r#"{"n":99,"content":"a"}"#), None);
    }
}
