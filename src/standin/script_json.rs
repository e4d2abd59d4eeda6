//! Scripts as JSON, for load tools and for conformance kits: a list of steps, each an object.
//!
//! `kind` is `auto`, `json`, `raw`, `sse`, `reset`, `close`, `hang` or `stop_reading`; everything else is optional:
//! `status`, `headers` (object or pairs), `body` (`json`: any value or `{"huge_content_bytes": n}`; `raw`: text,
//! `{"base64": ..}` or `{"repeat": "x", "times": n}`), `ctype`, `frames` (object: a data frame; text: verbatim;
//! `{"sleep_ms": n}`, `{"raw": ".."}`, `{"big": n}`), `eol`, `split`, `gap_ms`, `delay_ms`, `body_delay_ms`, `hang_ms`,
//! `end` (`done`, `clean`, `cut`, `reset`, `stall`, `truncated_chunk`), `declare` (content-length longer by n),
//! `content_length`, `gzip`, `close`, `interim` (list of statuses), `read_body`, `h2_rst`, `goaway`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::script::Script;
use super::step::{End, Frame, Kind, Lie, Step};

const SPELT_BYTES_MAX: u64 = 256 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelt {
    kind: Word,
    status: Option<u16>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    body: Value,
    ctype: Option<String>,
    #[serde(default)]
    frames: Vec<Value>,
    eol: Option<String>,
    split: Option<usize>,
    gap_ms: Option<u64>,
    delay_ms: Option<u64>,
    body_delay_ms: Option<u64>,
    hang_ms: Option<u64>,
    end: Option<End>,
    declare: Option<u64>,
    content_length: Option<u64>,
    #[serde(default)]
    gzip: bool,
    #[serde(default)]
    close: bool,
    #[serde(default)]
    interim: Vec<u16>,
    #[serde(default = "yes")]
    read_body: bool,
    #[serde(default)]
    h2_rst: bool,
    #[serde(default)]
    goaway: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Auto,
    Json,
    Raw,
    Sse,
    Reset,
    Close,
    Hang,
    StopReading,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Pairs(Vec<(String, String)>),
    Object(BTreeMap<String, String>),
}

impl Default for Headers {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Step>::deserialize(deserializer).map(Script::steps)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spelt::deserialize(deserializer)?.step().map_err(serde::de::Error::custom)
    }
}

impl Spelt {
    fn step(mut self) -> Result<Step, String> {
        let mut step = match self.kind {
            Word::Auto => Step::auto(),
            Word::Json => Step::json(200, long_chat(std::mem::take(&mut self.body))?),
            Word::Raw => Step::raw(200, "text/plain", raw(&self.body)?),
            Word::Sse => {
                let frames = std::mem::take(&mut self.frames);
                Step::sse(frames.into_iter().map(frame).collect::<Result<Vec<_>, _>>()?)
            }
            Word::Reset => Step::reset_before_answer(),
            Word::Close => Step::close_before_answer(),
            Word::Hang => Step::hang(),
            Word::StopReading => Step::stop_reading(),
        };
        if let (Kind::Fixed { content_type, .. }, Some(ctype)) = (&mut step.kind, &self.ctype) {
            content_type.clone_from(ctype);
        } else if let Some(ctype) = &self.ctype {
            step = step.header("content-type", ctype);
        }
        self.bend(&mut step);
        Ok(step)
    }

    fn bend(self, step: &mut Step) {
        let manner = &mut step.manner;
        manner.status = self.status;
        manner.headers.extend(match self.headers {
            Headers::Pairs(pairs) => pairs,
            Headers::Object(object) => object.into_iter().collect(),
        });
        manner.eol = self.eol;
        manner.split = self.split.filter(|bytes| *bytes > 0);
        manner.gap_ms = self.gap_ms;
        manner.delay_ms = self.delay_ms;
        manner.body_delay_ms = self.body_delay_ms;
        manner.hang_ms = self.hang_ms;
        manner.end = self.end.or(self.h2_rst.then_some(End::Reset));
        manner.length = self.content_length.map(Lie::Exactly).or(self.declare.map(Lie::Longer));
        manner.gzip = self.gzip;
        manner.close = self.close;
        manner.interim = self.interim;
        manner.leave_body = !self.read_body;
        manner.h2_rst = self.h2_rst;
        manner.goaway = self.goaway;
    }
}

fn frame(item: Value) -> Result<Frame, String> {
    let only = item.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
    match only.map(|(name, value)| (name.as_str(), value)) {
        Some(("sleep_ms", ms)) => ms.as_u64().map(Frame::Pause).ok_or("sleep_ms wants a number".to_owned()),
        Some(("raw", text)) => text.as_str().map(Frame::from).ok_or("raw wants a text".to_owned()),
        Some(("big", bytes)) => {
            let delta = json!({"role": "assistant", "content": "y".repeat(count(bytes, 1)?)});
            Ok(Frame::Json(
                json!({"id": "chatcmpl-standin", "object": "chat.completion.chunk", "created": 1_700_000_000,
                "model": "standin", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
            ))
        }
        _ => Ok(match item {
            Value::String(text) => Frame::Text(text),
            object => Frame::Json(object),
        }),
    }
}

fn long_chat(body: Value) -> Result<Value, String> {
    let Some(bytes) = body.get("huge_content_bytes") else { return Ok(body) };
    let message = json!({"role": "assistant", "content": "x".repeat(count(bytes, 1)?)});
    Ok(json!({"id": "chatcmpl-standin", "object": "chat.completion", "created": 1_700_000_000, "model": "standin",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}}))
}

fn raw(body: &Value) -> Result<Vec<u8>, String> {
    match (body, body["base64"].as_str(), body["repeat"].as_str()) {
        (Value::Null, ..) => Ok(Vec::new()),
        (Value::String(text), ..) => Ok(text.clone().into_bytes()),
        (_, Some(text), _) => STANDARD.decode(text).map_err(|fault| fault.to_string()),
        (_, _, Some(text)) => Ok(text.repeat(count(&body["times"], text.len() as u64)?).into_bytes()),
        _ => Err("a raw body is a text, {\"base64\": ..} or {\"repeat\": .., \"times\": ..}".to_owned()),
    }
}

/// A number of items of this size, as long as they fit in memory.
fn count(times: &Value, bytes: u64) -> Result<usize, String> {
    let times = times.as_u64().filter(|times| times.saturating_mul(bytes) <= SPELT_BYTES_MAX);
    times.and_then(|times| usize::try_from(times).ok()).ok_or_else(|| format!("a count up to {SPELT_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_becomes_steps() {
        let step: Step = serde_json::from_str(
            r#"{"kind": "sse", "status": 201, "headers": {"x-a": "1"}, "gap_ms": 5, "split": 3, "end": "truncated_chunk",
                "frames": [{"a": 1}, "verbatim", {"sleep_ms": 7}, {"raw": "r"}, {"big": 3}]}"#,
        )
        .unwrap();
        assert_eq!((step.manner.status, step.manner.gap_ms, step.manner.split), (Some(201), Some(5), Some(3)));
        assert_eq!(step.manner.end, Some(End::TruncatedChunk));
        let Kind::Sse(frames) = &step.kind else { panic!("a stream") };
        assert!(matches!(
            &frames[..],
            [Frame::Json(_), Frame::Text(_), Frame::Pause(7), Frame::Text(_), Frame::Json(_)]
        ));
    }

    #[test]
    fn raw_bodies_come_in_three_forms() {
        for (body, bytes) in
            [(r#""ab""#, "ab"), (r#"{"base64": "YWI="}"#, "ab"), (r#"{"repeat": "a", "times": 3}"#, "aaa")]
        {
            assert_eq!(raw(&serde_json::from_str(body).unwrap()).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn a_misspelt_step_is_refused() {
        assert!(serde_json::from_str::<Script>(r#"[{"kind": "auto", "delay": 3}]"#).is_err());
        assert!(serde_json::from_str::<Script>(r#"[{"kind": "teapot"}]"#).is_err());
        assert!(
            serde_json::from_str::<Script>(r#"[{"kind": "raw", "body": {"repeat": "x", "times": 99999999999}}]"#)
                .is_err()
        );
    }
}
