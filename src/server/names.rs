//! The background service that keeps upstream names resolved.

use crate::snapshot::Live;
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::sync::Arc;
use std::time::Duration;

/// Asks for every upstream name again and again until the process ends.
pub struct Refresher {
    live: Arc<Live>,
}

impl Refresher {
    /// Works on the directory of the process.
    pub fn new(live: Arc<Live>) -> Self {
        Refresher { live }
    }
}

#[async_trait]
impl BackgroundService for Refresher {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            let every = Duration::from_millis(self.live.snapshot().config.gateway.dns_refresh_ms);
            let pause = self.live.directory.refresh(every).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Streams that are still running may need a retry elsewhere, but no new name.
                _ = shutdown.changed() => return,
            }
        }
    }
}
