//! Towards the upstream: which deployment, which address, which bytes.
//!
//! The edit is made when an attempt begins, not in `upstream_request_filter` as the plan of the house had it: a body
//! that a deployment refuses is answered before anything is dialled, and retries to another address reuse the bytes.

use super::clock::Clock;
use super::ctx::{Attempt, Ctx, InUse};
use super::replay::Hold;
use super::{Gateway, admit, form};
use crate::api::dialect::Dialect;
use crate::api::endpoint::Kind;
use crate::api::error::{self, ApiError};
use crate::api::params::Shape;
use crate::snapshot::Deployment;
use crate::telemetry::metrics;
use crate::upstream::head::{Accepted, Request};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The error type of a failure that the record already holds.
pub const DECIDED: ErrorType = ErrorType::Custom("Decided");
/// A client that left while the gateway waited for something else.
pub const CLIENT_LEFT: ErrorType = ErrorType::Custom("ClientLeft");

/// Ends the request with an error of ours.
pub fn fail(ctx: &mut Ctx, error: ApiError) -> Box<Error> {
    ctx.failure = Some(error);
    Error::explain(DECIDED, "answered by the gateway")
}

/// The peer of the next try.
pub async fn peer(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    if let Some(pause) = ctx.pause.take() {
        unless_client_leaves(session, tokio::time::sleep(pause)).await?;
    }
    if ctx.attempt.is_none() {
        let (place, in_use) = admit::seat(gateway, session, ctx).await?;
        begin(gateway, ctx, place, in_use)?;
    }
    let snapshot = Arc::clone(&ctx.snapshot);
    let Some(deployment) = ctx.attempt.as_ref().map(|attempt| &snapshot.deployments[attempt.deployment]) else {
        return Err(fail(ctx, ApiError::new(&error::INTERNAL, "no attempt could be made")));
    };
    let host = deployment.peer.host();
    if !host.is_known() {
        let limit = Duration::from_millis(snapshot.config.gateway.connect_timeout_ms);
        if !unless_client_leaves(session, host.wait_known(limit)).await? {
            let cause = Error::explain(ErrorType::ConnectError, "the upstream's name has no address");
            return Err(super::recover::failed(gateway, ctx, cause.into_up(), false, false));
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
    if attempt.stale > 0 {
        // A connection of its own: whatever else is pooled may be just as dead.
        peer.group_key = fastrand::u64(2..);
    }
    Ok(peer)
}

/// Waits for `future`, but not longer than the client does.
pub async fn unless_client_leaves<T>(session: &mut Session, future: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        done = future => Ok(done),
        left = session.downstream_session.read_body_or_idle(true) => match left {
            Err(cause) if super::clock::TimeOut::of(cause.etype()).is_some() => Err(cause),
            _ => Err(Error::explain(CLIENT_LEFT, "while an attempt was prepared").into_down()),
        },
    }
}

/// Makes the bytes of a new attempt.
fn begin(gateway: &Gateway, ctx: &mut Ctx, place: usize, in_use: InUse) -> Result<()> {
    let snapshot = Arc::clone(&ctx.snapshot);
    let deployment = &snapshot.deployments[place];
    if let Some(variable) = &deployment.missing_variable {
        log::error!("{} was called, but its key's variable {variable} is not set", deployment.group);
        let words = format!("Missing credentials: the key of model {} is not configured", deployment.group);
        return Err(fail(ctx, ApiError::new(&error::MISSING_CREDENTIALS, words)));
    }
    let upstream_model = match &ctx.plan {
        Some(plan) => plan.resolved().upstream_model(&deployment.upstream_model),
        None => deployment.upstream_model.clone(),
    };
    let body = match edited(gateway, ctx, deployment, &upstream_model) {
        Ok(body) => body,
        Err(refused) => return Err(fail(ctx, refused)),
    };
    ctx.attempt = Some(Attempt {
        in_use,
        deployment: place,
        upstream_model,
        body,
        started: Instant::now(),
        address_try: 0,
        address: None,
        stale: 0,
        jitter: fastrand::f64(),
        status: 0,
        verdict: None,
        retry_after: None,
    });
    Ok(())
}

/// The body as this deployment should get it.
fn edited(gateway: &Gateway, ctx: &mut Ctx, deployment: &Deployment, model: &str) -> Result<Bytes, ApiError> {
    let Some(ask) = &ctx.ask else { return Ok(Bytes::new()) };
    if let Some(part) = &ask.form_model {
        return Ok(form::with_model(&ask.doc, part, model));
    }
    let (Some(skim), Some(shape)) = (&ask.skim, shape(ctx)) else { return Ok(ask.doc.clone()) };
    let edited = deployment.edit(shape, &ask.doc, skim, model, &ctx.unwanted).map_err(|refused| {
        let words = format!("{} is not supported by model {}", refused.param, refused.model);
        ApiError::new(&error::UNSUPPORTED_PARAMETER, words).param(refused.param)
    })?;
    let edit = edited.edit;
    for (index, _, reason) in &edit.changes {
        log::debug!("{}: {}: {reason}", deployment.group, skim.key(&ask.doc, *index));
    }
    if !edit.dropped.is_empty() {
        let group = metrics::Dropped { group: Arc::clone(&deployment.group) };
        gateway.live.metrics.dropped_params.get_or_create(&group).inc_by(edit.dropped.len() as u64);
    }
    ctx.dropped = edit.dropped.join(",");
    Ok(edited.body)
}

fn shape(ctx: &Ctx) -> Option<Shape> {
    match ctx.endpoint?.kind {
        Kind::Proxy { shape, .. } => Some(shape),
        _ => None,
    }
}

/// Writes the head for this attempt and starts the clock.
pub fn head(session: &mut Session, head: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
    let snapshot = Arc::clone(&ctx.snapshot);
    let (Some(endpoint), Some(attempt)) = (ctx.endpoint, &ctx.attempt) else {
        return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
    };
    let deployment = &snapshot.deployments[attempt.deployment];
    let stream = ctx.wants_stream();
    let path = match &ctx.tail {
        Some(tail) if endpoint.kind == Kind::Stored => Cow::Owned(format!("{}/{tail}", endpoint.upstream_path)),
        _ => Cow::Borrowed(endpoint.upstream_path),
    };
    let json = HeaderValue::from_static("application/json");
    let own_type = session.get_header(header::CONTENT_TYPE).cloned();
    let is_form = ctx.ask.as_ref().is_some_and(|ask| ask.skim.is_none());
    let query = session.req_header().uri.query().filter(|_| endpoint.keep_query).map(str::to_owned);
    let request = Request {
        method: session.req_header().method.clone(),
        path: &path,
        query: query.as_deref(),
        content_length: ctx.ask.as_ref().map(|_| attempt.body.len()),
        content_type: match (&ctx.ask, is_form) {
            (None, _) => None,
            (Some(_), true) => own_type.as_ref(),
            (Some(_), false) => Some(&json),
        },
        accepted: accepted(endpoint.kind, stream),
        request_id: &ctx.request_id,
        messages: endpoint.dialect == Dialect::Messages,
        forward: snapshot.config.settings.forward_client_headers,
        is_credential: crate::auth::is_credential_header,
    };
    deployment.head.write(head, &request)?;
    // Upstreams that compress although nobody asked are understood all the same.
    session.upstream_compression =
        pingora_core::protocols::http::compression::ResponseCompressionCtx::new(0, true, false);
    start_clock(ctx, deployment, stream);
    Ok(())
}

fn accepted(kind: Kind, stream: bool) -> Accepted {
    match kind {
        _ if stream => Accepted::Events,
        Kind::Proxy { shape: Shape::Audio | Shape::Images, .. } => Accepted::Anything,
        _ => Accepted::Json,
    }
}

/// The client's own limit counts from the beginning of the request, the operator's from that of the attempt.
fn start_clock(ctx: &mut Ctx, deployment: &Deployment, stream: bool) {
    let own = if stream { deployment.stream_head_timeout } else { deployment.head_timeout };
    let now = tokio::time::Instant::now();
    let wished = ctx.ask.as_ref().and_then(|ask| ask.timeout);
    let head = match wished {
        Some(limit) => now + limit.saturating_sub(ctx.started.elapsed()),
        None => now + own,
    };
    let ttft = ctx.snapshot.config.gateway.ttft_timeout_ms.filter(|_| stream).map(Duration::from_millis);
    ctx.cell.hold(Hold::No);
    ctx.cell.set_clock(Clock { head: Some(head), content: ttft.map(|limit| now + limit), ..Clock::default() });
}
