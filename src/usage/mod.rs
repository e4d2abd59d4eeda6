//! Tokens and cost, read from what the upstream sends anyway.
//!
//! OpenAI's and Anthropic's words for tokens are both understood; the price is the one NanoGPT names in
//! `x_nanogpt_pricing` (reference/nanogpt-api.md, section 2). Nothing is estimated: what was not said stays unknown.

use crate::wire::json::{self, Kind, members_of};

/// What one answer said about its tokens and price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// Prompt tokens served from the provider's cache.
    pub cached_tokens: Option<u64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl Meter {
    /// Reads a `usage` object; later readings win member by member (Anthropic sends it in two parts).
    pub fn read_usage(&mut self, usage: &[u8]) {
        for (key, value, kind) in members_of(usage) {
            let value = &usage[value];
            match &usage[key] {
                b"\"prompt_tokens\"" | b"\"input_tokens\"" => self.prompt_tokens = number(value).or(self.prompt_tokens),
                b"\"completion_tokens\"" | b"\"output_tokens\"" => {
                    self.completion_tokens = number(value).or(self.completion_tokens);
                }
                b"\"cache_read_input_tokens\"" => self.cached_tokens = number(value).or(self.cached_tokens),
                b"\"prompt_tokens_details\"" | b"\"input_tokens_details\"" if kind == Kind::Object => {
                    self.cached_tokens = member(value, b"\"cached_tokens\"").and_then(number).or(self.cached_tokens);
                }
                _ => {}
            }
        }
    }

    /// Reads an `x_nanogpt_pricing` object; numbers may be texts there, and Claude routes may name only `amount`.
    pub fn read_pricing(&mut self, pricing: &[u8]) {
        for name in [&b"\"costUsd\""[..], b"\"usdCost\"", b"\"cost\"", b"\"amount\""] {
            if let Some(cost) = member(pricing, name).and_then(decimal) {
                self.cost_usd = Some(cost);
                return;
            }
        }
    }
}

fn member<'v>(object: &'v [u8], quoted: &[u8]) -> Option<&'v [u8]> {
    members_of(object).find(|(key, _, _)| &object[key.clone()] == quoted).map(|(_, value, _)| &object[value])
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn decimal(value: &[u8]) -> Option<f64> {
    let text = match value.first()? {
        b'"' => json::string(value)?,
        _ => std::str::from_utf8(value).ok()?.into(),
    };
    text.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_vocabularies_are_read_and_later_parts_win() {
        let mut meter = Meter::default();
        meter.read_usage(br#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":3}}"#);
        assert_eq!((meter.prompt_tokens, meter.completion_tokens, meter.cached_tokens), (Some(9), Some(4), Some(3)));
        meter.read_usage(br#"{"input_tokens":10}"#);
        meter.read_usage(br#"{"output_tokens":5,"input_tokens":null}"#);
        assert_eq!((meter.prompt_tokens, meter.completion_tokens), (Some(10), Some(5)));
    }

    #[test]
    fn a_price_may_be_text_and_may_have_any_of_its_names() {
        for (pricing, cost) in [
            (&br#"{"amount":1,"costUsd":"0.25"}"#[..], Some(0.25)),
            (br#"{"amount":0.5}"#, Some(0.5)),
            (br#"{"cost":-1}"#, None),
            (br#"{"cost":"x"}"#, None),
            (br#"{}"#, None),
        ] {
            let mut meter = Meter::default();
            meter.read_pricing(pricing);
            assert_eq!(meter.cost_usd, cost, "{}", String::from_utf8_lossy(pricing));
        }
    }
}
