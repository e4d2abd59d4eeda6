//! The series a deployment's requests count in, each looked up once: a look-up hashes its labels under a lock.

use super::metrics::{Attempt, Course, Dropped, Metrics, Request, Tokens};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// Routes of one deployment whose series are kept; those of further ones are looked up each time.
const ROUTES_KEPT: usize = 4;

/// What is kept for one deployment.
#[derive(Default)]
pub struct Series {
    routes: [OnceLock<Box<Route>>; ROUTES_KEPT],
    ok: OnceLock<Counter>,
    prompt: OnceLock<Counter>,
    completion: OnceLock<Counter>,
    cost_usd: OnceLock<Counter<f64, AtomicU64>>,
}

impl Series {
    /// The series of a route; none when others have taken all the room.
    pub fn route(&self, endpoint: &'static str, group: &Arc<str>) -> Option<&Route> {
        let kept = self.routes.iter().map(|slot| slot.get_or_init(|| Box::new(Route::new(endpoint, group))));
        kept.map(Box::as_ref).find(|route| route.labels.endpoint == endpoint)
    }

    /// Counts an ended attempt.
    pub fn attempt(&self, metrics: &Metrics, group: &Arc<str>, deployment: &Arc<str>, outcome: &'static str) {
        let labels = || Attempt { group: Arc::clone(group), deployment: Arc::clone(deployment), outcome };
        match outcome {
            "ok" => self.ok.get_or_init(|| metrics.attempts.get_or_create_owned(&labels())).inc(),
            _ => metrics.attempts.get_or_create(&labels()).inc(),
        };
    }

    /// Counts the tokens of prompts and completions and their cost, as far as the upstream told them.
    pub fn usage(&self, metrics: &Metrics, group: &Arc<str>, tokens: [Option<u64>; 2], cost_usd: Option<f64>) {
        let [prompt, completion] = tokens;
        for (kept, kind, tokens) in [(&self.prompt, "prompt", prompt), (&self.completion, "completion", completion)] {
            if let Some(tokens) = tokens {
                let series = || metrics.tokens.get_or_create_owned(&Tokens { group: Arc::clone(group), kind });
                kept.get_or_init(series).inc_by(tokens);
            }
        }
        if let Some(cost) = cost_usd {
            let series = || metrics.cost_usd.get_or_create_owned(&Dropped { group: Arc::clone(group) });
            self.cost_usd.get_or_init(series).inc_by(cost);
        }
    }
}

/// The series of one route and group.
pub struct Route {
    labels: Course,
    head: OnceLock<Histogram>,
    first_byte: OnceLock<Histogram>,
    whole: OnceLock<Histogram>,
    good: OnceLock<Counter>,
}

impl Route {
    /// Nothing looked up yet.
    pub fn new(endpoint: &'static str, group: &Arc<str>) -> Self {
        Route {
            labels: Course { endpoint, group: Arc::clone(group) },
            head: OnceLock::new(),
            first_byte: OnceLock::new(),
            whole: OnceLock::new(),
            good: OnceLock::new(),
        }
    }

    /// Notes the times of a request in seconds, as far as it came.
    pub fn times(&self, metrics: &Metrics, head: Option<f64>, first_byte: Option<f64>, whole: f64) {
        for (kept, family, seconds) in [
            (&self.head, &metrics.head_seconds, head),
            (&self.first_byte, &metrics.first_byte_seconds, first_byte),
            (&self.whole, &metrics.request_seconds, Some(whole)),
        ] {
            if let Some(seconds) = seconds {
                kept.get_or_init(|| family.get_or_create_owned(&self.labels)).observe(seconds);
            }
        }
    }

    /// Counts an ended request.
    pub fn ended(&self, metrics: &Metrics, status: u16) {
        let labels = || Request { endpoint: self.labels.endpoint, group: Arc::clone(&self.labels.group), status };
        match status {
            200 => self.good.get_or_init(|| metrics.requests.get_or_create_owned(&labels())).inc(),
            _ => metrics.requests.get_or_create(&labels()).inc(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_where_a_look_up_would() {
        let (metrics, series, group) = (Metrics::default(), Series::default(), Arc::from("glm"));
        for endpoint in ["a", "b", "a", "c", "d", "e"] {
            let own = Route::new(endpoint, &group);
            let route = series.route(endpoint, &group);
            assert_eq!(route.is_none(), endpoint == "e", "{endpoint}");
            let route = route.unwrap_or(&own);
            route.times(&metrics, Some(0.1), None, 0.2);
            route.ended(&metrics, 200);
            route.ended(&metrics, 503);
        }
        series.usage(&metrics, &group, [Some(7), None], Some(0.5));
        series.usage(&metrics, &group, [Some(7), Some(1)], None);
        for outcome in ["ok", "connect", "ok"] {
            series.attempt(&metrics, &group, &"one".into(), outcome);
        }
        let text = metrics.render();
        for line in [
            "nanogate_requests_total{endpoint=\"a\",group=\"glm\",status=\"200\"} 2",
            "nanogate_requests_total{endpoint=\"e\",group=\"glm\",status=\"200\"} 1",
            "nanogate_requests_total{endpoint=\"a\",group=\"glm\",status=\"503\"} 2",
            "nanogate_head_seconds_count{endpoint=\"a\",group=\"glm\"} 2",
            "nanogate_request_seconds_count{endpoint=\"e\",group=\"glm\"} 1",
            "nanogate_tokens_total{group=\"glm\",kind=\"prompt\"} 14",
            "nanogate_cost_usd_total{group=\"glm\"} 0.5",
            "nanogate_upstream_attempts_total{group=\"glm\",deployment=\"one\",outcome=\"ok\"} 2",
            "nanogate_upstream_attempts_total{group=\"glm\",deployment=\"one\",outcome=\"connect\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("nanogate_first_byte_seconds_count"), "{text}");
    }
}
