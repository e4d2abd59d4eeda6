//! Heads of HTTP/1.1 (RFC 9112) from and to a client.
//!
//! A request whose framing or target can be read in two ways is refused: whoever stands before the gateway may have read
//! it the other way, which is how requests are smuggled. Bodies are taken in chunks or with a length.

use crate::wire::chunked::Decoder;
use crate::wire::head::{length, put_line, tokens};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use httpdate::HttpDate;
use pingora_core::protocols::http::authority::validate_request_authority;
use pingora_http::RequestHeader;
use std::cell::Cell;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most header lines of a request.
pub const HEADERS_MAX: usize = 256;
/// Room for the head of a usual answer.
const TEXT_BYTES_USUAL: usize = 1024;

/// A date as heads have it (RFC 9110, section 5.6.7).
type Date = [u8; 29];

thread_local! {
    /// The second that was last asked for, and its date. Pingora keeps one too, but in a new place of the heap each second.
    static SHOWN: Cell<(u64, Date)> = const { Cell::new((u64::MAX, [0; 29])) };
}

/// What of a request's body has not been read.
#[derive(Clone, Debug)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks to the last.
    Chunks(Decoder),
}

impl Body {
    /// Whether all of it has been read.
    pub fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunks(decoder) => decoder.is_done(),
        }
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Method, target and headers.
    pub header: RequestHeader,
    /// How its body ends.
    pub body: Body,
    /// The connection may serve another request.
    pub keeps_alive: bool,
    /// Its own length in bytes.
    pub length: usize,
}

/// Why bytes are no head that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not HTTP/1.1, or say two things at once.
    Malformed,
    /// A length and chunks at once (RFC 9112, section 6.3).
    BothFramings,
    /// Longer than it may be.
    TooLong,
}

/// The head that `bytes` begin with; none while it is incomplete. Its values are parts of `bytes`.
///
/// # Errors
/// [`Fault`].
pub fn parse(bytes: &Bytes) -> Result<Option<Head>, Fault> {
    let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut room).map_err(|_| Fault::Malformed)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes()).map_err(|_| Fault::Malformed)?;
    let target = request.path.unwrap_or_default().as_bytes();
    let mut header =
        RequestHeader::build_no_case(method, target, Some(request.headers.len())).map_err(|_| Fault::Malformed)?;
    header.set_version(if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    let mut framing = Framing::default();
    for line in &*request.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Fault::Malformed)?;
        framing.note(&name, line.value)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).map_err(|_| Fault::Malformed)?;
        header.append_header(name, value).map_err(|_| Fault::Malformed)?;
    }
    validate_request_authority(&header).map_err(|_| Fault::Malformed)?;
    let (body, keeps_alive) = framing.read(header.version)?;
    Ok(Some(Head { header, body, keeps_alive, length }))
}

/// What headers say about the body and the connection.
#[derive(Default)]
struct Framing {
    is_chunked: bool,
    length: Option<u64>,
    says_close: bool,
    says_keep_alive: bool,
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Fault> {
        if name == CONTENT_LENGTH {
            self.length = Some(length(value, self.length).ok_or(Fault::Malformed)?);
        } else if name == TRANSFER_ENCODING {
            // No other coding is known here, and chunks are put around a body once.
            if self.is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Malformed);
            }
            self.is_chunked = true;
        } else if name == CONNECTION {
            for token in tokens(value) {
                self.says_close |= token.eq_ignore_ascii_case(b"close");
                self.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    fn read(self, version: Version) -> Result<(Body, bool), Fault> {
        let is_old = version == Version::HTTP_10;
        let keeps_alive = !self.says_close && (!is_old || self.says_keep_alive);
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(Fault::BothFramings),
            // HTTP/1.0 knows no chunks: such framing is faulty (RFC 9112, section 6.1).
            (true, None) if is_old => Err(Fault::Malformed),
            (true, None) => Ok((Body::Chunks(Decoder::default()), keeps_alive)),
            (false, length) => Ok((Body::Length(length.unwrap_or(0)), keeps_alive)),
        }
    }
}

/// The head of an answer as it is sent, with room behind it for `room` bytes. `keeps_alive` says that the connection serves
/// another request; none for an interim answer.
///
/// The names go out in lower case, as LiteLLM's do.
pub fn text(status: StatusCode, headers: &HeaderMap, keeps_alive: Option<bool>, room: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT_BYTES_USUAL + room);
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().filter(|(name, _)| **name != CONNECTION && **name != DATE) {
        put_line(name, value.as_bytes(), &mut text);
    }
    if let Some(keeps_alive) = keeps_alive {
        put_line(&DATE, &date(), &mut text);
        put_line(&CONNECTION, if keeps_alive { b"keep-alive" } else { b"close" }, &mut text);
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn date() -> Date {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (shown, mut text) = SHOWN.get();
    if shown != second {
        // It fits.
        let _ = write!(&mut text[..], "{}", HttpDate::from(UNIX_EPOCH + Duration::from_secs(second)));
        SHOWN.set((second, text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<Head>, Fault> {
        parse(&Bytes::copy_from_slice(head.as_bytes()))
    }

    fn of(lines: &str) -> Result<Head, Fault> {
        read(&format!("POST /v1/chat HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).map(|head| head.expect("a whole head"))
    }

    #[test]
    fn the_date_is_that_of_now() {
        for _ in 0..2 {
            let before = httpdate::fmt_http_date(SystemTime::now());
            let shown = String::from_utf8(date().to_vec()).unwrap();
            assert!([before, httpdate::fmt_http_date(SystemTime::now())].contains(&shown), "{shown}");
            SHOWN.set((0, [b'?'; 29]));
        }
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = "POST /v1/a?b=c HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 3\r\n\r\nabc";
        for length in 0..whole.len() - 3 {
            assert!(read(&whole[..length]).unwrap().is_none(), "{length}");
        }
        let head = read(whole).unwrap().unwrap();
        assert_eq!(head.length, whole.len() - 3);
        assert_eq!((head.header.method.as_str(), head.header.raw_path()), ("POST", &b"/v1/a?b=c"[..]));
        assert_eq!(head.header.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(matches!(head.body, Body::Length(3)));
        assert!(head.keeps_alive);
    }

    #[test]
    fn empty_lines_may_come_before_it() {
        assert_eq!(read("\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap().unwrap().length, 22);
        assert!(read("\r\n\r\n").unwrap().is_none());
    }

    #[test]
    fn a_body_has_one_framing() {
        let length = |lines: &str| match of(lines).unwrap().body {
            Body::Length(length) => Some(length),
            Body::Chunks(_) => None,
        };
        assert_eq!(length(""), Some(0));
        assert_eq!(length("Content-Length: 12\r\n"), Some(12));
        assert_eq!(length("Content-Length: 12, 12\r\nContent-Length: 12\r\n"), Some(12));
        assert_eq!(length("Transfer-Encoding: Chunked\r\n"), None);
        for lines in [
            "Content-Length: 12\r\nContent-Length: 13\r\n",
            "Content-Length: 12, 13\r\n",
            "Content-Length:\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert_eq!(of(lines).unwrap_err(), Fault::Malformed, "{lines}");
        }
        let both = "Content-Length: 12\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(of(both).unwrap_err(), Fault::BothFramings);
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old).unwrap_err(), Fault::Malformed);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
            "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
            "GET http://me@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length : 2\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Folded: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Nul: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "NONSENSE\r\n\r\n",
        ] {
            assert_eq!(read(head).unwrap_err(), Fault::Malformed, "{head}");
        }
        let many = "X-More: 1\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(of(&many).unwrap_err(), Fault::Malformed);
    }

    #[test]
    fn a_connection_lives_on_as_both_sides_say() {
        let keeps = |version: &str, lines: &str| {
            read(&format!("GET / HTTP/{version}\r\n{lines}\r\n")).unwrap().unwrap().keeps_alive
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.1", "Connection: Close\r\n"));
        assert!(!keeps("1.1", "Connection: keep-alive, close\r\n"));
        assert!(keeps("1.1", "Connection: x-hop\r\n"));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: x-hop, Keep-Alive\r\n"));
    }

    #[test]
    fn an_answer_says_what_becomes_of_the_connection() {
        let mut headers = HeaderMap::new();
        headers.insert("x-one", HeaderValue::from_static("1"));
        headers.insert(CONNECTION, HeaderValue::from_static("of somebody else"));
        let lines = |keeps_alive| String::from_utf8(text(StatusCode::OK, &headers, keeps_alive, 0)).unwrap();
        assert!(lines(Some(true)).starts_with("HTTP/1.1 200 OK\r\nx-one: 1\r\ndate: "));
        assert!(lines(Some(true)).ends_with("\r\nconnection: keep-alive\r\n\r\n"));
        assert!(lines(Some(false)).ends_with("\r\nconnection: close\r\n\r\n"));
        assert_eq!(lines(None), "HTTP/1.1 200 OK\r\nx-one: 1\r\n\r\n");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(0..=255u8, 0..200), cut in 0..60usize) {
            let mut head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n".to_vec();
            head.truncate(head.len() - cut);
            head.extend_from_slice(&bytes);
            let _ = parse(&Bytes::from(head));
            let _ = parse(&Bytes::from(bytes));
        }
    }
}
