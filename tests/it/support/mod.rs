//! What every test stands on: the gateway as a process, a client that controls its bytes, certificates made on the spot.

pub mod gateway;
pub mod h2c;
pub mod raw;
pub mod tls;

pub mod ports;
mod tests;

use std::time::Duration;

use nanogate::standin::{Options, Script, Standin, Step};
use serde_json::{Value, json};

/// The longest wait for anything that ought to happen at once; generous, since a loaded machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The key of every gateway under test.
pub const MASTER_KEY: &str = "sk-test-master";
/// The key it has for its upstream.
pub const UPSTREAM_KEY: &str = "sk-test-upstream";

/// A plain stand-in on a free port, that follows this script.
pub async fn standin(script: impl Into<Script>) -> Standin {
    let standin = Standin::start(Options::default()).await.expect("a stand-in listens");
    standin.script(script);
    standin
}

/// A short chat request for a model.
pub fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "ping"}]})
}

/// A step that answers with a chat completion, whatever was asked.
pub fn completion() -> Step {
    Step::json(
        200,
        json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "zai-org/glm-4.7",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
    )
}

/// Looks again and again until the condition holds; false at the deadline.
pub async fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = std::time::Instant::now();
    while !condition() {
        if begun.elapsed() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
