//! Automatic answers, as they come over the wire.

use serde_json::{Value, json};

use super::peer::{Peer, post, standin};
use crate::standin::{Outcome, Script, Step};

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "ping"}]})
}

#[tokio::test]
async fn chats_on_one_connection() {
    let standin = standin(Script::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    for _ in 0..2 {
        let (status, document) = peer.document(&post("/api/v1/chat/completions?x=1", &chat("up/a", false))).await;
        assert_eq!((status, document["model"].as_str()), (200, Some("up/a")));
        assert!(document["choices"][0]["message"]["content"].as_str().unwrap().contains("ping"));
    }
    let requests = standin.requests();
    assert_eq!((requests.len(), standin.connections()), (2, 1));
    assert_eq!(requests[1].path, "/api/v1/chat/completions?x=1");
    assert_eq!(requests[1].json(), chat("up/a", false));
    assert!(requests[1].head.starts_with(b"POST ") && requests[1].head.ends_with(b"\r\n\r\n"));
    assert_eq!(requests[1].headers[1], ("Authorization".to_owned(), "Bearer k".to_owned()));
    assert!(requests.iter().all(|request| request.outcome == Outcome::Answered && request.body_complete));
}

#[tokio::test]
async fn streams_end_in_done_and_keep_the_connection() {
    let standin = standin(Script::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    for path in ["/v1/chat/completions", "/api/v1legacy/chat/completions"] {
        peer.send(&post(path, &chat("up/a", true))).await;
        let text = peer.until("0\r\n\r\n").await;
        assert!(text.contains("content-type: text/event-stream") && text.contains("x-request-id: req_"), "{text}");
        assert!(text.contains("data: [DONE]\n\n"));
    }
    assert_eq!(standin.connections(), 1);
}

#[tokio::test]
async fn every_endpoint_answers() {
    let standin = standin(Script::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, body, member) in [
        ("/v1/completions", json!({"model": "m", "prompt": "hi"}), "choices"),
        ("/v1/embeddings", json!({"model": "m", "input": ["a", "b"]}), "data"),
        ("/v1/images/generations", json!({"model": "m", "prompt": "a cat"}), "data"),
        ("/v1/audio/transcriptions", json!({"file_url": "https://example.com/a"}), "text"),
        ("/v1/moderations", json!({"input": "hi"}), "results"),
        ("/v1/rerank", json!({"model": "m", "query": "q", "documents": ["a"]}), "results"),
        ("/v1/responses", json!({"model": "m", "input": "hi"}), "output"),
        ("/api/v1/v1/messages", json!({"model": "m", "max_tokens": 99, "messages": messages}), "stop_reason"),
        ("/v1/messages/count_tokens", json!({"model": "m", "messages": messages}), "input_tokens"),
    ] {
        let (status, document) = peer.document(&post(path, &body)).await;
        assert_eq!(status, 200, "{path}: {document}");
        assert!(!document[member].is_null(), "{path}: {document}");
    }
    let (status, models) = peer.document("GET /api/v1/models HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(status == 200 && models["data"][0]["id"].is_string());
    let (_, stored) = peer.document("GET /v1/responses/r7 HTTP/1.1\r\nHost: a\r\nx-api-key: k\r\n\r\n").await;
    assert_eq!(stored["id"], "r7");
    assert_eq!(standin.connections(), 1);
}

#[tokio::test]
async fn refusals_look_like_nanogpts() {
    let standin = standin(Script::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    let keyless = post("/v1/chat/completions", &chat("m", false)).replace("Authorization", "X-Nothing");
    let (status, document) = peer.document(&keyless).await;
    assert_eq!((status, document["error"]["code"].as_str()), (401, Some("missing_api_key")));
    let (status, page) = peer.document(&post("/api/subscription/v1/responses", &json!({}))).await;
    assert!(status == 404 && page.as_str().unwrap().starts_with("<!DOCTYPE html>"));
    let (status, document) = peer.document(&post("/v1/chat/completions", &chat("standin/error-429", true))).await;
    assert_eq!((status, document["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    let (status, document) = peer.document(&post("/v1/chat/completions", &json!({"model": "m"}))).await;
    assert_eq!((status, document["error"]["code"].as_str()), (400, Some("missing_required_parameter")));
    let (status, document) = peer.document(&post("/v1/messages", &json!({"model": "m"}))).await;
    assert_eq!((status, document["type"].as_str()), (400, Some("error")));
}

#[tokio::test]
async fn an_error_frame_comes_late() {
    let standin = standin(Script::auto()).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/v1/chat/completions", &chat("standin/error-frame", true))).await;
    let text = peer.until("0\r\n\r\n").await;
    assert!(text.contains(r#""finish_reason":"error""#) && text.contains("data: [DONE]"));
}

#[tokio::test]
async fn an_automatic_answer_can_be_bent() {
    let standin = standin(Step::auto().status(203).header("x-a", "b")).await;
    let mut peer = Peer::connect(&standin).await;
    let (status, document) = peer.document(&post("/v1/chat/completions", &chat("m", false))).await;
    assert_eq!((status, document["object"].as_str()), (203, Some("chat.completion")));
}

#[tokio::test]
async fn a_schema_is_obeyed() {
    let standin = standin(Script::auto()).await;
    let mut body = chat("m", false);
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]});
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "r", "schema": schema}});
    let (_, document) = Peer::connect(&standin).await.document(&post("/v1/chat/completions", &body)).await;
    assert_eq!(document["choices"][0]["message"]["content"], r#"{"n":3}"#);
}
