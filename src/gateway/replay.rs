//! The session wrapper: replays a request body of any size, holds an answer's head back while it is judged, watches
//! the clock, and puts keep-alive comments on a silent stream.
//!
//! Pingora reads a body once and replays at most 64 KiB; above that its forwarding loop hangs (upstream issues 349,
//! 780, pull request 816). This wrapper claims to be a custom session whose body is already read, so the ordinary
//! `HttpProxy` sends it again for each attempt. It is also the one place that is polled in every state of a request
//! ([`Session::read_body_or_idle`]), so all waits that Pingora does not limit are limited here, and bytes nobody asked
//! for can be written between two upstream reads. The only file that touches Pingora's doc-hidden trait.

use super::accept::path_of;
use super::cell::{Cell, Hold, Shared};
use super::clock::{self, Alarm};
use super::hedge::OVERTAKEN;
use crate::downstream::connection::Connection;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// The error of an answer that was to be judged whole and has no body at all.
pub const EMPTY_ANSWER: ErrorType = ErrorType::Custom("EmptyAnswer");

/// The error that ends an attempt whose last bytes have been written by the hall's own decision.
pub const ENDED_HERE: ErrorType = ErrorType::Custom("EndedHere");

/// Who speaks to the client.
pub enum Inner {
    /// The gateway, over HTTP/1.1.
    Http1(Box<Connection>),
    /// Pingora, over HTTP/2.
    Http2(Box<ServerSession>),
}

impl Inner {
    /// The request's head.
    pub fn header(&self) -> &RequestHeader {
        match self {
            Inner::Http1(connection) => connection.header(),
            Inner::Http2(session) => session.req_header(),
        }
    }

    /// The client's address.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        match self {
            Inner::Http1(connection) => Some(connection.client_addr()),
            Inner::Http2(session) => session.client_addr(),
        }
    }

    /// The next piece of the body; none at its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Inner::Http1(connection) => connection.read_body().await,
            Inner::Http2(session) => session.read_request_body().await,
        }
    }

    /// Whether the body has been read to its end.
    pub fn is_body_done(&mut self) -> bool {
        match self {
            Inner::Http1(connection) => connection.is_body_done(),
            Inner::Http2(session) => session.is_body_done(),
        }
    }

    /// Throws the rest of the body away.
    ///
    /// # Errors
    /// Where it cannot be read to its end.
    pub async fn drain_body(&mut self) -> Result<()> {
        while self.read_body().await?.is_some() {}
        Ok(())
    }

    /// Makes this request the connection's last; nothing over HTTP/2, where it has none to itself.
    pub fn close(&mut self) {
        match self {
            Inner::Http1(connection) => connection.close(),
            Inner::Http2(session) => session.set_keepalive(None),
        }
    }

    fn written(&self) -> Option<&ResponseHeader> {
        match self {
            Inner::Http1(connection) => connection.written(),
            Inner::Http2(session) => session.response_written(),
        }
    }
}

/// A downstream session around the real one.
pub struct Replay {
    /// Always there until drop.
    inner: Option<Inner>,
    cell: Arc<Cell>,
    held: Option<Box<ResponseHeader>>,
    /// Frames of a stream behind the held head.
    held_frames: BytesMut,
    alarm: Alarm,
    completed: bool,
}

impl Replay {
    /// Wraps who speaks to a client whose head has been read.
    pub fn new(inner: Inner, cell: Arc<Cell>) -> Self {
        cell.lock().is_alone = matches!(inner, Inner::Http1(_)) && inner.header().version == Version::HTTP_11;
        Replay {
            inner: Some(inner),
            cell,
            held: None,
            held_frames: BytesMut::new(),
            alarm: Alarm::default(),
            completed: false,
        }
    }

    fn inner(&self) -> &Inner {
        self.inner.as_ref().expect("it is given back only on drop")
    }

    fn inner_mut(&mut self) -> &mut Inner {
        self.inner.as_mut().expect("it is given back only on drop")
    }

    /// A custom session ignores the keep-alive settings of the hall; they reach the real one here.
    fn apply_close(&mut self) {
        if self.cell.closes() {
            self.inner_mut().close();
        }
    }

    /// Writes a keep-alive comment; may be dropped at any await and is then finished by the next write.
    async fn write_comment(&mut self, comment: &'static [u8]) -> Result<()> {
        match self.inner_mut() {
            Inner::Http1(connection) => {
                connection.put_body(comment);
                connection.flush().await
            }
            Inner::Http2(session) => session.write_response_body(Bytes::from_static(comment), false).await,
        }
    }

    /// Writes parts of an answer, which leave together and now; true with the last.
    async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        match self.inner_mut() {
            Inner::Http1(connection) => {
                let mut ended = false;
                for task in tasks {
                    ended |= write_task(connection, task).await?;
                }
                connection.flush().await?;
                Ok(ended)
            }
            Inner::Http2(session) => session.response_duplex_vec(tasks).await,
        }
    }

    async fn finish_body(&mut self) -> Result<()> {
        match self.inner_mut() {
            Inner::Http1(connection) => {
                connection.put_end();
                connection.flush().await
            }
            Inner::Http2(session) => session.finish_body().await,
        }
    }

    async fn wait(&mut self, no_body_expected: bool) -> Result<Event> {
        let (clock, racing) = {
            let shared = self.cell.lock();
            (shared.clock, shared.hedge.is_running())
        };
        let streaming = self.inner().written().is_some();
        let inner = self.inner.as_mut().expect("it is given back only on drop");
        tokio::select! {
            biased;
            event = body_or_left(inner, no_body_expected) => event.map(Event::Client),
            event = self.alarm.wait(&clock, streaming) => Ok(Event::Alarm(event)),
            () = self.cell.hedge_won(), if racing => Error::e_explain(OVERTAKEN, "by a second attempt"),
        }
    }

    /// Does what an event asks for; the client's word when it is one.
    async fn answer(&mut self, event: Event) -> Result<Option<Option<Bytes>>> {
        match event {
            Event::Client(body) => return Ok(Some(body)),
            Event::Alarm(clock::Event::Comment(comment)) => {
                self.alarm.commented();
                Box::pin(self.write_comment(comment)).await?;
            }
            Event::Alarm(clock::Event::Hedge) => self.cell.start_hedge(),
            Event::Alarm(clock::Event::Release) => Box::pin(self.release_frames()).await?,
            Event::Alarm(clock::Event::TimeOut(kind)) => return Error::e_explain(kind.error(), kind.words()),
        }
        Ok(None)
    }

    /// Sends what is held of a stream; may be dropped at any await and is then finished by the next write.
    async fn release_frames(&mut self) -> Result<()> {
        {
            let mut shared = self.cell.lock();
            shared.clock.release = None;
            shared.hold = Hold::No;
        }
        let Some(head) = self.held.take() else { return Ok(()) };
        self.apply_close();
        match self.inner.as_mut().expect("it is given back only on drop") {
            Inner::Http1(connection) => {
                connection.put_head(head, false);
                connection.put_body(&std::mem::take(&mut self.held_frames));
                connection.flush().await
            }
            // Only the head, which is written at once: the frames go before the next one.
            Inner::Http2(session) => session.write_response_header(head).await,
        }
    }

    /// What of `task` goes downstream now: nothing while the answer is held, the judged head first when it is let go.
    ///
    /// Filters have run over a whole batch before it comes here, so a head may be judged already when it arrives.
    fn sift(&mut self, task: HttpTask, out: &mut Vec<HttpTask>) -> Result<()> {
        let mut shared = self.cell.lock();
        match task {
            HttpTask::Header(head, _) if head.status.is_informational() => {}
            HttpTask::Header(_, true) if shared.hold != Hold::No => {
                return Error::e_explain(EMPTY_ANSWER, "an answer without a body");
            }
            HttpTask::Header(head, _) if shared.hold != Hold::No => {
                self.held = Some(head);
                self.held_frames.clear();
            }
            HttpTask::Header(head, end) => {
                self.held = None;
                self.held_frames.clear();
                out.push(HttpTask::Header(judged(&mut shared).unwrap_or(head), end));
            }
            HttpTask::Body(body, false) if shared.hold == Hold::Frames => {
                self.held_frames.extend_from_slice(body.as_deref().unwrap_or_default());
            }
            HttpTask::Body(body, false) if shared.hold == Hold::Whole && body.as_ref().is_none_or(Bytes::is_empty) => {}
            HttpTask::Failed(_) | HttpTask::Done if shared.last => {}
            HttpTask::Failed(cause) => {
                self.held = None;
                self.held_frames.clear();
                out.push(HttpTask::Failed(cause));
            }
            other => {
                if let Some(held) = self.held.take() {
                    out.push(HttpTask::Header(judged(&mut shared).unwrap_or(held), false));
                }
                if !self.held_frames.is_empty() {
                    out.push(HttpTask::Body(Some(std::mem::take(&mut self.held_frames).freeze()), false));
                }
                out.push(other);
            }
        }
        Ok(())
    }
}

/// Waits for more of the body, or until the client has left when there is no more.
async fn body_or_left(inner: &mut Inner, no_body_expected: bool) -> Result<Option<Bytes>> {
    match inner {
        Inner::Http1(connection) if no_body_expected || connection.is_body_done() => {
            poll_fn(|context| connection.poll_left(context)).await;
            Error::e_explain(ErrorType::ConnectionClosed, "by the client, before its answer was complete")
        }
        Inner::Http1(connection) => connection.read_body().await,
        Inner::Http2(session) => session.read_body_or_idle(no_body_expected).await,
    }
}

/// Writes a part of an answer, and sends it where it is long; true when it is the last.
async fn write_task(connection: &mut Connection, task: HttpTask) -> Result<bool> {
    let ended = match task {
        HttpTask::Header(head, ended) => {
            connection.put_head(head, ended);
            return Ok(ended);
        }
        HttpTask::Body(body, ended) | HttpTask::UpgradedBody(body, ended) => {
            connection.send_body(&body.unwrap_or_default()).await?;
            ended
        }
        // Nobody has asked for trailers: they end here.
        HttpTask::Trailer(_) | HttpTask::Done => true,
        HttpTask::Failed(cause) => return Err(cause),
    };
    if ended {
        connection.put_end();
    }
    Ok(ended)
}

/// The head that replaces the one held.
fn judged(shared: &mut Shared) -> Option<Box<ResponseHeader>> {
    shared.head.take().map(|head| Box::new(head.into()))
}

/// What has happened while the wrapper waited.
enum Event {
    /// The client sent something of its body, or nothing more.
    Client(Option<Bytes>),
    /// An alarm.
    Alarm(clock::Event),
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.cell.lock().returned = Some((inner, self.completed));
        }
    }
}

#[async_trait]
impl Session for Replay {
    fn req_header(&self) -> &RequestHeader {
        self.inner().header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        match self.inner_mut() {
            Inner::Http1(connection) => connection.header_mut(),
            Inner::Http2(session) => session.req_header_mut(),
        }
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner_mut().read_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner_mut().drain_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let informational = head.status.is_informational();
        self.apply_close();
        match self.inner_mut() {
            Inner::Http1(connection) => {
                // A body of known length follows at once.
                let leaves = informational || end || !head.headers.contains_key(CONTENT_LENGTH);
                connection.put_head(head, end);
                if leaves {
                    connection.flush().await?;
                }
            }
            Inner::Http2(session) => session.write_response_header(head).await?,
        }
        self.completed |= end && !informational;
        Ok(())
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        match self.inner_mut() {
            Inner::Http1(connection) => {
                write_task(connection, HttpTask::Body(Some(data), end)).await?;
                connection.flush().await?;
            }
            Inner::Http2(session) => session.write_response_body(data, end).await?,
        }
        self.completed |= end;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match self.inner_mut() {
            Inner::Http1(_) => Ok(()),
            Inner::Http2(session) => session.write_response_trailers(trailers).await,
        }
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.alarm.heard();
        let mut out = Vec::with_capacity(tasks.len() + 1);
        for task in tasks {
            self.sift(task, &mut out)?;
        }
        if out.is_empty() {
            return Ok(false);
        }
        self.apply_close();
        let ended = self.write_tasks(out).await?;
        self.completed |= ended;
        if !ended && self.cell.lock().last {
            Box::pin(self.finish_body()).await?;
            self.completed = true;
            return Error::e_explain(ENDED_HERE, "after its last words");
        }
        Ok(ended)
    }

    /// Waits for the client to leave or for an alarm; a due keep-alive comment is written on the way.
    ///
    /// Made anew and polled for every frame, so what is rare is boxed and the order of the waits is fixed.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        loop {
            let event = self.wait(no_body_expected).await?;
            if let Some(body) = self.answer(event).await? {
                return Ok(body);
            }
        }
    }

    // Time is kept by the hall (`clock`).

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        // Without the query, which may hold a key.
        let head = self.inner().header();
        format!("{} {}", head.method, path_of(head))
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner().written()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        match self.inner_mut() {
            Inner::Http1(connection) => connection.shutdown().await,
            Inner::Http2(session) => session.shutdown().await,
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.cell.lock().body.is_some() || self.inner_mut().is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.finish_body().await?;
        self.completed = true;
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        let sealed = self.cell.lock().body.as_ref().map(Bytes::is_empty);
        sealed.unwrap_or_else(|| match self.inner_mut() {
            Inner::Http1(connection) => connection.is_body_empty(),
            Inner::Http2(session) => session.is_body_empty(),
        })
    }

    fn body_bytes_sent(&self) -> usize {
        match self.inner() {
            Inner::Http1(connection) => connection.body_bytes_sent(),
            Inner::Http2(session) => session.body_bytes_sent(),
        }
    }

    fn body_bytes_read(&self) -> usize {
        match self.inner() {
            Inner::Http1(connection) => connection.body_bytes_read(),
            Inner::Http2(session) => session.body_bytes_read(),
        }
    }

    fn digest(&self) -> Option<&Digest> {
        match self.inner() {
            Inner::Http1(_) => None,
            Inner::Http2(session) => session.digest(),
        }
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        match self.inner_mut() {
            Inner::Http1(_) => None,
            Inner::Http2(session) => session.digest_mut(),
        }
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        match self.inner() {
            // Nobody asks.
            Inner::Http1(_) => None,
            Inner::Http2(session) => session.server_addr(),
        }
    }

    /// Not asked for with this wrapper; nothing of a head should lie about as text.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.cell.lock().body.clone()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
