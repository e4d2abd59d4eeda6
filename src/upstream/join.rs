//! Connections on which the head of a request waits for its body, so that both leave in one write.
//!
//! Pingora flushes the head before it writes the body: two system calls, two packets and, over TLS, two records for
//! what is one message. Its connector can be replaced by one that hands the proxy streams of its own; this one's keep a
//! head back until what follows it is written or flushed. A body that came late would keep the head waiting, so this
//! is for requests whose body is there before an upstream is chosen. All of ours are.

use super::exchange::Dialer;
use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{ALPN, CustomALPN, SslDigest};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::{Error, ErrorType, Result};
use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A longer head is written at once. A body that fits in behind its head is copied there, which costs less than a write
/// of two pieces.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Room for a usual head and a short body.
const HELD_BYTES_USUAL: usize = 2 * 1024;

/// The protocol of peers that are connected to through [`Joiner`]; it never appears on the wire.
pub fn protocol() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"nanogate".to_vec()))
}

/// Makes HTTP/1.1 connections for the proxy. Used again, they come from the proxy's own pool.
pub struct Joiner(Arc<Dialer>);

impl Joiner {
    /// Connects as `dialer` does.
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Joiner(dialer)
    }
}

#[async_trait]
impl Connector for Joiner {
    /// None is ever made: the proxy speaks HTTP/1.1 itself over the streams it gets from here.
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let Some(peer) = (peer as &dyn Any).downcast_ref::<HttpPeer>() else {
            return Error::e_explain(ErrorType::InternalError, "a peer of an unknown kind");
        };
        let mut peer = peer.clone();
        peer.options.alpn = ALPN::H1;
        let stream = self.0.connect(&peer).await?;
        Ok((Connection::Stream(Box::new(Joined::new(stream))), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, (): (), _: &P, _: Option<Duration>) {}
}

/// What is written next.
#[derive(Debug, Default)]
enum Turn {
    /// A request begins: its head.
    #[default]
    Head,
    /// What follows the head that is held.
    AfterHead {
        /// The proxy has asked for the head to leave, or has written what it waits for.
        flushed: bool,
    },
    /// Anything, at once, until the upstream has answered.
    Rest,
}

/// A connection that holds heads back.
#[derive(Debug)]
struct Joined {
    stream: Stream,
    turn: Turn,
    /// The head, or what is left of it to be written.
    held: Vec<u8>,
}

impl Joined {
    fn new(stream: Stream) -> Self {
        Joined { stream, turn: Turn::Head, held: Vec::new() }
    }

    /// Writes the held head and `bytes` behind it; ready with the number of bytes taken of the latter once the head is
    /// out.
    fn poll_join(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let both = [IoSlice::new(&self.held), IoSlice::new(bytes)];
            let written = if bytes.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))?
            } else {
                ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &both))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < self.held.len() {
                self.held.drain(..written);
                continue;
            }
            let taken = written - self.held.len();
            // Given back, so that an idle connection keeps nothing.
            self.held = Vec::new();
            self.turn = Turn::Rest;
            return Poll::Ready(Ok(taken));
        }
    }
}

impl AsyncRead for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before && matches!(self.turn, Turn::Rest) {
            self.turn = Turn::Head;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Joined {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.turn {
            Turn::Head if bytes.len() <= HELD_BYTES_MAX && bytes.ends_with(b"\r\n\r\n") => {
                self.held.reserve(HELD_BYTES_USUAL.max(bytes.len()));
                self.held.extend_from_slice(bytes);
                self.turn = Turn::AfterHead { flushed: false };
                return Poll::Ready(Ok(bytes.len()));
            }
            Turn::Head => self.turn = Turn::Rest,
            Turn::AfterHead { .. } if self.held.len() + bytes.len() <= HELD_BYTES_MAX => {
                self.held.extend_from_slice(bytes);
                self.turn = Turn::AfterHead { flushed: true };
                return Poll::Ready(Ok(bytes.len()));
            }
            Turn::AfterHead { .. } => {
                let taken = ready!(self.poll_join(context, bytes))?;
                if taken > 0 {
                    return Poll::Ready(Ok(taken));
                }
            }
            Turn::Rest => {}
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Turn::AfterHead { flushed } = &mut self.turn {
            if !std::mem::replace(flushed, true) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_join(context, &[]))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// A head that is still held goes nowhere: whoever ends the connection now has nothing more to ask.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Joined {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

impl UniqueID for Joined {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Joined {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Joined {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Joined {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Joined {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

impl Peek for Joined {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";

    fn pair() -> (Joined, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Joined::new(Box::new(UnixStream::from_std(ours).unwrap())), theirs)
    }

    /// What lies there to be read, without any wait.
    fn arrived(mut theirs: &std::os::unix::net::UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = theirs.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    #[tokio::test]
    async fn a_head_waits_for_its_body_in_every_request_of_a_connection() {
        let (mut joined, mut theirs) = pair();
        for _ in 0..2 {
            joined.write_all(HEAD).await.unwrap();
            joined.flush().await.unwrap();
            assert_eq!(arrived(&theirs), b"", "the head came alone");
            joined.write_all(b"body").await.unwrap();
            joined.flush().await.unwrap();
            assert_eq!(arrived(&theirs), [HEAD, b"body"].concat());
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut answer = [0; 64];
            assert!(joined.read(&mut answer).await.unwrap() > 0);
            assert!(joined.held.is_empty() && joined.held.capacity() == 0, "an idle connection keeps a buffer");
        }
    }

    #[tokio::test]
    async fn a_head_without_a_body_leaves_at_the_end_of_its_request() {
        let (mut joined, theirs) = pair();
        joined.write_all(HEAD).await.unwrap();
        joined.flush().await.unwrap();
        joined.flush().await.unwrap();
        assert_eq!(arrived(&theirs), HEAD);
    }

    #[tokio::test]
    async fn a_large_body_loses_nothing_where_the_connection_is_slow() {
        let (mut joined, theirs) = pair();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        let body: Vec<u8> = (0..4_000_000u32).map(|place| (place % 251) as u8).collect();
        let expected = [HEAD, &body].concat();
        let writing = tokio::spawn(async move {
            joined.write_all(HEAD).await.unwrap();
            joined.flush().await.unwrap();
            joined.write_all(&body).await.unwrap();
            joined.flush().await.unwrap();
        });
        let mut read = Vec::new();
        AsyncReadExt::read_to_end(&mut theirs, &mut read).await.unwrap();
        writing.await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn a_body_beyond_the_room_behind_its_head_goes_at_once() {
        let (mut joined, theirs) = pair();
        joined.write_all(HEAD).await.unwrap();
        joined.write_all(b"body").await.unwrap();
        assert_eq!(arrived(&theirs), b"", "nobody has asked for it to leave");
        let rest = vec![b'x'; HELD_BYTES_MAX];
        joined.write_all(&rest).await.unwrap();
        assert_eq!(arrived(&theirs), [HEAD, b"body", &rest].concat());
        joined.write_all(b"more").await.unwrap();
        joined.flush().await.unwrap();
        assert_eq!(arrived(&theirs), b"more");
    }

    #[tokio::test]
    async fn what_is_no_head_or_too_long_a_one_is_not_held() {
        let (mut joined, theirs) = pair();
        joined.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(arrived(&theirs), b"POST / HTTP/1.1\r\n");
        let (mut joined, theirs) = pair();
        let long = [&vec![b'x'; HELD_BYTES_MAX][..], b"\r\n\r\n"].concat();
        joined.write_all(&long).await.unwrap();
        assert_eq!(arrived(&theirs), long);
    }

    #[tokio::test]
    async fn a_connection_that_closes_under_a_held_head_is_told() {
        let (mut joined, theirs) = pair();
        joined.write_all(HEAD).await.unwrap();
        drop(theirs);
        let mut answer = [0; 64];
        assert_eq!(joined.read(&mut answer).await.unwrap(), 0);
        assert!(joined.write_all(b"body").await.is_err() || joined.flush().await.is_err());
    }
}
