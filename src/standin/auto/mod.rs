//! Automatic answers: what NanoGPT would say to a request, with no model behind it.
//!
//! Here a path becomes an endpoint and the checks every endpoint shares are made; the files beside this one render.
//! Nothing here touches a socket: a request in, a [`Step`] out.

mod chat;
mod example;
mod fault;
mod media;
mod messages;
mod provoke;
mod responses;
mod route;
mod turn;

use serde_json::Value;

use super::play::uneven;
use super::record::header;
use super::step::Step;
use super::{End, Pace};

use fault::fault;
use provoke::Provoked;
use route::{Base, Endpoint};

/// NanoGPT's limit for JSON.
const BODY_BYTES_MAX: usize = 32 << 20;

/// A request, whole.
pub(super) struct Received<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
}

pub(super) fn answer(received: &Received<'_>, pace: Pace) -> Step {
    let path = received.path.split('?').next().unwrap_or_default();
    let (base, endpoint) = match route::find(received.method, path) {
        Ok(found) => found,
        Err(status) => return fault::lost(status, path),
    };
    let dialect = endpoint.dialect();
    if !endpoint.is_open() && !has_key(received.headers) {
        return fault(
            dialect,
            401,
            Some(("missing_api_key", "No API key. The stand-in takes any key, but wants one.")),
        );
    }
    if received.body.len() > BODY_BYTES_MAX {
        return fault(dialect, 413, None);
    }
    let body = match parse(received) {
        Ok(body) => body,
        Err(message) => return fault(dialect, 400, Some(("invalid_json", &message))),
    };
    if let Some(name) = endpoint.required().iter().find(|name| body[**name].is_null()) {
        let message = format!("Missing required parameter: '{name}'.");
        return fault(dialect, 400, Some(("missing_required_parameter", &message)));
    }
    let provoked = Provoked::of(body["model"].as_str().unwrap_or_default());
    let streams = body["stream"].as_bool() == Some(true);
    if let Some(status) = provoked.status(streams) {
        return fault(dialect, status, None);
    }
    let step = paced(render(base, &endpoint, &body), &endpoint, provoked.pace().unwrap_or(pace));
    provoked.spoil(step, dialect)
}

fn render(base: Base, endpoint: &Endpoint<'_>, body: &Value) -> Step {
    match endpoint {
        Endpoint::Chat => chat::chat(base, body),
        Endpoint::Completions => chat::completions(body),
        Endpoint::Responses => responses::create(body),
        Endpoint::ResponsesInfo => responses::info(),
        Endpoint::StoredResponse(id) => responses::stored(id),
        Endpoint::DeleteResponse(id) => responses::deleted(id),
        Endpoint::Messages => messages::create(body),
        Endpoint::CountTokens => messages::count(body),
        Endpoint::Embeddings => media::embeddings(body),
        Endpoint::Images => media::images(),
        Endpoint::Speech => media::speech(),
        Endpoint::Transcription => media::transcription(),
        Endpoint::Moderations => media::moderations(body),
        Endpoint::Rerank => media::rerank(body),
        Endpoint::Models => media::models(),
        Endpoint::Model(id) => media::model(id),
    }
}

fn paced(mut step: Step, endpoint: &Endpoint<'_>, pace: Pace) -> Step {
    if endpoint.generates() && pace != Pace::instant() {
        step.manner.delay_ms = Some(uneven(pace.first_token_ms));
        step.manner.gap_ms = Some(pace.token_gap_ms);
        step.manner.uneven = true;
    }
    step
}

fn has_key(headers: &[(String, String)]) -> bool {
    let bearer = header(headers, "authorization").and_then(|value| value.split_once(' '));
    let key = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key);
    key.or(header(headers, "x-api-key")).is_some_and(|key| !key.trim().is_empty())
}

/// The body as JSON; forms and empty bodies count as an object without members.
fn parse(received: &Received<'_>) -> Result<Value, String> {
    let form = header(received.headers, "content-type").is_some_and(|kind| kind.starts_with("multipart/"));
    if form || received.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(received.body).map_err(|fault| format!("The body is no JSON: {fault}."))
}

/// Seconds since 1970.
fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs())
}

fn fresh_id(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", fastrand::u64(..), fastrand::u32(..))
}

/// A stream that ends in this way.
fn stream(frames: Vec<super::Frame>, end: End) -> Step {
    Step::sse(frames).end(end)
}
