//! The upstream's answer: what it is, what of it the client sees, and whether it is a failure that may be tried again.

use super::answer::{self, Head, bare_head_of};
use super::cell::Hold;
use super::clock::Clock;
use super::ctx::Ctx;
use super::hedge;
use super::names;
use super::recover;
use super::stream::{LastWords, Passed, Stream};
use crate::api::endpoint::Kind;
use crate::api::face::{self, Face, Reasoning, Shown};
use crate::api::params::Shape;
use crate::api::render;
use crate::config::{ReasoningField, ResponseModel};
use crate::routing::plan::{Cause, Next};
use crate::snapshot::Deployment;
use crate::telemetry::metrics;
use crate::upstream::head::decimal;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use pingora_core::protocols::http::compression::ResponseCompressionCtx;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// Above this size a whole answer is no longer judged but passed on as it comes.
const JUDGED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of an error answer no more than this is read.
const ERROR_BYTES_MAX: usize = 1024 * 1024;

/// How long the end of an answer may follow its end mark.
const END_MAX: Duration = Duration::from_secs(1);

/// Of a stream without content no more than this is held.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Headers of the upstream's answer that reach the client; everything else stays here, cookies and addresses above all.
static PASSING: &[&str] = &[
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "request-id",
    "x-should-retry",
    "content-disposition",
];

/// Families of headers that reach the client.
static PASSING_PREFIXES: &[&str] = &["x-ratelimit-", "anthropic-ratelimit-"];

/// How the answer is treated.
pub enum Answer {
    /// Every byte as it comes.
    Raw,
    /// A stream of events.
    Events(Box<Stream>),
    /// A document judged whole; the head waits for it.
    Whole(Whole),
}

/// A document being collected.
pub struct Whole {
    head: Head,
    body: BytesMut,
}

/// Has an answer inflated that is compressed although nobody asked. Only then: Pingora would read the request's list of
/// encodings as soon as it may inflate.
pub fn inflate(session: &mut Session, head: &mut ResponseHeader) {
    if head.headers.contains_key(header::CONTENT_ENCODING) && !head.status.is_informational() {
        session.upstream_compression = ResponseCompressionCtx::new(0, true, false);
        session.upstream_compression.response_header_filter(head, false);
    }
}

/// The headers of an upstream's answer that anybody here reads.
pub fn is_read(name: &HeaderName) -> bool {
    name == header::CONTENT_ENCODING || may_pass(name.as_str())
}

/// The first look at an answer's head. A failure that may be tried again ends the attempt here.
pub fn upstream_head(ctx: &mut Ctx, head: &ResponseHeader) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let status = head.status.as_u16();
    let retry_after = if status < 400 { None } else { recover::retry_after(&head.headers) };
    let Some(attempt) = ctx.attempt.as_mut() else { return Ok(()) };
    attempt.status = status;
    attempt.retry_after = retry_after;
    let now = Instant::now();
    let waited = now.saturating_duration_since(attempt.started);
    ctx.upstream_time += waited;
    let vitals = &ctx.snapshot.deployments[attempt.deployment].vitals;
    vitals.answered_in(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), ctx.live.ms_at(now));
    if status < 400 {
        hedge::call_off(ctx);
        return Ok(());
    }
    let cause = recover::cause_of_status(status);
    attempt.verdict = Some((cause, recover::outcome_of_status(status)));
    // 400 and 422 must be read before it is known what they mean.
    if !matches!(status, 400 | 422) && recover::would_go_on(ctx, cause) {
        return Err(again(ErrorType::HTTPStatus(status)));
    }
    hedge::call_off(ctx);
    Ok(())
}

/// An error that asks Pingora for another round; `recover` decides.
fn again(kind: ErrorType) -> Box<Error> {
    let mut error = Error::new_up(kind);
    error.set_retry(true);
    error
}

/// Decides how the answer is treated and turns its head into the client's.
pub fn downstream_head(head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let status = head.status.as_u16();
    let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let events = starts_with(content_type, b"text/event-stream") && status < 300;
    let json = starts_with(content_type, b"application/json");
    let whole = status >= 300 || (!events && (json || must_be_json(ctx)));
    let signed = ctx.attempt.as_ref().is_some_and(|attempt| Deployment::is_signed(&attempt.upstream_model));
    let mut shown = client_head(ctx, head);
    ctx.status = status;
    let gateway_settings = &ctx.snapshot.config.gateway;
    let silence = Duration::from_millis(gateway_settings.stream_idle_timeout_ms);
    let every = Duration::from_millis(gateway_settings.stream_keepalive_ms);
    let comment = (events && !signed && !every.is_zero()).then(|| (every, super::accept::dialect(ctx).keepalive()));
    let content = ctx.cell.clock().content.filter(|_| events);
    let heard = Some(tokio::time::Instant::now());
    ctx.cell
        .with_clock(|clock| *clock = Clock { head: None, content, silence: Some(silence), heard, comment, ..*clock });
    if events {
        answer::set(&mut shown.headers, &header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer::set(&mut shown.headers, &names::ACCEL_BUFFERING, HeaderValue::from_static("no"));
        answer::set(&mut shown.headers, &header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        let frame_bytes_max = gateway_settings.frame_bytes_max as usize;
        let face = face_of(ctx, signed);
        let stream = Stream::new(super::accept::dialect(ctx), face, frame_bytes_max, ends_with_mark(ctx));
        ctx.answer = Answer::Events(Box::new(stream));
        if content.is_some() || recover::could_go_elsewhere(ctx) {
            hold_frames(ctx, content.is_some(), every);
            *head = shown.into();
            return Ok(());
        }
    } else if whole {
        ctx.cell.hold(Hold::Whole);
        ctx.answer = Answer::Whole(Whole { head: shown, body: BytesMut::new() });
        *head = bare_head_of(head.status).into();
        return Ok(());
    } else {
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            if let Some(value) = head.headers.get(&name) {
                answer::set(&mut shown.headers, &name, value.clone());
            }
        }
        ctx.answer = Answer::Raw;
        ctx.forget_body();
    }
    *head = shown.into();
    ctx.head_at = Some(Instant::now());
    Ok(())
}

/// Keeps a stream back until it has content: until then another deployment may still serve the request.
///
/// Where nothing else limits the wait, the head goes out when the first keep-alive comment is due: clients and proxies
/// give up on a connection that stays silent.
fn hold_frames(ctx: &mut Ctx, is_limited: bool, keepalive: Duration) {
    ctx.cell.hold(Hold::Frames);
    if !is_limited && !keepalive.is_zero() {
        let release = tokio::time::Instant::now() + keepalive;
        ctx.cell.with_clock(|clock| clock.release = Some(release));
    }
}

/// Routes whose answers are JSON objects or failures.
fn must_be_json(ctx: &Ctx) -> bool {
    match ctx.endpoint.map(|endpoint| endpoint.kind) {
        Some(Kind::Proxy { shape, .. }) => !matches!(shape, Shape::Audio | Shape::Images),
        _ => false,
    }
}

/// Routes whose streams have an end mark: a finish reason, `[DONE]`, a last event. Images and audio have none.
fn ends_with_mark(ctx: &Ctx) -> bool {
    match ctx.endpoint.map(|endpoint| endpoint.kind) {
        Some(Kind::Proxy { shape, .. }) => {
            matches!(shape, Shape::Chat | Shape::Completions | Shape::Responses | Shape::Messages)
        }
        Some(Kind::Stored) => true,
        _ => false,
    }
}

fn may_pass(name: &str) -> bool {
    PASSING.contains(&name) || PASSING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn starts_with(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The client's head: what may pass of the upstream's, and what the gateway says of itself.
fn client_head(ctx: &mut Ctx, upstream: &ResponseHeader) -> Head {
    let begun = ctx.attempt.as_mut().and_then(|attempt| attempt.shown.take());
    let mut head = bare_head_of(upstream.status);
    head.headers = begun.unwrap_or_else(|| answer::begin(ctx));
    for (name, value) in &upstream.headers {
        if may_pass(name.as_str()) {
            head.headers.append(name, value.clone());
        }
    }
    answer::complete(ctx, &mut head.headers);
    head
}

fn face_of(ctx: &Ctx, signed: bool) -> Face {
    if signed {
        return Face::untouched();
    }
    let settings = &ctx.snapshot.config.gateway;
    let asked = ctx.ask.as_ref().and_then(|ask| ask.wishes.usage_asked);
    Face {
        model: match settings.response_model {
            ResponseModel::Client => ctx.ask.as_ref().map(|ask| ask.model_json.clone()),
            ResponseModel::Upstream => None,
        },
        usage: asked.unwrap_or(ctx.snapshot.config.settings.always_include_stream_usage),
        reasoning: match settings.reasoning_field {
            ReasoningField::ReasoningContent => Reasoning::Renamed,
            ReasoningField::Both => Reasoning::Both,
            ReasoningField::Upstream => Reasoning::Untouched,
        },
    }
}

/// One read of the answer's body.
pub fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    match &mut ctx.answer {
        Answer::Raw => {}
        Answer::Events(_) => events(body, end, ctx)?,
        Answer::Whole(_) => return whole(body, end, ctx),
    }
    if body.as_ref().is_some_and(|body| !body.is_empty()) {
        ctx.first_byte_at.get_or_insert_with(Instant::now);
    }
    Ok(())
}

fn events(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    let was_announcing = is_announcing(ctx);
    let (shown, _) = pass(ctx, body.take().unwrap_or_default(), end);
    if was_announcing {
        let Answer::Events(stream) = &ctx.answer else { return Ok(()) };
        let has_content = !stream.is_announcing();
        let waits = !has_content && stream.announced_bytes() <= HELD_BYTES_MAX && !end;
        announce(ctx, waits, shown.last_words.as_ref().filter(|_| !has_content))?;
    }
    *body = Some(match shown.last_words {
        Some(last) => {
            if !end {
                ctx.cell.end_here();
            }
            say(ctx, last)
        }
        None => shown.bytes,
    });
    Ok(())
}

/// Whether the answer is a stream that has no content yet.
fn is_announcing(ctx: &Ctx) -> bool {
    matches!(&ctx.answer, Answer::Events(stream) if stream.is_announcing())
}

/// Whether the answer is a stream that was let go, and has more to say: its head is not held, or its content has come.
pub fn is_running(ctx: &Ctx) -> bool {
    matches!(&ctx.answer, Answer::Events(stream) if !stream.is_done()) && ctx.head_at.is_some() && ctx.end.is_empty()
}

/// Shows one read of a stream, `end` as in [`Stream::pass`]; also whether what is waited for has changed.
pub fn pass(ctx: &mut Ctx, read: Bytes, end: bool) -> (Passed, bool) {
    let Answer::Events(stream) = &mut ctx.answer else {
        return (Passed { bytes: read, last_words: None }, false);
    };
    let (was_within_frame, was_done) = (stream.is_within_frame(), stream.is_done());
    let passed = stream.pass(read, end, &mut ctx.meter);
    let (within_frame, is_done) = (stream.is_within_frame(), stream.is_done());
    if is_done && !was_done {
        // Nothing more is to come but the end itself.
        ctx.cell.with_clock(|clock| (clock.silence, clock.comment) = (Some(END_MAX), None));
    }
    if within_frame != was_within_frame {
        ctx.cell.with_clock(|clock| clock.within_frame = within_frame);
    }
    let (frames, odd) = stream.take_counts();
    ctx.live.metrics.stream_frames.inc_by(frames);
    if odd > 0 {
        ctx.live.metrics.odd_frames.inc_by(odd);
    }
    (passed, within_frame != was_within_frame || is_done != was_done)
}

/// The last words of a stream that went wrong, counted and ready to be sent.
pub fn say(ctx: &mut Ctx, last: LastWords) -> Bytes {
    ctx.live.metrics.truncated.get_or_create(&metrics::Cause { cause: last.cause }).inc();
    ctx.end = last.cause;
    redacted(ctx, last.bytes)
}

/// A stream before its content: it is held on, tried elsewhere when it went wrong, or let go. What went wrong behind
/// content is none of `last`, although it may have come in the same read: how reads are cut decides nothing.
fn announce(ctx: &mut Ctx, waits: bool, last: Option<&LastWords>) -> Result<()> {
    let held = ctx.cell.holds_frames();
    if let Some(last) = last.filter(|_| held) {
        let cause = recover::cause_of_status(last.status);
        if let Some(attempt) = ctx.attempt.as_mut() {
            attempt.verdict = Some((cause, last.cause));
        }
        if recover::would_go_on(ctx, cause) {
            return Err(again(recover::INVALID_ANSWER));
        }
    }
    if waits && last.is_none() {
        return Ok(());
    }
    if held {
        ctx.cell.hold(Hold::No);
    }
    ctx.head_at.get_or_insert_with(Instant::now);
    ctx.cell.with_clock(|clock| (clock.content, clock.release) = (None, None));
    ctx.forget_body();
    Ok(())
}

/// Collects a document; with its last byte it is judged and shown.
fn whole(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    let Answer::Whole(collected) = &mut ctx.answer else { return Ok(()) };
    let read = body.take().unwrap_or_default();
    let failed = collected.head.status.as_u16() >= 400;
    if failed && collected.body.len() + read.len() > ERROR_BYTES_MAX {
        let room = ERROR_BYTES_MAX.saturating_sub(collected.body.len());
        collected.body.extend_from_slice(&read[..room.min(read.len())]);
    } else if end && collected.body.is_empty() {
        let document = read;
        return judge(body, document, ctx);
    } else {
        collected.body.extend_from_slice(&read);
    }
    if end {
        let document = std::mem::take(&mut collected.body).freeze();
        return judge(body, document, ctx);
    }
    if !failed && collected.body.len() > JUDGED_BYTES_MAX {
        log::warn!("an answer above {JUDGED_BYTES_MAX} bytes is passed on unjudged");
        let document = std::mem::take(&mut collected.body).freeze();
        let Some(mut head) = take_head(ctx) else { return Ok(()) };
        answer::set(&mut head.headers, &header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        ctx.head_at = Some(Instant::now());
        ctx.cell.release(head);
        *body = Some(document);
        return Ok(());
    }
    *body = Some(Bytes::new());
    Ok(())
}

/// A document of the whole answer, or the failure it is.
fn judge(body: &mut Option<Bytes>, document: Bytes, ctx: &mut Ctx) -> Result<()> {
    let status = ctx.attempt.as_ref().map_or(0, |attempt| attempt.status);
    if status >= 400 {
        return judge_error(body, &document, status, ctx);
    }
    if status >= 300 {
        return invalid(ctx, "the upstream answered with a redirect");
    }
    let signed = ctx.attempt.as_ref().is_some_and(|attempt| Deployment::is_signed(&attempt.upstream_model));
    let dialect = super::accept::dialect(ctx);
    let Ok((shown, facts)) = face::answer(dialect, &document, &face_of(ctx, signed)) else {
        if must_be_json(ctx) {
            return invalid(ctx, "the upstream's answer is not a JSON object");
        }
        return show(body, document, ctx);
    };
    if let Some((_, status)) = facts.error.filter(|_| !facts.has_content) {
        let status = status.unwrap_or(502);
        if let Some(attempt) = ctx.attempt.as_mut() {
            attempt.status = status;
        }
        return judge_error(body, &document, status, ctx);
    }
    let needs_choices = matches!(
        ctx.endpoint.map(|endpoint| endpoint.kind),
        Some(Kind::Proxy { shape: Shape::Chat | Shape::Completions, .. })
    );
    if needs_choices && !facts.has_content {
        return invalid(ctx, "the upstream's answer holds no choices");
    }
    if let Some(usage) = &facts.usage {
        ctx.meter.read_usage(usage);
    }
    if let Some(pricing) = &facts.pricing {
        ctx.meter.read_pricing(pricing);
    }
    match shown {
        Shown::Changed(bytes) => show(body, bytes, ctx),
        Shown::AsIs | Shown::Dropped => show(body, document, ctx),
    }
}

/// Lets the head go with the document behind it.
fn show(body: &mut Option<Bytes>, document: Bytes, ctx: &mut Ctx) -> Result<()> {
    let Some(mut head) = take_head(ctx) else { return Ok(()) };
    head.headers.remove(header::TRANSFER_ENCODING);
    answer::set(&mut head.headers, &header::CONTENT_LENGTH, decimal(document.len()));
    ctx.status = head.status.as_u16();
    ctx.head_at = Some(Instant::now());
    ctx.first_byte_at = ctx.head_at;
    ctx.cell.release(head);
    *body = Some(document);
    Ok(())
}

/// The head of an answer that was being collected.
pub fn take_head(ctx: &mut Ctx) -> Option<Head> {
    match std::mem::replace(&mut ctx.answer, Answer::Raw) {
        Answer::Whole(collected) => Some(collected.head),
        Answer::Raw | Answer::Events(_) => None,
    }
}

/// An error answer: perhaps a reason to go on elsewhere, else shown in the client's dialect with the upstream's words.
fn judge_error(body: &mut Option<Bytes>, document: &Bytes, status: u16, ctx: &mut Ctx) -> Result<()> {
    let cause = recover::cause_of_answer(status, document);
    if let Some(attempt) = ctx.attempt.as_mut() {
        attempt.verdict = Some((cause, recover::outcome_of_status(status)));
    }
    if status == 422 && recover::repair(ctx, document) {
        return Err(again(recover::REPAIRED));
    }
    if recover::would_go_on(ctx, cause) {
        return Err(again(ErrorType::HTTPStatus(status)));
    }
    let dialect = super::accept::dialect(ctx);
    let error = render::read_upstream(dialect, status, document);
    let shown = match error.complete {
        true => document.clone(),
        false => Bytes::from(render::body_of_upstream(dialect, status, &error)),
    };
    let shown = redacted(ctx, shown);
    if let Answer::Whole(mut collected) = std::mem::replace(&mut ctx.answer, Answer::Raw) {
        answer::advise(ctx, &mut collected.head.headers, cause);
        collected.head.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        answer::set(&mut collected.head.headers, &header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ctx.answer = Answer::Whole(collected);
    }
    ctx.end = recover::outcome_of_status(status);
    show(body, shown, ctx)
}

/// An answer that is not what the route promises.
pub fn invalid(ctx: &mut Ctx, words: &'static str) -> Result<()> {
    if let Some(attempt) = ctx.attempt.as_mut() {
        attempt.verdict = Some((Cause::Passing, "invalid_response"));
    }
    let mut error = Error::explain(recover::INVALID_ANSWER, words).into_up();
    error.set_retry(ctx.plan.as_ref().is_some_and(|plan| plan.peek(Cause::Passing) != Next::Stop));
    Err(error)
}

/// The upstream's key never travels downstream, not even in its own words.
fn redacted(ctx: &Ctx, bytes: Bytes) -> Bytes {
    let Some(attempt) = &ctx.attempt else { return bytes };
    let Some(key) = ctx.snapshot.deployments[attempt.deployment].key.as_ref().map(|key| key.expose().as_bytes()) else {
        return bytes;
    };
    if key.len() < 4 || memchr::memmem::find(&bytes, key).is_none() {
        return bytes;
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(&bytes, key) {
        clean.extend_from_slice(&bytes[from..at]);
        clean.extend_from_slice(b"***");
        from = at + key.len();
    }
    clean.extend_from_slice(&bytes[from..]);
    clean.into()
}
