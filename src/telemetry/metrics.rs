//! Every metric by name, and the text that `/metrics` answers.
//!
//! Labels take their values from the configuration and from fixed words, never from a request, so that their number
//! is bounded.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Seconds; from a local answer to the longest completions.
const TIME_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Labels of a finished request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Request {
    /// Route, or `none`.
    pub endpoint: &'static str,
    /// Model group as configured, or empty.
    pub group: Arc<str>,
    /// Status sent to the client; 499 when it left before one.
    pub status: u16,
}

/// Labels of a time to head or first byte.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Course {
    /// Route.
    pub endpoint: &'static str,
    /// Model group.
    pub group: Arc<str>,
}

/// Labels of an attempt at a deployment.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Attempt {
    /// Model group.
    pub group: Arc<str>,
    /// Deployment id.
    pub deployment: Arc<str>,
    /// How it ended: `ok`, `status_503`, `connect`, `timeout_head` …
    pub outcome: &'static str,
}

/// Labels of a deployment.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Place {
    /// Model group.
    pub group: Arc<str>,
    /// Deployment id.
    pub deployment: Arc<str>,
}

/// One word as a label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Cause {
    /// The word.
    pub cause: &'static str,
}

/// The name of a dropped parameter, from the parameter tables.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Dropped {
    /// Model group.
    pub group: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// Kinds of tokens.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Tokens {
    /// Model group.
    pub group: Arc<str>,
    /// `prompt` or `completion`.
    pub kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

type Timings = Family<Course, Histogram, fn() -> Histogram>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// Requests ended.
    pub requests: Family<Request, Counter>,
    /// Requests being served now.
    pub in_flight: Gauge,
    /// Time until the head of the answer went out.
    pub head_seconds: Timings,
    /// Time until the first byte of a body went out.
    pub first_byte_seconds: Timings,
    /// Whole time of a request.
    pub request_seconds: Timings,
    /// Attempts at deployments.
    pub attempts: Family<Attempt, Counter>,
    /// Requests waiting for room under a limit.
    pub queued: Gauge,
    /// Requests that found no room: sent to a fallback or refused.
    pub limited: Family<Cause, Counter>,
    /// Second attempts beside silent first ones, by what became of them.
    pub hedges: Family<Cause, Counter>,
    /// 1 while a deployment rests after failures.
    pub resting: Family<Place, Gauge>,
    /// Frames of streams passed on.
    pub stream_frames: Counter,
    /// Frames that were no JSON and passed unchanged.
    pub odd_frames: Counter,
    /// Streams that ended without their end mark, by what ended them.
    pub truncated: Family<Cause, Counter>,
    /// Requests whose client left, by phase.
    pub cancelled: Family<Cause, Counter>,
    /// Parameters dropped before the request went upstream.
    pub dropped_params: Family<Dropped, Counter>,
    /// Upstream connections made for a request.
    pub new_connections: Counter,
    /// Upstream connections taken from the pool.
    pub reused_connections: Counter,
    /// Body bytes from clients.
    pub bytes_in: Counter,
    /// Body bytes to clients.
    pub bytes_out: Counter,
    /// Tokens as upstreams reported them.
    pub tokens: Family<Tokens, Counter>,
    /// US dollars as upstreams reported them.
    pub cost_usd: Family<Dropped, Counter<f64, AtomicU64>>,
    /// Requests refused by authentication.
    pub denied: Family<Cause, Counter>,
    /// Panics turned into errors.
    pub panics: Counter,
    /// Bytes of request bodies in memory now.
    pub buffered_bytes: Gauge,
}

fn times() -> Histogram {
    Histogram::new(TIME_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("nanogate"),
            requests: Family::default(),
            in_flight: Gauge::default(),
            head_seconds: Family::new_with_constructor(times),
            first_byte_seconds: Family::new_with_constructor(times),
            request_seconds: Family::new_with_constructor(times),
            attempts: Family::default(),
            queued: Gauge::default(),
            limited: Family::default(),
            hedges: Family::default(),
            resting: Family::default(),
            stream_frames: Counter::default(),
            odd_frames: Counter::default(),
            truncated: Family::default(),
            cancelled: Family::default(),
            dropped_params: Family::default(),
            new_connections: Counter::default(),
            reused_connections: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            tokens: Family::default(),
            cost_usd: Family::default(),
            denied: Family::default(),
            panics: Counter::default(),
            buffered_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let (connections, bytes) = (Family::<Cause, Counter>::default(), Family::<Direction, Counter>::default());
        self.new_connections = connections.get_or_create_owned(&Cause { cause: "new" });
        self.reused_connections = connections.get_or_create_owned(&Cause { cause: "reused" });
        self.bytes_in = bytes.get_or_create_owned(&Direction { direction: "in" });
        self.bytes_out = bytes.get_or_create_owned(&Direction { direction: "out" });
        let registry = &mut self.registry;
        registry.register("build_info", "Version of the running binary", build);
        registry.register("requests", "Requests ended", self.requests.clone());
        registry.register("requests_in_flight", "Requests being served", self.in_flight.clone());
        for (name, help, family) in [
            ("head", "Time until the head of the answer went out", &self.head_seconds),
            ("first_byte", "Time until the first byte of a body went out", &self.first_byte_seconds),
            ("request", "Whole time of a request", &self.request_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register("upstream_attempts", "Attempts at deployments", self.attempts.clone());
        registry.register("requests_queued", "Requests waiting for room under a limit", self.queued.clone());
        registry.register("requests_limited", "Requests that found no room under a limit", self.limited.clone());
        registry.register("hedges", "Second attempts beside silent first ones", self.hedges.clone());
        registry.register("deployment_resting", "Deployments resting after failures", self.resting.clone());
        registry.register("upstream_connections", "Upstream connections used", connections);
        registry.register("stream_frames", "Stream frames passed on", self.stream_frames.clone());
        registry.register("stream_odd_frames", "Stream frames that were no JSON", self.odd_frames.clone());
        registry.register("streams_truncated", "Streams without their end mark", self.truncated.clone());
        registry.register("requests_cancelled", "Requests whose client left", self.cancelled.clone());
        registry.register("params_dropped", "Parameters dropped", self.dropped_params.clone());
        registry.register("body", "Body bytes from and to clients", bytes);
        registry.register("tokens", "Tokens as upstreams reported them", self.tokens.clone());
        registry.register("cost_usd", "US dollars as upstreams reported them", self.cost_usd.clone());
        registry.register("requests_denied", "Requests refused by authentication", self.denied.clone());
        registry.register("panics", "Panics turned into errors", self.panics.clone());
        registry.register("buffered_bytes", "Request body bytes in memory", self.buffered_bytes.clone());
    }

    /// The exposition text (OpenMetrics).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail; an empty page would say so if it did.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_appears_in_the_text() {
        let metrics = Metrics::default();
        let group: Arc<str> = "glm".into();
        metrics.requests.get_or_create(&Request { endpoint: "chat", group: group.clone(), status: 200 }).inc();
        metrics.head_seconds.get_or_create(&Course { endpoint: "chat", group }).observe(0.01);
        metrics.cancelled.get_or_create(&Cause { cause: "stream" }).inc();
        let text = metrics.render();
        assert!(text.contains("nanogate_requests_total{endpoint=\"chat\",group=\"glm\",status=\"200\"} 1"), "{text}");
        assert!(text.contains("nanogate_head_seconds_bucket"), "{text}");
        assert!(text.contains("nanogate_requests_cancelled_total{cause=\"stream\"} 1"), "{text}");
        assert!(text.contains("nanogate_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
