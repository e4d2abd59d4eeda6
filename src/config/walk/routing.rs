//! `litellm_settings` and `router_settings`: retries, fallbacks, time-outs, aliases.
//!
//! LiteLLM lets most of these stand in either section; where both speak, `router_settings` wins.

use crate::config::reader::{Desk, Fields, Zero, label};
use crate::config::settings::{Alias, Settings, Strategy};
use crate::config::support::Section;
use crate::config::syntax::quoted;
use crate::config::tree::{Kind, Member, Node};

use super::{Mention, Role};

/// Reads `litellm_settings`.
pub(super) fn litellm(desk: &mut Desk, node: &Node, settings: &mut Settings, mentions: &mut Vec<Mention>) {
    let Some(mut fields) = Fields::open(desk, Section::Litellm, node, "`litellm_settings`") else { return };
    settings.drop_params = fields.flag("drop_params").unwrap_or(false);
    settings.additional_drop_params = fields.texts("additional_drop_params");
    settings.request_timeout_ms = fields.duration_ms("request_timeout", Zero::Refused);
    shared(&mut fields, settings, mentions);
    fields.finish();
}

/// Reads `router_settings`.
pub(super) fn router(desk: &mut Desk, node: &Node, settings: &mut Settings, mentions: &mut Vec<Mention>) {
    let Some(mut fields) = Fields::open(desk, Section::Router, node, "`router_settings`") else { return };
    replace(&mut settings.request_timeout_ms, fields.duration_ms("timeout", Zero::Refused));
    settings.stream_timeout_ms = fields.duration_ms("stream_timeout", Zero::Refused);
    shared(&mut fields, settings, mentions);
    if fields.flag("disable_cooldowns") == Some(true) {
        settings.cooldown_time_ms = Some(0);
    }
    settings.strategy = strategy(&mut fields);
    settings.enforces_rate_limits = pre_call_checks(&mut fields);
    fields.finish();
}

/// What may stand in both.
fn shared(fields: &mut Fields<'_, '_>, settings: &mut Settings, mentions: &mut Vec<Mention>) {
    replace(&mut settings.num_retries, fields.whole("num_retries", 0..=100));
    replace(&mut settings.allowed_fails, fields.whole("allowed_fails", 0..=1_000_000));
    replace(&mut settings.cooldown_time_ms, fields.duration_ms("cooldown_time", Zero::Allowed));
    replace(&mut settings.retry_after_ms, fields.duration_ms("retry_after", Zero::Allowed));
    for (key, slot) in [
        ("fallbacks", &mut settings.fallbacks),
        ("context_window_fallbacks", &mut settings.context_window_fallbacks),
        ("content_policy_fallbacks", &mut settings.content_policy_fallbacks),
    ] {
        if let Some(node) = fields.take(key).filter(|node| !node.is_null()) {
            *slot = fallbacks(fields.desk, node, &label(key), mentions);
        }
    }
    if let Some(node) = fields.take("default_fallbacks").filter(|node| !node.is_null()) {
        settings.default_fallbacks = targets(fields.desk, node, "`default_fallbacks`", mentions);
    }
    if let Some(node) = fields.take("model_group_alias").filter(|node| !node.is_null()) {
        settings.aliases = aliases(fields.desk, node, mentions);
    }
}

fn replace<T>(slot: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *slot = new;
    }
}

/// LiteLLM's name for "rpm and tpm are limits, not weights".
const RATE_LIMIT_CHECK: &str = "enforce_model_rate_limits";

const STRATEGIES: &[(&str, Strategy)] = &[
    ("simple-shuffle", Strategy::SimpleShuffle),
    ("least-busy", Strategy::LeastBusy),
    ("latency-based-routing", Strategy::LatencyBased),
    ("usage-based-routing", Strategy::UsageBased),
    ("usage-based-routing-v2", Strategy::UsageBased),
];

fn strategy(fields: &mut Fields<'_, '_>) -> Strategy {
    if let Some(node) = fields.peek("routing_strategy")
        && let Kind::Scalar { text, .. } = &node.kind
        && text == "cost-based-routing"
    {
        let place = node.place;
        fields.take("routing_strategy");
        fields.desk.warn(place, "`routing_strategy`: cost-based-routing is not supported, simple-shuffle is used");
    }
    fields.choice("routing_strategy", STRATEGIES).unwrap_or_default()
}

/// Whether `optional_pre_call_checks` names the one check that exists here.
fn pre_call_checks(fields: &mut Fields<'_, '_>) -> bool {
    let Some(place) = fields.place_of("optional_pre_call_checks") else { return false };
    let named = fields.texts("optional_pre_call_checks");
    let (known, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|name| name == RATE_LIMIT_CHECK);
    if !others.is_empty() {
        let names = others.join(", ");
        fields.desk.warn(place, format!("`optional_pre_call_checks`: {names}: only {RATE_LIMIT_CHECK} exists here"));
    }
    !known.is_empty()
}

/// `- {primary: [backup, second]}` lines.
fn fallbacks(desk: &mut Desk, node: &Node, what: &str, mentions: &mut Vec<Mention>) -> Vec<(String, Vec<String>)> {
    let Kind::List(items) = &node.kind else {
        desk.error(node.place, format!("{what} must be a list; write `- {{primary: [backup]}}` lines"));
        return Vec::new();
    };
    let mut lists = Vec::new();
    for item in items {
        let Kind::Map(members) = &item.kind else {
            let shape = item.shape();
            desk.error(item.place, format!("{what}: each line is `- {{primary: [backup]}}`, this one is {shape}"));
            continue;
        };
        if members.len() > 1 {
            desk.note(item.place, format!("{what}: LiteLLM sees only the first name of a line; give each its own"));
        }
        for member in members {
            desk.named_key(member, what);
            let Member { key, key_place, value, .. } = member;
            if key != "*" {
                mentions.push(Mention {
                    name: key.clone(),
                    place: *key_place,
                    role: Role::FallbackFrom,
                    by: key.clone(),
                });
            }
            let found = targets(desk, value, what, mentions);
            if found.iter().any(|name| name == key) {
                let words = format!("{what}: {} falls back to itself", quoted(key));
                match found.iter().all(|name| name == key) {
                    true => desk.error(value.place, format!("{words} and to nothing else: name another model group")),
                    false => desk.warn(value.place, words),
                }
            }
            lists.push((key.clone(), found));
        }
    }
    lists
}

/// A list of names to fall back to.
fn targets(desk: &mut Desk, node: &Node, what: &str, mentions: &mut Vec<Mention>) -> Vec<String> {
    let Kind::List(items) = &node.kind else { return desk.texts(node, what) };
    let mut names = Vec::new();
    for item in items {
        if matches!(item.kind, Kind::Map(_)) {
            desk.error(item.place, format!("{what}: a fallback is a name; parameters of its own are not supported"));
        } else if let Some(name) = desk.name(item, what) {
            mentions.push(Mention { name: name.clone(), place: item.place, role: Role::FallbackTo, by: String::new() });
            names.push(name);
        }
    }
    names
}

/// `name: target` or `name: {model: target, hidden: true}`.
fn aliases(desk: &mut Desk, node: &Node, mentions: &mut Vec<Mention>) -> Vec<Alias> {
    let Kind::Map(members) = &node.kind else {
        desk.error(node.place, "`model_group_alias` must be a mapping; write `name: model group` lines");
        return Vec::new();
    };
    members.iter().filter_map(|member| alias(desk, member, mentions)).collect()
}

fn alias(desk: &mut Desk, member: &Member, mentions: &mut Vec<Mention>) -> Option<Alias> {
    let what = format!("alias {}", quoted(&member.key));
    desk.named_key(member, "`model_group_alias`");
    let (target, hidden) = match &member.value.kind {
        Kind::Map(members) => {
            let find = |key: &str| members.iter().find(|inner| inner.key == key).map(|inner| &inner.value);
            for inner in members.iter().filter(|inner| !matches!(inner.key.as_str(), "model" | "hidden")) {
                let shown = quoted(&inner.key);
                desk.warn(
                    inner.key_place,
                    format!("{what}: unknown key {shown}, ignored; there are `model` and `hidden`"),
                );
            }
            let hidden = find("hidden").and_then(|node| desk.flag(node, "`hidden`")).unwrap_or(false);
            let Some(model) = find("model") else {
                desk.error(member.value.place, format!("{what} has no `model`, the name it stands for"));
                return None;
            };
            (model, hidden)
        }
        _ => (&member.value, false),
    };
    let name = desk.name(target, &what)?;
    mentions.push(Mention { name: name.clone(), place: target.place, role: Role::AliasTo, by: member.key.clone() });
    Some(Alias { name: member.key.clone(), target: name, hidden })
}
