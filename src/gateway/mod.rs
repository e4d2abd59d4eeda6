//! The hall: a request walks through these files once, in the order of its phases.
//!
//! `front` (connection) · `walk` (the phases) · `replay` with `cell` and `clock` (the session wrapper) · `ctx` (the record) ·
//! `accept` (route, caller) · `body` with `decode` and `form` (what is wanted) · `admit`, `outgoing` and `forward`
//! (deployment, bytes, address) · `direct` (the first attempt) · `observe` with `stream`, `rest` and `relay` (the answer) ·
//! `recover` (the way back) · `answer` (what the gateway says itself) · `finish` (metrics, access line).

pub mod accept;
mod admit;
mod answer;
mod body;
mod cell;
mod clock;
mod ctx;
mod decode;
mod direct;
mod finish;
mod form;
mod forward;
pub mod front;
mod guard;
mod hedge;
mod likeness;
mod names;
mod observe;
mod outgoing;
mod proxy;
mod recover;
mod relay;
mod replay;
mod rest;
pub mod stream;
pub(crate) mod walk;

use crate::snapshot::Live;
use crate::upstream::connector;
use async_trait::async_trait;
use bytes::Bytes;
use ctx::Ctx;
use finish::Visit;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::os::fd::RawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The gateway's `ProxyHttp`: one line per phase, the work is in the files of this folder.
pub struct Gateway {
    live: Arc<Live>,
}

impl Gateway {
    /// A gateway over the live state of the process.
    pub fn new(live: Arc<Live>) -> Self {
        Gateway { live }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora's future holds it twice and is copied.
    type CTX = Box<Ctx>;

    /// The record with which the request came to its second attempt.
    fn new_ctx(&self) -> Box<Ctx> {
        walk::begun().unwrap_or_else(|| Box::new(Ctx::new(&self.live, Arc::default())))
    }

    /// No modules: a compressor would hold events back until the end of a stream.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        if ctx.plan.is_some() {
            // Done before the first attempt.
            return Ok(false);
        }
        let run = pin!(async { Ok(accept::run(self, session, ctx).await? || body::run(self, session, ctx).await?) });
        guard::caught(&self.live, run).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        guard::caught(&self.live, pin!(forward::peer(self, session, ctx))).await
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Box<Ctx>,
        error: Box<Error>,
    ) -> Box<Error> {
        forward::take_head_back(session, ctx);
        recover::not_connected(ctx, error)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::note_connection(self, ctx, reused || connector::is_pooled(digest));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        let run = pin!(async {
            forward::unless_client_left(session, ctx).await?;
            forward::head(session, head, ctx)
        });
        guard::caught(&self.live, run).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        bytes: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        body::emit(bytes, end, ctx);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        guard::caught_now(&self.live, || {
            observe::inflate(session, head);
            observe::upstream_head(ctx, head)
        })
    }

    async fn response_filter(&self, _: &mut Session, head: &mut ResponseHeader, ctx: &mut Box<Ctx>) -> Result<()> {
        guard::caught_now(&self.live, || observe::downstream_head(head, ctx))
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        bytes: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        guard::caught_now(&self.live, || observe::body(bytes, end, ctx))?;
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Ctx>,
        _reused: bool,
    ) -> Box<Error> {
        forward::take_head_back(session, ctx);
        let answered = session.response_written().is_some_and(|head| !head.status.is_informational());
        recover::failed(ctx, error, answered)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<Ctx>) -> FailToProxy {
        recover::finally(session, error, ctx).await
    }

    /// Pingora's own lines name query strings; the access line tells what happened.
    fn suppress_error_log(&self, _: &Session, _: &Box<Ctx>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Box<Ctx>, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<Ctx>) {
        let visit = Visit::new(session.req_header(), session.client_addr());
        finish::run(ctx, &visit, session.body_bytes_sent() as u64, error);
    }
}
