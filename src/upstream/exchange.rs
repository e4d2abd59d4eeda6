//! A request sent outside of Pingora's proxy, whose connection can be handed to it once the answer has begun.
//!
//! Pingora's proxy talks to one upstream at a time. A second, concurrent request is written here on a connection of its
//! own; when its answer is wanted, [`Answered::into_peer`] makes a peer whose connection is that one: what the proxy
//! writes to it is swallowed, since it has been sent already, and what it reads is the answer from its first byte on.

use super::h1::{HEAD_BYTES_MAX, HEADERS_MAX};
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::connectors::l4::Connect;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream as RawStream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::protocols::tls::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, Scheme};
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A handed-over connection is not used again; this closes it should the upstream not do so.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Makes the connections, also those of [`super::connector`]; trusts whom the proxy trusts.
#[derive(Default)]
pub struct Dialer {
    ca_file: Option<String>,
    /// For upstreams behind TLS.
    trusting: OnceLock<TransportConnector>,
    /// For those that are spoken to in the clear. It trusts nobody: the authorities take half a megabyte.
    plain: OnceLock<TransportConnector>,
}

/// A PEM file without authorities.
const NOBODY: &str = "/dev/null";

impl Dialer {
    /// `ca_file` as the proxy has it: a PEM file in place of the system's authorities.
    pub fn new(ca_file: Option<String>) -> Self {
        Dialer { ca_file, ..Dialer::default() }
    }

    /// Sends a request over HTTP/1.1 and waits for the head of its answer. To give it up is to drop the future.
    ///
    /// # Errors
    /// Pingora's own for a connection that cannot be made; `WriteError`, `ReadError` and `ConnectionClosed` for one that
    /// breaks; `InvalidHTTPHeader` for an answer that is none.
    pub async fn send(&self, mut peer: Box<HttpPeer>, mut head: RequestHeader, body: Bytes) -> Result<Answered> {
        peer.options.alpn = ALPN::H1;
        head.set_version(http::Version::HTTP_11);
        head.insert_header(http::header::CONNECTION, "close")?;
        let wire = http_req_header_to_wire(&head)
            .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "a request head that cannot be written"))?;
        let mut stream = self.connect(&peer).await?;
        let failed = || "while a request was written";
        stream.write_all(&wire).await.or_err_with(ErrorType::WriteError, failed)?;
        stream.write_all(&body).await.or_err_with(ErrorType::WriteError, failed)?;
        stream.flush().await.or_err_with(ErrorType::WriteError, failed)?;
        let (bytes, status) = read_head(&mut stream).await?;
        Ok(Answered { stream, bytes, status, peer })
    }

    /// A new connection to a peer that speaks HTTP/1.1, TLS included.
    ///
    /// # Errors
    /// Pingora's own.
    pub async fn connect(&self, peer: &HttpPeer) -> Result<Stream> {
        self.connector(peer.is_tls()).new_stream(peer).await
    }

    /// Makes now what the first connection of a kind, behind TLS or in the clear, would have to wait for: the authorities
    /// are read.
    pub fn prepare(&self, behind_tls: bool) {
        self.connector(behind_tls);
    }

    fn connector(&self, behind_tls: bool) -> &TransportConnector {
        match behind_tls {
            true => self.trusting.get_or_init(|| connector(self.ca_file.as_deref())),
            false => self.plain.get_or_init(|| connector(Some(NOBODY))),
        }
    }
}

fn connector(ca_file: Option<&str>) -> TransportConnector {
    let mut options = ConnectorOptions::new(1);
    options.ca_file = ca_file.map(str::to_owned);
    TransportConnector::new(Some(options))
}

/// Reads up to the end of the first head that is no interim one.
async fn read_head(stream: &mut Stream) -> Result<(BytesMut, u16)> {
    let mut bytes = BytesMut::with_capacity(4096);
    loop {
        let count = stream.read_buf(&mut bytes).await.or_err(ErrorType::ReadError, "while an answer was awaited")?;
        if count == 0 {
            return Error::e_explain(ErrorType::ConnectionClosed, "before an answer came");
        }
        while let Some((length, status)) = parse_head(&bytes)? {
            if status >= 200 || status == 101 {
                return Ok((bytes, status));
            }
            bytes.advance(length);
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the head of an answer is too long");
        }
    }
}

/// Length and status of the head that `bytes` begin with; none while it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u16)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).or_err(ErrorType::InvalidHTTPHeader, "an answer that is no HTTP")?;
    Ok(match parsed {
        httparse::Status::Complete(length) => response.code.map(|status| (length, status)),
        httparse::Status::Partial => None,
    })
}

/// A request whose answer has begun.
pub struct Answered {
    stream: Stream,
    bytes: BytesMut,
    status: u16,
    peer: Box<HttpPeer>,
}

impl Answered {
    /// The answer's status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A peer to which the proxy connects by taking this connection over. `key` keeps it apart from every other in the
    /// proxy's pool.
    pub fn into_peer(self, key: u64) -> Box<HttpPeer> {
        let Answered { stream, bytes, mut peer, .. } = self;
        // TLS, if any, is inside the connection already.
        peer.scheme = Scheme::HTTP;
        peer.group_key = key;
        peer.options.idle_timeout = Some(IDLE_MAX);
        peer.options.custom_l4 = Some(Arc::new(HandOver(Mutex::new(Some(Adopted { stream, bytes })))));
        peer
    }
}

/// Gives its connection to whoever connects first.
#[derive(Debug)]
struct HandOver(Mutex<Option<Adopted>>);

#[async_trait]
impl Connect for HandOver {
    async fn connect(&self, _: &SocketAddr) -> Result<RawStream> {
        let adopted = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let adopted = adopted.ok_or_else(|| Error::explain(ErrorType::ConnectError, "handed over already"))?;
        Ok(VirtualSocketStream::new(Box::new(adopted)).into())
    }
}

/// A connection whose request has been sent.
#[derive(Debug)]
struct Adopted {
    stream: Stream,
    /// Read already, and not yet read by the proxy.
    bytes: BytesMut,
}

impl VirtualSocket for Adopted {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Adopted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adopted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_whole_and_nothing_else_is_one() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\na: b\r\n").unwrap(), None);
        let head = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(parse_head(head).unwrap(), Some((28, 103)));
        assert!(parse_head(b"SSH-2.0-x\r\n").is_err());
    }
}
