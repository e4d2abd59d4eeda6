//! What a model takes of LiteLLM's standard chat fields, told from its upstream name alone.
//!
//! Facts of LiteLLM 1.106.2, read 2026-11-23: llms/openai/openai.py, llms/openai/chat/{gpt,gpt_5,o_series,gpt_audio}
//! _transformation.py, llms/openai/completion/transformation.py, llms/openai_like/chat/transformation.py, and the
//! flags of model_prices_and_context_window_backup.json. Two readings are kinder than LiteLLM's: a NanoGPT `:suffix`
//! or a snapshot date does not make a known model unknown, and an unknown gpt-5 or gpt-6 keeps `tool_choice`.

use super::Family;
use super::words::{Field, Fields};

/// Which rules beyond the supported list a model needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Series {
    Plain,
    /// gpt-5 and gpt-6: efforts, `max_completion_tokens`, temperature and sampling tied to the effort.
    Gpt(Efforts),
    /// gpt-5 search models: a short list of fields, `max_completion_tokens`.
    GptSearch,
    /// o1, o3, o4: `max_completion_tokens`, no temperature but 1.
    O,
    /// Other providers with OpenAI's API: `max_tokens` is the name they all know.
    Like,
}

impl Series {
    pub(super) fn of(family: Family, model: &str) -> Self {
        let bare = bare_name(model);
        let last = last_segment(bare);
        if family == Family::OpenAiLike {
            Self::Like
        } else if is_o_series(last) {
            Self::O
        } else if (bare.contains("gpt-5") || bare.contains("gpt-6")) && !last.contains("gpt-5-chat") {
            let is_search = bare.contains("gpt-5") && bare.contains("search");
            if is_search { Self::GptSearch } else { Self::Gpt(Efforts::of(last)) }
        } else {
            Self::Plain
        }
    }

    /// Where this series has one name for the limit on answer tokens: the name to replace and the one to use.
    pub(super) fn token_limit(self) -> Option<(Field, Field)> {
        match self {
            Self::Plain => None,
            Self::Gpt(_) | Self::GptSearch | Self::O => Some((Field::MaxTokens, Field::MaxCompletionTokens)),
            Self::Like => Some((Field::MaxCompletionTokens, Field::MaxTokens)),
        }
    }
}

/// What a gpt model says about `reasoning_effort`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Efforts(u8);

const NONE: Efforts = Efforts(1);
const NO_NONE: Efforts = Efforts(2);
const NO_MINIMAL: Efforts = Efforts(4);
const NO_LOW: Efforts = Efforts(8);
const XHIGH: Efforts = Efforts(16);
/// Without an effort in the request this model does not reason.
const RESTS_AT_NONE: Efforts = Efforts(32);

impl Efforts {
    /// Nothing is declared about the model.
    const UNKNOWN: Self = Self(0);

    fn of(last_segment: &str) -> Self {
        let base = undated(last_segment);
        EFFORTS.iter().find(|(names, _)| names.contains(&base)).map_or(Self::UNKNOWN, |(_, efforts)| *efforts)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn says(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// Whether "none" is an effort of this model: then sampling fields exist, if only at that effort.
    pub(super) fn know_none(self) -> bool {
        self.says(NONE)
    }

    /// Whether the model would not take this effort. `xhigh` must be declared, the others must be denied.
    pub(super) fn refuse(self, effort: &str) -> bool {
        match effort {
            "none" => self.says(NO_NONE),
            "minimal" => self.says(NO_MINIMAL),
            "low" => self.says(NO_LOW),
            "xhigh" => !self.says(XHIGH),
            _ => false,
        }
    }

    /// Whether the model answers without reasoning, given the effort that reaches it.
    pub(super) fn resolve_to_none(self, effort: Option<&str>) -> bool {
        effort.map_or(self.says(RESTS_AT_NONE), |effort| effort == "none")
    }
}

/// Names without their dates. What is missing here declares nothing.
const EFFORTS: &[(&[&str], Efforts)] = &[
    (&["gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-pro"], NO_NONE),
    (&["gpt-5.1"], NONE.and(RESTS_AT_NONE).and(NO_MINIMAL)),
    (&["gpt-5.2", "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"], NONE.and(RESTS_AT_NONE).and(NO_MINIMAL).and(XHIGH)),
    (&["gpt-5.2-pro"], NO_NONE.and(XHIGH)),
    (&["gpt-5.4-pro", "gpt-6-astra", "gpt-6.1-sol"], NO_NONE.and(NO_MINIMAL).and(XHIGH)),
    (&["gpt-5.5-pro"], NO_NONE.and(NO_MINIMAL).and(NO_LOW).and(XHIGH)),
    (
        &[
            "gpt-5.3-codex",
            "gpt-5.5",
            "gpt-5.6",
            "gpt-5.6-luna",
            "gpt-5.6-sol",
            "gpt-5.6-terra",
            "gpt-6-luna",
            "gpt-6-sol",
        ],
        NONE.and(NO_MINIMAL).and(XHIGH),
    ),
];

/// What practically every model takes.
const COMMON: Fields = Fields::of(&[
    Field::FrequencyPenalty,
    Field::LogitBias,
    Field::Logprobs,
    Field::TopLogprobs,
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Modalities,
    Field::Prediction,
    Field::N,
    Field::PresencePenalty,
    Field::Seed,
    Field::Stop,
    Field::Stream,
    Field::StreamOptions,
    Field::Temperature,
    Field::TopP,
    Field::Tools,
    Field::ToolChoice,
    Field::FunctionCall,
    Field::Functions,
    Field::ParallelToolCalls,
    Field::Audio,
    Field::WebSearchOptions,
    Field::ServiceTier,
    Field::SafetyIdentifier,
    Field::PromptCacheKey,
    Field::PromptCacheRetention,
    Field::Store,
]);
const RESPONSE_FORMAT: Fields = Fields::of(&[Field::ResponseFormat]);
const USER: Fields = Fields::of(&[Field::User]);
const REASONING_EFFORT: Fields = Fields::of(&[Field::ReasoningEffort]);

const GPT_ADDS: Fields = Fields::of(&[Field::ReasoningEffort, Field::Verbosity]);
const GPT_LACKS: Fields = Fields::of(&[
    Field::PresencePenalty,
    Field::FrequencyPenalty,
    Field::Stop,
    Field::LogitBias,
    Field::Modalities,
    Field::Prediction,
    Field::Audio,
    Field::WebSearchOptions,
]);
/// What a gpt model takes at most at effort "none".
pub(super) const SAMPLING: Fields = Fields::of(&[Field::Logprobs, Field::TopLogprobs, Field::TopP]);
const GPT_SEARCH: Fields = Fields::of(&[
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Stream,
    Field::StreamOptions,
    Field::WebSearchOptions,
    Field::ServiceTier,
    Field::SafetyIdentifier,
    Field::ResponseFormat,
    Field::User,
    Field::Store,
    Field::Verbosity,
]);

const O_LACKS: Fields =
    Fields::of(&[Field::Logprobs, Field::TopP, Field::PresencePenalty, Field::FrequencyPenalty, Field::TopLogprobs]);
const O_RESEARCH_LACKS: Fields =
    Fields::of(&[Field::Tools, Field::ToolChoice, Field::FunctionCall, Field::Functions, Field::ResponseFormat]);
const PARALLEL_TOOL_CALLS: Fields = Fields::of(&[Field::ParallelToolCalls]);
/// The o models that call several tools at once.
const O_WITH_PARALLEL_TOOLS: &[&str] = &["o1-2024-12-17", "o1-pro", "o1-pro-2025-03-19"];

/// What `/completions` takes, whatever the model.
pub(super) const COMPLETIONS: Fields = Fields::of(&[
    Field::Functions,
    Field::FunctionCall,
    Field::Temperature,
    Field::TopP,
    Field::N,
    Field::Stream,
    Field::StreamOptions,
    Field::Stop,
    Field::MaxTokens,
    Field::PresencePenalty,
    Field::FrequencyPenalty,
    Field::LogitBias,
    Field::User,
    Field::ResponseFormat,
    Field::Seed,
    Field::Tools,
    Field::ToolChoice,
    Field::Logprobs,
    Field::TopLogprobs,
]);

/// What chat with this model takes.
pub(super) fn chat_fields(series: Series, model: &str) -> Fields {
    let bare = bare_name(model);
    let listed = is_listed(bare);
    let mut base = if listed { COMMON.and(USER) } else { COMMON };
    if bare != "gpt-4" && bare != "gpt-3.5-turbo-16k" {
        base = base.and(RESPONSE_FORMAT);
    }
    match series {
        Series::Plain if listed => base,
        Series::Plain => base.and(REASONING_EFFORT),
        Series::Gpt(efforts) => {
            let base = base.and(GPT_ADDS).without(GPT_LACKS);
            if efforts.know_none() { base } else { base.without(SAMPLING) }
        }
        Series::GptSearch => GPT_SEARCH,
        Series::O => {
            let last = last_segment(bare);
            let mut base = base.and(REASONING_EFFORT).without(O_LACKS);
            if !O_WITH_PARALLEL_TOOLS.contains(&last) {
                base = base.without(PARALLEL_TOOL_CALLS);
            }
            if last.contains("deep-research") { base.without(O_RESEARCH_LACKS) } else { base }
        }
        Series::Like => base.and(REASONING_EFFORT),
    }
}

/// What of the compared fields embeddings with this model take.
pub(super) fn embedding_fields(family: Family, model: &str) -> Fields {
    const DIMENSIONS: Fields = Fields::of(&[Field::Dimensions]);
    let takes = family == Family::OpenAiLike || model.contains("text-embedding-3");
    if takes { DIMENSIONS } else { Fields::NONE }
}

/// Whether what the upstream answers is signed over the exact bytes.
pub(super) fn is_signed(model: &str) -> bool {
    model.starts_with("TEE/") || model.starts_with("phala/")
}

/// The name without NanoGPT's suffixes. Colons of a fine-tuned model are part of its name.
fn bare_name(model: &str) -> &str {
    if model.starts_with("ft:") { model } else { model.split_once(':').map_or(model, |(name, _)| name) }
}

fn last_segment(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, last)| last)
}

/// The name without `-YYYY-MM-DD` at its end.
fn undated(name: &str) -> &str {
    const DATE: &[u8] = b"-0000-00-00";
    let Some((base, date)) = name.split_at_checked(name.len().saturating_sub(DATE.len())) else { return name };
    let fits = |(is, wanted): (u8, &u8)| if *wanted == b'-' { is == b'-' } else { is.is_ascii_digit() };
    let dated = date.len() == DATE.len() && date.bytes().zip(DATE).all(fits);
    if dated { base } else { name }
}

fn is_o_series(last_segment: &str) -> bool {
    matches!(last_segment.as_bytes(), [b'o', b'0'..=b'9', ..]) && is_listed(last_segment)
}

fn is_listed(model: &str) -> bool {
    CATALOGUE.binary_search(&model).is_ok()
}

/// OpenAI's models for text as LiteLLM lists them (modes chat, responses and completion; one-colon `ft:` chat names are
/// prices there, not models). Sorted.
const CATALOGUE: &[&str] = &[
    "babbage-002",
    "chat-latest",
    "computer-use-preview",
    "computer-use-preview-2025-03-11",
    "davinci-002",
    "daybreak-blue-latest",
    "daybreak-red-latest",
    "ft:babbage-002",
    "ft:davinci-002",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-0125",
    "gpt-3.5-turbo-1106",
    "gpt-3.5-turbo-16k",
    "gpt-3.5-turbo-instruct",
    "gpt-3.5-turbo-instruct-0914",
    "gpt-4",
    "gpt-4-0613",
    "gpt-4-1106-preview",
    "gpt-4-turbo",
    "gpt-4-turbo-2024-04-09",
    "gpt-4.1",
    "gpt-4.1-2025-04-14",
    "gpt-4.1-mini",
    "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano",
    "gpt-4.1-nano-2025-04-14",
    "gpt-4o",
    "gpt-4o-2024-05-13",
    "gpt-4o-2024-08-06",
    "gpt-4o-2024-11-20",
    "gpt-4o-audio-preview-2024-12-17",
    "gpt-4o-audio-preview-2025-06-03",
    "gpt-4o-mini",
    "gpt-4o-mini-2024-07-18",
    "gpt-4o-mini-audio-preview-2024-12-17",
    "gpt-4o-mini-search-preview",
    "gpt-4o-mini-search-preview-2025-03-11",
    "gpt-4o-search-preview",
    "gpt-4o-search-preview-2025-03-11",
    "gpt-5",
    "gpt-5-2025-08-07",
    "gpt-5-chat",
    "gpt-5-chat-latest",
    "gpt-5-codex",
    "gpt-5-mini",
    "gpt-5-mini-2025-08-07",
    "gpt-5-nano",
    "gpt-5-nano-2025-08-07",
    "gpt-5-pro",
    "gpt-5-pro-2025-10-06",
    "gpt-5-search-api",
    "gpt-5-search-api-2025-10-14",
    "gpt-5.1",
    "gpt-5.1-2025-11-13",
    "gpt-5.1-chat-latest",
    "gpt-5.1-codex",
    "gpt-5.1-codex-max",
    "gpt-5.1-codex-mini",
    "gpt-5.2",
    "gpt-5.2-2025-12-11",
    "gpt-5.2-chat-latest",
    "gpt-5.2-codex",
    "gpt-5.2-pro",
    "gpt-5.2-pro-2025-12-11",
    "gpt-5.3-chat-latest",
    "gpt-5.3-codex",
    "gpt-5.4",
    "gpt-5.4-2026-03-05",
    "gpt-5.4-mini",
    "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano",
    "gpt-5.4-nano-2026-03-17",
    "gpt-5.4-pro",
    "gpt-5.4-pro-2026-03-05",
    "gpt-5.5",
    "gpt-5.5-2026-04-23",
    "gpt-5.5-cyber",
    "gpt-5.5-cyber-preview",
    "gpt-5.5-pro",
    "gpt-5.5-pro-2026-04-23",
    "gpt-5.6",
    "gpt-5.6-cyber",
    "gpt-5.6-luna",
    "gpt-5.6-sol",
    "gpt-5.6-terra",
    "gpt-6-astra",
    "gpt-6-luna",
    "gpt-6-sol",
    "gpt-6.1-sol",
    "gpt-audio",
    "gpt-audio-1.5",
    "gpt-audio-2025-08-28",
    "gpt-audio-mini",
    "gpt-audio-mini-2025-10-06",
    "gpt-audio-mini-2025-12-15",
    "gpt-daybreak-blue-latest",
    "gpt-daybreak-red-latest",
    "gpt-rosalind-discovery",
    "gpt-rosalind-research",
    "o1",
    "o1-2024-12-17",
    "o1-pro",
    "o1-pro-2025-03-19",
    "o3",
    "o3-2025-04-16",
    "o3-deep-research",
    "o3-deep-research-2025-06-26",
    "o3-mini",
    "o3-mini-2025-01-31",
    "o3-pro",
    "o3-pro-2025-06-10",
    "o4-mini",
    "o4-mini-2025-04-16",
    "o4-mini-deep-research",
    "o4-mini-deep-research-2025-06-26",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(model: &str) -> Fields {
        chat_fields(Series::of(Family::OpenAi, model), model)
    }

    #[test]
    fn the_catalogue_is_sorted() {
        assert!(CATALOGUE.is_sorted());
    }

    #[test]
    fn series_are_told_from_names() {
        for (model, series) in [
            ("zai-org/glm-4.7", Series::Plain),
            ("gpt-4o", Series::Plain),
            ("openai/gpt-oss-120b", Series::Plain),
            ("gpt-5-chat-latest", Series::Plain),
            ("openai/gpt-5-chat", Series::Plain),
            ("gpt-5", Series::Gpt(NO_NONE)),
            ("gpt-5-2025-08-07", Series::Gpt(NO_NONE)),
            ("openai/gpt-5.1:online", Series::Gpt(NONE.and(RESTS_AT_NONE).and(NO_MINIMAL))),
            ("openai/gpt-5.2-chat", Series::Gpt(Efforts::UNKNOWN)),
            ("gpt-5-search-api", Series::GptSearch),
            ("o3-mini", Series::O),
            ("openai/o3", Series::O),
            ("o9-unheard-of", Series::Plain),
            ("org/olmo", Series::Plain),
        ] {
            assert_eq!(Series::of(Family::OpenAi, model), series, "{model}");
            assert_eq!(Series::of(Family::NanoGpt, model), series, "{model}");
        }
        assert_eq!(Series::of(Family::OpenAiLike, "gpt-5"), Series::Like);
    }

    #[test]
    fn user_and_effort_depend_on_the_catalogue() {
        for (model, user, effort) in [
            ("zai-org/glm-4.7", false, true),
            ("openai/gpt-4o", false, true),
            ("gpt-4o-audio-preview", false, true),
            ("gpt-4o", true, false),
            ("gpt-4o:online", true, false),
            ("gpt-3.5-turbo-instruct", true, false),
            ("gpt-5", true, true),
            ("openai/gpt-5", false, true),
            ("o3-mini", true, true),
            ("openai/o3", false, true),
        ] {
            assert_eq!(chat(model).has(Field::User), user, "{model}");
            assert_eq!(chat(model).has(Field::ReasoningEffort), effort, "{model}");
        }
    }

    #[test]
    fn series_lack_fields() {
        for (model, field, has) in [
            ("gpt-4", Field::ResponseFormat, false),
            ("gpt-4-turbo", Field::ResponseFormat, true),
            ("gpt-5", Field::TopP, false),
            ("gpt-5.1", Field::TopP, true),
            ("gpt-5.1", Field::Stop, false),
            ("gpt-5", Field::Verbosity, true),
            ("gpt-4o", Field::Verbosity, false),
            ("o3", Field::TopP, false),
            ("o3", Field::LogitBias, true),
            ("o3", Field::Tools, true),
            ("o3", Field::ParallelToolCalls, false),
            ("o1-2024-12-17", Field::ParallelToolCalls, true),
            ("o3-deep-research", Field::Tools, false),
            ("gpt-5-search-api", Field::Temperature, false),
            ("gpt-5-search-api", Field::User, true),
            ("zai-org/glm-4.7", Field::Thinking, false),
        ] {
            assert_eq!(chat(model).has(field), has, "{model} {field:?}");
        }
    }

    #[test]
    fn efforts() {
        let (gpt_5, gpt_5_1, unknown) = (Efforts::of("gpt-5"), Efforts::of("gpt-5.1-2025-11-13"), Efforts::UNKNOWN);
        assert!(gpt_5.refuse("none") && !gpt_5.refuse("minimal") && gpt_5.refuse("xhigh") && !gpt_5.refuse("high"));
        assert!(!gpt_5_1.refuse("none") && gpt_5_1.refuse("minimal") && !gpt_5_1.refuse("max"));
        assert!(!unknown.refuse("none") && unknown.refuse("xhigh"));
        assert!(gpt_5_1.resolve_to_none(None) && !gpt_5_1.resolve_to_none(Some("low")));
        assert!(!Efforts::of("gpt-5.5").resolve_to_none(None) && Efforts::of("gpt-5.5").resolve_to_none(Some("none")));
    }

    #[test]
    fn dates() {
        assert_eq!(undated("gpt-5-2025-08-07"), "gpt-5");
        assert_eq!(undated("gpt-5"), "gpt-5");
        assert_eq!(undated("-2025-08-07"), "");
        assert_eq!(undated("é-2025-08-0"), "é-2025-08-0");
    }
}
