//! Where the content of a stream begins: what comes before it says only that an answer is on its way.
//!
//! Announcements are: a role, empty texts, a usage report of its own (Chat); `message_start` and `ping` (Messages);
//! `response.created`, `.in_progress` and `.queued` (Responses). The editor of frames (`face`) finds them on its walk.

use super::dialect::Dialect;
use crate::wire::json::Kind;

/// Whether an event of this type announces an answer and holds nothing of it.
pub fn announces(dialect: Dialect, event_type: &str) -> bool {
    match dialect {
        Dialect::Chat => false,
        Dialect::Messages => matches!(event_type, "message_start" | "ping"),
        Dialect::Responses => matches!(event_type, "response.created" | "response.in_progress" | "response.queued"),
    }
}

/// Whether a sound value says nothing: null, a text of no length, a list or an object without anything in it.
pub fn is_empty(value: &[u8], kind: Kind) -> bool {
    match kind {
        Kind::Null => true,
        Kind::String => value.len() <= 2,
        Kind::Array | Kind::Object => value.len() <= 2 || value[1..value.len() - 1].trim_ascii().is_empty(),
        _ => false,
    }
}
