//! A request's walk through the hall up to the end of its first attempt, without the proxy.
//!
//! `HttpProxy` calls the hooks of a [`ProxyHttp`] from a future with room for every kind of upstream, 13 KB for each
//! request. Most requests need one attempt, which is made directly; so the hooks before it are called here, in Pingora's
//! order, and only a request that needs another attempt goes on in the proxy, with the record it has by then.

use super::ctx::Ctx;
use super::direct::{self, Outcome};
use super::proxy::LazyProxy;
use super::relay::Relay;
use super::replay::Replay;
use super::rest::Ready;
use super::{Gateway, guard};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::compression::ResponseCompressionCtx;
use pingora_core::server::ShutdownWatch;
use pingora_error::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};
use std::cell::{Cell, RefCell};
use std::io::Cursor;
use std::pin::pin;

/// So many sessions a thread keeps for requests to come. Requests take and put back in turns, so a few do; more, made in a
/// burst, would keep pages all over the heap from being given back.
const SPARE_MAX: usize = 2;

tokio::task_local! {
    /// The record of a request that goes on in the proxy.
    static BEGUN: Cell<Option<Box<Ctx>>>;
}

thread_local! {
    /// Sessions without a wrapper.
    #[expect(clippy::vec_box, reason = "a session is large and would be copied twice for each request")]
    static SPARE: RefCell<Vec<Box<Session>>> = const { RefCell::new(Vec::new()) };
}

/// What of an answer is left to do without the session.
pub enum Rest {
    /// To send it.
    Answer(Ready),
    /// To move a stream to its end.
    Stream(Box<Relay>),
}

/// The record of the request that this task gives to the proxy.
pub fn begun() -> Option<Box<Ctx>> {
    BEGUN.try_with(Cell::take).ok().flatten()
}

/// Walks a request to the end of its first attempt, and has the proxy make any other; what is left then needs no session.
pub async fn run(
    gateway: &Gateway,
    proxy: &LazyProxy,
    wrapper: Replay,
    mut ctx: Box<Ctx>,
    shutdown: &ShutdownWatch,
) -> Option<Rest> {
    let mut session = session(wrapper);
    let error = match attempt(gateway, &mut session, &mut ctx).await {
        Ok(Outcome::Ready(head, body)) => {
            put_back(session);
            return Some(Rest::Answer(Ready::new(ctx, head, body)));
        }
        Ok(Outcome::Running(exchange, beginning)) => {
            let bytes_out = session.body_bytes_sent() as u64;
            put_back(session);
            return Some(Rest::Stream(Box::new(Relay::new(ctx, exchange, beginning, bytes_out))));
        }
        Ok(Outcome::Open) => match Box::pin(proxy.get()).await {
            Ok(proxy) => {
                let begun = Cell::new(Some(ctx));
                BEGUN.scope(begun, proxy.process_new_http(*session.downstream_session, shutdown)).await;
                return None;
            }
            Err(cause) => Some(cause),
        },
        Ok(Outcome::Answered) => None,
        Err(cause) => Some(cause),
    };
    Box::pin(end(gateway, session, ctx, error)).await;
    None
}

/// The session that hooks are given. Most requests use nothing of it but the wrapper it holds: so it serves one after the
/// other.
fn session(wrapper: Replay) -> Box<Session> {
    // The only way to make one begins with a connection; this one is never used.
    let new = || Box::new(Session::new_h1(Box::new(Cursor::new(Vec::new()))));
    let mut session = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(new);
    *session.downstream_session = ServerSession::new_custom(Box::new(wrapper));
    session
}

/// Keeps a session for other requests, and lets its wrapper go. Only where nothing else of it was used but its inflating.
fn put_back(mut session: Box<Session>) {
    *session.downstream_session = ServerSession::new_custom(Box::new(()));
    session.upstream_compression = ResponseCompressionCtx::new(0, false, false);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(session);
        }
    });
}

/// Lets the spare sessions of this thread go. Made in a burst, their pieces keep pages from being given back.
pub fn forget_spares() {
    SPARE.take();
}

async fn attempt(gateway: &Gateway, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Outcome> {
    if gateway.request_filter(session, ctx).await? {
        return Ok(Outcome::Answered);
    }
    guard::caught(&gateway.live, pin!(direct::run(gateway, session, ctx))).await
}

/// Ends a request that has its answer, or an error instead of one.
async fn end(gateway: &Gateway, mut session: Box<Session>, mut ctx: Box<Ctx>, error: Option<Box<Error>>) {
    let mut completes = true;
    if let Some(error) = &error {
        completes = gateway.fail_to_proxy(&mut session, error, &mut ctx).await.can_reuse_downstream;
    }
    gateway.logging(&mut session, error.as_deref(), &mut ctx).await;
    if completes {
        // Whether it could be completed is for the wrapper to say.
        let _ = session.finish_body().await;
    }
}
