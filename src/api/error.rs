//! The catalogue of errors a client can see: one row each, with its status, type, code and Anthropic type.
//!
//! Rooms name a row and add a sentence; `render` writes it in the client's dialect. Nothing here decides when.

use bytes::Bytes;

/// One kind of error.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status.
    pub status: u16,
    /// `error.type` of the OpenAI envelope.
    pub kind: &'static str,
    /// `error.code` of the OpenAI envelope; empty means null.
    pub code: &'static str,
    /// `error.type` of the Anthropic envelope (platform.claude.com, "Errors", 2026-11).
    pub anthropic: &'static str,
    /// Whether the same request may succeed later; sent as `x-should-retry`, which OpenAI's and Anthropic's SDKs obey.
    pub retry_helps: bool,
}

const fn row(status: u16, kind: &'static str, code: &'static str, anthropic: &'static str, retry_helps: bool) -> Row {
    Row { status, kind, code, anthropic, retry_helps }
}

const INVALID: &str = "invalid_request_error";

/// No key, or one that is not ours.
pub static UNAUTHORIZED: Row = row(401, "auth_error", "401", "authentication_error", false);
/// A request that cannot be understood.
pub static BAD_REQUEST: Row = row(400, INVALID, "400", INVALID, false);
/// The model name is unknown, missing or not text.
pub static MODEL_NOT_FOUND: Row = row(400, INVALID, "model_not_found", INVALID, false);
/// A parameter the model does not take, while dropping is off.
pub static UNSUPPORTED_PARAMETER: Row = row(400, INVALID, "unsupported_parameter", INVALID, false);
/// A field that would let a client steer the upstream call.
pub static REFUSED_FIELD: Row = row(400, INVALID, "refused_field", INVALID, false);
/// No such route.
pub static NOT_FOUND: Row = row(404, INVALID, "404", "not_found_error", false);
/// The route exists for other methods.
pub static METHOD_NOT_ALLOWED: Row = row(405, INVALID, "405", INVALID, false);
/// The body did not arrive in time.
pub static BODY_TIMEOUT: Row = row(408, INVALID, "request_timeout", "timeout_error", true);
/// The body is larger than allowed.
pub static TOO_LARGE: Row = row(413, INVALID, "request_too_large", "request_too_large", false);
/// A request encoding the gateway does not decode.
pub static UNSUPPORTED_ENCODING: Row = row(415, INVALID, "unsupported_content_encoding", INVALID, false);
/// The head is larger than allowed.
pub static HEAD_TOO_LARGE: Row = row(431, INVALID, "request_header_fields_too_large", INVALID, false);
/// A limit of the gateway or of all deployments is reached, and its queue is full or too slow.
pub static LIMITED: Row = row(429, "rate_limit_error", "gateway_rate_limited", "rate_limit_error", true);
/// A panic of ours, or an error that has no other name.
pub static INTERNAL: Row = row(500, "internal_server_error", "internal_error", "api_error", true);
/// The deployment's key is not configured.
pub static MISSING_CREDENTIALS: Row = row(500, "internal_server_error", "missing_credentials", "api_error", false);
/// A route that exists only with LiteLLM's database.
pub static NO_DATABASE: Row = row(501, INVALID, "not_implemented", "api_error", false);
/// No connection to the upstream, or one that broke before an answer.
pub static UNREACHABLE: Row = row(502, "upstream_error", "upstream_unreachable", "api_error", true);
/// An answer that is not what the route promises.
pub static INVALID_RESPONSE: Row = row(502, "upstream_error", "upstream_invalid_response", "api_error", true);
/// The upstream's stream ended without its end mark.
pub static STREAM_TRUNCATED: Row = row(502, "upstream_error", "upstream_stream_truncated", "api_error", true);
/// The upstream reported an error inside its stream.
pub static STREAM_ERROR: Row = row(502, "upstream_error", "upstream_error", "api_error", true);
/// Too much in memory at once.
pub static OVERLOADED: Row = row(503, "overloaded_error", "gateway_overloaded", "overloaded_error", true);
/// The upstream did not answer in time.
pub static TIMEOUT: Row = row(504, "upstream_timeout", "upstream_timeout", "timeout_error", true);

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError {
    /// Its kind.
    pub row: &'static Row,
    /// One or two sentences: what is wrong and, where known, what would be right. Never a secret or an address.
    pub message: String,
    /// The request member at fault.
    pub param: Option<String>,
    /// Seconds after which a retry makes sense.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error of this kind with these words.
    pub fn new(row: &'static Row, message: impl Into<String>) -> Self {
        ApiError { row, message: message.into(), param: None, retry_after_s: None }
    }

    /// The same, naming the request member at fault.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same, naming when to come again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// An error that an upstream answered, its parts as it wrote them (JSON texts).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The `message`, decoded.
    pub message: String,
    /// The `type` as JSON text.
    pub kind: Option<Bytes>,
    /// The `param` as JSON text.
    pub param: Option<Bytes>,
    /// The `code` as JSON text.
    pub code: Option<Bytes>,
    /// The body is already the dialect's whole envelope and may pass as it came.
    pub complete: bool,
}

/// The catalogue's type for an upstream status whose body named none.
pub fn kind_of_status(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "authentication_error"),
        402 => ("insufficient_quota", "billing_error"),
        403 => ("permission_error", "permission_error"),
        404 => ("not_found_error", "not_found_error"),
        408 | 504 => ("timeout_error", "timeout_error"),
        413 => (INVALID, "request_too_large"),
        429 => ("rate_limit_error", "rate_limit_error"),
        503 | 529 => ("overloaded_error", "overloaded_error"),
        400..=499 => (INVALID, INVALID),
        _ => ("server_error", "api_error"),
    }
}
