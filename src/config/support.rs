//! Every key of LiteLLM's file, its flags and its variables, with what becomes of it here; and our own keys.
//!
//! One table, so that "is this supported?" has one answer for the reader of the file, for `check` and for the docs. It
//! holds no code that acts on a key. Source: docs.litellm.ai/docs/proxy/config_settings, LiteLLM's `types/router.py` and
//! `proxy_server.py`, read on 2026-11-23, and what is known of keys those pages leave out.

use super::nearest::nearest;

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The top level of the file.
    Top,
    /// An entry of `model_list`.
    Entry,
    /// `litellm_params` of an entry.
    Params,
    /// `model_info` of an entry; any other key is kept and shown too.
    Info,
    /// `litellm_settings`.
    Litellm,
    /// `router_settings`.
    Router,
    /// `general_settings`.
    General,
    /// `gateway_settings`: ours.
    Gateway,
    /// A command-line flag, without its dashes.
    Flag,
    /// An environment variable.
    Variable,
}

impl Section {
    /// How messages speak of it.
    pub fn name(self) -> &'static str {
        match self {
            Section::Top => "the top level",
            Section::Entry => "the entry itself, beside `model_name`",
            Section::Params => "`litellm_params` of a model",
            Section::Info => "`model_info` of a model",
            Section::Litellm => "`litellm_settings`",
            Section::Router => "`router_settings`",
            Section::General => "`general_settings`",
            Section::Gateway => "`gateway_settings`",
            Section::Flag => "the command line",
            Section::Variable => "the environment",
        }
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It works; the text is the shape of its value.
    Honoured(&'static str),
    /// A request parameter: kept as the deployment's default.
    Parameter,
    /// Accepted, without effect and without loss; the text says why.
    Unused(&'static str),
    /// Not supported; the text says what happens instead. A warning.
    Unsupported(&'static str),
    /// Going on without it would change who gets in or where data goes; the text says what to do. An error.
    Refused(&'static str),
    /// Switching it off is refused, switching it on is how it is anyway.
    AlwaysOn(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Where it belongs.
    pub section: Section,
    /// The key as written.
    pub key: &'static str,
    /// What becomes of it.
    pub status: Status,
}

/// Every row, section by section.
pub fn rows() -> &'static [Row] {
    ROWS
}

pub(super) fn find(section: Section, key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.section == section && row.key == key)
}

/// Another section of the file in which the key would be at home. The common ones come first.
pub(super) fn elsewhere(section: Section, key: &str) -> Option<Section> {
    use Section::*;
    let homes = match section {
        Entry | Params | Info => [Params, Entry, Info, Top, General, Litellm, Router, Gateway],
        _ => [Top, General, Litellm, Router, Gateway, Params, Entry, Info],
    };
    let status = |home: &Section| find(*home, key).map(|row| row.status);
    let honoured = |home: &Section| matches!(status(home), Some(Status::Honoured(_)));
    let parameter = |home: &Section| section == Entry && status(home) == Some(Status::Parameter);
    let known = |home: &Section| status(home).is_some_and(|status| status != Status::Parameter);
    let others = || homes.into_iter().filter(|home| *home != section);
    others().find(honoured).or_else(|| others().find(parameter)).or_else(|| others().find(known))
}

pub(super) fn nearest_key(section: Section, key: &str) -> Option<&'static Row> {
    let keys = ROWS.iter().filter(|row| row.section == section).map(|row| row.key);
    nearest(key, keys).and_then(|key| find(section, key))
}

const fn row(section: Section, key: &'static str, status: Status) -> Row {
    Row { section, key, status }
}

use Section::*;
use Status::*;

const CALLBACKS: &str = "callbacks are not run; see `/metrics` on the admin port and the access log";
const DATABASE: &str = "there is no database";
const BUDGETS: &str = "there are no budgets: nothing limits what is spent, set limits at the provider";
const VIRTUAL: &str = "there are no virtual keys, users or teams; the master key is the only key";
const CACHE: &str = "answers are not cached; every request goes upstream";
const NO_HEALTH_PROBES: &str = "models are never probed; health is what live traffic shows";
const NO_UI: &str = "there is no admin UI";
const FOREIGN_KEY: &str = "it belongs to a provider whose wire is not OpenAI's and is not sent anywhere";
const ROUTER_MODEL: &str = "requests are not routed by content or tags; clients name a model group";
const ENTERPRISE: &str = "requests are not checked for it";
const PRICES: &str = "costs are taken from the provider's answers; shown by /v1/model/info as written";
const ALERTS: &str = "alerts are not sent; watch `/metrics` on the admin port";
const SECRET_STORE: &str = "keys are read from the environment only; put them there and write `os.environ/NAME`";
const SHARED_REDIS: &str = "state is per process; nothing is shared through Redis";

static ROWS: &[Row] = &[
    // The top level.
    row(Top, "model_list", Honoured("list of entries")),
    row(Top, "litellm_settings", Honoured("mapping")),
    row(Top, "router_settings", Honoured("mapping")),
    row(Top, "general_settings", Honoured("mapping")),
    row(Top, "environment_variables", Honoured("mapping of names to texts")),
    row(Top, "gateway_settings", Honoured("mapping")),
    row(
        Top,
        "include",
        Refused(
            "one file is read only, so the models in the others would be missing; copy their content into this one",
        ),
    ),
    row(
        Top,
        "guardrails",
        Refused(
            "guardrails are not run, so data they hold back would reach the provider; remove the key to accept that",
        ),
    ),
    row(Top, "policies", Refused("policies are not applied; remove the key to accept that")),
    row(Top, "policy_attachments", Refused("policies are not applied; remove the key to accept that")),
    row(
        Top,
        "credential_list",
        Refused("named credentials are not supported; write `api_key` and `api_base` into the models"),
    ),
    row(Top, "callback_settings", Unsupported(CALLBACKS)),
    row(Top, "mcp_servers", Unsupported("MCP servers are not proxied; connect clients to them directly")),
    row(Top, "mcp_tools", Unsupported("MCP tools are not proxied; connect clients to them directly")),
    row(Top, "vector_store_registry", Unsupported("vector stores are not searched")),
    row(Top, "search_tools", Unsupported("search tools are not offered; NanoGPT's `:online` suffix searches")),
    row(Top, "fetch_tools", Unsupported("fetch tools are not offered")),
    row(Top, "prompts", Unsupported("prompts are not managed; clients send them")),
    row(Top, "files_settings", Unsupported("/v1/files is not served")),
    row(Top, "finetune_settings", Unsupported("/v1/fine_tuning is not served")),
    row(Top, "assistant_settings", Unsupported("/v1/assistants is not served")),
    row(Top, "agent_list", Unsupported("agents are not served")),
    row(Top, "agents", Unsupported("agents are not served")),
    row(Top, "skills", Unsupported("skills are not served")),
    row(Top, "worker_registry", Unsupported("there are no remote workers")),
    row(Top, "router_config", Unsupported("write it as `router_settings`")),
    // An entry of model_list.
    row(Entry, "model_name", Honoured("text, `*` as a wildcard")),
    row(Entry, "litellm_params", Honoured("mapping")),
    row(Entry, "model_info", Honoured("mapping")),
    // litellm_params: the deployment.
    row(Params, "model", Honoured("`provider/name`")),
    row(Params, "api_base", Honoured("URL up to the route")),
    row(Params, "base_url", Honoured("the same as api_base")),
    row(Params, "api_key", Honoured("text, usually os.environ/NAME")),
    row(Params, "custom_llm_provider", Honoured("provider, when `model` has no prefix")),
    row(Params, "organization", Honoured("text")),
    row(Params, "extra_headers", Honoured("mapping of header names to texts")),
    row(Params, "extra_body", Honoured("mapping of default request parameters")),
    row(Params, "drop_params", Honoured("true or false")),
    row(Params, "additional_drop_params", Honoured("list of names or paths")),
    row(Params, "allowed_openai_params", Honoured("list of names")),
    row(Params, "timeout", Honoured("seconds")),
    row(Params, "request_timeout", Honoured("seconds, the same as timeout")),
    row(Params, "stream_timeout", Honoured("seconds")),
    row(Params, "max_retries", Honoured("whole number")),
    row(Params, "weight", Honoured("number")),
    row(Params, "order", Honoured("whole number")),
    row(Params, "rpm", Honoured("whole number")),
    row(Params, "tpm", Honoured("whole number")),
    row(Params, "max_parallel_requests", Honoured("whole number")),
    row(
        Params,
        "ssl_verify",
        AlwaysOn("certificates are always verified; for a private authority set `gateway_settings.upstream_ca_file`"),
    ),
    row(
        Params,
        "litellm_credential_name",
        Refused("named credentials are not supported; write `api_key` and `api_base` here"),
    ),
    row(
        Params,
        "use_litellm_proxy",
        Refused("write the other proxy's address as `api_base` and use `openai/` or `litellm_proxy/`"),
    ),
    row(
        Params,
        "guardrails",
        Refused(
            "guardrails are not run, so data they hold back would reach the provider; remove the key to accept that",
        ),
    ),
    row(Params, "headers", Unsupported("use `extra_headers`")),
    row(Params, "stream", Unsupported("clients decide whether an answer is streamed")),
    row(Params, "metadata", Unsupported("it is LiteLLM's own and never sent upstream")),
    row(Params, "default_headers", Unsupported("use `extra_headers`")),
    row(Params, "extra_query", Unsupported("nothing is added to the query")),
    row(Params, "num_retries", Unsupported("set it in `router_settings`, for all models")),
    row(Params, "fallbacks", Unsupported("set them in `litellm_settings` by model name")),
    row(Params, "cooldown_time", Unsupported("set it in `router_settings`, for all models")),
    row(
        Params,
        "configurable_clientside_auth_params",
        Unsupported("clients that send their own api_key or api_base get 400"),
    ),
    row(
        Params,
        "merge_reasoning_content_in_choices",
        Unsupported("reasoning keeps its own field, see `gateway_settings.reasoning_field`"),
    ),
    row(Params, "mock_response", Unsupported("the provider is called; `nanogate demo` has a scripted one")),
    row(Params, "mock_timeout", Unsupported("the provider is called")),
    row(Params, "mock_tool_calls", Unsupported("the provider is called")),
    row(Params, "max_budget", Unsupported(BUDGETS)),
    row(Params, "budget_duration", Unsupported(BUDGETS)),
    row(Params, "itpm", Unsupported("use `tpm`")),
    row(Params, "otpm", Unsupported("use `tpm`")),
    row(Params, "default_api_key_tpm_limit", Unsupported(VIRTUAL)),
    row(Params, "default_api_key_rpm_limit", Unsupported(VIRTUAL)),
    row(Params, "max_file_size_mb", Unsupported("use `general_settings.max_request_size_mb`")),
    row(Params, "tags", Unsupported(ROUTER_MODEL)),
    row(Params, "tag_regex", Unsupported(ROUTER_MODEL)),
    row(Params, "auto_router_config", Unsupported(ROUTER_MODEL)),
    row(Params, "auto_router_config_path", Unsupported(ROUTER_MODEL)),
    row(Params, "auto_router_default_model", Unsupported(ROUTER_MODEL)),
    row(Params, "auto_router_embedding_model", Unsupported(ROUTER_MODEL)),
    row(Params, "complexity_router_config", Unsupported(ROUTER_MODEL)),
    row(Params, "complexity_router_default_model", Unsupported(ROUTER_MODEL)),
    row(Params, "region_name", Unsupported(ROUTER_MODEL)),
    row(Params, "cache", Unsupported(CACHE)),
    row(Params, "caching", Unsupported(CACHE)),
    row(Params, "cache_control_injection_points", Unsupported("messages are passed as they come")),
    row(Params, "prompt_id", Unsupported("prompts are not managed; clients send them")),
    row(Params, "prompt_variables", Unsupported("prompts are not managed; clients send them")),
    row(Params, "vector_store_ids", Unsupported("vector stores are not searched")),
    row(Params, "use_chat_completions_api", Unsupported("/v1/responses goes to the provider's own /responses")),
    row(Params, "keepalive_seconds", Unsupported("use `gateway_settings.stream_keepalive`")),
    row(Params, "allow_client_keepalive_override", Unsupported("use `gateway_settings.stream_keepalive`")),
    row(Params, "use_in_pass_through", Unsupported("there are no pass-through routes")),
    row(Params, "provider_affinity_header", Unsupported("it is not sent")),
    row(Params, "model_info", Unsupported("it belongs beside `litellm_params`")),
    row(Params, "ssl_certificate", Unsupported("client certificates are not sent")),
    row(Params, "api_version", Unsupported(FOREIGN_KEY)),
    row(Params, "api_type", Unsupported(FOREIGN_KEY)),
    row(Params, "azure_ad_token", Unsupported(FOREIGN_KEY)),
    row(Params, "tenant_id", Unsupported(FOREIGN_KEY)),
    row(Params, "client_id", Unsupported(FOREIGN_KEY)),
    row(Params, "client_secret", Unsupported(FOREIGN_KEY)),
    row(Params, "azure_username", Unsupported(FOREIGN_KEY)),
    row(Params, "azure_password", Unsupported(FOREIGN_KEY)),
    row(Params, "azure_scope", Unsupported(FOREIGN_KEY)),
    row(Params, "vertex_project", Unsupported(FOREIGN_KEY)),
    row(Params, "vertex_location", Unsupported(FOREIGN_KEY)),
    row(Params, "vertex_credentials", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_access_key_id", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_secret_access_key", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_session_token", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_region_name", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_profile_name", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_role_name", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_session_name", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_web_identity_token", Unsupported(FOREIGN_KEY)),
    row(Params, "aws_bedrock_runtime_endpoint", Unsupported(FOREIGN_KEY)),
    row(Params, "watsonx_region_name", Unsupported(FOREIGN_KEY)),
    row(Params, "gcs_bucket_name", Unsupported(FOREIGN_KEY)),
    row(Params, "input_cost_per_token", Unused(PRICES)),
    row(Params, "output_cost_per_token", Unused(PRICES)),
    row(Params, "input_cost_per_second", Unused(PRICES)),
    row(Params, "output_cost_per_second", Unused(PRICES)),
    row(Params, "input_cost_per_pixel", Unused(PRICES)),
    row(Params, "output_cost_per_pixel", Unused(PRICES)),
    row(Params, "output_cost_per_reasoning_token", Unused(PRICES)),
    row(Params, "cache_read_input_token_cost", Unused(PRICES)),
    row(Params, "cache_creation_input_token_cost", Unused(PRICES)),
    row(Params, "no-log", Unused("bodies are never logged")),
    row(Params, "litellm_trace_id", Unused("requests carry their own ids")),
    row(Params, "modify_params", Unused("messages are passed as they come")),
    row(Params, "supports_system_message", Unused("messages are passed as they come")),
    row(Params, "use_xai_oauth", Unused("only API keys are used")),
    // litellm_params: default request parameters, OpenAI's and those NanoGPT, OpenRouter and vLLM document.
    row(Params, "temperature", Parameter),
    row(Params, "top_p", Parameter),
    row(Params, "max_tokens", Parameter),
    row(Params, "max_completion_tokens", Parameter),
    row(Params, "max_output_tokens", Parameter),
    row(Params, "n", Parameter),
    row(Params, "seed", Parameter),
    row(Params, "stop", Parameter),
    row(Params, "stream_options", Parameter),
    row(Params, "user", Parameter),
    row(Params, "tools", Parameter),
    row(Params, "tool_choice", Parameter),
    row(Params, "parallel_tool_calls", Parameter),
    row(Params, "functions", Parameter),
    row(Params, "function_call", Parameter),
    row(Params, "response_format", Parameter),
    row(Params, "frequency_penalty", Parameter),
    row(Params, "presence_penalty", Parameter),
    row(Params, "repetition_penalty", Parameter),
    row(Params, "logit_bias", Parameter),
    row(Params, "logprobs", Parameter),
    row(Params, "top_logprobs", Parameter),
    row(Params, "modalities", Parameter),
    row(Params, "audio", Parameter),
    row(Params, "prediction", Parameter),
    row(Params, "reasoning_effort", Parameter),
    row(Params, "reasoning", Parameter),
    row(Params, "include_reasoning", Parameter),
    row(Params, "reasoning_split", Parameter),
    row(Params, "thinking", Parameter),
    row(Params, "enable_thinking", Parameter),
    row(Params, "verbosity", Parameter),
    row(Params, "service_tier", Parameter),
    row(Params, "store", Parameter),
    row(Params, "safety_identifier", Parameter),
    row(Params, "prompt_cache_key", Parameter),
    row(Params, "prompt_cache_retention", Parameter),
    row(Params, "web_search_options", Parameter),
    row(Params, "encoding_format", Parameter),
    row(Params, "dimensions", Parameter),
    row(Params, "input_type", Parameter),
    row(Params, "truncate", Parameter),
    row(Params, "best_of", Parameter),
    row(Params, "echo", Parameter),
    row(Params, "suffix", Parameter),
    row(Params, "top_k", Parameter),
    row(Params, "top_a", Parameter),
    row(Params, "min_p", Parameter),
    row(Params, "min_tokens", Parameter),
    row(Params, "typical_p", Parameter),
    row(Params, "mirostat_mode", Parameter),
    row(Params, "mirostat_tau", Parameter),
    row(Params, "mirostat_eta", Parameter),
    row(Params, "stop_token_ids", Parameter),
    row(Params, "ignore_eos", Parameter),
    row(Params, "skip_special_tokens", Parameter),
    row(Params, "guided_json", Parameter),
    row(Params, "guided_regex", Parameter),
    row(Params, "guided_choice", Parameter),
    row(Params, "guided_grammar", Parameter),
    row(Params, "chat_template_kwargs", Parameter),
    row(Params, "provider", Parameter),
    row(Params, "providerOptions", Parameter),
    row(Params, "transforms", Parameter),
    row(Params, "models", Parameter),
    row(Params, "route", Parameter),
    row(Params, "plugins", Parameter),
    row(Params, "usage", Parameter),
    row(Params, "cache_control", Parameter),
    row(Params, "prompt_caching", Parameter),
    row(Params, "billing_mode", Parameter),
    row(Params, "billingMode", Parameter),
    row(Params, "memory", Parameter),
    row(Params, "linkup", Parameter),
    row(Params, "scraping", Parameter),
    row(Params, "keep_alive", Parameter),
    row(Params, "num_ctx", Parameter),
    row(Params, "size", Parameter),
    row(Params, "quality", Parameter),
    row(Params, "style", Parameter),
    row(Params, "voice", Parameter),
    row(Params, "speed", Parameter),
    row(Params, "language", Parameter),
    row(Params, "instructions", Parameter),
    // model_info.
    row(Info, "id", Honoured("text, unique in the file")),
    row(Info, "mode", Honoured("chat, completion, embedding, image_generation …")),
    row(Info, "base_model", Honoured("text, shown")),
    row(Info, "description", Honoured("text, shown")),
    row(Info, "max_tokens", Honoured("whole number, shown")),
    row(Info, "max_input_tokens", Honoured("whole number, shown")),
    row(Info, "max_output_tokens", Honoured("whole number, shown")),
    row(Info, "input_cost_per_token", Honoured("number, shown")),
    row(Info, "output_cost_per_token", Honoured("number, shown")),
    row(Info, "supports_function_calling", Honoured("true or false, shown")),
    row(Info, "supports_vision", Honoured("true or false, shown")),
    row(Info, "access_groups", Unsupported(VIRTUAL)),
    row(Info, "access_windows", Refused("models are served at any hour; remove the key to accept that")),
    row(Info, "blocked", Refused("take the entry out of the file instead")),
    row(
        Info,
        "team_id",
        Refused("a team's model would be served to everyone with the master key; remove the key to accept that"),
    ),
    row(Info, "health_check_model", Unused(NO_HEALTH_PROBES)),
    row(Info, "health_check_timeout", Unused(NO_HEALTH_PROBES)),
    row(Info, "disable_background_health_check", Unused(NO_HEALTH_PROBES)),
    // litellm_settings.
    row(Litellm, "drop_params", Honoured("true or false")),
    row(Litellm, "additional_drop_params", Honoured("list of names or paths")),
    row(Litellm, "request_timeout", Honoured("seconds")),
    row(Litellm, "num_retries", Honoured("whole number")),
    row(Litellm, "fallbacks", Honoured("list of {name: [names]}")),
    row(Litellm, "default_fallbacks", Honoured("list of names")),
    row(Litellm, "context_window_fallbacks", Honoured("list of {name: [names]}")),
    row(Litellm, "content_policy_fallbacks", Honoured("list of {name: [names]}")),
    row(Litellm, "allowed_fails", Honoured("whole number")),
    row(Litellm, "cooldown_time", Honoured("seconds")),
    row(Litellm, "retry_after", Honoured("seconds")),
    row(Litellm, "model_group_alias", Honoured("mapping of names to names")),
    row(
        Litellm,
        "ssl_verify",
        AlwaysOn("certificates are always verified; for a private authority set `gateway_settings.upstream_ca_file`"),
    ),
    row(
        Litellm,
        "guardrails",
        Refused(
            "guardrails are not run, so data they hold back would reach the provider; remove the key to accept that",
        ),
    ),
    row(Litellm, "blocked_user_list", Refused("users are not told apart; remove the key to accept that")),
    row(Litellm, "banned_keywords_list", Refused("prompts are not searched for words; remove the key to accept that")),
    row(
        Litellm,
        "credential_list",
        Refused("named credentials are not supported; write `api_key` and `api_base` into the models"),
    ),
    row(Litellm, "api_base", Refused("a base for all models is not supported; write `api_base` into each")),
    row(Litellm, "api_key", Refused("a key for all models is not supported; write `api_key` into each")),
    row(Litellm, "openai_key", Refused("write `api_key` into the models, or set OPENAI_API_KEY")),
    row(Litellm, "headers", Unsupported("write `extra_headers` into the models")),
    row(Litellm, "secret_manager_settings", Refused(SECRET_STORE)),
    row(Litellm, "success_callback", Unsupported(CALLBACKS)),
    row(Litellm, "failure_callback", Unsupported(CALLBACKS)),
    row(Litellm, "callbacks", Unsupported(CALLBACKS)),
    row(Litellm, "service_callback", Unsupported(CALLBACKS)),
    row(Litellm, "service_callbacks", Unsupported(CALLBACKS)),
    row(Litellm, "audit_log_callbacks", Unsupported(CALLBACKS)),
    row(Litellm, "post_call_rules", Unsupported(CALLBACKS)),
    row(Litellm, "input_callback", Unsupported(CALLBACKS)),
    row(Litellm, "cache", Unsupported(CACHE)),
    row(Litellm, "cache_params", Unsupported(CACHE)),
    row(Litellm, "enable_caching_on_provider_specific_optional_params", Unsupported(CACHE)),
    row(Litellm, "max_budget", Unsupported(BUDGETS)),
    row(Litellm, "budget_duration", Unsupported(BUDGETS)),
    row(Litellm, "max_user_budget", Unsupported(BUDGETS)),
    row(Litellm, "max_end_user_budget", Unsupported(BUDGETS)),
    row(Litellm, "max_internal_user_budget", Unsupported(BUDGETS)),
    row(Litellm, "internal_user_budget_duration", Unsupported(BUDGETS)),
    row(Litellm, "default_max_internal_user_budget", Unsupported(BUDGETS)),
    row(Litellm, "tag_budget_config", Unsupported(BUDGETS)),
    row(Litellm, "provider_budget_config", Unsupported(BUDGETS)),
    row(Litellm, "default_internal_user_params", Unsupported(VIRTUAL)),
    row(Litellm, "default_team_settings", Unsupported(VIRTUAL)),
    row(Litellm, "default_team_params", Unsupported(VIRTUAL)),
    row(Litellm, "default_key_generate_params", Unsupported(VIRTUAL)),
    row(Litellm, "upperbound_key_generate_params", Unsupported(VIRTUAL)),
    row(Litellm, "key_generation_settings", Unsupported(VIRTUAL)),
    row(Litellm, "enable_key_alias_format_validation", Unsupported(VIRTUAL)),
    row(Litellm, "max_parallel_requests", Unsupported("set it in the models' `litellm_params`")),
    row(Litellm, "priority_reservation", Unsupported("requests have no priorities")),
    row(Litellm, "priority_reservation_settings", Unsupported("requests have no priorities")),
    row(
        Litellm,
        "model_group_settings",
        Unsupported("settings hold for all models; headers: `general_settings.forward_client_headers_to_llm_api`"),
    ),
    row(Litellm, "public_model_groups", Unsupported("every model is listed to whoever has the key")),
    row(Litellm, "public_model_groups_links", Unsupported(NO_UI)),
    row(Litellm, "mcp_aliases", Unsupported("MCP servers are not proxied")),
    row(Litellm, "custom_provider_map", Unsupported("custom Python handlers are not run")),
    row(Litellm, "responses", Unsupported("background mode is the provider's own")),
    row(Litellm, "default_fallback_models", Unsupported("use `default_fallbacks`")),
    row(Litellm, "enable_json_schema_validation", Unsupported("answers are not validated")),
    row(Litellm, "enforce_json_schema", Unsupported("answers are not validated")),
    row(Litellm, "return_response_headers", Unsupported("the provider's headers that matter are passed by name")),
    row(Litellm, "include_cost_in_streaming_usage", Unsupported("usage is passed as the provider sends it")),
    row(
        Litellm,
        "use_chat_completions_url_for_anthropic_messages",
        Unsupported("/v1/messages goes to the provider's own /messages"),
    ),
    row(Litellm, "default_vertex_config", Unsupported(FOREIGN_KEY)),
    row(Litellm, "vertex_project", Unsupported(FOREIGN_KEY)),
    row(Litellm, "vertex_location", Unsupported(FOREIGN_KEY)),
    row(Litellm, "force_ipv4", Unsupported("addresses are tried as the resolver gives them")),
    row(Litellm, "ssl_certificate", Unsupported("client certificates are not sent")),
    row(Litellm, "openai_moderations_model_name", Unsupported("prompts are not moderated; /v1/moderations is proxied")),
    row(Litellm, "llamaguard_model_name", Unsupported("prompts are not moderated")),
    row(Litellm, "prometheus_initialize_budget_metrics", Unsupported(BUDGETS)),
    row(Litellm, "custom_prometheus_metadata_labels", Unsupported("metrics have fixed labels")),
    row(Litellm, "custom_prometheus_tags", Unsupported("metrics have fixed labels")),
    row(Litellm, "prometheus_metrics_config", Unsupported("metrics have fixed labels")),
    row(
        Litellm,
        "require_auth_for_metrics_endpoint",
        Unused("metrics are on the admin port, which listens on loopback"),
    ),
    row(Litellm, "modify_params", Unused("messages are passed as they come")),
    row(Litellm, "set_verbose", Unused("set LITELLM_LOG or RUST_LOG")),
    row(Litellm, "json_logs", Unsupported("use `gateway_settings.access_log: json`")),
    row(Litellm, "log_raw_request_response", Unused("bodies are never logged")),
    row(Litellm, "turn_off_message_logging", Unused("bodies are never logged")),
    row(Litellm, "redact_messages_in_exceptions", Unused("bodies are never logged")),
    row(Litellm, "redact_user_api_key_info", Unused("keys are never logged")),
    row(Litellm, "langfuse_default_tags", Unused("there are no callbacks")),
    row(Litellm, "suppress_debug_info", Unused("nothing of it is printed")),
    row(Litellm, "telemetry", Unused("nothing is reported to anyone")),
    row(Litellm, "enable_preview_features", Unused("there are none")),
    row(Litellm, "disable_end_user_cost_tracking", Unused(DATABASE)),
    row(Litellm, "disable_end_user_cost_tracking_prometheus_only", Unused("users are no metric label")),
    row(Litellm, "enable_end_user_cost_tracking_prometheus_only", Unsupported("users are no metric label")),
    row(Litellm, "disable_copilot_system_to_assistant", Unused("messages are passed as they come")),
    row(Litellm, "disable_add_transform_inline_image_block", Unused("messages are passed as they come")),
    row(Litellm, "disable_hf_tokenizer_download", Unused("nothing is tokenised")),
    row(Litellm, "disable_stop_sequence_limit", Unused("there is no such limit")),
    row(Litellm, "add_function_to_prompt", Unused("messages are passed as they come")),
    row(Litellm, "disable_token_counter", Unused("nothing is tokenised")),
    row(Litellm, "aiohttp_trust_env", Unused("connections are direct")),
    row(Litellm, "disable_aiohttp_transport", Unused("there is one transport")),
    row(Litellm, "cost_discount_config", Unused(PRICES)),
    row(Litellm, "cost_margin_config", Unused(PRICES)),
    // router_settings.
    row(Router, "num_retries", Honoured("whole number")),
    row(Router, "timeout", Honoured("seconds")),
    row(Router, "stream_timeout", Honoured("seconds")),
    row(Router, "fallbacks", Honoured("list of {name: [names]}")),
    row(Router, "default_fallbacks", Honoured("list of names")),
    row(Router, "context_window_fallbacks", Honoured("list of {name: [names]}")),
    row(Router, "content_policy_fallbacks", Honoured("list of {name: [names]}")),
    row(Router, "allowed_fails", Honoured("whole number")),
    row(Router, "cooldown_time", Honoured("seconds")),
    row(Router, "disable_cooldowns", Honoured("true or false")),
    row(Router, "retry_after", Honoured("seconds")),
    row(Router, "routing_strategy", Honoured("simple-shuffle, least-busy, latency-based-routing, usage-based-routing")),
    row(Router, "model_group_alias", Honoured("mapping of names to names")),
    row(Router, "enable_weighted_failover", Unused("a retry always prefers another deployment")),
    row(Router, "routing_strategy_args", Unsupported("strategies have no arguments")),
    row(Router, "routing_groups", Unsupported("one strategy holds for all groups")),
    row(Router, "weights", Unsupported("write `weight` into the models' `litellm_params`")),
    row(Router, "retry_policy", Unsupported("`num_retries` holds for every retryable error")),
    row(Router, "model_group_retry_policy", Unsupported("`num_retries` holds for all groups")),
    row(Router, "allowed_fails_policy", Unsupported("`allowed_fails` holds for every kind of failure")),
    row(Router, "max_fallbacks", Unsupported("every fallback of the list is tried within the request's time")),
    row(Router, "max_retries", Unsupported("use `num_retries`")),
    row(
        Router,
        "default_max_parallel_requests",
        Unsupported("write `max_parallel_requests` into the models' `litellm_params`"),
    ),
    row(
        Router,
        "default_litellm_params",
        Unsupported("write them into the models; a YAML anchor (`<<: *defaults`) saves repeating them"),
    ),
    row(
        Router,
        "enable_pre_call_checks",
        Unsupported("the provider judges whether a prompt fits; `context_window_fallbacks` act on its answer"),
    ),
    row(
        Router,
        "enable_pre_call_check",
        Unsupported("the provider judges whether a prompt fits; `context_window_fallbacks` act on its answer"),
    ),
    row(Router, "optional_pre_call_checks", Honoured("list; only enforce_model_rate_limits exists")),
    row(Router, "deployment_affinity_ttl_seconds", Unsupported("deployments are chosen by strategy only")),
    row(Router, "enable_tag_filtering", Unsupported(ROUTER_MODEL)),
    row(Router, "tag_filtering_match_any", Unsupported(ROUTER_MODEL)),
    row(Router, "tag_routing_prefix", Unsupported(ROUTER_MODEL)),
    row(Router, "provider_budget_config", Unsupported(BUDGETS)),
    row(Router, "redis_host", Unsupported(SHARED_REDIS)),
    row(Router, "redis_port", Unsupported(SHARED_REDIS)),
    row(Router, "redis_password", Unsupported(SHARED_REDIS)),
    row(Router, "redis_url", Unsupported(SHARED_REDIS)),
    row(Router, "redis_db", Unsupported(SHARED_REDIS)),
    row(Router, "cache_kwargs", Unsupported(SHARED_REDIS)),
    row(Router, "cache_responses", Unsupported(CACHE)),
    row(Router, "caching_groups", Unsupported(CACHE)),
    row(Router, "alerting_config", Unsupported(ALERTS)),
    row(Router, "search_tools", Unsupported("search tools are not offered")),
    row(Router, "guardrail_list", Refused("guardrails are not run; remove the key to accept that")),
    row(Router, "assistants_config", Unsupported("/v1/assistants is not served")),
    row(Router, "default_priority", Unsupported("requests have no priorities")),
    row(Router, "polling_interval", Unsupported("requests have no priorities")),
    row(Router, "ignore_invalid_deployments", Unused("a faulty entry is an error at load")),
    row(Router, "router_general_settings", Unused("it tunes LiteLLM's own process")),
    row(Router, "client_ttl", Unused("connections have `gateway_settings.upstream_idle_timeout`")),
    row(Router, "debug_level", Unused("set LITELLM_LOG or RUST_LOG")),
    row(Router, "set_verbose", Unused("set LITELLM_LOG or RUST_LOG")),
    // general_settings.
    row(General, "master_key", Honoured("text, usually os.environ/LITELLM_MASTER_KEY")),
    row(General, "allow_requests_on_db_unavailable", Honoured("true or false; never opens the door")),
    row(General, "forward_client_headers_to_llm_api", Honoured("true or false")),
    row(General, "always_include_stream_usage", Honoured("true or false")),
    row(General, "max_request_size_mb", Honoured("number")),
    row(
        General,
        "custom_auth",
        Refused(
            "custom authentication is not run, so other callers would get in; remove the key to serve with the master key only",
        ),
    ),
    row(
        General,
        "custom_auth_run_common_checks",
        Refused("custom authentication is not run; remove the key to serve with the master key only"),
    ),
    row(
        General,
        "custom_auth_settings",
        Refused("custom authentication is not run; remove the key to serve with the master key only"),
    ),
    row(General, "enable_jwt_auth", Refused("JWTs are not accepted; remove the key to serve with the master key only")),
    row(
        General,
        "enable_oauth2_auth",
        Refused("OAuth2 tokens are not accepted; remove the key to serve with the master key only"),
    ),
    row(
        General,
        "enable_oauth2_proxy_auth",
        Refused("OAuth2 proxies are not trusted; remove the key to serve with the master key only"),
    ),
    row(
        General,
        "allow_user_auth",
        Refused("users are not told apart; remove the key to serve with the master key only"),
    ),
    row(
        General,
        "allowed_ips",
        Refused("callers are not judged by address; restrict the port in your network and remove the key"),
    ),
    row(General, "allowed_routes", Refused("routes are not restricted by key; remove the key to accept that")),
    row(General, "public_routes", Refused("every route that costs money needs the key; remove the key to accept that")),
    row(
        General,
        "user_api_key_auth",
        Refused("custom authentication is not run; remove the key to serve with the master key only"),
    ),
    row(
        General,
        "litellm_key_header_name",
        Refused(
            "the key is looked for in `Authorization`, `x-api-key`, `api-key` and LiteLLM's other headers only; let clients use one of them",
        ),
    ),
    row(
        General,
        "database_url",
        Refused(
            "there is no database, so virtual keys kept in it would stop working; remove the key to serve with the master key only",
        ),
    ),
    row(
        General,
        "database_type",
        Refused(
            "there is no database, so virtual keys kept in it would stop working; remove the key to serve with the master key only",
        ),
    ),
    row(
        General,
        "database_args",
        Refused(
            "there is no database, so virtual keys kept in it would stop working; remove the key to serve with the master key only",
        ),
    ),
    row(General, "use_azure_key_vault", Refused(SECRET_STORE)),
    row(General, "use_google_kms", Refused(SECRET_STORE)),
    row(General, "use_aws_kms", Refused(SECRET_STORE)),
    row(General, "key_management_system", Refused(SECRET_STORE)),
    row(General, "key_management_settings", Refused(SECRET_STORE)),
    row(
        General,
        "forward_llm_provider_auth_headers",
        Refused("clients' own provider keys are never sent upstream; remove the key"),
    ),
    row(General, "control_plane_url", Refused("there is no control plane; remove the key")),
    row(General, "pass_through_endpoints", Unsupported("they answer 404; point clients at those services directly")),
    row(General, "use_client_credentials_pass_through_routes", Unsupported("there are no pass-through routes")),
    row(
        General,
        "allow_client_side_credentials",
        Unsupported("clients that send their own api_key or api_base get 400"),
    ),
    row(General, "forward_openai_org_id", Unsupported("write `organization` into the models")),
    row(General, "completion_model", Unsupported("a request without a model gets 400")),
    row(General, "image_generation_model", Unsupported("a request without a model gets 400")),
    row(General, "embedding_model", Unsupported("a request without a model gets 400")),
    row(General, "moderation_model", Unsupported("a request without a model gets 400")),
    row(General, "infer_model_from_keys", Unsupported("models are those of `model_list`")),
    row(General, "max_parallel_requests", Unsupported("write it into the models' `litellm_params`")),
    row(General, "global_max_parallel_requests", Honoured("whole number")),
    row(General, "max_response_size_mb", Unsupported("answers are passed on at any size")),
    row(General, "max_batch_input_file_mb", Unsupported("/v1/batches is not served")),
    row(General, "enforce_user_param", Unsupported(ENTERPRISE)),
    row(General, "enforced_params", Unsupported(ENTERPRISE)),
    row(General, "reject_clientside_metadata_tags", Unsupported(ENTERPRISE)),
    row(General, "service_account_settings", Unsupported(VIRTUAL)),
    row(General, "user_header_name", Unsupported("users are not told apart")),
    row(General, "user_header_mappings", Unsupported("users are not told apart")),
    row(General, "store_model_in_db", Unsupported("models are those of this file; none are read from a database")),
    row(General, "supported_db_objects", Unsupported(DATABASE)),
    row(General, "store_prompts_in_spend_logs", Unsupported("prompts are not kept")),
    row(General, "store_prompts_in_cold_storage", Unsupported("prompts are not kept")),
    row(General, "custom_key_generate", Unsupported(VIRTUAL)),
    row(General, "custom_key_update", Unsupported(VIRTUAL)),
    row(General, "default_team_disabled", Unsupported(VIRTUAL)),
    row(General, "team_based_logging", Unsupported(VIRTUAL)),
    row(General, "litellm_jwtauth", Unsupported("JWTs are not accepted")),
    row(General, "oauth2_config_mappings", Unsupported("OAuth2 tokens are not accepted")),
    row(General, "role_permissions", Unsupported(VIRTUAL)),
    row(General, "admin_only_routes", Unused("there are no admin routes on this port")),
    row(General, "custom_sso", Unsupported(NO_UI)),
    row(General, "custom_ui_sso_sign_in_handler", Unsupported(NO_UI)),
    row(General, "ui_access_mode", Unused(NO_UI)),
    row(General, "disable_admin_ui", Unused(NO_UI)),
    row(General, "user_mcp_management_mode", Unused("MCP servers are not proxied")),
    row(General, "alerting", Unsupported(ALERTS)),
    row(General, "alerting_threshold", Unsupported(ALERTS)),
    row(General, "alerting_args", Unsupported(ALERTS)),
    row(General, "alert_types", Unsupported(ALERTS)),
    row(General, "alert_to_webhook_url", Unsupported(ALERTS)),
    row(General, "spend_report_frequency", Unsupported(ALERTS)),
    row(General, "background_health_checks", Unused(NO_HEALTH_PROBES)),
    row(General, "use_shared_health_check", Unused(NO_HEALTH_PROBES)),
    row(General, "health_check_interval", Unused(NO_HEALTH_PROBES)),
    row(General, "health_check_details", Unused(NO_HEALTH_PROBES)),
    row(General, "database_connection_pool_limit", Unused(DATABASE)),
    row(General, "database_connection_timeout", Unused(DATABASE)),
    row(General, "disable_prisma_schema_update", Unused(DATABASE)),
    row(General, "disable_spend_logs", Unused(DATABASE)),
    row(General, "disable_spend_updates", Unused(DATABASE)),
    row(General, "disable_error_logs", Unused(DATABASE)),
    row(General, "disable_reset_budget", Unused(DATABASE)),
    row(General, "disable_adding_master_key_hash_to_db", Unused(DATABASE)),
    row(General, "maximum_spend_logs_retention_period", Unused(DATABASE)),
    row(General, "maximum_spend_logs_retention_interval", Unused(DATABASE)),
    row(General, "proxy_budget_rescheduler_min_time", Unused(DATABASE)),
    row(General, "proxy_budget_rescheduler_max_time", Unused(DATABASE)),
    row(General, "proxy_batch_write_at", Unused(DATABASE)),
    row(General, "proxy_batch_polling_interval", Unused(DATABASE)),
    row(General, "use_redis_transaction_buffer", Unused(DATABASE)),
    row(General, "user_api_key_cache_ttl", Unused(DATABASE)),
    row(General, "disable_master_key_return", Unused("the master key is never shown")),
    row(
        General,
        "disable_retry_on_max_parallel_request_limit_error",
        Unused("a full deployment is skipped, not retried"),
    ),
    row(General, "disable_responses_id_security", Unused("response ids are the provider's own")),
    row(General, "litellm_license", Unused("no license is needed")),
    row(General, "use_x_forwarded_for", Unused("callers are not judged by address")),
    row(General, "block_robots", Unused("there are no pages to index")),
    row(General, "otel", Unsupported(CALLBACKS)),
    row(General, "proxy_admin_email", Unused(NO_UI)),
    row(General, "token_rate_limit_type", Unused("there are no limits by key")),
    // gateway_settings.
    row(Gateway, "response_model", Honoured("client, upstream")),
    row(Gateway, "reasoning_field", Honoured("reasoning_content, both, upstream")),
    row(Gateway, "stream_keepalive", Honoured("seconds, 0 is off")),
    row(Gateway, "upstream_ca_file", Honoured("path of a PEM file")),
    row(Gateway, "upstream_http2", Honoured("true or false")),
    row(Gateway, "admin_port", Honoured("port, 0 is off")),
    row(Gateway, "admin_host", Honoured("address")),
    row(Gateway, "access_log", Honoured("text, json, off")),
    row(Gateway, "grace_period", Honoured("seconds")),
    row(Gateway, "connect_timeout", Honoured("seconds")),
    row(Gateway, "stream_idle_timeout", Honoured("seconds")),
    row(Gateway, "body_timeout", Honoured("seconds")),
    row(Gateway, "header_timeout", Honoured("seconds")),
    row(Gateway, "keepalive_timeout", Honoured("seconds")),
    row(Gateway, "header_bytes_max", Honoured("bytes, or a text such as 64KiB")),
    row(Gateway, "json_depth_max", Honoured("whole number")),
    row(Gateway, "buffered_bytes_max", Honoured("bytes, or a text such as 512MiB")),
    row(Gateway, "dns_refresh", Honoured("seconds")),
    row(Gateway, "upstream_idle_timeout", Honoured("seconds")),
    row(Gateway, "h2c", Honoured("true or false")),
    row(Gateway, "frame_bytes_max", Honoured("bytes, or a text such as 16MiB")),
    row(Gateway, "watch", Honoured("true or false")),
    row(Gateway, "ttft_timeout", Honoured("seconds, 0 is off")),
    row(Gateway, "hedge_after", Honoured("seconds, 0 is off")),
    row(Gateway, "retry_budget", Honoured("share of the requests, 0 to 10")),
    row(Gateway, "max_parallel_requests", Honoured("whole number")),
    row(Gateway, "requests_per_second", Honoured("whole number")),
    row(Gateway, "rpm", Honoured("whole number")),
    row(Gateway, "tpm", Honoured("whole number")),
    row(Gateway, "queue", Honoured("whole number, 0 refuses at once")),
    row(Gateway, "queue_timeout", Honoured("seconds")),
    // The command line.
    row(Flag, "config", Honoured("path")),
    row(Flag, "port", Honoured("port")),
    row(Flag, "host", Honoured("address")),
    row(Flag, "num_workers", Honoured("threads")),
    row(Flag, "debug", Honoured("switch")),
    row(Flag, "detailed_debug", Honoured("switch")),
    row(Flag, "version", Honoured("switch")),
    row(Flag, "drop_params", Unsupported("set `litellm_settings.drop_params`")),
    row(Flag, "request_timeout", Unsupported("set `litellm_settings.request_timeout`")),
    row(Flag, "timeout", Unsupported("set `litellm_settings.request_timeout`")),
    row(Flag, "model", Unsupported("write a `model_list`")),
    row(Flag, "alias", Unsupported("write a `model_list`")),
    row(Flag, "api_base", Unsupported("write a `model_list`")),
    row(Flag, "temperature", Unsupported("write it into the models")),
    row(Flag, "max_tokens", Unsupported("write it into the models")),
    row(Flag, "headers", Unsupported("write `extra_headers` into the models")),
    row(Flag, "health", Unsupported("use `nanogate health`")),
    row(Flag, "test", Unsupported("use `nanogate check`")),
    row(Flag, "validate_config", Unsupported("use `nanogate check`")),
    row(Flag, "ssl_keyfile_path", Unsupported("put a TLS proxy before the gateway")),
    row(Flag, "ssl_certfile_path", Unsupported("put a TLS proxy before the gateway")),
    row(Flag, "keepalive_timeout", Unsupported("set `gateway_settings.keepalive_timeout`")),
    row(Flag, "run_gunicorn", Unused("there is one server")),
    row(Flag, "run_hypercorn", Unused("there is one server")),
    row(Flag, "run_granian", Unused("there is one server")),
    row(Flag, "reload", Unused("SIGHUP or `nanogate reload` reads the file again")),
    row(Flag, "log_config", Unsupported("set RUST_LOG")),
    row(Flag, "telemetry", Unused("nothing is reported to anyone")),
    row(Flag, "use_prisma_db_push", Unused(DATABASE)),
    row(Flag, "skip_db_migration_check", Unused(DATABASE)),
    row(Flag, "max_requests_before_restart", Unused("no restarts are needed")),
    // The environment. What is not listed is nobody's business.
    row(Variable, "LITELLM_MASTER_KEY", Honoured("the key clients present")),
    row(Variable, "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", Honoured("true")),
    row(Variable, "NANOGPT_API_KEY", Honoured("key of nano-gpt/ models without `api_key`")),
    row(Variable, "OPENAI_API_KEY", Honoured("key of openai/ models without `api_key`")),
    row(Variable, "OPENAI_BASE_URL", Honoured("base of openai/ models without `api_base`")),
    row(Variable, "OPENAI_API_BASE", Honoured("the same")),
    row(Variable, "PORT", Honoured("port")),
    row(Variable, "HOST", Honoured("address")),
    row(Variable, "CONFIG_FILE_PATH", Honoured("path")),
    row(Variable, "LITELLM_LOG", Honoured("DEBUG, INFO, WARNING, ERROR")),
    row(Variable, "RUST_LOG", Honoured("log filter")),
    row(Variable, "NANOGATE_ADMIN_PORT", Honoured("port, 0 is off")),
    row(
        Variable,
        "LITELLM_SALT_KEY",
        Unused("accepted, unused: it encrypts what LiteLLM keeps in its database, and there is none"),
    ),
    row(
        Variable,
        "DATABASE_URL",
        Unsupported("there is no database, so virtual keys kept in it do not work; the master key is the only key"),
    ),
    row(Variable, "STORE_MODEL_IN_DB", Unsupported("models are those of the file; none are read from a database")),
    row(
        Variable,
        "SSL_VERIFY",
        AlwaysOn("certificates are always verified; for a private authority set `gateway_settings.upstream_ca_file`"),
    ),
    row(Variable, "SSL_CERT_FILE", Honoured("authorities trusted instead of the system's")),
    row(Variable, "HTTPS_PROXY", Unsupported("providers are called directly, not through a proxy")),
    row(Variable, "https_proxy", Unsupported("providers are called directly, not through a proxy")),
    row(Variable, "LITELLM_CONFIG_BUCKET_NAME", Unsupported("the file is read from the disk only")),
    row(Variable, "LITELLM_LOCAL_MODEL_COST_MAP", Unused("no price map is loaded")),
    row(Variable, "LITELLM_MODE", Unused("a `.env` file is read by Docker, not by the gateway")),
    row(Variable, "LITELLM_LICENSE", Unused("no license is needed")),
    row(Variable, "NUM_WORKERS", Unused("threads follow the machine; `--num_workers` sets them")),
    row(Variable, "UI_USERNAME", Unused(NO_UI)),
    row(Variable, "UI_PASSWORD", Unused(NO_UI)),
    row(Variable, "REDIS_HOST", Unsupported(SHARED_REDIS)),
    row(Variable, "REDIS_URL", Unsupported(SHARED_REDIS)),
    row(Variable, "DEFAULT_MAX_RETRIES", Unsupported("set `router_settings.num_retries`")),
    row(Variable, "DEFAULT_ALLOWED_FAILS", Unsupported("set `router_settings.allowed_fails`")),
    row(Variable, "DEFAULT_COOLDOWN_TIME_SECONDS", Unsupported("set `router_settings.cooldown_time`")),
    row(Variable, "GRACEFUL_SHUTDOWN_TIMEOUT", Unsupported("set `gateway_settings.grace_period`")),
    row(Variable, "KEEPALIVE_TIMEOUT", Unsupported("set `gateway_settings.keepalive_timeout`")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_once_in_its_section() {
        for (at, row) in ROWS.iter().enumerate() {
            let again = ROWS[..at].iter().any(|earlier| earlier.section == row.section && earlier.key == row.key);
            assert!(!again, "{row:?}");
        }
    }

    #[test]
    fn misplaced_and_misspelt_keys_find_home() {
        assert_eq!(elsewhere(General, "drop_params"), Some(Litellm));
        assert_eq!(elsewhere(Litellm, "master_key"), Some(General));
        assert_eq!(elsewhere(Entry, "api_base"), Some(Params));
        assert_eq!(elsewhere(Top, "stream_keepalive"), Some(Gateway));
        assert_eq!(elsewhere(Top, "temperature"), None);
        assert_eq!(elsewhere(Entry, "temperature"), Some(Params));
        assert_eq!(elsewhere(Router, "ssl_verify"), Some(Litellm));
        assert_eq!(nearest_key(Litellm, "drop_parms").map(|row| row.key), Some("drop_params"));
    }
}
