//! The rest of `litellm_params`: headers, limits, and the request parameters a client may leave out.

use crate::config::fault::Place;
use crate::config::reader::{Desk, Fields, Zero};
use crate::config::secret::Secret;
use crate::config::support::{self, Section, Status};
use crate::config::syntax::quoted;
use crate::config::tree::{Kind, Member};

/// What is read by type and nothing more.
pub(super) struct Rest {
    pub organization: Option<String>,
    pub drop_params: Option<bool>,
    pub additional_drop_params: Vec<String>,
    pub allowed_params: Vec<String>,
    pub stream_timeout_ms: Option<u64>,
    pub max_retries: Option<u32>,
    pub weight: Option<f64>,
    pub order: Option<u32>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub max_parallel_requests: Option<u32>,
}

impl Rest {
    pub fn read(fields: &mut Fields<'_, '_>) -> Self {
        fields.always_on("ssl_verify");
        Rest {
            organization: organization(fields),
            drop_params: fields.flag("drop_params"),
            additional_drop_params: fields.texts("additional_drop_params"),
            allowed_params: fields.texts("allowed_openai_params"),
            stream_timeout_ms: fields.duration_ms("stream_timeout", Zero::Refused),
            max_retries: fields.whole("max_retries", 0..=100),
            weight: fields.number("weight"),
            order: fields.whole("order", 0..=i128::from(u32::MAX)),
            rpm: fields.whole("rpm", 0..=i128::from(u64::MAX)),
            tpm: fields.whole("tpm", 0..=i128::from(u64::MAX)),
            max_parallel_requests: fields.whole("max_parallel_requests", 1..=i128::from(u32::MAX)),
        }
    }
}

/// A duration under one of two names.
pub(super) fn either(fields: &mut Fields<'_, '_>, first: &str, second: &str) -> Option<u64> {
    let first = fields.duration_ms(first, Zero::Refused);
    fields.duration_ms(second, Zero::Refused).filter(|_| first.is_none()).or(first)
}

fn organization(fields: &mut Fields<'_, '_>) -> Option<String> {
    let place = fields.place_of("organization")?;
    let text = fields.text("organization")?;
    header_value(fields.desk, place, "`organization`", &text).then_some(text)
}

/// Headers the gateway or the connection sets; a second one would confuse the provider or smuggle a request.
const OURS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "proxy-connection",
    "content-type",
];

pub(super) fn extra_headers(fields: &mut Fields<'_, '_>) -> Vec<(String, Secret)> {
    let Some(node) = fields.take("extra_headers").filter(|node| !node.is_null()) else { return Vec::new() };
    let Kind::Map(members) = &node.kind else {
        fields.desk.error(node.place, "`extra_headers` must be a mapping of header names to texts");
        return Vec::new();
    };
    members.iter().filter_map(|member| header(fields.desk, member)).collect()
}

fn header(desk: &mut Desk, member: &Member) -> Option<(String, Secret)> {
    let name = member.key.to_ascii_lowercase();
    let shown = quoted(&member.key);
    // RFC 9110 section 5.6.2: a field name is a token.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        desk.error(member.key_place, format!("`extra_headers`: {shown} is no header name"));
        return None;
    }
    if OURS.contains(&name.as_str()) {
        desk.error(member.key_place, format!("`extra_headers`: {shown} is set by the gateway and cannot be chosen"));
        return None;
    }
    let text = desk.text(&member.value, &format!("header {shown}"))?;
    header_value(desk, member.value.place, &format!("header {shown}"), &text).then(|| (name, Secret::new(text.trim())))
}

fn header_value(desk: &mut Desk, place: Place, what: &str, text: &str) -> bool {
    let fits = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t');
    if !fits {
        desk.error(place, format!("{what} holds characters that cannot travel in a header"));
    }
    fits
}

/// What is left are request parameters, keys without effect, and mistakes. Then `extra_body`, where a direct one wins.
pub(super) fn defaults(fields: &mut Fields<'_, '_>) -> Vec<(String, String)> {
    let extra = fields.take("extra_body").filter(|node| !node.is_null());
    let mut defaults = Vec::new();
    for member in fields.rest() {
        if is_parameter(fields.desk, member) {
            push(fields.desk, &mut defaults, member);
        }
    }
    match extra.map(|node| (&node.kind, node.place)) {
        Some((Kind::Map(members), _)) => members.iter().for_each(|member| push(fields.desk, &mut defaults, member)),
        Some((_, place)) => fields.desk.error(place, "`extra_body` must be a mapping of request parameters"),
        None => {}
    }
    defaults
}

fn push(desk: &mut Desk, defaults: &mut Vec<(String, String)>, member: &Member) {
    if defaults.iter().any(|(name, _)| *name == member.key) {
        return;
    }
    match desk.json(&member.value, &format!("`{}`", member.key)) {
        None | Some(serde_json::Value::Null) => {}
        Some(value) => defaults.push((member.key.clone(), value.to_string())),
    }
}

/// LiteLLM sends every key it does not know to the provider. A misspelt one of its own, or anything that may be a
/// credential, would then leave in the request body: those stay here.
fn is_parameter(desk: &mut Desk, member: &Member) -> bool {
    let key = member.key.as_str();
    if let Some(row) = support::find(Section::Params, key) {
        if row.status != Status::Parameter {
            desk.leftover(Section::Params, member);
        }
        return row.status == Status::Parameter;
    }
    let lower = key.to_ascii_lowercase();
    let guarded = ["key", "secret", "password", "credential", "token"].iter().any(|word| lower.ends_with(word));
    let meant = support::nearest_key(Section::Params, key);
    let own = meant.is_some_and(|row| row.status != Status::Parameter);
    let home = support::elsewhere(Section::Params, key).is_some();
    if guarded || own || home {
        desk.leftover(Section::Params, member);
        return false;
    }
    let hint = meant.map(|row| format!("; did you mean `{}`?", row.key)).unwrap_or_default();
    let message = format!("unknown key {}, sent upstream as a request parameter, as LiteLLM does{hint}", quoted(key));
    desk.warn(member.key_place, message);
    true
}
