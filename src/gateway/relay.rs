//! A running stream's short way: read from the upstream's connection, shown, and written to the client in one step.
//!
//! The proxy's own way costs a frame two turns of its task and a place in a queue. Once a stream has content and nothing
//! can make it start anew, the wrapper asks for the upstream's connection ([`Handover`]) and reads the chunks itself. All
//! that is not an ordinary frame goes the long way: the connection is given back with the bytes that were not used, and
//! the filters see its end, its error or its break as if there were no short way.

use super::bell::Bell;
use super::cell::Cell;
use super::guard;
use super::outlet::Outlet;
use super::stream::{Passed, Stream};
use crate::snapshot::Live;
use crate::upstream::handover::{Handover, Returned};
use crate::usage::Meter;
use crate::wire::chunked::{self, Begin, LAST_CHUNK};
use bytes::{Bytes, BytesMut};
use pingora_core::protocols::Stream as Connection;
use pingora_error::{Error, ErrorType, OrErr, Result};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

/// Bytes of one read. Frames come one by one, or many at once from an upstream that is faster than its client.
const READ_BYTES: usize = 8 * 1024;
/// The part of a chunk that is kept until the rest of it comes. A longer chunk goes the long way.
const PART_BYTES_MAX: usize = 32 * 1024;
/// The size of a chunk and its two line ends.
const CHUNK_FRAMING_BYTES_MAX: usize = 20;

/// How long the end of an answer may follow its end mark.
const END_MAX: Duration = Duration::from_secs(1);

/// A stream and what is learned of it, for whoever reads it at the time.
pub struct Flow {
    /// The state of the stream.
    pub stream: Stream,
    /// What it told of usage and cost.
    pub meter: Meter,
    live: Arc<Live>,
    /// The end of the stream that the short way came upon and the long way has to tell.
    found: Option<Passed>,
    /// Bytes that came the long way.
    long_way_bytes: u64,
}

/// A flow as the record and the wrapper share it.
#[derive(Clone)]
pub struct SharedFlow(Arc<Mutex<Flow>>);

impl SharedFlow {
    /// The flow of a stream that begins.
    pub fn new(stream: Stream, live: Arc<Live>) -> Self {
        let flow = Flow { stream, meter: Meter::default(), live, found: None, long_way_bytes: 0 };
        SharedFlow(Arc::new(Mutex::new(flow)))
    }

    /// Nobody holds it for longer than a call.
    pub fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// One read that came the long way; `end` as in [`Stream::pass`].
    pub fn pass_long_way(&mut self, read: Bytes, end: bool, cell: &Cell) -> Passed {
        self.long_way_bytes += read.len() as u64;
        match self.found.take() {
            Some(found) => found,
            None => self.pass(read, end, cell).0,
        }
    }

    /// Bytes that came the long way.
    pub fn long_way_bytes(&self) -> u64 {
        self.long_way_bytes
    }

    /// Also whether what is waited for has changed.
    fn pass(&mut self, read: Bytes, end: bool, cell: &Cell) -> (Passed, bool) {
        let (was_within_frame, was_done) = (self.stream.is_within_frame(), self.stream.is_done());
        let passed = self.stream.pass(read, end, &mut self.meter);
        let within_frame = self.stream.is_within_frame();
        if self.stream.is_done() && !was_done {
            // Nothing more is to come but the end itself.
            cell.with_clock(|clock| (clock.silence, clock.comment) = (Some(END_MAX), None));
        }
        if within_frame != was_within_frame {
            cell.with_clock(|clock| clock.within_frame = within_frame);
        }
        let (frames, odd) = self.stream.take_counts();
        self.live.metrics.stream_frames.inc_by(frames);
        if odd > 0 {
            self.live.metrics.odd_frames.inc_by(odd);
        }
        (passed, within_frame != was_within_frame || self.stream.is_done() != was_done)
    }
}

/// Why the short way pauses or ends.
pub enum Pause {
    /// The upstream's connection has to go back.
    Back(Back),
    /// What is waited for has changed.
    Clock,
}

/// What the upstream's connection goes back with, see [`Returned`].
pub struct Back {
    unread: Vec<u8>,
    fault: Option<io::Error>,
}

/// A chunk that the client still has to get.
#[derive(Default)]
struct Unsent {
    chunk: Vec<u8>,
    /// How much of it the outlet has taken.
    taken: usize,
    /// How much of the body it carries.
    data_bytes: usize,
}

/// The short way of one stream.
pub struct Relay {
    connection: Connection,
    handover: Arc<Handover>,
    flow: SharedFlow,
    live: Arc<Live>,
    outlet: Outlet,
    /// The beginning of a chunk.
    part: Vec<u8>,
    unsent: Unsent,
    /// The outlet has something that must leave.
    unflushed: bool,
    pause: Option<Pause>,
    /// When the upstream last sent something.
    heard: Option<Instant>,
    /// Bytes of the answer's body that went to the client.
    bytes_out: usize,
}

impl Relay {
    /// A relay from `connection`, which came from `handover`, to `outlet`.
    pub fn new(connection: Connection, handover: Arc<Handover>, flow: SharedFlow, outlet: Outlet) -> Self {
        let live = Arc::clone(&flow.lock().live);
        Relay {
            live,
            connection,
            handover,
            flow,
            outlet,
            part: Vec::new(),
            unsent: Unsent::default(),
            unflushed: false,
            pause: None,
            heard: None,
            bytes_out: 0,
        }
    }

    /// Lets the stream run, in a task of its own: a frame then wakes that and not the request's, whose future is deep.
    pub fn start(self, cell: Arc<Cell>) -> Running {
        let stop = Arc::new(Bell::default());
        let watches_clock = !self.is_blocked();
        let task = tokio::spawn(self.run(cell, Arc::clone(&stop)));
        Running { task, ended: None, stop, watches_clock }
    }

    async fn run(mut self, cell: Arc<Cell>, stop: Arc<Bell>) -> Ended {
        let was_blocked = self.is_blocked();
        let pause = poll_fn(|context| {
            if stop.has_rung(context.waker()) {
                return Poll::Ready(Ok(None));
            }
            if was_blocked {
                ready!(self.poll_send_on(context))?;
                self.heard = Some(Instant::now());
                return Poll::Ready(Ok(Some(Pause::Clock)));
            }
            self.poll(context, &cell).map_ok(Some)
        })
        .await;
        (self, pause)
    }

    /// Ends the short way.
    pub fn give_back(self, Back { unread, fault }: Back) {
        self.handover.give_back(Returned { stream: self.connection, unread, fault });
    }

    /// When the upstream last sent something, unless it was told before.
    pub fn take_heard(&mut self) -> Option<Instant> {
        self.heard.take()
    }

    /// Bytes of the answer's body that went to the client since the last call.
    pub fn take_bytes_out(&mut self) -> usize {
        std::mem::take(&mut self.bytes_out)
    }

    /// Whether the client takes nothing more at the moment. Nothing is read from the upstream then.
    pub fn is_blocked(&self) -> bool {
        self.unflushed || !self.unsent.chunk.is_empty()
    }

    /// Moves what there is to move. Fails with `WriteError` when the client has gone, and on a panic in what shows the
    /// frames.
    fn poll(&mut self, context: &mut Context<'_>, cell: &Cell) -> Poll<Result<Pause>> {
        loop {
            ready!(self.poll_send_on(context))?;
            if let Some(pause) = self.pause.take() {
                return Poll::Ready(Ok(pause));
            }
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut room);
            let read = ready!(Pin::new(&mut self.connection).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                let unread = std::mem::take(&mut self.part);
                return Poll::Ready(Ok(Pause::Back(Back { unread, fault: read.err() })));
            }
            self.heard = Some(Instant::now());
            if self.part.is_empty() {
                self.pass(buffer.filled(), cell)?;
            } else {
                let mut part = std::mem::take(&mut self.part);
                part.extend_from_slice(buffer.filled());
                self.pass(&part, cell)?;
            }
        }
    }

    fn poll_send_on(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_send(context).map(|sent| sent.or_err(ErrorType::WriteError, "while a stream was written"))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.taken < self.unsent.chunk.len() {
            let count = ready!(self.outlet.poll_write(context, &self.unsent.chunk[self.unsent.taken..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.taken += count;
        }
        self.bytes_out += std::mem::take(&mut self.unsent).data_bytes;
        if self.unflushed {
            ready!(self.outlet.poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Shows the whole chunks of `read`.
    fn pass(&mut self, read: &[u8], cell: &Cell) -> Result<()> {
        let Chunks { data, rest, goes_on } = Chunks::of(read);
        let goes_on = goes_on && rest.len() <= PART_BYTES_MAX;
        if !data.is_empty() {
            let (passed, clock_changed) =
                guard::caught_now(&self.live, || Ok(self.flow.lock().pass(data, false, cell)))?;
            if passed.last_words.is_some() {
                self.flow.lock().found = Some(passed);
                self.pause = Some(Pause::Back(Back { unread: read.to_vec(), fault: None }));
                return Ok(());
            }
            self.send(&passed.bytes);
            self.pause = clock_changed.then_some(Pause::Clock);
        }
        if goes_on {
            self.part = rest.to_vec();
        } else {
            // The end of the answer is flushed in any case.
            self.unflushed &= !rest.starts_with(LAST_CHUNK);
            self.pause = Some(Pause::Back(Back { unread: rest.to_vec(), fault: None }));
        }
        Ok(())
    }

    /// Puts a chunk on its way.
    fn send(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut chunk = Vec::with_capacity(data.len() + CHUNK_FRAMING_BYTES_MAX);
        chunked::put(data, &mut chunk);
        self.unsent = Unsent { chunk, taken: 0, data_bytes: data.len() };
        self.unflushed = true;
    }
}

/// A relay that has stopped, and why, unless it was told to.
type Ended = (Relay, Result<Option<Pause>>);

/// A relay on its way. Dropped, it ends, and with it the upstream's connection.
pub struct Running {
    task: JoinHandle<Ended>,
    ended: Option<std::result::Result<Ended, JoinError>>,
    stop: Arc<Bell>,
    watches_clock: bool,
}

impl Running {
    /// Whether silence is the upstream's: it is not while the client is slow to take what came before.
    pub fn watches_clock(&self) -> bool {
        self.watches_clock
    }

    /// Waits until the relay has stopped by itself. May be dropped and called again.
    pub async fn ended(&mut self) {
        if self.ended.is_none() {
            self.ended = Some((&mut self.task).await);
        }
    }

    /// Stops the relay. May be dropped and called again.
    pub async fn stop(&mut self) {
        self.stop.ring();
        self.ended().await;
    }

    /// The relay after it has stopped, and why, unless it was told to.
    ///
    /// # Errors
    /// A panic that nobody caught.
    pub fn into_ended(mut self) -> Result<Ended> {
        match self.ended.take() {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(_)) | None => Error::e_explain(guard::PANICKED, "a relay"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The whole chunks at the beginning of a read.
struct Chunks<'r> {
    /// What they carry.
    data: Bytes,
    /// What is behind them.
    rest: &'r [u8],
    /// Whether `rest` is nothing or the part of a chunk.
    goes_on: bool,
}

impl<'r> Chunks<'r> {
    fn of(read: &'r [u8]) -> Self {
        let mut rest = read;
        let mut first = &read[..0];
        let mut joined = BytesMut::new();
        let goes_on = loop {
            match chunked::begin(rest) {
                Begin::Chunk { data, length } => {
                    rest = &rest[length..];
                    if first.is_empty() {
                        first = data;
                        continue;
                    }
                    if joined.is_empty() {
                        joined.reserve(read.len());
                        joined.extend_from_slice(first);
                    }
                    joined.extend_from_slice(data);
                }
                Begin::Part => break true,
                Begin::Other => break false,
            }
        };
        let data = if joined.is_empty() { Bytes::copy_from_slice(first) } else { joined.freeze() };
        Chunks { data, rest, goes_on }
    }
}
