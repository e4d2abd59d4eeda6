//! Edits of a skimmed document: a list of changes to its top-level members, written out with everything else copied
//! byte for byte.
//!
//! Re-encoding would change number spelling, key order, escapes and unknown fields; copying ranges cannot. Nested edits
//! are a [`Patch`] each, or a [`Path`] for the deletions LiteLLM lets an operator configure. Values handed in are
//! trusted to be JSON.

mod patch;
mod path;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

pub use patch::{Patch, apply};
pub use path::{Path, STEPS_MAX};

use super::json::{Skim, quote_into, quoted};

/// Changes to one document, gathered in any order and made by [`Splice::finish`].
///
/// Indices are those of [`Skim::members`]. Of several new values or keys for one member the last counts, and a removed
/// member stays removed.
pub struct Splice<'a> {
    doc: &'a Bytes,
    skim: &'a Skim,
    edits: Vec<Edit<'a>>,
    /// Members to come behind the last, each as `,"key":value`.
    appended: Vec<u8>,
}

struct Edit<'a> {
    index: usize,
    change: Change<'a>,
}

enum Change<'a> {
    Remove,
    Value(Cow<'a, [u8]>),
    /// With its quotes.
    Key(Vec<u8>),
}

impl<'a> Splice<'a> {
    /// No changes yet; `skim` must be of this `doc`.
    pub fn new(doc: &'a Bytes, skim: &'a Skim) -> Self {
        Self { doc, skim, edits: Vec::new(), appended: Vec::new() }
    }

    /// Takes a member out together with one comma.
    ///
    /// # Panics
    /// Like every method with an index: when there is no such member.
    pub fn remove(&mut self, index: usize) {
        self.edit(index, Change::Remove);
    }

    /// Puts `value`, which must be JSON, in place of the member's value.
    pub fn replace(&mut self, index: usize, value: impl Into<Cow<'a, [u8]>>) {
        self.edit(index, Change::Value(value.into()));
    }

    /// Gives the member another key, given as plain text.
    pub fn rename(&mut self, index: usize, key: &str) {
        self.edit(index, Change::Key(quoted(key)));
    }

    /// Adds a member behind the last one; `key` is plain text, `value` must be JSON.
    pub fn append(&mut self, key: &str, value: &[u8]) {
        self.appended.push(b',');
        quote_into(&mut self.appended, key);
        self.appended.push(b':');
        self.appended.extend_from_slice(value);
    }

    /// Whether no change has been asked for.
    pub fn is_untouched(&self) -> bool {
        self.edits.is_empty() && self.appended.is_empty()
    }

    /// The edited document, in one allocation of its exact size; the same `Bytes` when nothing was to be changed.
    pub fn finish(mut self) -> Bytes {
        if self.is_untouched() {
            return self.doc.clone();
        }
        self.edits.sort_by_key(|edit| edit.index);
        let mut length = 0;
        self.write(|piece| length += piece.len());
        let mut edited = Vec::with_capacity(length);
        self.write(|piece| edited.extend_from_slice(piece));
        edited.into()
    }

    fn edit(&mut self, index: usize, change: Change<'a>) {
        let members = self.skim.members().len();
        assert!(index < members, "member {index} of {members}");
        self.edits.push(Edit { index, change });
    }

    /// Hands the edited document to `emit` piece by piece. The edits must be sorted.
    fn write(&self, mut emit: impl FnMut(&[u8])) {
        let members = self.skim.members();
        let (mut copied, mut removed) = (0, 0);
        for edits in self.edits.chunk_by(|one, next| one.index == next.index) {
            let index = edits[0].index;
            let (key, value) = (members[index].key_span(), members[index].value_span());
            if edits.iter().any(|edit| matches!(edit.change, Change::Remove)) {
                let cut = self.cut(index, removed == index);
                emit(&self.doc[copied..cut.start]);
                copied = cut.end;
                removed += 1;
                continue;
            }
            let (new_key, new_value) = last_changes(edits);
            if let Some(new_key) = new_key {
                emit(&self.doc[copied..key.start]);
                emit(new_key);
                copied = key.end;
            }
            if let Some(new_value) = new_value {
                emit(&self.doc[copied..value.start]);
                emit(new_value);
                copied = value.end;
            }
        }
        let end = members.last().map_or(self.skim.braces().start + 1, |last| last.value_span().end);
        emit(&self.doc[copied..end]);
        let comma = usize::from(removed == members.len()).min(self.appended.len());
        emit(&self.appended[comma..]);
        emit(&self.doc[end..]);
    }

    /// What goes when a member goes: the comma before it, or the one behind when no member before it is left.
    fn cut(&self, index: usize, is_first_left: bool) -> std::ops::Range<usize> {
        let members = self.skim.members();
        let (key, value) = (members[index].key_span(), members[index].value_span());
        match (is_first_left, members.get(index + 1)) {
            (false, _) => members[index - 1].value_span().end..value.end,
            (true, Some(next)) => key.start..next.key_span().start,
            (true, None) => key.start..value.end,
        }
    }
}

/// The key and value that one member ends up with, where they change.
fn last_changes<'e>(edits: &'e [Edit<'_>]) -> (Option<&'e [u8]>, Option<&'e [u8]>) {
    let (mut key, mut value) = (None, None);
    for edit in edits {
        match &edit.change {
            Change::Key(new) => key = Some(new.as_slice()),
            Change::Value(new) => value = Some(new.as_ref()),
            Change::Remove => {}
        }
    }
    (key, value)
}
