//! After a failed attempt: what it was, whether another follows and when, and what the client is told otherwise.
//!
//! The one way back: an error marked for retry makes Pingora call `upstream_peer` again.

use super::answer;
use super::clock::{Clock, TimeOut};
use super::ctx::Ctx;
use super::forward::{CLIENT_LEFT, DECIDED};
use super::guard::PANICKED;
use super::hedge::{self, OVERTAKEN};
use super::names;
use super::observe::Answer;
use super::replay::{EMPTY_ANSWER, ENDED_HERE};
use crate::api::error::{self, ApiError};
use crate::api::{params, render};
use crate::routing::plan::{Cause, Next, Plan};
use crate::routing::vitals::{Ending, State};
use crate::telemetry::metrics;
use crate::usage::Meter;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use memchr::memmem;
use pingora_error::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::{FailToProxy, Session};
use std::time::{Duration, Instant, SystemTime};

/// The error of an answer that was read and is not what the route promises.
pub const INVALID_ANSWER: ErrorType = ErrorType::Custom("InvalidAnswer");

/// The error of a 422 that asks for the same request without some fields (see [`repair`]).
pub const REPAIRED: ErrorType = ErrorType::Custom("Repaired");

/// First pause before the same deployment is tried again; doubles each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest pause of our own.
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// An upstream that asks for more patience than this is not waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// How often an attempt may find its pooled connection closed before that counts as a failure.
const STALE_MAX: u32 = 2;

/// Words of upstreams that decline a prompt for its length (OpenAI, NanoGPT, vLLM, Anthropic; 2026-11).
static CONTEXT_WORDS: &[&str] = &[
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "exceed context limit",
];

/// Words of upstreams that decline content (OpenAI, Azure, NanoGPT; 2026-11).
static POLICY_WORDS: &[&str] =
    &["content_policy_violation", "content_filter", "ResponsibleAIPolicyViolation", "content management policy"];

/// What a status means for going on.
pub fn cause_of_status(status: u16) -> Cause {
    match status {
        408 | 429 | 500..=599 => Cause::Passing,
        400 | 413 | 422 => Cause::ClientMistake,
        _ => Cause::Refused,
    }
}

/// What an error answer means for going on, its words included.
pub fn cause_of_answer(status: u16, body: &[u8]) -> Cause {
    let holds = |words: &[&str]| words.iter().any(|word| memmem::find(body, word.as_bytes()).is_some());
    match cause_of_status(status) {
        Cause::ClientMistake if holds(CONTEXT_WORDS) => Cause::ContextWindow,
        Cause::ClientMistake if holds(POLICY_WORDS) => Cause::ContentPolicy,
        cause => cause,
    }
}

/// The word for a status in metrics and the access line.
pub fn outcome_of_status(status: u16) -> &'static str {
    match status {
        400 => "status_400",
        401 => "status_401",
        402 => "status_402",
        403 => "status_403",
        404 => "status_404",
        408 => "status_408",
        413 => "status_413",
        422 => "status_422",
        429 => "status_429",
        500 => "status_500",
        502 => "status_502",
        503 => "status_503",
        504 => "status_504",
        529 => "status_529",
        ..500 => "status_4xx",
        _ => "status_5xx",
    }
}

/// `retry-after-ms`, or `retry-after` as seconds or as a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(&names::RETRY_AFTER_MS).and_then(|text| text.parse::<u64>().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let after = text(&header::RETRY_AFTER)?;
    match after.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let at = httpdate::parse_http_date(after).ok()?;
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// Whether a failure of this cause would be followed by another attempt.
pub fn would_go_on(ctx: &mut Ctx, cause: Cause) -> bool {
    rival_may_serve(ctx, cause) || step(ctx, cause).is_some()
}

/// Whether a second attempt is on its way that this failure leaves standing.
fn rival_may_serve(ctx: &Ctx, cause: Cause) -> bool {
    matches!(cause, Cause::Passing | Cause::Refused) && ctx.cell.hedge_may_win()
}

/// Whether a failure could lead to another deployment or another group.
pub fn could_go_elsewhere(ctx: &Ctx) -> bool {
    ctx.plan.as_ref().is_some_and(|plan| {
        plan.peek(Cause::Passing) == Next::Retry { elsewhere: true } || plan.peek(Cause::Refused) == Next::Fallback
    })
}

/// The cause as the plan should hear it, and the pause before the next attempt; none when this failure is the last.
///
/// A retry is paid for when it is foreseen: the answer it stands for is thrown away then, and must not be missed when
/// others have spent the budget in between.
fn step(ctx: &mut Ctx, cause: Cause) -> Option<(Cause, Option<Duration>)> {
    let plan = ctx.plan.as_ref()?;
    if let Next::Retry { elsewhere } = plan.peek(cause) {
        let asked = ctx.attempt.as_ref().and_then(|attempt| attempt.retry_after);
        let least = Duration::from_millis(ctx.snapshot.config.settings.retry_after_ms.unwrap_or(0));
        let pause = if elsewhere { Duration::ZERO } else { asked.unwrap_or_else(|| own_pause(ctx)).max(least) };
        if pause <= RETRY_AFTER_MAX && fits(ctx, pause) && pay(ctx) {
            return Some((cause, Some(pause).filter(|pause| !pause.is_zero())));
        }
    }
    // Where the same again is no use, another group may serve at once.
    let plan = ctx.plan.as_ref()?;
    let cause = if cause == Cause::Passing { Cause::Refused } else { cause };
    (plan.peek(cause) == Next::Fallback && fits(ctx, Duration::ZERO)).then_some((cause, None))
}

fn pay(ctx: &mut Ctx) -> bool {
    let share = ctx.snapshot.config.gateway.retry_budget;
    ctx.paid = ctx.paid || ctx.live.budget.try_pay(share, ctx.live.now_ms());
    ctx.paid
}

/// Gives back what was paid for a retry that is not made after all.
pub fn refund(ctx: &mut Ctx) {
    if std::mem::take(&mut ctx.paid) {
        ctx.live.budget.refund();
    }
}

/// Whether the client would still be there after the pause, by its own word.
fn fits(ctx: &Ctx, pause: Duration) -> bool {
    ctx.time_left().is_none_or(|left| pause < left)
}

/// The same each time it is asked for after one attempt: first it is foreseen, then taken.
fn own_pause(ctx: &Ctx) -> Duration {
    let retries = ctx.plan.as_ref().map_or(0, Plan::retries_made);
    backoff(retries, ctx.attempt.as_ref().map_or(0.0, |attempt| attempt.jitter))
}

/// Exponential, with jitter over its upper half, so that clients of one outage do not come back together.
fn backoff(retries: u32, jitter: f64) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << retries.min(16)).min(BACKOFF_MAX);
    full.mul_f64(0.5 + jitter / 2.0)
}

/// Notes the fields a 422 complains about; true when the request should be sent once more without them.
pub fn repair(ctx: &mut Ctx, answer: &[u8]) -> bool {
    let Some(attempt) = &ctx.attempt else { return false };
    let dropping = ctx.snapshot.deployments[attempt.deployment].drops_params;
    let Some(ask) = &ctx.ask else { return false };
    let Some(skim) = &ask.skim else { return false };
    if !dropping || !ctx.unwanted.is_empty() {
        return false;
    }
    let mut fields = params::fields_named_by_422(answer);
    fields.retain(|field| {
        !matches!(field.as_str(), "model" | "messages" | "input" | "prompt" | "stream")
            && skim.find(&ask.doc, field).is_some()
    });
    ctx.unwanted = fields;
    !ctx.unwanted.is_empty()
}

/// What an error of Pingora's is: its cause, its word, and whether the client ended it.
struct Reading {
    cause: Cause,
    outcome: &'static str,
    client_left: bool,
}

fn read(ctx: &Ctx, error: &Error) -> Reading {
    let reading = |cause, outcome| Reading { cause, outcome, client_left: false };
    if let Some(kind) = TimeOut::of(error.etype()) {
        return reading(Cause::Passing, kind.name());
    }
    if *error.etype() == PANICKED {
        return reading(Cause::ClientMistake, "panic");
    }
    if *error.etype() == CLIENT_LEFT || *error.esource() == ErrorSource::Downstream {
        return Reading { cause: Cause::ClientMistake, outcome: "client_left", client_left: true };
    }
    if let Some((cause, outcome)) = ctx.attempt.as_ref().and_then(|attempt| attempt.verdict) {
        return reading(cause, outcome);
    }
    match error.etype() {
        ErrorType::ConnectTimedout if is_handshake(error) => reading(Cause::Passing, "tls_timeout"),
        ErrorType::ConnectTimedout => reading(Cause::Passing, "connect_timeout"),
        ErrorType::TLSHandshakeTimedout => reading(Cause::Passing, "tls_timeout"),
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => reading(Cause::Passing, "tls"),
        ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::SocketError => {
            reading(Cause::Passing, "connect")
        }
        ErrorType::HTTPStatus(status) => reading(cause_of_status(*status), outcome_of_status(*status)),
        kind if *kind == EMPTY_ANSWER => reading(Cause::Passing, "invalid_response"),
        kind if *kind == DECIDED => reading(Cause::ClientMistake, "decided"),
        _ => reading(Cause::Passing, "broken"),
    }
}

/// Whether a connect time-out is that of a TLS handshake: Pingora 0.9.1 gives both one type and tells them apart in words
/// only (`connectors/tls/rustls/mod.rs`: "connecting to server …, timeout …").
fn is_handshake(error: &Error) -> bool {
    error.to_string().contains(", timeout ")
}

/// The word for an error in metrics and the access line.
pub fn outcome(ctx: &Ctx, error: &Error) -> &'static str {
    read(ctx, error).outcome
}

/// A connection that could not be made: the next address of the same host first.
pub fn not_connected(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    if let Some(attempt) = ctx.attempt.as_mut() {
        let host = ctx.snapshot.deployments[attempt.deployment].peer.host();
        if let Some(address) = attempt.address {
            host.failed(address);
        }
        log::debug!("no connection to a deployment: {}", error.etype().as_str());
        attempt.address_try += 1;
        if host.pick(0).is_some_and(|(_, count)| attempt.address_try < count) {
            error.set_retry(true);
            return error;
        }
    }
    failed(ctx, error, false)
}

/// Decides after any failure of an attempt; the returned error says by its retry flag whether another follows.
pub fn failed(ctx: &mut Ctx, mut error: Box<Error>, answered: bool) -> Box<Error> {
    if *error.etype() == OVERTAKEN {
        return hedge::overtaken(ctx, error);
    }
    // The pool handed out a connection that the upstream had just closed, or that it ends by GOAWAY or REFUSED_STREAM
    // without having looked at the request (RFC 9113, section 8.7; Pingora marks those alone for retry).
    let unseen = *error.etype() == ErrorType::H2Error && error.retry == RetryType::Decided(true);
    let reused = ctx.attempt.as_ref().is_some_and(|attempt| attempt.reused);
    let stale = unseen || (error.retry == RetryType::ReusedOnly && reused);
    error.set_retry(false);
    if answered || *error.etype() == DECIDED || *error.etype() == ENDED_HERE {
        return error;
    }
    if let Some(attempt) = ctx.attempt.as_mut().filter(|attempt| stale && attempt.stale < STALE_MAX) {
        // No failure of anybody's.
        attempt.stale += 1;
        error.set_retry(true);
        return error;
    }
    let reading = read(ctx, &error);
    if reading.client_left {
        return error;
    }
    if *error.etype() == REPAIRED {
        return resend(ctx, error);
    }
    if rival_may_serve(ctx, reading.cause) {
        settle(ctx, reading.outcome);
        next_attempt(ctx, None);
        error.set_retry(true);
    } else if let Some((cause, pause)) = step(ctx, reading.cause) {
        settle(ctx, reading.outcome);
        if let Some(Next::Retry { .. }) = ctx.plan.as_mut().map(|plan| plan.advance(cause)) {
            ctx.paid = false;
        }
        next_attempt(ctx, pause);
        error.set_retry(true);
    }
    refund(ctx);
    error
}

/// The 422 repair: the same deployment once more, without the fields it named.
fn resend(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    settle(ctx, "status_422");
    let names = ctx.unwanted.join(",");
    log::debug!("resending without {names}, which the upstream does not take");
    next_attempt(ctx, None);
    error.set_retry(true);
    error
}

/// Makes room for the next attempt.
pub fn next_attempt(ctx: &mut Ctx, pause: Option<Duration>) {
    ctx.attempt = None;
    ctx.answer = Answer::Raw;
    ctx.meter = Meter::default();
    ctx.pause = pause;
    // The limits of the attempt that ended must not cut the pause short; the client's own was looked at before.
    ctx.cell.set_clock(Clock::default());
}

/// Closes the running attempt in the record, the metrics and the deployment's vitals.
pub fn settle(ctx: &mut Ctx, outcome: &'static str) {
    let now = Instant::now();
    ctx.close_attempt(outcome, now);
    let Some(attempt) = &ctx.attempt else { return };
    let deployment = &ctx.snapshot.deployments[attempt.deployment];
    let changed = deployment.vitals.ended(
        ending(attempt, outcome),
        attempt.in_use.began_ms,
        ctx.snapshot.rest,
        ctx.live.ms_at(now),
    );
    if let Some(state) = changed {
        let place = metrics::Place { group: deployment.group.clone(), deployment: deployment.id.clone() };
        ctx.live.metrics.resting.get_or_create(&place).set(i64::from(state != State::Closed));
    }
    // Last, so that whoever has seen the count finds the state that belongs to it.
    deployment.series.attempt(&ctx.live.metrics, &deployment.group, &deployment.id, outcome);
    match changed {
        Some(State::Closed) => log::info!("deployment {} of {} is well again", deployment.id, deployment.group),
        Some(state) => {
            log::warn!("deployment {} of {} is {} after {outcome}", deployment.id, deployment.group, state.name())
        }
        None => {}
    }
}

/// What an outcome tells of the deployment.
fn ending(attempt: &super::ctx::Attempt, outcome: &str) -> Ending {
    match outcome {
        "ok" | "status_400" | "status_413" | "status_422" => Ending::Good,
        "client_left" | "called_off" | "decided" | "panic" => Ending::Unknown,
        _ => Ending::Failed {
            status: attempt.status,
            certain: matches!(attempt.status, 401..=404),
            retry_after_ms: attempt.retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        },
    }
}

/// The last word of a request that failed.
pub async fn finally(session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
    let opened = session.response_written().is_some_and(|head| !head.status.is_informational());
    let reading = read(ctx, error);
    let done = match ctx.failure.take() {
        _ if *error.etype() == ENDED_HERE => Ok(()),
        Some(error) if !opened => answer::error(session, ctx, &error).await,
        _ if reading.client_left => {
            note_client_left(ctx, opened);
            Ok(())
        }
        _ if opened => match parting(ctx, error) {
            Some(words) => answer::last_words(session, ctx, words).await,
            None => Ok(()),
        },
        _ => {
            log_failure(ctx, error, &reading);
            tell(session, ctx, error, &reading).await
        }
    };
    if done.is_err() && ctx.end != "client_left" {
        note_client_left(ctx, opened);
    }
    FailToProxy { error_code: ctx.status, can_reuse_downstream: !opened && !reading.client_left }
}

/// Notes that the client did not wait for the end; `opened` says that its answer had begun.
pub fn note_client_left(ctx: &mut Ctx, opened: bool) {
    let cause = match (&ctx.answer, opened) {
        (_, false) if ctx.plan.is_none() => "upload",
        (_, false) => "waiting",
        (Answer::Events(_), true) => "stream",
        (_, true) => "answer",
    };
    ctx.live.metrics.cancelled.get_or_create(&metrics::Cause { cause }).inc();
    ctx.end = "client_left";
    if ctx.status == 0 || !opened {
        ctx.status = 499;
    }
}

/// The last words of an answer that had begun and cannot be finished: a stream says so, anything else is cut, never ended
/// cleanly.
pub fn parting(ctx: &mut Ctx, error: &Error) -> Option<Bytes> {
    if let Answer::Events(stream) = &ctx.answer
        && stream.is_over()
    {
        // Everything had been said; only the connection ended badly, or not at all.
        ctx.end = "done";
        return Some(Bytes::new());
    }
    let (end, words) = match read(ctx, error).outcome {
        "timeout_silence" => ("upstream_stalled", TimeOut::Silence.words()),
        "timeout_ttft" => ("timeout_ttft", TimeOut::Content.words()),
        "timeout_total" => ("timeout_total", TimeOut::Total.words()),
        _ => ("upstream_broken", "the connection to the upstream broke in the middle of its answer"),
    };
    ctx.end = end;
    ctx.live.metrics.truncated.get_or_create(&metrics::Cause { cause: end }).inc();
    match &ctx.answer {
        Answer::Events(stream) => Some(stream.broken(words)),
        Answer::Raw | Answer::Whole(_) => None,
    }
}

fn log_failure(ctx: &Ctx, error: &Error, reading: &Reading) {
    let group = ctx.group();
    match reading.outcome {
        "connect" | "connect_timeout" | "tls" | "tls_timeout" => log::error!("no connection to {group}: {error}"),
        _ => log::warn!("{group} failed: {} ({error})", reading.outcome),
    }
}

/// An error answer for a failure that left nothing of the upstream's to pass on.
async fn tell(session: &mut Session, ctx: &mut Ctx, error: &Error, reading: &Reading) -> pingora_error::Result<()> {
    let status = ctx.attempt.as_ref().map_or(0, |attempt| attempt.status);
    if status >= 400 && (*error.etype() == EMPTY_ANSWER || matches!(error.etype(), ErrorType::HTTPStatus(_))) {
        return answer::upstream_error(
            session,
            ctx,
            status,
            &render::read_upstream(super::accept::dialect(ctx), status, b""),
        )
        .await;
    }
    let shown = match TimeOut::of(error.etype()) {
        Some(kind) => ApiError::new(&error::TIMEOUT, kind.words()),
        None => match reading.outcome {
            "panic" => ApiError::new(&error::INTERNAL, "the gateway failed on this request; the fault is its own"),
            "connect_timeout" => ApiError::new(&error::TIMEOUT, "the upstream did not accept a connection in time"),
            "tls_timeout" => ApiError::new(&error::TIMEOUT, "the upstream did not finish its TLS handshake in time"),
            "connect" => ApiError::new(&error::UNREACHABLE, "no connection to the upstream could be made"),
            "tls" => ApiError::new(&error::UNREACHABLE, "the upstream's TLS certificate or handshake failed"),
            "invalid_response" => {
                let words = error.context.as_ref().map_or("it has no body", |context| context.as_str());
                ApiError::new(&error::INVALID_RESPONSE, format!("the upstream's answer is invalid: {words}"))
            }
            _ if status != 0 => {
                ApiError::new(&error::INVALID_RESPONSE, "the upstream's answer broke off before its end")
            }
            _ => ApiError::new(&error::UNREACHABLE, "the connection to the upstream broke before it answered"),
        },
    };
    answer::error(session, ctx, &shown).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn after(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_every_spelling() {
        assert_eq!(after("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(after("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(after("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(after("retry-after", &soon).is_some_and(|pause| pause > Duration::from_secs(50)));
        assert_eq!(after("retry-after", "-1"), None);
        assert_eq!(after("retry-after", "soon"), None);
    }

    #[test]
    fn statuses_and_words_tell_causes() {
        assert_eq!(cause_of_status(429), Cause::Passing);
        assert_eq!(cause_of_status(403), Cause::Refused);
        assert_eq!(cause_of_answer(400, b"maximum context length is 8192"), Cause::ContextWindow);
        assert_eq!(cause_of_answer(400, b"content_policy_violation"), Cause::ContentPolicy);
        assert_eq!(cause_of_answer(400, b"bad"), Cause::ClientMistake);
        assert_eq!(cause_of_answer(500, b"maximum context length"), Cause::Passing);
    }

    #[test]
    fn back_off_grows_within_its_bounds() {
        for retries in 0..40 {
            let pause = backoff(retries, f64::from(retries) / 40.0);
            assert!(pause >= BACKOFF_FIRST / 2 && pause <= BACKOFF_MAX, "{retries}: {pause:?}");
        }
        assert!(backoff(4, 0.0) >= BACKOFF_MAX / 2);
    }
}
