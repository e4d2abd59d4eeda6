//! The access line: one per request, as text or JSON, with what an operator asks first.
//!
//! Never a key, a prompt or a query string.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// The log target of access lines, so that they can be filtered apart from the rest.
pub const TARGET: &str = "nanogate::access";

/// One finished request.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// The gateway's id for it.
    pub request_id: &'a str,
    /// Method and path without the query.
    pub method: &'a str,
    /// See `method`.
    pub path: &'a str,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// Who the key proved the client to be; empty when nobody was asked.
    pub caller: &'a str,
    /// The name the client used.
    pub model: &'a str,
    /// The name sent upstream.
    pub upstream_model: &'a str,
    /// The deployment that served it.
    pub deployment: &'a str,
    /// Status sent; 499 when the client left before one.
    pub status: u16,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Whole time.
    pub total: Duration,
    /// Until the head went out.
    pub head: Option<Duration>,
    /// Until the first body byte went out.
    pub first_byte: Option<Duration>,
    /// Body bytes in and out.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Tokens as reported.
    pub prompt_tokens: Option<u64>,
    /// See `prompt_tokens`.
    pub completion_tokens: Option<u64>,
    /// Price as reported.
    pub cost_usd: Option<f64>,
    /// Parameters dropped, joined by commas.
    pub dropped: &'a str,
    /// Attempts as `deployment:outcome:milliseconds`, joined by commas; empty when none was made.
    pub attempts: &'a str,
    /// Why it ended: `done`, `client_left`, `upstream_truncated`, an error code …
    pub end: &'a str,
}

impl Line<'_> {
    /// `key=value` pairs; empty members are left out.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(512);
        out.push_str(self.method);
        out.push(' ');
        push_plain(&mut out, self.path);
        out.push(' ');
        push_integer(&mut out, self.status.into());
        out.push(' ');
        push_tenths(&mut out, tenths(self.total));
        out.push_str("ms");
        self.each(|key, value| {
            out.push(' ');
            out.push_str(key);
            out.push('=');
            match value {
                Value::Text(text) => push_plain(&mut out, text),
                Value::Address(address) => push_address(&mut out, address),
                Value::Integer(number) => push_integer(&mut out, number),
                Value::Millis(number) => push_tenths(&mut out, number),
                Value::Decimal(number) => {
                    let _ = write!(out, "{number}");
                }
            }
        });
        out
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("method".into(), self.method.into());
        object.insert("path".into(), self.path.into());
        object.insert("status".into(), self.status.into());
        object.insert("ms".into(), (tenths(self.total) as f64 / 10.0).into());
        self.each(|key, value| {
            let value = match value {
                Value::Text(text) => text.into(),
                Value::Address(address) => address.to_string().into(),
                Value::Integer(number) => number.into(),
                Value::Millis(number) => (number as f64 / 10.0).into(),
                Value::Decimal(number) => number.into(),
            };
            object.insert(key.into(), value);
        });
        serde_json::Value::Object(object).to_string()
    }

    fn each(&self, mut put: impl FnMut(&str, Value<'_>)) {
        put("end", Value::Text(self.end));
        put("id", Value::Text(self.request_id));
        if let Some(client) = self.client {
            put("client", Value::Address(client));
        }
        let models = [("model", self.model), ("upstream_model", self.upstream_model), ("deployment", self.deployment)];
        for (key, text) in [("caller", self.caller)].into_iter().chain(models) {
            if !text.is_empty() {
                put(key, Value::Text(text));
            }
        }
        if self.stream {
            put("stream", Value::Text("true"));
        }
        let numbers = [
            ("head_ms", self.head.map(|time| Value::Millis(tenths(time)))),
            ("first_byte_ms", self.first_byte.map(|time| Value::Millis(tenths(time)))),
            ("bytes_in", Some(Value::Integer(self.bytes_in))),
            ("bytes_out", Some(Value::Integer(self.bytes_out))),
            ("prompt_tokens", self.prompt_tokens.map(Value::Integer)),
            ("completion_tokens", self.completion_tokens.map(Value::Integer)),
            ("cost_usd", self.cost_usd.map(Value::Decimal)),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                put(key, number);
            }
        }
        for (key, text) in [("dropped", self.dropped), ("attempts", self.attempts)] {
            if !text.is_empty() {
                put(key, Value::Text(text));
            }
        }
    }
}

enum Value<'a> {
    Text(&'a str),
    Address(SocketAddr),
    Integer(u64),
    /// Tenths of a millisecond.
    Millis(u64),
    Decimal(f64),
}

/// Tenths of a millisecond, rounded.
fn tenths(time: Duration) -> u64 {
    u64::try_from((time.as_micros() + 50) / 100).unwrap_or(u64::MAX)
}

// Every request writes one line of a dozen numbers: `fmt` would be a tenth of what the request costs.
fn push_integer(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn push_tenths(out: &mut String, number: u64) {
    push_integer(out, number / 10);
    if !number.is_multiple_of(10) {
        out.push('.');
        push_integer(out, number % 10);
    }
}

fn push_address(out: &mut String, address: SocketAddr) {
    let SocketAddr::V4(address) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for (place, octet) in address.ip().octets().into_iter().enumerate() {
        out.push_str(if place == 0 { "" } else { "." });
        push_integer(out, octet.into());
    }
    out.push(':');
    push_integer(out, address.port().into());
}

/// Text on a log line: what could break the line or be taken for another field is quoted.
fn push_plain(out: &mut String, text: &str) {
    let plain = |byte: u8| (byte > b' ') & (byte < 0x7f) & (byte != b'"') & (byte != b'=') & (byte != b'\\');
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '=' | '\\');
    // No early exit: that is what lets this become vector code.
    if text.bytes().fold(true, |all, byte| all & plain(byte)) || !text.contains(odd) {
        out.push_str(text);
    } else {
        let _ = write!(out, "{text:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            request_id: "r-1",
            method: "POST",
            path: "/v1/chat/completions",
            model: "a b\nc",
            status: 200,
            total: Duration::from_micros(12_340),
            cost_usd: Some(0.25),
            client: Some(SocketAddr::from(([192, 0, 2, 10], 40_001))),
            end: "done",
            ..Line::default()
        }
    }

    #[test]
    fn a_text_line_stays_one_line() {
        let text = line().text();
        assert!(
            text.starts_with(
                "POST /v1/chat/completions 200 12.3ms end=done id=r-1 client=192.0.2.10:40001 model=\"a b\\nc\""
            ),
            "{text}"
        );
        assert!(!text.contains('\n') && text.contains("cost_usd=0.25") && !text.contains("caller"), "{text}");
    }

    #[test]
    fn a_json_line_is_json() {
        let value: serde_json::Value = serde_json::from_str(&line().json()).unwrap();
        assert_eq!(value["model"], "a b\nc");
        assert_eq!(value["ms"], 12.3);
    }
}
