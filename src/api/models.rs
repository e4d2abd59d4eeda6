//! The lists that are answered from the configuration alone, in LiteLLM's shapes.
//!
//! No secret and no upstream address appears in any of them.

use serde_json::{Map, Value, json};

/// The moment every model was "created" in LiteLLM's list (reference/litellm-behaviour.md, section B).
const CREATED: u64 = 1_677_610_602;

/// What the lists show of a deployment.
pub struct Shown<'a> {
    /// Name clients use.
    pub group: &'a str,
    /// Identity.
    pub id: &'a str,
    /// Provider string as configured.
    pub configured: &'a str,
    /// Provider prefix without its slash.
    pub provider: &'a str,
    /// `model_info` as written.
    pub info: &'a Map<String, Value>,
}

/// One entry of `/v1/models`.
pub fn entry(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "openai"})
}

/// `/v1/models`.
pub fn list<'a>(names: impl Iterator<Item = &'a String>) -> Value {
    json!({"data": names.map(|name| entry(name)).collect::<Vec<_>>(), "object": "list"})
}

/// `/model/info`: one entry a deployment.
pub fn info<'a>(deployments: impl Iterator<Item = Shown<'a>>) -> Value {
    let entries: Vec<Value> = deployments
        .map(|shown| {
            let mut info = shown.info.clone();
            info.insert("id".into(), shown.id.into());
            info.insert("db_model".into(), false.into());
            json!({
                "model_name": shown.group,
                "litellm_params": {"model": shown.configured, "custom_llm_provider": shown.provider},
                "model_info": info,
            })
        })
        .collect();
    json!({"data": entries})
}

/// `/model_group/info`: one entry a name, with the providers behind it.
pub fn groups<'a>(deployments: impl Iterator<Item = Shown<'a>>) -> Value {
    let mut groups: Vec<(&str, Vec<&str>, Value)> = Vec::new();
    for shown in deployments {
        match groups.iter_mut().find(|(name, _, _)| *name == shown.group) {
            Some((_, providers, _)) if providers.contains(&shown.provider) => {}
            Some((_, providers, _)) => providers.push(shown.provider),
            None => {
                let mode = shown.info.get("mode").cloned().unwrap_or(Value::Null);
                groups.push((shown.group, vec![shown.provider], mode));
            }
        }
    }
    let entries: Vec<Value> = groups
        .into_iter()
        .map(|(name, providers, mode)| json!({"model_group": name, "providers": providers, "mode": mode}))
        .collect();
    json!({"data": entries})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_join_their_deployments() {
        let info = Map::new();
        let shown = |group, provider| Shown { group, id: "i", configured: "openai/x", provider, info: &info };
        let value =
            groups([shown("a", "openai"), shown("a", "groq"), shown("b", "openai"), shown("a", "groq")].into_iter());
        assert_eq!(value["data"][0], json!({"model_group": "a", "providers": ["openai", "groq"], "mode": null}));
        assert_eq!(value["data"].as_array().map(Vec::len), Some(2));
    }
}
