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

use super::exchange::Dialer;
use super::pool::Pool;
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
        let home =
            peer.options.idle_timeout.map(|idle_timeout| Home { pool: Arc::clone(&self.pool), key, idle_timeout });
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

/// Where a connection belongs.
#[derive(Debug)]
struct Home {
    pool: Arc<Pool>,
    key: u64,
    idle_timeout: Duration,
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
            home.pool.put(home.key, stream, home.idle_timeout);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
    const PEER: u64 = 7;

    fn pool() -> Arc<Pool> {
        Arc::new(Pool::new(8))
    }

    fn lend(stream: Stream, is_pooled: bool, pool: &Arc<Pool>) -> Lent {
        let home = Home { pool: Arc::clone(pool), key: PEER, idle_timeout: Duration::from_secs(60) };
        Lent { stream: Some(stream), is_pooled, home: Some(home), turn: Turn::Head, held: Vec::new() }
    }

    fn pair() -> (Lent, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (lend(Box::new(UnixStream::from_std(ours).unwrap()), false, &pool()), theirs)
    }

    /// What lies there to be read, without any wait.
    fn arrived(mut theirs: &std::os::unix::net::UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = theirs.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    #[tokio::test]
    async fn a_head_waits_for_its_body_and_the_connection_goes_home_after_the_answer() {
        let (mut lent, mut theirs) = pair();
        for _ in 0..2 {
            lent.write_all(HEAD).await.unwrap();
            lent.flush().await.unwrap();
            assert_eq!(arrived(&theirs), b"", "the head came alone");
            lent.write_all(b"body").await.unwrap();
            lent.flush().await.unwrap();
            assert_eq!(arrived(&theirs), [HEAD, b"body"].concat());
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut answer = [0; 64];
            assert!(lent.read(&mut answer).await.unwrap() > 0);
            let pool = Arc::clone(&lent.home.as_ref().unwrap().pool);
            assert!(pool.take(PEER).is_none());
            assert_eq!(lent.read(&mut [0; 1]).await.unwrap(), 0, "the proxy would keep it too");
            assert!(lent.write_all(b"late").await.is_err() && lent.id() == -1);
            lent = lend(pool.take(PEER).expect("the connection went home"), true, &pool);
        }
    }

    #[tokio::test]
    async fn a_connection_on_which_something_may_still_come_does_not_go_home() {
        let mut read = [0; 64];
        let (mut unasked, _theirs) = pair();
        let pool = Arc::clone(&unasked.home.as_ref().unwrap().pool);
        let wait = Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, unasked.read(&mut read[..1])).await.is_err(), "nothing was asked on it yet");
        let (mut waiting, _theirs) = pair();
        waiting.write_all(HEAD).await.unwrap();
        waiting.write_all(b"body").await.unwrap();
        waiting.flush().await.unwrap();
        assert!(tokio::time::timeout(wait, waiting.read(&mut read)).await.is_err(), "an answer is awaited");
        let (mut closed, theirs) = pair();
        closed.write_all(HEAD).await.unwrap();
        closed.write_all(b"body").await.unwrap();
        drop(theirs);
        assert!(matches!(closed.read(&mut read[..1]).await, Ok(0) | Err(_)));
        for lent in [unasked, waiting, closed] {
            assert!(lent.home.unwrap().pool.take(PEER).is_none() && lent.stream.is_some());
        }
        assert!(pool.take(PEER).is_none());
    }

    #[tokio::test]
    async fn pingora_asks_whether_a_connection_is_quiet_before_it_would_keep_it() {
        use pingora_core::connectors::http::Connector;
        use pingora_core::protocols::http::client::HttpSession;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            connection
        });
        #[expect(clippy::disallowed_methods, reason = "an address needs no resolver")]
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.alpn = protocol();
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        let pool = pool();
        let connector = Connector::new_custom(None, PoolingConnector::new(Arc::default(), Arc::clone(&pool)));
        let (mut session, _) = connector.get_http_session(&peer).await.unwrap();
        let HttpSession::H1(http) = &mut session else { panic!("no HTTP/1.1") };
        assert!(!is_pooled(Some(http.digest())));
        let head = pingora_http::RequestHeader::build("GET", b"/", None).unwrap();
        http.write_request_header(Box::new(head)).await.unwrap();
        http.finish_body().await.unwrap();
        http.read_response().await.unwrap();
        while http.read_body_bytes().await.unwrap().is_some() {}
        connector.release_http_session(session, &peer, None).await;
        let _open = upstream.join().unwrap();
        let stream = pool.take(peer.reuse_hash()).expect("the connection came home");
        pool.put(peer.reuse_hash(), stream, Duration::from_secs(60));
        let (session, _) = connector.get_http_session(&peer).await.unwrap();
        assert!(is_pooled(session.digest()));
    }

    #[tokio::test]
    async fn a_head_without_a_body_leaves_at_the_end_of_its_request() {
        let (mut lent, theirs) = pair();
        lent.write_all(HEAD).await.unwrap();
        lent.flush().await.unwrap();
        lent.flush().await.unwrap();
        assert_eq!(arrived(&theirs), HEAD);
    }

    #[tokio::test]
    async fn a_large_body_loses_nothing_where_the_connection_is_slow() {
        let (mut lent, theirs) = pair();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        let body: Vec<u8> = (0..4_000_000u32).map(|place| (place % 251) as u8).collect();
        let expected = [HEAD, &body].concat();
        let writing = tokio::spawn(async move {
            lent.write_all(HEAD).await.unwrap();
            lent.flush().await.unwrap();
            lent.write_all(&body).await.unwrap();
            lent.flush().await.unwrap();
        });
        let mut read = Vec::new();
        AsyncReadExt::read_to_end(&mut theirs, &mut read).await.unwrap();
        writing.await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn a_body_beyond_the_room_behind_its_head_goes_at_once() {
        let (mut lent, theirs) = pair();
        lent.write_all(HEAD).await.unwrap();
        lent.write_all(b"body").await.unwrap();
        assert_eq!(arrived(&theirs), b"", "nobody has asked for it to leave");
        let rest = vec![b'x'; HELD_BYTES_MAX];
        lent.write_all(&rest).await.unwrap();
        assert_eq!(arrived(&theirs), [HEAD, b"body", &rest].concat());
        lent.write_all(b"more").await.unwrap();
        lent.flush().await.unwrap();
        assert_eq!(arrived(&theirs), b"more");
    }

    #[tokio::test]
    async fn what_is_no_head_or_too_long_a_one_is_not_held() {
        let (mut lent, theirs) = pair();
        lent.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(arrived(&theirs), b"POST / HTTP/1.1\r\n");
        let (mut lent, theirs) = pair();
        let long = [&vec![b'x'; HELD_BYTES_MAX][..], b"\r\n\r\n"].concat();
        lent.write_all(&long).await.unwrap();
        assert_eq!(arrived(&theirs), long);
    }

    #[tokio::test]
    async fn a_connection_that_closes_under_a_held_head_is_told() {
        let (mut lent, theirs) = pair();
        lent.write_all(HEAD).await.unwrap();
        drop(theirs);
        let mut answer = [0; 64];
        assert_eq!(lent.read(&mut answer).await.unwrap(), 0);
        assert!(lent.write_all(b"body").await.is_err() || lent.flush().await.is_err());
    }
}
