//! A model's `api_key`: written, referred to, or the provider's usual variable.
//!
//! A key that is missing concerns its model only: a warning when serving, an error in `check`. A key that would go to
//! another company than its variable says is told. No message shows any part of a key.

use crate::config::Strictness;
use crate::config::base::Base;
use crate::config::deployment::Key;
use crate::config::fault::{Level, Place};
use crate::config::provider::{NANOGPT_KEY, Provider, is_nanogpt};
use crate::config::reader::{Desk, Missing};
use crate::config::secret::Secret;
use crate::config::tree::Node;

/// The key and the variable it comes from.
pub(super) fn read(
    desk: &mut Desk,
    node: Option<&Node>,
    provider: &'static Provider,
    base: &Base,
    place: Place,
) -> (Key, Option<String>) {
    let Some(node) = node else { return usual(desk, provider, base, place) };
    match desk.resolve(node, "`api_key`", "a text") {
        Ok(value) => {
            let key = secret(desk, node.place, "`api_key`", &value.text).map_or(Key::None, Key::Known);
            (key, value.variable)
        }
        Err(Missing::Unset(variable)) => {
            let message = format!("`api_key`: {}", desk.unset(&variable));
            unset(desk, node.place, variable, &message)
        }
        Err(Missing::Empty) => usual(desk, provider, base, node.place),
        Err(Missing::Told) => (Key::None, None),
    }
}

/// Speaks of a key whose model is faulty anyway, so that everything is said at once.
pub(super) fn judge(desk: &mut Desk, node: &Node) {
    if let Err(Missing::Unset(variable)) = desk.resolve(node, "`api_key`", "a text") {
        let message = format!("`api_key`: {}", desk.unset(&variable));
        unset(desk, node.place, variable, &message);
    }
}

/// Without `api_key` in the file: NanoGPT's variable for NanoGPT's host, else the provider's.
fn usual(desk: &mut Desk, provider: &Provider, base: &Base, place: Place) -> (Key, Option<String>) {
    let nanogpt = is_nanogpt(&base.host).then_some(NANOGPT_KEY);
    let candidates: Vec<&str> = nanogpt.into_iter().chain(provider.key_variable).collect();
    let Some(first) = candidates.first() else { return (Key::None, None) };
    let Some(variable) = candidates.iter().find(|name| desk.env.filled(name).is_some()) else {
        if provider.key_optional && nanogpt.is_none() {
            return (Key::None, None);
        }
        let message = format!("no `api_key`, and {}", desk.unset(first));
        return unset(desk, place, (*first).to_owned(), &message);
    };
    if nanogpt != Some(*variable) && away_from_home(provider, base) {
        let message = format!("no `api_key`, so {variable} is sent to {}, as LiteLLM does; write `api_key`", base.host);
        desk.warn(place, message);
    }
    let text = desk.env.filled(variable).unwrap_or_default().to_owned();
    let key = secret(desk, place, variable, &text).map_or(Key::None, Key::Known);
    (key, Some((*variable).to_owned()))
}

fn away_from_home(provider: &Provider, base: &Base) -> bool {
    let home = provider.base.and_then(|home| Base::parse(home).ok());
    home.is_some_and(|home| home.host != base.host)
}

fn unset(desk: &mut Desk, place: Place, variable: String, message: &str) -> (Key, Option<String>) {
    let (level, then) = match desk.strictness {
        Strictness::Serve => (Level::Warning, "; calls to this model will fail with missing_credentials"),
        Strictness::Check => (Level::Error, ""),
    };
    desk.fault(place, level, format!("{message}{then}"));
    (Key::Unset { variable: variable.clone() }, Some(variable))
}

/// A credential fit for a header, without the blanks around it.
pub(super) fn secret(desk: &mut Desk, place: Place, what: &str, text: &str) -> Option<Secret> {
    let trimmed = text.trim();
    if trimmed.is_empty() || !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
        desk.error(place, format!("{what} holds blanks or characters that cannot travel in a header"));
        return None;
    }
    if trimmed.len() != text.len() {
        desk.warn(place, format!("{what}: the blanks around the key are ignored"));
    }
    if is_placeholder(trimmed) {
        desk.warn(place, format!("{what} is still the placeholder of the example file"));
    }
    if trimmed.len() > 1 && trimmed.starts_with(['"', '\'']) && trimmed.ends_with(['"', '\'']) {
        desk.warn(
            place,
            format!("{what} has quotation marks inside it; `docker run --env-file` keeps them, remove them"),
        );
    }
    Some(Secret::new(trimmed))
}

/// The text `.env.example` has where a key belongs.
pub(super) fn is_placeholder(text: &str) -> bool {
    text.to_ascii_lowercase().contains("replace-me")
}
