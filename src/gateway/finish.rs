//! The end of a request: its metrics and its access line.

use super::accept::{caller_name, path_of};
use super::ctx::Ctx;
use super::hedge;
use super::observe::Answer;
use super::recover::{outcome_of_status, settle};
use crate::api::endpoint::Kind;
use crate::config::AccessLog;
use crate::telemetry::access::{Line, TARGET};
use crate::telemetry::series::Route;
use http::Method;
use pingora_core::protocols::l4::socket::SocketAddr as ClientAddr;
use pingora_error::Error;
use pingora_http::RequestHeader;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Who asked, and for what; of the session no more is needed in the end.
pub struct Visit<'s> {
    method: Method,
    path: Cow<'s, str>,
    client: Option<SocketAddr>,
}

impl<'s> Visit<'s> {
    /// The visit of a request with this head.
    pub fn new(head: &'s RequestHeader, client: Option<&ClientAddr>) -> Self {
        let client = client.and_then(|address| address.as_inet().copied());
        Visit { method: head.method.clone(), path: path_of(head), client }
    }

    /// The same, when the session goes.
    pub fn into_owned(self) -> Visit<'static> {
        Visit { method: self.method, path: Cow::Owned(self.path.into_owned()), client: self.client }
    }
}

/// Settles a request, whatever its end.
pub fn run(ctx: &mut Ctx, visit: &Visit<'_>, bytes_out: u64, error: Option<&Error>) {
    let now = Instant::now();
    if let Some(attempt) = &ctx.attempt {
        let tokens = ctx.meter.prompt_tokens.unwrap_or(0) + ctx.meter.completion_tokens.unwrap_or(0);
        let now_ms = ctx.live.ms_at(now);
        ctx.snapshot.deployments[attempt.deployment].vitals.usage().used(tokens, now_ms);
        ctx.live.guard.used(tokens, now_ms);
        let outcome = last_outcome(ctx, error);
        settle(ctx, outcome);
    }
    hedge::call_off(ctx);
    super::recover::refund(ctx);
    if ctx.end.is_empty() {
        ctx.end = if error.is_none() { "done" } else { "broken" };
    }
    let total = now.saturating_duration_since(ctx.started);
    count(ctx, total, bytes_out);
    let format = ctx.snapshot.config.gateway.access_log;
    let level = level(ctx);
    if format != AccessLog::Off && log::log_enabled!(target: TARGET, level) {
        write_line(visit, ctx, total, bytes_out, format, level);
    }
}

/// Probes ask every few seconds; their lines would bury the others.
fn level(ctx: &Ctx) -> log::Level {
    let probe = matches!(ctx.endpoint.map(|endpoint| endpoint.kind), Some(Kind::Alive | Kind::Ready | Kind::Health));
    if probe && ctx.status < 400 { log::Level::Debug } else { log::Level::Info }
}

fn last_outcome(ctx: &Ctx, error: Option<&Error>) -> &'static str {
    let Some(attempt) = &ctx.attempt else { return "ok" };
    match (attempt.verdict, error) {
        _ if ctx.end == "client_left" => "client_left",
        (Some((_, outcome)), _) => outcome,
        (None, _) if ctx.end == "done" => "ok",
        (None, None) if attempt.status >= 400 => outcome_of_status(attempt.status),
        (None, None) if ctx.end.is_empty() => "ok",
        (None, None) => ctx.end,
        (None, Some(_)) if !ctx.end.is_empty() => ctx.end,
        (None, Some(error)) => super::recover::outcome(ctx, error),
    }
}

fn count(ctx: &Ctx, total: Duration, bytes_out: u64) {
    let metrics = &ctx.live.metrics;
    metrics.bytes_in.inc_by(ctx.bytes_in);
    metrics.bytes_out.inc_by(bytes_out);
    let endpoint = ctx.endpoint.map_or("none", |endpoint| endpoint.name);
    let deployment = ctx.attempt.as_ref().map(|attempt| &ctx.snapshot.deployments[attempt.deployment]);
    let kept = deployment.and_then(|deployment| deployment.series.route(endpoint, &deployment.group));
    let own;
    let route = match kept {
        Some(route) => route,
        None => {
            own = Route::new(endpoint, &ctx.group());
            &own
        }
    };
    let seconds = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(ctx.started).as_secs_f64());
    route.times(metrics, seconds(ctx.head_at), seconds(ctx.first_byte_at), total.as_secs_f64());
    route.ended(metrics, ctx.status);
    if let Some(deployment) = deployment {
        let tokens = [ctx.meter.prompt_tokens, ctx.meter.completion_tokens];
        deployment.series.usage(metrics, &deployment.group, tokens, ctx.meter.cost_usd);
    }
}

fn write_line(visit: &Visit<'_>, ctx: &Ctx, total: Duration, bytes_out: u64, format: AccessLog, level: log::Level) {
    let deployment = ctx.attempt.as_ref().map(|attempt| &*ctx.snapshot.deployments[attempt.deployment].id);
    let line = Line {
        request_id: ctx.request_id.to_str().unwrap_or_default(),
        method: visit.method.as_str(),
        path: &visit.path,
        client: visit.client,
        caller: caller_name(ctx),
        model: ctx.ask.as_ref().map_or("", |ask| &ask.model),
        upstream_model: ctx.attempt.as_ref().map_or("", |attempt| &attempt.upstream_model),
        deployment: deployment.unwrap_or_default(),
        status: ctx.status,
        stream: matches!(ctx.answer, Answer::Events(_)),
        total,
        head: ctx.head_at.map(|at| at.saturating_duration_since(ctx.started)),
        first_byte: ctx.first_byte_at.map(|at| at.saturating_duration_since(ctx.started)),
        bytes_in: ctx.bytes_in,
        bytes_out,
        prompt_tokens: ctx.meter.prompt_tokens,
        completion_tokens: ctx.meter.completion_tokens,
        cost_usd: ctx.meter.cost_usd,
        dropped: &ctx.dropped,
        attempts: &ctx.attempts,
        end: ctx.end,
    };
    match format {
        AccessLog::Json => log::log!(target: TARGET, level, "{}", line.json()),
        AccessLog::Text | AccessLog::Off => log::log!(target: TARGET, level, "{}", line.text()),
    }
}
