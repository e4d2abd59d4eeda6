//! Answers the gateway gives itself: local lists, errors in the client's dialect, the last words of a broken stream.
//!
//! The one place where a room's error becomes bytes on a connection.

use super::accept::dialect;
use super::ctx::Ctx;
use super::names;
use super::recover::{cause_of_status, outcome_of_status};
use crate::api::error::{ApiError, UpstreamError};
use crate::api::render;
use crate::routing::plan::Cause;
use crate::upstream::head::decimal;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Up to this many bytes an unread body is thrown away to keep the connection; above, the connection closes.
const SKIP_BYTES_MAX: u64 = 256 * 1024;

/// Headers most answers have.
const HEADERS_USUAL: usize = 12;

/// The head of an answer to the client. Its names go out in lower case, as LiteLLM's do: Pingora's own builder keeps a
/// second map for their case.
pub type Head = http::response::Parts;

/// A head without headers, with room for some.
pub fn head_of(status: StatusCode) -> Head {
    let mut head = bare_head_of(status);
    head.headers.reserve(HEADERS_USUAL);
    head
}

/// A head to which nothing is to be added.
pub fn bare_head_of(status: StatusCode) -> Head {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = status;
    head
}

/// An answer that needs no upstream.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON, or nothing.
    pub body: Bytes,
}

impl Reply {
    /// 200 with a JSON value.
    pub fn json(value: &Value) -> Self {
        Self::json_bytes(value.to_string().into())
    }

    /// 200 with JSON rendered before.
    pub fn json_bytes(body: Bytes) -> Self {
        Reply { status: 200, body }
    }

    /// 200 without a body.
    pub fn empty() -> Self {
        Reply { status: 200, body: Bytes::new() }
    }
}

/// Sends a local answer; HEAD gets its head alone.
pub async fn reply(session: &mut Session, ctx: &mut Ctx, reply: Reply) -> Result<()> {
    let mut head = base(ctx, reply.status, reply.body.len())?;
    if !reply.body.is_empty() {
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    ctx.end = "local";
    send(session, ctx, head, reply.body).await
}

/// Sends an error of ours.
pub async fn error(session: &mut Session, ctx: &mut Ctx, error: &ApiError) -> Result<()> {
    error_with(session, ctx, error, &[]).await
}

/// Sends an error of ours with headers of its own.
pub async fn error_with(
    session: &mut Session,
    ctx: &mut Ctx,
    error: &ApiError,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<()> {
    let request_id = ctx.request_id.to_str().unwrap_or_default();
    let body = Bytes::from(render::body(dialect(ctx), error, request_id));
    let mut head = base(ctx, error.row.status, body.len())?;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let helps = if error.row.retry_helps { "true" } else { "false" };
    head.headers.insert(&names::SHOULD_RETRY, HeaderValue::from_static(helps));
    if let Some(seconds) = error.retry_after_s {
        head.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    } else if error.row.retry_helps && error.row.status >= 500 {
        advise(ctx, &mut head.headers, Cause::Passing);
    }
    for (name, value) in headers {
        head.headers.insert(name.clone(), value.clone());
    }
    decorate(ctx, &mut head.headers);
    ctx.end = if error.row.code.parse::<u16>().is_ok() { error.row.kind } else { error.row.code };
    log::debug!("answering {}: {}", error.row.status, error.message);
    send(session, ctx, head, body).await
}

/// Sends an upstream's error for which there is no body to pass on; what may pass of its head does.
pub async fn upstream_error(session: &mut Session, ctx: &mut Ctx, status: u16, error: &UpstreamError) -> Result<()> {
    let body = Bytes::from(render::body_of_upstream(dialect(ctx), status, error));
    let mut head = match super::observe::take_head(ctx) {
        Some(head) => head,
        None => base(ctx, status, body.len())?,
    };
    head.headers.insert(header::CONTENT_LENGTH, decimal(body.len()));
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    decorate(ctx, &mut head.headers);
    advise(ctx, &mut head.headers, cause_of_status(status));
    ctx.end = outcome_of_status(status);
    send(session, ctx, head, body).await
}

/// Ends an open stream: what had been edited already, then its error frame.
pub async fn last_words(session: &mut Session, ctx: &mut Ctx, words: Bytes) -> Result<()> {
    ctx.first_byte_at.get_or_insert_with(Instant::now);
    session.write_response_body(Some(words), true).await
}

/// Answers a CORS preflight as LiteLLM does: any origin, what was asked for allowed, for ten minutes.
pub async fn preflight(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let asked = session.get_header(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let body = Bytes::from_static(b"OK");
    let mut head = base(ctx, 200, body.len())?;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    head.headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    let methods = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
    head.headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(asked) = asked {
        head.headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    ctx.end = "preflight";
    send(session, ctx, head, body).await
}

/// Sets a header. The map's code is not made a part of each place that sets one: what a stream's first frame waits for is
/// code that has to be fetched.
#[inline(never)]
pub fn set(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    headers.insert(name, value);
}

/// The head of an answer from upstream, as far as it is known before that comes. What a client waits for is made while the
/// upstream is waited for.
pub fn begin(ctx: &Ctx) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    identify(ctx, &mut headers);
    say_way(ctx, &mut headers);
    headers
}

/// Ends what [`begin`] began.
pub fn complete(ctx: &Ctx, headers: &mut HeaderMap) {
    name_request(ctx, headers);
    say_outcome(ctx, headers);
}

/// The headers every answer of the gateway carries, beside the name of the request.
fn identify(ctx: &Ctx, headers: &mut HeaderMap) {
    set(headers, &names::CALL_ID, ctx.call_id.clone());
    if ctx.cross_origin {
        set(headers, &header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        set(headers, &header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }
}

/// The name of the request, where the upstream has not given it its own.
fn name_request(ctx: &Ctx, headers: &mut HeaderMap) {
    headers.entry(&names::REQUEST_ID).or_insert_with(|| ctx.request_id.clone());
}

/// What the gateway did for this request, in LiteLLM's header names and our own.
fn decorate(ctx: &Ctx, headers: &mut HeaderMap) {
    say_way(ctx, headers);
    say_outcome(ctx, headers);
}

/// Where the running attempt goes, and how the request came to it.
fn say_way(ctx: &Ctx, headers: &mut HeaderMap) {
    let Some(plan) = &ctx.plan else { return };
    set(headers, &names::ATTEMPTED_RETRIES, counted(plan.retries_made()));
    set(headers, &names::ATTEMPTED_FALLBACKS, counted(plan.fallbacks_made()));
    let deployment = ctx.attempt.as_ref().map(|attempt| &ctx.snapshot.deployments[attempt.deployment]);
    let group = match deployment.filter(|deployment| *deployment.group == *plan.resolved().group.name) {
        Some(deployment) => deployment.group_header.clone(),
        None => HeaderValue::from_str(&plan.resolved().group.name).ok(),
    };
    if let Some(group) = group {
        set(headers, &names::MODEL_GROUP, group);
    }
    if let Some(id) = deployment.and_then(|deployment| deployment.id_header.clone()) {
        set(headers, &names::MODEL_ID, id);
    }
    if let Some(dropped) = dropped_header(&ctx.dropped) {
        set(headers, &names::DROPPED_PARAMS, dropped);
    }
}

/// What is known of a request's way only once it has an answer.
fn say_outcome(ctx: &Ctx, headers: &mut HeaderMap) {
    if ctx.plan.is_none() {
        return;
    }
    if !ctx.hedge.is_empty() {
        set(headers, &names::HEDGE, HeaderValue::from_static(ctx.hedge));
    }
    set(headers, &names::OVERHEAD_MS, thousandths(ctx.started.elapsed().saturating_sub(ctx.upstream_time)));
}

fn counted(number: u32) -> HeaderValue {
    if number == 0 { HeaderValue::from_static("0") } else { HeaderValue::from(number) }
}

/// Milliseconds with three decimals.
fn thousandths(time: Duration) -> HeaderValue {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut text = Vec::with_capacity(24);
    text.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    text.push(b'.');
    // The leading one keeps the zeros behind it.
    text.extend_from_slice(&itoa::Buffer::new().format(1000 + micros % 1000).as_bytes()[1..]);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0.000"))
}

/// Tells the client's own SDK whether trying again can help, and when, unless the upstream said so.
pub fn advise(ctx: &Ctx, headers: &mut HeaderMap, cause: Cause) {
    if cause != Cause::Passing {
        headers.entry(&names::SHOULD_RETRY).or_insert(HeaderValue::from_static("false"));
        return;
    }
    if headers.contains_key(header::RETRY_AFTER) || headers.contains_key(&names::RETRY_AFTER_MS) {
        return;
    }
    let Some(plan) = &ctx.plan else { return };
    let now_ms = ctx.live.now_ms();
    let members = plan.resolved().group.members.iter();
    let rests = members.map(|place| ctx.snapshot.deployments[*place].vitals.resting_ms(now_ms).unwrap_or(0));
    // A group whose deployments all rest is called all the same, so nobody is sent away for longer than a first rest.
    let seconds = rests.min().unwrap_or(0).min(ctx.snapshot.rest.rest_ms).div_ceil(1_000).max(1);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
}

/// The names of dropped parameters; what a client's own list spelt oddly is left out of the header, not of the log.
fn dropped_header(dropped: &str) -> Option<HeaderValue> {
    if dropped.is_empty() {
        return None;
    }
    let plain: String = dropped.chars().filter(|c| c.is_ascii_graphic()).take(1024).collect();
    HeaderValue::from_str(&plain).ok().filter(|value| !value.is_empty())
}

fn base(ctx: &Ctx, status: u16, body_bytes: usize) -> Result<Head> {
    let status = StatusCode::from_u16(status).or_err(ErrorType::InternalError, "a status of our own")?;
    let mut head = head_of(status);
    head.headers.insert(header::CONTENT_LENGTH, decimal(body_bytes));
    identify(ctx, &mut head.headers);
    name_request(ctx, &mut head.headers);
    Ok(head)
}

/// Whether an unread body should be thrown away to keep the connection.
fn is_skippable(session: &Session, status: StatusCode) -> bool {
    // Who asked for permission may now send the body or the next request, and one that stalled will stall again.
    if session.get_header(header::EXPECT).is_some() || status == StatusCode::REQUEST_TIMEOUT {
        return false;
    }
    let announced = session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    announced.is_some_and(|bytes: u64| bytes <= SKIP_BYTES_MAX)
}

async fn send(session: &mut Session, ctx: &mut Ctx, head: Head, body: Bytes) -> Result<()> {
    ctx.status = head.status.as_u16();
    let only_head = session.req_header().method == Method::HEAD || body.is_empty();
    if !session.is_body_done() && !is_skippable(session, head.status) {
        ctx.cell.close();
    }
    session.write_response_header(Box::new(ResponseHeader::from(head)), only_head).await?;
    ctx.head_at = Some(Instant::now());
    if !only_head {
        session.write_response_body(Some(body), true).await?;
        ctx.first_byte_at = ctx.head_at;
    }
    Ok(())
}
