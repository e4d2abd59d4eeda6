//! A client's connection, and the request on it.
//!
//! Everything is a state that a poll moves on: a wait that is dropped loses nothing that was read, and what it has begun
//! to send is sent on by the next. A connection between two requests holds no buffer.

use super::head::{self, Body, Fault, Head};
use crate::wire::chunked::{self, LAST_CHUNK};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of a read. They lie on the stack until it is known how many come: a connection that waits needs no room.
const READ_BYTES: usize = 16 * 1024;
/// Bytes of a read of a body that is known to be longer.
const LONG_READ_BYTES: usize = 64 * 1024;
/// Lengths from which on it is.
const LONG: u64 = READ_BYTES as u64 + 1;
/// So much of an answer's body is gathered before it is sent; a longer piece goes in parts.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// The error of a body that is not in the chunks it should be in.
pub const INVALID_CHUNKS: ErrorType = ErrorType::Custom("InvalidChunks");

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// How the client is told the end of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no answer yet.
    Open,
    /// So many bytes are left.
    Length(u64),
    Chunks,
    /// The connection ends, too.
    UntilClose,
    /// It has ended, or there is none.
    Over,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: S,
    client: SocketAddr,
    /// Read, and not yet handed out.
    read: Bytes,
    head: Option<Box<RequestHeader>>,
    body: Body,
    /// Bytes of the body that were handed out.
    body_bytes_read: usize,
    /// The head that was sent last.
    written: Option<Box<ResponseHeader>>,
    framing: Framing,
    /// Written, and not yet sent; how much of it has been sent.
    unsent: (Vec<u8>, usize),
    body_bytes_sent: usize,
    keeps_alive: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that was accepted from `client`.
    pub fn new(stream: S, client: SocketAddr) -> Self {
        Connection {
            stream,
            client,
            read: Bytes::new(),
            head: None,
            body: Body::Length(0),
            body_bytes_read: 0,
            written: None,
            framing: Framing::Open,
            unsent: (Vec::new(), 0),
            body_bytes_sent: 0,
            keeps_alive: true,
        }
    }

    /// The client's address.
    pub fn client_addr(&self) -> &SocketAddr {
        &self.client
    }

    /// The connection itself, and what has been read and not handed out.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.read)
    }

    // Requests.

    /// Waits for the beginning of a request, unless some of it has come already; false when the connection is over.
    pub async fn begins(&mut self) -> bool {
        !self.read.is_empty() || poll_fn(|context| self.poll_read(context)).await.is_ok_and(|count| count > 0)
    }

    /// Whether the connection begins with these bytes; reads no more than it takes to tell.
    ///
    /// # Errors
    /// When it is over before that.
    pub async fn begins_with(&mut self, bytes: &[u8]) -> io::Result<bool> {
        loop {
            let count = self.read.len().min(bytes.len());
            let is_alike = self.read[..count] == bytes[..count];
            if !is_alike || count == bytes.len() {
                return Ok(is_alike);
            }
            let read = poll_fn(|context| {
                let begun = std::mem::take(&mut self.read);
                let read = self.poll_read(context);
                self.read =
                    if self.read.is_empty() { begun } else { [begun, std::mem::take(&mut self.read)].concat().into() };
                read
            });
            if read.await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads a head of at most `bytes_max`; false when the connection is over.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn read_head(&mut self, bytes_max: usize) -> Result<bool, Fault> {
        (self.written, self.framing, self.body_bytes_sent) = (None, Framing::Open, 0);
        let mut begun = BytesMut::new();
        loop {
            // Almost always it has come whole.
            if begun.is_empty() && self.take_head(bytes_max)? {
                return Ok(true);
            }
            let seen = begun.len().saturating_sub(3);
            begun.extend_from_slice(&std::mem::take(&mut self.read));
            if ends_head(&begun[seen..]) {
                self.read = begun.split().freeze();
                if self.take_head(bytes_max)? {
                    return Ok(true);
                }
                begun.extend_from_slice(&std::mem::take(&mut self.read));
            }
            if begun.len() > bytes_max {
                return Err(Fault::TooLong);
            }
            if !self.begins().await {
                return Ok(false);
            }
        }
    }

    /// Takes a head off what was read; false while it is incomplete.
    fn take_head(&mut self, bytes_max: usize) -> Result<bool, Fault> {
        if self.read.is_empty() {
            return Ok(false);
        }
        let Some(Head { header, body, keeps_alive, length }) = head::parse(&self.read)? else { return Ok(false) };
        if length > bytes_max {
            return Err(Fault::TooLong);
        }
        self.read.advance(length);
        self.head = Some(Box::new(header));
        (self.body, self.body_bytes_read) = (body, 0);
        self.keeps_alive = keeps_alive;
        Ok(true)
    }

    /// The request's head.
    ///
    /// # Panics
    /// Before [`Self::read_head`] and after [`Self::forget_head`].
    pub fn header(&self) -> &RequestHeader {
        self.head.as_ref().expect("a head has been read")
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// As [`Self::header`].
    pub fn header_mut(&mut self) -> &mut RequestHeader {
        self.head.as_mut().expect("a head has been read")
    }

    /// Drops what nobody asks for any more.
    pub fn forget_head(&mut self) {
        (self.head, self.written) = (None, None);
    }

    /// The next piece of the request's body; none at its end.
    ///
    /// # Errors
    /// `ReadError`, `ConnectionClosed` before its end, and [`INVALID_CHUNKS`] for chunks that are none.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|context| self.poll_body(context)).await
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        while !self.body.is_done() {
            if !self.read.is_empty() {
                if let Some(piece) = self.take_piece()? {
                    self.body_bytes_read += piece.len();
                    return Poll::Ready(Ok(Some(piece)));
                }
                continue;
            }
            match ready!(self.poll_read(context)).or_err(ErrorType::ReadError, "in a request's body")? {
                0 => return Poll::Ready(Error::e_explain(ErrorType::ConnectionClosed, "in a request's body")),
                _ => continue,
            }
        }
        Poll::Ready(Ok(None))
    }

    /// What of the body lies at the beginning of what was read; none when that is only framing.
    fn take_piece(&mut self) -> Result<Option<Bytes>> {
        match &mut self.body {
            Body::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                *left -= count as u64;
                Ok(Some(self.read.split_to(count)))
            }
            Body::Chunks(decoder) => {
                let mut rest = &self.read[..];
                let data = decoder.next(&mut rest).or_err(INVALID_CHUNKS, "in a request's body")?;
                let (piece, consumed) = (data.map(|data| self.read.slice_ref(data)), self.read.len() - rest.len());
                self.read.advance(consumed);
                Ok(piece)
            }
        }
    }

    /// Whether the body has been read to its end.
    pub fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether there is none.
    pub fn is_body_empty(&self) -> bool {
        self.body_bytes_read == 0 && self.body.is_done()
    }

    /// Bytes of the body that were read.
    pub fn body_bytes_read(&self) -> usize {
        self.body_bytes_read
    }

    /// Waits until the client has left. What it sends ahead is its next request and no reason to end the answer to this
    /// one; once something has come, that is left where it is.
    pub fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.read.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_read(context)) {
            Ok(count) if count > 0 => Poll::Pending,
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    /// Throws away what the client sends, until it sends nothing more.
    pub async fn drain(&mut self) {
        while self.begins().await {
            self.read = Bytes::new();
        }
    }

    /// Reads into the empty room of what was read; nothing at the end of the connection.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.read.is_empty(), "what was read would be lost");
        if let Body::Length(left @ LONG..) = self.body {
            let mut room = BytesMut::with_capacity(usize::try_from(left).unwrap_or(usize::MAX).min(LONG_READ_BYTES));
            let count = ready!(pin!(self.stream.read_buf(&mut room)).poll(context))?;
            self.read = room.freeze();
            return Poll::Ready(Ok(count));
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if !buffer.filled().is_empty() {
            self.read = Bytes::copy_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(self.read.len()))
    }

    // Answers.

    /// The head that was sent last for this request.
    pub fn written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    /// Bytes of the answer's body that were written.
    pub fn body_bytes_sent(&self) -> usize {
        self.body_bytes_sent
    }

    /// Whether the connection serves another request after this one.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Makes this request the connection's last.
    pub fn close(&mut self) {
        self.keeps_alive = false;
    }

    /// Writes the head of an answer; `ends` says that no body follows. The first final one counts.
    pub fn put_head(&mut self, mut head: Box<ResponseHeader>, ends: bool) {
        if self.framing != Framing::Open {
            log::debug!("an answer has one head");
            return;
        }
        if head.status.is_informational() {
            self.put(&head::text(head.status, &head.headers, None, 0));
            self.written = Some(head);
            return;
        }
        self.framing = self.framing_of(&mut head, ends);
        self.put(&head::text(head.status, &head.headers, Some(self.keeps_alive), 0));
        self.written = Some(head);
        if ends {
            self.put_end();
        }
    }

    /// How the body behind a head ends, which the head then says.
    fn framing_of(&mut self, head: &mut ResponseHeader, ends: bool) -> Framing {
        let is_bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if is_bodiless || self.head.as_ref().is_some_and(|request| request.method == Method::HEAD) {
            return Framing::Over;
        }
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(length) = length.filter(|_| !head.headers.contains_key(TRANSFER_ENCODING)) {
            return Framing::Length(length);
        }
        head.remove_header(&CONTENT_LENGTH);
        // HTTP/1.0 knows no chunks (RFC 9112, section 6.1): there a body without a length ends with the connection.
        if self.head.as_ref().is_some_and(|request| request.version == Version::HTTP_10) {
            head.remove_header(&TRANSFER_ENCODING);
            self.keeps_alive = false;
            return Framing::UntilClose;
        }
        let said = if ends && !head.headers.contains_key(TRANSFER_ENCODING) {
            head.insert_header(CONTENT_LENGTH, HeaderValue::from_static("0")).map(|()| Framing::Length(0))
        } else {
            head.insert_header(TRANSFER_ENCODING, CHUNKED).map(|()| Framing::Chunks)
        };
        said.unwrap_or(Framing::UntilClose)
    }

    /// Writes a piece of an answer's body.
    pub fn put_body(&mut self, data: &[u8]) {
        match self.framing {
            _ if data.is_empty() => return,
            Framing::Chunks => chunked::put(data, &mut self.unsent.0),
            Framing::UntilClose => self.put(data),
            Framing::Length(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                self.framing = Framing::Length(left - count as u64);
                self.put(&data[..count]);
            }
            Framing::Open | Framing::Over => return,
        }
        self.body_bytes_sent += data.len();
    }

    /// Ends an answer's body. One that is shorter than its head said cannot end but with the connection.
    pub fn put_end(&mut self) {
        match self.framing {
            Framing::Chunks => self.put(LAST_CHUNK),
            Framing::Length(0) | Framing::Over => {}
            Framing::Length(_) | Framing::UntilClose | Framing::Open => self.keeps_alive = false,
        }
        if self.framing != Framing::Open {
            self.framing = Framing::Over;
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.unsent.0.extend_from_slice(bytes);
    }

    /// Sends a piece of an answer's body with what has been written before it.
    ///
    /// # Errors
    /// `WriteError`.
    pub async fn send_body(&mut self, data: &[u8]) -> Result<()> {
        // A longer piece is not gathered whole beside itself.
        for part in data.chunks(GATHERED_BYTES_MAX) {
            self.put_body(part);
            if self.unsent.0.len() >= GATHERED_BYTES_MAX {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Sends what has been written.
    ///
    /// # Errors
    /// `WriteError`.
    pub async fn flush(&mut self) -> Result<()> {
        let flushed = poll_fn(|context| self.poll_flush(context)).await;
        flushed.or_err(ErrorType::WriteError, "while an answer was sent").map_err(|cause| cause.into_down())
    }

    /// The same as a poll.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (bytes, taken) = &mut self.unsent;
        if !bytes.is_empty() {
            ready!(poll_write(&mut self.stream, context, bytes, taken))?;
            self.unsent = (Vec::new(), 0);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Sends bytes behind what has been written; `taken` counts those that have been sent, from call to call.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8], taken: &mut usize) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        poll_write(&mut self.stream, context, bytes, taken)
    }

    /// Ends the connection in good order.
    pub async fn shutdown(&mut self) {
        // What can go wrong here went wrong with the connection, which ends now.
        let _ = poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await;
    }
}

fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    bytes: &[u8],
    taken: &mut usize,
) -> Poll<io::Result<()>> {
    while *taken < bytes.len() {
        match ready!(Pin::new(&mut *stream).poll_write(context, &bytes[*taken..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *taken += count,
        }
    }
    Poll::Ready(Ok(()))
}

/// Whether the last line of a head is among these bytes.
fn ends_head(bytes: &[u8]) -> bool {
    [&b"\n\r\n"[..], b"\n\n"].iter().any(|end| memchr::memmem::find(bytes, end).is_some())
}

#[cfg(test)]
mod tests;
