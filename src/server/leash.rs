//! What a supervised process owes its supervisor: a word when it serves, and an end when the supervisor is gone.
//!
//! Standard output and input are pipes to the supervisor; the log goes to standard error.

use super::drain::Signals;
use super::supervisor::READY;
use pingora_core::server::ExecutionPhase;
use std::io::{Read, Write};
use tokio::sync::broadcast::Receiver;

/// Holds both ends, each on a thread of its own.
pub fn hold(mut phases: Receiver<ExecutionPhase>, signals: &Signals) {
    std::thread::spawn(move || {
        while let Ok(phase) = phases.blocking_recv() {
            if matches!(phase, ExecutionPhase::Running) {
                let mut output = std::io::stdout();
                // A supervisor that does not listen any more is noticed at the other end.
                let _ = writeln!(output, "{READY}").and_then(|()| output.flush());
                return;
            }
        }
    });
    let drain = signals.drainer();
    std::thread::spawn(move || {
        let mut byte = [0];
        // Nothing is ever written there; it ends with the supervisor.
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        log::error!("the supervisor is gone: finishing what is in flight");
        drain();
    });
}
