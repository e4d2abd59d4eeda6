//! The connection's door: waits for each request, reads its head under a deadline, walks it through the hall, and decides
//! afterwards whether the connection lives on.
//!
//! HTTP/1.1 is spoken here (`downstream`): Pingora's own session limits each read of a head but not the head, keeps an
//! idle connection for ever (design notes on Pingora 0.9.1, section 7), and has buffers for whatever may come. Heads that
//! cannot be read are answered in the OpenAI envelope. HTTP/2 is Pingora's.

use super::Gateway;
use super::answer::head_of;
use super::cell::Cell;
use super::clock::{self, within};
use super::ctx::Ctx;
use super::finish::Visit;
use super::likeness;
use super::proxy::LazyProxy;
use super::relay::Relay;
use super::replay::{Inner, Replay};
use super::walk::{self, Rest};
use crate::api::dialect::Dialect;
use crate::api::endpoint;
use crate::api::error::{self, ApiError};
use crate::api::render;
use crate::downstream::connection::Connection;
use crate::downstream::head::Fault;
use crate::snapshot::{Arriving, Live};
use crate::upstream::head::decimal;
use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{GetSocketDigest, SocketDigest, Stream, l4};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// After an answer that came before the end of the body, the rest is thrown away for at most so long, so that the
/// client can read the answer before the connection is reset.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// A connection that was accepted just before the drain may still send its first head for so long.
const FIRST_HEAD_MAX: Duration = Duration::from_millis(500);

/// What a client that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves connections.
pub struct Front {
    gateway: Gateway,
    proxy: LazyProxy,
    live: Arc<Live>,
    options: HttpServerOptions,
}

impl Front {
    /// Puts the door before a proxy.
    pub fn new(conf: &Arc<ServerConf>, live: &Arc<Live>) -> Self {
        // Made with the first request, by the thread that serves it, what stays for good would keep the memory around it
        // from being given back (server::memory), a page of the allocator's for each size.
        endpoint::prepare();
        likeness::prepare();
        clock::prepare();
        // Pingora gets those connections alone that begin with HTTP/2.
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        let gateway = Gateway::new(Arc::clone(live));
        let proxy = LazyProxy::new(Arc::clone(conf), Arc::clone(live));
        Front { gateway, proxy, live: Arc::clone(live), options }
    }

    /// Counts a connection that has been accepted, until its first request is counted.
    pub fn arrive(&self) -> Arriving {
        self.live.arrive()
    }

    /// Serves a connection from its first byte to its last.
    pub async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        shutdown: ShutdownWatch,
        arriving: Arriving,
    ) {
        let mut connection = Box::new(Connection::new(stream, client.into()));
        if self.live.snapshot().config.gateway.h2c {
            let patience = Duration::from_millis(self.live.snapshot().config.gateway.header_timeout_ms);
            let begins = within(patience, Box::pin(connection.begins_with(HTTP2_PREFACE)).as_mut()).await;
            match begins {
                Some(Ok(false)) => {}
                Some(Ok(true)) => {
                    // Its streams are counted one by one; idle, it must not keep the process.
                    drop(arriving);
                    self.process_new(stream_of(*connection), &shutdown).await;
                    return;
                }
                Some(Err(_)) | None => return,
            }
        }
        let mut arriving = Some(arriving);
        // Boxed, so that a connection does not keep room for it while its request is served.
        while Box::pin(self.next(&mut connection, arriving.is_some())).await {
            match self.exchange(Inner::Http1(connection), &shutdown, arriving.take()).await {
                Some(again) => connection = again,
                None => return,
            }
        }
    }

    /// Serves one request; gives the connection back when it can serve another. `arriving` comes with its first.
    async fn exchange(
        &self,
        mut inner: Inner,
        shutdown: &ShutdownWatch,
        arriving: Option<Arriving>,
    ) -> Option<Box<Connection>> {
        self.live.workers.get_or_init(Handle::current);
        if *shutdown.borrow() || self.live.is_closing() {
            inner.close();
        }
        let _in_flight = self.live.enter();
        drop(arriving);
        let cell = Arc::new(Cell::default());
        let wrapper = Replay::new(inner, Arc::clone(&cell));
        let ctx = Box::new(Ctx::new(&self.live, Arc::clone(&cell)));
        // Boxed, here and below, so that a connection does not keep room for it while it waits or a stream runs.
        let rest = Box::pin(walk::run(&self.gateway, &self.proxy, wrapper, ctx, shutdown)).await;
        let (mut inner, completed) = cell.take_inner()?;
        if cell.closes() {
            inner.close();
        }
        match (rest, inner) {
            (Some(Rest::Stream(relay)), Inner::Http1(connection)) => Box::pin(run_on(relay, connection)).await,
            (Some(Rest::Answer(ready)), Inner::Http1(mut connection)) => {
                let completed = Box::pin(ready.send(&mut connection)).await;
                conclude(Inner::Http1(connection), completed).await
            }
            (_, inner) => conclude(inner, completed).await,
        }
    }

    /// Waits for the next request and reads its head; false when the connection is over or was answered with an error.
    async fn next(&self, connection: &mut Connection, first: bool) -> bool {
        let (patience, idle, bytes_max) = {
            let settings = &self.live.snapshot().config.gateway;
            (settings.header_timeout_ms, settings.keepalive_timeout_ms, settings.header_bytes_max)
        };
        let (patience, idle) = (Duration::from_millis(patience), Duration::from_millis(idle));
        let begun = {
            let begin = pin!(connection.begins());
            tokio::select! {
                biased;
                begun = within(if first { patience } else { idle }, begin) => begun.unwrap_or_default(),
                () = self.drained(first) => false,
            }
        };
        if !begun {
            return false;
        }
        let read = {
            let head = pin!(connection.read_head(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
            tokio::select! {
                biased;
                read = within(patience, head) => read.unwrap_or(Ok(false)),
                () = self.drained(first) => Ok(false),
            }
        };
        let error = match read {
            Ok(true) if connection.header().method == Method::CONNECT => {
                // Pingora answers it without a body and without a hook.
                ApiError::new(&error::METHOD_NOT_ALLOWED, "CONNECT is not taken: this is no forward proxy")
            }
            Ok(read) => return read,
            Err(Fault::TooLong) => {
                ApiError::new(&error::HEAD_TOO_LARGE, format!("the request head is larger than {bytes_max} bytes"))
            }
            Err(Fault::BothFramings) => {
                ApiError::new(&error::BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
            }
            Err(Fault::Malformed) => ApiError::new(&error::BAD_REQUEST, "the request head is not valid HTTP"),
        };
        log::debug!("a request head is not taken: {}", error.message);
        Box::pin(refuse(connection, &error)).await;
        false
    }

    /// The end of waiting for a head while draining: at once where a request has been served before, a moment later
    /// where the client has connected to send its first.
    async fn drained(&self, first: bool) {
        self.live.drained().await;
        if first {
            tokio::time::sleep(FIRST_HEAD_MAX).await;
        }
    }
}

/// A connection as Pingora has it, with what was read of it put back.
fn stream_of(connection: Connection) -> Stream {
    let client = connection.client_addr().clone();
    let (socket, read) = connection.into_parts();
    let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
    // Nobody else has had it.
    let _ = digest.peer_addr.set(Some(client));
    let mut stream = l4::stream::Stream::from(socket);
    stream.set_socket_digest(digest);
    stream.rewind(&read);
    Box::new(stream)
}

/// Ends an exchange; gives the connection back when it can serve another request.
async fn conclude(mut inner: Inner, completed: bool) -> Option<Box<Connection>> {
    if !completed {
        return None;
    }
    if !inner.is_body_done() {
        // What breaks in the middle of the rest is answered all the same, and ends the connection below.
        let _ = tokio::time::timeout(LINGER_MAX, Box::pin(inner.drain_body())).await.ok()?;
    }
    match inner {
        Inner::Http1(connection) if connection.is_body_done() && connection.keeps_alive() => return Some(connection),
        Inner::Http1(mut connection) => connection.shutdown().await,
        Inner::Http2(session) => {
            // A client that has reset the stream needs no end of it.
            let _ = Box::pin(session.finish()).await;
        }
    }
    None
}

/// Lets a stream run to its end without the session; gives the connection back when it can serve another request.
async fn run_on(mut relay: Box<Relay>, mut connection: Box<Connection>) -> Option<Box<Connection>> {
    relay.begin(&mut connection).await;
    let visit = Visit::new(connection.header(), Some(connection.client_addr())).into_owned();
    // Nothing of the request is kept while the stream runs.
    connection.forget_head();
    let completed = relay.run(&mut connection, &visit).await;
    if completed && connection.keeps_alive() {
        return Some(connection);
    }
    connection.shutdown().await;
    None
}

/// For HTTP/2, whose streams come from Pingora one by one.
#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.exchange(Inner::Http2(Box::new(session)), shutdown, Some(self.live.arrive())).await;
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Answers an error outside of any endpoint, and closes.
async fn refuse(connection: &mut Connection, error: &ApiError) {
    let body = render::body(Dialect::Chat, error, "");
    let Ok(mut head) = StatusCode::from_u16(error.row.status).map(head_of) else { return };
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(header::CONTENT_LENGTH, decimal(body.len()));
    if error.row == &error::METHOD_NOT_ALLOWED {
        head.headers.insert(header::ALLOW, HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, POST"));
    }
    connection.close();
    connection.put_head(Box::new(head.into()), false);
    connection.put_body(body.as_ref());
    connection.put_end();
    // A client that is gone already needs no answer.
    if connection.flush().await.is_ok() {
        connection.shutdown().await;
        let _ = tokio::time::timeout(LINGER_MAX, connection.drain()).await;
    }
}
