//! Ports for processes that cannot be told to take any.
//!
//! They come from below the range that the kernel gives to outgoing connections, counted from a place that depends on
//! the process, so that neither a neighbour test nor a connection in passing takes one between the look and the bind.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_240;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that was free a moment ago and that no other test of this process is given.
pub fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(193);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + start.wrapping_add(step) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
