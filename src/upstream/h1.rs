//! HTTP/1.1 towards an upstream: one request and its answer on one connection (RFC 9112).
//!
//! The proxy's own client half reads into a queue that another half empties, with buffers for whatever may come. What
//! the gateway asks and gets is simpler: a request that is there whole, and an answer that is wanted as soon as it comes.
//! So the request leaves in one write, and each read of the answer is handed out at once.

use super::pool::Home;
use crate::wire::chunked::Decoder;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode, Version, response::Parts};
use pingora_core::protocols::Stream;
use pingora_error::{Error, ErrorType, OrErr, Result, RetryType};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The longest head of an answer.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most header lines of an answer.
pub const HEADERS_MAX: usize = 256;

/// Headers of an answer that are usually wanted.
const HEADERS_USUAL: usize = 8;

/// Room for a usual head, and for a short answer behind it.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// Bytes of one read of a body whose length is not known.
const READ_BYTES: usize = 16 * 1024;

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
    unsent: (Bytes, Bytes),
    /// The connection holds some of the request in a buffer of its own.
    is_buffered: bool,
    /// The connection took no more.
    send_fault: Option<io::Error>,
    /// Read and not handed out.
    read: BytesMut,
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
            unsent: (head.into(), body),
            is_buffered: true,
            send_fault: None,
            read: BytesMut::new(),
            rest: Rest::Length(0),
            keeps_alive: false,
            home,
            is_reused,
        }
    }

    /// Sends the request and waits for the head of the answer, of which only the headers are kept that `is_wanted` names.
    ///
    /// An upstream may answer before it has read the whole request; the rest is then sent while its answer is read.
    ///
    /// # Errors
    /// `WriteError`, `ReadError` and `ConnectionClosed` when the connection breaks, marked for retry where it had served
    /// another request before; `InvalidHTTPHeader` for an answer that is none.
    pub async fn head(&mut self, is_wanted: fn(&HeaderName) -> bool) -> Result<Head> {
        self.read.reserve(FIRST_READ_BYTES);
        loop {
            if let Some((length, answer)) = parse(&self.read, is_wanted)? {
                self.read.advance(length);
                let Some((head, rest, keeps_alive)) = answer else { continue };
                (self.rest, self.keeps_alive) = (rest, keeps_alive);
                return Ok(head);
            }
            if self.read.len() > HEAD_BYTES_MAX {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "the head of an answer is too long").map_err(up);
            }
            let count = poll_fn(|context| {
                self.poll_send(context);
                self.poll_read(context)
            })
            .await;
            match count {
                Ok(0) => return Err(self.broken(ErrorType::ConnectionClosed, None)),
                Ok(_) => {}
                Err(cause) => return Err(self.broken(ErrorType::ReadError, Some(cause))),
            }
        }
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
        self.unsent.0.is_empty() && self.unsent.1.is_empty() && !self.is_buffered
    }

    /// Sends on what has not been sent. That it cannot be sent matters only when no answer comes.
    fn poll_send(&mut self, context: &mut Context<'_>) {
        while self.send_fault.is_none() && !self.is_sent() {
            let (head, body) = &mut self.unsent;
            let stream = Pin::new(&mut self.stream);
            let written = match (head.is_empty(), body.is_empty()) {
                (true, true) => match stream.poll_flush(context) {
                    Poll::Ready(Ok(())) => {
                        self.is_buffered = false;
                        return;
                    }
                    Poll::Ready(Err(cause)) => Poll::Ready(Err(cause)),
                    Poll::Pending => return,
                },
                (false, true) => stream.poll_write(context, head),
                (true, false) => stream.poll_write(context, body),
                (false, false) => stream.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(body)]),
            };
            match written {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) if count > 0 => {
                    let of_head = count.min(head.len());
                    head.advance(of_head);
                    body.advance(count - of_head);
                }
                Poll::Ready(Ok(_)) => self.send_fault = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(cause)) => self.send_fault = Some(cause),
            }
        }
    }

    /// Reads into the room that was made; ready with the number of bytes, none at the end of the connection.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(&mut self.read)).poll(context)
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
            self.read.reserve(READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES)));
            let count = ready!(self.poll_read(context))
                .or_err(ErrorType::ReadError, "in the middle of an answer")
                .map_err(up)?;
            if count == 0 {
                return Poll::Ready(closed());
            }
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.read.len());
        self.rest = Rest::Length(left - count as u64);
        Poll::Ready(Ok(Piece { data: self.read.split_to(count).freeze(), is_last: left == count as u64 }))
    }

    /// Bodies whose end is not known before it comes.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece>> {
        if !self.read.is_empty() {
            let read = std::mem::take(&mut self.read);
            if let Some(piece) = self.take_apart(&read)? {
                return Poll::Ready(Ok(piece));
            }
        }
        loop {
            if matches!(&self.rest, Rest::Chunks(decoder) if decoder.is_done()) {
                return Poll::Ready(Ok(Piece { data: Bytes::new(), is_last: true }));
            }
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))
                .or_err(ErrorType::ReadError, "in the middle of an answer")
                .map_err(up)?;
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
            self.read.extend_from_slice(read);
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

/// Length of the head that `bytes` begin with, and what it says, unless it is an interim one; none while it is incomplete.
#[expect(clippy::type_complexity, reason = "the three things that a head tells its one reader")]
fn parse(bytes: &[u8], is_wanted: fn(&HeaderName) -> bool) -> Result<Option<(usize, Option<(Head, Rest, bool)>)>> {
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
    let framing = collect(&mut parts, &bytes[..length], response.headers, is_wanted)?;
    let (rest, keeps_alive) = framing.read(&mut parts);
    let is_all = matches!(rest, Rest::Length(0));
    Ok(Some((length, Some((Head { parts, is_all }, rest, keeps_alive)))))
}

/// What a head says about its body and its connection.
#[derive(Default)]
struct Framing {
    is_coded: bool,
    is_chunked: bool,
    length: Option<u64>,
    says_close: bool,
    says_keep_alive: bool,
}

fn collect(
    parts: &mut Parts,
    head: &[u8],
    headers: &[httparse::Header<'_>],
    is_wanted: fn(&HeaderName) -> bool,
) -> Result<Framing> {
    let invalid = |words| Error::explain(ErrorType::InvalidHTTPHeader, words).into_up();
    let mut framing = Framing::default();
    // All values share one copy.
    let copy = Bytes::copy_from_slice(head);
    parts.headers.reserve(headers.len().min(HEADERS_USUAL));
    for header in headers {
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else { continue };
        let mut tokens = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if name == TRANSFER_ENCODING {
            framing.is_coded = true;
            framing.is_chunked = tokens.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        } else if name == CONTENT_LENGTH {
            for token in tokens {
                let length = decimal(token).filter(|length| framing.length.is_none_or(|before| before == *length));
                framing.length = Some(length.ok_or_else(|| invalid("the length of an answer"))?);
            }
            continue;
        } else if name == CONNECTION {
            for token in tokens {
                framing.says_close |= token.eq_ignore_ascii_case(b"close");
                framing.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
            continue;
        } else if !is_wanted(&name) {
            continue;
        }
        let from = header.value.as_ptr() as usize - head.as_ptr() as usize;
        let value = HeaderValue::from_maybe_shared(copy.slice(from..from + header.value.len()));
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
            return (Rest::Chunks(Decoder::default()), keeps_alive);
        }
        if let Some(length) = self.length.filter(|_| !self.is_coded) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            return (Rest::Length(length), keeps_alive);
        }
        // In chunks to the client, who could else not tell the end from a break.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        (Rest::UntilClose, false)
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests;
