//! The grammar: a cursor that walks over values and refuses what RFC 8259 refuses.
//!
//! It keeps one bit per open container instead of a call frame, so a hundred thousand brackets cost neither stack nor
//! time. It does not look at UTF-8; its callers have done so once for the whole document.

use super::Kind;
use super::text::{Halves, escape, plain_run};

/// A cursor in a document. Every method leaves `at` behind what it has accepted, or says where and why it stopped.
pub(super) struct Scanner<'d> {
    doc: &'d [u8],
    pub(super) at: usize,
    open: Nesting,
    depth_max: u32,
    halves: Halves,
}

/// Where a scan stopped and why; becomes a `Fault` once somebody pays for line and column.
pub(super) struct Stop {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// A key that has been read, with its colon and the blanks around it.
pub(super) struct Key {
    /// Behind the closing quote.
    pub(super) end: usize,
    pub(super) escaped: bool,
}

impl<'d> Scanner<'d> {
    /// Starts at the first byte; up to `depth_max` containers may be open at once.
    pub(super) fn new(doc: &'d [u8], depth_max: u32) -> Self {
        Self { doc, at: 0, open: Nesting::default(), depth_max, halves: Halves::Refused }
    }

    /// The same, letting halves of surrogate pairs pass.
    pub(super) fn lenient(doc: &'d [u8], depth_max: u32) -> Self {
        Self { halves: Halves::Replaced, ..Self::new(doc, depth_max) }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.doc.get(self.at).copied()
    }

    /// Skips spaces, tabs and line ends.
    #[inline]
    pub(super) fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
            self.indentation();
        }
    }

    /// Pretty printers indent with many spaces, so those go eight at a time.
    #[inline]
    fn indentation(&mut self) {
        while self.doc.get(self.at..self.at + 8).is_some_and(|word| word == b"        ") {
            self.at += 8;
        }
    }

    /// The end of the document: nothing but blanks may be left.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.blanks();
        if self.at == self.doc.len() { Ok(()) } else { Err(self.stop("unexpected text after the document")) }
    }

    /// One whole value, however deep; `at` must be on its first byte.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Kind, Stop> {
        let floor = self.open.depth;
        let kind = self.element()?;
        while self.open.depth > floor {
            self.blanks();
            match (self.peek(), self.open.innermost_is_object()) {
                (Some(b','), in_object) => {
                    self.at += 1;
                    self.blanks();
                    if in_object {
                        self.key()?;
                    }
                    self.element()?;
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                (_, true) => return Err(self.stop("expected a comma or a closing brace")),
                (_, false) => return Err(self.stop("expected a comma or a closing bracket")),
            }
        }
        Ok(kind)
    }

    /// Opens containers until something is complete: a scalar or an empty container. Answers what was met first.
    #[inline]
    fn element(&mut self) -> Result<Kind, Stop> {
        let kind = self.next_kind()?;
        let mut next = kind;
        loop {
            match next {
                Kind::String => self.string().map(|_| ())?,
                Kind::Object => {
                    if !self.open_object()? {
                        self.key()?;
                        next = self.next_kind()?;
                        continue;
                    }
                }
                Kind::Array => {
                    self.open(false)?;
                    if self.peek() != Some(b']') {
                        next = self.next_kind()?;
                        continue;
                    }
                    self.close();
                }
                Kind::Number => self.number()?,
                Kind::True => self.literal(b"true")?,
                Kind::False => self.literal(b"false")?,
                Kind::Null => self.literal(b"null")?,
            }
            return Ok(kind);
        }
    }

    #[inline]
    fn next_kind(&self) -> Result<Kind, Stop> {
        self.peek().and_then(Kind::starting_with).ok_or_else(|| self.stop("expected a value"))
    }

    /// Steps into the object at the cursor; true when it was empty and is closed again.
    #[inline]
    pub(super) fn open_object(&mut self) -> Result<bool, Stop> {
        self.open(true)?;
        let empty = self.peek() == Some(b'}');
        if empty {
            self.close();
        }
        Ok(empty)
    }

    /// Steps over an opening bracket and the blanks behind it.
    #[inline]
    fn open(&mut self, object: bool) -> Result<(), Stop> {
        if self.open.depth >= self.depth_max {
            return Err(self.stop("nested too deeply"));
        }
        self.open.push(object);
        self.at += 1;
        self.blanks();
        Ok(())
    }

    /// Steps over a closing bracket.
    #[inline]
    fn close(&mut self) {
        self.at += 1;
        self.open.pop();
    }

    /// A comma with the blanks around it, or the closing brace; true when another member follows.
    #[inline]
    pub(super) fn another_member(&mut self) -> Result<bool, Stop> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.blanks();
                Ok(true)
            }
            Some(b'}') => {
                self.close();
                Ok(false)
            }
            _ => Err(self.stop("expected a comma or a closing brace")),
        }
    }

    /// A key, its colon and the blanks up to its value.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Key, Stop> {
        match self.peek() {
            Some(b'"') => {}
            Some(b'}') => return Err(self.stop("trailing comma before a closing brace")),
            _ => return Err(self.stop("expected a key in double quotes")),
        }
        let escaped = self.string()?;
        let end = self.at;
        self.blanks();
        if self.peek() != Some(b':') {
            return Err(self.stop("expected a colon after a key"));
        }
        self.at += 1;
        self.blanks();
        Ok(Key { end, escaped })
    }

    /// A string with its quotes; `at` must be on the opening one. True when it contains an escape.
    #[inline]
    fn string(&mut self) -> Result<bool, Stop> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_run(self.doc.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += escape(&self.doc[self.at..], self.halves).map_err(|what| Stop { at: self.at, what })?.1;
                }
                _ => return Err(self.stop("control character in a string")),
            }
        }
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Result<(), Stop> {
        if !self.doc[self.at..].starts_with(word) {
            return Err(self.stop("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return Err(self.stop("leading zero in a number"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    #[inline]
    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.stop("expected a digit in a number")) } else { Ok(()) }
    }

    /// Stops here; a document that is over stops for that reason, whatever was expected.
    #[cold]
    fn stop(&self, what: &'static str) -> Stop {
        let what = if self.at < self.doc.len() { what } else { "unexpected end of the document" };
        Stop { at: self.at, what }
    }
}

/// Which containers are open, outermost first: one bit each, set for an object. The innermost 64 sit in a register and
/// only deeper documents touch the heap.
#[derive(Default)]
struct Nesting {
    depth: u32,
    innermost: u64,
    outer: Vec<u64>,
}

impl Nesting {
    #[inline]
    fn push(&mut self, object: bool) {
        if self.depth != 0 && self.depth.is_multiple_of(u64::BITS) {
            self.outer.push(self.innermost);
        }
        self.innermost = self.innermost << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        self.innermost >>= 1;
        if self.depth != 0 && self.depth.is_multiple_of(u64::BITS) {
            self.innermost = self.outer.pop().unwrap_or_default();
        }
    }

    #[inline]
    fn innermost_is_object(&self) -> bool {
        self.innermost & 1 == 1
    }
}
