//! Looking inside a value that is already known to be sound: the members of a nested object, the items of an array.
//!
//! Unlike the scanner this trusts its input, which makes it quick and lets it be handed any slice of a checked
//! document. On bytes that are no JSON it ends early; it neither panics nor loops.

use std::ops::Range;

use super::Kind;
use super::text::plain_run;

/// The members of an object: key with its quotes, value, kind; ranges within the given slice. Nothing when the slice
/// is no object.
pub fn members_of(object: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>, Kind)> {
    let mut walk = Walk::into(object, b'{');
    std::iter::from_fn(move || walk.member())
}

/// The items of an array: value and kind; ranges within the given slice. Nothing when the slice is no array.
pub fn items_of(array: &[u8]) -> impl Iterator<Item = (Range<usize>, Kind)> {
    let mut walk = Walk::into(array, b'[');
    std::iter::from_fn(move || walk.item())
}

/// What a value is, blanks before it skipped; `None` when no value starts there.
pub fn kind_of(value: &[u8]) -> Option<Kind> {
    let start = value.get(blanks_end(value, 0))?;
    Kind::starting_with(*start)
}

/// A place in front of the next member or item; at the end of the bytes when there is none.
struct Walk<'d> {
    bytes: &'d [u8],
    at: usize,
}

impl<'d> Walk<'d> {
    fn into(bytes: &'d [u8], opening: u8) -> Self {
        let start = blanks_end(bytes, 0);
        let at = if bytes.get(start) == Some(&opening) { blanks_end(bytes, start + 1) } else { bytes.len() };
        Self { bytes, at }
    }

    fn member(&mut self) -> Option<(Range<usize>, Range<usize>, Kind)> {
        let key = self.at..string_end(self.bytes, self.at)?;
        let colon = blanks_end(self.bytes, key.end);
        if self.bytes.get(colon) != Some(&b':') {
            return None;
        }
        self.at = blanks_end(self.bytes, colon + 1);
        let (value, kind) = self.item()?;
        Some((key, value, kind))
    }

    fn item(&mut self) -> Option<(Range<usize>, Kind)> {
        let kind = Kind::starting_with(*self.bytes.get(self.at)?)?;
        let end = value_end(self.bytes, self.at, kind)?;
        let value = self.at..end;
        let comma = blanks_end(self.bytes, end);
        let more = self.bytes.get(comma) == Some(&b',');
        self.at = if more { blanks_end(self.bytes, comma + 1) } else { self.bytes.len() };
        Some((value, kind))
    }
}

fn blanks_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
    blanks.map_or(bytes.len(), |blanks| at + blanks)
}

/// Behind the value of this kind that starts at `at`.
fn value_end(bytes: &[u8], at: usize, kind: Kind) -> Option<usize> {
    match kind {
        Kind::String => string_end(bytes, at),
        Kind::Object | Kind::Array => container_end(bytes, at),
        Kind::Number | Kind::True | Kind::False | Kind::Null => {
            let rest = &bytes[at..];
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            Some(at + rest.iter().position(ends).unwrap_or(rest.len()))
        }
    }
}

/// Behind the bracket that closes the one at `at`: brackets outside strings are counted, their kinds are trusted.
fn container_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Behind the closing quote of the string at `at`; `None` when there is no string or it has no end.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    at += 1;
    loop {
        at += plain_run(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
