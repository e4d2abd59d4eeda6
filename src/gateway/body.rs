//! The request body: read whole under a size limit and a deadline, decoded, understood, and given out edited to each
//! attempt.

use super::Gateway;
use super::answer;
use super::clock::within;
use super::ctx::{Ask, Ctx};
use super::{decode, form, names};
use crate::api::endpoint::{Body, Kind};
use crate::api::error::{self, ApiError};
use crate::api::params::{self, Shape, Wishes};
use crate::routing::plan::Plan;
use crate::routing::resolve::Resolved;
use crate::telemetry::metrics;
use crate::wire::json::{self, Kind as Json, Skim, SkimError, quoted};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Version, header};
use pingora_error::Result;
use pingora_proxy::Session;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `num_retries` of a request or file beyond this is a mistake that would only multiply an outage.
const RETRIES_MAX: u32 = 10;
/// Default of `num_retries` (contract, section 7).
const RETRIES_DEFAULT: u32 = 2;

/// Room made at once for a body that announces its length; it grows beyond.
const RESERVED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// An upload at this rate or faster is never too slow.
const SLOWEST_BYTES_PER_S: u64 = 16 * 1024;

/// Reads and understands the body and makes the plan; true when an error has been answered instead.
pub async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let Some(endpoint) = ctx.endpoint else { return Ok(false) };
    let prepared = match endpoint.kind {
        Kind::Proxy { shape, body } => match read(gateway, session, ctx).await? {
            Ok(doc) => prepare(session, ctx, shape, body, doc),
            Err(error) => Err(error),
        },
        _ => prepare_stored(ctx),
    };
    match prepared {
        Ok(()) => Ok(false),
        Err(error) => {
            Box::pin(answer::error(session, ctx, &error)).await?;
            Ok(true)
        }
    }
}

/// Reads the whole body. The outer error is a client that has gone, the inner one an answer it can still read.
async fn read(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<Result<Bytes, ApiError>> {
    let limit = ctx.snapshot.config.settings.body_bytes_max;
    let too_large = || ApiError::new(&error::TOO_LARGE, format!("the request body is larger than {limit} bytes"));
    let announced =
        session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Ok(Err(too_large()));
    }
    let overloaded = || ApiError::new(&error::OVERLOADED, "too many request bodies are in memory").retry_after(1);
    let Some(mut buffered) = gateway.live.buffer(0) else { return Ok(Err(overloaded())) };
    if expects_continue(session) {
        session.write_continue_response().await?;
    }
    let (begun, patience) = (Instant::now(), Duration::from_millis(ctx.snapshot.config.gateway.body_timeout_ms));
    let mut left = patience;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let piece = match within(left, pin!(session.read_request_body())).await {
            Some(Ok(Some(piece))) => piece,
            Some(Ok(None)) => break,
            Some(Err(cause)) => return broken_body(gateway, cause),
            None => return Ok(Err(ApiError::new(&error::BODY_TIMEOUT, "the request body did not arrive in time"))),
        };
        ctx.bytes_in += piece.len() as u64;
        if ctx.bytes_in > limit {
            return Ok(Err(too_large()));
        }
        if !buffered.grow(piece.len()) {
            return Ok(Err(overloaded()));
        }
        if first.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                // What was announced is a promise only, so no more than this is believed.
                rest.reserve(announced.unwrap_or(0).min(RESERVED_BYTES_MAX) as usize);
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
        if session.as_downstream_mut().is_body_done() {
            break;
        }
        // A slow line gets more time as it delivers; one that drips does not.
        let earned = Duration::from_secs(ctx.bytes_in / SLOWEST_BYTES_PER_S);
        left = (patience + earned).saturating_sub(begun.elapsed());
    }
    ctx.buffered = Some(buffered);
    let body = if rest.is_empty() { first } else { rest.freeze() };
    match session.get_header(header::CONTENT_ENCODING) {
        None => Ok(Ok(body)),
        Some(encoding) => Ok(Box::pin(decode::body(encoding, body, limit)).await),
    }
}

/// A body that cannot be read to its end: bad chunk framing and a short body are the client's to hear of.
fn broken_body(gateway: &Gateway, cause: Box<pingora_error::Error>) -> Result<Result<Bytes, ApiError>> {
    use pingora_error::ErrorType;
    match cause.etype() {
        ErrorType::ReadTimedout => {
            Ok(Err(ApiError::new(&error::BODY_TIMEOUT, "the request body did not arrive in time")))
        }
        ErrorType::ReadError => Err(cause.into_down()),
        ErrorType::ConnectionClosed => {
            // It may have closed one half only, and then reads the answer.
            gateway.live.metrics.cancelled.get_or_create(&metrics::Cause { cause: "upload" }).inc();
            Ok(Err(ApiError::new(&error::BAD_REQUEST, "the request body is cut short")))
        }
        _ => Ok(Err(ApiError::new(&error::BAD_REQUEST, "the request body is badly framed"))),
    }
}

fn expects_continue(session: &Session) -> bool {
    let head = session.req_header();
    head.version == Version::HTTP_11
        && head.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Understands the body of a route that names a model, seals it for replay, and plans the attempts.
fn prepare(session: &Session, ctx: &mut Ctx, shape: Shape, body: Body, doc: Bytes) -> Result<(), ApiError> {
    let content_type = session.get_header(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let mut ask = match form::boundary(content_type).filter(|_| body == Body::Form) {
        Some(boundary) => ask_of_form(ctx.tail.take(), doc, &boundary)?,
        None => ask_of_json(ctx, shape, doc)?,
    };
    honour_headers(session, &mut ask.wishes)?;
    let resolved = resolve(ctx, &ask.model)?;
    let limit_ms = ask.wishes.stream_timeout_ms.filter(|_| ask.wishes.stream).or(ask.wishes.timeout_ms);
    ask.timeout = limit_ms.map(Duration::from_millis);
    let retries = ask.wishes.num_retries.or(ctx.snapshot.config.settings.num_retries).unwrap_or(RETRIES_DEFAULT);
    let wished: Vec<String> = ask.wishes.fallbacks.clone();
    let fallbacks = if ask.wishes.disable_fallbacks {
        Default::default()
    } else {
        ctx.snapshot.fallbacks(&resolved.group.name, &wished)
    };
    ctx.live.budget.deposit(ctx.live.now_ms());
    ctx.plan = Some(Plan::new(resolved, retries.min(RETRIES_MAX), fallbacks));
    ctx.cell.seal(ask.doc.clone());
    ctx.ask = Some(Arc::new(ask));
    Ok(())
}

/// A stored response belongs to the account behind the first deployment; there is no body and no model.
fn prepare_stored(ctx: &mut Ctx) -> Result<(), ApiError> {
    let first = ctx.snapshot.config.deployments.first().and_then(|first| ctx.snapshot.names.find(&first.id));
    let resolved = first.ok_or_else(|| ApiError::new(&error::NOT_FOUND, "no model is configured"))?;
    ctx.plan = Some(Plan::new(resolved, RETRIES_DEFAULT, Default::default()));
    ctx.cell.seal(Bytes::new());
    Ok(())
}

fn ask_of_json(ctx: &mut Ctx, shape: Shape, doc: Bytes) -> Result<Ask, ApiError> {
    let skim = json::skim(&doc, ctx.snapshot.config.gateway.json_depth_max).map_err(|cause| explain(&cause))?;
    if skim.is_empty() {
        return Err(ApiError::new(&error::BAD_REQUEST, "the request body is an empty object").param("request_body"));
    }
    if let Some((name, why)) = params::refused_in(&doc, &skim) {
        let words = format!("`{name}` is not allowed in a request body. {why}");
        return Err(ApiError::new(&error::REFUSED_FIELD, words).param(name.into_owned()));
    }
    let model = match ctx.tail.take() {
        Some(model) => model,
        None => model_member(&doc, &skim)?,
    };
    if shape == Shape::Chat {
        check_messages(&doc, &skim)?;
    }
    let wishes = params::wishes(&doc, &skim);
    Ok(ask(doc, Some(skim), None, model, wishes))
}

fn ask_of_form(url_model: Option<String>, doc: Bytes, boundary: &[u8]) -> Result<Ask, ApiError> {
    let part = form::model_part(&doc, boundary);
    let named = part.clone().map(|range| String::from_utf8_lossy(&doc[range]).into_owned());
    let model = url_model.or(named).ok_or_else(|| unknown_model("", None))?;
    Ok(ask(doc, None, part, model, Wishes::default()))
}

fn ask(
    doc: Bytes,
    skim: Option<Skim>,
    form_model: Option<std::ops::Range<usize>>,
    model: String,
    wishes: Wishes,
) -> Ask {
    let model_json = quoted(&model).into();
    Ask { doc, skim, form_model, model, model_json, wishes, timeout: None }
}

fn explain(cause: &SkimError) -> ApiError {
    let words = match cause {
        SkimError::Empty => "the request body is empty; a JSON object is needed".to_owned(),
        SkimError::NotAnObject(kind) => format!("the request body is a JSON {}; an object is needed", kind.name()),
        SkimError::Malformed(fault) => format!("Invalid JSON payload: {fault}"),
    };
    ApiError::new(&error::BAD_REQUEST, words).param("request_body")
}

fn model_member(doc: &Bytes, skim: &Skim) -> Result<String, ApiError> {
    let Some(index) = skim.find(doc, "model") else { return Err(unknown_model("", None)) };
    match skim.members()[index].kind {
        Json::String => Ok(json::string(skim.value(doc, index)).unwrap_or_default().into_owned()),
        Json::Null => Err(unknown_model("", None)),
        kind => {
            let words = format!("'model' must be a string, not {}", kind.name());
            Err(ApiError::new(&error::BAD_REQUEST, words).param("model"))
        }
    }
}

fn check_messages(doc: &Bytes, skim: &Skim) -> Result<(), ApiError> {
    let kind = skim.find(doc, "messages").map(|index| skim.members()[index].kind);
    let words = match kind {
        Some(Json::Array) => return Ok(()),
        None | Some(Json::Null) => "Missing required parameter: 'messages'.".to_owned(),
        Some(kind) => format!("'messages' must be an array, not {}", kind.name()),
    };
    Err(ApiError::new(&error::BAD_REQUEST, words).param("messages"))
}

fn resolve(ctx: &Ctx, model: &str) -> Result<Resolved, ApiError> {
    let names = &ctx.snapshot.names;
    names.find(model).ok_or_else(|| {
        let known = names.listed().iter().map(String::as_str);
        unknown_model(model, crate::config::nearest(model, known))
    })
}

fn unknown_model(model: &str, near: Option<&str>) -> ApiError {
    let shown: String = model.chars().take(200).collect();
    let mut words = format!("Invalid model name passed in model={shown}. Call `/v1/models` to view available models.");
    if let Some(near) = near {
        words.push_str(&format!(" Did you mean `{near}`?"));
    }
    ApiError::new(&error::MODEL_NOT_FOUND, words).param("model")
}

/// LiteLLM's request headers win over the body's members.
fn honour_headers(session: &Session, wishes: &mut Wishes) -> Result<(), ApiError> {
    let text = |name: &HeaderName| session.get_header(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(seconds) = text(&names::TIMEOUT) {
        let seconds: f64 = seconds.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0).ok_or_else(|| {
            ApiError::new(&error::BAD_REQUEST, "x-litellm-timeout must be a number of seconds")
                .param("x-litellm-timeout")
        })?;
        let limit_ms = (seconds * 1000.0).min(86_400_000.0) as u64;
        wishes.timeout_ms = Some(limit_ms);
        wishes.stream_timeout_ms = Some(limit_ms);
    }
    if let Some(retries) = text(&names::NUM_RETRIES) {
        wishes.num_retries = Some(retries.parse().map_err(|_| {
            let words = "x-litellm-num-retries must be a whole number";
            ApiError::new(&error::BAD_REQUEST, words).param("x-litellm-num-retries")
        })?);
    }
    Ok(())
}

/// Puts this attempt's bytes in the place of the replayed body.
pub fn emit(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) {
    if !end {
        return;
    }
    *body = None;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.body_given = true;
        *body = Some(attempt.body.clone()).filter(|body| !body.is_empty());
    }
}
