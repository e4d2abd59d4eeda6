//! The record of one request: what each phase leaves for the next. One writer per field, named beside it.

use super::cell::Cell;
use super::outgoing::Source;
use crate::api::endpoint::Endpoint;
use crate::api::error::ApiError;
use crate::api::params::Wishes;
use crate::auth::Caller;
use crate::routing::limit::Full;
use crate::routing::plan::{Cause, Plan};
use crate::routing::vitals::{Ending, Vitals};
use crate::snapshot::{Buffered, Deployment, Live, Snapshot};
use crate::usage::Meter;
use crate::wire::json::Skim;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use pingora_http::RequestHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything known about one request.
pub struct Ctx {
    /// Shared with the session wrapper; from the front.
    pub cell: Arc<Cell>,
    /// What outlives the configuration.
    pub live: Arc<Live>,
    /// The configuration this request began with.
    pub snapshot: Arc<Snapshot>,
    /// When its head had been read.
    pub started: Instant,
    /// The gateway's name for it.
    pub request_id: HeaderValue,
    /// `x-litellm-call-id`: the client's own or ours; accept.
    pub call_id: HeaderValue,
    /// The request named an `Origin`; accept.
    pub cross_origin: bool,
    /// The route; accept.
    pub endpoint: Option<&'static Endpoint>,
    /// The model or id in the path; accept.
    pub tail: Option<String>,
    /// Who is calling; accept.
    pub caller: Option<Caller>,
    /// What the body wants; body.
    pub ask: Option<Arc<Ask>>,
    /// Bytes of the request body as they came; body.
    pub bytes_in: u64,
    /// Memory held for the body; body.
    pub buffered: Option<Buffered>,
    /// Where to go; body makes it, forward and recover step it.
    pub plan: Option<Plan>,
    /// The try now running; forward.
    pub attempt: Option<Attempt>,
    /// Ended tries, as `deployment:outcome:milliseconds`; recover and finish.
    pub attempts: String,
    /// What became of a second attempt beside a first: `won`, `lost`, `failed`, or empty; hedge.
    pub hedge: &'static str,
    /// A retry has been paid for and not been made yet; recover.
    pub paid: bool,
    /// The client's head, while a stand-in lies in its place; forward.
    pub lent_head: Option<RequestHeader>,
    /// How long to wait before the next try; recover.
    pub pause: Option<Duration>,
    /// Parameters that were dropped, joined by commas; forward.
    pub dropped: String,
    /// Fields an upstream named as unwanted in a 422; observe.
    pub unwanted: Vec<String>,
    /// How the answer is treated; observe.
    pub answer: super::observe::Answer,
    /// Tokens and price; observe.
    pub meter: Meter,
    /// The error to answer, once one is certain; whoever found it.
    pub failure: Option<ApiError>,
    /// When the head and the first body byte of the answer were let go; observe, answer.
    pub head_at: Option<Instant>,
    /// See `head_at`.
    pub first_byte_at: Option<Instant>,
    /// Time spent waiting for upstreams; observe and recover.
    pub upstream_time: Duration,
    /// Status sent to the client; answer, observe.
    pub status: u16,
    /// How it ended; whoever ended it.
    pub end: &'static str,
}

/// What the body wants.
pub struct Ask {
    /// The whole body, decoded; empty once it is not needed any more.
    pub doc: Bytes,
    /// Its members; none for a form.
    pub skim: Option<Skim>,
    /// Where a form's model part lies in `doc`.
    pub form_model: Option<std::ops::Range<usize>>,
    /// The name the client used.
    pub model: String,
    /// The same as a JSON string, to be shown in answers.
    pub model_json: Bytes,
    /// The members the gateway honours itself.
    pub wishes: Wishes,
    /// When the whole request must be over, by the client's own word.
    pub timeout: Option<Duration>,
}

/// A deployment in use; counted there and for the whole gateway until this goes.
pub struct InUse {
    vitals: Arc<Vitals>,
    live: Arc<Live>,
    /// When it began, on the clock of all routing.
    pub began_ms: u64,
}

impl InUse {
    /// Counts it.
    ///
    /// # Errors
    /// When the deployment or the gateway has no room; then nothing is counted.
    pub fn begin(live: &Arc<Live>, snapshot: &Snapshot, place: usize, now_ms: u64) -> Result<Self, Full> {
        let vitals = &snapshot.deployments[place].vitals;
        let begun = vitals
            .usage()
            .try_begin(&snapshot.shares[place].limits, now_ms)
            .and_then(|()| live.guard.try_begin(&snapshot.limits, now_ms).inspect_err(|_| vitals.usage().take_back()));
        if let Err(full) = begun {
            // If the choice took the place of a probe, the next one may have it.
            vitals.ended(Ending::Unknown, now_ms, snapshot.rest, now_ms);
            return Err(full);
        }
        Ok(InUse { vitals: Arc::clone(vitals), live: Arc::clone(live), began_ms: now_ms })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.vitals.usage().leave();
        self.live.guard.leave();
        self.live.queue.tell_freed();
    }
}

/// One try at one deployment.
pub struct Attempt {
    /// Counts the deployment as busy.
    pub in_use: InUse,
    /// Its place in the configuration.
    pub deployment: usize,
    /// The model name sent.
    pub upstream_model: Arc<str>,
    /// The body for this deployment.
    pub body: Bytes,
    /// The body has been given to whoever sends it.
    pub body_given: bool,
    /// When it began.
    pub started: Instant,
    /// Which of the host's addresses is next.
    pub address_try: usize,
    /// The address in use.
    pub address: Option<SocketAddr>,
    /// The connection has served another request before.
    pub reused: bool,
    /// How often a pooled connection turned out to be closed.
    pub stale: u32,
    /// Where in its range the pause behind this try lies, 0.0..1.0.
    pub jitter: f64,
    /// Status answered.
    pub status: u16,
    /// What the answer was judged to be, when it was a failure.
    pub verdict: Option<(Cause, &'static str)>,
    /// Seconds the upstream asked to wait.
    pub retry_after: Option<Duration>,
    /// What can be said to the client before the upstream has answered.
    pub shown: Option<HeaderMap>,
}

impl Attempt {
    /// An attempt that begins now.
    pub fn new(in_use: InUse, deployment: usize, upstream_model: Arc<str>, body: Bytes) -> Self {
        Attempt {
            in_use,
            deployment,
            upstream_model,
            body,
            body_given: false,
            started: Instant::now(),
            address_try: 0,
            address: None,
            reused: false,
            stale: 0,
            jitter: fastrand::f64(),
            status: 0,
            verdict: None,
            retry_after: None,
            shown: None,
        }
    }
}

impl Ctx {
    /// Begins the record of a request whose wrapper shares `cell`.
    pub fn new(live: &Arc<Live>, cell: Arc<Cell>) -> Self {
        let request_id = new_id();
        Ctx {
            cell,
            live: Arc::clone(live),
            snapshot: live.snapshot(),
            started: Instant::now(),
            call_id: request_id.clone(),
            request_id,
            cross_origin: false,
            endpoint: None,
            tail: None,
            caller: None,
            ask: None,
            bytes_in: 0,
            buffered: None,
            plan: None,
            attempt: None,
            attempts: String::new(),
            hedge: "",
            paid: false,
            lent_head: None,
            pause: None,
            dropped: String::new(),
            unwanted: Vec::new(),
            answer: super::observe::Answer::Raw,
            meter: Meter::default(),
            failure: None,
            head_at: None,
            first_byte_at: None,
            upstream_time: Duration::ZERO,
            status: 0,
            end: "",
        }
    }

    /// The configured name of the group now in use, for labels.
    pub fn group(&self) -> Arc<str> {
        match &self.attempt {
            Some(attempt) => Arc::clone(&self.snapshot.deployments[attempt.deployment].group),
            None => self.plan.as_ref().map_or_else(|| "".into(), |plan| plan.resolved().group.name.as_str().into()),
        }
    }

    /// What attempts are made from; none before the route is known.
    pub fn source(&self) -> Option<Source<'_>> {
        Some(Source {
            live: &self.live,
            snapshot: &self.snapshot,
            endpoint: self.endpoint?,
            ask: self.ask.as_deref(),
            tail: self.tail.as_deref(),
            unwanted: &self.unwanted,
            request_id: &self.request_id,
        })
    }

    /// Whether the client asked for a stream.
    pub fn wants_stream(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| ask.wishes.stream)
    }

    /// What is left of the client's own limit; none when it set none.
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.ask.as_ref()?.timeout?.saturating_sub(self.started.elapsed()))
    }

    /// How long an attempt that begins now may wait for its head: the client's own limit counts from the beginning of the
    /// request, the operator's from that of the attempt.
    pub fn head_limit(&self, deployment: &Deployment) -> Duration {
        let own = if self.wants_stream() { deployment.stream_head_timeout } else { deployment.head_timeout };
        self.time_left().unwrap_or(own)
    }

    /// Lets the request's bytes go once the client has an answer, so that no other attempt can need them: a stream may
    /// last for an hour. Without effect as long as nobody has been given the body.
    pub fn forget_body(&mut self) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.body_given) else { return };
        attempt.body = Bytes::new();
        self.cell.seal(Bytes::new());
        if let Some(ask) = self.ask.as_mut().and_then(Arc::get_mut) {
            (ask.doc, ask.skim) = (Bytes::new(), None);
        }
        self.buffered = None;
    }

    /// Closes the running try in the record; `outcome` is its word, `now` the end.
    pub fn close_attempt(&mut self, outcome: &str, now: Instant) {
        let Some(attempt) = &self.attempt else { return };
        let deployment = &self.snapshot.deployments[attempt.deployment];
        if !self.attempts.is_empty() {
            self.attempts.push(',');
        }
        let elapsed = u64::try_from(now.saturating_duration_since(attempt.started).as_millis()).unwrap_or(u64::MAX);
        self.attempts.reserve(deployment.id.len() + outcome.len() + 16);
        for part in [&deployment.id, ":", outcome, ":", itoa::Buffer::new().format(elapsed)] {
            self.attempts.push_str(part);
        }
    }
}

/// A random UUID (RFC 9562, version 4); written by hand, since `format!` would take longer than the rest of the record.
fn new_id() -> HeaderValue {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let mut text = Vec::with_capacity(36);
    for (place, byte) in bytes.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend([byte >> 4, byte & 0x0f].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_four_uuids_and_differ() {
        let (one, two) = (new_id(), new_id());
        assert_ne!(one, two);
        let text = one.to_str().unwrap();
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
        assert!(text.as_bytes()[14] == b'4' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}
