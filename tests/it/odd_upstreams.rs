//! Upstreams and clients that speak oddly, as long as it is HTTP: closed ends instead of lengths, interim heads, answers
//! before the request was read, silence instead of a handshake, a second request too early.

use std::time::{Duration, Instant};

use nanogate::standin::{Frame, Script, Step};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::gateway::{Gateway, config};
use crate::support::raw::{self, Client, Ending};
use crate::support::standin;
use crate::traffic::{CHAT, SHOWN, chat, chat_stream, completion, delta, finish, gateway, post, renamed, shown, with};

/// An upstream that reads a request and answers these bytes and a close, to everybody.
async fn teletype(answer: String) -> (Gateway, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"}") && connection.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
            // The gateway may have gone; the next one is served all the same.
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (Gateway::start(config(&base, &[(SHOWN, "openai/zai-org/glm-4.7")])).await, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_end_with_its_connection() {
    for version in ["1.0", "1.1"] {
        let head = |kind: &str| format!("HTTP/{version} 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
        let document = completion("a").to_string();
        let (gateway, _serving) = teletype(head("application/json") + &document).await;
        let answer = post(&gateway, CHAT, &chat()).await;
        assert_eq!((answer.text(), answer.ending), (renamed(&document), Ending::Complete), "{version}");

        let frames = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", delta("a"), finish());
        let (gateway, _serving) = teletype(head("text/event-stream") + &frames).await;
        let answer = post(&gateway, CHAT, &chat_stream()).await;
        assert_eq!((answer.text(), answer.ending), (renamed(&frames), Ending::Complete), "{version}");

        let (gateway, _serving) = teletype(head("text/event-stream") + &format!("data: {}\n\n", delta("a"))).await;
        let text = post(&gateway, CHAT, &chat_stream()).await.text();
        assert!(text.starts_with(&shown(&delta("a"))) && text.contains("upstream_stream_truncated"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http_are_a_502() {
    for answer in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "HTTP/1.1 999999 X\r\n\r\n"] {
        let (gateway, _serving) = teletype(answer.to_owned()).await;
        let shown = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 0}))).await;
        assert_eq!(shown.status, 502, "{answer:?}: {}", shown.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_heads_are_not_the_answer() {
    let upstream = standin(Script::auto()).await;
    let gateway = gateway(&upstream, "", "").await;
    let whole = Step::json(200, completion("a"));
    let events = Step::sse([Frame::from(delta("a")), Frame::from(finish())]);
    for (step, body) in [(whole, chat()), (events, chat_stream())] {
        upstream.script(step.interim(103).interim(100));
        let mut client = Client::connect(gateway.address()).await;
        client.send(raw::post(CHAT, body.to_string().as_bytes())).await;
        let head = client.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(client.rest(head).await.ending, Ending::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_body_was_read_is_heard() {
    let refusal = json!({"error": {"message": "too big", "type": "t", "param": null, "code": "c"}});
    let upstream = standin(Step::json(413, refusal.clone()).read_body(false)).await;
    let gateway = gateway(&upstream, "", "").await;
    for size in [100, 100_000] {
        let body = with(chat(), json!({"messages": [{"role": "user", "content": "x".repeat(size)}]}));
        let answer = post(&gateway, CHAT, &body).await;
        assert_eq!((answer.status, answer.json()), (413, refusal.clone()), "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_instead_of_a_handshake_is_a_504_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}/v1", silent.local_addr().unwrap().port());
    let settings = "gateway_settings: { connect_timeout: 0.3 }\n";
    let gateway = Gateway::start(config(&base, &[(SHOWN, "openai/up")]) + settings).await;
    let begun = Instant::now();
    let answer = post(&gateway, CHAT, &with(chat(), json!({"num_retries": 0}))).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("upstream_timeout")));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_its_next_request_early_has_not_left() {
    let upstream = standin(Step::json(200, completion("a")).delay_ms(200)).await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = Client::connect(gateway.address()).await;
    let request = raw::post(CHAT, chat().to_string().as_bytes());
    client.send([request.as_slice(), request.as_slice()].concat()).await;
    assert_eq!(client.answer().await.status, 200);
}

/// The client must be able to tell the end of bytes from a break, however the upstream frames them.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_chunks_keep_their_end_and_their_connection() {
    let speech = json!({"model": SHOWN, "input": "hi", "voice": "v"}).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n";
    let (gateway, _serving) = teletype(format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..2 {
        let answer = client.ask(raw::post("/v1/audio/speech", speech.as_bytes())).await;
        assert_eq!((answer.text().as_str(), answer.ending), ("abcde", Ending::Complete));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
    let (gateway, _serving) = teletype(format!("{head}3\r\nabc\r\n2\r\nd")).await;
    let answer = Client::connect(gateway.address()).await.ask(raw::post("/v1/audio/speech", speech.as_bytes())).await;
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_ne!(answer.ending, Ending::Complete);
}
