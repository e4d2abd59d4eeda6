//! JSON strings: where a run of plain characters ends, what an escape means, and text put back into quotes.
//!
//! Most bytes of a body are inside strings, so the search for the end of a run decides the speed of the whole room. It
//! tests eight bytes at a time for short strings and uses vector instructions for long ones.

use std::borrow::Cow;

/// Bytes of a run looked at word by word before the search settles on blocks.
const SHORT_RUN_BYTES: usize = 32;
/// Small enough to stay in the nearest cache for its second look, and to be looked at again when a control character is
/// in it; large enough to fill vector registers for long.
const BLOCK_BYTES: usize = 4096;

/// The text of a string value, given with its quotes; borrowed when nothing in it is escaped.
///
/// `None` when the slice is not one string: no quotes, a quote inside, a bad escape, invalid UTF-8. Raw control
/// characters are let through.
pub fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = simdutf8::basic::from_utf8(inner).ok()?;
    match memchr::memchr2(b'"', b'\\', inner) {
        None => Some(Cow::Borrowed(text)),
        Some(_) => unescaped(text).map(Cow::Owned),
    }
}

/// Whether a string, given with its quotes, spells `name` once its escapes are decoded. Allocates only for a string
/// with escapes that could be as long as `name`.
pub fn spells(quoted: &[u8], name: &str) -> bool {
    let Some(inner) = quoted.get(1..quoted.len().saturating_sub(1)) else { return false };
    if inner.len() == name.len() {
        // An escape is longer than what it stands for, so equal lengths leave no room for one.
        return inner == name.as_bytes() && !inner.contains(&b'\\');
    }
    // Six bytes (`\u0061`) is the most that one byte of text can take, so longer ones need no decoding.
    let may_spell = inner.len() > name.len() && inner.len() <= name.len() * 6;
    may_spell && memchr::memchr(b'\\', inner).is_some() && string(quoted).is_some_and(|text| text == name)
}

/// `text` as a JSON string with its quotes.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    quote_into(&mut out, text);
    out
}

/// Appends `text` as a JSON string with its quotes. Only what must be escaped is.
pub fn quote_into(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, from_special) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        let Some((&special, after)) = from_special.split_first() else { break };
        match special {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', special]),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}

/// Whether these bytes can stand between the quotes of a JSON string. Those with `\u` escapes are said not to: they are
/// rare, and whoever asks has a longer way.
pub fn is_text(bytes: &[u8]) -> bool {
    plain_text(bytes) == bytes.len() && simdutf8::basic::from_utf8(bytes).is_ok()
}

/// How many bytes come before the quote that ends a string, whose opening quote is right before `bytes`. `None` when the
/// string has no end or a `\u` escape.
pub fn text_length(bytes: &[u8]) -> Option<usize> {
    let length = plain_text(bytes);
    (bytes.get(length) == Some(&b'"')).then_some(length)
}

/// How many bytes are plain characters and short escapes.
fn plain_text(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += plain_run(&bytes[at..]);
        match bytes[at..] {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => at += 2,
            _ => return at,
        }
    }
}

/// How many bytes come before the first quote, backslash or control character.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let specials = specials_of(u64::from_le_bytes(*word));
        if specials != 0 {
            return bytes.len() - rest.len() + first_marked(specials);
        }
        rest = after;
        if bytes.len() - rest.len() == SHORT_RUN_BYTES {
            return SHORT_RUN_BYTES + long_run(rest);
        }
    }
    bytes.len() - rest.len() + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

/// [`plain_run`] for a run that has proved to be long; out of line to keep the short path small.
#[inline(never)]
fn long_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    for block in bytes.chunks(BLOCK_BYTES) {
        // `memchr` picks the widest vectors of the machine; controls, which have no business here, are looked for behind it.
        let stop = memchr::memchr2(b'"', b'\\', block);
        let run = &block[..stop.unwrap_or(block.len())];
        // No early exit: that is what lets this become vector code.
        if run.iter().fold(u8::MAX, |least, &byte| least.min(byte)) < 0x20 {
            return at + run.iter().position(|&byte| byte < 0x20).unwrap_or(run.len());
        }
        at += run.len();
        if stop.is_some() {
            break;
        }
    }
    at
}

/// Whether a byte cannot stand as itself in a JSON string.
#[inline]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The high bit of each special byte of a word is set in the answer. Bits above the lowest one may be false alarms,
/// because a borrow travels upwards; the lowest is exact, and nobody looks further.
#[inline]
fn specials_of(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quotes = word ^ (ONES * b'"' as u64);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let zero_in = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (zero_in(quotes) | zero_in(backslashes) | controls) & HIGHS
}

/// Index of the lowest marked byte of a little-endian word.
#[inline]
fn first_marked(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// What half of a surrogate pair, alone in a `\uXXXX`, means. RFC 8259 (section 8.2) allows it and no text can hold it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Halves {
    /// A fault: Python's parser refuses what would be sent on, so LiteLLM's users hear of it.
    Refused,
    /// U+FFFD where it is decoded. Models emit halves, and streams cut pairs.
    Replaced,
}

/// The character an escape stands for and the bytes it takes; `bytes` starts at its backslash.
#[inline]
pub(super) fn escape(bytes: &[u8], halves: Halves) -> Result<(char, usize), &'static str> {
    let character = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => {
            return match unicode_escape(bytes) {
                Err(LONE) if halves == Halves::Replaced => Ok((char::REPLACEMENT_CHARACTER, 6)),
                other => other,
            };
        }
        Some(_) => return Err("invalid escape in a string"),
        None => return Err("unexpected end of the document in an escape"),
    };
    Ok((character, 2))
}

const LONE: &str = "lone surrogate escape in a string";

/// `\uXXXX`, or two of them when the first is the leading half of a surrogate pair.
fn unicode_escape(bytes: &[u8]) -> Result<(char, usize), &'static str> {
    let first = hex4(&bytes[2..]).ok_or("expected four hexadecimal digits after \\u")?;
    if !(0xD800..0xE000).contains(&first) {
        return char::from_u32(first).map(|character| (character, 6)).ok_or(LONE);
    }
    let second = match bytes.get(6..8) {
        Some(b"\\u") if first < 0xDC00 => hex4(&bytes[8..]).ok_or("expected four hexadecimal digits after \\u")?,
        _ => return Err(LONE),
    };
    if !(0xDC00..0xE000).contains(&second) {
        return Err(LONE);
    }
    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(code).map(|character| (character, 12)).ok_or(LONE)
}

/// Four hexadecimal digits at the start of `bytes`.
fn hex4(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
}

/// The inside of a string with its escapes decoded; `None` at a bad escape or a quote that is not escaped.
fn unescaped(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'"' {
            return None;
        }
        let (character, length) = escape(&rest.as_bytes()[at..], Halves::Replaced).ok()?;
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Some(text)
}
