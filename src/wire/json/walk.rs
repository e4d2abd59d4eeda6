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
    let mut walk = Walk::new(object);
    let inside = walk.enter(b'{');
    std::iter::from_fn(move || {
        let (key, kind) = walk.member().filter(|_| inside)?;
        Some((key, walk.skip()?, kind))
    })
}

/// The items of an array: value and kind; ranges within the given slice. Nothing when the slice is no array.
pub fn items_of(array: &[u8]) -> impl Iterator<Item = (Range<usize>, Kind)> {
    let mut walk = Walk::new(array);
    let inside = walk.enter(b'[');
    std::iter::from_fn(move || {
        let kind = walk.item().filter(|_| inside)?;
        Some((walk.skip()?, kind))
    })
}

/// What a value is, blanks before it skipped; `None` when no value starts there.
pub fn kind_of(value: &[u8]) -> Option<Kind> {
    let start = value.get(blanks_end(value, 0))?;
    Kind::starting_with(*start)
}

/// A place in a value, for who looks into several levels of it without reading any byte twice.
///
/// Its steps are no part of the loops that take them: a stream's first frame goes through many, and what counts there is how
/// much code is fetched.
///
/// At a value one either steps over it ([`Walk::skip`]) or into it ([`Walk::enter`]); inside a container one goes from
/// member to member or item to item until there is none, which is also the step out of it.
pub struct Walk<'d> {
    bytes: &'d [u8],
    at: usize,
}

impl<'d> Walk<'d> {
    /// At the value that `bytes` are.
    pub fn new(bytes: &'d [u8]) -> Self {
        Self { bytes, at: blanks_end(bytes, 0) }
    }

    /// Into the container at this place; false, and no step, when it is another value.
    pub fn enter(&mut self, opening: u8) -> bool {
        let is_one = self.bytes.get(self.at) == Some(&opening);
        self.at += usize::from(is_one);
        is_one
    }

    /// To the value of the next member: its key with the quotes, and what it is. None behind the last, and out of it.
    #[inline(never)]
    pub fn member(&mut self) -> Option<(Range<usize>, Kind)> {
        let key = self.next(b'}')?;
        let key = key..string_end(self.bytes, key)?;
        let colon = blanks_end(self.bytes, key.end);
        if self.bytes.get(colon) != Some(&b':') {
            return None;
        }
        self.at = blanks_end(self.bytes, colon + 1);
        Some((key, Kind::starting_with(*self.bytes.get(self.at)?)?))
    }

    /// To the next item, and what it is. None behind the last, and out of it.
    #[inline(never)]
    pub fn item(&mut self) -> Option<Kind> {
        let item = self.next(b']')?;
        Kind::starting_with(*self.bytes.get(item)?)
    }

    /// Over the value at this place; to the end of all bytes, when there is none.
    #[inline(never)]
    pub fn skip(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let kind = self.bytes.get(start).and_then(|first| Kind::starting_with(*first));
        let end = kind.and_then(|kind| value_end(self.bytes, start, kind));
        self.at = end.unwrap_or(self.bytes.len());
        Some(start..end?)
    }

    /// Over what separates two elements; over the end, when there is no other.
    fn next(&mut self, closing: u8) -> Option<usize> {
        let mut at = blanks_end(self.bytes, self.at);
        if self.bytes.get(at) == Some(&b',') {
            at = blanks_end(self.bytes, at + 1);
        }
        let ends = self.bytes.get(at) == Some(&closing);
        self.at = at + usize::from(ends);
        (!ends).then_some(at)
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
