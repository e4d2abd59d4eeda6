//! A deployment: one `model_list` entry, resolved and ready to call.
//!
//! The plain values the other rooms are built from. Nothing here refers back to the file but `place`, for messages, and
//! nothing here knows requests.

use serde_json::{Map, Value};

use super::base::Base;
use super::fault::Place;
use super::provider::Provider;
use super::secret::Secret;

/// One `model_list` entry.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// `model_name`: what clients ask for; equal names form a model group. At most one `*`.
    pub group: String,
    /// `model_info.id`, else 16 hexadecimal digits from the group, the non-secret parameters and the position among
    /// equal entries: the same after every restart and reload.
    pub id: String,
    /// `litellm_params.model` after references are resolved.
    pub configured: String,
    /// The provider the prefix names.
    pub provider: &'static Provider,
    /// The model name sent upstream: what follows the prefix. Holds a `*` where `group` does, or not at all.
    pub upstream_model: String,
    /// Where requests go: `api_base`, else the provider's.
    pub base: Base,
    /// What opens the door there.
    pub key: Key,
    /// The variable the key comes from; `None` for a key written into the file and for no key.
    pub key_variable: Option<String>,
    /// `organization`, sent as `openai-organization`.
    pub organization: Option<String>,
    /// `extra_headers`: name in lower case and value, in file order. Values may hold secrets.
    pub extra_headers: Vec<(String, Secret)>,
    /// `drop_params`: overrides the global setting (LiteLLM ignores it here).
    pub drop_params: Option<bool>,
    /// `additional_drop_params`: names and nested paths such as `tools[*].strict`.
    pub additional_drop_params: Vec<String>,
    /// `allowed_openai_params`: passed although the tables say the model does not take them.
    pub allowed_params: Vec<String>,
    /// `timeout`: milliseconds until the first byte.
    pub timeout_ms: Option<u64>,
    /// `stream_timeout`: the same for streamed requests.
    pub stream_timeout_ms: Option<u64>,
    /// `max_retries`: LiteLLM hands it to its SDK, where the router's `num_retries` hides it.
    pub max_retries: Option<u32>,
    /// `weight` within the group under simple-shuffle; not negative.
    pub weight: Option<f64>,
    /// `order`: the lowest order of a group is used while any of it is usable.
    pub order: Option<u32>,
    /// `rpm`: requests per minute, for usage-based routing and as a weight.
    pub rpm: Option<u64>,
    /// `tpm`: tokens per minute, likewise.
    pub tpm: Option<u64>,
    /// `max_parallel_requests` under way at once here.
    pub max_parallel_requests: Option<u32>,
    /// Request parameters a client may leave out: name and JSON text in file order, then the members of `extra_body`
    /// that are not named directly.
    pub defaults: Vec<(String, String)>,
    /// `model_info` as written, shown by `/v1/model/info`.
    pub info: Map<String, Value>,
    /// Where the entry starts in the file.
    pub place: Place,
}

/// A provider's key.
#[derive(Debug, Clone)]
pub enum Key {
    /// It is known.
    Known(Secret),
    /// It should come from this variable, which is not set: calls to the deployment fail at once.
    Unset {
        /// The variable to set.
        variable: String,
    },
    /// The provider is called without one.
    None,
}
