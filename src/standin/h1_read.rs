//! The reading side of HTTP/1.1: heads and bodies out of a byte stream, and the watch for a peer that leaves.

use std::future::pending;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, ReadHalf};

use super::BODY_BYTES_MAX;
use super::record::header;
use super::socket::Socket;

const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 256;
const LINE_BYTES_MAX: usize = 4 << 10;
/// How much of a next request or an unread body is taken in while a request is answered.
const AHEAD_BYTES_MAX: usize = 64 << 10;

pub(super) struct Reader {
    half: ReadHalf<Socket>,
    buffer: BytesMut,
}

/// The head of a request, as it came.
pub(super) struct RequestHead {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub raw: Vec<u8>,
    pub framing: Framing,
    pub http_1_0: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Gone,
    Malformed,
    HeadTooLarge,
    BodyTooLarge,
}

impl RequestHead {
    pub(super) fn expects_continue(&self) -> bool {
        header(&self.headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    pub(super) fn wants_close(&self) -> bool {
        self.http_1_0
            || header(&self.headers, "connection")
                .is_some_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    }

    fn parse(raw: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(raw) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Fault::Malformed),
        };
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let headers: Vec<_> = request.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect();
        let head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            framing: Framing::of(&headers)?,
            http_1_0: request.version == Some(0),
            headers,
            raw: raw[..length].to_vec(),
        };
        Ok(Some((head, length)))
    }
}

impl Framing {
    fn of(headers: &[(String, String)]) -> Result<Self, Fault> {
        if let Some(coding) = header(headers, "transfer-encoding") {
            return if coding.eq_ignore_ascii_case("chunked") { Ok(Self::Chunked) } else { Err(Fault::Malformed) };
        }
        match header(headers, "content-length").map(|value| value.trim().parse()) {
            None | Some(Ok(0)) => Ok(Self::None),
            Some(Ok(length)) => Ok(Self::Length(length)),
            Some(Err(_)) => Err(Fault::Malformed),
        }
    }
}

impl Reader {
    pub(super) fn new(half: ReadHalf<Socket>) -> Self {
        Self { half, buffer: BytesMut::new() }
    }

    /// The next head; [`Fault::Gone`] if the peer leaves before it is complete.
    pub(super) async fn head(&mut self) -> Result<RequestHead, Fault> {
        loop {
            let parsed = if self.buffer.is_empty() { None } else { RequestHead::parse(&self.buffer)? };
            let length = parsed.as_ref().map_or(self.buffer.len(), |(_, length)| *length);
            if length > HEAD_BYTES_MAX {
                return Err(Fault::HeadTooLarge);
            }
            if let Some((head, length)) = parsed {
                self.buffer.advance(length);
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// Reads the body into `body`, which keeps what came when it breaks off.
    pub(super) async fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> Result<(), Fault> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.exactly(length, body).await,
            Framing::Chunked => self.chunks(body).await,
        }
    }

    /// Ends when the peer closed, half-closed or reset the connection. What it sends meanwhile is kept, up to a limit
    /// beyond which a close goes unseen.
    pub(super) async fn gone(&mut self) {
        while self.buffer.len() < AHEAD_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        pending().await
    }

    /// Throws away what the peer still sends, so that closing does not reset the answer it has not read yet.
    pub(super) async fn drain(&mut self) {
        self.buffer.clear();
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        self.buffer.reserve(16 << 10);
        match self.half.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Fault::Gone),
            Ok(_) => Ok(()),
        }
    }

    async fn exactly(&mut self, length: u64, body: &mut Vec<u8>) -> Result<(), Fault> {
        if body.len() as u64 + length > BODY_BYTES_MAX {
            return Err(Fault::BodyTooLarge);
        }
        let mut missing = usize::try_from(length).map_err(|_| Fault::BodyTooLarge)?;
        while missing > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let taken = self.buffer.split_to(missing.min(self.buffer.len()));
            body.extend_from_slice(&taken);
            missing -= taken.len();
        }
        Ok(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(|_| Fault::Malformed)?;
            if length == 0 {
                break;
            }
            self.exactly(length, body).await?;
            if !self.line().await?.is_empty() {
                return Err(Fault::Malformed);
            }
        }
        // Trailers are read and dropped.
        while !self.line().await?.is_empty() {}
        Ok(())
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Fault::Malformed);
            }
            self.fill().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_kept_as_it_came() {
        let raw = b"POST /v1/x?y=1 HTTP/1.1\r\nHoSt: a\r\nContent-Length: 3\r\n\r\nabc";
        let (head, length) = RequestHead::parse(raw).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str(), length), ("POST", "/v1/x?y=1", raw.len() - 3));
        assert_eq!(head.headers[0], ("HoSt".to_owned(), "a".to_owned()));
        assert_eq!(head.raw, &raw[..length]);
        assert!(head.framing == Framing::Length(3));
    }

    #[test]
    fn half_a_head_waits_and_rubbish_does_not() {
        assert!(RequestHead::parse(b"GET / HTTP/1.1\r\nHost").unwrap().is_none());
        assert_eq!(RequestHead::parse(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n").err(), Some(Fault::Malformed));
    }
}
