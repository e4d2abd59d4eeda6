//! A model's `model` and `api_base`: which provider, which name there, and where it lives.

use crate::config::base::Base;
use crate::config::fault::Place;
use crate::config::provider::{self, Family, Provider, is_nanogpt};
use crate::config::reader::{Desk, Fields, Value};
use crate::config::syntax::quoted;
use crate::config::tree::Node;

/// Provider, upstream model and base of one entry.
pub(super) struct Address {
    pub configured: String,
    pub provider: &'static Provider,
    pub upstream_model: String,
    pub base: Base,
}

/// Reads `model`, `custom_llm_provider` and `api_base` (or `base_url`, LiteLLM's other name for it).
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Address> {
    let place = fields.place;
    let model = fields.take("model").filter(|node| !node.is_null());
    let explicit = fields.text("custom_llm_provider");
    let named = fields.take("api_base");
    let other = fields.take("base_url");
    let desk = &mut *fields.desk;
    let written = named.or(other).filter(|node| !node.is_null());
    let base = written.map(|node| written_base(desk, node));
    let model = match model {
        Some(node) => desk.value(node, "`model`", "a text such as openai/<name>"),
        None => {
            desk.error(place, "`litellm_params` has no `model`; write for example `model: openai/<name>`");
            None
        }
    }?;
    let known_base = base.as_ref().and_then(Option::as_ref);
    let (provider, upstream_model) = provider_of(desk, &model, explicit.as_deref(), known_base)?;
    if upstream_model.is_empty() {
        desk.error(model.place, format!("`model` names a provider and no model; write `{}/<name>`", provider.prefix));
        return None;
    }
    let base = match base {
        Some(base) => base?,
        None => usual_base(desk, provider, place)?,
    };
    let base = adjusted(desk, provider, base, written.map_or(place, |node| node.place));
    Some(Address { configured: model.text, provider, upstream_model, base })
}

fn written_base(desk: &mut Desk, node: &Node) -> Option<Base> {
    let value = desk.value(node, "`api_base`", "a URL such as https://nano-gpt.com/api/v1")?;
    match Base::parse(&value.text) {
        Ok(base) => Some(base),
        Err(advice) => {
            let source = value.variable.map(|name| format!(" (from {name})")).unwrap_or_default();
            desk.error(value.place, format!("`api_base`{source} is not usable: {advice}"));
            None
        }
    }
}

fn provider_of(
    desk: &mut Desk,
    model: &Value,
    explicit: Option<&str>,
    base: Option<&Base>,
) -> Option<(&'static Provider, String)> {
    let text = model.text.as_str();
    let at_nanogpt = base.is_some_and(|base| is_nanogpt(&base.host));
    let (prefix, rest) = match explicit {
        Some(prefix) => (prefix, text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text)),
        None => text.split_once('/').unwrap_or(("", text)),
    };
    if let Some(provider) = provider::known(prefix) {
        if at_nanogpt && provider.family == Family::OpenAiLike && provider.base.is_some() {
            let message = format!(
                "`{prefix}/` is taken as the provider, so NanoGPT is asked for {}; if the model's id there is {}, \
                 write {}",
                quoted(rest),
                quoted(text),
                quoted(&format!("openai/{text}"))
            );
            desk.warn(model.place, message);
        }
        return Some((provider, rest.to_owned()));
    }
    if let (Some(instead), false) = (provider::foreign(prefix), at_nanogpt) {
        desk.error(model.place, format!("`{prefix}/` does not speak OpenAI's wire and is not supported: {instead}"));
        return None;
    }
    if provider::foreign(prefix).is_some() {
        let right = quoted(&format!("openai/{text}"));
        let message = format!("`{prefix}/` does not speak OpenAI's wire; for NanoGPT's model write {right}");
        desk.error(model.place, message);
        return None;
    }
    if at_nanogpt && explicit.is_none() {
        return Some((&provider::NANOGPT, text.to_owned()));
    }
    unknown_provider(desk, model, prefix, rest);
    None
}

fn unknown_provider(desk: &mut Desk, model: &Value, prefix: &str, rest: &str) {
    let (shown, right) = (quoted(&model.text), quoted(&format!("openai/{}", model.text)));
    let message = match provider::nearest_prefix(prefix) {
        Some(near) => {
            format!("`model`: unknown provider {}; did you mean {}?", quoted(prefix), quoted(&format!("{near}/{rest}")))
        }
        None => format!(
            "`model`: {shown} names no provider; write {right}, with the `api_base` of an endpoint that speaks \
             OpenAI's wire"
        ),
    };
    desk.error(model.place, message);
}

/// Without `api_base` in the file: the provider's variable, else its usual address.
fn usual_base(desk: &mut Desk, provider: &Provider, place: Place) -> Option<Base> {
    let variable = provider.base_variables.iter().find(|name| desk.env.filled(name).is_some());
    if let Some(variable) = variable {
        let text = desk.env.filled(variable).unwrap_or_default().to_owned();
        return match Base::parse(&text) {
            Ok(base) => {
                desk.note(place, format!("no `api_base`: the address comes from {variable}, as in LiteLLM"));
                Some(base)
            }
            Err(advice) => {
                desk.error(place, format!("no `api_base`, and {variable} is not usable: {advice}"));
                None
            }
        };
    }
    match provider.base {
        Some(base) => {
            if provider.family == Family::OpenAi {
                desk.note(place, format!("no `api_base`: requests go to {base}, as in LiteLLM"));
            }
            Base::parse(base).ok()
        }
        None => {
            desk.error(place, format!("`{}/` has no usual address; write `api_base`", provider.prefix));
            None
        }
    }
}

/// What can be said of an address that is well formed and still wrong.
fn adjusted(desk: &mut Desk, provider: &Provider, mut base: Base, place: Place) -> Base {
    if !base.tls && !base.is_loopback() {
        desk.warn(place, format!("`api_base`: key and prompts travel to {} unencrypted; use https://", base.host));
    }
    if provider.prefix.starts_with("ollama") && base.path.is_empty() {
        // LiteLLM calls Ollama's own `/api/chat` under this address; its OpenAI endpoint is under `/v1`.
        base.path = "/v1".to_owned();
    }
    let missing = match base.host.as_str() {
        host if is_nanogpt(host) && matches!(base.path.as_str(), "" | "/api") => "/api/v1",
        "api.openai.com" if base.path.is_empty() => "/v1",
        _ => return base,
    };
    let right = Base { path: missing.to_owned(), ..base.clone() };
    desk.warn(place, format!("`api_base` lacks its path; write {}", right.url()));
    base
}
