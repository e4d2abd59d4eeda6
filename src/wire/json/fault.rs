//! Why a document was refused and where: the place an editor would show, not only a byte offset.
//!
//! Faults carry no byte of the document, so they may be logged and sent back without leaking a prompt.

use std::fmt;

use super::Kind;

/// The first thing wrong with a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Bytes before the fault.
    pub offset: usize,
    /// Line of the fault, from 1. CR, LF and CRLF each end a line.
    pub line: u32,
    /// Column of the fault, from 1, in characters.
    pub column: u32,
    /// What is wrong, as a lower-case fragment.
    pub what: &'static str,
}

impl Fault {
    /// Finds line and column of `offset`; everything before it must be UTF-8, or the column counts too many.
    #[cold]
    pub(super) fn locate(doc: &[u8], offset: usize, what: &'static str) -> Self {
        let before = &doc[..offset.min(doc.len())];
        let (mut line, mut line_start) = (1, 0);
        for at in memchr::memchr2_iter(b'\n', b'\r', before) {
            // The CR of a CRLF ends no line of its own; its LF does.
            if before[at] == b'\n' || doc.get(at + 1) != Some(&b'\n') {
                line += 1;
                line_start = at + 1;
            }
        }
        let characters = before[line_start..].iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        Self { offset, line, column: u32::try_from(characters + 1).unwrap_or(u32::MAX), what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl std::error::Error for Fault {}

/// Why a body yields no members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SkimError {
    /// Not JSON, or JSON beyond a limit.
    Malformed(Fault),
    /// Sound JSON with something else than an object at the top.
    NotAnObject(Kind),
    /// No bytes, or only whitespace.
    Empty,
}

impl fmt::Display for SkimError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(fault) => fault.fmt(out),
            Self::NotAnObject(kind) => write!(out, "expected an object, found {}", kind.name()),
            Self::Empty => out.write_str("the document is empty"),
        }
    }
}

impl std::error::Error for SkimError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(fault) => Some(fault),
            Self::NotAnObject(_) | Self::Empty => None,
        }
    }
}
