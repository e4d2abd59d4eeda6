//! What the stand-in says in one turn, worked out once for all dialects: text, a JSON document, or a tool call.
//!
//! The dialects keep the same things in different places; this file knows the places, the renderers know the shapes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::example::example;

const ECHO_CHARS_MAX: usize = 160;

/// One turn, before it takes the shape of a dialect.
pub(super) struct Turn {
    pub model: Value,
    pub reply: Reply,
    pub prompt_tokens: usize,
    /// The text was cut at the token limit.
    pub cut_short: bool,
}

pub(super) enum Reply {
    Text(String),
    Call { name: String, arguments: String },
}

impl Turn {
    /// Reads chat completions, responses and messages alike.
    pub(super) fn of(body: &Value) -> Self {
        let said = Said::of(body);
        let turn =
            |reply, cut_short| Self { model: body["model"].clone(), reply, prompt_tokens: said.tokens + 4, cut_short };
        if !said.tool_answered
            && let Some(call) = call(body)
        {
            return turn(call, false);
        }
        let text = introduction(&said);
        match structured(body, &text) {
            Some(document) => turn(Reply::Text(document.to_string()), false),
            None => {
                let (text, cut_short) = shortened(text, token_limit(body));
                turn(Reply::Text(text), cut_short)
            }
        }
    }

    pub(super) fn completion_tokens(&self) -> usize {
        match &self.reply {
            Reply::Text(text) => tokens(text),
            Reply::Call { name, arguments } => tokens(name) + tokens(arguments),
        }
    }
}

/// About as many tokens as a model would count.
pub(super) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The pieces in which a text is streamed: words with the space behind them.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// The text of a content, be it a string or a list of parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// What the conversation holds.
struct Said {
    last_user: String,
    /// What came as base64 with the last user message, in bytes; 0 for an image behind a link.
    image_bytes: Vec<usize>,
    tool_answered: bool,
    tokens: usize,
}

impl Said {
    fn of(body: &Value) -> Self {
        let mut said = Self { last_user: String::new(), image_bytes: Vec::new(), tool_answered: false, tokens: 0 };
        if let Some(text) = body["input"].as_str() {
            said.last_user = text.to_owned();
            said.tokens = tokens(text);
        }
        for item in body["messages"].as_array().or(body["input"].as_array()).into_iter().flatten() {
            let text = text_of(&item["content"]);
            said.tokens += tokens(&text);
            if answers_tool(item) {
                said.tool_answered = true;
            } else if item["role"] == "user" {
                said.tool_answered = false;
                said.last_user = text;
                said.image_bytes = item["content"].as_array().into_iter().flatten().filter_map(image_bytes).collect();
            }
        }
        said
    }
}

fn answers_tool(item: &Value) -> bool {
    let part = |part: &Value| part["type"] == "tool_result";
    item["role"] == "tool"
        || item["type"] == "function_call_output"
        || item["content"].as_array().is_some_and(|parts| parts.iter().any(part))
}

/// The size of an image in a part of a message; none if the part is no image.
fn image_bytes(part: &Value) -> Option<usize> {
    let data = match part["type"].as_str()? {
        "image_url" => part["image_url"]["url"].as_str(),
        "input_image" => part["image_url"].as_str(),
        "image" => part["source"]["data"].as_str(),
        _ => return None,
    };
    let encoded = data.map_or("", |data| data.split_once(";base64,").map_or(data, |(_, encoded)| encoded));
    Some(STANDARD.decode(encoded).map_or(0, |image| image.len()))
}

fn introduction(said: &Said) -> String {
    let mut echo: String = said.last_user.split_whitespace().collect::<Vec<_>>().join(" ");
    if echo.chars().count() > ECHO_CHARS_MAX {
        echo = echo.chars().take(ECHO_CHARS_MAX).chain("...".chars()).collect();
    }
    let tool = if said.tool_answered { " The tool's result arrived." } else { "" };
    let image = match &said.image_bytes[..] {
        [] => String::new(),
        images => format!(" Images: {} ({} bytes).", images.len(), images.iter().sum::<usize>()),
    };
    format!("This is nanogate's stand-in upstream: no model is behind this answer.{tool}{image} You said: \"{echo}\"")
}

fn shortened(text: String, limit: Option<usize>) -> (String, bool) {
    match limit.filter(|limit| pieces(&text).count() > *limit) {
        Some(limit) => (pieces(&text).take(limit).collect(), true),
        None => (text, false),
    }
}

fn token_limit(body: &Value) -> Option<usize> {
    let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    let limit = names.iter().find_map(|name| body[*name].as_u64())?;
    usize::try_from(limit).ok()
}

/// A call of the first tool, or of the one the choice names; none if there is no tool to call.
fn call(body: &Value) -> Option<Reply> {
    let choice = &body["tool_choice"];
    if choice == "none" || choice["type"] == "none" {
        return None;
    }
    let chosen = choice["function"]["name"].as_str().or(choice["name"].as_str());
    let mut tools = body["tools"].as_array()?.iter().filter_map(tool);
    let (name, schema) = tools.find(|(name, _)| chosen.is_none_or(|chosen| chosen == *name))?;
    let arguments = if schema.is_object() { example(schema, true) } else { json!({}) };
    Some(Reply::Call { name: name.to_owned(), arguments: arguments.to_string() })
}

/// Name and schema of a tool the client runs itself; those of the provider (`web_search`) have neither.
fn tool(tool: &Value) -> Option<(&str, &Value)> {
    let function = tool.get("function").unwrap_or(tool);
    let own = matches!(tool["type"].as_str(), None | Some("function" | "custom"));
    let schema = function.get("parameters").or(function.get("input_schema")).unwrap_or(&Value::Null);
    function["name"].as_str().filter(|_| own).map(|name| (name, schema))
}

/// The document, if one is asked for.
fn structured(body: &Value, text: &str) -> Option<Value> {
    let formats = [&body["response_format"], &body["text"]["format"], &body["output_config"]["format"]];
    let format = formats.into_iter().find(|format| format.is_object())?;
    match format["type"].as_str() {
        Some("json_schema") => {
            let schema = format["json_schema"].get("schema").or(format.get("schema"))?;
            Some(example(schema, false))
        }
        Some("json_object") => Some(match schema_in_words(body) {
            Some(schema) => example(&schema, false),
            None => json!({"answer": text}),
        }),
        _ => None,
    }
}

/// The AI SDK writes the schema into the system message when it may not send it as one.
fn schema_in_words(body: &Value) -> Option<Value> {
    let messages = body["messages"].as_array().or(body["input"].as_array())?;
    messages.iter().find_map(|message| {
        let text = text_of(&message["content"]);
        let (_, schema) = text.split_once("JSON schema:")?;
        serde_json::Deserializer::from_str(schema).into_iter::<Value>().next()?.ok().filter(Value::is_object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &Value) -> String {
        match Turn::of(body).reply {
            Reply::Text(text) => text,
            Reply::Call { name, .. } => panic!("a call of {name}"),
        }
    }

    #[test]
    fn the_last_user_message_is_echoed() {
        let body = json!({"messages": [{"role": "user", "content": "old"}, {"role": "assistant", "content": "x"},
            {"role": "user", "content": [{"type": "text", "text": "new  one"}]}]});
        assert!(text(&body).ends_with("You said: \"new one\""));
        assert!(text(&json!({"input": "hello"})).contains("no model is behind this"));
    }

    #[test]
    fn images_are_counted_where_each_dialect_puts_them() {
        let url = "data:image/png;base64,QUJD";
        for part in [
            json!({"type": "image_url", "image_url": {"url": url}}),
            json!({"type": "input_image", "image_url": url}),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}),
        ] {
            let content = json!([{"type": "text", "text": "look"}, part]);
            let said = text(&json!({"messages": [{"role": "user", "content": content}]}));
            assert!(said.contains("Images: 1 (3 bytes). You said: \"look\""), "{said}");
        }
    }

    #[test]
    fn tools_are_called_once() {
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters":
            {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string"}}, "required": ["city"]}}});
        let mut body = json!({"tools": [tool], "messages": [{"role": "user", "content": "weather?"}]});
        let Reply::Call { name, arguments } = Turn::of(&body).reply else { panic!("a call") };
        assert_eq!((name.as_str(), arguments.as_str()), ("weather", r#"{"city":"example"}"#));
        body["tool_choice"] = json!("none");
        assert!(text(&body).contains("weather?"));
        body["tool_choice"] = json!("auto");
        body["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "content": "rain"}));
        assert!(text(&body).contains("result arrived"));
    }

    #[test]
    fn a_schema_is_found_where_each_sdk_puts_it() {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
        let words = format!("JSON schema:\n{schema}\nYou MUST answer with a JSON object that matches it.");
        for body in [
            json!({"messages": [], "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}}),
            json!({"input": "x", "text": {"format": {"type": "json_schema", "name": "r", "schema": schema}}}),
            json!({"messages": [{"role": "system", "content": words}], "response_format": {"type": "json_object"}}),
        ] {
            assert_eq!(text(&body), r#"{"ok":true}"#);
        }
    }

    #[test]
    fn the_token_limit_cuts() {
        let turn = Turn::of(&json!({"messages": [], "max_tokens": 3}));
        assert!(turn.cut_short);
        assert!(matches!(turn.reply, Reply::Text(text) if text == "This is nanogate's "));
    }
}
