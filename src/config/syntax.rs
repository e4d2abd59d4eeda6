//! A parser's complaint -> a sentence that helps, and how names and values are shown in any message.
//!
//! The parser speaks of "block mappings" and "simple keys"; a person has a tab or a missing quotation mark. It knows
//! YAML's traps and refuses to know the file's keys.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::fault::{Fault, Level, Place};

/// The one fault of a file that is not YAML.
pub(super) fn explain(error: &ScanError, text: &str) -> Fault {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let marker = error.marker();
    let place = Place { line: number(marker.line().max(1)), column: number(marker.col() + 1) };
    if let Some(place) = tab(text, place.line) {
        let message = "a tab is used as indentation; YAML allows spaces only".to_owned();
        return Fault { place, level: Level::Error, message };
    }
    let message = match hint(error.kind()) {
        Some(hint) => format!("not valid YAML: {hint}"),
        None => format!("not valid YAML: {}", error.info()),
    };
    Fault { place, level: Level::Error, message }
}

/// A name or a value in backticks: shortened, without control characters, and never when it looks like a key.
pub(super) fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "an empty text".to_owned();
    }
    if looks_secret(text) {
        return "that value (not shown, it looks like a key)".to_owned();
    }
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// Better not shown: the prefixes providers give their keys, or a long run of letters and digits.
pub(super) fn looks_secret(text: &str) -> bool {
    let keyed = ["sk-", "sk_", "gsk_", "xai-", "pplx-", "Bearer ", "AIza", "ghp_", "hf_"];
    let run = |part: &str| part.len() >= 32 && part.chars().any(|c| c.is_ascii_digit());
    let starts = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    keyed.iter().any(|prefix| text.match_indices(prefix).any(|(at, _)| starts(at)))
        || text.split(|c: char| !c.is_ascii_alphanumeric()).any(run)
}

/// The first line, up to the one complained about, that is indented with a tab.
fn tab(text: &str, last: u32) -> Option<Place> {
    for (line, content) in (1..=last).zip(text.lines()) {
        let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
        let comment = content[indent..].is_empty() || content[indent..].starts_with('#');
        if let (Some(column), false) = (content[..indent].find('\t'), comment) {
            return Some(Place { line, column: u32::try_from(column + 1).unwrap_or(u32::MAX) });
        }
    }
    None
}

fn hint(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "`key: value` cannot stand here; the line is indented differently from its neighbours, \
             or a value with `: ` in it needs quotation marks"
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            "this line is indented differently from its neighbours; the keys of one entry start in one column"
        }
        ErrorKind::UnclosedQuotedScalar => "a quotation mark is opened here and never closed",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            "a `{` or `[` before this place is not closed, or a `,` is missing between two members"
        }
        ErrorKind::UnknownAnchor => {
            "this alias (`*name`) has no anchor (`&name`) before it; to write a `*`, put the value in quotation marks"
        }
        ErrorKind::MissingAnchorOrAliasName => {
            "a value that starts with `*` or `&` needs quotation marks, for example \"*\""
        }
        ErrorKind::RecursionLimitExceeded => "lists and mappings nest too deeply here (64 levels are the limit)",
        ErrorKind::UnexpectedCharacter { .. } => "a value that starts with this character needs quotation marks",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_are_shown_short_and_never_when_they_look_like_keys() {
        assert_eq!(quoted("drop_param"), "`drop_param`");
        assert_eq!(quoted(&"long name ".repeat(20)).chars().count(), 83);
        assert!(!quoted("sk-nano-123").contains("123"));
        assert!(!quoted("prefix 0123456789abcdef0123456789abcdef").contains("abc"));
        assert_eq!(quoted("task-list"), "`task-list`");
        assert!(!quoted("a\u{1b}[31mb").contains('\u{1b}'));
    }
}
