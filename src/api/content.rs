//! Where the content of a stream begins: what comes before it says only that an answer is on its way.

use super::dialect::Dialect;
use crate::wire::json::{self, Kind, items_of, members_of};

/// Whether the data of a frame holds content, or anything else than the announcement of an answer.
///
/// Announcements are: a role, empty texts, a usage report of its own (Chat); `message_start` and `ping` (Messages);
/// `response.created`, `.in_progress` and `.queued` (Responses). Data that is no object counts as content.
pub fn begins(dialect: Dialect, data: &[u8]) -> bool {
    match dialect {
        Dialect::Chat => begins_chat(data),
        Dialect::Messages => !matches!(event_type(data).as_deref(), Some("message_start" | "ping")),
        Dialect::Responses => !matches!(
            event_type(data).as_deref(),
            Some("response.created" | "response.in_progress" | "response.queued")
        ),
    }
}

fn event_type(data: &[u8]) -> Option<String> {
    let (_, value, _) = members_of(data).find(|(key, _, _)| &data[key.clone()] == b"\"type\"")?;
    json::string(&data[value]).map(|text| text.into_owned())
}

fn begins_chat(data: &[u8]) -> bool {
    let Some((_, choices, _)) = members_of(data).find(|(key, _, _)| &data[key.clone()] == b"\"choices\"") else {
        return true;
    };
    let choices = &data[choices];
    items_of(choices).any(|(item, _)| {
        let choice = &choices[item];
        members_of(choice).any(|(key, value, kind)| match &choice[key] {
            b"\"delta\"" => speaks(&choice[value]),
            b"\"text\"" => !is_empty(&choice[value], kind),
            b"\"finish_reason\"" => kind != Kind::Null,
            _ => false,
        })
    })
}

/// Whether a delta says more than who speaks.
fn speaks(delta: &[u8]) -> bool {
    members_of(delta).any(|(key, value, kind)| &delta[key] != b"\"role\"" && !is_empty(&delta[value], kind))
}

fn is_empty(value: &[u8], kind: Kind) -> bool {
    match kind {
        Kind::Null => true,
        Kind::String => value == b"\"\"",
        Kind::Array => items_of(value).next().is_none(),
        Kind::Object => members_of(value).next().is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_empty_texts_announce_and_everything_else_is_content() {
        for (data, content) in [
            (r#"{"choices":[{"delta":{"role":"assistant"},"finish_reason":null}]}"#, false),
            (r#"{"choices":[{"delta":{"role":"assistant","content":"","tool_calls":[],"refusal":null}}]}"#, false),
            (r#"{"choices":[{"delta":{}}]}"#, false),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
            (r#"{"choices":[{"text":"","finish_reason":null}]}"#, false),
            (r#"{"choices":[{"text":"a"}]}"#, true),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, true),
            (r#"{"choices":[{"delta":{"reasoning":"a","content":""}}]}"#, true),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
            (r#"{"choices":[{"delta":{}},{"index":1,"delta":{"content":"b"}}]}"#, true),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, true),
            (r#"{"b64_json":"..."}"#, true),
        ] {
            assert_eq!(begins(Dialect::Chat, data.as_bytes()), content, "{data}");
        }
    }

    #[test]
    fn the_other_dialects_name_their_events() {
        for (dialect, kind, content) in [
            (Dialect::Messages, "message_start", false),
            (Dialect::Messages, "ping", false),
            (Dialect::Messages, "content_block_start", true),
            (Dialect::Responses, "response.created", false),
            (Dialect::Responses, "response.in_progress", false),
            (Dialect::Responses, "response.output_item.added", true),
        ] {
            let data = format!(r#"{{"x":1,"type":"{kind}"}}"#);
            assert_eq!(begins(dialect, data.as_bytes()), content, "{kind}");
        }
        assert!(begins(Dialect::Responses, b"{}"));
    }
}
