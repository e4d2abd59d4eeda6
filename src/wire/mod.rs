//! Bytes and grammar: JSON skimmed and spliced, server-sent events split into frames. Knows no HTTP and no provider.
