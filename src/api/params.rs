//! Which members of a request body reach an upstream, under which name, and what is added: LiteLLM's `drop_params`
//! rule made exact, as changes to the members of a skimmed body.
//!
//! Nothing is rewritten here: [`Rules::decide`] says what to change and why, the caller splices. What is known of a
//! deployment when the configuration is read sits in [`Rules`]; a request only looks things up. This file knows no
//! routes, no headers and no HTTP status.
//!
//! | file | holds |
//! |---|---|
//! | words.rs | every name that means something: standard, consumed, refused |
//! | models.rs | what a model takes, told from its name |
//! | decide.rs | one body against the rules of one deployment |
//! | client.rs | what holds before a deployment is known: refusals, wishes |
//! | repair.rs | which fields an upstream's 422 complains about |

mod client;
mod decide;
mod models;
mod repair;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::wire::json::{DEPTH_MAX_DEFAULT, Kind, Skim, members_of, string, validate};
use crate::wire::splice::Path;
pub use client::{Wishes, refused_field, refused_in, wishes};
use models::Series;
pub use repair::fields_named_by_422;
use words::{Field, Fields, Word, word};

/// What kind of body it is; decides which fields are compared, consumed and filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Images,
    Audio,
    Moderations,
    Rerank,
}

impl Shape {
    /// Whether LiteLLM's parameter tables apply. The other APIs are passed through as they are: no field is compared
    /// there, and null is a value like any other.
    fn is_mapped(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Embeddings)
    }
}

/// How the provider is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    OpenAi,
    /// Exactly like [`Family::OpenAi`]: LiteLLM drops tools and renames fields for `nano-gpt/`, NanoGPT takes them.
    NanoGpt,
    /// Others with OpenAI's API (openai_like, hosted_vllm, groq, openrouter, …): the common fields, `reasoning_effort`
    /// and `response_format` for every model, `max_completion_tokens` under its older name as LiteLLM does for
    /// `openai_like/`, no rules for gpt-5 and o models, `dimensions` for every embedding model.
    OpenAiLike,
}

/// Everything about one deployment that can be decided before a request is there.
#[derive(Clone, Debug)]
pub struct Rules {
    model: String,
    drop: bool,
    series: Series,
    /// Supported or explicitly allowed.
    chat: Fields,
    completions: Fields,
    embeddings: Fields,
    allowed: Fields,
    signed: bool,
    common: Arc<Common>,
}

/// What does not depend on the upstream model.
#[derive(Debug)]
struct Common {
    family: Family,
    dropped: Dropped,
    defaults: Vec<Preset>,
}

/// `additional_drop_params`, sorted by what they name.
#[derive(Default, Debug)]
struct Dropped {
    names: Vec<String>,
    nested: Vec<(String, Path)>,
}

/// A value the deployment fills in.
#[derive(Debug)]
struct Preset {
    name: String,
    word: Word,
    kind: Kind,
    value: Bytes,
}

impl Rules {
    /// The rules of one deployment: `drop` is its effective `drop_params`, the lists are LiteLLM's options of these
    /// names, `defaults` are request fields by name with their JSON (an `extra_body` counts member by member).
    ///
    /// `defaults` must be sound JSON; one that is not, that the gateway consumes or that names the model, the
    /// messages, the stream or anything refused from clients is left out.
    pub fn new(
        family: Family,
        upstream_model: &str,
        drop: bool,
        additional_drop: &[String],
        allowed: &[String],
        defaults: &[(String, String)],
    ) -> Self {
        let mut dropped = Dropped::default();
        additional_drop.iter().for_each(|text| dropped.add(text));
        let common = Arc::new(Common { family, dropped, defaults: flat_defaults(defaults) });
        let mut allowed_fields = Fields::NONE;
        for name in allowed {
            if let Word::Standard(field) = word(name) {
                allowed_fields = allowed_fields.and(Fields::of(&[field]));
            }
        }
        Self::build(upstream_model, drop, allowed_fields, common)
    }

    /// The same rules for another upstream model, as wildcards need for every request.
    #[must_use]
    pub fn for_model(&self, upstream_model: &str) -> Self {
        Self::build(upstream_model, self.drop, self.allowed, Arc::clone(&self.common))
    }

    /// The model the rules are for, as the upstream calls it.
    pub fn upstream_model(&self) -> &str {
        &self.model
    }

    /// What to change in a body so that this deployment's upstream can take it. `skim` must be of this `doc`.
    ///
    /// The member `model` is never among the changes, except as a duplicate: who forwards puts in its own.
    pub fn decide(&self, shape: Shape, doc: &Bytes, skim: &Skim) -> Result<Edit, Refused> {
        decide::decide(self, shape, doc, skim)
    }

    fn build(model: &str, drop: bool, allowed: Fields, common: Arc<Common>) -> Self {
        let series = Series::of(common.family, model);
        Self {
            drop,
            series,
            chat: models::chat_fields(series, model).and(allowed),
            completions: models::COMPLETIONS.and(allowed),
            embeddings: models::embedding_fields(common.family, model).and(allowed),
            allowed,
            signed: models::is_signed(model),
            model: model.to_owned(),
            common,
        }
    }
}

impl Dropped {
    /// Takes `text` in. What is no path is taken for a plain name, as LiteLLM compares it.
    fn add(&mut self, text: &str) {
        match Path::parse(text) {
            Some(path) if path.is_nested() => self.nested.push((text.to_owned(), path)),
            _ => self.names.push(text.to_owned()),
        }
    }

    fn names(&self, name: &str) -> bool {
        self.names.iter().any(|dropped| dropped == name)
    }
}

/// The defaults one by one: direct ones first, then the members of an `extra_body` that no direct one overrides.
fn flat_defaults(defaults: &[(String, String)]) -> Vec<Preset> {
    let mut flat: Vec<Preset> = Vec::new();
    let mut add = |name: &str, json: &[u8]| {
        let word = word(name);
        let fixed = matches!(word, Word::Consumed | Word::ExtraBody | Word::Banned(_) | Word::Substance)
            || word == Word::Standard(Field::Stream);
        if let Ok(kind) = validate(json, DEPTH_MAX_DEFAULT)
            && kind != Kind::Null
            && !fixed
            && !flat.iter().any(|earlier| earlier.name == name)
        {
            flat.push(Preset { name: name.to_owned(), word, kind, value: Bytes::copy_from_slice(json) });
        }
    };
    let is_extra_body = |(name, _): &&(String, String)| word(name) == Word::ExtraBody;
    for (name, json) in defaults.iter().filter(|default| !is_extra_body(default)) {
        add(name, json.trim().as_bytes());
    }
    for (_, json) in defaults.iter().filter(is_extra_body) {
        let sound = validate(json.as_bytes(), DEPTH_MAX_DEFAULT).is_ok();
        for (key, value, _) in members_of(json.as_bytes()).filter(|_| sound) {
            if let Some(name) = string(&json.as_bytes()[key]) {
                add(&name, &json.as_bytes()[value]);
            }
        }
    }
    flat
}

/// What happens to a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Remove,
    /// The value stays, the key becomes this.
    Rename(&'static str),
    /// The key stays, the value becomes this.
    Replace(Bytes),
}

/// Why a body is changed. [`fmt::Display`] gives the words for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Meant for the gateway, or without effect since LiteLLM would keep it for itself.
    Consumed,
    /// Refused from clients; taken out here in case nobody asked [`refused_in`].
    Refused,
    /// A later member has the same key.
    Duplicate,
    Null,
    Unsupported,
    NotInCatalogue,
    Additional,
    NoTools,
    NotStreaming,
    RenamedForFamily,
    /// Its other name is in the body too and counts.
    OtherNameGiven,
    /// `reasoning_effort` as an object with an `effort`, made the string that chat takes.
    EffortAsText,
    MergedFromExtraBody,
    DeploymentDefault,
    UsageForStreams,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Consumed => "meant for the gateway, never sent upstream",
            Self::Refused => "not allowed in a request",
            Self::Duplicate => "given again later in the body",
            Self::Null => "null means not given",
            Self::Unsupported => "not supported by this model",
            Self::NotInCatalogue => "only sent to models of OpenAI's catalogue",
            Self::Additional => "listed in additional_drop_params",
            Self::NoTools => "without meaning when there are no tools",
            Self::NotStreaming => "without meaning when the answer is not streamed",
            Self::RenamedForFamily => "called differently by this model family",
            Self::OtherNameGiven => "given under its other name too",
            Self::EffortAsText => "reduced to the effort, as chat completions take it",
            Self::MergedFromExtraBody => "moved from extra_body to the top level",
            Self::DeploymentDefault => "filled in by the deployment",
            Self::UsageForStreams => "asks the upstream for the usage of a stream",
        })
    }
}

/// The changes one body needs.
#[derive(Default, Debug)]
pub struct Edit {
    /// By index of the member in the skim, ascending, one per member.
    pub changes: Vec<(usize, Action, Reason)>,
    /// Members to add: name as plain text, value as JSON.
    pub additions: Vec<(Cow<'static, str>, Bytes, Reason)>,
    /// What the client sent with a meaning and the upstream does not get, for `x-gateway-dropped-params`: names, or
    /// paths for parts of a member. Names that come from a list in the body may hold any character.
    pub dropped: Vec<String>,
    /// The upstream is asked for usage that neither the client nor the deployment asked for.
    pub usage_added: bool,
}

/// A field the upstream's model does not take, where the deployment does not allow to drop it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub param: String,
    pub model: String,
    /// What would be taken, when it depends on the value or on other fields.
    pub unless: Option<&'static str>,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` is not supported by {}", self.param, self.model)?;
        self.unless.map_or(Ok(()), |unless| write!(out, " {unless}"))
    }
}

impl std::error::Error for Refused {}

/// Whether a member of this name is for the gateway alone. `metadata` is a field of the upstream's API in Responses
/// and Messages; everything else LiteLLM consumes has no meaning in any API.
pub fn is_consumed(shape: Shape, name: &str) -> bool {
    consumes(shape, word(name))
}

fn consumes(shape: Shape, word: Word) -> bool {
    match word {
        Word::Consumed => true,
        Word::Metadata => !matches!(shape, Shape::Responses | Shape::Messages),
        _ => false,
    }
}
