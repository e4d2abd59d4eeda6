//! Real clients, byte for byte: what their SDKs put on the wire is understood, and reaches the upstream unchanged but
//! for the model's name.

use std::path::{Path, PathBuf};

use nanogate::standin::{Script, Standin};
use serde_json::Value;

use crate::support::gateway::{Gateway, base, entry};
use crate::support::raw::{Answer, Client};
use crate::support::{MASTER_KEY, standin};

/// The name that is mapped; all others go through the wildcard unchanged.
const MAPPED: (&str, &str) = ("glm-4.7", "zai-org/glm-4.7");
/// Added to streamed chats of clients that did not ask for it.
const USAGE: &str = r#","stream_options":{"include_usage":true}"#;

/// One recorded request.
struct Capture {
    name: String,
    method: String,
    path: String,
    /// Head and body with a key that opens.
    bytes: Vec<u8>,
    body: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures")
}

/// The requests of one file.
fn read(client: &str) -> Vec<Capture> {
    let bytes = std::fs::read(folder().join(format!("{client}.http"))).unwrap();
    let mut rest = bytes.as_slice();
    let mut captures = Vec::new();
    while let Some(after) = rest.strip_prefix(b"### ") {
        let line = memchr::memchr(b'\n', after).unwrap();
        let name = format!("{client}: {}", String::from_utf8_lossy(&after[..line]));
        let head_end = memchr::memmem::find(after, b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(after[line + 1..head_end].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let body_end = head_end + length.unwrap_or(0);
        let body = after[head_end..body_end].to_vec();
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let opened = head.replace("sk-local-dev-key", MASTER_KEY).replace("sk-nano-sim", MASTER_KEY);
        captures.push(Capture { name, method, path, bytes: [opened.as_bytes(), &body].concat(), body });
        rest = &after[body_end + 1..];
    }
    assert!(rest.is_empty() && !captures.is_empty(), "{client} is read to its end");
    captures
}

/// The model's name in the sent bytes replaced, whatever the spacing.
fn mapped(body: &[u8]) -> Vec<u8> {
    for space in ["", " "] {
        let (from, to) = (format!("\"model\":{space}\"{}\"", MAPPED.0), format!("\"model\":{space}\"{}\"", MAPPED.1));
        if let Some(at) = memchr::memmem::find(body, from.as_bytes()) {
            return [&body[..at], to.as_bytes(), &body[at + from.len()..]].concat();
        }
    }
    body.to_vec()
}

/// What reached the upstream, without the usage wish that the gateway may have added.
fn without_added_usage(seen: &[u8], sent: &[u8]) -> Vec<u8> {
    match memchr::memmem::find(seen, USAGE.as_bytes()) {
        Some(at) if memchr::memmem::find(sent, b"stream_options").is_none() => {
            [&seen[..at], &seen[at + USAGE.len()..]].concat()
        }
        _ => seen.to_vec(),
    }
}

/// `metadata` of a chat is LiteLLM's own field and ends at the gateway.
fn is_same_without_metadata(seen: &[u8], expected: &[u8]) -> bool {
    let Ok(Value::Object(mut expected)) = serde_json::from_slice(expected) else { return false };
    expected.remove("metadata").is_some()
        && serde_json::from_slice(seen).is_ok_and(|seen: Value| seen == Value::Object(expected))
}

fn assert_good(capture: &Capture, answer: &Answer) {
    let name = &capture.name;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let ask: Value = serde_json::from_slice(&capture.body).unwrap_or_default();
    let (path, text) = (capture.path.split('?').next().unwrap_or_default(), answer.text());
    if ask["stream"] == true {
        assert_eq!(
            answer.header("content-type").map(|kind| kind.starts_with("text/event-stream")),
            Some(true),
            "{name}"
        );
        let end = match path {
            path if path.ends_with("/messages") => "message_stop",
            path if path.ends_with("/responses") => "response.completed",
            _ => "data: [DONE]",
        };
        assert!(text.contains(end), "{name} ends properly:\n{text}");
    }
    if let Some(model) = ask["model"].as_str().filter(|_| path.ends_with("/chat/completions")) {
        assert!(text.contains(&format!("\"model\":\"{model}\"")), "{name} is called {model}:\n{text}");
    }
}

async fn replay(client: &str, upstream: &Standin, gateway: &Gateway) {
    let mut connection = Client::connect(gateway.address()).await;
    for capture in read(client) {
        upstream.clear();
        if capture.method == "HEAD" {
            connection.send(&capture.bytes).await;
            assert_eq!(connection.head().await.status, 200, "{}", capture.name);
            continue;
        }
        let answer = connection.ask(&capture.bytes).await;
        if capture.path.ends_with("/moderations") {
            // It names no model, and there is none to fall back to.
            assert_eq!(answer.json()["error"]["code"], "model_not_found", "{}", capture.name);
            continue;
        }
        assert_good(&capture, &answer);
        let requests = upstream.requests();
        if capture.method == "GET" {
            assert!(requests.is_empty(), "{} is answered here", capture.name);
            continue;
        }
        assert_eq!(requests.len(), 1, "{}", capture.name);
        let (seen, expected) = (&requests[0].body, mapped(&capture.body));
        let plain = without_added_usage(seen, &capture.body);
        let shown = String::from_utf8_lossy(seen);
        assert!(
            plain == expected || is_same_without_metadata(&plain, &expected),
            "{} arrived changed:\n{}\n{shown}",
            capture.name,
            String::from_utf8_lossy(&expected)
        );
        assert!(!String::from_utf8_lossy(&requests[0].head).contains(MASTER_KEY));
        if answer.header("connection") == Some("close") {
            connection = Client::connect(gateway.address()).await;
        }
    }
}

async fn replay_all(clients: &[&str]) {
    let upstream = standin(Script::auto()).await;
    let mapped_to = format!("openai/{}", MAPPED.1);
    // What LiteLLM's lists do not grant to every model; without this, dropping is on trial and not passing.
    let allowed = "allowed_openai_params: [user, verbosity]";
    let entries = [(MAPPED.0, mapped_to.as_str()), ("*", "openai/*")];
    let entries = entries.map(|(name, model)| entry(name, model, &base(&upstream), allowed));
    let gateway = Gateway::start(format!("model_list:\n{}", entries.concat())).await;
    for client in clients {
        replay(client, &upstream, &gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_sdks_are_served() {
    replay_all(&["openai-node-4", "openai-node-6", "openai-node-7", "openai-python"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ai_sdks_are_served() {
    replay_all(&["ai-sdk-5", "ai-sdk-6", "ai-sdk-7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_sdks_are_served() {
    replay_all(&["anthropic-node-0.71", "anthropic-node", "anthropic-python"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frameworks_are_served() {
    replay_all(&["langchain-js", "langchain-python", "litellm-sdk-upstream"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coding_agents_are_served() {
    replay_all(&["claude-code", "codex-cli", "opencode", "cline-cli", "continue-cli"]).await;
}

#[test]
fn no_file_is_forgotten() {
    let text = include_str!("captures.rs");
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "http") {
            let client = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(text.contains(&format!("\"{client}\"")), "{client} is replayed by no test");
        }
    }
}
