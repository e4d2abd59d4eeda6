//! `general_settings`: above all the master key, without which nothing is served.

use crate::config::Door;
use crate::config::fault::Place;
use crate::config::reader::{Desk, Fields, Missing};
use crate::config::scalar::{MIB, scaled};
use crate::config::settings::Settings;
use crate::config::support::Section;
use crate::config::tree::Node;

use super::key;

const ESCAPE: &str = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY";
const ADVICE: &str = "set LITELLM_MASTER_KEY to a long random text, `sk-` and 32 characters for example";

/// Reads the section. The door is looked for even when there is no section: the key may be in the environment.
pub(super) fn read(desk: &mut Desk, node: Option<&Node>, settings: &mut Settings) -> Option<Door> {
    let Some(node) = node else { return door(desk, None) };
    let mut fields = Fields::open(desk, Section::General, node, "`general_settings`")?;
    let master = fields.take("master_key");
    let door = door(fields.desk, master);
    if let Some(forward) = fields.flag("forward_client_headers_to_llm_api") {
        settings.forward_client_headers = forward;
    }
    if let Some(include) = fields.flag("always_include_stream_usage") {
        settings.always_include_stream_usage = include;
    }
    settings.max_parallel_requests = fields.whole("global_max_parallel_requests", 1..=1_000_000);
    body_limit(&mut fields, settings);
    database(&mut fields, settings);
    fields.finish();
    door
}

fn body_limit(fields: &mut Fields<'_, '_>, settings: &mut Settings) {
    let Some(place) = fields.place_of("max_request_size_mb") else { return };
    let Some(mib) = fields.number("max_request_size_mb") else { return };
    match scaled(mib, MIB).filter(|bytes| (1..=4 << 30).contains(bytes)) {
        Some(bytes) => settings.body_bytes_max = bytes,
        None => fields.desk.error(place, "`max_request_size_mb` must be above 0 and at most 4096"),
    }
}

fn database(fields: &mut Fields<'_, '_>, settings: &mut Settings) {
    let Some(place) = fields.place_of("allow_requests_on_db_unavailable") else { return };
    if fields.flag("allow_requests_on_db_unavailable") == Some(true) {
        settings.opens_without_database = true;
        fields.desk.warn(
            place,
            "`allow_requests_on_db_unavailable: true` makes LiteLLM without a database accept any key; nanogate never \
             does: an app with a wrong key worked until now and will get 401, give it the master key",
        );
    }
}

fn door(desk: &mut Desk, node: Option<&Node>) -> Option<Door> {
    let place = node.map_or(Place::WHOLE, |node| node.place);
    let found = match node.map(|node| desk.resolve(node, "`master_key`", "a text")) {
        Some(Ok(value)) => Ok(value.text),
        Some(Err(Missing::Told)) => return None,
        Some(Err(Missing::Unset(name))) => Err(desk.unset(&name)),
        Some(Err(Missing::Empty)) | None => match desk.env.master_key() {
            Some(text) => Ok(text.to_owned()),
            None => Err("there is no master key: the environment variable LITELLM_MASTER_KEY is not set".to_owned()),
        },
    };
    match found {
        Ok(text) if text.trim().is_empty() => no_key(desk, place, "the master key is blank"),
        Ok(text) => with_key(desk, place, &text),
        Err(why) => no_key(desk, place, &why),
    }
}

fn no_key(desk: &mut Desk, place: Place, why: &str) -> Option<Door> {
    if desk.env.permits_weak_master_key() {
        desk.warn(place, format!("`master_key`: {why}; {ESCAPE}=true: everything is open to everyone"));
        return Some(Door::Open);
    }
    desk.error(place, format!("`master_key`: {why}; {ADVICE}"));
    None
}

fn with_key(desk: &mut Desk, place: Place, text: &str) -> Option<Door> {
    let weak = match text.trim() {
        "sk-1234" => Some("`sk-1234` is LiteLLM's example, the whole world knows it"),
        text if key::is_placeholder(text) => Some("it is still the placeholder of the example file"),
        _ => None,
    };
    match weak {
        Some(why) if desk.env.permits_weak_master_key() => {
            desk.warn(place, format!("`master_key`: {why}; served all the same since {ESCAPE}=true"));
        }
        Some(why) => {
            desk.error(place, format!("`master_key`: {why}; {ADVICE}"));
            return None;
        }
        None if text.trim().len() < 16 => {
            desk.warn(place, format!("`master_key` has fewer than 16 characters and may be guessed; {ADVICE}"));
        }
        None => {}
    }
    key::secret(desk, place, "`master_key`", text).map(Door::Key)
}
