//! The members of a document's top-level object as byte ranges, and the check of a document without them.
//!
//! Keys are compared by what they spell, so `"\u006dodel"` is `model`, and of two equal keys the last one counts: a
//! client must not be able to show the gateway one value and the upstream another.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::scan::{Scanner, Stop};
use super::text::{spells, string};
use super::{Fault, Kind, SkimError};

/// Containers that may be open at once unless configured otherwise; the upstreams' own parsers stop near here.
pub const DEPTH_MAX_DEFAULT: u32 = 128;
/// Members a top-level object may have. Beyond it the list of ranges would outweigh the document it describes.
pub const MEMBERS_MAX: usize = 1 << 17;
/// Bytes a skimmed document may have, so that ranges fit 32 bits.
pub const DOCUMENT_BYTES_MAX: usize = u32::MAX as usize;

/// Below this many members, comparing each with each is cheaper than hashing.
const PAIRWISE_MEMBERS_MAX: usize = 32;

/// One member of the top-level object, as offsets into the document it was found in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The key with its quotes.
    pub key: Range<u32>,
    /// The exact bytes of the value, no blanks around them.
    pub value: Range<u32>,
    /// What the value is.
    pub kind: Kind,
    /// Whether the key contains a backslash, so that its bytes are not its text.
    pub key_escaped: bool,
}

impl Member {
    /// Where the key is, quotes included.
    pub fn key_span(&self) -> Range<usize> {
        self.key.start as usize..self.key.end as usize
    }

    /// Where the value is.
    pub fn value_span(&self) -> Range<usize> {
        self.value.start as usize..self.value.end as usize
    }
}

/// The members of a checked document in their order, and where its braces are. Every method that takes a document
/// means the one that was skimmed.
#[derive(Clone, Debug)]
pub struct Skim {
    members: Vec<Member>,
    braces: Range<u32>,
}

/// Checks a whole document and finds the members of its top-level object.
///
/// Up to `depth_max` containers may be open at once, the top-level object included.
pub fn skim(doc: &[u8], depth_max: u32) -> Result<Skim, SkimError> {
    skim_with(doc, Scanner::new(doc, depth_max))
}

/// The same for what an upstream answered: halves of surrogate pairs, which models do emit, are no fault.
pub fn skim_answer(doc: &[u8], depth_max: u32) -> Result<Skim, SkimError> {
    skim_with(doc, Scanner::lenient(doc, depth_max))
}

fn skim_with(doc: &[u8], scanner: Scanner<'_>) -> Result<Skim, SkimError> {
    check_text(doc).map_err(SkimError::Malformed)?;
    skim_text(doc, scanner).map_err(|refusal| match refusal {
        Refusal::Stop(stop) => SkimError::Malformed(Fault::locate(doc, stop.at, stop.what)),
        Refusal::NotAnObject(kind) => SkimError::NotAnObject(kind),
        Refusal::Empty => SkimError::Empty,
    })
}

/// Checks a whole document with any value at the top and says which kind it is. A document of nothing but blanks is a
/// fault.
pub fn validate(doc: &[u8], depth_max: u32) -> Result<Kind, Fault> {
    check_text(doc)?;
    let mut scanner = Scanner::new(doc, depth_max);
    scanner.blanks();
    let checked = scanner.value().and_then(|kind| scanner.end().map(|()| kind));
    checked.map_err(|stop| Fault::locate(doc, stop.at, stop.what))
}

impl Skim {
    /// The members in document order, duplicates included.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether the object has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// From the opening brace up to and including the closing one.
    pub fn braces(&self) -> Range<usize> {
        self.braces.start as usize..self.braces.end as usize
    }

    /// Index of the last member whose key spells `name`.
    ///
    /// Looks at every member; who wants many names is better off walking [`Skim::members`] once.
    pub fn find(&self, doc: &[u8], name: &str) -> Option<usize> {
        self.members.iter().rposition(|member| match doc.get(member.key_span()) {
            Some(key) if member.key_escaped => spells(key, name),
            Some(key) => key.len() == name.len() + 2 && &key[1..key.len() - 1] == name.as_bytes(),
            None => false,
        })
    }

    /// The text of a member's key, escapes decoded; empty when there is no such member.
    pub fn key<'d>(&self, doc: &'d [u8], index: usize) -> Cow<'d, str> {
        let Some(member) = self.members.get(index) else { return Cow::default() };
        let Some([b'"', inner @ .., b'"']) = doc.get(member.key_span()) else { return Cow::default() };
        match member.key_escaped {
            false => Cow::Borrowed(str::from_utf8(inner).unwrap_or_default()),
            true => string(&doc[member.key_span()]).unwrap_or_default(),
        }
    }

    /// The bytes of a member's value; empty when there is no such member.
    pub fn value<'d>(&self, doc: &'d [u8], index: usize) -> &'d [u8] {
        self.members.get(index).and_then(|member| doc.get(member.value_span())).unwrap_or_default()
    }

    /// Indices, in order, of the members that a later one with the same key overrides. Allocates nothing when there
    /// are few members and none is shadowed.
    pub fn shadowed(&self, doc: &[u8]) -> Vec<usize> {
        let bytes = |member: &Member| doc.get(member.key_span()).unwrap_or_default();
        // Decoding inside a pairwise comparison would decode a long hostile key once per pair.
        let plain = self.members.len() <= PAIRWISE_MEMBERS_MAX && !self.members.iter().any(|member| member.key_escaped);
        if plain {
            let overridden = |(index, member): (usize, &Member)| {
                let later = &self.members[index + 1..];
                later.iter().any(|other| bytes(other) == bytes(member)).then_some(index)
            };
            return self.members.iter().enumerate().filter_map(overridden).collect();
        }
        let mut seen = HashSet::with_capacity(self.members.len());
        let mut overridden: Vec<usize> =
            (0..self.members.len()).rev().filter(|&index| !seen.insert(self.key(doc, index))).collect();
        overridden.reverse();
        overridden
    }
}

/// [`SkimError`] before line and column are known.
enum Refusal {
    Stop(Stop),
    NotAnObject(Kind),
    Empty,
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What concerns the document as text: no byte order mark, UTF-8 throughout.
fn check_text(doc: &[u8]) -> Result<(), Fault> {
    if doc.starts_with(b"\xEF\xBB\xBF") {
        return Err(Fault::locate(doc, 0, "byte order mark before the document"));
    }
    if simdutf8::basic::from_utf8(doc).is_ok() {
        return Ok(());
    }
    let valid_bytes = simdutf8::compat::from_utf8(doc).map_or_else(|error| error.valid_up_to(), str::len);
    Err(Fault::locate(doc, valid_bytes, "invalid UTF-8"))
}

fn skim_text(doc: &[u8], mut scanner: Scanner<'_>) -> Result<Skim, Refusal> {
    if doc.len() > DOCUMENT_BYTES_MAX {
        return Err(Stop { at: 0, what: "document too large" }.into());
    }
    scanner.blanks();
    match scanner.peek() {
        None => return Err(Refusal::Empty),
        Some(b'{') => {}
        Some(_) => {
            let kind = scanner.value()?;
            scanner.end()?;
            return Err(Refusal::NotAnObject(kind));
        }
    }
    let open = scanner.at;
    let mut members = Vec::new();
    if !scanner.open_object()? {
        members.reserve(16);
        loop {
            members.push(member(&mut scanner)?);
            if !scanner.another_member()? {
                break;
            }
            if members.len() == MEMBERS_MAX {
                return Err(Stop { at: scanner.at, what: "too many members in the top-level object" }.into());
            }
        }
    }
    let braces = open as u32..scanner.at as u32;
    scanner.end()?;
    Ok(Skim { members, braces })
}

/// One member at the cursor. Offsets fit: the length of the document has been checked.
#[inline]
fn member(scanner: &mut Scanner<'_>) -> Result<Member, Stop> {
    let key_start = scanner.at as u32;
    let key = scanner.key()?;
    let value_start = scanner.at as u32;
    let kind = scanner.value()?;
    let value = value_start..scanner.at as u32;
    Ok(Member { key: key_start..key.end as u32, value, kind, key_escaped: key.escaped })
}
