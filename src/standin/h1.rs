//! HTTP/1.1 by hand: the server side of one connection. By hand because scripts decide over every byte, cut and reset.
//!
//! While a request is answered the reading side keeps watching, so a peer that leaves is noticed at once.

use std::future::pending;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, WriteHalf};

use super::h1_read::{Fault, Framing, Reader, RequestHead};
use super::play::{Ending, Head, Sink, play};
use super::record::{Outcome, Recorded, Ticket};
use super::socket::Socket;
use super::step::{Kind, Step};
use super::visit::Visit;

/// How long a closing connection is drained for the sake of the answer it carries.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Serves requests until either side ends the connection.
pub(super) async fn serve(socket: Socket, visit: &Visit) {
    let reset = socket.reset_wish();
    let (read, mut write) = tokio::io::split(socket);
    let mut reader = Reader::new(read);
    loop {
        match exchange(&mut reader, &mut write, visit).await {
            Ending::Keep => {}
            Ending::Cut => return,
            Ending::Reset => return reset.make(),
            Ending::Close => {
                let _ = write.shutdown().await;
                let _ = tokio::time::timeout(DRAIN_MAX, reader.drain()).await;
                return;
            }
        }
    }
}

async fn exchange(reader: &mut Reader, write: &mut WriteHalf<Socket>, visit: &Visit) -> Ending {
    let head = match reader.head().await {
        Ok(head) => head,
        Err(Fault::Gone) => return Ending::Cut,
        Err(fault) => return refuse(fault, write).await,
    };
    let mut body = Vec::new();
    if visit.controls(&head.path) {
        return match take_body(reader, write, &head, &mut body).await {
            Ok(()) => answer(&visit.control(&head.method, &head.path, &body), None, &head, reader, write).await,
            Err(_) => Ending::Cut,
        };
    }
    let ticket = visit.log.received(recorded(&head, visit));
    let early = visit.take_by_head(&head.path);
    if early.as_ref().is_some_and(|step| matches!(step.kind, Kind::StopReading)) {
        return pending().await;
    }
    let leaves_body = early.as_ref().is_some_and(|step| step.manner.leave_body);
    if !leaves_body {
        let taken = take_body(reader, write, &head, &mut body).await;
        ticket.body(&body, taken.is_ok());
        match taken {
            Ok(()) => {}
            Err(Fault::Gone) => return Ending::Cut,
            Err(fault) => {
                ticket.settle(Outcome::Cut);
                return refuse(fault, write).await;
            }
        }
    }
    let mut step = visit.answer(early, &head.method, &head.path, &head.headers, &body);
    step.manner.close |= step.manner.goaway || head.wants_close() || (leaves_body && head.framing != Framing::None);
    answer(&step, Some(ticket), &head, reader, write).await
}

async fn take_body(
    reader: &mut Reader,
    write: &mut WriteHalf<Socket>,
    head: &RequestHead,
    body: &mut Vec<u8>,
) -> Result<(), Fault> {
    if head.expects_continue() && head.framing != Framing::None {
        say(write, b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| Fault::Gone)?;
    }
    reader.body(head.framing, body).await
}

/// Plays the step while watching the peer; a ticket that is dropped here says that the peer is gone.
async fn answer(
    step: &Step,
    ticket: Option<Ticket>,
    head: &RequestHead,
    reader: &mut Reader,
    write: &mut WriteHalf<Socket>,
) -> Ending {
    let unseen = Default::default();
    let frames_sent = ticket.as_ref().map_or(&unseen, |ticket| &ticket.frames_sent);
    let mut sink = H1Sink::new(write, head.method == "HEAD", step.manner.close);
    let ending = tokio::select! {
        biased;
        () = reader.gone() => return Ending::Cut,
        ending = play(step, &mut sink, frames_sent) => match ending {
            Ok(ending) => ending,
            Err(_) => return Ending::Cut,
        },
    };
    if let Some(ticket) = ticket {
        ticket.settle(match ending {
            Ending::Keep | Ending::Close => Outcome::Answered,
            Ending::Cut | Ending::Reset => Outcome::Cut,
        });
    }
    ending
}

fn recorded(head: &RequestHead, visit: &Visit) -> Recorded {
    Recorded {
        connection: visit.connection,
        tls: visit.tls,
        http2: false,
        method: head.method.clone(),
        path: head.path.clone(),
        headers: head.headers.clone(),
        head: head.raw.clone(),
        body: Vec::new(),
        body_complete: head.framing == Framing::None,
        received_at: Instant::now(),
        outcome: Outcome::Pending,
    }
}

async fn refuse(fault: Fault, write: &mut WriteHalf<Socket>) -> Ending {
    let status = match fault {
        Fault::Gone => return Ending::Cut,
        Fault::Malformed => "400 Bad Request",
        Fault::HeadTooLarge => "431 Request Header Fields Too Large",
        Fault::BodyTooLarge => "413 Content Too Large",
    };
    let id = fastrand::u64(..);
    let text =
        format!("HTTP/1.1 {status}\r\nx-request-id: req_{id:016x}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = say(write, text.as_bytes()).await;
    Ending::Close
}

async fn say(write: &mut WriteHalf<Socket>, bytes: &[u8]) -> io::Result<()> {
    write.write_all(bytes).await?;
    write.flush().await
}

struct H1Sink<'a> {
    write: &'a mut WriteHalf<Socket>,
    /// What was formed and not written yet: a head waiting for its body.
    held: Vec<u8>,
    chunked: bool,
    bodiless: bool,
    close: bool,
}

impl<'a> H1Sink<'a> {
    fn new(write: &'a mut WriteHalf<Socket>, bodiless: bool, close: bool) -> Self {
        Self { write, held: Vec::new(), chunked: false, bodiless, close }
    }

    async fn write_held(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        say(self.write, &self.held).await?;
        self.held.clear();
        Ok(())
    }
}

impl Sink for H1Sink<'_> {
    async fn interim(&mut self, status: u16) -> io::Result<()> {
        say(self.write, format!("HTTP/1.1 {status} {}\r\n\r\n", reason(status)).as_bytes()).await
    }

    async fn head(&mut self, head: Head) -> io::Result<()> {
        self.bodiless |= matches!(head.status, 204 | 304);
        self.chunked = head.length.is_none();
        write!(self.held, "HTTP/1.1 {} {}\r\n", head.status, reason(head.status))?;
        for (name, value) in &head.headers {
            write!(self.held, "{name}: {value}\r\n")?;
        }
        let given = |name| super::record::header(&head.headers, name).is_some();
        match head.length {
            None if !given("transfer-encoding") => self.held.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Some(bytes) if !given("content-length") => write!(self.held, "content-length: {bytes}\r\n")?,
            _ => {}
        }
        if self.close && !given("connection") {
            self.held.extend_from_slice(b"connection: close\r\n");
        }
        self.held.extend_from_slice(b"\r\n");
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write_held().await
    }

    async fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bodiless || bytes.is_empty() {
            return Ok(());
        }
        if self.chunked {
            write!(self.held, "{:x}\r\n", bytes.len())?;
        }
        self.held.extend_from_slice(bytes);
        if self.chunked {
            self.held.extend_from_slice(b"\r\n");
        }
        self.write_held().await
    }

    async fn stub(&mut self) -> io::Result<()> {
        if self.chunked && !self.bodiless {
            self.held.extend_from_slice(b"40\r\ndata: {\"id\":");
        }
        self.write_held().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        if self.chunked && !self.bodiless {
            self.held.extend_from_slice(b"0\r\n\r\n");
        }
        self.write_held().await
    }

    async fn pause(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.write_held().await?;
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => pending().await,
        }
        Ok(())
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Scripted")
}
