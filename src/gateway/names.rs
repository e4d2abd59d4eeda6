//! Header names of the gateway's own, known to the compiler: a name given as text is parsed for every request.

use http::HeaderName;

/// The gateway's or the client's name for a call.
pub static CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
/// The gateway's or the upstream's name for a request.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How many retries were made.
pub static ATTEMPTED_RETRIES: HeaderName = HeaderName::from_static("x-litellm-attempted-retries");
/// How many fallbacks were made.
pub static ATTEMPTED_FALLBACKS: HeaderName = HeaderName::from_static("x-litellm-attempted-fallbacks");
/// The group that served.
pub static MODEL_GROUP: HeaderName = HeaderName::from_static("x-litellm-model-group");
/// The deployment that served.
pub static MODEL_ID: HeaderName = HeaderName::from_static("x-litellm-model-id");
/// Milliseconds that were the gateway's own.
pub static OVERHEAD_MS: HeaderName = HeaderName::from_static("x-litellm-overhead-duration-ms");
/// What became of a second attempt beside a first.
pub static HEDGE: HeaderName = HeaderName::from_static("x-gateway-hedge");
/// Parameters that were not sent.
pub static DROPPED_PARAMS: HeaderName = HeaderName::from_static("x-gateway-dropped-params");
/// Whether an SDK should try again by itself.
pub static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Retry-After in milliseconds.
pub static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells nginx not to hold a stream back.
pub static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The client's own time limit in seconds.
pub static TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-timeout");
/// The client's own number of retries.
pub static NUM_RETRIES: HeaderName = HeaderName::from_static("x-litellm-num-retries");
