//! The connection's door: reads each head under one deadline, wraps the session, hands it to the ordinary `HttpProxy`,
//! and decides afterwards whether the connection lives on.
//!
//! Pingora limits each read of a head but not the head, and keeps an idle connection for ever (design notes on Pingora
//! 0.9.1, section 7); both are limited here. Heads that cannot be read are answered in the OpenAI envelope.

use super::Gateway;
use super::answer::head_of;
use super::cell::Cell;
use super::clock::within;
use super::ctx::Ctx;
use super::finish::Visit;
use super::outlet::Outlet;
use super::relay::Relay;
use super::replay::Replay;
use super::rest::Ready;
use super::walk::{self, Rest};
use crate::api::dialect::Dialect;
use crate::api::error::{self, ApiError};
use crate::api::render;
use crate::snapshot::{Arriving, Live};
use crate::upstream::connector::PoolingConnector;
use crate::upstream::head::decimal;
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use memchr::memmem;
use pingora_core::apps::ServerApp;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_error::ErrorType;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::runtime::Handle;

/// After an answer that came before the end of the body, the rest is thrown away for at most so long, so that the
/// client can read the answer before the connection is reset.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// A connection that was accepted just before the drain may still send its first head for so long.
const FIRST_HEAD_MAX: Duration = Duration::from_millis(500);

/// Bytes of a read of a head and what is behind it.
const READ_BYTES: usize = 16 * 1024;

/// What Pingora itself sets for a new connection; how long one really idles is the door's decision.
const KEEPALIVE_S: u64 = 60;

/// What a client that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The proxy behind the door.
pub type Proxy = HttpProxy<Gateway, PoolingConnector>;

/// The application behind the listening socket: the proxy, and before it the door.
///
/// The proxy can be built with a connector of our own only as a service, which then keeps it. Such a service gives
/// each connection to a function together with the proxy, if it is told that all of them are of a custom protocol.
pub fn service(conf: &Arc<ServerConf>, live: &Arc<Live>) -> Service<Proxy> {
    let mut options = HttpServerOptions::default();
    options.force_custom = true;
    let connector = PoolingConnector::new(Arc::clone(&live.dialer), Arc::clone(&live.pool));
    let behind = Arc::clone(live);
    let serve = move |proxy, stream, shutdown: &ShutdownWatch| {
        let front = Arc::new(Front::new(proxy, Arc::clone(&behind)));
        // Counted at once: a process that ends may not overlook a connection it has accepted.
        let arriving = behind.arrive();
        // A task of its own: Pingora's keeps 12 KB for a handshake that is over.
        tokio::spawn(front.serve(stream, shutdown.clone(), arriving));
        Box::pin(std::future::ready(None)) as Handed
    };
    ProxyServiceBuilder::new(conf, Gateway::new(Arc::clone(live)))
        .name("gateway")
        .server_options(options)
        .custom(connector, Arc::new(serve))
        .build()
}

/// What Pingora waits for when it has handed a connection over.
type Handed = Pin<Box<dyn Future<Output = Option<Stream>> + Send>>;

/// Serves one connection.
struct Front {
    gateway: Gateway,
    proxy: Arc<Proxy>,
    live: Arc<Live>,
    options: HttpServerOptions,
}

impl Front {
    /// Puts the door before a proxy.
    fn new(proxy: Arc<Proxy>, live: Arc<Live>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = live.snapshot().config.gateway.h2c;
        Front { gateway: Gateway::new(Arc::clone(&live)), proxy, live, options }
    }

    /// Serves a connection from its first byte to its last.
    async fn serve(self: Arc<Self>, mut stream: Stream, shutdown: ShutdownWatch, arriving: Arriving) {
        if self.options.h2c {
            match self.begins_http2(&mut stream).await {
                Some(false) => {}
                Some(true) => {
                    // Its streams are counted one by one; idle, it must not keep the process.
                    drop(arriving);
                    self.process_new(stream, &shutdown).await;
                    return;
                }
                None => return,
            }
        }
        let outlet = Outlet::new(stream);
        let (mut arriving, mut early) = (Some(arriving), BytesMut::new());
        // Boxed, so that a connection does not keep room for it while its request is served.
        while let Some(session) = Box::pin(self.next(&outlet, early, arriving.is_some())).await {
            match self.exchange(session, Some(&outlet), &shutdown, arriving.take()).await {
                Some(behind) => early = behind,
                None => return,
            }
        }
    }

    /// Whether a client speaks HTTP/2 without having asked; none when it says too little to tell. What is read is put
    /// back.
    async fn begins_http2(&self, stream: &mut Stream) -> Option<bool> {
        let patience = Duration::from_millis(self.live.snapshot().config.gateway.header_timeout_ms);
        let mut begin = [0; HTTP2_PREFACE.len()];
        let peeked = within(patience, pin!(stream.try_peek(&mut begin))).await?;
        peeked.ok().map(|told| told && begin == *HTTP2_PREFACE)
    }

    /// Serves one request. When the connection can serve another, what the client has sent of it already. `arriving` comes
    /// with the first, and `outlet` with a connection that serves one request at a time.
    async fn exchange(
        &self,
        mut session: Box<ServerSession>,
        outlet: Option<&Outlet>,
        shutdown: &ShutdownWatch,
        arriving: Option<Arriving>,
    ) -> Option<BytesMut> {
        self.live.workers.get_or_init(Handle::current);
        if *shutdown.borrow() || self.live.is_closing() {
            session.set_keepalive(None);
        }
        let _in_flight = self.live.enter();
        drop(arriving);
        let cell = Arc::new(Cell::default());
        let wrapper = Replay::new(session, Arc::clone(&cell), outlet.cloned());
        let ctx = Box::new(Ctx::new(&self.live, Arc::clone(&cell)));
        // Boxed, so that a connection does not keep room for it while it waits or a stream runs.
        let rest = Box::pin(walk::run(&self.gateway, &self.proxy, wrapper, ctx, shutdown)).await;
        let (session, completed) = cell.take_session()?;
        // Boxed, so that a connection keeps room for neither.
        match (rest, outlet) {
            (Some(Rest::Stream(relay)), Some(outlet)) => Box::pin(run_on(relay, session, outlet)).await,
            (Some(Rest::Answer(ready)), Some(outlet)) => Box::pin(answer(ready, session, outlet, cell.closes())).await,
            _ => Box::pin(conclude(session, completed)).await,
        }
    }

    /// The next request, of which `begun` has come already; none when the connection is over or was answered with an error.
    ///
    /// What is read goes to the session as if it had been sent ahead: its own first read has room for 4 KB, whatever comes.
    async fn next(&self, outlet: &Outlet, mut begun: BytesMut, first: bool) -> Option<Box<ServerSession>> {
        let snapshot = self.live.snapshot();
        let settings = &snapshot.config.gateway;
        let patience = Duration::from_millis(settings.header_timeout_ms);
        if begun.is_empty() {
            let idle = Duration::from_millis(settings.keepalive_timeout_ms);
            let begin = pin!(read(outlet, begun));
            begun = tokio::select! {
                biased;
                read = within(if first { patience } else { idle }, begin) => read??,
                () = self.drained(first) => return None,
            };
        }
        let head = pin!(self.read_head(outlet, begun, settings.header_bytes_max));
        tokio::select! {
            biased;
            read = within(patience, head) => read?,
            () = self.drained(first) => None,
        }
    }

    async fn read_head(&self, outlet: &Outlet, mut begun: BytesMut, bytes_max: u64) -> Option<Box<ServerSession>> {
        let mut session = Box::new(ServerSession::new_http1(Box::new(outlet.clone())));
        session.set_keepalive(Some(KEEPALIVE_S));
        // What a client sends ahead is its next request and no reason to cut the answer to this one.
        session.set_pipelining_enabled(true);
        // The hall decides what an unread body means for the connection (`answer::send`).
        session.set_close_on_response_before_downstream_finish(false);
        while !has_head(&mut begun) {
            if begun.len() as u64 > bytes_max {
                Box::pin(refuse(&mut session, &head_too_large(bytes_max))).await;
                Box::pin(drain(outlet)).await;
                return None;
            }
            begun = read(outlet, begun).await?;
        }
        session.set_pipelined_prefix(begun);
        // Made anew for each poll, on the stack: it waits at most for its turn, before it has taken anything.
        match poll_fn(|context| pin!(session.read_request()).poll(context)).await {
            Ok(true) => self.check_head(&mut session, bytes_max).await.map(|()| session),
            Ok(false) => None,
            Err(cause) => {
                if *cause.etype() == ErrorType::InvalidHTTPHeader {
                    log::debug!("a request head cannot be read: {}", cause.etype().as_str());
                    let error = ApiError::new(&error::BAD_REQUEST, "the request head is not valid HTTP");
                    Box::pin(refuse(&mut session, &error)).await;
                }
                None
            }
        }
    }

    /// The end of waiting for a head while draining: at once where a request has been served before, a moment later
    /// where the client has connected to send its first.
    async fn drained(&self, first: bool) {
        self.live.drained().await;
        if first {
            tokio::time::sleep(FIRST_HEAD_MAX).await;
        }
    }

    /// Limits and framing that Pingora lets pass.
    async fn check_head(&self, session: &mut ServerSession, bytes_max: u64) -> Option<()> {
        let head = session.req_header();
        let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let both_framings =
            head.headers.contains_key(header::TRANSFER_ENCODING) && names_a_length(&session.to_h1_raw());
        let error = if bytes as u64 + head.raw_path().len() as u64 > bytes_max {
            head_too_large(bytes_max)
        } else if head.method == Method::CONNECT {
            // Pingora answers it without a body and without a hook.
            ApiError::new(&error::METHOD_NOT_ALLOWED, "CONNECT is not taken: this is no forward proxy")
        } else if both_framings {
            // Two framings are the means of request smuggling: whoever stands before us may have believed the other.
            ApiError::new(&error::BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
        } else {
            return Some(());
        };
        Box::pin(refuse(session, &error)).await;
        linger(session).await;
        None
    }
}

fn head_too_large(bytes_max: u64) -> ApiError {
    ApiError::new(&error::HEAD_TOO_LARGE, format!("the request head is larger than {bytes_max} bytes"))
}

/// Whether a head has come with its end. Takes away empty lines before it (RFC 9112, section 2.2); Pingora takes lines
/// without a return, too.
fn has_head(begun: &mut BytesMut) -> bool {
    while let Some(empty) = [&b"\r\n"[..], b"\n"].into_iter().find(|line| begun.starts_with(line)) {
        begun.advance(empty.len());
    }
    [&b"\r\n\r\n"[..], b"\n\n", b"\n\r\n"].iter().any(|end| memmem::find(begun, end).is_some())
}

/// Reads on; none when the connection is over.
async fn read(outlet: &Outlet, mut begun: BytesMut) -> Option<BytesMut> {
    poll_fn(|context| {
        // On the stack until it is known how much comes: a connection that waits needs no room.
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        match ready!(outlet.poll_read(context, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {
                begun.extend_from_slice(buffer.filled());
                Poll::Ready(Some(std::mem::take(&mut begun)))
            }
            Ok(()) | Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// Throws away what a client sends, for a moment, so that it can read its answer.
async fn drain(outlet: &Outlet) {
    let all = pin!(async { while read(outlet, BytesMut::new()).await.is_some() {} });
    within(LINGER_MAX, all).await;
}

/// Ends the exchange on the real session. When the connection can serve another, what the client has sent of it already.
async fn conclude(mut session: Box<ServerSession>, completed: bool) -> Option<BytesMut> {
    if !completed {
        return None;
    }
    if !session.is_body_done() && !linger(&mut session).await {
        return None;
    }
    let (_, early) = session.finish().await.ok().flatten()?.into_parts();
    Some(early.unwrap_or_default())
}

/// Sends an answer past the session, and ends the exchange. `closes` says that it is the connection's last.
async fn answer(ready: Ready, mut session: Box<ServerSession>, outlet: &Outlet, closes: bool) -> Option<BytesMut> {
    if closes {
        session.set_keepalive(None);
    }
    let keeps_alive = session.get_keepalive().is_some();
    let completed = ready.send(outlet, &Visit::of(&session), keeps_alive).await;
    conclude(session, completed).await
}

/// Lets a stream run to its end without the session. When the connection can serve another request, what the client has
/// sent of it already.
async fn run_on(relay: Box<Relay>, session: Box<ServerSession>, outlet: &Outlet) -> Option<BytesMut> {
    let visit = Visit::of(&session).into_owned();
    // Boxed, so that nothing of the session is kept while the stream runs.
    let early = Box::pin(early_of(session)).await;
    let lives_on = early.is_some();
    let ended = relay.run(outlet, &visit, early.unwrap_or_default()).await;
    if lives_on && ended.is_complete {
        return Some(ended.early);
    }
    outlet.clone().shutdown().await;
    None
}

/// What the client has sent of its next request when a session ends; none when there will be no other.
async fn early_of(session: Box<ServerSession>) -> Option<BytesMut> {
    match *session {
        // To reuse it is to take its connection out; one that will not be kept would be closed at once.
        ServerSession::H1(session) if session.will_keepalive() => {
            let (_, early) = session.reuse().await.ok()??.into_parts();
            Some(early.unwrap_or_default())
        }
        _ => None,
    }
}

/// For HTTP/2, whose streams come from Pingora one by one.
#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.exchange(Box::new(session), None, shutdown, Some(self.live.arrive())).await;
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Whether a raw head has a Content-Length line: Pingora takes the header out when Transfer-Encoding is there too.
fn names_a_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.split_at_checked(NAME.len()).is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(NAME) && rest.trim_ascii_start().first() == Some(&b':')
        })
    })
}

/// Answers an error outside of any endpoint and closes.
async fn refuse(session: &mut ServerSession, error: &ApiError) {
    session.set_keepalive(None);
    let body = Bytes::from(render::body(Dialect::Chat, error, ""));
    let Ok(mut head) = StatusCode::from_u16(error.row.status).map(head_of) else { return };
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(header::CONTENT_LENGTH, decimal(body.len()));
    if error.row == &error::METHOD_NOT_ALLOWED {
        head.headers.insert(header::ALLOW, HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, POST"));
    }
    if session.write_response_header(Box::new(head.into())).await.is_ok() {
        // A client that is gone already needs no answer.
        let _ = session.write_response_body(body, true).await;
    }
}

/// Throws the rest of a request body away; true when its end was reached in time.
async fn linger(session: &mut ServerSession) -> bool {
    let drain = Box::pin(async {
        loop {
            match session.read_request_body().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    });
    tokio::time::timeout(LINGER_MAX, drain).await.unwrap_or(false)
}
