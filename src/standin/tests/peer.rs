//! A client of raw bytes.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::standin::{Options, Script, Standin};

pub(super) const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn standin(script: impl Into<Script>) -> Standin {
    let standin = Standin::start(Options::default()).await.unwrap();
    standin.script(script);
    standin
}

pub(super) fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(super) struct Peer {
    pub stream: TcpStream,
    pub seen: Vec<u8>,
}

impl Peer {
    pub async fn connect(standin: &Standin) -> Self {
        Self { stream: TcpStream::connect(standin.address()).await.unwrap(), seen: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until this text was seen, and returns everything since the last call.
    pub async fn until(&mut self, text: &str) -> String {
        let read = async {
            while memchr::memmem::find(&self.seen, text.as_bytes()).is_none() {
                let count = self.stream.read_buf(&mut self.seen).await.unwrap();
                assert!(count > 0, "ended before {text:?}: {}", String::from_utf8_lossy(&self.seen));
            }
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| panic!("no {text:?} in time"));
        String::from_utf8(std::mem::take(&mut self.seen)).unwrap()
    }

    /// Reads a head and the first chunk behind it.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let read = async {
            loop {
                if let Some(head) = memchr::memmem::find(&self.seen, b"\r\n\r\n") {
                    let body = &self.seen[head + 4..];
                    if let Ok(httparse::Status::Complete((start, length))) = httparse::parse_chunk_size(body)
                        && let Some(chunk) = body.get(start..start + length as usize)
                    {
                        return chunk.to_vec();
                    }
                }
                assert!(self.stream.read_buf(&mut self.seen).await.unwrap() > 0, "ended before a chunk");
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("a chunk in time")
    }

    /// Reads to the end: what came, and whether the end was a FIN.
    pub async fn rest(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        let end =
            tokio::time::timeout(DEADLINE, self.stream.read_to_end(&mut self.seen)).await.expect("an end in time");
        (std::mem::take(&mut self.seen), end.map(drop))
    }

    /// Status and document of a plain answer.
    pub async fn document(&mut self, request: &str) -> (u16, Value) {
        self.send(request).await;
        let mut text = self.until("\r\n\r\n").await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let missing = length.parse::<usize>().unwrap() - body.len();
        let mut rest = vec![0; missing];
        tokio::time::timeout(DEADLINE, self.stream.read_exact(&mut rest)).await.unwrap().unwrap();
        text.push_str(&String::from_utf8(rest).unwrap());
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
    }
}
