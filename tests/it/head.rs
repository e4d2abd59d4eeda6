//! Request heads: how long one may take, how large it may be, and what is no HTTP.

use std::time::{Duration, Instant};

use nanogate::standin::Standin;

use crate::body::{CHAT, body_of};
use crate::support::gateway::{Gateway, config_for};
use crate::support::raw::{Answer, Client, Ending, chunked, keyless, post, request};
use crate::support::{MASTER_KEY, completion, standin};

const HURRIED: &str = "gateway_settings:\n  header_timeout: 1\n  keepalive_timeout: 1\n";
const A_SECOND: Duration = Duration::from_millis(900);
const SOON: Duration = Duration::from_secs(6);

async fn site(sections: &str) -> (Standin, Gateway) {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + sections).await;
    (upstream, gateway)
}

/// What a client gets that sends this on a connection of its own.
async fn ask(gateway: &Gateway, sent: impl AsRef<[u8]>) -> Answer {
    Client::connect(gateway.address()).await.ask(sent).await
}

/// Waits for the end of the connection and tells when it came.
async fn ended_after(client: &mut Client, since: Instant) -> Duration {
    assert!(client.ends_within(SOON).await, "the connection ends without a word");
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let (_upstream, gateway) = site(HURRIED).await;
    let since = Instant::now();
    let mut client = Client::connect(gateway.address()).await;
    assert!(ended_after(&mut client, since).await > A_SECOND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dribbled_head_is_closed() {
    let (_upstream, gateway) = site(HURRIED).await;
    let since = Instant::now();
    let mut client = Client::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    // A byte every now and then, as a slow-head attack sends them: each resets a time-out that is per read.
    while !client.stirs_within(Duration::from_millis(50)).await {
        assert!(since.elapsed() < SOON, "every byte buys more time");
        client.send("a").await;
    }
    let took = since.elapsed();
    assert!(took > A_SECOND && took < SOON, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let (_upstream, gateway) = site(HURRIED).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.ask(post(CHAT, &body_of(100))).await.status, 200);
    assert!(ended_after(&mut client, Instant::now()).await > A_SECOND);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_second_head_is_closed() {
    let (upstream, gateway) = site(HURRIED).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.ask(post(CHAT, &body_of(100))).await.status, 200);
    let since = Instant::now();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost").await;
    assert!(ended_after(&mut client, since).await > A_SECOND);
    assert_eq!(upstream.requests().len(), 1);
}

fn assert_refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.ending, Ending::Complete, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_above_the_limit_is_refused() {
    let (upstream, gateway) = site("").await;
    let (half, large) = ("x".repeat(40_000), "x".repeat(70_000));
    for sent in [
        request("POST", CHAT, &[("X-Large", &large)], b"{}"),
        request("POST", &format!("{CHAT}?{half}"), &[("X-Half", &half)], b"{}"),
        keyless("GET", "/health/liveliness", &[("X-Large", &large)], b""),
    ] {
        assert_refused(&ask(&gateway, sent).await, 431, "70 KB");
    }
    let just = "x".repeat(60_000);
    assert_eq!(ask(&gateway, request("POST", CHAT, &[("X-Large", &just)], &body_of(100))).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_refused_at_the_limit() {
    let (upstream, gateway) = site("").await;
    let begun = Instant::now();
    let endless = format!("POST {CHAT} HTTP/1.1\r\nHost: gateway.test\r\nX-Endless: {}", "x".repeat(200_000));
    assert_refused(&ask(&gateway, endless.clone()).await, 431, "200 KB without an end");
    // Behind a request that was served, too.
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.ask(request("POST", CHAT, &[], &body_of(100))).await.status, 200);
    assert_refused(&client.ask(endless).await, 431, "on a connection that had served one");
    assert!(client.ends_within(SOON).await);
    assert!(begun.elapsed() < Duration::from_secs(8), "it was the time that ended");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_head_can_be_set() {
    let (_upstream, gateway) = site("gateway_settings:\n  header_bytes_max: 2KiB\n").await;
    let (less, more) = ("x".repeat(1_500), "x".repeat(2_500));
    assert_eq!(ask(&gateway, request("POST", CHAT, &[("X-Size", &less)], &body_of(100))).await.status, 200);
    assert_refused(&ask(&gateway, request("POST", CHAT, &[("X-Size", &more)], b"{}")).await, 431, "2.5 KB");
}

/// A chat request whose head has these lines, raw, in the place of its usual ones.
fn with_lines(request_line: &str, lines: &str) -> String {
    format!("{request_line}\r\nAuthorization: Bearer {MASTER_KEY}\r\n{lines}\r\n\r\n{{}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_refused_in_the_clients_language() {
    let (upstream, gateway) = site("").await;
    let line = "POST /v1/chat/completions HTTP/1.1";
    let host = "Host: gateway.test\r\n";
    for lines in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: +2",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: two",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Content-Length : 2",
        "X-Folded: a\r\n b\r\nContent-Length: 2",
        "X-Nul: a\0b\r\nContent-Length: 2",
        "Host: elsewhere.test\r\nContent-Length: 2",
        "no colon at all\r\nContent-Length: 2",
    ] {
        let answer = ask(&gateway, with_lines(line, &format!("{host}{lines}"))).await;
        assert_refused(&answer, 400, lines);
        assert_eq!(answer.header("connection"), Some("close"), "{lines}");
    }
    for line in ["NONSENSE", "/v1/chat/completions POST HTTP/1.1", "POST /v1/chat/completions HTTP/9.9"] {
        assert_refused(&ask(&gateway, with_lines(line, host)).await, 400, line);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_framings_are_the_means_of_smuggling() {
    let (upstream, gateway) = site("").await;
    let smuggled = "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    for lines in ["Content-Length: 5\r\nTransfer-Encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"]
    {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {MASTER_KEY}\r\n{lines}\r\n\r\n"
        );
        let mut client = Client::connect(gateway.address()).await;
        let sent = [head.as_bytes(), &chunked(&body_of(100), 100), smuggled.as_bytes()].concat();
        let answer = client.ask(sent).await;
        assert_refused(&answer, 400, lines);
        assert!(client.ends_within(SOON).await, "the smuggled request is not served");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_length_twice_is_one_length() {
    let (upstream, gateway) = site("").await;
    let body = body_of(100);
    let sent = request("POST", CHAT, &[("Content-Length", "100")], &body);
    assert_eq!(ask(&gateway, sent).await.status, 200);
    assert_eq!(upstream.requests()[0].header("content-length"), Some("112"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_not_allowed() {
    let (upstream, gateway) = site("").await;
    let sent = format!(
        "CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test:443\r\nAuthorization: Bearer {MASTER_KEY}\r\n\r\n"
    );
    let answer = ask(&gateway, sent).await;
    assert_refused(&answer, 405, "CONNECT");
    assert!(answer.header("allow").is_some());
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_answered_and_closed() {
    let (upstream, gateway) = site("").await;
    for stream in [false, true] {
        let body = serde_json::json!({"model": "glm", "stream": stream, "messages": []}).to_string();
        let head = format!(
            "POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer {MASTER_KEY}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        upstream.script(nanogate::standin::Step::auto());
        let mut client = Client::connect(gateway.address()).await;
        let answer = client.ask(head + &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
        assert!(client.ends_within(SOON).await);
        assert_eq!(answer.text().ends_with("data: [DONE]\n\n"), stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absolute_form_and_odd_slashes_are_the_plain_path() {
    let (upstream, gateway) = site("").await;
    let forms = ["http://gateway.test/v1/chat/completions", "/v1/chat/completions/", "//v1//chat/completions"];
    for path in forms {
        let answer = ask(&gateway, request("POST", path, &[], &body_of(100))).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert!(upstream.requests().iter().all(|seen| seen.path == "/api/v1/chat/completions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let (_upstream, gateway) = site("").await;
    let mut client = Client::connect(gateway.address()).await;
    for path in ["/health/liveliness", "/health/readiness", "/health", "/v1/models"] {
        let get = client.ask(request("GET", path, &[], b"")).await;
        client.send(request("HEAD", path, &[], b"")).await;
        let head = client.head().await;
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
    }
    client.send(keyless("HEAD", "/", &[], b"")).await;
    assert_eq!(client.head().await.status, 200);
    assert!(client.unread().is_empty(), "no body follows a HEAD");
}
