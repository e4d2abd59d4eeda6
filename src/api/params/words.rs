//! Every field name that means something to the gateway, and how a name is found among them.
//!
//! The tables state facts about LiteLLM 1.106.2 (read 2026-11-23): its standard chat fields are the keys of
//! `DEFAULT_CHAT_COMPLETION_PARAM_VALUES` (constants.py), what it keeps for itself are the typed options of
//! types/litellm_params.py plus what was observed on the wire, and what it refuses is `_BANNED_REQUEST_BODY_PARAMS`
//! (proxy/auth/auth_utils.py). A name in no table belongs to the upstream and is forwarded.

/// A field of LiteLLM's standard table: only these are ever compared with what a model supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Field {
    Audio,
    ContextManagement,
    Dimensions,
    FrequencyPenalty,
    FunctionCall,
    Functions,
    IncludeServerSideToolInvocations,
    LogitBias,
    Logprobs,
    MaxCompletionTokens,
    MaxTokens,
    Modalities,
    N,
    ParallelToolCalls,
    Prediction,
    PresencePenalty,
    PromptCacheKey,
    PromptCacheRetention,
    ReasoningEffort,
    ResponseFormat,
    SafetyIdentifier,
    Seed,
    ServiceTier,
    Stop,
    Store,
    Stream,
    StreamOptions,
    Temperature,
    Thinking,
    ToolChoice,
    Tools,
    TopLogprobs,
    TopP,
    User,
    Verbosity,
    WebSearchOptions,
}

/// A set of fields in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fields(u64);

impl Fields {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(fields: &[Field]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < fields.len() {
            bits |= 1 << fields[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    pub(super) const fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }

    pub(super) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// Why a field may not be in a request at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ban {
    Address,
    Credential,
    Header,
    Provider,
    Routing,
    Price,
    Mock,
}

impl Ban {
    /// The sentence a client reads.
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Address => "Which upstream is called is decided by the gateway's configuration.",
            Self::Credential => "Credentials for upstreams and other services come from the gateway's configuration.",
            Self::Header => "Headers for the upstream come from the gateway's configuration, not from a request body.",
            Self::Provider => "The provider of a model is decided by the gateway's configuration.",
            Self::Routing => "Models and their deployments are decided by the gateway's configuration.",
            Self::Price => "Prices come from the gateway's configuration.",
            Self::Mock => "The gateway does not simulate failures for a request.",
        }
    }
}

/// What a name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// In LiteLLM's standard table.
    Standard(Field),
    /// The request itself: never removed because of a list.
    Substance,
    /// Taken out of every body.
    Consumed,
    /// Taken out, except where the API has a field of this name.
    Metadata,
    /// Taken out, its members merged into the top level.
    ExtraBody,
    Banned(Ban),
    /// Not ours: forwarded.
    Unknown,
}

const STANDARD: &[(&str, Field)] = &[
    ("audio", Field::Audio),
    ("context_management", Field::ContextManagement),
    ("dimensions", Field::Dimensions),
    ("frequency_penalty", Field::FrequencyPenalty),
    ("function_call", Field::FunctionCall),
    ("functions", Field::Functions),
    ("include_server_side_tool_invocations", Field::IncludeServerSideToolInvocations),
    ("logit_bias", Field::LogitBias),
    ("logprobs", Field::Logprobs),
    ("max_completion_tokens", Field::MaxCompletionTokens),
    ("max_tokens", Field::MaxTokens),
    ("modalities", Field::Modalities),
    ("n", Field::N),
    ("parallel_tool_calls", Field::ParallelToolCalls),
    ("prediction", Field::Prediction),
    ("presence_penalty", Field::PresencePenalty),
    ("prompt_cache_key", Field::PromptCacheKey),
    ("prompt_cache_retention", Field::PromptCacheRetention),
    ("reasoning_effort", Field::ReasoningEffort),
    ("response_format", Field::ResponseFormat),
    ("safety_identifier", Field::SafetyIdentifier),
    ("seed", Field::Seed),
    ("service_tier", Field::ServiceTier),
    ("stop", Field::Stop),
    ("store", Field::Store),
    ("stream", Field::Stream),
    ("stream_options", Field::StreamOptions),
    ("temperature", Field::Temperature),
    ("thinking", Field::Thinking),
    ("tool_choice", Field::ToolChoice),
    ("tools", Field::Tools),
    ("top_logprobs", Field::TopLogprobs),
    ("top_p", Field::TopP),
    ("user", Field::User),
    ("verbosity", Field::Verbosity),
    ("web_search_options", Field::WebSearchOptions),
];

const SUBSTANCE: &[&str] = &["model", "messages", "prompt", "input"];

/// Observed on the wire first (reference, section E), then the rest of LiteLLM's own options.
const CONSUMED: &[&str] = &[
    "tags",
    "no-log",
    "ttl",
    "caching",
    "cache",
    "guardrails",
    "fallbacks",
    "num_retries",
    "max_retries",
    "timeout",
    "stream_timeout",
    "force_timeout",
    "request_timeout",
    "deployment_id",
    "context_window_fallback_dict",
    "disable_fallbacks",
    "base_model",
    "model_info",
    "api_version",
    "azure",
    "id",
    "priority",
    "rpm",
    "weight",
    "prompt_id",
    "preset_cache_key",
    "proxy_server_request",
    "provider_specific_header",
    "secret_fields",
    "logger_fn",
    "verbose",
    "acompletion",
    "ssl_verify",
    "merge_reasoning_content_in_choices",
    "enable_json_schema_validation",
    "allowed_openai_params",
    "additional_drop_params",
    "drop_params",
    "mock_response",
    "mock_tool_calls",
    "mock_delay",
    // not recorded, from the source
    "tpm",
    "itpm",
    "otpm",
    "order",
    "tag_regex",
    "silent_model",
    "max_parallel_requests",
    "default_api_key_rpm_limit",
    "default_api_key_tpm_limit",
    "max_file_size_mb",
    "retry_policy",
    "retry_strategy",
    "routing_strategy",
    "cooldown_time",
    "allowed_model_region",
    "enable_tag_filtering",
    "fastest_response",
    "provider_affinity_header",
    "search_tool_name",
    "use_litellm_proxy",
    "use_chat_completions_api",
    "use_in_pass_through",
    "use_client",
    "client",
    "shared_session",
    "region_name",
    "timeout_by_service_tier",
    "stream_timeout_by_service_tier",
    "enable_prompt_caching",
    "caching_groups",
    "cache_key",
    "cache_control_injection_points",
    "cost_per_query",
    "max_budget",
    "budget_duration",
    "log_client_error_tracebacks",
    "max_agentic_loops",
    "prompt_variables",
    "prompt_version",
    "prompt_environment",
    "prompt_label",
    "custom_prompt_dict",
    "roles",
    "final_prompt_value",
    "bos_token",
    "eos_token",
    "hf_model_name",
    "supports_system_message",
    "ensure_alternating_roles",
    "user_continue_message",
    "assistant_continue_message",
    "disable_add_transform_inline_image_block",
    "complete_response",
    "keepalive_seconds",
    "allow_client_keepalive_override",
    "stream_chunk_size",
    "completion_call_id",
    "model_alias_map",
    "data_residency",
    "stream_response",
    "self",
    "model_config",
];

const BANNED: &[(&str, Ban)] = &[
    ("api_base", Ban::Address),
    ("base_url", Ban::Address),
    ("deployment_url", Ban::Address),
    ("sagemaker_base_url", Ban::Address),
    ("s3_endpoint_url", Ban::Address),
    ("aws_sts_endpoint", Ban::Address),
    ("aws_bedrock_runtime_endpoint", Ban::Address),
    ("api_key", Ban::Credential),
    ("organization", Ban::Credential),
    ("azure_ad_token", Ban::Credential),
    ("azure_ad_token_provider", Ban::Credential),
    ("azure_username", Ban::Credential),
    ("azure_password", Ban::Credential),
    ("tenant_id", Ban::Credential),
    ("client_id", Ban::Credential),
    ("client_secret", Ban::Credential),
    ("litellm_credential_name", Ban::Credential),
    ("configurable_clientside_auth_params", Ban::Credential),
    ("aws_access_key_id", Ban::Credential),
    ("aws_secret_access_key", Ban::Credential),
    ("aws_session_token", Ban::Credential),
    ("aws_web_identity_token", Ban::Credential),
    ("aws_role_name", Ban::Credential),
    ("aws_profile_name", Ban::Credential),
    ("aws_session_name", Ban::Credential),
    ("aws_external_id", Ban::Credential),
    ("aws_session_tags", Ban::Credential),
    ("vertex_credentials", Ban::Credential),
    ("vertex_ai_credentials", Ban::Credential),
    ("gcs_bucket_name", Ban::Credential),
    ("gcs_path_service_account", Ban::Credential),
    ("headers", Ban::Header),
    ("extra_headers", Ban::Header),
    ("default_headers", Ban::Header),
    ("custom_llm_provider", Ban::Provider),
    ("user_config", Ban::Routing),
    ("model_list", Ban::Routing),
    ("cost_per_second", Ban::Price),
    ("mock_timeout", Ban::Mock),
    ("mock_testing_fallbacks", Ban::Mock),
    ("mock_testing_context_fallbacks", Ban::Mock),
    ("mock_testing_content_policy_fallbacks", Ban::Mock),
    ("mock_testing_rate_limit_error", Ban::Mock),
];

/// Families of names too large to list, looked at when no whole name matched.
const PREFIXES: &[(&str, Word)] = &[
    ("_litellm_", Word::Consumed),
    ("litellm_", Word::Consumed),
    ("aws_", Word::Consumed),
    ("vertex_", Word::Consumed),
    ("auto_router_", Word::Consumed),
    ("complexity_router_", Word::Consumed),
    ("adaptive_router_", Word::Consumed),
    ("quality_router_", Word::Consumed),
    ("anthropic_federation_", Word::Banned(Ban::Credential)),
    ("anthropic_identity_", Word::Banned(Ban::Credential)),
    ("langfuse_", Word::Banned(Ban::Credential)),
    ("langsmith_", Word::Banned(Ban::Credential)),
    ("arize_", Word::Banned(Ban::Credential)),
    ("posthog_", Word::Banned(Ban::Credential)),
    ("input_cost_per_", Word::Banned(Ban::Price)),
    ("output_cost_per_", Word::Banned(Ban::Price)),
    ("cache_creation_input_", Word::Banned(Ban::Price)),
    ("cache_read_input_", Word::Banned(Ban::Price)),
];

const COUNT: usize = STANDARD.len() + SUBSTANCE.len() + CONSUMED.len() + BANNED.len() + 2;
const LENGTH_MAX: usize = 48;

/// All whole names, those of one length side by side: a name is compared with the few that are as long.
struct Index {
    /// Where the names of each length start; one more to end the last.
    starts: [u16; LENGTH_MAX + 2],
    names: [(&'static str, Word); COUNT],
}

static INDEX: Index = Index::build();

impl Index {
    const fn build() -> Self {
        let listed = listed();
        let mut starts = [0; LENGTH_MAX + 2];
        let mut at = 0;
        while at < COUNT {
            starts[listed[at].0.len() + 1] += 1;
            at += 1;
        }
        let mut length = 1;
        while length < starts.len() {
            starts[length] += starts[length - 1];
            length += 1;
        }
        let mut free = starts;
        let mut names = [("", Word::Unknown); COUNT];
        at = 0;
        while at < COUNT {
            let length = listed[at].0.len();
            names[free[length] as usize] = listed[at];
            free[length] += 1;
            at += 1;
        }
        Self { starts, names }
    }
}

/// The tables as one.
const fn listed() -> [(&'static str, Word); COUNT] {
    let mut all = [("", Word::Unknown); COUNT];
    all[0] = ("extra_body", Word::ExtraBody);
    all[1] = ("metadata", Word::Metadata);
    let (mut next, mut at) = (2, 0);
    while at < STANDARD.len() {
        all[next] = (STANDARD[at].0, Word::Standard(STANDARD[at].1));
        (next, at) = (next + 1, at + 1);
    }
    at = 0;
    while at < SUBSTANCE.len() {
        all[next] = (SUBSTANCE[at], Word::Substance);
        (next, at) = (next + 1, at + 1);
    }
    at = 0;
    while at < CONSUMED.len() {
        all[next] = (CONSUMED[at], Word::Consumed);
        (next, at) = (next + 1, at + 1);
    }
    at = 0;
    while at < BANNED.len() {
        all[next] = (BANNED[at].0, Word::Banned(BANNED[at].1));
        (next, at) = (next + 1, at + 1);
    }
    all
}

/// What `name` means. Exact: case and spelling count, as in LiteLLM.
pub(super) fn word(name: &str) -> Word {
    if let Some(ends) = INDEX.starts.get(name.len()..name.len() + 2) {
        let same_length = &INDEX.names[usize::from(ends[0])..usize::from(ends[1])];
        if let Some((_, word)) = same_length.iter().find(|(known, _)| *known == name) {
            return *word;
        }
    }
    PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(Word::Unknown, |(_, word)| *word)
}

/// The name of a standard field.
pub(super) fn name_of(field: Field) -> &'static str {
    STANDARD.iter().find(|(_, listed)| *listed == field).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_found_once() {
        let names = listed();
        for (at, (name, meaning)) in names.iter().enumerate() {
            assert_eq!(word(name), *meaning, "{name}");
            assert!(!names[at + 1..].iter().any(|(other, _)| other == name), "{name} is listed twice");
        }
    }

    #[test]
    fn names_are_exact() {
        for name in ["", "Model", "temperature ", "top_k", "foo_bar", "min_p", "reasoning", "provider", "memory"] {
            assert_eq!(word(name), Word::Unknown, "{name}");
        }
        assert_eq!(word(&"x".repeat(LENGTH_MAX)), Word::Unknown);
        assert_eq!(word(&"x".repeat(LENGTH_MAX + 1)), Word::Unknown);
        assert_eq!(word(&"x".repeat(5000)), Word::Unknown);
    }

    #[test]
    fn families_of_names() {
        assert_eq!(word("litellm_trace_id"), Word::Consumed);
        assert_eq!(word("aws_region_name"), Word::Consumed);
        assert_eq!(word("aws_role_name"), Word::Banned(Ban::Credential));
        assert_eq!(word("input_cost_per_token"), Word::Banned(Ban::Price));
        assert_eq!(word("langfuse_host"), Word::Banned(Ban::Credential));
    }

    #[test]
    fn sets() {
        let some = Fields::of(&[Field::N, Field::WebSearchOptions]);
        assert!(some.has(Field::N) && some.has(Field::WebSearchOptions) && !some.has(Field::User));
        assert!(!some.without(Fields::of(&[Field::N])).has(Field::N));
        assert!(Fields::NONE.and(some).has(Field::N));
    }
}
