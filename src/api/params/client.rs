//! What a body says to the gateway itself, whichever deployment will serve it: fields that are refused, wishes that
//! are honoured.
//!
//! Numbers may come as strings, as LiteLLM takes them. A wish that makes no sense is no wish; it is never an error.

use std::borrow::Cow;

use super::words::{Word, word};
use crate::wire::json::{Kind, Skim, items_of, members_of, string};

/// Fallbacks one request may name.
const FALLBACKS_MAX: usize = 16;

/// Why a field may not be in a body at all, as a sentence for the client; `None` when it may.
pub fn refused_field(name: &str) -> Option<&'static str> {
    match word(name) {
        Word::Banned(ban) => Some(ban.why()),
        _ => None,
    }
}

/// The first member that may not be there, by name and reason: at the top level or inside `extra_body`, whose members
/// would end up at the top level.
pub fn refused_in<'d>(doc: &'d [u8], skim: &Skim) -> Option<(Cow<'d, str>, &'static str)> {
    (0..skim.members().len()).find_map(|index| {
        let name = skim.key(doc, index);
        match word(&name) {
            Word::Banned(ban) => Some((name, ban.why())),
            Word::ExtraBody => {
                let extra = skim.value(doc, index);
                members_of(extra).find_map(|(key, ..)| {
                    let name = string(&extra[key])?;
                    refused_field(&name).map(|why| (name, why))
                })
            }
            _ => None,
        }
    })
}

/// What the client asks of the gateway.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wishes {
    pub num_retries: Option<u32>,
    pub timeout_ms: Option<u64>,
    pub stream_timeout_ms: Option<u64>,
    /// Names of model groups, first choice first.
    pub fallbacks: Vec<String>,
    pub disable_fallbacks: bool,
    pub stream: bool,
    /// `stream_options.include_usage` as the client wrote it; `None` when it did not.
    pub usage_asked: Option<bool>,
}

/// Reads the wishes out of a body. Of duplicate members the last counts.
pub fn wishes(doc: &[u8], skim: &Skim) -> Wishes {
    let mut wishes = Wishes::default();
    for (index, member) in skim.members().iter().enumerate() {
        let value = skim.value(doc, index);
        match &*skim.key(doc, index) {
            "num_retries" => wishes.num_retries = number(value).map(|retries| retries as u32),
            "timeout" => wishes.timeout_ms = milliseconds(value),
            "stream_timeout" => wishes.stream_timeout_ms = milliseconds(value),
            "fallbacks" => wishes.fallbacks = fallbacks(value, &model(doc, skim)),
            "disable_fallbacks" => wishes.disable_fallbacks = is_true(value),
            "stream" => wishes.stream = member.kind == Kind::True,
            _ => {}
        }
    }
    wishes.usage_asked = stream_options(doc, skim).and_then(usage_asked);
    wishes
}

/// The `stream_options` that count: the direct ones, else those of `extra_body`.
fn stream_options<'d>(doc: &'d [u8], skim: &Skim) -> Option<&'d [u8]> {
    let member = |name| {
        let index = skim.find(doc, name)?;
        (skim.members()[index].kind != Kind::Null).then(|| skim.value(doc, index))
    };
    member("stream_options").or_else(|| last_member(member("extra_body")?, "stream_options"))
}

/// A number of zero or more, written as one or as a string.
fn number(value: &[u8]) -> Option<f64> {
    let text = match value.first()? {
        b'"' => string(value)?,
        _ => Cow::Borrowed(str::from_utf8(value).ok()?),
    };
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Seconds as milliseconds. None at all is no time-out rather than none left.
fn milliseconds(value: &[u8]) -> Option<u64> {
    let milliseconds = (number(value)? * 1000.0).ceil();
    (milliseconds >= 1.0).then_some(milliseconds as u64)
}

fn is_true(value: &[u8]) -> bool {
    value == b"true" || string(value).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn model<'d>(doc: &'d [u8], skim: &Skim) -> Cow<'d, str> {
    skim.find(doc, "model").and_then(|index| string(skim.value(doc, index))).unwrap_or_default()
}

/// Group names out of LiteLLM's three spellings: a name, `{"model": name, …}`, and `{group: [names]}`, which counts
/// for `model` and for `*`.
fn fallbacks(value: &[u8], model: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (item, kind) in items_of(value) {
        let item = &value[item];
        match kind {
            Kind::String => names.extend(string(item).map(Cow::into_owned)),
            Kind::Object => match last_member(item, "model").and_then(string) {
                Some(name) => names.push(name.into_owned()),
                None => {
                    for group in [model, "*"] {
                        let listed = last_member(item, group).unwrap_or_default();
                        names
                            .extend(items_of(listed).filter_map(|(name, _)| Some(string(&listed[name])?.into_owned())));
                    }
                }
            },
            _ => {}
        }
        names.truncate(FALLBACKS_MAX);
    }
    names
}

pub(super) fn usage_asked(stream_options: &[u8]) -> Option<bool> {
    match last_member(stream_options, "include_usage")? {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// The value of an object's last member of this name.
fn last_member<'v>(object: &'v [u8], name: &str) -> Option<&'v [u8]> {
    let named = members_of(object).filter(|(key, ..)| crate::wire::json::spells(&object[key.clone()], name));
    named.last().map(|(_, value, _)| &object[value])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{DEPTH_MAX_DEFAULT, skim};

    fn read(body: &str) -> Wishes {
        wishes(body.as_bytes(), &skim(body.as_bytes(), DEPTH_MAX_DEFAULT).unwrap())
    }

    #[test]
    fn numbers_may_be_strings() {
        let asked = read(r#"{"num_retries":"3","timeout":"0.6","stream_timeout":7}"#);
        assert_eq!((asked.num_retries, asked.timeout_ms, asked.stream_timeout_ms), (Some(3), Some(600), Some(7000)));
        let odd = read(r#"{"num_retries":-1,"timeout":0,"stream_timeout":[1]}"#);
        assert_eq!((odd.num_retries, odd.timeout_ms, odd.stream_timeout_ms), (None, None, None));
        let odd = read(r#"{"num_retries":"inf","timeout":"soon","stream_timeout":null}"#);
        assert_eq!((odd.num_retries, odd.timeout_ms, odd.stream_timeout_ms), (None, None, None));
        assert_eq!(read(r#"{"num_retries":1e99,"timeout":1e300}"#).num_retries, Some(u32::MAX));
    }

    #[test]
    fn fallbacks_in_all_spellings() {
        let asked = read(
            r#"{"model":"a","fallbacks":["b",{"model":"c","messages":[]},{"a":["d","e"],"z":["no"]},{"*":["f"]},1]}"#,
        );
        assert_eq!(asked.fallbacks, ["b", "c", "d", "e", "f"]);
        assert!(read(r#"{"fallbacks":"b"}"#).fallbacks.is_empty());
        assert!(read(r#"{"disable_fallbacks":"True"}"#).disable_fallbacks);
    }

    #[test]
    fn streams_and_their_usage() {
        assert!(read(r#"{"stream":true}"#).stream && !read(r#"{"stream":1}"#).stream);
        assert!(!read(r#"{"stream":true,"str\u0065am":false}"#).stream);
        assert_eq!(read(r#"{"stream_options":{"include_usage":true}}"#).usage_asked, Some(true));
        assert_eq!(read(r#"{"stream_options":{"include_usage":false}}"#).usage_asked, Some(false));
        assert_eq!(read(r#"{"stream_options":{"include_usage":null}}"#).usage_asked, None);
        assert_eq!(read(r#"{"stream_options":null}"#).usage_asked, None);
        let both =
            r#"{"extra_body":{"stream_options":{"include_usage":true}},"stream_options":{"include_usage":false}}"#;
        assert_eq!(read(both).usage_asked, Some(false));
        assert_eq!(read(r#"{"extra_body":{"stream_options":{"include_usage":true}}}"#).usage_asked, Some(true));
    }

    #[test]
    fn what_would_steer_the_gateway_is_refused() {
        for name in [
            "api_base",
            "base_url",
            "api_key",
            "headers",
            "extra_headers",
            "organization",
            "custom_llm_provider",
            "user_config",
            "input_cost_per_token",
            "mock_timeout",
        ] {
            assert!(refused_field(name).is_some(), "{name}");
        }
        for name in ["azure", "provider_specific_header", "mock_response", "temperature", "foo_bar"] {
            assert!(refused_field(name).is_none(), "{name}");
        }
        let refused = |body: &str| {
            let skim = skim(body.as_bytes(), DEPTH_MAX_DEFAULT).unwrap();
            refused_in(body.as_bytes(), &skim).map(|(name, _)| name.into_owned())
        };
        assert_eq!(refused(r#"{"model":"a","\u0061pi_key":"x"}"#).as_deref(), Some("api_key"));
        assert_eq!(refused(r#"{"extra_body":{"x":1,"api_base":"x"}}"#).as_deref(), Some("api_base"));
        assert_eq!(refused(r#"{"tools":[{"api_key":1}],"extra_body":{"x":{"api_base":"x"}}}"#), None);
    }
}
