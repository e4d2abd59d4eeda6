//! A JSON document that fits a JSON schema: for structured answers and for the arguments of tool calls.
//!
//! Covers what SDKs generate (objects, arrays, enums, unions, references, bounds); a `pattern` is not obeyed.

use serde_json::{Map, Value, json};

/// Deeper than this only what is required is made.
const DEPTH_EASY: usize = 4;
/// Deeper than this nothing is: the schema demands itself.
const DEPTH_MAX: usize = 24;
const ITEMS_MAX: u64 = 64;

/// An example for the schema: with every property, or with the required ones only.
pub(super) fn example(schema: &Value, only_required: bool) -> Value {
    Maker { root: schema, only_required }.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    only_required: bool,
}

impl<'a> Maker<'a> {
    fn make(&self, schema: &'a Value, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if let Some(path) = schema["$ref"].as_str() {
            return self.resolve(path).map_or(Value::Null, |schema| self.make(schema, depth + 1));
        }
        if let Some(fixed) = schema.get("const").or(schema["enum"].get(0)).or(schema.get("default")) {
            return fixed.clone();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.all(schema, parts, depth);
        }
        if let Some(choice) = self.choice(schema) {
            return self.make(choice, depth + 1);
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => Value::String(text(schema)),
            "integer" => json!(number(schema, 1.0).ceil() as i64),
            "number" => json!(number(schema, 0.5)),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    fn resolve(&self, path: &str) -> Option<&'a Value> {
        self.root.pointer(path.strip_prefix('#')?)
    }

    /// The first branch of a union that is not null.
    fn choice(&self, schema: &'a Value) -> Option<&'a Value> {
        let branches = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
        branches.iter().find(|branch| kind(branch) != "null").or(branches.first())
    }

    fn all(&self, schema: &'a Value, parts: &'a [Value], depth: usize) -> Value {
        let mut made = Map::new();
        for part in parts {
            match self.make(part, depth + 1) {
                Value::Object(object) => made.extend(object),
                other if parts.len() == 1 => return other,
                _ => {}
            }
        }
        if schema.get("properties").is_some()
            && let Value::Object(object) = self.object(schema, depth)
        {
            made.extend(object);
        }
        Value::Object(made)
    }

    fn object(&self, schema: &'a Value, depth: usize) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let sparing = self.only_required || depth > DEPTH_EASY;
        let properties = schema["properties"].as_object().into_iter().flatten();
        let wanted = properties.filter(|(name, _)| !sparing || required.contains(&name.as_str()));
        let mut made: Map<_, _> = wanted.map(|(name, schema)| (name.clone(), self.make(schema, depth + 1))).collect();
        for name in required {
            made.entry(name).or_insert_with(|| Value::String("example".to_owned()));
        }
        Value::Object(made)
    }

    fn array(&self, schema: &'a Value, depth: usize) -> Value {
        if let Some(parts) = schema["prefixItems"].as_array() {
            return parts.iter().map(|part| self.make(part, depth + 1)).collect();
        }
        let least = schema["minItems"].as_u64().unwrap_or(0).min(ITEMS_MAX);
        let easy = u64::from(depth <= DEPTH_EASY && schema["items"].is_object() && schema["maxItems"] != 0);
        (0..least.max(easy)).map(|_| self.make(&schema["items"], depth + 1)).collect()
    }
}

fn kind(schema: &Value) -> &str {
    let named = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").or(Some("null")),
        kind => kind.as_str(),
    };
    named.unwrap_or(if schema.get("properties").is_some() {
        "object"
    } else if schema.get("items").is_some() {
        "array"
    } else {
        "string"
    })
}

fn text(schema: &Value) -> String {
    let base = match schema["format"].as_str() {
        Some("date-time") => "2026-01-02T03:04:05Z",
        Some("date") => "2026-01-02",
        Some("time") => "03:04:05Z",
        Some("duration") => "PT1H",
        Some("email") => "example@example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "123e4567-e89b-42d3-a456-426614174000",
        _ => "example",
    };
    let least = schema["minLength"].as_u64().unwrap_or(0).min(4096) as usize;
    let most = schema["maxLength"].as_u64().map_or(usize::MAX, |most| most as usize);
    let padding = "x".repeat(least.saturating_sub(base.len()));
    base.chars().chain(padding.chars()).take(most).collect()
}

/// A number within the bounds, as near to `wish` as they let it be.
fn number(schema: &Value, wish: f64) -> f64 {
    let bound = |name: &str| schema[name].as_f64();
    let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let least = bound("minimum").or(above.map(|least| least + wish)).unwrap_or(f64::MIN);
    let most = bound("maximum").or(below.map(|most| most - wish)).unwrap_or(f64::MAX);
    let near = wish.min(most).max(least);
    match bound("multipleOf").filter(|step| *step > 0.0) {
        Some(step) => (near / step).ceil() * step,
        None => near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_arrays_enums_and_unions_are_walked() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"}, "mood": {"enum": ["glad", "sad"]},
                "age": {"type": "integer", "minimum": 18}, "tags": {"type": "array", "items": {"type": "string"}},
                "home": {"$ref": "#/$defs/home"}, "note": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
                "score": {"type": ["null", "number"], "maximum": 0.25}
            },
            "required": ["name"],
            "$defs": {"home": {"type": "object", "properties": {"since": {"type": "string", "format": "date"}}}}
        });
        let expected = json!({"name": "example", "mood": "glad", "age": 18, "tags": ["example"],
            "home": {"since": "2026-01-02"}, "note": true, "score": 0.25});
        assert_eq!(example(&schema, false), expected);
        assert_eq!(example(&schema, true), json!({"name": "example"}));
    }

    #[test]
    fn a_schema_of_itself_ends() {
        let schema = json!({"type": "object", "properties": {"value": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#"}}, "next": {"$ref": "#"}}, "required": ["value", "children"]});
        let made = example(&schema, false);
        assert_eq!(made["next"]["value"], "example");
        assert_eq!(made["next"]["next"]["next"]["next"]["next"].get("next"), None);
    }

    #[test]
    fn parts_are_merged_and_bounds_kept() {
        let schema = json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "exclusiveMinimum": 4}}},
            {"type": "object", "properties": {"b": {"type": "string", "minLength": 9, "maxLength": 10}}}]});
        assert_eq!(example(&schema, false), json!({"a": 5, "b": "examplexx"}));
        assert_eq!(example(&json!({"type": "integer", "multipleOf": 5}), false), json!(5));
    }
}
