//! Memory nobody uses any more goes back to the kernel.
//!
//! mimalloc gives freed pages back a second later, but a thread looks for its own, and for those that are due, only
//! while it is asked for memory: once in 10,000 of the larger allocations (its option `generic_collect`). A gateway that
//! has become quiet asks for none and would keep what its busiest minute needed. So every thread is asked here, for a
//! millisecond, when traffic has ended or much of it has, once more when the upstream connections that it left in the
//! pool have gone, and when many streams have begun: to begin one takes more than to keep it.

use crate::gateway::walk;
use crate::snapshot::Live;
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than mimalloc waits before it gives a page back (`purge_delay`, one second).
const LOOK_EVERY: Duration = Duration::from_millis(1500);
/// The first time pages become free, the second time they are due.
const TIMES: u32 = 2;
/// So few requests more or less are no reason to look.
const FEW: i64 = 16;
/// So few bytes between two looks are as good as none: probes.
const PROBES_BYTES: u64 = 16 * 1024;
/// So few since the last time have left nothing worth a look.
const FEW_BYTES: u64 = 1024 * 1024;
/// Tasks for each worker: as they keep a thread busy and there are more of them than threads, mostly every thread gets one.
const TASKS_PER_WORKER: usize = 4;
/// So often they are made again, until every thread has had one.
const TRIES_MAX: usize = 20;
/// And so long after the last.
const TRY_EVERY: Duration = Duration::from_millis(50);
/// More than mimalloc's `generic_collect`.
const ALLOCATIONS: usize = 10_500;
/// Beyond the sizes that mimalloc serves without a look at anything else.
const BLOCK_BYTES: usize = 2048;

/// Has freed memory given back.
pub struct Returner {
    live: Arc<Live>,
    threads: usize,
}

impl Returner {
    /// Watches the traffic of `live`, which so many threads serve.
    pub fn new(live: Arc<Live>, threads: usize) -> Self {
        Returner { live, threads }
    }

    /// Has every thread look once.
    async fn stir(&self, round: u64) {
        let Some(workers) = self.live.workers.get() else { return };
        let mut looked = 0;
        for _ in 0..TRIES_MAX {
            let tasks = (0..self.threads * TASKS_PER_WORKER).map(|_| workers.spawn(async move { stir(round) }));
            for task in tasks.collect::<Vec<_>>() {
                // Only a runtime that ends refuses, and then its memory goes anyway.
                looked += usize::from(task.await.unwrap_or_default());
            }
            if looked >= self.threads {
                return;
            }
            // A thread that is busy, or has been kept from running, takes none.
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    fn pool_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.live.snapshot().config.gateway.upstream_idle_timeout_ms)
    }

    /// Bytes from and to clients since the start.
    fn bytes(&self) -> u64 {
        self.live.metrics.bytes_in.get() + self.live.metrics.bytes_out.get()
    }
}

#[async_trait]
impl BackgroundService for Returner {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let (mut seen, mut looked_at) = (self.bytes(), self.bytes());
        let (mut peak, mut looked_in_flight, mut before, mut times) = (0, 0, 0, 0);
        let (mut pool_empty_at, mut round) = (None, 0);
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = shutdown.changed() => return,
            }
            let (bytes, in_flight) = (self.bytes(), self.live.in_flight());
            peak = peak.max(in_flight);
            let was_busy =
                bytes - looked_at > FEW_BYTES || peak > in_flight + FEW || in_flight > looked_in_flight + FEW;
            let is_quiet = bytes - seen < PROBES_BYTES && in_flight <= before + FEW;
            before = in_flight;
            if (was_busy && is_quiet) || in_flight + FEW < peak / 2 {
                (looked_at, peak, looked_in_flight, times) = (bytes, in_flight, in_flight, TIMES);
                pool_empty_at = Some(Instant::now() + self.pool_idle_timeout() + LOOK_EVERY);
            }
            if pool_empty_at.is_some_and(|at| at <= Instant::now()) {
                (pool_empty_at, times) = (None, TIMES);
            }
            if times > 0 {
                round += 1;
                self.stir(round).await;
                times -= 1;
            }
            seen = bytes;
        }
    }
}

thread_local! {
    /// The last round in which this thread has looked.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// Makes the allocator look, for the calling thread, once in a round; whether this was the time.
fn stir(round: u64) -> bool {
    if LOOKED.replace(round) == round {
        return false;
    }
    walk::forget_spares();
    for _ in 0..ALLOCATIONS {
        drop(black_box(Vec::<u8>::with_capacity(black_box(BLOCK_BYTES))));
    }
    true
}
