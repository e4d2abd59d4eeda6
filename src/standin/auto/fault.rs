//! Errors as NanoGPT words them: one table of statuses, and a shape for each dialect.

use serde_json::{Value, json};

use super::super::step::Step;

/// Whose shape an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Responses,
    Messages,
}

/// Status, type, code, message.
const FAULTS: [(u16, &str, &str, &str); 13] = [
    (400, "invalid_request_error", "invalid_parameter_value", "The request is not valid."),
    (401, "authentication_error", "invalid_api_key", "Invalid API key."),
    (402, "insufficient_quota", "insufficient_balance", "Insufficient balance."),
    (403, "permission_denied_error", "model_not_allowed", "This key may not use this model."),
    (404, "not_found_error", "model_not_found", "The model does not exist."),
    (408, "timeout_error", "timeout", "The request took too long."),
    (409, "conflict_error", "conflict", "The request conflicts with another."),
    (413, "invalid_request_error", "request_too_large", "The body is over 32 MiB."),
    (429, "rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded."),
    (500, "server_error", "internal_error", "Internal server error."),
    (502, "server_error", "bad_gateway", "The provider could not be reached."),
    (503, "service_unavailable", "all_fallbacks_failed", "No fallback services available for this model."),
    (504, "timeout_error", "timeout", "The provider took too long."),
];

/// An error answer, with the table's code and message unless told others.
pub(super) fn fault(dialect: Dialect, status: u16, said: Option<(&str, &str)>) -> Step {
    let (kind, code, message) = row(status);
    let (code, message) = said.unwrap_or((code, message));
    let message = format!("{message} (nanogate stand-in)");
    let body = match dialect {
        Dialect::Messages => json!({"type": "error", "error": {"type": kind, "message": message}}),
        Dialect::Responses => json!({"error": {"code": code, "message": message, "type": kind, "param": null}}),
        Dialect::Chat => json!({"error": {"message": message, "type": kind, "code": code, "param": null}}),
    };
    let step = Step::json(status, body);
    if status == 429 { step.header("retry-after", "1") } else { step }
}

/// An error for the middle of a stream that `model` has begun, as its frame of this number.
pub(super) fn late(dialect: Dialect, model: &Value, number: usize) -> String {
    let message = "The provider failed in mid-stream. (nanogate stand-in)";
    match dialect {
        Dialect::Chat => {
            let choice = json!({"index": 0, "delta": {}, "finish_reason": "error"});
            let error = json!({"status": 502, "message": message, "code": "provider_error"});
            let frame = json!({"id": super::fresh_id("chatcmpl-"), "object": "chat.completion.chunk",
                "created": super::now(), "model": model, "choices": [choice], "error": error});
            format!("data: {frame}\n\n")
        }
        Dialect::Responses => {
            let frame = json!({"type": "error", "code": "server_error", "message": message, "param": null,
                "sequence_number": number});
            format!("data: {frame}\n\n")
        }
        Dialect::Messages => {
            let frame = json!({"type": "error", "error": {"type": "overloaded_error", "message": message}});
            format!("event: error\ndata: {frame}\n\n")
        }
    }
}

/// A path that leads nowhere: a web page for 404, as NanoGPT's website gives, else JSON.
pub(super) fn lost(status: u16, path: &str) -> Step {
    if status != 404 {
        return fault(Dialect::Chat, status, Some(("method_not_allowed", "Nothing here takes this method.")));
    }
    let path: String = path.chars().filter(|letter| !matches!(letter, '<' | '>' | '&')).take(200).collect();
    let page =
        format!("<!DOCTYPE html><html><head><title>404</title></head><body><h1>404</h1><p>{path}</p></body></html>");
    Step::raw(404, "text/html; charset=utf-8", page)
}

fn row(status: u16) -> (&'static str, &'static str, &'static str) {
    let row = FAULTS.iter().find(|(of, ..)| *of == status).map(|(_, kind, code, message)| (*kind, *code, *message));
    row.unwrap_or(match status {
        500.. => ("server_error", "server_error", "The server failed."),
        _ => ("invalid_request_error", "invalid_request", "The request was refused."),
    })
}
