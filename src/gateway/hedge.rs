//! Hedging: when an attempt stays silent for too long, a second one runs beside it, and the first good answer wins.
//!
//! Only before the first byte. The wrapper, which is polled while an attempt waits, starts the rival and watches it; the
//! proxy knows nothing of it until it has won: then the attempt before it ends with an error of our own, and the next
//! "attempt" is the rival's connection, taken over with its answer.

use super::ctx::{Ask, Attempt, Ctx, InUse};
use super::forward::unless_client_leaves;
use super::outgoing::{Source, empty_head};
use super::recover;
use crate::api::endpoint::{Endpoint, Kind};
use crate::api::params::Shape;
use crate::routing::balance::{Draw, pick};
use crate::routing::resolve::Resolved;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::metrics;
use crate::upstream::exchange::Answered;
use http::HeaderValue;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The error that ends an attempt whose rival has answered.
pub const OVERTAKEN: ErrorType = ErrorType::Custom("Overtaken");

/// The second attempt of a request, from the moment it may be made.
#[derive(Default)]
pub enum Hedge {
    /// There is none.
    #[default]
    None,
    /// It begins when the first one has been silent for long enough.
    Armed(Box<Starter>),
    /// It waits for its answer.
    Running(Rival),
    /// It has a good answer.
    Won(Rival, Answered),
    /// It failed.
    Lost(Rival, Box<Error>),
}

impl Hedge {
    /// Begins what is armed.
    pub fn start(self) -> Self {
        match self {
            Hedge::Armed(starter) => starter.start().map_or(Hedge::None, Hedge::Running),
            other => other,
        }
    }

    /// Whether something runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Hedge::Running(_))
    }

    /// The deployment of the second attempt.
    pub fn place(&self) -> Option<usize> {
        match self {
            Hedge::Running(rival) | Hedge::Won(rival, _) | Hedge::Lost(rival, _) => {
                rival.attempt.as_ref().map(|attempt| attempt.deployment)
            }
            Hedge::None | Hedge::Armed(_) => None,
        }
    }

    /// Whether a failure of the first attempt leaves somebody to wait for.
    pub fn may_win(&self) -> bool {
        matches!(self, Hedge::Running(_) | Hedge::Won(..))
    }

    /// Ready when the rival has a good answer. A failed one is noted and never becomes ready.
    pub fn poll_won(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Hedge::Running(rival) = self else { return Poll::Pending };
        let Poll::Ready(ended) = Pin::new(rival).poll(context) else { return Poll::Pending };
        let Hedge::Running(rival) = std::mem::take(self) else { return Poll::Pending };
        match ended {
            Ok(answered) if answered.status() < 400 => {
                *self = Hedge::Won(rival, answered);
                Poll::Ready(())
            }
            Ok(answered) => {
                *self = Hedge::Lost(rival, Error::new_up(ErrorType::HTTPStatus(answered.status())));
                Poll::Pending
            }
            Err(error) => {
                *self = Hedge::Lost(rival, error);
                Poll::Pending
            }
        }
    }
}

/// Everything a second attempt is made from.
pub struct Starter {
    live: Arc<Live>,
    snapshot: Arc<Snapshot>,
    endpoint: &'static Endpoint,
    ask: Arc<Ask>,
    resolved: Resolved,
    tried: Vec<usize>,
    unwanted: Vec<String>,
    request_id: HeaderValue,
    client: RequestHeader,
    /// When the attempt is given up: its own limit, or what is left of the client's.
    limit: Duration,
}

impl Starter {
    /// Begins an attempt at another deployment, or at the same when it is alone; none when nobody has room, or the retry
    /// budget is spent.
    fn start(self) -> Option<Rival> {
        let now_ms = self.live.now_ms();
        let draw = Draw { strategy: self.snapshot.strategy, chance: fastrand::f64(), now_ms };
        let Some(place) = pick(&self.resolved.group.members, &self.snapshot.shares, &self.tried, draw) else {
            return self.refuse("no_room");
        };
        let deployment = &self.snapshot.deployments[place];
        if deployment.missing_variable.is_some() {
            return self.refuse("no_room");
        }
        let upstream_model = self.resolved.upstream_model(&deployment.upstream_model);
        let source = self.source();
        let (body, _) = source.body(deployment, &upstream_model).ok()?;
        let mut head = empty_head(&self.client);
        source.head(&self.client, deployment, body.len(), &mut head).ok()?;
        let peer = deployment.peer.peer(0)?;
        let Ok(in_use) = InUse::begin(&self.live, &self.snapshot, place, now_ms) else {
            return self.refuse("no_room");
        };
        if !self.live.budget.try_pay(self.snapshot.config.gateway.retry_budget, now_ms) {
            return self.refuse("unaffordable");
        }
        let mut attempt = Attempt::new(in_use, place, upstream_model, body.clone());
        attempt.address = peer._address.as_inet().copied();
        let (live, limit) = (Arc::clone(&self.live), self.limit);
        let task = tokio::spawn(async move {
            match tokio::time::timeout(limit, live.dialer.send(peer, head, body)).await {
                Ok(ended) => ended,
                Err(_) => Error::e_explain(super::clock::TimeOut::Head.error(), super::clock::TimeOut::Head.words()),
            }
        });
        Some(Rival { attempt: Some(attempt), task })
    }

    fn refuse(&self, cause: &'static str) -> Option<Rival> {
        self.live.metrics.hedges.get_or_create(&metrics::Cause { cause }).inc();
        None
    }

    fn source(&self) -> Source<'_> {
        Source {
            live: &self.live,
            snapshot: &self.snapshot,
            endpoint: self.endpoint,
            ask: Some(&self.ask),
            tail: None,
            unwanted: &self.unwanted,
            request_id: &self.request_id,
        }
    }
}

/// A second attempt; dropped, its connection closes.
pub struct Rival {
    attempt: Option<Attempt>,
    task: JoinHandle<Result<Answered>>,
}

impl Future for Rival {
    type Output = Result<Answered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.task).poll(context));
        Poll::Ready(ended.unwrap_or_else(|_| Error::e_explain(ErrorType::InternalError, "a second attempt was lost")))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Prepares a second attempt for the one that begins now; one for each request.
pub fn arm(session: &Session, ctx: &mut Ctx) {
    let Some(after) = ctx.snapshot.config.gateway.hedge_after_ms.filter(|_| ctx.hedge.is_empty()) else { return };
    let (Some(endpoint), Some(ask), Some(plan), Some(attempt)) = (ctx.endpoint, &ctx.ask, &ctx.plan, &ctx.attempt)
    else {
        return;
    };
    let Kind::Proxy { shape, .. } = endpoint.kind else { return };
    // Pictures and sounds are paid for by the piece, and forms are not edited by parameters.
    if matches!(shape, Shape::Images | Shape::Audio) || ask.skim.is_none() {
        return;
    }
    let starter = Starter {
        live: Arc::clone(&ctx.live),
        snapshot: Arc::clone(&ctx.snapshot),
        endpoint,
        ask: Arc::clone(ask),
        resolved: plan.resolved().clone(),
        tried: plan.tried().to_vec(),
        unwanted: ctx.unwanted.clone(),
        request_id: ctx.request_id.clone(),
        client: session.req_header().clone(),
        limit: ctx.head_limit(&ctx.snapshot.deployments[attempt.deployment]),
    };
    let at = tokio::time::Instant::from_std(attempt.started) + Duration::from_millis(after);
    ctx.cell.arm_hedge(Hedge::Armed(Box::new(starter)), at);
}

/// Ends the rival of an attempt that has answered, or of a request that is over.
pub fn call_off(ctx: &mut Ctx) {
    match ctx.cell.take_hedge() {
        Hedge::None | Hedge::Armed(_) => {}
        Hedge::Running(rival) | Hedge::Won(rival, _) => close(ctx, rival, "called_off", "lost"),
        Hedge::Lost(rival, error) => close_failed(ctx, rival, &error),
    }
}

/// The attempt whose rival has answered is over. That another deployment was quicker by so much counts against it.
pub fn overtaken(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    if let Some(attempt) = &ctx.attempt {
        let waited = u64::try_from(attempt.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        ctx.snapshot.deployments[attempt.deployment].vitals.answered_in(waited, ctx.live.now_ms());
    }
    let by_itself = ctx.cell.rival_place() == ctx.attempt.as_ref().map(|attempt| attempt.deployment);
    recover::settle(ctx, if by_itself { "called_off" } else { "overtaken" });
    recover::next_attempt(ctx, None);
    error.set_retry(true);
    error
}

/// The peer of a rival that has answered or still may; none when there is no such rival.
pub async fn adopt(session: &mut Session, ctx: &mut Ctx) -> Result<Option<Box<HttpPeer>>> {
    match ctx.cell.take_hedge() {
        Hedge::None | Hedge::Armed(_) => Ok(None),
        Hedge::Won(rival, answered) => Ok(Some(take_over(ctx, rival, answered))),
        Hedge::Lost(rival, error) => {
            close_failed(ctx, rival, &error);
            Ok(None)
        }
        Hedge::Running(mut rival) => {
            let answer = poll_fn(|context| Pin::new(&mut rival).poll(context));
            let ended = Box::pin(unless_client_leaves(session, answer)).await?;
            match ended {
                Ok(answered) => Ok(Some(take_over(ctx, rival, answered))),
                Err(error) => {
                    count(ctx, "failed");
                    ctx.hedge = "failed";
                    ctx.attempt = rival.attempt.take();
                    Err(recover::failed(ctx, error.into_up(), false))
                }
            }
        }
    }
}

fn take_over(ctx: &mut Ctx, mut rival: Rival, answered: Answered) -> Box<HttpPeer> {
    let cause = if answered.status() < 400 { "won" } else { "failed" };
    count(ctx, cause);
    ctx.hedge = cause;
    ctx.attempt = rival.attempt.take();
    if let (Some(plan), Some(attempt)) = (ctx.plan.as_mut(), &ctx.attempt) {
        plan.take(attempt.deployment);
    }
    answered.into_peer(fastrand::u64(2..))
}

fn close_failed(ctx: &mut Ctx, rival: Rival, error: &Error) {
    let outcome = recover::outcome(ctx, error);
    close(ctx, rival, outcome, "failed");
}

/// Puts an ended rival into the record.
fn close(ctx: &mut Ctx, mut rival: Rival, outcome: &'static str, cause: &'static str) {
    count(ctx, cause);
    ctx.hedge = cause;
    let first = std::mem::replace(&mut ctx.attempt, rival.attempt.take());
    recover::settle(ctx, outcome);
    ctx.attempt = first;
}

fn count(ctx: &Ctx, cause: &'static str) {
    ctx.live.metrics.hedges.get_or_create(&metrics::Cause { cause }).inc();
}
