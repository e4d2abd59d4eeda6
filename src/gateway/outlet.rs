//! The client's connection, shared between Pingora's session and the gateway.
//!
//! Pingora flushes what it writes piece by piece: a head, a frame, the last chunk. Behind a session made over an outlet,
//! pieces that belong together leave together ([`Outlet::cork`]), and a running stream is written without the session,
//! once the proxy has let go of it ([`super::relay`]). Only for HTTP/1.1: over HTTP/2 many streams share a connection.

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{ALPN, SslDigest};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Written bytes are gathered up to so many, until they are asked to leave; what is longer goes at once.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Room made at once for a head and what is short.
const HELD_BYTES_USUAL: usize = 1024;

#[derive(Debug)]
struct Shared {
    stream: Stream,
    /// Written and not yet sent; without room of its own while there is nothing, for most connections wait most of the time.
    held: Vec<u8>,
    corked: bool,
}

impl Shared {
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() > HELD_BYTES_MAX {
            ready!(self.poll_empty(context))?;
            if bytes.len() > HELD_BYTES_MAX {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            }
        }
        if self.held.is_empty() {
            self.held.reserve(bytes.len().max(HELD_BYTES_USUAL));
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count if count == self.held.len() => self.held = Vec::new(),
                count => drop(self.held.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

/// A handle to the connection: one is behind the session, through the other the gateway writes past it.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Mutex<Shared>>);

impl Outlet {
    /// Shares a connection. It should have no buffer of its own: here is one.
    pub fn new(stream: Stream) -> Self {
        Outlet(Arc::new(Mutex::new(Shared { stream, held: Vec::new(), corked: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a flush does nothing, until the cork is dropped: what is written is held, unless it is too much.
    pub fn cork(&self) -> Cork<'_> {
        self.lock().corked = true;
        Cork(self)
    }

    /// Sends bytes at once, behind what is held; `taken` counts those that have been sent, from call to call.
    pub fn poll_send(&self, context: &mut Context<'_>, bytes: &[u8], taken: &mut usize) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.poll_empty(context))?;
        while *taken < bytes.len() {
            match ready!(Pin::new(&mut shared.stream).poll_write(context, &bytes[*taken..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *taken += count,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the connection.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(context, buffer)
    }

    /// Sends what is held.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.corked {
            return Poll::Ready(Ok(()));
        }
        shared.poll_flush(context)
    }
}

/// Holds an outlet's flushes back.
pub struct Cork<'o>(&'o Outlet);

impl Cork<'_> {
    /// Lets everything go that was written meanwhile.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn flush(self) -> io::Result<()> {
        let outlet = self.0;
        drop(self);
        poll_fn(|context| outlet.poll_flush(context)).await
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        self.0.lock().corked = false;
    }
}

impl AsyncRead for Outlet {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Outlet::poll_read(&self, context, buffer)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Outlet::poll_flush(&self, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        ready!(shared.poll_empty(context))?;
        Pin::new(&mut shared.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Outlet {
    async fn shutdown(&mut self) {
        // What can go wrong here went wrong with the connection, which ends now.
        let _ = poll_fn(|context| Pin::new(&mut *self).poll_shutdown(context)).await;
    }
}

impl UniqueID for Outlet {
    fn id(&self) -> UniqueIDType {
        self.lock().stream.id()
    }
}

impl Ssl for Outlet {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.lock().stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.lock().stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Outlet {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.lock().stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.lock().stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.lock().stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Outlet {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.lock().stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Outlet {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.lock().stream.get_socket_digest()
    }
}

impl Peek for Outlet {}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::protocols::http::{HttpTask, ServerSession};
    use pingora_http::ResponseHeader;
    use tokio::io::AsyncWriteExt;

    /// A connection with a buffer, as the listener's are: what leaves is kept apart by flushes.
    #[derive(Debug)]
    struct Buffered {
        request: io::Cursor<Vec<u8>>,
        buffer: Vec<u8>,
        left: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl AsyncRead for Buffered {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.request).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Buffered {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.buffer.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let flushed = std::mem::take(&mut self.buffer);
            if !flushed.is_empty() {
                self.left.lock().unwrap().push(flushed);
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[async_trait]
    impl Shutdown for Buffered {
        async fn shutdown(&mut self) {}
    }

    impl UniqueID for Buffered {
        fn id(&self) -> UniqueIDType {
            0
        }
    }

    impl Ssl for Buffered {}

    impl GetTimingDigest for Buffered {
        fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
            Vec::new()
        }
    }

    impl GetProxyDigest for Buffered {
        fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
            None
        }
    }

    impl GetSocketDigest for Buffered {
        fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
            None
        }
    }

    impl Peek for Buffered {}

    type Left = Arc<Mutex<Vec<Vec<u8>>>>;

    fn outlet() -> (Outlet, Left) {
        let left = Left::default();
        let request = io::Cursor::new(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec());
        let connection = Buffered { request, buffer: Vec::new(), left: Arc::clone(&left) };
        (Outlet::new(Box::new(connection)), left)
    }

    fn frames() -> Vec<HttpTask> {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("transfer-encoding", "chunked").unwrap();
        vec![HttpTask::Header(Box::new(head), false), HttpTask::Body(Some("frame".into()), false), HttpTask::Done]
    }

    /// How many flushes a head, a frame and the end take.
    async fn flushes(corked: bool) -> usize {
        let (outlet, left) = outlet();
        let mut session = ServerSession::new_http1(Box::new(outlet.clone()));
        assert!(session.read_request().await.unwrap());
        let cork = corked.then(|| outlet.cork());
        assert!(session.response_duplex_vec(frames()).await.unwrap());
        if let Some(cork) = cork {
            assert!(left.lock().unwrap().is_empty());
            cork.flush().await.unwrap();
        }
        let left = left.lock().unwrap();
        assert!(left.concat().ends_with(b"\r\n\r\n5\r\nframe\r\n0\r\n\r\n"));
        left.len()
    }

    #[tokio::test]
    async fn what_is_written_under_a_cork_leaves_together() {
        assert_eq!(flushes(true).await, 1);
        assert!(flushes(false).await > 1, "Pingora has no need of a cork any more");
    }

    #[tokio::test]
    async fn a_cork_that_is_dropped_holds_nothing_back_for_good() {
        let (outlet, left) = outlet();
        let mut session = outlet.clone();
        let cork = outlet.cork();
        session.write_all(b"head").await.unwrap();
        session.flush().await.unwrap();
        drop(cork);
        session.write_all(b" words").await.unwrap();
        session.flush().await.unwrap();
        assert_eq!(*left.lock().unwrap(), [b"head words"]);
    }

    #[tokio::test]
    async fn nothing_is_lost_or_turned_round_where_the_connection_is_slow() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|place| (place % 251) as u8).collect();
        let expected = bytes.clone();
        let writing = tokio::spawn(async move {
            let outlet = Outlet::new(Box::new(ours));
            let mut session = outlet.clone();
            let mut rest = &bytes[..];
            for size in [1, 700, 16_000, 16_384, 16_385, 100_000].into_iter().cycle() {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                session.write_all(piece).await.unwrap();
                let (sent, behind) = behind.split_at(behind.len().min(300));
                let mut taken = 0;
                poll_fn(|context| outlet.poll_send(context, sent, &mut taken)).await.unwrap();
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            session.flush().await.unwrap();
        });
        let mut read = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut read).await.unwrap();
        writing.await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn the_connection_closes_with_its_last_handle() {
        let (outlet, left) = outlet();
        let session: Stream = Box::new(outlet.clone());
        drop(outlet);
        assert_eq!(Arc::strong_count(&left), 2);
        drop(session);
        assert_eq!(Arc::strong_count(&left), 1);
    }
}
