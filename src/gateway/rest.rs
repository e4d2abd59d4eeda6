//! An answer that is there whole, sent without the session once the walk has ended.
//!
//! The session would build a head of its own from this one; what it has to know of an answer is only that the connection
//! lives on. Only for HTTP/1.1, to a client that has a connection to itself.

use super::answer::Head;
use super::ctx::Ctx;
use super::finish::{self, Visit};
use super::recover;
use crate::downstream::connection::Connection;
use crate::downstream::head;
use bytes::Bytes;
use std::future::poll_fn;
use std::io;

/// A body of up to this size is copied behind its head: one write of one piece costs less than one of two.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;

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
    pub async fn send(mut self, connection: &mut Connection) -> bool {
        let is_joined = self.body.len() <= JOINED_BYTES_MAX;
        let room = if is_joined { self.body.len() } else { 0 };
        let mut text = head::text(self.head.status, &self.head.headers, Some(connection.keeps_alive()), room);
        let behind = if is_joined {
            text.extend_from_slice(&self.body);
            &[][..]
        } else {
            &self.body[..]
        };
        let sent = send(connection, &[&text, behind]).await;
        let bytes_out = if sent.is_ok() { self.body.len() as u64 } else { 0 };
        if sent.is_err() {
            recover::note_client_left(&mut self.ctx, true);
        }
        finish::run(&mut self.ctx, &Visit::new(connection.header(), Some(connection.client_addr())), bytes_out, None);
        sent.is_ok()
    }
}

/// Sends pieces one behind the other.
async fn send(connection: &mut Connection, pieces: &[&[u8]]) -> io::Result<()> {
    for piece in pieces {
        let mut taken = 0;
        poll_fn(|context| connection.poll_send(context, piece, &mut taken)).await?;
    }
    Ok(())
}
