//! A place for an attempt: a deployment chosen and counted under every limit, at once or after a wait in line.

use super::Gateway;
use super::ctx::{Ctx, InUse};
use super::forward::{fail, unless_client_leaves};
use crate::api::error::{self, ApiError};
use crate::config::QUEUE_DEFAULT;
use crate::routing::balance::Draw;
use crate::routing::limit::Full;
use crate::routing::plan::{Cause, Next};
use crate::snapshot::Queue;
use crate::telemetry::metrics;
use pingora_error::Result;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first in line looks again this often even if nothing told it to.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// The deployment of the next attempt, and the proof that it is counted there.
pub async fn seat(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<(usize, InUse)> {
    loop {
        let has_line = ctx.plan.as_ref().is_some_and(|plan| gateway.live.queue.has_line(&plan.resolved().group.name));
        let full = match has_line {
            false => match try_seat(ctx) {
                Ok(seat) => return Ok(seat),
                Err(full) => full,
            },
            true => Full { again_ms: None },
        };
        // Where another group may serve, nobody waits.
        let elsewhere = ctx.plan.as_mut().map(|plan| plan.advance(Cause::Refused)) == Some(Next::Fallback);
        if elsewhere {
            count(gateway, "fallback");
            continue;
        }
        return Box::pin(wait(gateway, session, ctx, full)).await;
    }
}

/// Chooses and counts without waiting.
///
/// # Errors
/// When no deployment of the group, or the gateway itself, has room.
pub fn try_seat(ctx: &mut Ctx) -> Result<(usize, InUse), Full> {
    let (live, snapshot) = (Arc::clone(&ctx.live), Arc::clone(&ctx.snapshot));
    let Some(plan) = ctx.plan.as_mut() else { return Err(Full { again_ms: None }) };
    let now_ms = live.now_ms();
    let draw = Draw { strategy: snapshot.strategy, chance: fastrand::f64(), now_ms };
    let Some(place) = plan.choose(&snapshot.shares, draw) else {
        return Err(Full { again_ms: plan.again_ms(&snapshot.shares, now_ms) });
    };
    let in_use = InUse::begin(&live, &snapshot, place, now_ms)?;
    plan.take(place);
    Ok((place, in_use))
}

async fn wait(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx, full: Full) -> Result<(usize, InUse)> {
    let settings = &ctx.snapshot.config.gateway;
    let group = ctx.plan.as_ref().map_or("", |plan| &plan.resolved().group.name);
    let Some(ticket) = gateway.live.queue.enter(group, settings.queue.unwrap_or(QUEUE_DEFAULT)) else {
        count(gateway, "queue_full");
        return Err(fail(ctx, refusal("no room for another request, and the queue is full", full)));
    };
    let limit = Duration::from_millis(settings.queue_timeout_ms);
    let deadline = Instant::now() + ctx.time_left().map_or(limit, |left| left.min(limit));
    gateway.live.metrics.queued.inc();
    let queue = Arc::clone(&gateway.live.queue);
    let first = async {
        let _turn = ticket.turn().await;
        room(&queue, ctx).await
    };
    let seated = unless_client_leaves(session, tokio::time::timeout_at(deadline, first)).await;
    gateway.live.metrics.queued.dec();
    match seated? {
        Ok(seat) => Ok(seat),
        Err(_) => {
            count(gateway, "queue_timeout");
            Err(fail(ctx, refusal("no room for another request was found in time", full)))
        }
    }
}

/// Waits for room as the first in line.
async fn room(queue: &Queue, ctx: &mut Ctx) -> (usize, InUse) {
    loop {
        let mut freed = std::pin::pin!(queue.freed());
        // Listens before it looks: what is freed in between is heard.
        freed.as_mut().enable();
        let full = match try_seat(ctx) {
            Ok(seat) => return seat,
            Err(full) => full,
        };
        let again = full.again_ms.map_or(LOOK_AGAIN_MAX, Duration::from_millis).min(LOOK_AGAIN_MAX);
        tokio::select! {
            () = freed => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}

fn refusal(words: &str, full: Full) -> ApiError {
    let seconds = full.again_ms.map_or(1, |again_ms| again_ms.div_ceil(1_000).max(1));
    ApiError::new(&error::LIMITED, words).retry_after(seconds)
}

fn count(gateway: &Gateway, cause: &'static str) {
    gateway.live.metrics.limited.get_or_create(&metrics::Cause { cause }).inc();
}
