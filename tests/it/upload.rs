//! What happens while a body is on its way: limits, time-outs, permission to send, clients that give up, and the
//! connection afterwards.

use std::time::{Duration, Instant};

use nanogate::standin::{Script, Standin};

use crate::body::{CHAT, body_of, chunked_head};
use crate::support::gateway::{Gateway, config_for};
use crate::support::raw::{Answer, Client, Ending, chunked, keyless, post, request};
use crate::support::{DEADLINE, completion, eventually, standin};
use crate::traffic::metric_becomes;

const MIB: usize = 1 << 20;

async fn site(sections: &str) -> (Standin, Gateway) {
    let upstream = standin(completion()).await;
    let gateway = Gateway::start(config_for(&upstream) + sections).await;
    (upstream, gateway)
}

/// A head with the master key that announces so many bytes and sends none.
fn announcing(bytes: usize, more: &[(&str, &str)]) -> Vec<u8> {
    let length = bytes.to_string();
    let headers = [&[("Content-Length", length.as_str())], more].concat();
    let head = request("GET", CHAT, &headers, b"");
    [b"POST", head.strip_prefix(b"GET").expect("it begins with its method")].concat()
}

fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{}", answer.text());
    assert_eq!(answer.ending, Ending::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_to_send_is_given_at_once() {
    let (upstream, gateway) = site("").await;
    let mut client = Client::connect(gateway.address()).await;
    let body = body_of(70_000);
    for _ in 0..2 {
        let asked = Instant::now();
        client.send(announcing(body.len(), &[("Expect", "100-continue")])).await;
        assert_eq!(client.head().await.status, 100);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert_eq!(client.ask(&body).await.status, 200);
    }
    assert_eq!(upstream.requests().len(), 2);
    assert!(upstream.requests().iter().all(|seen| seen.header("expect").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_to_send_needs_a_key_and_a_fitting_length() {
    let (upstream, gateway) = site("").await;
    let strangers = keyless("GET", CHAT, &[("Content-Length", "9"), ("Expect", "100-continue")], b"");
    let strangers = [b"POST", strangers.strip_prefix(b"GET").expect("it begins with its method")].concat();
    for (sent, status) in [(strangers, 401), (announcing(33 * MIB, &[("Expect", "100-continue")]), 413)] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(sent).await;
        let head = client.head().await;
        assert_eq!(head.status, status, "no 100 comes first");
        // Body or next request, nobody could tell.
        assert_eq!(head.header("connection"), Some("close"));
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_length_above_the_limit_is_refused_before_any_byte() {
    let (upstream, gateway) = site("").await;
    let mut client = Client::connect(gateway.address()).await;
    let answer = client.ask(announcing(32 * MIB + 1, &[])).await;
    assert_error(&answer, 413, "request_too_large");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_readable_although_the_client_still_sends() {
    let (upstream, gateway) = site("general_settings:\n  max_request_size_mb: 1\n").await;
    let body = body_of(6 * MIB);
    let by_length = post(CHAT, &body);
    let in_chunks = [chunked_head(), chunked(&body, 50_000)].concat();
    for sent in [by_length, in_chunks] {
        let mut client = Client::connect(gateway.address()).await;
        let answer = client.ask(sent).await;
        assert_error(&answer, 413, "request_too_large");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_chunked_body_is_refused_at_the_limit() {
    let (upstream, gateway) = site("general_settings:\n  max_request_size_mb: 1\n").await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(chunked_head()).await;
    let chunk = [b"10000\r\n", &[b' '; 65_536][..], b"\r\n"].concat();
    for _ in 0..17 {
        client.send(&chunk).await;
    }
    assert_error(&client.answer().await, 413, "request_too_large");
    assert_eq!(upstream.connections(), 0);
}

const IMPATIENT: &str = "gateway_settings:\n  body_timeout: 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_times_out() {
    let (upstream, gateway) = site(IMPATIENT).await;
    for begun in [announcing(1_000, &[]), [announcing(1_000, &[]), b"{\"model\"".to_vec()].concat(), chunked_head()] {
        let mut client = Client::connect(gateway.address()).await;
        let asked = Instant::now();
        let answer = client.ask(begun).await;
        assert_error(&answer, 408, "request_timeout");
        let waited = asked.elapsed();
        assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(4), "{waited:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dribbled_body_times_out_all_the_same() {
    let (upstream, gateway) = site(IMPATIENT).await;
    let mut client = Client::connect(gateway.address()).await;
    let asked = Instant::now();
    client.send(announcing(1_000_000, &[])).await;
    // A byte every now and then, as a slow-body attack sends them: each resets a time-out that is per read.
    while !client.stirs_within(Duration::from_millis(50)).await {
        assert!(asked.elapsed() < Duration::from_secs(6), "every byte buys more time");
        client.send(" ").await;
    }
    assert_error(&client.answer().await, 408, "request_timeout");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_leaves_the_upstream_untouched() {
    let (upstream, gateway) = site("").await;
    let begun = [announcing(200_000, &[]), body_of(100_000)].concat();
    for at in 1..=3 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(&begun).await;
        match at {
            1 => drop(client),
            2 => client.reset(),
            _ => client.half_close().await,
        }
        let seen = eventually(DEADLINE, || gateway.log().matches(CHAT).count() == at);
        assert!(seen.await, "the gateway notices that upload {at} broke off");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn badly_framed_chunks_are_the_clients_mistake() {
    let (upstream, gateway) = site("").await;
    for bad in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}}}\r\n0\r\n\r\n", "fffffffffffffffff\r\n{}"] {
        let mut client = Client::connect(gateway.address()).await;
        let answer = client.ask([chunked_head(), bad.as_bytes().to_vec()].concat()).await;
        assert_eq!(answer.status, 400, "{bad:?}: {}", answer.text());
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_request_after_request() {
    let (upstream, gateway) = site("general_settings:\n  max_request_size_mb: 0.1\n").await;
    let mut client = Client::connect(gateway.address()).await;
    let good = post(CHAT, &body_of(70_000));
    let stranger = keyless("POST", CHAT, &[("Authorization", "Bearer sk-wrong")], &body_of(70_000));
    let lost = post("/v1/nowhere", &body_of(70_000));
    let unreadable = post(CHAT, b"{\"model\":");
    let too_large = post(CHAT, &body_of(200_000));
    let wrong_method = request("PUT", CHAT, &[], &body_of(70_000));
    let unknown = post(CHAT, br#"{"model":"nobody","messages":[]}"#);
    let bad = [(stranger, 401), (lost, 404), (unreadable, 400), (too_large, 413), (wrong_method, 405), (unknown, 400)];
    for (sent, status) in &bad {
        assert_eq!(client.ask(&good).await.status, 200);
        let answer = client.ask(sent).await;
        assert_eq!(answer.status, *status, "{}", answer.text());
        assert_ne!(answer.header("connection"), Some("close"), "the connection stays after {status}");
    }
    assert_eq!(client.ask(&good).await.status, 200);
    assert_eq!(upstream.requests().len(), bad.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn close_is_obeyed() {
    let (_upstream, gateway) = site("").await;
    let mut client = Client::connect(gateway.address()).await;
    let answer = client.ask(request("POST", CHAT, &[("Connection", "close")], &body_of(200))).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.ends_within(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelined_request_is_served() {
    let (upstream, gateway) = site("").await;
    let mut client = Client::connect(gateway.address()).await;
    client.send([post(CHAT, &body_of(300)), post(CHAT, &body_of(400))].concat()).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200);
    let sizes: Vec<_> = upstream.requests().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(sizes, [312, 412], "in order, each with its own body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_ahead_does_not_cut_the_answer_before_it() {
    let (upstream, gateway) = site("").await;
    upstream.script(Script::from(completion().delay_ms(300)).then(completion()));
    let mut client = Client::connect(gateway.address()).await;
    client.send(post(CHAT, &body_of(300))).await;
    assert!(upstream.wait_for(DEADLINE, |requests| requests.len() == 1).await);
    client.send(post(CHAT, &body_of(400))).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_memory_have_a_common_budget() {
    let (upstream, gateway) = site("gateway_settings:\n  buffered_bytes_max: 1MiB\n").await;
    upstream.script(Script::from(completion()));
    let large = body_of(900_000);
    let mut patient = Client::connect(gateway.address()).await;
    patient.send([announcing(large.len(), &[]), large[..800_000].to_vec()].concat()).await;
    // Until the gateway has taken those bytes, it could as well be this body that is refused.
    assert!(metric_becomes(&gateway, "nanogate_buffered_bytes", 800_000.0).await, "the body is not read");
    let small = post(CHAT, &body_of(400_000));
    let refused = Client::connect(gateway.address()).await.ask(&small).await;
    assert_error(&refused, 503, "gateway_overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(patient.ask(&large[800_000..]).await.status, 200, "who came first is served");
    let answer = Client::connect(gateway.address()).await.ask(&small).await;
    assert_eq!(answer.status, 200, "the budget is given back: {}", answer.text());
}
