//! Anthropic messages: a document or named events, and the counting of tokens.

use serde_json::{Value, json};

use super::super::step::{End, Frame, Step};
use super::chat::argument_pieces;
use super::turn::{Reply, Turn, pieces};
use super::{fresh_id, stream};

pub(super) fn create(body: &Value) -> Step {
    let turn = Turn::of(body);
    if body["stream"] == true { stream(events(&turn), End::Clean) } else { Step::json(200, document(&turn)) }
}

pub(super) fn count(body: &Value) -> Step {
    Step::json(200, json!({"input_tokens": Turn::of(body).prompt_tokens}))
}

fn stop_reason(turn: &Turn) -> &'static str {
    match turn.reply {
        Reply::Call { .. } => "tool_use",
        Reply::Text(_) if turn.cut_short => "max_tokens",
        Reply::Text(_) => "end_turn",
    }
}

fn message(turn: &Turn, content: Value, stop_reason: Option<&str>, output_tokens: usize) -> Value {
    json!({"id": fresh_id("msg_"), "type": "message", "role": "assistant", "model": turn.model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": turn.prompt_tokens, "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}})
}

fn document(turn: &Turn) -> Value {
    let block = match &turn.reply {
        Reply::Text(text) => json!({"type": "text", "text": text}),
        Reply::Call { name, arguments } => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": fresh_id("toolu_"), "name": name, "input": input})
        }
    };
    message(turn, json!([block]), Some(stop_reason(turn)), turn.completion_tokens())
}

fn events(turn: &Turn) -> Vec<Frame> {
    let (block, deltas): (Value, Vec<Value>) = match &turn.reply {
        Reply::Text(text) => (
            json!({"type": "text", "text": ""}),
            pieces(text).map(|piece| json!({"type": "text_delta", "text": piece})).collect(),
        ),
        Reply::Call { name, arguments } => (
            json!({"type": "tool_use", "id": fresh_id("toolu_"), "name": name, "input": {}}),
            argument_pieces(arguments)
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect(),
        ),
    };
    let mut events = vec![
        json!({"type": "message_start", "message": message(turn, json!([]), None, 0)}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "ping"}),
    ];
    events.extend(deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": 0, "delta": delta})));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(turn), "stop_sequence": null},
            "usage": {"output_tokens": turn.completion_tokens()}}),
        json!({"type": "message_stop"}),
    ]);
    events.iter().map(named).collect()
}

fn named(event: &Value) -> Frame {
    let name = event["type"].as_str().unwrap_or_default();
    Frame::Text(format!("event: {name}\ndata: {event}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(tools: Value) -> Turn {
        let messages = json!([{"role": "user", "content": "hi"}]);
        Turn::of(&json!({"model": "m", "max_tokens": 100, "messages": messages, "tools": tools}))
    }

    #[test]
    fn events_are_named_and_ordered() {
        let names: Vec<_> = events(&turn(Value::Null))
            .iter()
            .map(|frame| {
                let Frame::Text(text) = frame else { panic!("a verbatim frame") };
                text.lines().next().unwrap().trim_start_matches("event: ").to_owned()
            })
            .collect();
        assert_eq!(names[..4], ["message_start", "content_block_start", "ping", "content_block_delta"]);
        assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    }

    #[test]
    fn a_tool_is_used() {
        let tools = json!([{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}}]);
        let whole = document(&turn(tools));
        assert_eq!((&whole["stop_reason"], &whole["content"][0]["input"]), (&json!("tool_use"), &json!({"a": true})));
    }
}
