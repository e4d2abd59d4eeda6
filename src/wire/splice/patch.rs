//! Byte ranges put in place of others, anywhere in a document. Knows nothing of JSON.

use std::ops::Range;

use bytes::Bytes;

/// New bytes for a range of a document; an empty range inserts, empty bytes delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// What goes, as offsets into the unpatched document.
    pub range: Range<usize>,
    /// What comes in its place.
    pub bytes: Bytes,
}

/// The document with all patches made, in one allocation. Sorts the patches by where they start.
///
/// A patch that reaches outside the document or into an earlier patch is left out: half a patch would be worse.
pub fn apply(doc: &[u8], patches: &mut [Patch]) -> Vec<u8> {
    patches.sort_by_key(|patch| patch.range.start);
    let added: usize = patches.iter().map(|patch| patch.bytes.len()).sum();
    let mut patched = Vec::with_capacity(doc.len() + added);
    let mut copied = 0;
    for Patch { range, bytes } in patches {
        if range.start < copied || range.end < range.start || range.end > doc.len() {
            continue;
        }
        patched.extend_from_slice(&doc[copied..range.start]);
        patched.extend_from_slice(bytes);
        copied = range.end;
    }
    patched.extend_from_slice(&doc[copied..]);
    patched
}
