//! What `litellm_settings`, `router_settings` and `general_settings` say, merged into one plain value.
//!
//! Units and defaults are here; where a value was written and which section wins is the walk's business.

use super::scalar::MIB;

/// Settings for all deployments.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `litellm_settings.drop_params`: drop what a model does not take instead of refusing it. LiteLLM: false.
    pub drop_params: bool,
    /// `litellm_settings.additional_drop_params`: dropped for every deployment.
    pub additional_drop_params: Vec<String>,
    /// `router_settings.timeout`, else `litellm_settings.request_timeout`: milliseconds to the first byte. LiteLLM: 6,000 s.
    pub request_timeout_ms: Option<u64>,
    /// `router_settings.stream_timeout`: the same for streamed requests.
    pub stream_timeout_ms: Option<u64>,
    /// `num_retries` of `router_settings`, else of `litellm_settings`, 0 to 100. LiteLLM: 2.
    pub num_retries: Option<u32>,
    /// `fallbacks`: model group -> groups to try next, in order; `*` stands for every group without a list of its own.
    pub fallbacks: Vec<(String, Vec<String>)>,
    /// `default_fallbacks`: tried for groups without a list of their own.
    pub default_fallbacks: Vec<String>,
    /// `context_window_fallbacks`: for prompts that are too long.
    pub context_window_fallbacks: Vec<(String, Vec<String>)>,
    /// `content_policy_fallbacks`: for prompts a provider refuses.
    pub content_policy_fallbacks: Vec<(String, Vec<String>)>,
    /// `allowed_fails` before a deployment rests. LiteLLM: 3.
    pub allowed_fails: Option<u32>,
    /// `cooldown_time`: milliseconds a deployment rests; 0 (also from `disable_cooldowns: true`) means never. LiteLLM: 5 s.
    pub cooldown_time_ms: Option<u64>,
    /// `retry_after`: the least pause before a retry, in milliseconds. LiteLLM: 0.
    pub retry_after_ms: Option<u64>,
    /// `routing_strategy` within a group. LiteLLM: simple-shuffle.
    pub strategy: Strategy,
    /// `model_group_alias`: further names. Every chain of aliases ends at a name that is served.
    pub aliases: Vec<Alias>,
    /// `general_settings.forward_client_headers_to_llm_api`. LiteLLM: false.
    pub forward_client_headers: bool,
    /// `general_settings.always_include_stream_usage`: every stream ends with its usage. LiteLLM: false.
    pub always_include_stream_usage: bool,
    /// `general_settings.max_request_size_mb` in bytes. LiteLLM: no limit; here 32 MiB, NanoGPT's own.
    pub body_bytes_max: u64,
    /// `general_settings.global_max_parallel_requests`: calls to all providers together under way at once.
    pub max_parallel_requests: Option<u32>,
    /// `enforce_model_rate_limits` among `router_settings.optional_pre_call_checks`: rpm and tpm are limits.
    pub enforces_rate_limits: bool,
    /// `general_settings.allow_requests_on_db_unavailable` as written. It never opens the door here: only to be told.
    pub opens_without_database: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            drop_params: false,
            additional_drop_params: Vec::new(),
            request_timeout_ms: None,
            stream_timeout_ms: None,
            num_retries: None,
            fallbacks: Vec::new(),
            default_fallbacks: Vec::new(),
            context_window_fallbacks: Vec::new(),
            content_policy_fallbacks: Vec::new(),
            allowed_fails: None,
            cooldown_time_ms: None,
            retry_after_ms: None,
            strategy: Strategy::SimpleShuffle,
            aliases: Vec::new(),
            forward_client_headers: false,
            always_include_stream_usage: false,
            body_bytes_max: 32 * MIB as u64,
            max_parallel_requests: None,
            enforces_rate_limits: false,
            opens_without_database: false,
        }
    }
}

/// How one of a group's deployments is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// At random, by weight.
    #[default]
    SimpleShuffle,
    /// The one with the fewest requests under way.
    LeastBusy,
    /// The one that answers fastest.
    LatencyBased,
    /// The one with the most of its rpm/tpm left.
    UsageBased,
}

/// A further name for a model group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// What clients may ask for.
    pub name: String,
    /// A model group, another alias, or anything else a client could ask for.
    pub target: String,
    /// Not listed by `/v1/models`.
    pub hidden: bool,
}
