//! A running stream after the walk of its request has ended: frames are read from the upstream, shown, and written to the client
//! in one step, until the stream ends.
//!
//! Nothing can make a stream start anew once it has been let go, so nothing of what a request may still need is kept: the
//! session, the request's head and body are gone, and what is left is this, in the task of the connection. Only for
//! HTTP/1.1 on both sides.

use super::clock::{self, Alarm};
use super::ctx::Ctx;
use super::direct::Beginning;
use super::finish::{self, Visit};
use super::{guard, observe, recover};
use crate::downstream::connection::Connection;
use crate::downstream::head;
use crate::upstream::h1::{Exchange, Piece};
use crate::wire::chunked::{self, LAST_CHUNK};
use pingora_error::Error;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// The size of a chunk and its two line ends.
const CHUNK_FRAMING_BYTES_MAX: usize = 20;
/// Room of this size is kept for the next frame, for most frames are small and alike.
const KEPT_BYTES_MAX: usize = 512;

/// What the client still has to get.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// How much of it the connection has taken.
    taken: usize,
    /// How much of the body it carries.
    body_bytes: usize,
}

impl Unsent {
    fn empty(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() <= KEPT_BYTES_MAX {
            bytes.clear();
            self.bytes = bytes;
        }
        (self.taken, self.body_bytes) = (0, 0);
    }
}

/// A stream and everything it still needs.
pub struct Relay {
    ctx: Box<Ctx>,
    exchange: Option<Box<Exchange>>,
    /// What the client has not got yet.
    beginning: Option<Beginning>,
    unsent: Unsent,
    /// Everything has been said.
    is_over: bool,
    /// What is waited for has changed.
    is_changed: bool,
    /// The client has kept the upstream waiting.
    is_slow: bool,
    /// When the upstream last sent something.
    heard: Instant,
    /// Bytes of the answer's body that went to the client.
    bytes_out: u64,
}

/// What has happened.
enum Event {
    /// The stream is over, and the client has got all of it.
    Over,
    /// What is waited for has changed.
    Changed,
    /// The client takes nothing more.
    Left,
    Alarm(clock::Event),
}

impl Relay {
    /// Takes over a stream that was let go, of which the client has got `bytes_out` bytes, or nothing where there is a
    /// `beginning`.
    pub fn new(ctx: Box<Ctx>, exchange: Box<Exchange>, beginning: Option<Beginning>, bytes_out: u64) -> Self {
        Relay {
            ctx,
            exchange: Some(exchange),
            beginning,
            unsent: Unsent::default(),
            is_over: false,
            is_changed: false,
            is_slow: false,
            heard: Instant::now(),
            bytes_out,
        }
    }

    /// Sends the beginning, as much of it as the client takes now: whatever else is to be done can be done behind it.
    pub async fn begin(&mut self, connection: &mut Connection) {
        if let Some(Beginning { head, data, unseen }) = self.beginning.take() {
            let read = unseen.as_ref().map_or(0, |piece| piece.data.len());
            let room = data.len() + read + CHUNK_FRAMING_BYTES_MAX;
            self.unsent.bytes = head::text(head.status, &head.headers, Some(connection.keeps_alive()), room);
            self.send(&data);
            if let Some(piece) = unseen {
                self.pass(piece);
            }
            poll_fn(|context| {
                // What cannot be sent now is sent, or found to be lost, when the stream is moved on.
                let _ = self.poll_send(context, connection);
                Poll::Ready(())
            })
            .await;
        }
        self.ctx.forget_body();
    }

    /// Moves the stream that has begun to its end, and settles the request; whether the client has got all of it.
    pub async fn run(mut self, connection: &mut Connection, visit: &Visit<'_>) -> bool {
        let mut alarm = Alarm::default();
        let is_complete = loop {
            alarm.heard_at(self.heard);
            let clock = self.ctx.cell.clock();
            // Silence is the upstream's: it is not while the client is slow to take what came before.
            let is_timed = !self.is_blocked() && !self.is_over;
            let event = tokio::select! {
                biased;
                event = poll_fn(|context| self.poll(context, connection, is_timed)) => event,
                event = alarm.wait(&clock, true), if is_timed => Event::Alarm(event),
            };
            match event {
                Event::Over => break true,
                Event::Left => {
                    recover::note_client_left(&mut self.ctx, true);
                    break false;
                }
                Event::Changed => {}
                Event::Alarm(event) => {
                    // The alarm has not known what was heard meanwhile.
                    alarm.heard_at(self.heard);
                    if !self.is_blocked() && alarm.is_due(&clock, true) {
                        self.answer(event, &mut alarm);
                    }
                }
            }
        };
        // A client that has left ends the upstream's request at once.
        self.exchange = None;
        finish::run(&mut self.ctx, visit, self.bytes_out, None);
        is_complete
    }

    fn is_blocked(&self) -> bool {
        !self.unsent.bytes.is_empty()
    }

    /// Moves what there is to move, and watches the client. `is_timed` says that an alarm is set for the upstream's silence.
    fn poll(&mut self, context: &mut Context<'_>, connection: &mut Connection, is_timed: bool) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_move(context, connection, is_timed) {
            return Poll::Ready(event);
        }
        connection.poll_left(context).map(|()| Event::Left)
    }

    fn poll_move(&mut self, context: &mut Context<'_>, connection: &mut Connection, is_timed: bool) -> Poll<Event> {
        loop {
            match self.poll_send(context, connection) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Left),
                Poll::Pending => {
                    self.is_slow = true;
                    return Poll::Pending;
                }
            }
            if std::mem::take(&mut self.is_slow) {
                self.heard = Instant::now();
            }
            if self.is_over {
                return Poll::Ready(Event::Over);
            }
            if std::mem::take(&mut self.is_changed) || !is_timed {
                return Poll::Ready(Event::Changed);
            }
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(Event::Over) };
            match ready!(exchange.poll_piece(context)) {
                Ok(piece) => self.pass(piece),
                Err(cause) => self.part(&cause),
            }
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>, connection: &mut Connection) -> Poll<io::Result<()>> {
        let unsent = &mut self.unsent;
        if !unsent.bytes.is_empty() {
            ready!(connection.poll_send(context, &unsent.bytes, &mut unsent.taken))?;
            self.bytes_out += unsent.body_bytes as u64;
            unsent.empty();
        }
        Poll::Ready(Ok(()))
    }

    /// Shows a piece of the stream.
    fn pass(&mut self, Piece { data, is_last }: Piece) {
        self.heard = Instant::now();
        let live = Arc::clone(&self.ctx.live);
        let passed = guard::caught_now(&live, || Ok(observe::pass(&mut self.ctx, data, is_last)));
        let (passed, is_changed) = match passed {
            Ok(passed) => passed,
            Err(panic) => return self.part(&panic),
        };
        self.is_changed |= is_changed;
        if !passed.bytes.is_empty() || passed.last_words.is_some() {
            self.ctx.first_byte_at.get_or_insert(self.heard.into_std());
        }
        match passed.last_words {
            None => self.send(&passed.bytes),
            Some(last) => {
                let words = observe::say(&mut self.ctx, last);
                self.send(&words);
            }
        }
        if is_last || !self.ctx.end.is_empty() {
            self.end(is_last);
        }
    }

    /// Says how a stream went wrong that cannot be finished.
    fn part(&mut self, cause: &Error) {
        let words = recover::parting(&mut self.ctx, cause).unwrap_or_default();
        self.send(&words);
        self.end(false);
    }

    /// Puts a chunk on its way.
    fn send(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.unsent.bytes.reserve(data.len() + CHUNK_FRAMING_BYTES_MAX);
        chunked::put(data, &mut self.unsent.bytes);
        self.unsent.body_bytes += data.len();
    }

    /// Ends the answer behind what is on its way; `is_clean` says that the upstream has ended its own.
    fn end(&mut self, is_clean: bool) {
        self.unsent.bytes.extend_from_slice(LAST_CHUNK);
        self.is_over = true;
        if let Some(exchange) = self.exchange.take().filter(|_| is_clean) {
            exchange.end();
        }
    }

    fn answer(&mut self, event: clock::Event, alarm: &mut Alarm) {
        match event {
            clock::Event::Comment(comment) => {
                alarm.commented();
                self.send(comment);
            }
            clock::Event::TimeOut(kind) => self.part(&Error::explain(kind.error(), kind.words())),
            // Before a stream has content only.
            clock::Event::Release | clock::Event::Hedge => {}
        }
    }
}
