//! The background service that listens for wishes of the operator: SIGHUP and `nanogate reload`, SIGUSR1 before a
//! hand-over, and the configuration file itself when it is watched.

use super::control::{self, Callers, Reply, Role};
use super::reload::{Outcome, Reloader};
use crate::config;
use crate::snapshot::Live;
use async_trait::async_trait;
use notify::{RecursiveMode, Watcher};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// Editors write in several steps; a change is looked at after this pause.
const SETTLE: Duration = Duration::from_millis(200);
/// Where the kernel tells nothing (network file systems, some mounts), the file is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Serves the operator.
pub struct Warden {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    port: u16,
}

impl Warden {
    /// Reloads through `reloader`; `port` is part of the control socket's name.
    pub fn new(live: Arc<Live>, reloader: Arc<Reloader>, port: u16) -> Self {
        Warden { live, reloader, port }
    }

    async fn serve(&self, mut hangup: Signal, mut closing: Signal) {
        let mut callers = Callers::listen(Role::Serve, self.port);
        let changed = Arc::new(Notify::new());
        let watching = self.live.snapshot().config.gateway.watch;
        let _watcher = watching.then(|| watch(self.reloader.path(), Arc::clone(&changed)));
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    self.reloader.reload().await;
                }
                // The next generation serves already and takes the commands from here on.
                _ = closing.recv() => return self.live.close_connections(),
                (stream, word) = callers.next() => self.answer(stream, &word).await,
                () = changed.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    self.reload_if_changed().await;
                }
                _ = look.tick(), if watching => self.reload_if_changed().await,
            }
        }
    }

    /// Serves one caller of the control socket.
    async fn answer(&self, stream: UnixStream, word: &str) {
        let reply = match word {
            "reload" => match self.reloader.reload().await {
                Outcome::Taken(text) => Reply { text, done: true },
                Outcome::Refused(text) => Reply { text, done: false },
            },
            other => Reply { text: format!("`{other}` is not understood"), done: false },
        };
        control::answer(stream, reply).await;
    }

    /// A file that was offered and refused is not offered again until it changes.
    async fn reload_if_changed(&self) {
        let Ok(bytes) = tokio::fs::read(self.reloader.path()).await else { return };
        let hash = config::digest(&bytes);
        if self.live.snapshot().config.source.hash != hash && self.reloader.is_news(&hash) {
            self.reloader.reload().await;
        }
    }
}

/// Watches the folder, not the file: editors replace files, and Kubernetes replaces links to folders.
fn watch(path: &Path, changed: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    });
    let mut watcher = watcher.inspect_err(|cause| log::warn!("{} cannot be watched: {cause}", path.display())).ok()?;
    for target in [folder, path] {
        // The look every few seconds stays where this fails.
        if let Err(cause) = watcher.watch(target, RecursiveMode::NonRecursive) {
            log::warn!("{} cannot be watched: {cause}", target.display());
        }
    }
    Some(watcher)
}

#[async_trait]
impl BackgroundService for Warden {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let signals = signal(SignalKind::hangup()).and_then(|hup| Ok((hup, signal(SignalKind::user_defined1())?)));
        let Ok((hangup, closing)) = signals else {
            return log::error!("SIGHUP cannot be watched: no reload");
        };
        tokio::select! {
            () = self.serve(hangup, closing) => {}
            () = self.live.drained() => {}
        }
    }
}
