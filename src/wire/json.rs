//! A JSON document checked whole and its top-level members found, in one pass and without building a tree.
//!
//! A gateway needs three or four members of a body that may hold megabytes of images; the rest must reach the upstream
//! byte for byte. So a document becomes a list of byte ranges and nothing is decoded before somebody asks. What passes
//! is RFC 8259 with four refusals a parser downstream would make anyway: invalid UTF-8, a byte order mark, surrogate
//! escapes without their other half, and nesting beyond a limit. The meaning of a member is not known here.

mod fault;
mod scan;
mod skim;
#[cfg(test)]
mod tests;
mod text;
mod walk;

pub use fault::{Fault, SkimError};
pub use skim::{DEPTH_MAX_DEFAULT, DOCUMENT_BYTES_MAX, MEMBERS_MAX, Member, Skim, skim, skim_answer, validate};
pub use text::{is_text, quote_into, quoted, spells, string, text_length};
pub use walk::{Walk, items_of, kind_of, members_of};

/// What a JSON value is, told from its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Kind {
    /// The kind of a value that starts with `byte`; `None` when no value does.
    #[inline]
    fn starting_with(byte: u8) -> Option<Self> {
        Some(match byte {
            b'{' => Self::Object,
            b'[' => Self::Array,
            b'"' => Self::String,
            b'-' | b'0'..=b'9' => Self::Number,
            b't' => Self::True,
            b'f' => Self::False,
            b'n' => Self::Null,
            _ => return None,
        })
    }

    /// The kind with its article, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
        }
    }
}
