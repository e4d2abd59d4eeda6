//! Towards the upstream: which deployment, which address, which bytes.
//!
//! The edit is made when an attempt begins, not in `upstream_request_filter` as the plan of the house had it: a body
//! that a deployment refuses is answered before anything is dialled, and retries to another address reuse the bytes.

use super::cell::Hold;
use super::clock::Clock;
use super::ctx::{Attempt, Ctx, InUse};
use super::{Gateway, admit, hedge, outgoing};
use crate::api::error::{self, ApiError};
use crate::snapshot::Deployment;
use bytes::Bytes;
use pingora_core::protocols::http::compression::ResponseCompressionCtx;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The error type of a failure that the record already holds.
pub const DECIDED: ErrorType = ErrorType::Custom("Decided");
/// A client that left while the gateway waited for something else.
pub const CLIENT_LEFT: ErrorType = ErrorType::Custom("ClientLeft");

/// A connection made within this time leaves a client no time to leave worth asking for.
const CONNECTED_AT_ONCE: Duration = Duration::from_millis(50);

/// Ends the request with an error of ours.
pub fn fail(ctx: &mut Ctx, error: ApiError) -> Box<Error> {
    ctx.failure = Some(error);
    Error::explain(DECIDED, "answered by the gateway")
}

/// The peer of the next try.
pub async fn peer(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    if let Some(pause) = ctx.pause.take() {
        Box::pin(unless_client_leaves(session, tokio::time::sleep(pause))).await?;
    }
    if ctx.attempt.is_none() {
        if let Some(peer) = hedge::adopt(session, ctx).await? {
            return Ok(peer);
        }
        let (place, in_use) = admit::seat(gateway, session, ctx).await?;
        begin(ctx, place, in_use)?;
    }
    let snapshot = Arc::clone(&ctx.snapshot);
    let Some(deployment) = ctx.attempt.as_ref().map(|attempt| &snapshot.deployments[attempt.deployment]) else {
        return Err(fail(ctx, ApiError::new(&error::INTERNAL, "no attempt could be made")));
    };
    let host = deployment.peer.host();
    if !host.is_known() {
        let limit = Duration::from_millis(snapshot.config.gateway.connect_timeout_ms);
        if !Box::pin(unless_client_leaves(session, host.wait_known(limit))).await? {
            let cause = Error::explain(ErrorType::ConnectError, "the upstream's name has no address");
            return Err(super::recover::failed(ctx, cause.into_up(), false));
        }
    }
    let Some(attempt) = ctx.attempt.as_mut() else {
        return Err(Error::explain(ErrorType::InternalError, "the attempt was lost"));
    };
    let mut peer = deployment
        .peer
        .peer(attempt.address_try)
        .ok_or_else(|| Error::explain(ErrorType::ConnectError, "the upstream's name has no address").into_up())?;
    attempt.address = peer._address.as_inet().copied();
    attempt.reused = false;
    if attempt.stale > 0 {
        // A connection of its own: whatever else is pooled may be just as dead.
        peer.group_key = fastrand::u64(2..);
    }
    stand_in(session, ctx);
    Ok(peer)
}

/// Puts an empty head in the place of the client's until [`take_head_back`].
///
/// Pingora copies the head for each attempt, and nothing of the copy is used but its version.
fn stand_in(session: &mut Session, ctx: &mut Ctx) {
    let head = session.req_header_mut();
    let empty = outgoing::empty_head(head);
    ctx.lent_head = Some(std::mem::replace(head, empty));
}

/// Ends what [`stand_in`] began; nothing when it did not.
pub fn take_head_back(session: &mut Session, ctx: &mut Ctx) {
    if let Some(head) = ctx.lent_head.take() {
        *session.req_header_mut() = head;
    }
}

/// Waits for `future`, but not longer than the client does.
pub async fn unless_client_leaves<T>(session: &mut Session, future: impl Future<Output = T>) -> Result<T> {
    let future = pin!(future);
    tokio::select! {
        biased;
        done = future => Ok(done),
        left = session.downstream_session.read_body_or_idle(true) => Err(gone(left)),
    }
}

/// Pingora does not watch the client while it connects. After a connection that took its time, a client that left
/// meanwhile is noticed here, before its request is sent and billed.
pub async fn unless_client_left(session: &mut Session, ctx: &Ctx) -> Result<()> {
    if ctx.attempt.as_ref().is_none_or(|attempt| attempt.started.elapsed() < CONNECTED_AT_ONCE) {
        return Ok(());
    }
    tokio::select! {
        biased;
        left = Box::pin(session.downstream_session.read_body_or_idle(true)) => Err(gone(left)),
        () = std::future::ready(()) => Ok(()),
    }
}

fn gone(left: Result<Option<Bytes>>) -> Box<Error> {
    let left = left.err().unwrap_or_else(|| Error::explain(CLIENT_LEFT, "while an attempt was made"));
    left.into_down()
}

/// Notes what an attempt got for a connection.
pub fn note_connection(gateway: &Gateway, ctx: &mut Ctx, is_reused: bool) {
    let metrics = &gateway.live.metrics;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.reused = is_reused;
    }
    if is_reused { &metrics.reused_connections } else { &metrics.new_connections }.inc();
}

/// Makes the bytes of a new attempt.
pub fn begin(ctx: &mut Ctx, place: usize, in_use: InUse) -> Result<()> {
    let snapshot = Arc::clone(&ctx.snapshot);
    let deployment = &snapshot.deployments[place];
    if let Some(variable) = &deployment.missing_variable {
        log::error!("{} was called, but its key's variable {variable} is not set", deployment.group);
        let words = format!("Missing credentials: the key of model {} is not configured", deployment.group);
        return Err(fail(ctx, ApiError::new(&error::MISSING_CREDENTIALS, words)));
    }
    let upstream_model = match &ctx.plan {
        Some(plan) => plan.resolved().upstream_model(&deployment.upstream_model),
        None => Arc::clone(&deployment.upstream_model),
    };
    let Some(source) = ctx.source() else {
        return Error::e_explain(ErrorType::InternalError, "a request without a route");
    };
    match source.body(deployment, &upstream_model) {
        Ok((body, dropped)) => {
            ctx.dropped = dropped.join(",");
            ctx.attempt = Some(Attempt::new(in_use, place, upstream_model, body));
            Ok(())
        }
        Err(refused) => Err(fail(ctx, refused)),
    }
}

/// Writes the head for this attempt and starts the clock.
pub fn head(session: &mut Session, head: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
    take_head_back(session, ctx);
    let snapshot = Arc::clone(&ctx.snapshot);
    let (Some(source), Some(attempt)) = (ctx.source(), &ctx.attempt) else {
        return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
    };
    let deployment = &snapshot.deployments[attempt.deployment];
    source.head(session.req_header(), deployment, attempt.body.len(), head)?;
    // The attempt before may have been answered compressed.
    session.upstream_compression = ResponseCompressionCtx::new(0, false, false);
    start_clock(ctx, deployment);
    hedge::arm(session, ctx);
    Ok(())
}

/// Starts the clock of an attempt.
pub fn start_clock(ctx: &mut Ctx, deployment: &Deployment) {
    let now = tokio::time::Instant::now();
    let head = now + ctx.head_limit(deployment);
    let ttft = ctx.snapshot.config.gateway.ttft_timeout_ms.filter(|_| ctx.wants_stream()).map(Duration::from_millis);
    ctx.cell.hold(Hold::No);
    ctx.cell.set_clock(Clock { head: Some(head), content: ttft.map(|limit| now + limit), ..Clock::default() });
}
