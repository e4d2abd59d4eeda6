//! HTTP/1.1 towards an upstream: one request and its answer on one connection (RFC 9112).
//!
//! The proxy's own client half reads into a queue that another half empties, with buffers for whatever may come. What
//! the gateway asks and gets is simpler: a request that is there whole, and an answer that is wanted as soon as it comes.
//! So the request leaves in one write, and each read of the answer is handed out at once.

use super::pool::Home;
use crate::wire::chunked::Decoder;
use crate::wire::head::{length, number, tokens};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode, Version, response::Parts};
use pingora_core::protocols::Stream;
use pingora_error::{Error, ErrorType, OrErr, Result, RetryType};
use std::future::poll_fn;
use std::io::{self, Cursor, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest head of an answer.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most header lines of an answer.
pub const HEADERS_MAX: usize = 256;

/// Headers of an answer that are usually wanted.
const HEADERS_USUAL: usize = 8;

/// Bytes of a read. They lie on the stack until it is known what they are: a connection that waits needs no room.
const READ_BYTES: usize = 16 * 1024;

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// How the end of an answer's body is told (RFC 9112, section 6.3).
#[derive(Debug)]
enum Rest {
    /// So many bytes are left.
    Length(u64),
    Chunks(Decoder),
    UntilClose,
}

/// The head of an answer that is no interim one.
#[derive(Debug)]
pub struct Head {
    /// Status, version, and the headers that were asked for.
    pub parts: Parts,
    /// The answer ends with its head.
    pub is_all: bool,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it carries; empty at most at the end.
    pub data: Bytes,
    /// Nothing follows.
    pub is_last: bool,
}

/// A request on its way, or its answer.
///
/// Dropped before its end, it closes its connection: the upstream learns that nobody waits any more.
#[derive(Debug)]
pub struct Exchange {
    stream: Stream,
    /// What of the request has not been taken by the connection.
    unsent: (Cursor<Vec<u8>>, Bytes),
    /// The connection holds some of the request in a buffer of its own.
    is_buffered: bool,
    /// The connection took no more.
    send_fault: Option<io::Error>,
    /// Read and not handed out.
    read: Bytes,
    rest: Rest,
    /// The connection may be used again once the answer has ended.
    keeps_alive: bool,
    home: Home,
    is_reused: bool,
}

impl Exchange {
    /// A request to be sent. `home` is where the connection belongs, `is_reused` says that it came from there.
    pub fn begin(stream: Stream, home: Home, is_reused: bool, head: Vec<u8>, body: Bytes) -> Self {
        Exchange {
            stream,
            unsent: (Cursor::new(head), body),
            is_buffered: true,
            send_fault: None,
            read: Bytes::new(),
            rest: Rest::Length(0),
            keeps_alive: false,
            home,
            is_reused,
        }
    }

    /// Sends as much of the request as the connection takes now.
    pub async fn send(&mut self) {
        poll_fn(|context| {
            self.poll_send(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Sends what is left of the request and waits for the head of the answer, of which only the headers are kept that
    /// `is_wanted` names.
    ///
    /// An upstream may answer before it has read the whole request; the rest is then sent while its answer is read.
    ///
    /// # Errors
    /// `WriteError`, `ReadError` and `ConnectionClosed` when the connection breaks, marked for retry where it had served
    /// another request before; `InvalidHTTPHeader` for an answer that is none.
    pub async fn head(&mut self, is_wanted: fn(&HeaderName) -> bool) -> Result<Head> {
        let mut begun = Vec::new();
        poll_fn(|context| self.poll_head(context, &mut begun, is_wanted)).await
    }

    /// `begun` is what has come of an unfinished head.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        begun: &mut Vec<u8>,
        is_wanted: fn(&HeaderName) -> bool,
    ) -> Poll<Result<Head>> {
        self.poll_send(context);
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready(Err(self.broken(ErrorType::ConnectionClosed, None)));
                }
                Ok(()) => {}
                Err(cause) => return Poll::Ready(Err(self.broken(ErrorType::ReadError, Some(cause)))),
            }
            let is_first = begun.is_empty();
            if !is_first {
                begun.extend_from_slice(buffer.filled());
            }
            if let Some(head) = self.take_head(if is_first { buffer.filled() } else { begun }, is_wanted)? {
                return Poll::Ready(Ok(head));
            }
            if is_first {
                begun.extend_from_slice(buffer.filled());
            }
            if begun.len() > HEAD_BYTES_MAX {
                let error = Error::explain(ErrorType::InvalidHTTPHeader, "the head of an answer is too long");
                return Poll::Ready(Err(error.into_up()));
            }
        }
    }

    /// The head in `bytes`, behind interim ones; none while it is incomplete.
    fn take_head(&mut self, mut bytes: &[u8], is_wanted: fn(&HeaderName) -> bool) -> Result<Option<Head>> {
        while let Some((length, answer)) = parse(bytes, is_wanted)? {
            bytes = &bytes[length..];
            if let Some(answer) = answer {
                (self.rest, self.keeps_alive, self.read) = (answer.rest, answer.keeps_alive, answer.behind);
                return Ok(Some(answer.head));
            }
        }
        Ok(None)
    }

    /// The next piece of the body; after the last one, another last one.
    ///
    /// # Errors
    /// `ConnectionClosed`, `ReadError`, and `InvalidHTTPHeader` for chunks that are none.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece>> {
        self.poll_send(context);
        match self.rest {
            Rest::Length(left) => self.poll_length(context, left),
            Rest::Chunks(_) | Rest::UntilClose => self.poll_open(context),
        }
    }

    /// The same as a future.
    pub async fn piece(&mut self) -> Result<Piece> {
        poll_fn(|context| self.poll_piece(context)).await
    }

    /// Whether bytes of the body have come that were not handed out.
    pub fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// The exchange is over: its connection goes back to the pool, or closes where it cannot serve another request.
    pub fn end(self) {
        let is_clean = match &self.rest {
            Rest::Length(left) => *left == 0,
            Rest::Chunks(decoder) => decoder.is_done(),
            Rest::UntilClose => false,
        };
        // An upstream that says more than its answer will say more yet.
        let is_idle = is_clean && self.read.is_empty() && self.is_sent() && self.send_fault.is_none();
        if is_idle && self.keeps_alive {
            self.home.take_back(self.stream);
        }
    }

    fn is_sent(&self) -> bool {
        !self.unsent.0.has_remaining() && self.unsent.1.is_empty() && !self.is_buffered
    }

    /// Sends on what has not been sent. That it cannot be sent matters only when no answer comes.
    fn poll_send(&mut self, context: &mut Context<'_>) {
        while self.send_fault.is_none() && !self.is_sent() {
            let (head, body) = &mut self.unsent;
            let stream = Pin::new(&mut self.stream);
            let written = match (!head.has_remaining(), body.is_empty()) {
                (true, true) => match stream.poll_flush(context) {
                    Poll::Ready(Ok(())) => {
                        // The answer may take an hour.
                        (self.is_buffered, self.unsent) = (false, <(Cursor<Vec<u8>>, Bytes)>::default());
                        return;
                    }
                    Poll::Ready(Err(cause)) => Poll::Ready(Err(cause)),
                    Poll::Pending => return,
                },
                (false, true) => stream.poll_write(context, head.chunk()),
                (true, false) => stream.poll_write(context, body),
                (false, false) => {
                    stream.poll_write_vectored(context, &[IoSlice::new(head.chunk()), IoSlice::new(body)])
                }
            };
            match written {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) if count > 0 => {
                    let of_head = count.min(head.remaining());
                    head.advance(of_head);
                    body.advance(count - of_head);
                }
                Poll::Ready(Ok(_)) => self.send_fault = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(cause)) => self.send_fault = Some(cause),
            }
        }
    }

    /// No answer came: the connection had been closed while it was idle, or breaks now.
    fn broken(&mut self, kind: ErrorType, cause: Option<io::Error>) -> Box<Error> {
        let words = "before an answer came";
        // Only what the system says of the connection; a fault of TLS is none of an idle connection.
        let by_system = cause.as_ref().is_none_or(|cause| cause.raw_os_error().is_some());
        let mut error = match (self.send_fault.take(), cause) {
            (Some(fault), _) => Error::because(ErrorType::WriteError, "while a request was sent", fault),
            (None, Some(cause)) => Error::because(kind, words, cause),
            (None, None) => Error::explain(kind, words),
        };
        if by_system && self.is_reused {
            error.retry = RetryType::ReusedOnly;
        }
        error.into_up()
    }

    fn poll_length(&mut self, context: &mut Context<'_>, left: u64) -> Poll<Result<Piece>> {
        if left > 0 && self.read.is_empty() {
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(self.poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(closed());
            }
            self.read = Bytes::copy_from_slice(buffer.filled());
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.read.len());
        self.rest = Rest::Length(left - count as u64);
        Poll::Ready(Ok(Piece { data: self.read.split_to(count), is_last: left == count as u64 }))
    }

    /// Bodies whose end is not known before it comes.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece>> {
        if !self.read.is_empty() {
            let read = std::mem::take(&mut self.read);
            if let Some(piece) = self.take_apart(&read)? {
                return Poll::Ready(Ok(piece));
            }
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            if matches!(&self.rest, Rest::Chunks(decoder) if decoder.is_done()) {
                return Poll::Ready(Ok(Piece { data: Bytes::new(), is_last: true }));
            }
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(self.poll_read(context, &mut buffer))?;
            match (buffer.filled(), &self.rest) {
                ([], Rest::UntilClose) => return Poll::Ready(Ok(Piece { data: Bytes::new(), is_last: true })),
                ([], _) => return Poll::Ready(closed()),
                (read, _) => {
                    if let Some(piece) = self.take_apart(read)? {
                        return Poll::Ready(Ok(piece));
                    }
                }
            }
        }
    }

    /// Reads some of a body; nothing at the end of the connection.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(read.or_err(ErrorType::ReadError, "in the middle of an answer").map_err(up))
    }

    /// What a read carries; none when that is only framing.
    fn take_apart(&mut self, mut read: &[u8]) -> Result<Option<Piece>> {
        let Rest::Chunks(decoder) = &mut self.rest else {
            return Ok(Some(Piece { data: Bytes::copy_from_slice(read), is_last: false }));
        };
        let room = read.len();
        let mut next = || decoder.next(&mut read).or_err(ErrorType::InvalidHTTPHeader, "in an answer").map_err(up);
        let first = next()?.unwrap_or_default();
        let data = match next()? {
            None => Bytes::copy_from_slice(first),
            Some(second) => {
                let mut joined = BytesMut::with_capacity(room);
                joined.extend_from_slice(first);
                joined.extend_from_slice(second);
                while let Some(data) = next()? {
                    joined.extend_from_slice(data);
                }
                joined.freeze()
            }
        };
        let is_last = decoder.is_done();
        if is_last {
            self.read = Bytes::copy_from_slice(read);
        }
        Ok((is_last || !data.is_empty()).then_some(Piece { data, is_last }))
    }
}

fn up(error: Box<Error>) -> Box<Error> {
    error.into_up()
}

fn closed() -> Result<Piece> {
    Error::e_explain(ErrorType::ConnectionClosed, "in the middle of an answer").map_err(up)
}

/// A head and what lies behind it.
struct Answer {
    head: Head,
    rest: Rest,
    keeps_alive: bool,
    behind: Bytes,
}

/// Length of the head that `bytes` begin with, and what it says, unless it is an interim one; none while it is incomplete.
fn parse(bytes: &[u8], is_wanted: fn(&HeaderName) -> bool) -> Result<Option<(usize, Option<Answer>)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let mut parser = httparse::ParserConfig::default();
    // As the proxy takes them.
    parser.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut room);
    let parsed = parsed.or_err(ErrorType::InvalidHTTPHeader, "an answer that is no HTTP").map_err(up)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = StatusCode::from_u16(response.code.unwrap_or(0))
        .or_err(ErrorType::InvalidHTTPHeader, "the status of an answer")
        .map_err(up)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some((length, None)));
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // All values, and what lies behind the head, share one copy.
    let copy = Bytes::copy_from_slice(bytes);
    let at = |value: &[u8]| {
        let from = value.as_ptr() as usize - bytes.as_ptr() as usize;
        copy.slice(from..from + value.len())
    };
    let framing = collect(&mut parts, response.headers, at, is_wanted)?;
    let (rest, keeps_alive) = framing.read(&mut parts);
    let is_all = matches!(rest, Rest::Length(0));
    let behind = copy.slice(length..);
    Ok(Some((length, Some(Answer { head: Head { parts, is_all }, rest, keeps_alive, behind }))))
}

/// What a head says about its body and its connection.
#[derive(Default)]
struct Framing {
    is_coded: bool,
    is_chunked: bool,
    length: Option<u64>,
    /// The same as it came.
    length_text: Option<HeaderValue>,
    says_close: bool,
    says_keep_alive: bool,
}

fn collect(
    parts: &mut Parts,
    headers: &[httparse::Header<'_>],
    kept: impl Fn(&[u8]) -> Bytes,
    is_wanted: fn(&HeaderName) -> bool,
) -> Result<Framing> {
    let invalid = |words| Error::explain(ErrorType::InvalidHTTPHeader, words).into_up();
    let mut framing = Framing::default();
    parts.headers.reserve(headers.len().min(HEADERS_USUAL));
    for header in headers {
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else { continue };
        if name == TRANSFER_ENCODING {
            framing.is_coded = true;
            framing.is_chunked =
                tokens(header.value).next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
            continue;
        } else if name == CONTENT_LENGTH {
            let length = length(header.value, framing.length);
            framing.length = Some(length.ok_or_else(|| invalid("the length of an answer"))?);
            if number(header.value).is_some() {
                framing.length_text = HeaderValue::from_maybe_shared(kept(header.value)).ok();
            }
            continue;
        } else if name == CONNECTION {
            for token in tokens(header.value) {
                framing.says_close |= token.eq_ignore_ascii_case(b"close");
                framing.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
            continue;
        } else if !is_wanted(&name) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(kept(header.value));
        parts.headers.append(name, value.map_err(|_| invalid("a header of an answer"))?);
    }
    Ok(framing)
}

impl Framing {
    /// How the end of the body is told, and whether the connection outlives it. The head then says of its length what is
    /// true.
    fn read(self, parts: &mut Parts) -> (Rest, bool) {
        let is_old = parts.version == Version::HTTP_10;
        let keeps_alive = if is_old { self.says_keep_alive && !self.is_coded } else { !self.says_close };
        if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return (Rest::Length(0), keeps_alive);
        }
        // An encoding overrides a length (RFC 9112, section 6.3).
        if self.is_chunked {
            parts.headers.insert(TRANSFER_ENCODING, CHUNKED);
            return (Rest::Chunks(Decoder::default()), keeps_alive);
        }
        if let Some(length) = self.length.filter(|_| !self.is_coded) {
            parts.headers.insert(CONTENT_LENGTH, self.length_text.unwrap_or_else(|| HeaderValue::from(length)));
            return (Rest::Length(length), keeps_alive);
        }
        // In chunks to the client, who could else not tell the end from a break.
        parts.headers.insert(TRANSFER_ENCODING, CHUNKED);
        (Rest::UntilClose, false)
    }
}

#[cfg(test)]
mod tests;
