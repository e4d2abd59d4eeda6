//! The separate health service: its own port, its own thread, no key. Health, metrics, and what is running.
//!
//! Names appear here without a key, so it listens on loopback unless told otherwise.

use crate::snapshot::Live;
use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";

/// The application behind the admin port.
pub struct Admin {
    live: Arc<Live>,
    started_at: SystemTime,
}

impl Admin {
    /// Serves the live state of the process.
    pub fn new(live: Arc<Live>) -> Self {
        Admin { live, started_at: SystemTime::now() }
    }

    fn page(&self, path: &str) -> (u16, &'static str, String) {
        let plain = path.trim_end_matches('/');
        let json = |value: Value| (200, JSON, value.to_string());
        match plain {
            "/health/liveliness" | "/health/liveness" => (200, JSON, "\"I'm alive!\"".to_owned()),
            "/health/readiness" => {
                let (status, body) = self.live.readiness();
                (status, JSON, body.to_string())
            }
            "/health" => json(self.live.snapshot().health(true, self.live.now_ms())),
            "/metrics" => (200, OPENMETRICS, self.live.metrics.render()),
            "/info" => json(self.info()),
            "" => json(json!({"routes": ["/health", "/health/liveliness", "/health/readiness", "/metrics", "/info"]})),
            _ => (
                404,
                JSON,
                json!({"error": {"message": "no such page; see /", "type": "invalid_request_error"}}).to_string(),
            ),
        }
    }

    fn info(&self) -> Value {
        let snapshot = self.live.snapshot();
        json!({
            "name": "nanogate",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started_at": seconds(self.started_at),
            "config": {
                "path": snapshot.config.source.path.display().to_string(),
                "hash": snapshot.config.source.hash,
                "loaded_at": seconds(snapshot.loaded_at),
                "deployments": snapshot.deployments.len(),
            },
            "refused_config": self.live.refused().map(|refused| json!({"at": seconds(refused.at), "why": refused.why})),
            "in_flight": self.live.in_flight(),
            "draining": self.live.is_draining(),
        })
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (status, kind, body) = match head.method {
            Method::GET | Method::HEAD => self.page(head.uri.path()),
            _ => (
                405,
                JSON,
                json!({"error": {"message": "GET or HEAD only", "type": "invalid_request_error"}}).to_string(),
            ),
        };
        let body = if head.method == Method::HEAD { Vec::new() } else { body.into_bytes() };
        let built = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_LENGTH, body.len())
            .body(body);
        built.unwrap_or_else(|_| {
            let mut empty = Response::new(Vec::new());
            *empty.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            empty
        })
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
