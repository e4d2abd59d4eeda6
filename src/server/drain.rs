//! Signals, and the end of the process: at once when nothing is in flight, else with the last request.
//!
//! Pingora sleeps its whole grace period whatever is in flight; this watch lets `main` return earlier.

use crate::snapshot::Live;
use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// How often the count of requests in flight is looked at while draining.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time for the listeners to close, so that no connection is accepted and then dropped.
const LISTENERS_CLOSE: Duration = Duration::from_millis(50);

/// What a signal asks for.
enum Asked {
    /// Let requests finish.
    Drain,
    /// Go now.
    Quit,
}

/// The signals, for Pingora.
pub struct Signals {
    drain: Arc<Notify>,
    /// Another way to ask for the drain, for the process itself.
    own: Arc<Notify>,
}

/// The other end, for the main thread.
pub struct Ended {
    asked: Receiver<Asked>,
}

/// Watches signals from here on and returns the two ends: a process that is told to end while it starts ends well too.
///
/// # Errors
/// When signals cannot be watched.
pub fn watch() -> io::Result<(Signals, Ended)> {
    let (asking, asked) = channel();
    let (registered, ready) = channel();
    let signals = Signals { drain: Arc::default(), own: Arc::default() };
    let (drain, own) = (Arc::clone(&signals.drain), Arc::clone(&signals.own));
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(cause) => return registered.send(Err(cause)).unwrap_or_default(),
        };
        runtime.block_on(async {
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()];
            let [term, int, quit, hup] = match each_signal(kinds) {
                Ok(signals) => signals,
                Err(cause) => return registered.send(Err(cause)).unwrap_or_default(),
            };
            // The main thread waits for this.
            let _ = registered.send(Ok(()));
            listen([term, int, quit], hup, &own, &asking, &drain).await;
        });
    })?;
    ready.recv().map_err(io::Error::other)??;
    Ok((signals, Ended { asked }))
}

/// SIGTERM, SIGINT and SIGQUIT drain; a second one ends the process at once. SIGHUP must not kill: the warden reloads.
async fn listen(ends: [Signal; 3], mut hup: Signal, own: &Notify, asking: &Sender<Asked>, drain: &Notify) {
    let [mut term, mut int, mut quit] = ends;
    for asked in [Asked::Drain, Asked::Quit] {
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = quit.recv() => break,
                () = own.notified() => break,
                _ = hup.recv() => {}
            }
        }
        if matches!(asked, Asked::Drain) {
            log::info!("asked to end: no new connections, requests in flight go on");
        }
        // The main thread is gone only when the process is.
        let _ = asking.send(asked);
        drain.notify_one();
    }
}

fn each_signal(kinds: [SignalKind; 4]) -> io::Result<[Signal; 4]> {
    let [a, b, c, d] = kinds;
    Ok([signal(a)?, signal(b)?, signal(c)?, signal(d)?])
}

impl Signals {
    /// A way to ask for the drain from inside the process.
    pub fn drainer(&self) -> impl FnOnce() + Send + 'static {
        let own = Arc::clone(&self.own);
        move || own.notify_one()
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        self.drain.notified().await;
        ShutdownSignal::GracefulTerminate
    }
}

impl Ended {
    /// Blocks until the process may exit.
    pub fn wait(&self, live: &Arc<Live>, grace: Duration, running: &JoinHandle<()>) {
        if !matches!(self.asked.recv(), Ok(Asked::Drain)) {
            return;
        }
        live.drain();
        let begun = Instant::now();
        while !running.is_finished() && begun.elapsed() < grace {
            if let Ok(Asked::Quit) = self.asked.try_recv() {
                log::warn!("asked to end again: {} requests are cut", live.in_flight());
                return;
            }
            if live.is_quiet() && begun.elapsed() >= LISTENERS_CLOSE {
                log::info!("ended with nothing in flight");
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "the main thread carries no runtime")]
            std::thread::sleep(LOOK_EVERY);
        }
        log::warn!("the grace period is over: {} requests are cut", live.in_flight());
    }
}
