//! What YAML, as LiteLLM's Python reads it, sees in a bare word: nothing, a flag, a number, a date, or a text.
//!
//! Also durations and sizes, which LiteLLM's file has as plain numbers and ours also with a unit. It refuses to know keys.

use serde_json::{Number, Value};

/// A YAML 1.1 flag, in any of the spellings Python's reader takes.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A decimal or hexadecimal whole number. A leading zero is no number: Python reads it as octal, nobody means that.
pub(super) fn whole(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex.get(..1).filter(|c| *c != "+" && *c != "-").map(|_| hex)?, 16).ok()?
    } else {
        let first = digits.as_bytes().first()?;
        if !first.is_ascii_digit() || (*first == b'0' && digits.len() > 1) {
            return None;
        }
        digits.replace('_', "").parse().ok()?
    };
    Some(if negative { -value } else { value })
}

/// Any finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    if let Some(value) = whole(text) {
        return Some(value as f64);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let clean = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if octal || !starts || !clean || digits == "." {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// What Python's YAML would make of a bare word that is meant as a name; `None` when it stays a text.
pub(super) fn mistaken_for(text: &str) -> Option<&'static str> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let date: Vec<&str> = text.splitn(3, '-').collect();
    if flag(text).is_some() {
        Some("true or false")
    } else if number(text).is_some() || digits(text) || text.split(':').all(digits) {
        Some("a number")
    } else if matches!(date[..], [year, month, day] if year.len() == 4 && digits(year) && digits(month) && digits(day))
    {
        Some("a date")
    } else {
        None
    }
}

/// A scalar as JSON: a bare word as YAML reads it, everything else as a text.
pub(super) fn json(text: &str, bare: bool) -> Value {
    if !bare {
        return Value::from(text);
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(flag) = flag(text) {
        return Value::Bool(flag);
    }
    if let Some(whole) = whole(text) {
        if let Ok(whole) = i64::try_from(whole) {
            return Value::from(whole);
        }
        if let Ok(whole) = u64::try_from(whole) {
            return Value::from(whole);
        }
    }
    match number(text).and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::from(text),
    }
}

/// Milliseconds from seconds (`15`, `0.5`) or from a number with a unit (`500ms`, `15s`, `10m`, `2h`, `1d`).
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let (value, factor) = unit(text, &[("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3), ("d", 86_400e3)], 1e3)?;
    scaled(value, factor)
}

/// Bytes from a number or from a number with a unit (`64KiB`, `16MiB`, `512MB`; a thousand and 1024 alike mean 1024).
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let units = [("kib", 1024.0), ("kb", 1024.0), ("k", 1024.0), ("mib", MIB), ("mb", MIB), ("m", MIB)];
    let larger = [("gib", MIB * 1024.0), ("gb", MIB * 1024.0), ("g", MIB * 1024.0), ("b", 1.0)];
    let text = text.to_ascii_lowercase();
    let (value, factor) = unit(&text, &[&units[..], &larger[..]].concat(), 1.0)?;
    scaled(value, factor)
}

/// One mebibyte. LiteLLM's `_mb` keys mean this one too.
pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// `value * factor`, rounded, when it is a sensible whole number.
pub(super) fn scaled(value: f64, factor: f64) -> Option<u64> {
    let result = (value * factor).round();
    // Beyond 2^53 an f64 no longer counts in ones; nothing here needs that much.
    (0.0..9.007_199_254_740_992e15).contains(&result).then_some(result as u64)
}

fn unit(text: &str, units: &[(&str, f64)], default: f64) -> Option<(f64, f64)> {
    let end = text.find(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E').unwrap_or(text.len());
    let (value, suffix) = text.split_at(end);
    let value = number(value.trim())?;
    match suffix {
        "" => Some((value, default)),
        suffix => units.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| (value, *factor)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_seconds_or_with_a_unit() {
        for (text, ms) in [
            ("15", 15_000),
            ("0.5", 500),
            ("500ms", 500),
            ("15s", 15_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1.5 s", 1_500),
            ("0", 0),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "s", "-1", "1 fortnight", "10 minutes", "1e30", "inf", "nan", "0x", "٣"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_in_bytes_or_with_a_unit() {
        for (text, bytes) in
            [("65536", 65_536), ("64KiB", 65_536), ("16 MiB", 16 << 20), ("512MB", 512 << 20), ("1g", 1 << 30)]
        {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!(size_bytes("1 tonne"), None);
    }

    #[test]
    fn numbers_as_python_reads_them_without_its_octal_trap() {
        assert_eq!(
            (whole("1_000"), whole("-5"), whole("0x1F"), whole("007"), whole("_1"), whole("0x-1")),
            (Some(1000), Some(-5), Some(31), None, None, None)
        );
        assert_eq!(
            (number("4.7"), number(".5"), number("1e3"), number("1.2.3"), number("."), number("e5")),
            (Some(4.7), Some(0.5), Some(1000.0), None, None, None)
        );
        assert_eq!(json("0.3", true).to_string(), "0.3");
        assert_eq!(json("18446744073709551615", true).to_string(), "18446744073709551615");
        assert_eq!(json("yes", true), Value::Bool(true));
        assert_eq!(json("yes", false), Value::from("yes"));
        assert_eq!(json("0755", true), Value::from("0755"));
    }

    #[test]
    fn names_that_are_no_text_without_quotation_marks() {
        assert_eq!(mistaken_for("4.7"), Some("a number"));
        assert_eq!(mistaken_for("007"), Some("a number"));
        assert_eq!(mistaken_for("12:30"), Some("a number"));
        assert_eq!(mistaken_for("on"), Some("true or false"));
        assert_eq!(mistaken_for("2024-08-06"), Some("a date"));
        for name in ["glm-4.7", "gpt-4o", "4o-mini", "o3", "1.2.3", "gpt-4o-2024-08-06", "*"] {
            assert_eq!(mistaken_for(name), None, "{name}");
        }
    }
}
