//! The connection's door: reads each head under one deadline, wraps the session, hands it to the ordinary `HttpProxy`,
//! and decides afterwards whether the connection lives on.
//!
//! Pingora limits each read of a head but not the head, and keeps an idle connection for ever (design notes on Pingora
//! 0.9.1, section 7); both are limited here. Heads that cannot be read are answered in the OpenAI envelope.

use super::Gateway;
use super::answer::head_of;
use super::clock::within;
use super::replay::{Cell, Replay};
use crate::api::dialect::Dialect;
use crate::api::error::{self, ApiError};
use crate::api::render;
use crate::snapshot::Live;
use crate::upstream::head::decimal;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_error::ErrorType;
use pingora_proxy::HttpProxy;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// After an answer that came before the end of the body, the rest is thrown away for at most so long, so that the
/// client can read the answer before the connection is reset.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// A connection that was accepted just before the drain may still send its first head for so long.
const FIRST_HEAD_MAX: Duration = Duration::from_millis(500);

/// Marks a connection that has been served before.
struct Served;

tokio::task_local! {
    /// The cell of the request being served by this task; [`super::ctx::Ctx`] takes it from here.
    pub(super) static CELL: Arc<Cell>;
}

/// The application behind the listening socket.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway>>,
    live: Arc<Live>,
    options: HttpServerOptions,
}

impl Front {
    /// Puts the door before a proxy.
    pub fn new(proxy: HttpProxy<Gateway>, live: Arc<Live>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = live.snapshot().config.gateway.h2c;
        Front { proxy: Arc::new(proxy), live, options }
    }

    /// Reads the head; none when the connection is over or was answered with an error.
    async fn read_head(&self, session: &mut ServerSession, first: bool) -> Option<()> {
        let snapshot = self.live.snapshot();
        let settings = &snapshot.config.gateway;
        let limit = match session.get_keepalive() {
            // Between two requests the connection may idle; the head then shares the idle time, since the session
            // does not show its first byte.
            Some(_) => settings.keepalive_timeout_ms.max(settings.header_timeout_ms),
            None => settings.header_timeout_ms,
        };
        let read = {
            let head = pin!(session.read_request());
            tokio::select! {
                biased;
                read = within(Duration::from_millis(limit), head) => read,
                () = self.drained(first) => return None,
            }
        };
        match read {
            Some(Ok(true)) => self.check_head(session, settings.header_bytes_max).await,
            Some(Ok(false)) | None => None,
            Some(Err(cause)) => {
                if *cause.etype() == ErrorType::InvalidHTTPHeader {
                    log::debug!("a request head cannot be read: {}", cause.etype().as_str());
                    let error = ApiError::new(&error::BAD_REQUEST, "the request head is not valid HTTP");
                    Box::pin(refuse(session, &error)).await;
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
            ApiError::new(&error::HEAD_TOO_LARGE, format!("the request head is larger than {bytes_max} bytes"))
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

    /// Ends the exchange on the real session; gives the connection back when it can serve another request.
    async fn conclude(&self, mut session: Box<ServerSession>, completed: bool) -> Option<ReusedHttpStream> {
        if !completed {
            return None;
        }
        if !session.is_body_done() && !linger(&mut session).await {
            return None;
        }
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Served));
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.live.workers.get_or_init(Handle::current);
        let first = !session.take_connection_user_context().is_some_and(|served| served.is::<Served>());
        // Counted before its head is there: a process that ends may not overlook a connection it has accepted.
        let arriving = first.then(|| self.live.arrive());
        if !session.is_http2() {
            // What a client sends ahead is its next request and no reason to cut the answer to this one.
            session.set_pipelining_enabled(true);
            // The hall decides what an unread body means for the connection (`answer::send`).
            session.set_close_on_response_before_downstream_finish(false);
            // Boxed, so that a connection does not keep room for it while its request is served.
            Box::pin(self.read_head(&mut session, first)).await?;
        }
        if *shutdown.borrow() || self.live.is_closing() {
            session.set_keepalive(None);
        }
        let _in_flight = self.live.enter();
        drop(arriving);
        let cell = Arc::new(Cell::default());
        let wrapper = Replay::new(Box::new(session), Arc::clone(&cell));
        let wrapped = ServerSession::new_custom(Box::new(wrapper));
        CELL.scope(Arc::clone(&cell), self.proxy.process_new_http(wrapped, shutdown)).await;
        let (session, completed) = cell.take_session()?;
        self.conclude(session, completed).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.live.drain();
        self.proxy.http_cleanup().await;
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
