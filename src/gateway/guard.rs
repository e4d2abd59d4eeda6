//! A panic in a filter becomes an error of that one request, answered in the client's dialect and counted.
//!
//! Pingora contains a panic too, but its client would see the connection close without a word.

use crate::snapshot::Live;
use pingora_error::{Error, ErrorType, Result};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// The error type of a caught panic.
pub const PANICKED: ErrorType = ErrorType::Custom("Panicked");

/// Runs a filter's future. It comes pinned: by value it would lie in the caller's future twice, and be copied.
pub async fn caught<T>(live: &Live, mut future: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
    // The record of the request may be half written after a panic; only its error answer is made from it.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(panicked(live))),
    })
    .await
}

/// Runs a filter that does not wait.
pub fn caught_now<T>(live: &Live, filter: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(filter)).unwrap_or_else(|_| Err(panicked(live)))
}

fn panicked(live: &Live) -> Box<Error> {
    live.metrics.panics.inc();
    log::error!("a request ended in a panic of the gateway; please report it");
    Error::explain(PANICKED, "a filter panicked")
}
