//! What the session wrapper and the hall tell each other during one request.

use super::answer::Head;
use super::clock::Clock;
use super::hedge::Hedge;
use super::replay::Inner;
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// What of an answer is kept back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    #[default]
    No,
    /// The head, until the answer is complete and judged.
    Whole,
    /// The head and the frames of a stream, until it has content.
    Frames,
}

/// What the wrapper and the hall share for one request. Each field has one writer.
#[derive(Default)]
pub(super) struct Shared {
    /// Written by the hall when the whole body has been read.
    pub(super) body: Option<Bytes>,
    /// Written by the hall per attempt, and by the wrapper when it has held frames for long enough.
    pub(super) hold: Hold,
    /// Written by the hall when a held answer has been judged; replaces the head that was held.
    pub(super) head: Option<Head>,
    /// Written by the hall per attempt.
    pub(super) clock: Clock,
    /// Written by the hall, which arms and takes it, and by the wrapper, which starts and watches it.
    pub(super) hedge: Hedge,
    /// Written by the wrapper when it begins: the client has a connection of HTTP/1.1 to itself.
    pub(super) is_alone: bool,
    /// Written by the hall: the connection closes after this answer.
    pub(super) close: bool,
    /// Written by the hall: the bytes now on their way are the last, whatever the upstream still has to say.
    pub(super) last: bool,
    /// Written by the wrapper when it ends: who spoke to the client, and whether its answer was completed.
    pub(super) returned: Option<(Inner, bool)>,
}

/// The hall's side of the wrapper.
#[derive(Default)]
pub struct Cell(Mutex<Shared>);

impl Cell {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the wrapper the whole request body; from here on it is replayed for each attempt.
    pub fn seal(&self, body: Bytes) {
        self.lock().body = Some(body);
    }

    /// Keeps the next answer back, or lets it pass.
    pub fn hold(&self, hold: Hold) {
        self.lock().hold = hold;
    }

    /// Whether frames are still kept back.
    pub fn holds_frames(&self) -> bool {
        self.lock().hold == Hold::Frames
    }

    /// Replaces the held head; it goes out with the next body bytes.
    pub fn release(&self, head: Head) {
        let mut shared = self.lock();
        shared.head = Some(head);
        shared.hold = Hold::No;
    }

    /// Closes the connection after the answer that is still to be written.
    pub fn close(&self) {
        self.lock().close = true;
    }

    /// Ends the answer with the bytes that are now on their way.
    ///
    /// An error from a body filter would lose what earlier filters of the same batch had let pass; so the bytes go
    /// the ordinary way, and the wrapper ends the answer and the attempt behind them.
    pub fn end_here(&self) {
        self.lock().last = true;
    }

    /// Sets what the wrapper waits for.
    pub fn set_clock(&self, clock: Clock) {
        self.lock().clock = clock;
    }

    /// Has a second attempt made at a time, unless one is on its way.
    pub fn arm_hedge(&self, armed: Hedge, at: Instant) {
        let mut shared = self.lock();
        if shared.hedge.place().is_none() {
            shared.hedge = armed;
            shared.clock.hedge = Some(at);
        }
    }

    /// The second attempt, wherever it is; it is not watched any more.
    pub fn take_hedge(&self) -> Hedge {
        let mut shared = self.lock();
        shared.clock.hedge = None;
        std::mem::take(&mut shared.hedge)
    }

    /// Whether the second attempt may still serve the request.
    pub fn hedge_may_win(&self) -> bool {
        self.lock().hedge.may_win()
    }

    /// The deployment of the second attempt.
    pub fn rival_place(&self) -> Option<usize> {
        self.lock().hedge.place()
    }

    pub(super) fn start_hedge(&self) {
        let started = self.take_hedge().start();
        self.lock().hedge = started;
    }

    /// Resolves when the second attempt has a good answer.
    pub(super) async fn hedge_won(&self) {
        poll_fn(|context| self.lock().hedge.poll_won(context)).await;
    }

    /// Whether an answer can be written without a session: to a client of HTTP/1.1 that has a connection to itself.
    pub fn is_alone(&self) -> bool {
        self.lock().is_alone
    }

    /// The head of an answer that was judged and let go.
    pub fn take_released(&self) -> Option<Head> {
        self.lock().head.take()
    }

    /// Whether the connection closes after this answer.
    pub fn closes(&self) -> bool {
        self.lock().close
    }

    /// What the wrapper waits for.
    pub fn clock(&self) -> Clock {
        self.lock().clock
    }

    /// Changes what the wrapper waits for.
    pub fn with_clock(&self, change: impl FnOnce(&mut Clock)) {
        change(&mut self.lock().clock);
    }

    /// Who spoke to the client, after the wrapper has gone, and whether the answer was completed.
    pub fn take_inner(&self) -> Option<(Inner, bool)> {
        self.lock().returned.take()
    }
}
