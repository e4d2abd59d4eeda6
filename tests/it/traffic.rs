//! What the tests send, what the stand-in says, and where it is counted.

use std::time::{Duration, Instant};

use nanogate::standin::{Options, Standin};
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{self, Answer, Client};
use crate::support::tls::Authority;
use crate::support::{DEADLINE, eventually};

/// The name clients use and the one the upstream has for it.
pub const SHOWN: &str = "glm";
/// See `SHOWN`.
pub const SENT: &str = "zai-org/glm-4.7";

/// The routes that stream.
pub const CHAT: &str = "/v1/chat/completions";
/// See `CHAT`.
pub const COMPLETIONS: &str = "/v1/completions";
/// See `CHAT`.
pub const RESPONSES: &str = "/v1/responses";
/// See `CHAT`.
pub const MESSAGES: &str = "/v1/messages";

/// A body for one of the routes that stream.
pub fn ask(path: &str, stream: bool) -> Value {
    let turn = json!([{"role": "user", "content": "ping"}]);
    match path {
        COMPLETIONS => json!({"model": SHOWN, "prompt": "ping", "stream": stream}),
        RESPONSES => json!({"model": SHOWN, "input": "ping", "stream": stream}),
        MESSAGES => json!({"model": SHOWN, "max_tokens": 9, "messages": turn, "stream": stream}),
        _ => json!({"model": SHOWN, "messages": turn, "stream": stream}),
    }
}

/// A plain chat request.
pub fn chat() -> Value {
    ask(CHAT, false)
}

/// A streamed chat request.
pub fn chat_stream() -> Value {
    ask(CHAT, true)
}

/// `value` with more members or other ones.
pub fn with(mut value: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut value, more) else { panic!("two objects") };
    all.extend(more);
    value
}

/// One frame of a chat stream.
pub fn delta(content: &str) -> Value {
    frame(json!([{"index": 0, "delta": {"content": content}, "finish_reason": null}]))
}

/// The frame that ends a choice.
pub fn finish() -> Value {
    frame(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
}

/// A frame of a chat stream with these choices.
pub fn frame(choices: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": SENT, "choices": choices})
}

/// A plain chat answer.
pub fn completion(content: &str) -> Value {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8});
    json!({"id": "chatcmpl-1", "object": "chat.completion", "model": SENT, "choices": [choice], "usage": usage})
}

/// A frame as the client sees it: with the name it used.
pub fn shown(frame: &Value) -> String {
    format!("data: {}\n\n", renamed(&frame.to_string()))
}

/// The same text with the client's model name.
pub fn renamed(text: &str) -> String {
    text.replace(&format!("\"{SENT}\""), &format!("\"{SHOWN}\""))
}

/// A gateway before one plain stand-in: `glm` with more `litellm_params`, and more sections.
pub async fn gateway(standin: &Standin, params: &str, sections: &str) -> Gateway {
    Gateway::start(file(standin, params, sections)).await
}

/// A gateway whose `glm` is served by several stand-ins, each with its own `litellm_params`; and more sections.
pub async fn pool(members: &[(&Standin, &str)], sections: &str) -> Gateway {
    let entries =
        members.iter().map(|(standin, params)| entry(SHOWN, &format!("openai/{SENT}"), &base(standin), params));
    Gateway::start(format!("model_list:\n{}{sections}", entries.collect::<String>())).await
}

/// The file of [`gateway`].
pub fn file(standin: &Standin, params: &str, sections: &str) -> String {
    format!("model_list:\n{}{sections}", entry(SHOWN, &format!("openai/{SENT}"), &base(standin), params))
}

/// A stand-in that speaks HTTP/2 over TLS and a gateway before it; `sections` end in open `gateway_settings`.
pub async fn secure(sections: &str) -> (Authority, Standin, Gateway) {
    let authority = Authority::new();
    let options = Options { tls: Some(authority.server(&["localhost"])), h2: true, ..Options::default() };
    let standin = Standin::start(options).await.expect("a stand-in listens");
    let base = format!("https://localhost:{}/api/v1", standin.address().port());
    let models = format!("model_list:\n{}", entry(SHOWN, &format!("openai/{SENT}"), &base, ""));
    let gateway = Gateway::start(models + sections + &authority.setting()).await;
    (authority, standin, gateway)
}

/// Posts JSON on a connection of its own.
pub async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    raw::post_json(gateway.address(), path, body).await
}

/// Posts JSON with headers.
pub async fn post_with(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let request = raw::request("POST", path, headers, body.to_string().as_bytes());
    Client::connect(gateway.address()).await.ask(request).await
}

/// A connection on which a request was sent and no answer read.
pub async fn posted(gateway: &Gateway, path: &str, body: &Value) -> Client {
    let mut client = Client::connect(gateway.address()).await;
    client.send(raw::post(path, body.to_string().as_bytes())).await;
    client
}

/// The next body bytes of a stream until they contain `end`, and when those came.
pub async fn until(client: &mut Client, end: &str) -> (String, Instant) {
    let mut text = String::new();
    loop {
        let piece = client.piece().await.unwrap_or_else(|| panic!("the body ended before {end:?}: {text}"));
        text.push_str(&String::from_utf8_lossy(&piece.bytes));
        if text.contains(end) {
            return (text, piece.at);
        }
    }
}

/// The page of metrics.
pub async fn metrics(gateway: &Gateway) -> String {
    admin(gateway, "/metrics").await.text()
}

/// A page of the health service, which begins to listen a little later than the API.
pub async fn admin(gateway: &Gateway, path: &str) -> Answer {
    let begun = Instant::now();
    loop {
        match raw::try_get(gateway.admin(), path).await {
            Ok(answer) => return answer,
            Err(cause) => assert!(begun.elapsed() < DEADLINE, "no health service: {cause}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value of one metric, by its name with or without labels; absent is zero, several are summed.
pub async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = metrics(gateway).await;
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    let own = lines.filter(|rest| rest.starts_with(' ') || rest.starts_with('{'));
    own.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Whether a metric comes to a value.
pub async fn metric_becomes(gateway: &Gateway, name: &str, value: f64) -> bool {
    let begun = Instant::now();
    while metric(gateway, name).await != value {
        if begun.elapsed() > DEADLINE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Waits for the `count`-th access line of a gateway whose access log is JSON, health routes left out, and returns it.
pub async fn access_line(gateway: &Gateway, count: usize) -> Value {
    assert!(eventually(DEADLINE, || lines(gateway).len() >= count).await, "no {count} lines:\n{}", gateway.log());
    lines(gateway).swap_remove(count - 1)
}

/// All access lines of a gateway whose access log is JSON, health routes left out.
pub fn lines(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log();
    let objects = log.lines().filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
    objects.filter(|line| line["path"].as_str().is_some_and(|path| !path.starts_with("/health"))).collect()
}
