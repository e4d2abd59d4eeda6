//! Which fields an upstream's 422 complains about, so that the request can be sent once more without them.
//!
//! LiteLLM reads `error.message`, an object or a string that holds one, with FastAPI's `detail` in it. FastAPI's plain
//! answer, which LiteLLM does not understand and repeats the same body for, is read here too.

use serde_json::Value;

/// More would be no repair any more.
const FIELDS_MAX: usize = 16;
/// Without these there is no request left, or another one than the client is waiting for.
const NEEDED: &[&str] = &["model", "messages", "prompt", "input", "stream"];

/// Names of the top-level body fields that a 422 answer names; none when there is nothing that can be left out.
pub fn fields_named_by_422(answer: &[u8]) -> Vec<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return Vec::new() };
    let mut fields = Vec::new();
    collect(&answer["detail"], &mut fields);
    match &answer["error"]["message"] {
        Value::String(text) => {
            if let Ok(message) = serde_json::from_str::<Value>(text) {
                collect(&message["detail"], &mut fields);
            }
        }
        message => collect(&message["detail"], &mut fields),
    }
    fields
}

fn collect(detail: &Value, fields: &mut Vec<String>) {
    for entry in detail.as_array().into_iter().flatten() {
        let Some([Value::String(place), Value::String(field)]) = entry["loc"].as_array().map(Vec::as_slice) else {
            continue;
        };
        let new = place == "body" && !NEEDED.contains(&field.as_str()) && !fields.contains(field);
        if new && fields.len() < FIELDS_MAX {
            fields.push(field.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_all_three_places() {
        for answer in [
            r#"{"error":{"message":{"detail":[{"loc":["body","top_k"],"msg":"no"}]}}}"#,
            r#"{"error":{"message":"{\"detail\":[{\"loc\":[\"body\",\"top_k\"]}]}","code":422}}"#,
            r#"{"detail":[{"loc":["body","top_k"],"msg":"extra fields not permitted"},{"loc":["body","top_k"]}]}"#,
        ] {
            assert_eq!(fields_named_by_422(answer.as_bytes()), ["top_k"], "{answer}");
        }
    }

    #[test]
    fn what_cannot_be_left_out_is_not_named() {
        for answer in [
            "",
            "not json",
            "[]",
            r#"{"detail":"Unprocessable"}"#,
            r#"{"error":"bad field"}"#,
            r#"{"error":{"message":"Unprocessable"}}"#,
            r#"{"detail":[{"loc":["body","messages"]},{"loc":["body","stream"]}]}"#,
            r#"{"detail":[{"loc":["body"]},{"loc":["query","x"]},{"loc":["body","tools",0]},{"loc":["body",1]},7]}"#,
        ] {
            assert!(fields_named_by_422(answer.as_bytes()).is_empty(), "{answer}");
        }
    }
}
