//! What the proxy leaves to the connection's task: an answer that is there whole, or a stream that runs.
//!
//! Pingora's session would build and write a head of its own; what it has to know of an answer is only that the
//! connection lives on. Only for HTTP/1.1, to a client that has a connection to itself.

use super::answer::Head;
use super::ctx::Ctx;
use super::finish::{self, Visit};
use super::outlet::Outlet;
use super::recover;
use crate::upstream::head::put_line;
use bytes::Bytes;
use http::header::{CONNECTION, DATE};
use pingora_core::protocols::http::date::get_cached_date;
use std::future::poll_fn;
use std::io;

/// A body of up to this size is copied behind its head: one write of one piece costs less than one of two.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;
/// Room for a usual head.
const HEAD_BYTES: usize = 1024;

/// An answer that is there whole, and everything its request still needs.
pub struct Ready {
    ctx: Box<Ctx>,
    head: Head,
    body: Bytes,
}

impl Ready {
    /// An answer to be sent; its head says how long its body is.
    pub fn new(ctx: Box<Ctx>, head: Head, body: Bytes) -> Self {
        Ready { ctx, head, body }
    }

    /// Sends it, and settles the request; whether the client has got all of it.
    pub async fn send(mut self, outlet: &Outlet, visit: &Visit<'_>, keeps_alive: bool) -> bool {
        let is_joined = self.body.len() <= JOINED_BYTES_MAX;
        let mut text = self.text(keeps_alive, if is_joined { self.body.len() } else { 0 });
        let behind = if is_joined {
            text.extend_from_slice(&self.body);
            &[][..]
        } else {
            &self.body[..]
        };
        let sent = write(outlet, &[&text, behind]).await;
        let bytes_out = if sent.is_ok() { self.body.len() as u64 } else { 0 };
        if sent.is_err() {
            recover::note_client_left(&mut self.ctx, true);
        }
        finish::run(&mut self.ctx, visit, bytes_out, None);
        sent.is_ok()
    }

    /// The head as it is sent, with room behind it.
    fn text(&self, keeps_alive: bool, room: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(HEAD_BYTES + room);
        let status = self.head.status;
        for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        for (name, value) in &self.head.headers {
            put_line(name, value.as_bytes(), &mut text);
        }
        put_line(&DATE, get_cached_date().as_bytes(), &mut text);
        let connection = if keeps_alive { "keep-alive" } else { "close" };
        put_line(&CONNECTION, connection.as_bytes(), &mut text);
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// Sends pieces one behind the other.
async fn write(outlet: &Outlet, pieces: &[&[u8]]) -> io::Result<()> {
    for piece in pieces {
        let mut taken = 0;
        poll_fn(|context| outlet.poll_send(context, piece, &mut taken)).await?;
    }
    Ok(())
}
