//! What reached the stand-in and how it ended: the log that tests read and wait on.
//!
//! Each request holds a [`Ticket`]; a ticket that is dropped before its outcome was settled means the peer is gone.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

/// One request as it reached the stand-in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Number of the connection, counted from 1.
    pub connection: u64,
    pub tls: bool,
    pub http2: bool,
    pub method: String,
    /// Path with query.
    pub path: String,
    /// In order and as spelt; over HTTP/2 lower case, with `:authority` as the first.
    pub headers: Vec<(String, String)>,
    /// The head as it came, up to and with the empty line; empty over HTTP/2.
    pub head: Vec<u8>,
    /// The body without its transfer coding; set once it ended, completely or not.
    pub body: Vec<u8>,
    pub body_complete: bool,
    /// When the head was complete.
    pub received_at: Instant,
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is being read or answered.
    Pending,
    /// The whole answer was written.
    Answered,
    /// The peer left (or half-closed, or reset the stream) before the answer was complete.
    PeerGone { after: Duration, frames_sent: usize },
    /// The script broke off, or told a lie about the length.
    Cut,
}

impl Recorded {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Requests and connections so far.
#[derive(Default)]
pub(super) struct Log {
    keeps: bool,
    kept: Mutex<Kept>,
    changed: Notify,
    total: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    active: AtomicU64,
}

#[derive(Default)]
struct Kept {
    requests: Vec<Recorded>,
    /// Number of the first request kept, so that tickets from before a `clear` find nothing.
    first: u64,
}

/// The counters of a log at one moment.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub requests: u64,
    pub connections: u64,
    pub open: u64,
    pub active: u64,
}

impl Log {
    pub(super) fn new(keeps: bool) -> Arc<Self> {
        Arc::new(Self { keeps, ..Self::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.kept().requests.clone()
    }

    pub(super) fn clear(&self) {
        let mut kept = self.kept();
        kept.first += kept.requests.len() as u64;
        kept.requests.clear();
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Counts {
            requests: read(&self.total),
            connections: read(&self.connections),
            open: read(&self.open),
            active: read(&self.active),
        }
    }

    pub(super) async fn wait_for(&self, deadline: Duration, condition: impl Fn(&[Recorded]) -> bool) -> bool {
        let until = tokio::time::Instant::now() + deadline;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.kept().requests) {
                return true;
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return condition(&self.kept().requests);
            }
        }
    }

    pub(super) fn connected(self: &Arc<Self>) -> Connected {
        let number = self.connections.fetch_add(1, Ordering::AcqRel) + 1;
        self.open.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
        Connected { log: self.clone(), number }
    }

    pub(super) fn received(self: &Arc<Self>, request: Recorded) -> Ticket {
        self.total.fetch_add(1, Ordering::AcqRel);
        self.active.fetch_add(1, Ordering::AcqRel);
        let received_at = request.received_at;
        let number = self.keeps.then(|| {
            let mut kept = self.kept();
            kept.requests.push(request);
            kept.first + kept.requests.len() as u64 - 1
        });
        self.changed.notify_waiters();
        Ticket { log: self.clone(), number, received_at, frames_sent: AtomicUsize::new(0), settled: false }
    }

    fn change(&self, number: Option<u64>, change: impl FnOnce(&mut Recorded)) {
        if let Some(number) = number {
            let mut kept = self.kept();
            let index = number.checked_sub(kept.first).and_then(|index| usize::try_from(index).ok());
            if let Some(request) = index.and_then(|index| kept.requests.get_mut(index)) {
                change(request);
            }
        }
        self.changed.notify_waiters();
    }
}

/// An open connection; dropping it counts it as closed.
pub(super) struct Connected {
    log: Arc<Log>,
    pub(super) number: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.log.open.fetch_sub(1, Ordering::AcqRel);
        self.log.changed.notify_waiters();
    }
}

/// A request that is being answered.
pub(super) struct Ticket {
    log: Arc<Log>,
    number: Option<u64>,
    received_at: Instant,
    pub(super) frames_sent: AtomicUsize,
    settled: bool,
}

impl Ticket {
    /// Notes the body, whole or broken off.
    pub(super) fn body(&self, body: &[u8], complete: bool) {
        self.log.change(self.number, |request| {
            request.body = body.to_vec();
            request.body_complete = complete;
        });
    }

    pub(super) fn settle(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.settled = true;
        // The outcome before the counter, the news last: whoever sees the counter fall finds the outcome.
        self.log.change(self.number, |request| request.outcome = outcome);
        self.log.active.fetch_sub(1, Ordering::AcqRel);
        self.log.changed.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            let frames_sent = self.frames_sent.load(Ordering::Acquire);
            self.end(Outcome::PeerGone { after: self.received_at.elapsed(), frames_sent });
        }
    }
}
