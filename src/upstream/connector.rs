//! The proxy's connections over HTTP/1.1: each is lent for one request, and goes back to a pool of our own.
//!
//! Pingora's connector can be replaced by one that hands the proxy streams of its own. This one's do two things:
//!
//! - **Head and body leave in one write.** Pingora flushes the head before it writes the body: two system calls, two
//!   packets and, over TLS, two records for what is one message. A [`Lent`] stream keeps a head back until what follows
//!   it is written or flushed. A body that came late would keep the head waiting, so this is for requests whose body is
//!   there before an upstream is chosen. All of ours are.
//! - **A connection that may be used again goes to [`super::pool`]**, not to Pingora's. Pingora has no word for that; but
//!   it asks every stream that it would keep, and only such a one, whether it is quiet, by reading a single byte (its
//!   buffers are of 4 KB and more). A stream whose upstream is quiet then goes home, and tells Pingora that it has
//!   been closed.

#[cfg(test)]
mod tests;

use super::exchange::Dialer;
use super::pool::{Home, Pool};
use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{ALPN, CustomALPN, SslDigest};
use pingora_core::protocols::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A longer head is written at once. A body that fits in behind its head is copied there, which costs less than a write
/// of two pieces.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Room for a usual head and a short body.
const HELD_BYTES_USUAL: usize = 2 * 1024;

/// The protocol of peers that are connected to through [`PoolingConnector`]; it never appears on the wire.
pub fn protocol() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"nanogate".to_vec()))
}

/// On a stream from the pool, to be told from a new one: Pingora takes all that a connector gives it for new.
static POOLED: LazyLock<Arc<ProxyDigest>> = LazyLock::new(|| {
    let nothing = ResponseHeader::from(http::response::Builder::new().body(()).unwrap_or_default().into_parts().0);
    Arc::new(ProxyDigest::new(Box::new(nothing), None))
});

/// Whether the connection with this digest is one of ours that has served another request before.
pub fn is_pooled(digest: Option<&Digest>) -> bool {
    digest.and_then(|digest| digest.proxy_digest.as_ref()).is_some_and(|proxy| Arc::ptr_eq(proxy, &POOLED))
}

/// Gives the proxy its HTTP/1.1 connections.
pub struct PoolingConnector {
    dialer: Arc<Dialer>,
    pool: Arc<Pool>,
}

impl PoolingConnector {
    /// Connects as `dialer` does when `pool` has nothing.
    pub fn new(dialer: Arc<Dialer>, pool: Arc<Pool>) -> Self {
        PoolingConnector { dialer, pool }
    }
}

#[async_trait]
impl Connector for PoolingConnector {
    /// None is ever made: the proxy speaks HTTP/1.1 itself over the streams it gets from here.
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let Some(peer) = (peer as &dyn Any).downcast_ref::<HttpPeer>() else {
            return Error::e_explain(ErrorType::InternalError, "a peer of an unknown kind");
        };
        let key = peer.reuse_hash();
        let pooled = self.pool.take(key);
        let is_pooled = pooled.is_some();
        let stream = match pooled {
            Some(stream) => stream,
            None => Box::pin(self.connect(peer)).await?,
        };
        let home = peer.options.idle_timeout.map(|idle_timeout| Home {
            pool: Arc::clone(&self.pool),
            peer: key,
            idle_timeout,
        });
        let lent = Lent { stream: Some(stream), is_pooled, home, turn: Turn::Head, held: Vec::new() };
        Ok((Connection::Stream(Box::new(lent)), is_pooled))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, (): (), _: &P, _: Option<Duration>) {}
}

impl PoolingConnector {
    async fn connect(&self, peer: &HttpPeer) -> Result<Stream> {
        let mut peer = peer.clone();
        peer.options.alpn = ALPN::H1;
        self.dialer.connect(&peer).await
    }
}

/// What is written next.
#[derive(Debug)]
enum Turn {
    /// The request's head.
    Head,
    /// What follows the head that is held.
    AfterHead {
        /// The proxy has asked for the head to leave, or has written what it waits for.
        flushed: bool,
    },
    /// Anything, at once.
    Rest,
}

/// A connection for the time of one request.
#[derive(Debug)]
struct Lent {
    /// None once it has gone home.
    stream: Option<Stream>,
    is_pooled: bool,
    /// None when it may serve this one request only.
    home: Option<Home>,
    turn: Turn,
    /// The head, or what is left of it to be written.
    held: Vec<u8>,
}

impl Lent {
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn go_home(&mut self) {
        if let (Some(stream), Some(home)) = (self.stream.take(), &self.home) {
            home.take_back(stream);
        }
    }

    /// Writes the held head and `bytes` behind it; ready with the number of bytes taken of the latter once the head is
    /// out.
    fn poll_join(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let Some(stream) = self.stream.as_mut().map(Pin::new) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let written = if bytes.is_empty() {
                ready!(stream.poll_write(context, &self.held))?
            } else {
                let both = [IoSlice::new(&self.held), IoSlice::new(bytes)];
                ready!(stream.poll_write_vectored(context, &both))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < self.held.len() {
                self.held.drain(..written);
                continue;
            }
            let taken = written - self.held.len();
            self.held = Vec::new();
            self.turn = Turn::Rest;
            return Poll::Ready(Ok(taken));
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_asked_whether_quiet = buffer.remaining() == 1 && matches!(self.turn, Turn::Rest);
        let read = self.stream()?.poll_read(context, buffer);
        if read.is_pending() && is_asked_whether_quiet {
            self.go_home();
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Lent {
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
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Turn::AfterHead { flushed } = &mut self.turn {
            if !std::mem::replace(flushed, true) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_join(context, &[]))?;
        }
        self.stream()?.poll_flush(context)
    }

    /// A head that is still held goes nowhere: whoever ends the connection now has nothing more to ask.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Lent {
    async fn shutdown(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.shutdown().await;
        }
    }
}

impl UniqueID for Lent {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Lent {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Lent {
    /// None of a pooled connection, which took no time to make.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().filter(|_| !self.is_pooled).map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_read_pending_time()).unwrap_or_default()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.as_ref().map(|stream| stream.get_write_pending_time()).unwrap_or_default()
    }
}

impl GetProxyDigest for Lent {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        if self.is_pooled { Some(Arc::clone(&POOLED)) } else { self.stream.as_ref()?.get_proxy_digest() }
    }
}

impl GetSocketDigest for Lent {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }
}

impl Peek for Lent {}
