//! `gateway_settings`: the gateway's own options, under a key LiteLLM ignores, so one file serves both.
//!
//! Units and defaults only. Durations are seconds in the file (a number, or a text with a unit) and milliseconds here.

use std::path::PathBuf;

/// The gateway's own options.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// `response_model`: the name answers carry.
    pub response_model: ResponseModel,
    /// `reasoning_field`: where a model's reasoning is shown.
    pub reasoning_field: ReasoningField,
    /// `stream_keepalive`: silence in a stream after which a comment is sent; 0 is off. Default 15 s.
    pub stream_keepalive_ms: u64,
    /// `upstream_ca_file`: PEM file of certificate authorities trusted beside the system's.
    pub upstream_ca_file: Option<PathBuf>,
    /// `upstream_http2`: offer HTTP/2 to providers. Default false.
    pub upstream_http2: bool,
    /// `admin_port` of the health and metrics service; 0 is off. Default 4001, decided by the command line's rules.
    pub admin_port: Option<u16>,
    /// `admin_host`: the address it listens on. Default loopback.
    pub admin_host: Option<String>,
    /// `access_log`: one line per request. Default text.
    pub access_log: AccessLog,
    /// `grace_period`: how long running requests may take after SIGTERM. Default 600 s.
    pub grace_period_ms: u64,
    /// `connect_timeout`: to a provider, TLS included. Default 5 s.
    pub connect_timeout_ms: u64,
    /// `stream_idle_timeout`: silence between two pieces of an answer. Default 300 s.
    pub stream_idle_timeout_ms: u64,
    /// `body_timeout`: for a request body; a body that arrives at 16 KiB/s or faster gets longer. Default 60 s.
    pub body_timeout_ms: u64,
    /// `header_timeout`: for a request's head, from its first byte. Default 10 s.
    pub header_timeout_ms: u64,
    /// `keepalive_timeout`: an idle client connection. Default 75 s (LiteLLM: 5 s).
    pub keepalive_timeout_ms: u64,
    /// `header_bytes_max`: a request's head. Default 64 KiB.
    pub header_bytes_max: u64,
    /// `json_depth_max`: nesting of a request body. Default 128.
    pub json_depth_max: u32,
    /// `buffered_bytes_max`: all request bodies in memory together. Default 512 MiB.
    pub buffered_bytes_max: u64,
    /// `dns_refresh`: how often provider names are resolved again. Default 30 s.
    pub dns_refresh_ms: u64,
    /// `upstream_idle_timeout`: an idle connection to a provider. Default 30 s.
    pub upstream_idle_timeout_ms: u64,
    /// `h2c`: HTTP/2 without TLS from clients. Default false.
    pub h2c: bool,
    /// `frame_bytes_max`: one event of a stream. Default 16 MiB.
    pub frame_bytes_max: u64,
    /// `watch`: reload when the file changes. Default false.
    pub watch: bool,
    /// `ttft_timeout`: until the first content of a stream, from the beginning of an attempt. Default none.
    pub ttft_timeout_ms: Option<u64>,
    /// `hedge_after`: silence after which a second deployment is asked beside the first. Default none.
    pub hedge_after_ms: Option<u64>,
    /// `retry_budget`: retries and hedges, as a share of the requests; ten a second are free. Default 0.2.
    pub retry_budget: f64,
    /// `max_parallel_requests`: calls to all providers together under way at once. Default none.
    pub max_parallel_requests: Option<u32>,
    /// `requests_per_second`: calls to all providers together in any second. Default none.
    pub requests_per_second: Option<u32>,
    /// `rpm`: the same in a minute.
    pub rpm: Option<u64>,
    /// `tpm`: tokens of all models together in a minute.
    pub tpm: Option<u64>,
    /// `queue`: requests that may wait for room under a limit; the next one gets 429. Writing it makes the deployments'
    /// rpm and tpm limits. Default 1000.
    pub queue: Option<u32>,
    /// `queue_timeout`: how long one waits. Default 30 s.
    pub queue_timeout_ms: u64,
}

/// `queue` when it is not written.
pub const QUEUE_DEFAULT: u32 = 1_000;

impl Default for GatewaySettings {
    fn default() -> Self {
        GatewaySettings {
            response_model: ResponseModel::Client,
            reasoning_field: ReasoningField::ReasoningContent,
            stream_keepalive_ms: 15_000,
            upstream_ca_file: None,
            upstream_http2: false,
            admin_port: None,
            admin_host: None,
            access_log: AccessLog::Text,
            grace_period_ms: 600_000,
            connect_timeout_ms: 5_000,
            stream_idle_timeout_ms: 300_000,
            body_timeout_ms: 60_000,
            header_timeout_ms: 10_000,
            keepalive_timeout_ms: 75_000,
            header_bytes_max: 64 << 10,
            json_depth_max: 128,
            buffered_bytes_max: 512 << 20,
            dns_refresh_ms: 30_000,
            upstream_idle_timeout_ms: 30_000,
            h2c: false,
            frame_bytes_max: 16 << 20,
            watch: false,
            ttft_timeout_ms: None,
            hedge_after_ms: None,
            retry_budget: 0.2,
            max_parallel_requests: None,
            requests_per_second: None,
            rpm: None,
            tpm: None,
            queue: None,
            queue_timeout_ms: 30_000,
        }
    }
}

/// The model name answers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseModel {
    /// The name the client sent, as LiteLLM does.
    Client,
    /// The name the provider sent.
    Upstream,
}

/// Where a model's reasoning is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningField {
    /// In `reasoning_content`, as LiteLLM does.
    ReasoningContent,
    /// In `reasoning_content` and in `reasoning`.
    Both,
    /// Where the provider put it.
    Upstream,
}

/// The form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// One line of words.
    Text,
    /// One JSON object.
    Json,
    /// None.
    Off,
}
