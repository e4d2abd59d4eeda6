//! `environment_variables` of the file, and what the process's environment holds that matters.

use crate::config::fault::Place;
use crate::config::reader::Desk;
use crate::config::reference::is_variable;
use crate::config::scalar;
use crate::config::support::{self, Section, Status};
use crate::config::syntax::quoted;
use crate::config::tree::{Kind, Node};

/// Read before the file, so a file cannot set them.
const TOO_LATE: &[&str] = &["PORT", "HOST", "CONFIG_FILE_PATH", "LITELLM_LOG", "RUST_LOG", "NANOGATE_ADMIN_PORT"];

/// Adds the file's variables. They win over the process's own, since LiteLLM does `os.environ[key] = value` for each
/// (`ProxyConfig._load_environment_variables`).
pub(super) fn variables(desk: &mut Desk, node: &Node) {
    let Kind::Map(members) = &node.kind else {
        if !node.is_null() {
            desk.error(node.place, "`environment_variables` must be a mapping of names to texts");
        }
        return;
    };
    for member in members {
        if !is_variable(&member.key) {
            let shown = quoted(&member.key);
            desk.error(member.key_place, format!("{shown} is no name for an environment variable"));
        } else if TOO_LATE.contains(&member.key.as_str()) {
            let message = format!("{} is read before this file; set it for the process", member.key);
            desk.warn(member.key_place, message);
        } else if let Some(text) = desk.text(&member.value, &format!("`{}`", member.key)) {
            desk.env.set(&member.key, &text);
        }
    }
}

/// Says what becomes of variables that LiteLLM acts on.
pub(super) fn speak(desk: &mut Desk) {
    for row in support::rows().iter().filter(|row| row.section == Section::Variable) {
        let key = row.key;
        let Some(value) = desk.env.filled(key) else { continue };
        let off = scalar::flag(value) == Some(false);
        match row.status {
            Status::Unused(why) if key == "LITELLM_SALT_KEY" => desk.note(Place::WHOLE, format!("{key} is {why}")),
            Status::Unsupported(instead) if !off => {
                desk.warn(Place::WHOLE, format!("the environment variable {key} has no effect: {instead}"));
            }
            Status::AlwaysOn(instead) if off => {
                desk.warn(Place::WHOLE, format!("the environment variable {key} has no effect: {instead}"));
            }
            _ => {}
        }
    }
}
