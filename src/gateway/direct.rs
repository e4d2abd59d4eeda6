//! The first attempt of a request, made without the proxy's upstream half.
//!
//! Between Pingora's two halves each piece of an answer is a task in a queue, with heads that are parsed, copied and
//! written anew. Where the upstream speaks HTTP/1.1, the first attempt, and mostly the only one, goes straight: the same
//! deployment, bytes, clock and judgement as in the proxy's hooks, on a connection of the same pool. What fails here is
//! closed as any attempt is, and the proxy makes the next one.

use super::answer::{self, Head};
use super::clock::Clock;
use super::ctx::Ctx;
use super::observe::Answer;
use super::rest::JOINED_BYTES_MAX;
use super::{Gateway, admit, forward, hedge, observe, recover};
use crate::snapshot::Deployment;
use crate::upstream::h1::{self, Exchange, Piece};
use crate::upstream::pool::Home;
use bytes::Bytes;
use http::Method;
use http::header::CONTENT_ENCODING;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::tls::ALPN;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::Arc;

/// What became of the first attempt.
pub enum Outcome {
    /// The client has its answer.
    Answered,
    /// The proxy has to go on.
    Open,
    /// The answer is there whole; to send it needs no proxy.
    Ready(Head, Bytes),
    /// A stream was let go; to move it on needs no proxy. The client has its beginning, or gets it with this.
    Running(Box<Exchange>, Option<Beginning>),
}

/// The head of a stream, and what comes first of it.
pub struct Beginning {
    /// As the client sees it.
    pub head: ResponseHeader,
    /// The same.
    pub data: Bytes,
    /// What was read behind it and has not been shown.
    pub unseen: Option<Piece>,
}

/// Makes the first attempt.
///
/// # Errors
/// What ends the request.
pub async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<Outcome> {
    let (place, in_use) = admit::seat(gateway, session, ctx).await?;
    forward::begin(ctx, place, in_use)?;
    let snapshot = Arc::clone(&ctx.snapshot);
    let Some(exchange) = begin(gateway, session, ctx, &snapshot.deployments[place]).await? else {
        return Ok(Outcome::Open);
    };
    match answer(session, ctx, exchange).await {
        Ok(outcome) => Ok(outcome),
        Err(cause) => {
            let answered = session.response_written().is_some_and(|head| !head.status.is_informational());
            let cause = recover::failed(ctx, cause, answered);
            if cause.retry() { Ok(Outcome::Open) } else { Err(cause) }
        }
    }
}

/// Begins to send the request; none when the proxy has to make this attempt.
async fn begin(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    deployment: &Deployment,
) -> Result<Option<Exchange>> {
    // The length in the answer to a HEAD is that of no body.
    let is_direct = deployment.peer.is_http1() && session.req_header().method != Method::HEAD;
    let first = deployment.peer.first().filter(|_| is_direct);
    let (Some((address, key)), Some(attempt)) = (first, ctx.attempt.as_mut()) else { return Ok(None) };
    attempt.address = Some(address);
    let live = &gateway.live;
    let (stream, is_reused) = match live.pool.take(key) {
        Some(stream) => (stream, true),
        None => match Box::pin(connect(gateway, session, ctx, deployment)).await? {
            Some(stream) => (stream, false),
            None => return Ok(None),
        },
    };
    forward::note_connection(gateway, ctx, is_reused);
    let (head, body) = bytes(session, ctx, deployment)?;
    forward::start_clock(ctx, deployment);
    hedge::arm(session, ctx);
    let home = Home { pool: Arc::clone(&live.pool), peer: key, idle_timeout: deployment.peer.idle_timeout() };
    Ok(Some(Exchange::begin(stream, home, is_reused, head, body)))
}

/// A new connection; none when the proxy has another address to try, or another deployment.
async fn connect(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    deployment: &Deployment,
) -> Result<Option<Stream>> {
    let Some(mut peer) = deployment.peer.peer(0) else { return Ok(None) };
    peer.options.alpn = ALPN::H1;
    match forward::unless_client_leaves(session, gateway.live.dialer.connect(&peer)).await? {
        Ok(stream) => {
            forward::unless_client_left(session, ctx).await?;
            Ok(Some(stream))
        }
        Err(cause) => {
            let cause = recover::not_connected(ctx, cause.into_up());
            if cause.retry() { Ok(None) } else { Err(cause) }
        }
    }
}

/// The head of the request, with a short body behind it, and a longer body.
fn bytes(session: &Session, ctx: &mut Ctx, deployment: &Deployment) -> Result<(Vec<u8>, Bytes)> {
    let (Some(source), Some(attempt)) = (ctx.source(), &ctx.attempt) else {
        return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
    };
    let is_joined = attempt.body.len() <= JOINED_BYTES_MAX;
    let room = if is_joined { attempt.body.len() } else { 0 };
    let mut head = source.head_text(session.req_header(), deployment, attempt.body.len(), room)?;
    let body = if is_joined {
        head.extend_from_slice(&attempt.body);
        Bytes::new()
    } else {
        attempt.body.clone()
    };
    if let Some(attempt) = &mut ctx.attempt {
        attempt.body_given = true;
    }
    Ok((head, body))
}

/// Reads the answer, and writes what the client sees of it.
async fn answer(session: &mut Session, ctx: &mut Ctx, mut exchange: Exchange) -> Result<Outcome> {
    exchange.send().await;
    let shown = answer::begin(ctx);
    if let Some(attempt) = &mut ctx.attempt {
        attempt.shown = Some(shown);
    }
    let h1::Head { parts, is_all } = forward::unless_client_leaves(session, exchange.head(observe::is_read)).await??;
    let mut head = ResponseHeader::from(parts);
    let is_compressed = head.headers.contains_key(CONTENT_ENCODING);
    observe::inflate(session, &mut head);
    observe::upstream_head(ctx, &head)?;
    observe::downstream_head(&mut head, ctx)?;
    if is_all {
        exchange.end();
        write(session, vec![HttpTask::Header(Box::new(head), true)]).await?;
        return Ok(Outcome::Answered);
    }
    let needs_proxy = is_compressed || !ctx.cell.is_alone();
    if !needs_proxy && observe::is_running(ctx) {
        // What came with the head leaves with it.
        let unseen = match exchange.has_read() {
            true => Some(forward::unless_client_leaves(session, exchange.piece()).await??),
            false => None,
        };
        let beginning = Beginning { head, data: Bytes::new(), unseen };
        return Ok(Outcome::Running(Box::new(exchange), Some(beginning)));
    }
    let mut head = Some(head);
    if !exchange.has_read() && !is_whole(ctx) {
        write(session, tasks(head.take(), None, false)).await?;
    }
    loop {
        let Piece { data, is_last } = forward::unless_client_leaves(session, exchange.piece()).await??;
        let mut data = Some(data);
        if is_compressed {
            data = session.upstream_compression.response_body_filter(data.as_ref(), is_last);
        }
        if is_last {
            exchange.end();
            let was_whole = is_whole(ctx);
            observe::body(&mut data, true, ctx)?;
            if was_whole
                && ctx.cell.is_alone()
                && let Some(head) = ctx.cell.take_released()
            {
                return Ok(Outcome::Ready(head, data.unwrap_or_default()));
            }
            write(session, tasks(head, Some(data), true)).await?;
            return Ok(Outcome::Answered);
        }
        observe::body(&mut data, false, ctx)?;
        if is_whole(ctx) {
            ctx.cell.with_clock(Clock::hear);
            continue;
        }
        let needs_no_proxy = !needs_proxy && observe::is_running(ctx);
        if needs_no_proxy && let Some(head) = head.take() {
            let beginning = Beginning { head, data: data.unwrap_or_default(), unseen: None };
            return Ok(Outcome::Running(Box::new(exchange), Some(beginning)));
        }
        write(session, tasks(head.take(), Some(data), false)).await?;
        if needs_no_proxy {
            return Ok(Outcome::Running(Box::new(exchange), None));
        }
    }
}

/// What the session writes: a head that it has not got yet, and a read of the body.
fn tasks(head: Option<ResponseHeader>, body: Option<Option<Bytes>>, is_last: bool) -> Vec<HttpTask> {
    let head = head.map(|head| HttpTask::Header(Box::new(head), false));
    head.into_iter().chain(body.map(|body| HttpTask::Body(body, is_last))).collect()
}

/// Whether the client sees nothing of the answer before its end.
fn is_whole(ctx: &Ctx) -> bool {
    matches!(ctx.answer, Answer::Whole(_))
}

async fn write(session: &mut Session, tasks: Vec<HttpTask>) -> Result<()> {
    match session.downstream_session.response_duplex_vec(tasks).await {
        Ok(_) => Ok(()),
        Err(cause) if matches!(cause.etype(), ErrorType::WriteError | ErrorType::WriteTimedout) => {
            Err(cause.into_down())
        }
        Err(cause) => Err(cause),
    }
}
