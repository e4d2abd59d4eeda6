//! Chat completions and legacy completions, plain and streamed, with NanoGPT's frames.
//!
//! Usage rides on the finish frame, and only if it was asked for; the price is always there.

use serde_json::{Value, json};

use super::super::step::{End, Frame, Step};
use super::route::Base;
use super::turn::{Reply, Turn, pieces, text_of, tokens};
use super::{fresh_id, now, stream};

const REASONING: &str = "There is no model here, so there is nothing to think about.";
const ARGUMENT_PIECE_CHARS: usize = 12;

/// Where the reasoning of a chat goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reasoning {
    None,
    Field(&'static str),
    Merged,
}

pub(super) fn chat(base: Base, body: &Value) -> Step {
    let chat =
        Chat { turn: Turn::of(body), reasoning: Reasoning::of(base, body), id: fresh_id("chatcmpl-"), created: now() };
    if body["stream"] == true {
        let with_usage = body["stream_options"]["include_usage"] == true;
        stream(chat.frames(with_usage), End::Done)
    } else {
        Step::json(200, chat.document())
    }
}

impl Reasoning {
    fn of(base: Base, body: &Value) -> Self {
        let model = body["model"].as_str().unwrap_or_default();
        let words = || model.split(|letter: char| !letter.is_ascii_alphanumeric());
        let effort = body["reasoning_effort"].as_str().or(body["reasoning"]["effort"].as_str());
        let asked =
            effort.map_or_else(|| words().any(|word| matches!(word, "think" | "thinking")), |effort| effort != "none");
        let excluded = body["reasoning"]["exclude"] == true || model.contains(":reasoning-exclude");
        let field = body["reasoning_delta_field"].as_str().or(body["reasoning"]["delta_field"].as_str());
        match base {
            _ if !asked || excluded => Self::None,
            Base::Thinking => Self::Merged,
            Base::Legacy => Self::Field("reasoning_content"),
            _ if field == Some("reasoning_content") => Self::Field("reasoning_content"),
            _ => Self::Field("reasoning"),
        }
    }
}

struct Chat {
    turn: Turn,
    reasoning: Reasoning,
    id: String,
    created: u64,
}

impl Chat {
    fn finish_reason(&self) -> &'static str {
        match self.turn.reply {
            Reply::Call { .. } => "tool_calls",
            Reply::Text(_) if self.turn.cut_short => "length",
            Reply::Text(_) => "stop",
        }
    }

    fn lead(&self) -> String {
        if self.reasoning == Reasoning::Merged { format!("<think>{REASONING}</think>\n") } else { String::new() }
    }

    fn usage(&self) -> Value {
        let thought = if self.reasoning == Reasoning::None { 0 } else { tokens(REASONING) };
        usage(self.turn.prompt_tokens, self.turn.completion_tokens() + thought, thought)
    }

    fn document(&self) -> Value {
        let mut message = match &self.turn.reply {
            Reply::Text(text) => json!({"role": "assistant", "content": self.lead() + text}),
            Reply::Call { name, arguments } => json!({"role": "assistant", "content": null, "tool_calls": [{
                "id": fresh_id("call_"), "type": "function", "function": {"name": name, "arguments": arguments}}]}),
        };
        if let Reasoning::Field(name) = self.reasoning {
            message[name] = json!(REASONING);
        }
        let usage = self.usage();
        json!({"id": self.id, "object": "chat.completion", "created": self.created, "model": self.turn.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason()}],
            "x_nanogpt_pricing": pricing(&usage), "usage": usage})
    }

    fn frame(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.turn.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
    }

    fn frames(&self, with_usage: bool) -> Vec<Frame> {
        let mut deltas = vec![json!({"role": "assistant", "content": ""})];
        if let Reasoning::Field(name) = self.reasoning {
            deltas.extend(pieces(REASONING).map(|piece| json!({name: piece})));
        }
        match &self.turn.reply {
            Reply::Text(text) => {
                let text = self.lead() + text;
                deltas.extend(pieces(&text).map(|piece| json!({"content": piece})));
            }
            Reply::Call { name, arguments } => deltas.extend(call_deltas(name, arguments)),
        }
        let mut frames: Vec<_> = deltas.into_iter().map(|delta| Frame::Json(self.frame(delta, None))).collect();
        let usage = self.usage();
        let mut last = self.frame(json!({}), Some(self.finish_reason()));
        last["x_nanogpt_pricing"] = pricing(&usage);
        if with_usage {
            last["usage"] = usage;
        }
        frames.push(Frame::Json(last));
        frames
    }
}

fn call_deltas(name: &str, arguments: &str) -> Vec<Value> {
    let function = json!({"name": name, "arguments": ""});
    let first =
        json!({"tool_calls": [{"index": 0, "id": fresh_id("call_"), "type": "function", "function": function}]});
    let piece = |piece: String| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
    std::iter::once(first).chain(argument_pieces(arguments).map(piece)).collect()
}

/// The pieces in which the arguments of a call are streamed.
pub(super) fn argument_pieces(arguments: &str) -> impl Iterator<Item = String> {
    let letters: Vec<char> = arguments.chars().collect();
    let pieces: Vec<String> = letters.chunks(ARGUMENT_PIECE_CHARS).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

fn usage(prompt: usize, completion: usize, reasoning: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": reasoning}})
}

/// A price of 0.15 USD for a million tokens in and 0.60 USD out.
fn pricing(usage: &Value) -> Value {
    let count = |name: &str| usage[name].as_f64().unwrap_or_default();
    let cost = (count("prompt_tokens") * 0.15 + count("completion_tokens") * 0.60) / 1e6;
    json!({"amount": cost, "currency": "USD", "cost": cost, "costUsd": cost, "inputTokens": usage["prompt_tokens"],
        "outputTokens": usage["completion_tokens"], "paymentSource": "USD", "requestId": fresh_id("req_")})
}

pub(super) fn completions(body: &Value) -> Step {
    let prompt = body["prompt"].as_str().map_or_else(|| text_of(&body["prompt"][0]), str::to_owned);
    let chat = json!({"model": body["model"], "max_tokens": body["max_tokens"],
        "messages": [{"role": "user", "content": prompt}]});
    let turn = Turn::of(&chat);
    let Reply::Text(text) = &turn.reply else { return Step::json(500, Value::Null) };
    let finish_reason = if turn.cut_short { "length" } else { "stop" };
    let (id, created) = (fresh_id("cmpl-"), now());
    let document = |text: &str, finish_reason: Option<&str>| {
        json!({"id": id, "object": "text_completion", "created": created, "model": turn.model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason}]})
    };
    let usage = usage(turn.prompt_tokens, turn.completion_tokens(), 0);
    if body["stream"] != true {
        let mut whole = document(text, Some(finish_reason));
        whole["usage"] = usage;
        return Step::json(200, whole);
    }
    let mut frames: Vec<_> = pieces(text).map(|piece| Frame::Json(document(piece, None))).collect();
    let mut last = document("", Some(finish_reason));
    if body["stream_options"]["include_usage"] == true {
        last["usage"] = usage;
    }
    frames.push(Frame::Json(last));
    stream(frames, End::Done)
}

#[cfg(test)]
mod tests {
    use super::super::super::step::Kind;
    use super::*;

    fn frames(base: Base, body: Value) -> Vec<Value> {
        let Kind::Sse(frames) = chat(base, &body).kind else { panic!("a stream") };
        let json = |frame| if let Frame::Json(value) = frame { value } else { panic!("a JSON frame") };
        frames.into_iter().map(json).collect()
    }

    fn joined(frames: &[Value], name: &str) -> String {
        frames.iter().filter_map(|frame| frame["choices"][0]["delta"][name].as_str()).collect()
    }

    #[test]
    fn usage_rides_on_the_finish_frame_only_if_asked_and_the_price_always() {
        let body = json!({"model": "up/a", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        let plain = frames(Base::Plain, body.clone());
        let last = plain.last().unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert!(last.get("usage").is_none() && last["x_nanogpt_pricing"]["costUsd"].as_f64() > Some(0.0));
        let mut asked = body;
        asked["stream_options"] = json!({"include_usage": true});
        assert!(frames(Base::Plain, asked).last().unwrap()["usage"]["total_tokens"].as_u64() > Some(1));
    }

    #[test]
    fn reasoning_goes_where_the_base_wants_it() {
        let body = json!({"model": "up/a:thinking", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(joined(&frames(Base::Plain, body.clone()), "reasoning"), REASONING);
        assert_eq!(joined(&frames(Base::Legacy, body.clone()), "reasoning_content"), REASONING);
        assert!(joined(&frames(Base::Thinking, body), "content").starts_with("<think>"));
    }

    #[test]
    fn a_streamed_call_comes_in_pieces() {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}});
        let body =
            json!({"model": "m", "stream": true, "tools": [tool], "messages": [{"role": "user", "content": "go"}]});
        let frames = frames(Base::Plain, body);
        let call = |frame: &Value| {
            frame["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
        };
        let arguments: String = frames.iter().filter_map(call).collect();
        assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"a": "example", "b": 1}));
        assert_eq!(frames.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }
}
