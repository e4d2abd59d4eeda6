//! The face an answer shows: the client's model name, only the usage it asked for, the reasoning member it expects.
//!
//! Works on one JSON document, a frame of a stream or a whole answer, by splicing; everything else keeps its bytes.
//! What it reads on the way (usage, price, an end, an error) is handed back as facts.

use super::content;
use super::dialect::Dialect;
use super::error::UpstreamError;
use super::render;
use crate::wire::json::{self, Kind, Skim, Walk, members_of};
use crate::wire::splice::{Patch, Splice, apply};
use bytes::Bytes;

/// How `reasoning` is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// Renamed `reasoning_content`, as LiteLLM shows it.
    Renamed,
    /// Under both names.
    Both,
    /// As the upstream sent it.
    Untouched,
}

/// What the client of one request should see.
#[derive(Clone, Debug)]
pub struct Face {
    /// The name to show, as a JSON string; none leaves the upstream's.
    pub model: Option<Bytes>,
    /// Whether usage inside a stream is shown.
    pub usage: bool,
    /// The reasoning member.
    pub reasoning: Reasoning,
}

impl Face {
    /// Shows every byte as it came.
    pub fn untouched() -> Self {
        Face { model: None, usage: true, reasoning: Reasoning::Untouched }
    }
}

/// What became of a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// It passes as it came.
    AsIs,
    /// It passes like this.
    Changed(Bytes),
    /// It is not shown at all.
    Dropped,
}

/// What a document said.
#[derive(Debug, Default)]
pub struct Facts {
    /// A `usage` object.
    pub usage: Option<Bytes>,
    /// An `x_nanogpt_pricing` object.
    pub pricing: Option<Bytes>,
    /// The choices it spoke of, a bit each; the last bit stands for all from the 64th on.
    pub choices: u64,
    /// Those of them that named their finish reason.
    pub finished: u64,
    /// The dialect's last event of a whole stream.
    pub ended: bool,
    /// It is an answer and not only an error: there is a list of choices, whatever it holds, or a response object.
    pub has_content: bool,
    /// It says more than that an answer is on its way; of a frame of a stream (see [`content`]).
    pub speaks: bool,
    /// An error, and the status it names when it names one.
    pub error: Option<(UpstreamError, Option<u16>)>,
}

impl Facts {
    /// Whether this says nothing that a frame with another text would not say too.
    pub fn is_plain_piece(&self) -> bool {
        let counts = self.usage.is_some() || self.pricing.is_some();
        !counts && self.finished == 0 && !self.ended && self.error.is_none()
    }
}

/// Shows one frame of a stream.
///
/// # Errors
/// When the data is no JSON object: it passes unchanged and is counted by the caller.
pub fn frame(dialect: Dialect, data: &Bytes, face: &Face) -> Result<(Shown, Facts), json::SkimError> {
    let skim = json::skim_answer(data, json::DEPTH_MAX_DEFAULT)?;
    let mut editor = Editor::new(dialect, data, &skim, face, Part::Delta);
    editor.walk();
    Ok(editor.finish())
}

/// Shows a whole answer.
///
/// # Errors
/// When the body is no JSON object.
pub fn answer(dialect: Dialect, body: &Bytes, face: &Face) -> Result<(Shown, Facts), json::SkimError> {
    let skim = json::skim_answer(body, json::DEPTH_MAX_DEFAULT)?;
    let mut editor = Editor::new(dialect, body, &skim, face, Part::Message);
    editor.walk();
    Ok(editor.finish())
}

/// What a choice holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A piece, in a frame of a stream.
    Delta,
    /// All of it, in a whole answer.
    Message,
}

impl Part {
    fn key(self) -> &'static [u8] {
        match self {
            Part::Delta => b"\"delta\"",
            Part::Message => b"\"message\"",
        }
    }
}

struct Editor<'d> {
    dialect: Dialect,
    part: Part,
    doc: &'d Bytes,
    skim: &'d Skim,
    face: &'d Face,
    splice: Splice<'d>,
    facts: Facts,
    usage_at: Option<usize>,
    no_choices: bool,
    /// The document names itself an announcement, or has choices, which tell more.
    announces: bool,
}

impl<'d> Editor<'d> {
    fn new(dialect: Dialect, doc: &'d Bytes, skim: &'d Skim, face: &'d Face, part: Part) -> Self {
        let (splice, facts) = (Splice::new(doc, skim), Facts::default());
        let (usage_at, no_choices, announces) = (None, false, false);
        Editor { dialect, part, doc, skim, face, splice, facts, usage_at, no_choices, announces }
    }

    fn walk(&mut self) {
        for (index, member) in self.skim.members().iter().enumerate() {
            let value = member.value_span();
            match (&self.doc[member.key_span()], member.kind) {
                (b"\"model\"", Kind::String) => self.show_model(index),
                (b"\"usage\"", Kind::Object) => {
                    self.facts.usage = Some(self.doc.slice(value));
                    self.usage_at = Some(index);
                }
                (b"\"x_nanogpt_pricing\"", Kind::Object) => self.facts.pricing = Some(self.doc.slice(value)),
                (b"\"choices\"", kind) => {
                    self.announces |= self.dialect == Dialect::Chat;
                    if kind == Kind::Array {
                        self.walk_choices(index);
                    }
                }
                (b"\"message\"", Kind::Object) if self.dialect == Dialect::Messages => self.walk_nested(index),
                (b"\"response\"", Kind::Object) if self.dialect == Dialect::Responses => self.walk_nested(index),
                // A response that failed names its error and is one all the same.
                (b"\"object\"" | b"\"output\"", _) if self.dialect == Dialect::Responses => {
                    self.facts.has_content = true
                }
                (b"\"type\"", Kind::String) => self.note_type(&self.doc[value]),
                (b"\"error\"", Kind::Object | Kind::String) => self.note_error(&self.doc[value]),
                _ => {}
            }
        }
    }

    fn show_model(&mut self, index: usize) {
        let face = self.face;
        if let Some(model) = &face.model {
            self.splice.replace(index, &model[..]);
        }
    }

    fn walk_choices(&mut self, index: usize) {
        let doc = self.doc;
        let choices = &doc[self.skim.members()[index].value_span()];
        self.facts.has_content = true;
        self.no_choices = true;
        let (mut patches, mut walk) = (Vec::new(), Walk::new(choices));
        walk.enter(b'[');
        let mut place = 0;
        while walk.item().is_some() {
            self.no_choices = false;
            let (choice, finished) = self.walk_choice(&mut walk, choices, &mut patches);
            let bit = 1 << choice.unwrap_or(place).min(63);
            place += 1;
            self.facts.choices |= bit;
            self.facts.finished |= if finished { bit } else { 0 };
        }
        if !patches.is_empty() {
            self.splice.replace(index, apply(choices, &mut patches));
        }
    }

    /// Over one choice: the index it names, and whether it names a reason to be finished.
    fn walk_choice(&mut self, walk: &mut Walk<'_>, choices: &[u8], patches: &mut Vec<Patch>) -> (Option<u64>, bool) {
        let (mut choice, mut finished) = (None, false);
        if !walk.enter(b'{') {
            walk.skip();
            return (choice, finished);
        }
        while let Some((key, kind)) = walk.member() {
            let key = &choices[key];
            if key == self.part.key() && walk.enter(b'{') {
                self.walk_part(walk, choices, patches);
                continue;
            }
            let value = walk.skip().unwrap_or_default();
            match key {
                b"\"finish_reason\"" => {
                    finished = kind != Kind::Null;
                    self.facts.speaks |= finished;
                }
                b"\"index\"" => choice = number(&choices[value]).or(choice),
                b"\"text\"" => self.facts.speaks |= !content::is_empty(&choices[value], kind),
                _ => {}
            }
        }
        (choice, finished)
    }

    /// Over a delta or message: whether it says more than who speaks. Its `reasoning` is renamed or doubled, unless
    /// `reasoning_content` is there already.
    fn walk_part(&mut self, walk: &mut Walk<'_>, choices: &[u8], patches: &mut Vec<Patch>) {
        let (mut found, mut is_there) = (None, false);
        while let Some((key, kind)) = walk.member() {
            let Some(value) = walk.skip() else { break };
            match &choices[key.clone()] {
                b"\"role\"" => continue,
                b"\"reasoning_content\"" => is_there = true,
                b"\"reasoning\"" if kind != Kind::Null => found = Some((key, value.clone())),
                _ => {}
            }
            self.facts.speaks |= !content::is_empty(&choices[value], kind);
        }
        let Some((key, value)) = found.filter(|_| !is_there) else { return };
        let (range, bytes) = match self.face.reasoning {
            Reasoning::Untouched => return,
            Reasoning::Both => {
                let mut twin = b"\"reasoning_content\":".to_vec();
                twin.extend_from_slice(&choices[value]);
                twin.push(b',');
                (key.start..key.start, twin)
            }
            Reasoning::Renamed => (key, b"\"reasoning_content\"".to_vec()),
        };
        patches.push(Patch { range, bytes: bytes.into() });
    }

    /// The message of `message_start` and the response of the responses events carry model and usage one level down.
    fn walk_nested(&mut self, index: usize) {
        let span = self.skim.members()[index].value_span();
        let object = &self.doc[span.clone()];
        let mut patches = Vec::new();
        for (key, value, kind) in members_of(object) {
            match (&object[key], kind) {
                (b"\"model\"", Kind::String) => {
                    if let Some(model) = &self.face.model {
                        patches.push(Patch { range: value, bytes: model.clone() });
                    }
                }
                (b"\"usage\"", Kind::Object) => {
                    self.facts.usage = Some(self.doc.slice(span.start + value.start..span.start + value.end));
                }
                _ => {}
            }
        }
        if !patches.is_empty() {
            self.splice.replace(index, apply(object, &mut patches));
        }
    }

    fn note_type(&mut self, value: &[u8]) {
        let Some(kind) = json::string(value) else { return };
        self.facts.ended |= self.dialect.is_final_event(&kind);
        self.announces |= content::announces(self.dialect, &kind);
        if kind == "error" && self.dialect == Dialect::Responses && self.facts.error.is_none() {
            // The event's own members are the error: `{"type":"error","code":…,"message":…}`.
            self.facts.error = render::read_object(self.dialect, self.doc).map(|error| (error, None));
        }
    }

    fn note_error(&mut self, value: &[u8]) {
        let status = members_of(value).filter(|(key, _, _)| matches!(&value[key.clone()], b"\"status\"" | b"\"code\""));
        let status = status.filter_map(|(_, number, _)| status_of(&value[number])).next();
        self.facts.error = render::read_object(self.dialect, self.doc).map(|error| (error, status));
    }

    /// Usage nobody asked for is hidden in streams only: a plain answer always shows it.
    fn finish(mut self) -> (Shown, Facts) {
        self.facts.speaks |= !self.announces;
        let hide = self.part == Part::Delta && !self.face.usage && self.dialect == Dialect::Chat;
        if let (true, Some(index)) = (hide, self.usage_at) {
            if self.no_choices {
                return (Shown::Dropped, self.facts);
            }
            self.splice.remove(index);
        }
        let shown = if self.splice.is_untouched() { Shown::AsIs } else { Shown::Changed(self.splice.finish()) };
        (shown, self.facts)
    }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A number or text that is an error status.
fn status_of(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok()?.trim_matches('"');
    text.parse().ok().filter(|status| (400..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(usage: bool, reasoning: Reasoning) -> Face {
        Face { model: Some("\"mine\"".into()), usage, reasoning }
    }

    fn shown(dialect: Dialect, data: &'static str, face: &Face) -> (String, Facts) {
        let data = Bytes::from_static(data.as_bytes());
        let (shown, facts) = frame(dialect, &data, face).expect("the test's frame is JSON");
        let text = match shown {
            Shown::AsIs => data,
            Shown::Changed(bytes) => bytes,
            Shown::Dropped => Bytes::from_static(b"(dropped)"),
        };
        (String::from_utf8(text.to_vec()).unwrap(), facts)
    }

    #[test]
    fn model_is_mapped_and_everything_else_keeps_its_bytes() {
        let (text, facts) = shown(
            Dialect::Chat,
            r#"{ "id":"x", "model" : "up" ,"choices":[{"delta":{"content":"\u00e9 1.0"},"finish_reason":null}], "n":1.0}"#,
            &face(false, Reasoning::Renamed),
        );
        assert_eq!(
            text,
            r#"{ "id":"x", "model" : "mine" ,"choices":[{"delta":{"content":"\u00e9 1.0"},"finish_reason":null}], "n":1.0}"#
        );
        assert!(facts.finished == 0 && facts.has_content && facts.usage.is_none());
    }

    #[test]
    fn usage_nobody_asked_for_goes_and_its_own_frame_goes_whole() {
        let face = face(false, Reasoning::Untouched);
        let (text, facts) = shown(
            Dialect::Chat,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            &face,
        );
        assert_eq!(text, r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#);
        assert!(facts.finished == facts.choices && facts.usage.is_some());
        let (text, _) = shown(Dialect::Chat, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, &face);
        assert_eq!(text, "(dropped)");
        let (text, _) = shown(Dialect::Chat, r#"{"choices":[],"usage":null}"#, &face);
        assert_eq!(text, r#"{"choices":[],"usage":null}"#);
    }

    #[test]
    fn reasoning_takes_the_shape_that_is_wanted() {
        let data = r#"{"choices":[{"delta":{"reasoning":"a","content":null}},{"delta":{"reasoning":"b","reasoning_content":"c"}}]}"#;
        let (text, _) = shown(Dialect::Chat, data, &face(false, Reasoning::Renamed));
        assert_eq!(
            text,
            r#"{"choices":[{"delta":{"reasoning_content":"a","content":null}},{"delta":{"reasoning":"b","reasoning_content":"c"}}]}"#
        );
        let (text, _) = shown(Dialect::Chat, data, &face(false, Reasoning::Both));
        assert!(
            text.starts_with(r#"{"choices":[{"delta":{"reasoning_content":"a","reasoning":"a","content":null}}"#),
            "{text}"
        );
        let (text, _) = shown(Dialect::Chat, data, &face(false, Reasoning::Untouched));
        assert_eq!(text, data);
    }

    #[test]
    fn other_dialects_carry_their_model_one_level_down() {
        let face = face(false, Reasoning::Renamed);
        let (text, facts) = shown(
            Dialect::Messages,
            r#"{"type":"message_start","message":{"model":"up","usage":{"input_tokens":9}}}"#,
            &face,
        );
        assert_eq!(text, r#"{"type":"message_start","message":{"model":"mine","usage":{"input_tokens":9}}}"#);
        assert!(facts.usage.is_some() && !facts.ended);
        let (text, facts) =
            shown(Dialect::Responses, r#"{"type":"response.completed","response":{"model":"up","output":[]}}"#, &face);
        assert_eq!(text, r#"{"type":"response.completed","response":{"model":"mine","output":[]}}"#);
        assert!(facts.ended);
    }

    #[test]
    fn roles_and_empty_texts_announce_and_everything_else_is_content() {
        for (data, content) in [
            (r#"{"choices":[{"delta":{"role":"assistant"},"finish_reason":null}]}"#, false),
            (r#"{"choices":[{"delta":{"role":"assistant","content":"","tool_calls":[ ],"refusal":null}}]}"#, false),
            (r#"{"choices":[{"delta":{}}]}"#, false),
            (r#"{"choices":[{"delta":{"audio":{ }}}]}"#, false),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
            (r#"{"choices":null}"#, false),
            (r#"{"choices":[{"text":"","finish_reason":null}]}"#, false),
            (r#"{"choices":[{"text":"a"}]}"#, true),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, true),
            (r#"{"choices":[{"delta":{"reasoning":"a","content":""}}]}"#, true),
            (r#"{"choices":[{"delta":{"reasoning_content":"a","content":""}}]}"#, true),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
            (r#"{"choices":[{"delta":{}},{"index":1,"delta":{"content":"b"}}]}"#, true),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, true),
            (r#"{"b64_json":"..."}"#, true),
        ] {
            for reasoning in [Reasoning::Renamed, Reasoning::Untouched] {
                assert_eq!(shown(Dialect::Chat, data, &face(true, reasoning)).1.speaks, content, "{data}");
            }
        }
    }

    #[test]
    fn the_other_dialects_name_their_announcements() {
        for (dialect, kind, content) in [
            (Dialect::Messages, "message_start", false),
            (Dialect::Messages, "ping", false),
            (Dialect::Messages, "content_block_start", true),
            (Dialect::Responses, "response.created", false),
            (Dialect::Responses, "response.in_progress", false),
            (Dialect::Responses, "response.queued", false),
            (Dialect::Responses, "response.output_item.added", true),
        ] {
            let data = Bytes::from(format!(r#"{{"x":1,"type":"{kind}","choices":[]}}"#));
            let (_, facts) = frame(dialect, &data, &Face::untouched()).expect("the test's frame is JSON");
            assert_eq!(facts.speaks, content, "{kind}");
        }
        assert!(shown(Dialect::Responses, "{}", &Face::untouched()).1.speaks);
    }

    #[test]
    fn errors_are_found_in_every_form() {
        let face = face(false, Reasoning::Renamed);
        for (dialect, data, words, status) in [
            (
                Dialect::Chat,
                r#"{"choices":[{"finish_reason":"error"}],"error":{"message":"m","code":503}}"#,
                "m",
                Some(503),
            ),
            (Dialect::Chat, r#"{"error":"m"}"#, "m", None),
            (Dialect::Messages, r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, "m", None),
            (Dialect::Responses, r#"{"type":"error","code":"x","message":"m","param":null}"#, "m", None),
        ] {
            let (_, facts) = shown(dialect, data, &face);
            let (error, found) = facts.error.expect(data);
            assert_eq!((error.message.as_str(), found), (words, status), "{data}");
        }
        let (_, facts) = shown(Dialect::Chat, r#"{"choices":[],"error":null}"#, &face);
        assert!(facts.error.is_none());
        let (_, facts) = shown(Dialect::Responses, r#"{"type":"response.created","response":{"error":null}}"#, &face);
        assert!(facts.error.is_none());
    }

    #[test]
    fn a_plain_answer_always_shows_its_usage() {
        let body = Bytes::from_static(
            br#"{"model":"up","choices":[{"message":{"reasoning":"r"}}],"usage":{"prompt_tokens":1}}"#,
        );
        let (shown, facts) = answer(Dialect::Chat, &body, &face(false, Reasoning::Renamed)).unwrap();
        let expected: &[u8] =
            br#"{"model":"mine","choices":[{"message":{"reasoning_content":"r"}}],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(shown, Shown::Changed(Bytes::from_static(expected)));
        assert!(facts.usage.is_some());
        assert!(answer(Dialect::Chat, &Bytes::from_static(b"[1]"), &Face::untouched()).is_err());
    }
}
