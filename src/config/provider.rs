//! The providers a `model:` may name: where they live, which variable holds their key, whose wire they speak.
//!
//! A provider is a row of data. It refuses to know requests: how a family's parameters differ is the api room's table.
//!
//! Source, read on 2026-11-23: LiteLLM's `get_llm_provider_logic.py`, `llms/openai_like/providers.json` and the classes of
//! xai, openrouter and moonshot; addresses of aiml, hyperbolic, minimax, novita and vercel_ai_gateway from other public
//! clients. Not read again, by LiteLLM's naming rule: the `_API_BASE` variables of deepinfra, fireworks_ai, groq, mistral
//! and perplexity, and the key variables of the local servers. Foreign providers' endpoints are those they document.

use super::nearest::nearest;

/// Whose treatment a deployment's requests get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `openai/`: LiteLLM's OpenAI rules by model name.
    OpenAi,
    /// `nano-gpt/`: as `openai/`; named because its answers carry more (reasoning, suffixes, signatures).
    NanoGpt,
    /// Everyone else who speaks OpenAI's wire.
    OpenAiLike,
}

/// One provider that speaks OpenAI's wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// What stands before the first `/` of `litellm_params.model`.
    pub prefix: &'static str,
    /// Its base when the file names none.
    pub base: Option<&'static str>,
    /// Variables that override the base when the file names none, the first set one wins.
    pub base_variables: &'static [&'static str],
    /// The variable with its key when the file names none.
    pub key_variable: Option<&'static str>,
    /// It may be called without a key.
    pub key_optional: bool,
    /// Whose treatment its requests get.
    pub family: Family,
}

/// The provider behind a prefix.
pub(super) fn known(prefix: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.prefix == prefix)
}

/// Why a prefix LiteLLM knows cannot be served: the provider's own wire.
pub(super) fn foreign(prefix: &str) -> Option<&'static str> {
    FOREIGN.iter().find(|(name, _)| *name == prefix).map(|(_, instead)| *instead)
}

/// The known prefix a misspelt one may have meant.
pub(super) fn nearest_prefix(prefix: &str) -> Option<&'static str> {
    nearest(prefix, PROVIDERS.iter().map(|provider| provider.prefix))
}

/// NanoGPT under its own names; the website host and the API host serve the same paths.
pub(super) fn is_nanogpt(host: &str) -> bool {
    host == "nano-gpt.com" || host.ends_with(".nano-gpt.com")
}

/// The variable with NanoGPT's key.
pub(super) const NANOGPT_KEY: &str = "NANOGPT_API_KEY";

const fn own(prefix: &'static str, base: &'static str, key: &'static str) -> Provider {
    Provider {
        prefix,
        base: Some(base),
        base_variables: &[],
        key_variable: Some(key),
        key_optional: false,
        family: Family::OpenAiLike,
    }
}

/// The same, when LiteLLM takes the base from a variable first.
const fn moved(
    prefix: &'static str,
    base: &'static str,
    key: &'static str,
    base_variables: &'static [&'static str],
) -> Provider {
    Provider { base_variables, ..own(prefix, base, key) }
}

/// Its address was not confirmed, and a key must not go to a guess: the file has to name the base.
const fn unhoused(prefix: &'static str, key: &'static str) -> Provider {
    Provider { base: None, ..own(prefix, "", key) }
}

/// Runs on the user's own machines: the file names the base, and a key is optional.
const fn local(prefix: &'static str, base_variables: &'static [&'static str], key: &'static str) -> Provider {
    Provider {
        prefix,
        base: None,
        base_variables,
        key_variable: Some(key),
        key_optional: true,
        family: Family::OpenAiLike,
    }
}

/// Ollama by its OpenAI endpoint; LiteLLM calls its own `/api/chat`.
const fn ollama(prefix: &'static str) -> Provider {
    Provider { base: Some("http://localhost:11434/v1"), ..local(prefix, &["OLLAMA_API_BASE"], "OLLAMA_API_KEY") }
}

const fn openai(prefix: &'static str) -> Provider {
    Provider {
        prefix,
        base: Some("https://api.openai.com/v1"),
        base_variables: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        key_variable: Some("OPENAI_API_KEY"),
        key_optional: false,
        family: Family::OpenAi,
    }
}

/// The row LiteLLM picks for a bare name at NanoGPT's base.
pub(super) static NANOGPT: Provider = Provider {
    prefix: "nano-gpt",
    base: Some("https://nano-gpt.com/api/v1"),
    base_variables: &[],
    key_variable: Some(NANOGPT_KEY),
    key_optional: false,
    family: Family::NanoGpt,
};

static PROVIDERS: &[Provider] = &[
    openai("openai"),
    openai("text-completion-openai"),
    openai("custom_openai"),
    Provider { family: Family::NanoGpt, ..own("nano-gpt", "https://nano-gpt.com/api/v1", NANOGPT_KEY) },
    local("openai_like", &["OPENAI_LIKE_API_BASE"], "OPENAI_LIKE_API_KEY"),
    local("hosted_vllm", &["HOSTED_VLLM_API_BASE"], "HOSTED_VLLM_API_KEY"),
    local("vllm", &["HOSTED_VLLM_API_BASE"], "HOSTED_VLLM_API_KEY"),
    local("lm_studio", &["LM_STUDIO_API_BASE"], "LM_STUDIO_API_KEY"),
    local("llamafile", &["LLAMAFILE_API_BASE"], "LLAMAFILE_API_KEY"),
    local("docker_model_runner", &["DOCKER_MODEL_RUNNER_API_BASE"], "DOCKER_MODEL_RUNNER_API_KEY"),
    local("lemonade", &["LEMONADE_API_BASE"], "LEMONADE_API_KEY"),
    ollama("ollama"),
    ollama("ollama_chat"),
    local("litellm_proxy", &["LITELLM_PROXY_API_BASE"], "LITELLM_PROXY_API_KEY"),
    local("xinference", &["XINFERENCE_API_BASE"], "XINFERENCE_API_KEY"),
    local("infinity", &["INFINITY_API_BASE"], "INFINITY_API_KEY"),
    moved("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", &["OPENROUTER_API_BASE"]),
    moved("deepseek", "https://api.deepseek.com/beta", "DEEPSEEK_API_KEY", &["DEEPSEEK_API_BASE"]),
    moved("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", &["GROQ_API_BASE"]),
    moved("together_ai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY", &["TOGETHER_AI_API_BASE"]),
    moved("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", &["MISTRAL_API_BASE"]),
    moved("codestral", "https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY", &["CODESTRAL_API_BASE"]),
    moved("xai", "https://api.x.ai/v1", "XAI_API_KEY", &["XAI_API_BASE"]),
    moved("fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", &["FIREWORKS_API_BASE"]),
    moved("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", &["PERPLEXITY_API_BASE"]),
    moved("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY", &["DEEPINFRA_API_BASE"]),
    moved("anyscale", "https://api.endpoints.anyscale.com/v1", "ANYSCALE_API_KEY", &["ANYSCALE_API_BASE"]),
    moved("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY", &["NVIDIA_NIM_API_BASE"]),
    moved("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", &["CEREBRAS_API_BASE"]),
    moved("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", &["SAMBANOVA_API_BASE"]),
    moved("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", &["MOONSHOT_API_BASE"]),
    own("minimax", "https://api.minimax.io/v1", "MINIMAX_API_KEY"),
    unhoused("zai", "ZAI_API_KEY"),
    unhoused("dashscope", "DASHSCOPE_API_KEY"),
    moved("volcengine", "https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY", &["VOLCENGINE_API_BASE"]),
    moved("meta_llama", "https://api.llama.com/compat/v1", "LLAMA_API_KEY", &["LLAMA_API_BASE"]),
    moved("friendliai", "https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN", &["FRIENDLI_API_BASE"]),
    moved("galadriel", "https://api.galadriel.com/v1", "GALADRIEL_API_KEY", &["GALADRIEL_API_BASE"]),
    moved("empower", "https://app.empower.dev/api/v1", "EMPOWER_API_KEY", &["EMPOWER_API_BASE"]),
    moved("ai21_chat", "https://api.ai21.com/studio/v1", "AI21_API_KEY", &["AI21_API_BASE"]),
    moved("github", "https://models.inference.ai.azure.com", "GITHUB_API_KEY", &["GITHUB_API_BASE"]),
    own("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    unhoused("nebius", "NEBIUS_API_KEY"),
    unhoused("nscale", "NSCALE_API_KEY"),
    own("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    unhoused("lambda_ai", "LAMBDA_API_KEY"),
    unhoused("featherless_ai", "FEATHERLESS_AI_API_KEY"),
    unhoused("baseten", "BASETEN_API_KEY"),
    unhoused("inception", "INCEPTION_API_KEY"),
    unhoused("v0", "V0_API_KEY"),
    own("vercel_ai_gateway", "https://ai-gateway.vercel.sh/v1", "VERCEL_AI_GATEWAY_API_KEY"),
    unhoused("wandb", "WANDB_API_KEY"),
    unhoused("cometapi", "COMETAPI_KEY"),
    own("aiml", "https://api.aimlapi.com/v1", "AIML_API_KEY"),
    unhoused("morph", "MORPH_API_KEY"),
    moved("publicai", "https://api.publicai.co/v1", "PUBLICAI_API_KEY", &["PUBLICAI_API_BASE"]),
    own("helicone", "https://ai-gateway.helicone.ai", "HELICONE_API_KEY"),
    own("veniceai", "https://api.venice.ai/api/v1", "VENICE_AI_API_KEY"),
    own("xiaomi_mimo", "https://api.xiaomimimo.com/v1", "XIAOMI_MIMO_API_KEY"),
    own("scaleway", "https://api.scaleway.ai/v1", "SCW_SECRET_KEY"),
    own("synthetic", "https://api.synthetic.new/openai/v1", "SYNTHETIC_API_KEY"),
    own("apertis", "https://api.stima.tech/v1", "STIMA_API_KEY"),
    own("poe", "https://api.poe.com/v1", "POE_API_KEY"),
    own("chutes", "https://llm.chutes.ai/v1", "CHUTES_API_KEY"),
    own("abliteration", "https://api.abliteration.ai/v1", "ABLITERATION_API_KEY"),
    own("llamagate", "https://api.llamagate.dev/v1", "LLAMAGATE_API_KEY"),
    own("gmi", "https://api.gmi-serving.com/v1", "GMI_API_KEY"),
    own("assemblyai", "https://llm-gateway.assemblyai.com/v1", "ASSEMBLYAI_API_KEY"),
    moved("aihubmix", "https://aihubmix.com/v1", "AIHUBMIX_API_KEY", &["AIHUBMIX_API_BASE"]),
];

const OPENAI_COMPATIBLE: &str =
    "its OpenAI-compatible endpoint works: `openai/<model>` with that endpoint as `api_base`";
const THROUGH_OTHERS: &str = "reach the model through a provider with OpenAI's wire, such as NanoGPT or OpenRouter";

/// Prefixes of LiteLLM whose wire is not OpenAI's, and what to use instead.
static FOREIGN: &[(&str, &str)] = &[
    (
        "anthropic",
        "use `openai/<model>` with `api_base: https://api.anthropic.com/v1`, Anthropic's OpenAI-compatible endpoint, or NanoGPT's `openai/anthropic/<model>`",
    ),
    ("anthropic_text", THROUGH_OTHERS),
    (
        "azure",
        "use `openai/<deployment>` with `api_base: https://<resource>.openai.azure.com/openai/v1`, Azure's OpenAI-compatible endpoint",
    ),
    (
        "azure_text",
        "use `openai/<deployment>` with `api_base: https://<resource>.openai.azure.com/openai/v1`, Azure's OpenAI-compatible endpoint",
    ),
    ("azure_ai", "use `openai/<model>` with the resource's OpenAI-compatible endpoint (`…/openai/v1`) as `api_base`"),
    (
        "gemini",
        "use `openai/<model>` with `api_base: https://generativelanguage.googleapis.com/v1beta/openai`, Google's OpenAI-compatible endpoint",
    ),
    ("palm", THROUGH_OTHERS),
    ("vertex_ai", THROUGH_OTHERS),
    ("vertex_ai_beta", THROUGH_OTHERS),
    ("bedrock", THROUGH_OTHERS),
    ("bedrock_converse", THROUGH_OTHERS),
    ("sagemaker", THROUGH_OTHERS),
    ("sagemaker_chat", THROUGH_OTHERS),
    (
        "cohere",
        "use `openai/<model>` with `api_base: https://api.cohere.ai/compatibility/v1`, Cohere's OpenAI-compatible endpoint",
    ),
    (
        "cohere_chat",
        "use `openai/<model>` with `api_base: https://api.cohere.ai/compatibility/v1`, Cohere's OpenAI-compatible endpoint",
    ),
    (
        "huggingface",
        "use `openai/<model>` with `api_base: https://router.huggingface.co/v1`, Hugging Face's OpenAI-compatible endpoint",
    ),
    ("databricks", OPENAI_COMPATIBLE),
    ("cloudflare", OPENAI_COMPATIBLE),
    ("watsonx", OPENAI_COMPATIBLE),
    ("watsonx_text", OPENAI_COMPATIBLE),
    ("snowflake", OPENAI_COMPATIBLE),
    ("oobabooga", OPENAI_COMPATIBLE),
    ("triton", OPENAI_COMPATIBLE),
    ("predibase", OPENAI_COMPATIBLE),
    ("replicate", THROUGH_OTHERS),
    ("ai21", "use `ai21_chat/<model>`"),
    ("aleph_alpha", THROUGH_OTHERS),
    ("nlp_cloud", THROUGH_OTHERS),
    ("petals", THROUGH_OTHERS),
    ("maritalk", OPENAI_COMPATIBLE),
    ("clarifai", OPENAI_COMPATIBLE),
    ("oci", THROUGH_OTHERS),
    ("sap", THROUGH_OTHERS),
    ("github_copilot", "its sign-in is not supported; use `github/<model>`"),
    ("chatgpt", "its sign-in is not supported; use `openai/<model>` with an API key"),
    ("gigachat", THROUGH_OTHERS),
    ("datarobot", OPENAI_COMPATIBLE),
    ("dify", THROUGH_OTHERS),
    ("langgraph", THROUGH_OTHERS),
    ("bytez", THROUGH_OTHERS),
    ("jina_ai", "use `openai/<model>` with `api_base: https://api.jina.ai/v1`"),
    ("voyage", "use `openai/<model>` with `api_base: https://api.voyageai.com/v1`"),
    ("deepgram", THROUGH_OTHERS),
    ("elevenlabs", THROUGH_OTHERS),
    ("aws_polly", THROUGH_OTHERS),
    ("recraft", THROUGH_OTHERS),
    ("fal_ai", THROUGH_OTHERS),
    ("stability", THROUGH_OTHERS),
    ("runwayml", THROUGH_OTHERS),
    ("topaz", THROUGH_OTHERS),
    ("a2a", THROUGH_OTHERS),
    ("auto_router", "routing by content is not supported; name a model group"),
    ("custom", "custom Python handlers are not run"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::base::Base;
    use crate::config::reference::is_variable;

    #[test]
    fn every_row_is_well_formed_and_named_once() {
        for (at, provider) in PROVIDERS.iter().enumerate() {
            assert!(provider.base_variables.iter().all(|name| is_variable(name)), "{provider:?}");
            assert!(provider.base.is_none_or(|base| Base::parse(base).is_ok()), "{provider:?}");
            assert!(provider.key_variable.is_none_or(is_variable), "{provider:?}");
            assert!(foreign(provider.prefix).is_none(), "{provider:?}");
            assert!(PROVIDERS[..at].iter().all(|earlier| earlier.prefix != provider.prefix), "{provider:?}");
        }
        assert_eq!(known("nano-gpt"), Some(&NANOGPT));
    }

    #[test]
    fn misspelt_prefixes_are_recognised() {
        assert_eq!(nearest_prefix("opneai"), Some("openai"));
        assert_eq!(nearest_prefix("nanogpt"), Some("nano-gpt"));
        assert_eq!(nearest_prefix("zai-org"), None);
    }

    #[test]
    fn nanogpt_is_known_by_host() {
        assert!(is_nanogpt("nano-gpt.com") && is_nanogpt("api.nano-gpt.com"));
        assert!(!is_nanogpt("nano-gpt.com.example") && !is_nanogpt("evilnano-gpt.com"));
    }
}
