//! HTTP/1.1 in detail: framing, expectations, pieces, and the control requests.

use std::io::Read;

use serde_json::json;

use super::peer::{DEADLINE, Peer, post, standin};
use crate::standin::{End, Options, Script, Standin, Step};

#[tokio::test]
async fn chunked_bodies_and_expectations() {
    let standin = standin(Step::json(200, json!({}))).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send("POST /x HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(peer.until("\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n"));
    peer.send("3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n").await;
    peer.until("{}").await;
    assert_eq!(standin.requests()[0].body, b"abcdefg");
}

#[tokio::test]
async fn pieces_are_chunks_of_their_own() {
    let standin = standin(Step::sse(["data: abc\r\n\r\n"]).split(4).eol("\r\n")).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/x", &json!({}))).await;
    let text = peer.until("0\r\n\r\n").await;
    assert!(text.contains("4\r\ndata\r\n4\r\n: ab\r\n4\r\nc\r\n\r\r\n1\r\n\n\r\n4\r\ndata\r\n"), "{text:?}");
}

#[tokio::test]
async fn interim_answers_come_first() {
    let standin = standin(Step::json(200, json!({})).interim(103)).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/x", &json!({}))).await;
    let text = peer.until("{}").await;
    assert!(text.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn an_answer_before_the_body_closes() {
    let standin = standin(Step::json(413, json!({})).read_body(false)).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send("POST /x HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc").await;
    let text = peer.until("{}").await;
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("connection: close\r\n"));
    assert!(!standin.requests()[0].body_complete);
}

#[tokio::test]
async fn gzip_is_whole_for_documents_and_flushed_for_streams() {
    let standin = standin(Script::from(Step::json(200, json!({"a": 1})).gzip().close())).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/x", &json!({}))).await;
    let (text, _) = peer.rest().await;
    let body = memchr::memmem::find(&text, b"\r\n\r\n").unwrap() + 4;
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&text[body..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, r#"{"a":1}"#);
    standin.script(Step::sse(["data: one\n\n"]).gzip().end(End::Stall));
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/x", &json!({}))).await;
    let first = peer.chunk().await;
    let mut plain = [0; 11];
    flate2::read::GzDecoder::new(first.as_slice()).read_exact(&mut plain).unwrap();
    assert_eq!(&plain, b"data: one\n\n");
}

#[tokio::test]
async fn rubbish_is_refused() {
    let standin = standin(Step::auto()).await;
    for (request, status) in [
        ("\u{1}\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(70_000)), "431"),
        ("POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n".to_owned(), "413"),
    ] {
        let mut peer = Peer::connect(&standin).await;
        peer.send(&request).await;
        let text = peer.until("\r\n\r\n").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    }
}

#[tokio::test]
async fn scripts_go_by_order_path_and_model() {
    let side = Script::from(Step::json(429, json!({}))).then(Step::json(200, json!({})));
    let standin = standin(
        Script::from(Step::json(202, json!({}))).by_model("up/a", side).by_path("/p", Step::json(418, json!({}))),
    )
    .await;
    let mut peer = Peer::connect(&standin).await;
    for (path, model, status) in [("/x", "up/a", 429), ("/x", "up/b", 202), ("/x", "up/a", 200), ("/p", "up/a", 418)] {
        assert_eq!(peer.document(&post(path, &json!({"model": model}))).await.0, status, "{path} {model}");
    }
    standin.clear();
    assert!(standin.requests().is_empty());
}

#[tokio::test]
async fn it_is_controlled_over_http() {
    let standin = Standin::start(Options { control: true, record: false, ..Options::default() }).await.unwrap();
    let mut peer = Peer::connect(&standin).await;
    let script = json!([{"kind": "json", "status": 418, "body": {"a": 1}}]);
    assert_eq!(peer.document(&post("/__standin/script", &script)).await.0, 200);
    assert_eq!(peer.document(&post("/x", &json!({}))).await, (418, json!({"a": 1})));
    let (status, _) = peer.document(&post("/__standin/script", &json!([{"kind": "no"}]))).await;
    assert_eq!(status, 400);
    let (_, counts) = peer.document("GET /__standin/requests HTTP/1.1\r\n\r\n").await;
    assert_eq!(counts, json!({"requests": 1, "connections": 1, "open_connections": 1, "active": 0}));
    assert!(standin.requests().is_empty());
}

#[tokio::test]
async fn a_step_that_stops_reading_leaves_the_body() {
    let standin = standin(Step::stop_reading()).await;
    let mut peer = Peer::connect(&standin).await;
    peer.send(&post("/x", &json!({}))).await;
    assert!(standin.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    assert!(!standin.requests()[0].body_complete);
    assert_eq!(standin.active(), 1);
}
