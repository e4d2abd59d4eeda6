//! The session wrapper: replays a request body of any size, holds an answer's head back while it is judged, watches
//! the clock, and puts keep-alive comments on a silent stream.
//!
//! Pingora reads a body once and replays at most 64 KiB; above that its forwarding loop hangs (upstream issues 349,
//! 780, pull request 816). This wrapper claims to be a custom session whose body is already read, so the ordinary
//! `HttpProxy` sends it again for each attempt. It is also the one place that is polled in every state of a request
//! ([`Session::read_body_or_idle`]), so all waits that Pingora does not limit are limited here, and bytes nobody asked
//! for can be written between two upstream reads. The only file that touches Pingora's doc-hidden trait.

use super::cell::{Cell, Hold, Shared};
use super::clock::{self, Alarm};
use super::hedge::OVERTAKEN;
use super::outlet::Outlet;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::Duration;

/// The error of an answer that was to be judged whole and has no body at all.
pub const EMPTY_ANSWER: ErrorType = ErrorType::Custom("EmptyAnswer");

/// The error that ends an attempt whose last bytes have been written by the hall's own decision.
pub const ENDED_HERE: ErrorType = ErrorType::Custom("EndedHere");

/// A downstream session around the real one.
pub struct Replay {
    /// Always there until drop.
    inner: Option<Box<ServerSession>>,
    cell: Arc<Cell>,
    held: Option<Box<ResponseHeader>>,
    /// Frames of a stream behind the held head.
    held_frames: BytesMut,
    alarm: Alarm,
    /// The client's connection, unless it is one of many streams.
    outlet: Option<Outlet>,
    completed: bool,
}

impl Replay {
    /// Wraps a session whose head has been read. `outlet` is its connection when that serves it alone.
    pub fn new(inner: Box<ServerSession>, cell: Arc<Cell>, outlet: Option<Outlet>) -> Self {
        cell.lock().has_outlet = outlet.is_some() && inner.req_header().version == Version::HTTP_11;
        Replay {
            inner: Some(inner),
            cell,
            held: None,
            held_frames: BytesMut::new(),
            alarm: Alarm::default(),
            outlet,
            completed: false,
        }
    }

    fn inner(&self) -> &ServerSession {
        self.inner.as_ref().expect("the session is given back only on drop")
    }

    fn inner_mut(&mut self) -> &mut ServerSession {
        self.inner.as_mut().expect("the session is given back only on drop")
    }

    /// A custom session ignores the keep-alive settings of the hall; they reach the real one here.
    fn apply_close(&mut self) {
        if self.cell.lock().close {
            self.inner_mut().set_keepalive(None);
        }
    }

    /// HTTP/1.0 knows no chunks (RFC 9112, section 6.1): there a body without a length ends with the connection.
    fn fit(&mut self, head: &mut ResponseHeader) {
        let inner = self.inner_mut();
        if inner.req_header().version == Version::HTTP_10 && head.remove_header(&TRANSFER_ENCODING).is_some() {
            inner.set_keepalive(None);
        }
    }

    /// Makes the client's connection free for what is written next: what a keep-alive comment left unfinished when an
    /// upstream read cut in is written.
    async fn make_way(&mut self) -> Result<()> {
        let inner = self.inner_mut();
        if !inner.is_http2() && inner.has_pending_downstream_proxy_tasks() {
            Box::pin(inner.write_downstream_proxy_tasks()).await?;
        }
        Ok(())
    }

    /// Writes a keep-alive comment; may be dropped at any await and is then finished by the next write.
    async fn write_comment(&mut self, comment: &'static [u8]) -> Result<()> {
        let inner = self.inner_mut();
        if inner.is_http2() {
            return inner.write_response_body(Bytes::from_static(comment), false).await;
        }
        inner.send_downstream_proxy_task(HttpTask::Body(Some(Bytes::from_static(comment)), false));
        inner.write_downstream_proxy_tasks().await.map(|_| ())
    }

    /// Writes parts of an answer, which leave together and now: Pingora flushes each part of a body in chunks, and none of
    /// a body whose length is known.
    async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let inner = self.inner.as_mut().expect("the session is given back only on drop");
        let Some(outlet) = &self.outlet else { return inner.response_duplex_vec(tasks).await };
        let cork = outlet.cork();
        let ended = inner.response_duplex_vec(tasks).await?;
        cork.flush().await.or_err(ErrorType::WriteError, "flushing an answer").map_err(|cause| cause.into_down())?;
        Ok(ended)
    }

    async fn wait(&mut self, no_body_expected: bool) -> Result<Event> {
        let (clock, racing) = {
            let shared = self.cell.lock();
            (shared.clock, shared.hedge.is_running())
        };
        let streaming = self.inner().response_written().is_some();
        let inner = self.inner.as_mut().expect("the session is given back only on drop");
        tokio::select! {
            biased;
            event = inner.read_body_or_idle(no_body_expected) => event.map(Event::Client),
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
        let Some(mut head) = self.held.take() else { return Ok(()) };
        self.apply_close();
        self.fit(&mut head);
        let inner = self.inner_mut();
        if inner.is_http2() {
            // Only the head, which is written at once: the frames go before the next one.
            return inner.write_response_header(head).await;
        }
        inner.send_downstream_proxy_task(HttpTask::Header(head, false));
        let frames = std::mem::take(&mut self.held_frames).freeze();
        let inner = self.inner_mut();
        if !frames.is_empty() {
            inner.send_downstream_proxy_task(HttpTask::Body(Some(frames), false));
        }
        inner.write_downstream_proxy_tasks().await.map(|_| ())
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
        self.inner().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner_mut().read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner_mut().drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let informational = head.status.is_informational();
        self.apply_close();
        self.inner_mut().write_response_header(head).await?;
        self.completed |= end && !informational;
        Ok(())
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.make_way().await?;
        self.inner_mut().write_response_body(data, end).await?;
        self.completed |= end;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner_mut().write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.make_way().await?;
        self.alarm.heard();
        let mut out = Vec::with_capacity(tasks.len() + 1);
        for task in tasks {
            self.sift(task, &mut out)?;
        }
        if out.is_empty() {
            return Ok(false);
        }
        self.apply_close();
        for task in &mut out {
            if let HttpTask::Header(head, _) = task {
                self.fit(head);
            }
        }
        let ended = self.write_tasks(out).await?;
        self.completed |= ended;
        if !ended && self.cell.lock().last {
            Box::pin(self.inner_mut().finish_body()).await?;
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

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner().request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner().response_written()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner_mut().shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.cell.lock().body.is_some() || self.inner_mut().is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.make_way().await?;
        self.inner_mut().finish_body().await?;
        self.completed = true;
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        let sealed = self.cell.lock().body.as_ref().map(Bytes::is_empty);
        sealed.unwrap_or_else(|| self.inner_mut().is_body_empty())
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner().to_h1_raw()
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
