//! Bytes and grammar: JSON skimmed and spliced, server-sent events split into frames, chunks told apart. Knows no
//! connections and no provider.
//!
//! Everything here works on ranges of the bytes that came in, so that what nobody asked to change leaves as it arrived.
//! Nothing here recurses with the depth of its input, and no input makes it panic.

pub mod chunked;
pub mod head;
pub mod json;
pub mod splice;
pub mod sse;
