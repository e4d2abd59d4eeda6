//! HTTP/2 over TLS: the server side of one connection, by the `h2` crate.
//!
//! Each stream is a task; what concerns the whole connection (cut, reset, GOAWAY) it asks of the task that drives it.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::BODY_BYTES_MAX;
use super::play::{Ending, Head, Sink, play};
use super::record::{Outcome, Recorded};
use super::socket::Socket;
use super::step::{Kind, Step};
use super::visit::Visit;

const STREAMS_MAX: u32 = 1024;
const WINDOW_BYTES: u32 = 1 << 20;

/// What a stream wants done to its connection.
enum Order {
    /// Say so when all that is queued was written.
    Flush(oneshot::Sender<()>),
    Cut,
    Reset,
    GoAway,
}

/// Serves streams until either side ends the connection.
pub(super) async fn serve(socket: Socket, visit: Arc<Visit>) {
    let reset = socket.reset_wish();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS_MAX).initial_window_size(WINDOW_BYTES);
    builder.initial_connection_window_size(4 * WINDOW_BYTES);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
    let (orders, mut ordered) = unbounded_channel();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            // First, because asking for a stream also writes what is queued, and orders mean what was queued before.
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(exchange(request, respond, orders.clone(), visit.clone()));
                }
                Some(Err(_)) | None => return,
            },
            Some(order) = ordered.recv() => match order {
                Order::Flush(written) => drop(written.send(())),
                Order::Cut => return,
                Order::Reset => return reset.make(),
                Order::GoAway => connection.graceful_shutdown(),
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn exchange(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    orders: UnboundedSender<Order>,
    visit: Arc<Visit>,
) {
    let received = recorded(&request, &visit);
    let (method, path, headers) = (received.method.clone(), received.path.clone(), received.headers.clone());
    let mut incoming = request.into_body();
    let mut sink = H2Sink { respond, body: None, bodiless: method == "HEAD" };
    let mut body = Vec::new();
    if visit.controls(&path) {
        if take_body(&mut incoming, &mut body).await.is_ok() {
            let _ = play(&visit.control(&method, &path, &body), &mut sink, &Default::default()).await;
        }
        return;
    }
    let ticket = visit.log.received(received);
    let early = visit.take_by_head(&path);
    if early.as_ref().is_some_and(|step| matches!(step.kind, Kind::StopReading)) {
        // Without the window being given back the peer stops by itself; its reset is still seen.
        let _ = sink.pause(None).await;
        return;
    }
    if !early.as_ref().is_some_and(|step| step.manner.leave_body) {
        let taken = take_body(&mut incoming, &mut body).await;
        ticket.body(&body, taken.is_ok());
        if taken.is_err() {
            if body.len() as u64 > BODY_BYTES_MAX {
                ticket.settle(Outcome::Cut);
            }
            return;
        }
    }
    let step = visit.answer(early, &method, &path, &headers, &body);
    if step.manner.goaway {
        let _ = orders.send(Order::GoAway);
    }
    let Ok(ending) = play(&step, &mut sink, &ticket.frames_sent).await else { return };
    ticket.settle(match ending {
        Ending::Keep | Ending::Close => Outcome::Answered,
        Ending::Cut | Ending::Reset => Outcome::Cut,
    });
    end(ending, &step, sink, &orders).await;
}

/// Ends the stream, or asks for the connection to be ended and waits for it: a dropped stream would reset itself first.
async fn end(ending: Ending, step: &Step, mut sink: H2Sink, orders: &UnboundedSender<Order>) {
    if matches!(ending, Ending::Keep | Ending::Close) {
        return;
    }
    let (written, flushed) = oneshot::channel();
    let _ = orders.send(Order::Flush(written));
    let _ = flushed.await;
    if step.manner.h2_rst {
        return sink.reset(Reason::INTERNAL_ERROR);
    }
    let _ = orders.send(if ending == Ending::Reset { Order::Reset } else { Order::Cut });
    pending().await
}

fn recorded(request: &Request<RecvStream>, visit: &Visit) -> Recorded {
    let uri = request.uri();
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>();
    let authority = uri.authority().map(|authority| (":authority".to_owned(), authority.to_string()));
    let fields = request.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    Recorded {
        connection: visit.connection,
        tls: visit.tls,
        http2: true,
        method: request.method().to_string(),
        path: uri.path_and_query().map_or_else(|| uri.path().to_owned(), |path| path.to_string()),
        headers: authority.into_iter().chain(fields).collect(),
        head: Vec::new(),
        body: Vec::new(),
        body_complete: request.body().is_end_stream(),
        received_at: Instant::now(),
        outcome: Outcome::Pending,
    }
}

async fn take_body(incoming: &mut RecvStream, body: &mut Vec<u8>) -> io::Result<()> {
    while let Some(piece) = incoming.data().await {
        let piece = piece.map_err(io::Error::other)?;
        incoming.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
        body.extend_from_slice(&piece);
        if body.len() as u64 > BODY_BYTES_MAX {
            return Err(io::Error::other("body over the limit"));
        }
    }
    Ok(())
}

struct H2Sink {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    bodiless: bool,
}

impl H2Sink {
    fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Ends when the peer resets the stream or the connection ends.
    async fn gone(&mut self) -> io::Error {
        let reason = poll_fn(|cx| match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        match reason.await {
            Ok(reason) => io::Error::other(h2::Error::from(reason)),
            Err(fault) => io::Error::other(fault),
        }
    }
}

impl Sink for H2Sink {
    async fn interim(&mut self, status: u16) -> io::Result<()> {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
        self.respond.send_informational(interim).map_err(io::Error::other)
    }

    async fn head(&mut self, head: Head) -> io::Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status).map_err(io::Error::other)?;
        self.bodiless |= matches!(head.status, 204 | 304);
        for (name, value) in head.headers {
            let name: HeaderName = name.to_ascii_lowercase().parse().map_err(io::Error::other)?;
            if !matches!(name.as_str(), "connection" | "transfer-encoding" | "keep-alive") {
                response.headers_mut().append(name, HeaderValue::from_str(&value).map_err(io::Error::other)?);
            }
        }
        if let Some(length) = head.length {
            response.headers_mut().entry("content-length").or_insert(length.into());
        }
        let body = self.respond.send_response(response, self.bodiless).map_err(io::Error::other)?;
        self.body = Some(body);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(body) = self.body.as_mut().filter(|_| !self.bodiless) else { return Ok(()) };
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let granted = poll_fn(|cx| body.poll_capacity(cx)).await;
            let granted = granted.ok_or_else(|| io::Error::other("stream closed"))?.map_err(io::Error::other)?;
            body.send_data(rest.split_to(granted.min(rest.len())), false).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn stub(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self.body.as_mut().filter(|_| !self.bodiless) {
            Some(body) => body.send_data(Bytes::new(), true).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    async fn pause(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let Some(wait) = wait else { return Err(self.gone().await) };
        tokio::select! {
            fault = self.gone() => Err(fault),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
