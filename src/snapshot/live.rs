//! What the process keeps while snapshots come and go: metrics, addresses, counts, and whether it is on its way out.

use super::Snapshot;
use super::queue::Queue;
use crate::routing::budget::Budget;
use crate::routing::limit::{Full, Limits, Pace, Usage};
use crate::telemetry::metrics::Metrics;
use crate::upstream::address::Directory;
use crate::upstream::exchange::Dialer;
use crate::upstream::pool::Pool;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What the process keeps while snapshots come and go.
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    /// Counted over the whole life of the process.
    pub metrics: Metrics,
    /// Upstream hosts and their addresses.
    pub directory: Directory,
    /// Makes HTTP/1.1 connections to upstreams.
    pub dialer: Arc<Dialer>,
    /// Keeps those of the proxy between two requests.
    pub pool: Arc<Pool>,
    /// What retries may cost.
    pub budget: Budget,
    /// What all upstream calls together use.
    pub guard: Guard,
    /// Who waits for room.
    pub queue: Arc<Queue>,
    /// The runtime of the threads that serve requests; known with the first connection.
    pub workers: OnceLock<Handle>,
    started: Instant,
    in_flight: AtomicI64,
    arriving: AtomicI64,
    buffered_bytes: AtomicI64,
    draining: watch::Sender<bool>,
    closing: AtomicBool,
    refused: ArcSwapOption<Refused>,
}

/// A configuration that was offered to the running process and not taken.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// Why: the report, or a sentence.
    pub why: String,
}

impl Live {
    /// Starts with a first snapshot.
    pub fn new(snapshot: Snapshot, directory: Directory, dialer: Dialer, pool: Pool) -> Self {
        let guard = Guard::default();
        guard.set_pace(snapshot.config.gateway.requests_per_second);
        Live {
            guard,
            queue: Arc::default(),
            workers: OnceLock::new(),
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics: Metrics::default(),
            directory,
            dialer: Arc::new(dialer),
            pool: Arc::new(pool),
            budget: Budget::default(),
            started: Instant::now(),
            in_flight: AtomicI64::new(0),
            arriving: AtomicI64::new(0),
            buffered_bytes: AtomicI64::new(0),
            draining: watch::Sender::new(false),
            closing: AtomicBool::new(false),
            refused: ArcSwapOption::empty(),
        }
    }

    /// Requests that begin from now on get `snapshot`; those in flight keep theirs.
    pub fn swap(&self, snapshot: Snapshot) {
        self.guard.set_pace(snapshot.config.gateway.requests_per_second);
        self.snapshot.store(Arc::new(snapshot));
        self.refused.store(None);
    }

    /// Notes that a newer configuration was not taken.
    pub fn refuse(&self, why: String) {
        self.refused.store(Some(Arc::new(Refused { at: SystemTime::now(), why })));
    }

    /// The last configuration that was not taken, unless a good one came after it.
    pub fn refused(&self) -> Option<Arc<Refused>> {
        self.refused.load_full()
    }

    /// From now on each answer closes its connection, so that clients come back to the next generation.
    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether answers close their connections.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.is_draining()
    }

    /// The snapshot in use; a request keeps the one it began with.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts a request until the guard goes.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.metrics.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Counts a connection until the guard goes: accepted, and its first head not yet read.
    pub fn arrive(self: &Arc<Self>) -> Arriving {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        Arriving(Arc::clone(self))
    }

    /// Whether no request is being served and no new connection waits for its first head.
    pub fn is_quiet(&self) -> bool {
        self.in_flight() == 0 && self.arriving.load(Ordering::Acquire) == 0
    }

    /// Milliseconds on the steady clock that all routing shares; never 0.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// The same for a moment the clock has been read at already.
    pub fn ms_at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Requests being served.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Takes memory for a request body out of the common budget; none when it is used up.
    pub fn buffer(self: &Arc<Self>, bytes: usize) -> Option<Buffered> {
        let mut buffered = Buffered { live: Arc::clone(self), bytes: 0 };
        buffered.grow(bytes).then_some(buffered)
    }

    /// From now on readiness fails and connections close after their answer.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until the process is on its way out.
    pub async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What all upstream calls together use, and how fast they may come.
#[derive(Default)]
pub struct Guard {
    usage: Usage,
    pace: ArcSwapOption<Pace>,
}

impl Guard {
    /// Counts a call that begins, if there is room for it.
    ///
    /// # Errors
    /// When there is none; then nothing is counted.
    pub fn try_begin(&self, limits: &Limits, now_ms: u64) -> Result<(), Full> {
        self.usage.try_begin(limits, now_ms)?;
        match self.pace.load().as_deref().map(|pace| pace.try_begin(now_ms)) {
            Some(Err(full)) => {
                self.usage.take_back();
                Err(full)
            }
            _ => Ok(()),
        }
    }

    /// Counts a call that is over.
    pub fn leave(&self) {
        self.usage.leave();
    }

    /// Counts tokens.
    pub fn used(&self, tokens: u64, now_ms: u64) {
        self.usage.used(tokens, now_ms);
    }

    /// A pace that did not change goes on, across reloads too.
    fn set_pace(&self, per_second: Option<u32>) {
        if self.pace.load().as_deref().map(Pace::per_second) != per_second {
            self.pace.store(per_second.map(|per_second| Arc::new(Pace::new(per_second))));
        }
    }
}

/// A connection that was accepted and has not sent its first head.
pub struct Arriving(Arc<Live>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request being served.
pub struct InFlight(Arc<Live>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.in_flight.dec();
    }
}

/// Memory taken for a request body.
pub struct Buffered {
    live: Arc<Live>,
    bytes: i64,
}

impl Buffered {
    /// Takes more; false when the common budget is used up.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let max = i64::try_from(self.live.snapshot.load().config.gateway.buffered_bytes_max).unwrap_or(i64::MAX);
        let before = self.live.buffered_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        self.live.metrics.buffered_bytes.inc_by(bytes);
        before.saturating_add(bytes) <= max
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.live.buffered_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.live.metrics.buffered_bytes.dec_by(self.bytes);
    }
}
