//! Errors as bytes, in each dialect, as whole bodies and as frames of a running stream; and the reading of errors
//! that upstreams answer in any shape.

use super::dialect::Dialect;
use super::error::{ApiError, UpstreamError, kind_of_status};
use crate::wire::json::{self, Kind, kind_of, members_of, quote_into, quoted};
use bytes::Bytes;

/// How much of a body that is no error envelope is shown, in characters.
const FOREIGN_TEXT_CHARS_MAX: usize = 500;

/// The body of an error answer.
pub fn body(dialect: Dialect, error: &ApiError, request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + error.message.len());
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            let (kind, code) = (quoted(error.row.kind), quoted_or_null(error.row.code));
            let param = error.param.as_deref().map_or_else(|| b"null".to_vec(), quoted);
            out.push(b'{');
            envelope(&mut out, &error.message, &kind, &param, &code);
            out.push(b'}');
        }
        Dialect::Messages => anthropic(&mut out, error.row.anthropic, &error.message, Some(request_id)),
    }
    out
}

/// An error of ours as the last frame of a stream.
pub fn frame(dialect: Dialect, error: &ApiError) -> Vec<u8> {
    let upstream = UpstreamError {
        message: error.message.clone(),
        kind: Some(quoted(error.row.kind).into()),
        param: None,
        code: Some(quoted(error.row.code).into()),
        complete: false,
    };
    frame_of_upstream(dialect, error.row.status, &upstream)
}

/// An upstream's error as the last frame of a stream: one pure error frame, which every client reads as an error
/// (reference/nanogpt-api.md section 8: mixed frames are taken for content by some).
///
/// The frame before it must have ended.
pub fn frame_of_upstream(dialect: Dialect, status: u16, error: &UpstreamError) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + error.message.len());
    let (kind, anthropic_kind) = kind_of_status(status);
    let kind = error.kind.clone().unwrap_or_else(|| quoted(kind).into());
    let param = error.param.clone().unwrap_or_else(|| "null".into());
    let code = error.code.clone().unwrap_or_else(|| quoted(&status.to_string()).into());
    match dialect {
        Dialect::Chat => {
            out.extend_from_slice(b"data: {");
            envelope(&mut out, &error.message, &kind, &param, &code);
            out.push(b'}');
        }
        Dialect::Responses => {
            // OpenAI's own event has its members at the top, openai-node looks for a member `error`; both are served.
            out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,\"code\":");
            out.extend_from_slice(&code);
            out.extend_from_slice(b",\"message\":");
            quote_into(&mut out, &error.message);
            out.extend_from_slice(b",\"param\":");
            out.extend_from_slice(&param);
            out.push(b',');
            envelope(&mut out, &error.message, &kind, &param, &code);
            out.push(b'}');
        }
        Dialect::Messages => {
            out.extend_from_slice(b"event: error\ndata: ");
            let own = error.kind.as_deref().filter(|_| error.complete).and_then(json::string);
            anthropic(&mut out, own.as_deref().unwrap_or(anthropic_kind), &error.message, None);
        }
    }
    out.extend_from_slice(b"\n\n");
    out
}

/// The body of an upstream's error in the client's dialect: the upstream's own words, type, param and code, with what
/// its body lacks filled in.
pub fn body_of_upstream(dialect: Dialect, status: u16, error: &UpstreamError) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + error.message.len());
    let (kind, anthropic_kind) = kind_of_status(status);
    match dialect {
        Dialect::Chat | Dialect::Responses => {
            let kind = error.kind.clone().unwrap_or_else(|| quoted(kind).into());
            let param = error.param.clone().unwrap_or_else(|| "null".into());
            let code = error.code.clone().unwrap_or_else(|| quoted(&status.to_string()).into());
            out.push(b'{');
            envelope(&mut out, &error.message, &kind, &param, &code);
            out.push(b'}');
        }
        Dialect::Messages => anthropic(&mut out, anthropic_kind, &error.message, None),
    }
    out
}

/// Reads an error answer of any shape: the OpenAI or Anthropic envelope, `{"error": "text"}`, a message at the top,
/// FastAPI's `detail`, HTML, plain text, nothing.
pub fn read_upstream(dialect: Dialect, status: u16, body: &[u8]) -> UpstreamError {
    let text = body.trim_ascii();
    let is_object = json::skim_answer(text, json::DEPTH_MAX_DEFAULT).is_ok();
    if let Some(error) = is_object.then(|| read_object(dialect, text)).flatten() {
        return error;
    }
    let message = foreign_text(text);
    let message = if message.is_empty() { format!("the upstream answered {status} without a body") } else { message };
    UpstreamError { message, ..UpstreamError::default() }
}

/// The error inside a JSON object, when it holds one. The object must be valid JSON.
pub fn read_object(dialect: Dialect, object: &[u8]) -> Option<UpstreamError> {
    let (mut error, mut message, mut detail, mut code, mut kind) = (None, None, None, None, None);
    for (key, value, value_kind) in members_of(object) {
        let value = &object[value];
        match &object[key] {
            b"\"error\"" => error = Some((value, value_kind)),
            b"\"message\"" if value_kind == Kind::String => message = json::string(value),
            b"\"detail\"" => detail = Some(value),
            b"\"code\"" => code = Some(Bytes::copy_from_slice(value)),
            b"\"type\"" if value_kind == Kind::String => kind = Some(value),
            _ => {}
        }
    }
    match error {
        Some((value, Kind::Object)) => return Some(read_envelope(dialect, value, kind)),
        Some((value, Kind::String)) => {
            let message = json::string(value)?.into_owned();
            return Some(UpstreamError { message, code, ..UpstreamError::default() });
        }
        _ => {}
    }
    if let Some(message) = message {
        return Some(UpstreamError { message: message.into_owned(), code, ..UpstreamError::default() });
    }
    let message = foreign_text(detail?);
    Some(UpstreamError { message, ..UpstreamError::default() })
}

fn read_envelope(dialect: Dialect, error: &[u8], outer_type: Option<&[u8]>) -> UpstreamError {
    let mut read = UpstreamError::default();
    let mut has_message = false;
    for (key, value, kind) in members_of(error) {
        let value = &error[value];
        match &error[key] {
            b"\"message\"" => {
                has_message = kind == Kind::String;
                read.message = json::string(value).map_or_else(|| foreign_text(value), |text| text.into_owned());
            }
            b"\"type\"" => read.kind = Some(Bytes::copy_from_slice(value)),
            b"\"param\"" => read.param = Some(Bytes::copy_from_slice(value)),
            b"\"code\"" => read.code = Some(Bytes::copy_from_slice(value)),
            _ => {}
        }
    }
    if read.message.is_empty() {
        read.message = foreign_text(error);
    }
    read.complete = has_message
        && match dialect {
            Dialect::Chat | Dialect::Responses => read.kind.is_some() && read.param.is_some() && read.code.is_some(),
            Dialect::Messages => outer_type == Some(b"\"error\"") && read.kind.is_some(),
        };
    for part in [&mut read.kind, &mut read.code] {
        // A null tells a client nothing; the status' own word does.
        if part.as_deref().is_some_and(|value| kind_of(value) == Some(Kind::Null)) && !read.complete {
            *part = None;
        }
    }
    read
}

fn foreign_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.char_indices().nth(FOREIGN_TEXT_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.into_owned(),
    }
}

fn envelope(out: &mut Vec<u8>, message: &str, kind: &[u8], param: &[u8], code: &[u8]) {
    out.extend_from_slice(b"\"error\":{\"message\":");
    quote_into(out, message);
    for (name, value) in [(&b",\"type\":"[..], kind), (b",\"param\":", param), (b",\"code\":", code)] {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

fn anthropic(out: &mut Vec<u8>, kind: &str, message: &str, request_id: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    quote_into(out, kind);
    out.extend_from_slice(b",\"message\":");
    quote_into(out, message);
    out.push(b'}');
    if let Some(id) = request_id {
        out.extend_from_slice(b",\"request_id\":");
        quote_into(out, id);
    }
    out.push(b'}');
}

fn quoted_or_null(text: &str) -> Vec<u8> {
    if text.is_empty() { b"null".to_vec() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error;
    use serde_json::{Value, json};

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("an error body is JSON")
    }

    #[test]
    fn ours_has_all_four_members_in_the_openai_envelope() {
        let error = ApiError::new(&error::BAD_REQUEST, "say \"messages\"").param("messages");
        assert_eq!(
            parsed(&body(Dialect::Chat, &error, "r")),
            json!({"error": {"message": "say \"messages\"", "type": "invalid_request_error", "param": "messages", "code": "400"}})
        );
        assert_eq!(
            parsed(&body(Dialect::Messages, &error, "r")),
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "say \"messages\""}, "request_id": "r"})
        );
    }

    #[test]
    fn upstream_words_type_param_and_code_are_kept() {
        let body = br#"{"error":{"message":"too hot","type":"x","param":"temperature","code":17}}"#;
        let error = read_upstream(Dialect::Chat, 400, body);
        assert!(error.complete);
        assert_eq!(
            parsed(&body_of_upstream(Dialect::Chat, 400, &error)),
            json!({"error": {"message": "too hot", "type": "x", "param": "temperature", "code": 17}})
        );
    }

    #[test]
    fn foreign_shapes_become_the_envelope() {
        let cases: &[(u16, &[u8], &str)] = &[
            (402, br#"{"error":"Insufficient balance","status":402}"#, "Insufficient balance"),
            (429, br#"{"code":"rate_limited","message":"slow down"}"#, "slow down"),
            (422, br#"{"detail":[{"loc":["body","x"],"msg":"field required"}]}"#, "field required"),
            (502, b"<html>Bad Gateway</html>", "Bad Gateway"),
            (500, b"boom", "boom"),
            (500, b"", "without a body"),
            (500, b"[1,2]", "[1,2]"),
        ];
        for (status, body, words) in cases {
            let error = read_upstream(Dialect::Chat, *status, body);
            assert!(error.message.contains(words), "{error:?}");
            let shown = parsed(&body_of_upstream(Dialect::Chat, *status, &error));
            for member in ["message", "type", "param", "code"] {
                assert!(shown["error"].get(member).is_some(), "{shown}");
            }
        }
    }

    #[test]
    fn a_long_foreign_body_is_cut_at_a_character() {
        let body = "é".repeat(700);
        assert_eq!(read_upstream(Dialect::Chat, 404, body.as_bytes()).message.chars().count(), 500);
    }

    #[test]
    fn frames_are_pure_and_end_in_a_blank_line() {
        let error = ApiError::new(&error::STREAM_TRUNCATED, "cut");
        let text = String::from_utf8(frame(Dialect::Chat, &error)).unwrap();
        let data = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        assert_eq!(parsed(data.as_bytes())["error"]["code"], "upstream_stream_truncated");
        let text = String::from_utf8(frame(Dialect::Messages, &error)).unwrap();
        let data = text.strip_prefix("event: error\ndata: ").unwrap();
        assert_eq!(parsed(data.trim_end().as_bytes())["error"]["type"], "api_error");
    }
}
