//! A connection changes hands in the middle of an answer, and comes back before its end.
//!
//! While a stream runs, the proxy's own way from one connection to the other is long: each read is a task in a queue
//! that wakes the task that queued it. Whoever serves the request may ask for the connection instead
//! ([`Handover::ask`]), read the chunks itself, and give it back with what it did not use, so that the proxy reads the
//! rest as if nothing had been between. It changes hands only where one chunk has ended and the next has not begun.

use pingora_core::protocols::Stream;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A connection that came back.
#[derive(Debug)]
pub struct Returned {
    /// The connection.
    pub stream: Stream,
    /// What was read from it and not used; it begins a chunk.
    pub unread: Vec<u8>,
    /// How reading ended, when it did.
    pub fault: Option<io::Error>,
}

#[derive(Debug, Default)]
enum State {
    /// The proxy reads.
    #[default]
    Kept,
    /// The proxy reads until the next border.
    Asked,
    /// Nobody reads. `data_bytes` is what the chunks carried that the proxy has read.
    Given { stream: Stream, data_bytes: u64, proxy: Waker },
    /// Whoever asked reads.
    Taken { proxy: Waker },
    /// Nobody reads.
    Returned(Box<Returned>),
}

/// Shared by the two sides of one attempt.
#[derive(Debug, Default)]
pub struct Handover(Mutex<State>);

impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the connection at the next border between chunks. Nothing happens when there is no such border.
    pub fn ask(&self) {
        let mut state = self.lock();
        if let State::Kept = *state {
            *state = State::Asked;
        }
    }

    /// The connection, when it has been given and `data_bytes` are all that the proxy has read from it: what it still
    /// has to pass on comes first.
    pub fn take(&self, data_bytes: u64) -> Option<Stream> {
        let mut state = self.lock();
        match std::mem::take(&mut *state) {
            State::Given { stream, data_bytes: read, proxy } if read == data_bytes => {
                *state = State::Taken { proxy };
                Some(stream)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// Gives the connection back. It closes when the proxy has ended meanwhile.
    pub fn give_back(&self, returned: Returned) {
        let mut state = self.lock();
        if let State::Taken { proxy } = std::mem::take(&mut *state) {
            *state = State::Returned(Box::new(returned));
            proxy.wake();
        }
    }

    /// The proxy's side: gives `stream` when it was asked for, and whoever asked is polled again.
    pub(super) fn give(&self, stream: &mut Option<Stream>, data_bytes: u64, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if !matches!(*state, State::Asked) {
            return false;
        }
        let Some(stream) = stream.take() else { return false };
        *state = State::Given { stream, data_bytes, proxy: context.waker().clone() };
        context.waker().wake_by_ref();
        true
    }

    /// The proxy's side: waits for a connection that it gave; at once none when it gave none.
    pub(super) fn poll_returned(&self, context: &Context<'_>) -> Poll<Option<Box<Returned>>> {
        let mut state = self.lock();
        match &mut *state {
            State::Kept | State::Asked => Poll::Ready(None),
            State::Given { proxy, .. } | State::Taken { proxy } => {
                proxy.clone_from(context.waker());
                Poll::Pending
            }
            State::Returned(_) => match std::mem::take(&mut *state) {
                State::Returned(returned) => Poll::Ready(Some(returned)),
                _ => Poll::Ready(None),
            },
        }
    }

    /// The proxy's side has ended: a connection that nobody has taken closes.
    pub(super) fn end(&self) {
        *self.lock() = State::Kept;
    }
}
