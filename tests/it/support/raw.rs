//! A client of raw bytes: HTTP/1.1 over a socket, where what is sent, when it is sent and how it ends can be chosen.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, MASTER_KEY};

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    /// In order and as spelt.
    pub headers: Vec<(String, String)>,
    /// The bytes, up to and with the empty line.
    pub raw: Vec<u8>,
}

impl Head {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A part of a body, as it arrived.
#[derive(Clone, Debug)]
pub struct Piece {
    pub at: Instant,
    pub bytes: Vec<u8>,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As its framing announced.
    Complete,
    /// The connection closed; for a body without framing the proper end.
    Closed,
    /// The connection was reset.
    Reset,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// The body by reads; chunk by chunk where it is chunked.
    pub pieces: Vec<Piece>,
    pub ending: Ending,
}

impl Answer {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
    Over(Ending),
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    /// Read and not yet used.
    buffer: Vec<u8>,
    framing: Framing,
}

impl Client {
    /// Connects; panics when nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a connection is accepted")
    }

    /// Connects.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Client { stream, buffer: Vec::new(), framing: Framing::Over(Ending::Complete) })
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("bytes can be sent");
    }

    /// Sends bytes; fails when the other side has gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(DEADLINE, self.stream.write_all(bytes.as_ref())).await?
    }

    /// Says that nothing more will be sent (FIN).
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("a half of the connection can be closed");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("the socket takes options");
    }

    /// The next head; panics when none comes.
    pub async fn head(&mut self) -> Head {
        self.try_head().await.expect("a head is read").expect("a head comes before the end")
    }

    /// The next head; none when the connection ends first.
    pub async fn try_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                self.buffer.drain(..head.raw.len());
                self.framing = framing(&head);
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next part of the body; none at its end.
    pub async fn piece(&mut self) -> Option<Piece> {
        loop {
            let taken = match self.framing {
                Framing::Over(_) => return None,
                Framing::Length(0) => {
                    self.framing = Framing::Over(Ending::Complete);
                    return None;
                }
                Framing::Length(left) if !self.buffer.is_empty() => {
                    let count = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.framing = Framing::Length(left - count as u64);
                    Some(self.buffer.drain(..count).collect())
                }
                Framing::UntilClose if !self.buffer.is_empty() => Some(std::mem::take(&mut self.buffer)),
                Framing::Chunked => match self.chunk() {
                    Some(chunk) if chunk.is_empty() => {
                        self.framing = Framing::Over(Ending::Complete);
                        return None;
                    }
                    chunk => chunk,
                },
                _ => None,
            };
            if let Some(bytes) = taken {
                return Some(Piece { at: Instant::now(), bytes });
            }
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => self.framing = Framing::Over(Ending::Closed),
                Err(cause) if cause.kind() == io::ErrorKind::TimedOut => panic!("the body stalled"),
                Err(_) => self.framing = Framing::Over(Ending::Reset),
            }
        }
    }

    /// One whole chunk from the buffer; empty when it is the last.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let parsed = httparse::parse_chunk_size(&self.buffer).expect("chunks are well framed");
        let httparse::Status::Complete((start, length)) = parsed else { return None };
        let end = start + usize::try_from(length).expect("a chunk fits in memory");
        if self.buffer.len() < end + 2 {
            return None;
        }
        assert_eq!(&self.buffer[end..end + 2], b"\r\n", "a chunk ends in CRLF");
        let chunk = self.buffer[start..end].to_vec();
        self.buffer.drain(..end + 2);
        Some(chunk)
    }

    /// The next answer with its whole body; interim heads are passed over.
    pub async fn answer(&mut self) -> Answer {
        loop {
            let head = self.head().await;
            if head.status >= 200 {
                return self.rest(head).await;
            }
        }
    }

    /// The whole body behind a head that was read.
    pub async fn rest(&mut self, head: Head) -> Answer {
        let mut pieces = Vec::new();
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece.bytes);
            pieces.push(piece);
        }
        let Framing::Over(ending) = self.framing else { unreachable!("a body is read to its end") };
        Answer { status: head.status, head, body, pieces, ending }
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Waits until the other side closes or resets; returns what still came.
    pub async fn end(&mut self) -> Vec<u8> {
        while self.fill().await.unwrap_or(false) {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side closes or resets within this time, with nothing more to say.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        matches!(timeout(limit, self.end()).await, Ok(rest) if rest.is_empty())
    }

    /// Whether something comes, be it the end of the connection, within this time.
    pub async fn stirs_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.fill()).await.is_ok()
    }

    /// What has been read and not used.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(timeout(DEADLINE, self.stream.read_buf(&mut self.buffer)).await?? > 0)
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut slots);
    let status = parsed.parse(bytes).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    Ok(Some(Head { status: parsed.code.unwrap_or_default(), headers, raw: bytes[..length].to_vec() }))
}

fn framing(head: &Head) -> Framing {
    if head.status < 200 || head.status == 204 || head.status == 304 {
        return Framing::Over(Ending::Complete);
    }
    if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    match head.header("content-length") {
        Some(length) => Framing::Length(length.parse().expect("a length is a number")),
        None => Framing::UntilClose,
    }
}

/// The bytes of a request with the master key; `headers` are lines such as `("accept", "*/*")`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let authorization = format!("Bearer {MASTER_KEY}");
    let mut all = vec![("Authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    keyless(method, path, &all, body)
}

/// The bytes of a request without a key. A body gets its `Content-Length`.
pub fn keyless(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The bytes of a `POST` of JSON with the master key.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, &[("Content-Type", "application/json")], body)
}

/// The body in chunks of at most so many bytes, with the last chunk.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / size * 12 + 16);
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Posts JSON on a connection of its own.
pub async fn post_json(address: SocketAddr, path: &str, value: &Value) -> Answer {
    Client::connect(address).await.ask(post(path, value.to_string().as_bytes())).await
}

/// Gets a path with the master key on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).await.ask(request("GET", path, &[], b"")).await
}

/// Gets a path without a key; fails instead of panicking.
pub async fn try_get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut client = Client::try_connect(address).await?;
    client.try_send(keyless("GET", path, &[], b"")).await?;
    let head = client.try_head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(client.rest(head).await)
}
