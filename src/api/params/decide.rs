//! One body against the rules of one deployment.
//!
//! The members are judged in their order, then those of `extra_body` that no direct one overrides, then the
//! deployment's defaults for what is still missing. Each is judged alone; the few rules that depend on another field
//! look that one up when they need it, so that an ordinary body costs one pass and no allocation.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;

use super::client::usage_asked;
use super::models::{SAMPLING, Series};
use super::words::{Field, Fields, Word, name_of, word};
use super::{Action, Dropped, Edit, Preset, Reason, Refused, Rules, Shape, consumes};
use crate::wire::json::{Kind, Skim, items_of, kind_of, members_of, spells, string};

/// Entries of a list in a body that count.
const CLIENT_LIST_MAX: usize = 32;
/// Of them, the ones that lead into a member: each step of each may read the whole member once more, so that a small
/// body could otherwise ask for a lot of work.
const CLIENT_PATHS_MAX: usize = 4;

/// Fields that are never compared with what a model supports.
const UNCOMPARED: Fields = Fields::of(&[Field::Stream, Field::StreamOptions]);
/// Only embeddings know it.
const DIMENSIONS: Fields = Fields::of(&[Field::Dimensions]);

/// Where a field comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client,
    Deployment,
}

#[derive(Clone, Copy)]
struct Value<'a> {
    bytes: &'a [u8],
    kind: Kind,
}

/// A member of `extra_body` on its way to the top level.
struct Extra<'a> {
    name: Cow<'a, str>,
    word: Word,
    value: Value<'a>,
}

enum Verdict {
    Keep,
    Remove(Reason),
    /// Removed, and the client should know.
    Tell(Reason),
    Rename(&'static str),
    Replace(Bytes, Reason),
}

struct Request<'a> {
    rules: &'a Rules,
    shape: Shape,
    doc: &'a Bytes,
    skim: &'a Skim,
    /// The lists the client sent; added to the deployment's, which it cannot take back.
    dropped: Dropped,
    allowed: Fields,
    extras: Vec<Extra<'a>>,
    streaming: bool,
}

pub(super) fn decide(rules: &Rules, shape: Shape, doc: &Bytes, skim: &Skim) -> Result<Edit, Refused> {
    let request = Request::read(rules, shape, doc, skim);
    let mut edit = Edit::default();
    request.judge_members(&mut edit)?;
    request.judge_extras(&mut edit)?;
    request.fill_in(&mut edit)?;
    request.ask_for_usage(&mut edit);
    Ok(edit)
}

impl<'a> Request<'a> {
    fn read(rules: &'a Rules, shape: Shape, doc: &'a Bytes, skim: &'a Skim) -> Self {
        let mut request = Self {
            rules,
            shape,
            doc,
            skim,
            dropped: Dropped::default(),
            allowed: rules.allowed,
            extras: Vec::new(),
            streaming: false,
        };
        request.streaming = request.member("stream").is_some_and(|value| value.kind == Kind::True);
        for text in request.names_in("additional_drop_params") {
            request.dropped.add(&text);
        }
        request.dropped.nested.truncate(CLIENT_PATHS_MAX);
        for name in request.names_in("allowed_openai_params") {
            if let Word::Standard(field) = word(&name) {
                request.allowed = request.allowed.and(Fields::of(&[field]));
            }
        }
        if let Some(extra_body) = request.member("extra_body") {
            request.extras = request.read_extras(extra_body.bytes);
        }
        request
    }

    fn judge_members(&self, edit: &mut Edit) -> Result<(), Refused> {
        let mut shadowed = self.skim.shadowed(self.doc).into_iter().peekable();
        for (index, member) in self.skim.members().iter().enumerate() {
            if shadowed.next_if_eq(&index).is_some() {
                edit.changes.push((index, Action::Remove, Reason::Duplicate));
                continue;
            }
            let name = self.skim.key(self.doc, index);
            let value = Value { bytes: self.skim.value(self.doc, index), kind: member.kind };
            let verdict = self.judge(&name, word(&name), value, Origin::Client, edit)?;
            match verdict {
                Verdict::Keep => {}
                Verdict::Remove(reason) => edit.changes.push((index, Action::Remove, reason)),
                Verdict::Tell(reason) => {
                    edit.changes.push((index, Action::Remove, reason));
                    edit.dropped.push(name.into_owned());
                }
                Verdict::Rename(other) => {
                    edit.changes.push((index, Action::Rename(other), Reason::RenamedForFamily));
                }
                Verdict::Replace(value, reason) => edit.changes.push((index, Action::Replace(value), reason)),
            }
        }
        Ok(())
    }

    fn judge_extras(&self, edit: &mut Edit) -> Result<(), Refused> {
        for extra in &self.extras {
            let verdict = self.judge(&extra.name, extra.word, extra.value, Origin::Client, edit)?;
            let (name, value, reason) = match verdict {
                Verdict::Remove(_) => continue,
                Verdict::Tell(_) => {
                    edit.dropped.push(extra.name.clone().into_owned());
                    continue;
                }
                Verdict::Keep => {
                    let value = self.doc.slice_ref(extra.value.bytes);
                    (extra.name.clone().into_owned().into(), value, Reason::MergedFromExtraBody)
                }
                Verdict::Rename(other) => {
                    (other.into(), self.doc.slice_ref(extra.value.bytes), Reason::RenamedForFamily)
                }
                Verdict::Replace(value, reason) => (extra.name.clone().into_owned().into(), value, reason),
            };
            edit.additions.push((name, value, reason));
        }
        Ok(())
    }

    /// Adds the deployment's defaults for what the client did not send.
    fn fill_in(&self, edit: &mut Edit) -> Result<(), Refused> {
        for default in &self.rules.common.defaults {
            let Some(name) = self.name_here(default) else { continue };
            let given = self.client_gave(name) || edit.additions.iter().any(|(added, ..)| added == name);
            if given || self.other_name(default.word).is_some_and(|other| self.client_gave(other)) {
                continue;
            }
            let value = Value { bytes: &default.value, kind: default.kind };
            let verdict = match self.judge(name, default.word, value, Origin::Deployment, edit) {
                // A default meant for chat says nothing against the other uses of a deployment.
                Err(_) if self.shape != Shape::Chat => continue,
                verdict => verdict?,
            };
            let addition: (Cow<'static, str>, Bytes, Reason) = match verdict {
                Verdict::Remove(_) | Verdict::Tell(_) => continue,
                Verdict::Keep => (name.to_owned().into(), default.value.clone(), Reason::DeploymentDefault),
                Verdict::Rename(other) => (other.into(), default.value.clone(), Reason::DeploymentDefault),
                Verdict::Replace(value, reason) => (name.to_owned().into(), value, reason),
            };
            edit.additions.push(addition);
        }
        Ok(())
    }

    /// Streamed chat always asks for usage. A signed model's body is left as the client signed it.
    fn ask_for_usage(&self, edit: &mut Edit) {
        let wanted = self.shape == Shape::Chat && self.streaming && !self.rules.signed;
        if wanted && !self.is_dropped("stream_options") && self.given("stream_options").is_none() {
            let options = Bytes::from_static(br#"{"include_usage":true}"#);
            edit.additions.push(("stream_options".into(), options, Reason::UsageForStreams));
            edit.usage_added = true;
        }
    }

    /// What becomes of one field, whole or in parts.
    fn judge(
        &self,
        name: &str,
        word: Word,
        value: Value<'_>,
        origin: Origin,
        edit: &mut Edit,
    ) -> Result<Verdict, Refused> {
        let verdict = self.judge_whole(name, word, value, origin)?;
        if let Verdict::Replace(_, Reason::UsageForStreams) = verdict {
            edit.usage_added = true;
        }
        let replaced = match &verdict {
            Verdict::Keep => value.bytes,
            Verdict::Replace(replaced, _) => replaced,
            _ => return Ok(verdict),
        };
        let pruned = self.prune(name, replaced, origin, edit);
        Ok(pruned.map_or(verdict, |pruned| Verdict::Replace(pruned.into(), Reason::Additional)))
    }

    fn judge_whole(&self, name: &str, word: Word, value: Value<'_>, origin: Origin) -> Result<Verdict, Refused> {
        if consumes(self.shape, word) {
            return Ok(Verdict::Remove(Reason::Consumed));
        }
        match word {
            Word::Banned(_) => return Ok(Verdict::Remove(Reason::Refused)),
            Word::ExtraBody => return Ok(Verdict::Remove(Reason::MergedFromExtraBody)),
            Word::Substance => return Ok(Verdict::Keep),
            _ => {}
        }
        if value.kind == Kind::Null && self.shape.is_mapped() {
            return Ok(Verdict::Remove(Reason::Null));
        }
        if self.is_dropped(name) {
            return Ok(Verdict::Tell(Reason::Additional));
        }
        match word {
            Word::Standard(field) if self.shape.is_mapped() => self.judge_standard(field, value, origin),
            _ => Ok(Verdict::Keep),
        }
    }

    fn judge_standard(&self, field: Field, value: Value<'_>, origin: Origin) -> Result<Verdict, Refused> {
        if !self.supports(field) {
            return match field {
                Field::User => Ok(Verdict::Tell(Reason::NotInCatalogue)),
                // LangChain sends n: 1 always; that is the default anyway.
                Field::N if value.bytes == b"1" => Ok(Verdict::Remove(Reason::Unsupported)),
                _ => self.unsupported(field, None),
            };
        }
        match field {
            _ if self.shape == Shape::Embeddings => Ok(Verdict::Keep),
            Field::ToolChoice if !self.has_tools() => Ok(Verdict::Tell(Reason::NoTools)),
            Field::StreamOptions => Ok(self.judge_stream_options(value)),
            _ if self.shape == Shape::Chat => self.judge_for_series(field, value, origin),
            _ => Ok(Verdict::Keep),
        }
    }

    /// What depends on the model's family beyond its list of fields.
    fn judge_for_series(&self, field: Field, value: Value<'_>, origin: Origin) -> Result<Verdict, Refused> {
        if let Some((old, new)) = self.rules.series.token_limit() {
            // OpenAI's newer name counts when both are there, whichever of them the family wants.
            let newer_given = match origin {
                Origin::Client => self.client_value("max_completion_tokens").is_some(),
                Origin::Deployment => self.given("max_completion_tokens").is_some(),
            };
            match field {
                Field::MaxTokens if newer_given => return Ok(Verdict::Remove(Reason::OtherNameGiven)),
                field if field == old => return Ok(Verdict::Rename(name_of(new))),
                _ => {}
            }
        }
        if self.allowed.has(field) {
            return Ok(Verdict::Keep);
        }
        match (self.rules.series, field) {
            (Series::Gpt(efforts), Field::ReasoningEffort) => {
                let effort = effort_of(value);
                if effort.as_deref().is_some_and(|effort| efforts.refuse(effort)) {
                    return self.unsupported(field, Some("at this effort"));
                }
                Ok(effort_as_text(value).map_or(Verdict::Keep, |text| Verdict::Replace(text, Reason::EffortAsText)))
            }
            (Series::Gpt(efforts), field) if SAMPLING.has(field) && efforts.know_none() && !self.rests() => {
                self.unsupported(field, Some("unless reasoning_effort is \"none\""))
            }
            (Series::Gpt(efforts), Field::Temperature) if efforts.know_none() && self.rests() => Ok(Verdict::Keep),
            (Series::Gpt(_) | Series::O, Field::Temperature) if !is_one(value) => {
                self.unsupported(field, Some("except as 1 while it reasons"))
            }
            _ => Ok(Verdict::Keep),
        }
    }

    fn judge_stream_options(&self, value: Value<'_>) -> Verdict {
        if !self.streaming {
            return Verdict::Tell(Reason::NotStreaming);
        }
        if self.shape != Shape::Chat || self.rules.signed || value.kind != Kind::Object {
            return Verdict::Keep;
        }
        match usage_asked(value.bytes) {
            Some(true) => Verdict::Keep,
            _ => Verdict::Replace(with_usage(value.bytes).into(), Reason::UsageForStreams),
        }
    }

    /// Dropped or refused, as the deployment has it.
    fn unsupported(&self, field: Field, unless: Option<&'static str>) -> Result<Verdict, Refused> {
        if self.rules.drop {
            return Ok(Verdict::Tell(Reason::Unsupported));
        }
        Err(Refused { param: name_of(field).to_owned(), model: self.rules.model.clone(), unless })
    }

    fn supports(&self, field: Field) -> bool {
        let supported = match self.shape {
            Shape::Embeddings => {
                return !DIMENSIONS.has(field) || self.rules.embeddings.and(self.allowed).has(field);
            }
            Shape::Completions => self.rules.completions,
            _ => self.rules.chat,
        };
        supported.and(self.allowed).and(UNCOMPARED).and(DIMENSIONS).has(field)
    }

    fn has_tools(&self) -> bool {
        self.supports(Field::Tools) && self.given("tools").is_some()
    }

    /// Whether a gpt model that knows effort "none" will answer at it. An effort that is dropped counts as not given.
    fn rests(&self) -> bool {
        let Series::Gpt(efforts) = self.rules.series else { return false };
        let effort = self.given("reasoning_effort").and_then(effort_of);
        let reaches = |effort: &Cow<'_, str>| self.allowed.has(Field::ReasoningEffort) || !efforts.refuse(effort);
        efforts.resolve_to_none(effort.filter(reaches).as_deref())
    }

    /// Takes out what nested entries of `additional_drop_params` name; `None` when there was nothing.
    fn prune(&self, name: &str, value: &[u8], origin: Origin, edit: &mut Edit) -> Option<Vec<u8>> {
        let mut pruned: Option<Vec<u8>> = None;
        for (text, path) in self.rules.common.dropped.nested.iter().chain(&self.dropped.nested) {
            if path.root() == name
                && let Some(left) = path.remove_from(pruned.as_deref().unwrap_or(value))
            {
                pruned = Some(left);
                if origin == Origin::Client {
                    edit.dropped.push(text.clone());
                }
            }
        }
        pruned
    }

    /// Whether a list drops the whole field. The request's substance and its stream are out of reach for lists.
    fn is_dropped(&self, name: &str) -> bool {
        let listed = self.rules.common.dropped.names(name) || self.dropped.names(name);
        listed && !matches!(word(name), Word::Substance | Word::Standard(Field::Stream))
    }

    /// What reaches the rules under this name, whoever gave it.
    fn given(&self, name: &str) -> Option<Value<'a>> {
        if self.is_dropped(name) {
            return None;
        }
        self.client_value(name).or_else(|| {
            let default = self.rules.common.defaults.iter().find(|default| default.name == name)?;
            Some(Value { bytes: &default.value, kind: default.kind })
        })
    }

    /// What the client gave under this name, here or in `extra_body`.
    fn client_value(&self, name: &str) -> Option<Value<'a>> {
        let extra = || self.extras.iter().find(|extra| extra.name == name).map(|extra| extra.value);
        self.member(name).or_else(extra).filter(|value| value.kind != Kind::Null)
    }

    /// Whether a default would come second. Where null passes through, it is an answer too.
    fn client_gave(&self, name: &str) -> bool {
        let null_counts = !self.shape.is_mapped() && self.skim.find(self.doc, name).is_some();
        null_counts || self.client_value(name).is_some()
    }

    /// The value of a member that is there and not null.
    fn member(&self, name: &str) -> Option<Value<'a>> {
        let index = self.skim.find(self.doc, name)?;
        let kind = self.skim.members()[index].kind;
        (kind != Kind::Null).then(|| Value { bytes: self.skim.value(self.doc, index), kind })
    }

    /// The strings of an array member.
    fn names_in(&self, member: &str) -> Vec<String> {
        let list = self.member(member).map_or(&b""[..], |value| value.bytes);
        let strings = items_of(list).filter_map(|(item, _)| Some(string(&list[item])?.into_owned()));
        strings.take(CLIENT_LIST_MAX).collect()
    }

    /// The members of `extra_body` that count: not overridden, not the request's substance, not its stream.
    fn read_extras(&self, extra_body: &'a [u8]) -> Vec<Extra<'a>> {
        let null_counts = !self.shape.is_mapped();
        let members = self.skim.members().iter().enumerate();
        let direct = members.filter(|(_, member)| null_counts || member.kind != Kind::Null);
        let mut taken: HashSet<Cow<'a, str>> = direct.map(|(index, _)| self.skim.key(self.doc, index)).collect();
        let all: Vec<_> = members_of(extra_body).collect();
        let mut extras = Vec::new();
        for (key, value, kind) in all.into_iter().rev() {
            let Some(name) = string(&extra_body[key]) else { continue };
            let word = word(&name);
            let ours = matches!(word, Word::Substance | Word::ExtraBody | Word::Standard(Field::Stream));
            if !ours && taken.insert(name.clone()) {
                extras.push(Extra { name, word, value: Value { bytes: &extra_body[value], kind } });
            }
        }
        extras.reverse();
        extras
    }

    /// The name a default has in this kind of body, if it has a place there.
    fn name_here<'d>(&self, default: &'d Preset) -> Option<&'d str> {
        let Word::Standard(field) = default.word else { return Some(&default.name) };
        let fits = match self.shape {
            Shape::Chat | Shape::Completions => true,
            Shape::Embeddings => matches!(field, Field::User | Field::Dimensions),
            Shape::Responses if matches!(field, Field::MaxTokens | Field::MaxCompletionTokens) => {
                return Some("max_output_tokens");
            }
            Shape::Responses => RESPONSES_DEFAULTS.has(field),
            Shape::Messages => MESSAGES_DEFAULTS.has(field),
            Shape::Images | Shape::Audio | Shape::Moderations | Shape::Rerank => field == Field::User,
        };
        fits.then_some(&default.name)
    }

    /// The other name of the limit on answer tokens, where the family knows only one.
    fn other_name(&self, default: Word) -> Option<&'static str> {
        if self.shape != Shape::Chat {
            return None;
        }
        match (self.rules.series.token_limit()?, default) {
            ((one, other), Word::Standard(field)) if field == one => Some(name_of(other)),
            ((other, one), Word::Standard(field)) if field == one => Some(name_of(other)),
            _ => None,
        }
    }
}

/// Chat fields that mean the same in Responses.
const RESPONSES_DEFAULTS: Fields = Fields::of(&[
    Field::Temperature,
    Field::TopP,
    Field::TopLogprobs,
    Field::User,
    Field::Store,
    Field::ServiceTier,
    Field::SafetyIdentifier,
    Field::PromptCacheKey,
    Field::PromptCacheRetention,
    Field::ParallelToolCalls,
]);

/// Chat fields that mean the same in Messages.
const MESSAGES_DEFAULTS: Fields =
    Fields::of(&[Field::Temperature, Field::TopP, Field::MaxTokens, Field::Thinking, Field::ServiceTier]);

/// The effort in `"high"` or `{"effort":"high",…}`.
fn effort_of(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.kind {
        Kind::String => string(value.bytes),
        Kind::Object => string(effort_member(value.bytes)?),
        _ => None,
    }
}

/// The effort alone, where it came in an object.
fn effort_as_text(value: Value<'_>) -> Option<Bytes> {
    let effort = effort_member(value.bytes).filter(|effort| kind_of(effort) == Some(Kind::String))?;
    Some(Bytes::copy_from_slice(effort))
}

fn effort_member(object: &[u8]) -> Option<&[u8]> {
    let efforts = members_of(object).filter(|(key, ..)| spells(&object[key.clone()], "effort"));
    efforts.last().map(|(_, value, _)| &object[value])
}

fn is_one(value: Value<'_>) -> bool {
    let text = str::from_utf8(value.bytes).ok();
    value.kind == Kind::Number && text.and_then(|text| text.parse().ok()) == Some(1.0_f64)
}

/// A `stream_options` object with `include_usage` true, every other byte as it was.
fn with_usage(options: &[u8]) -> Vec<u8> {
    let mut members = members_of(options).filter(|(key, ..)| spells(&options[key.clone()], "include_usage")).peekable();
    let mut edited = Vec::with_capacity(options.len() + 21);
    if members.peek().is_some() {
        let mut copied = 0;
        for (_, value, _) in members {
            edited.extend_from_slice(&options[copied..value.start]);
            edited.extend_from_slice(b"true");
            copied = value.end;
        }
        edited.extend_from_slice(&options[copied..]);
    } else {
        edited.extend_from_slice(br#"{"include_usage":true"#);
        if members_of(options).next().is_some() {
            edited.push(b',');
        }
        edited.extend_from_slice(&options[1..]);
    }
    edited
}
