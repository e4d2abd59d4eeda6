//! The responses API: a document, or the events that build it up, numbered, in the order SDKs insist on.
//!
//! As NanoGPT documents it: `data:` frames without `event:` lines, and `[DONE]` at the end. Nothing is stored.

use serde_json::{Value, json};

use super::super::step::{End, Frame, Step};
use super::chat::argument_pieces;
use super::fault::{Dialect, fault};
use super::turn::{Reply, Turn, pieces};
use super::{fresh_id, now, stream};

const OUTPUT_TOKENS_MIN: u64 = 16;

pub(super) fn create(body: &Value) -> Step {
    if body["max_output_tokens"].as_u64().is_some_and(|limit| limit < OUTPUT_TOKENS_MIN) {
        let message = format!("max_output_tokens must be at least {OUTPUT_TOKENS_MIN}.");
        return fault(Dialect::Responses, 400, Some(("invalid_parameter_value", &message)));
    }
    let turn = Turn::of(body);
    let (item, events) = output(&turn);
    let mut whole = document(&fresh_id("resp_"), body);
    let begun = whole.clone();
    whole["status"] = json!(if turn.cut_short { "incomplete" } else { "completed" });
    if turn.cut_short {
        whole["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    whole["output"] = json!([item]);
    whole["usage"] = usage(&turn);
    if body["background"] == true && body["stream"] != true {
        let mut queued = begun;
        queued["status"] = json!("queued");
        return Step::json(202, queued);
    }
    if body["stream"] != true {
        return Step::json(200, whole);
    }
    let last = if turn.cut_short { "response.incomplete" } else { "response.completed" };
    let first = ["response.created", "response.in_progress"].map(|name| json!({"type": name, "response": begun}));
    let last = json!({"type": last, "response": whole});
    let numbered = first.into_iter().chain(events).chain([last]).enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        Frame::Json(event)
    });
    stream(numbered.collect(), End::Done)
}

/// A response that has only begun.
fn document(id: &str, body: &Value) -> Value {
    let or = |name: &str, other: Value| if body[name].is_null() { other } else { body[name].clone() };
    json!({"id": id, "object": "response", "created_at": now(), "status": "in_progress", "model": body["model"],
        "output": [], "error": null, "incomplete_details": null, "usage": null,
        "instructions": body["instructions"], "metadata": or("metadata", json!({})),
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)), "temperature": or("temperature", json!(1.0)),
        "top_p": or("top_p", json!(1.0)), "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])), "text": or("text", json!({"format": {"type": "text"}})),
        "max_output_tokens": body["max_output_tokens"], "previous_response_id": body["previous_response_id"]})
}

fn usage(turn: &Turn) -> Value {
    let (input, output) = (turn.prompt_tokens, turn.completion_tokens());
    json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}})
}

/// The one output item, and the events from its appearance to its end.
fn output(turn: &Turn) -> (Value, Vec<Value>) {
    match &turn.reply {
        Reply::Text(text) => message(text),
        Reply::Call { name, arguments } => call(name, arguments),
    }
}

fn message(text: &str) -> (Value, Vec<Value>) {
    let id = fresh_id("msg_");
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let item = |status: &str, content: Value| json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content});
    let event = |kind: &str, name: &str, value: Value| json!({"type": kind, "item_id": id, "output_index": 0, "content_index": 0, name: value});
    let whole = item("completed", json!([part(text)]));
    let mut events = vec![
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([]))}),
        event("response.content_part.added", "part", part("")),
    ];
    let said = |kind: &str, name: &str, text: &str| {
        let mut event = event(kind, name, json!(text));
        event["logprobs"] = json!([]);
        event
    };
    events.extend(pieces(text).map(|piece| said("response.output_text.delta", "delta", piece)));
    events.push(said("response.output_text.done", "text", text));
    events.push(event("response.content_part.done", "part", part(text)));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": whole}));
    (whole, events)
}

fn call(name: &str, arguments: &str) -> (Value, Vec<Value>) {
    let (id, call_id) = (fresh_id("fc_"), fresh_id("call_"));
    let item = |status: &str, arguments: &str| json!({"type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": arguments, "status": status});
    let event =
        |kind: &str, field: &str, value: &str| json!({"type": kind, "item_id": id, "output_index": 0, field: value});
    let whole = item("completed", arguments);
    let mut events =
        vec![json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", "")})];
    let deltas = argument_pieces(arguments);
    events.extend(deltas.map(|piece| event("response.function_call_arguments.delta", "delta", &piece)));
    let mut done = event("response.function_call_arguments.done", "arguments", arguments);
    done["name"] = json!(name);
    events.push(done);
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": whole}));
    (whole, events)
}

pub(super) fn stored(id: &str) -> Step {
    let body = json!({"model": "standin", "input": "a stored response", "instructions": null});
    let turn = Turn::of(&body);
    let mut whole = document(id, &body);
    whole["status"] = json!("completed");
    whole["output"] = json!([output(&turn).0]);
    whole["usage"] = usage(&turn);
    Step::json(200, whole)
}

pub(super) fn deleted(id: &str) -> Step {
    Step::json(200, json!({"id": id, "object": "response.deleted", "deleted": true}))
}

pub(super) fn info() -> Step {
    Step::json(200, json!({"object": "info", "message": "POST here creates a response. (nanogate stand-in)"}))
}

#[cfg(test)]
mod tests {
    use super::super::super::step::Kind;
    use super::*;

    fn events(body: Value) -> Vec<Value> {
        let Kind::Sse(frames) = create(&body).kind else { panic!("a stream") };
        let json = |frame| if let Frame::Json(value) = frame { value } else { panic!("a JSON frame") };
        frames.into_iter().map(json).collect()
    }

    #[test]
    fn text_events_come_in_the_order_sdks_want() {
        let events = events(json!({"model": "m", "input": "hi", "stream": true}));
        let mut kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        kinds.dedup();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ]
        );
        assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
    }

    #[test]
    fn a_tool_becomes_a_function_call() {
        let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}});
        let events =
            events(json!({"model": "m", "input": "hi", "tools": [{"type": "web_search"}, tool], "stream": true}));
        let last = &events.last().unwrap()["response"];
        assert_eq!(last["output"][0]["type"], "function_call");
        assert_eq!(last["output"][0]["arguments"], "{}");
    }
}
